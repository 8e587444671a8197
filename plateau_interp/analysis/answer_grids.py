"""Answers that are grids of numbers, through training: what a task says of its own, for pictures of them.

A task whose sequences are matrices, boards or images has a method `answer_grids`; a report then shows what a model says
at each checkpoint beside what is right. How it is drawn is in `plateau_interp.views.grid_views`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from plateau_interp.analysis.observing import N_EXAMPLES, Checkpointed, fixed_batch
from plateau_interp.checks import shown, there_steps, whole_number
from plateau_interp.types import Batch

__all__ = ["AnswerGrids", "GridsThroughTraining", "OfGrids", "grids_through_training"]


@dataclass(frozen=True, eq=False)
class AnswerGrids:
    """Answers to some sequences, all of one shape.

    Args:
        said: by the model.
        truth: what is right.
        asked: the cells that it cannot see, which pictures outline.
    """

    said: Float[Tensor, "batch row column"] = field(repr=False)
    truth: Float[Tensor, "batch row column"] = field(repr=False)
    asked: Bool[Tensor, "batch row column"] = field(repr=False)


@runtime_checkable
class OfGrids(Protocol):
    """A task whose answers are grids of numbers."""

    def answer_grids(self, output: Float[Tensor, "batch query d_output"], batch: Batch) -> AnswerGrids:
        """What a model's output says of each cell, and what is right."""
        ...


@dataclass(frozen=True, eq=False)
class GridsThroughTraining:
    """Answers to the same sequences at some steps.

    Attributes:
        steps: of the checkpoints.
        said: at each step.
        truth: what is right.
        asked: the cells that cannot be seen.
    """

    steps: tuple[int, ...]
    said: Float[Tensor, "step batch row column"] = field(repr=False)
    truth: Float[Tensor, "batch row column"] = field(repr=False)
    asked: Bool[Tensor, "batch row column"] = field(repr=False)


def grids_through_training(
    run: Checkpointed, *, steps: Sequence[int] | None = None, batch: Batch | None = None, n: int = 6
) -> GridsThroughTraining:
    """Ask a run's model at each checkpoint for the same grids; its interventions are not applied.

    Args:
        run: of a task with `OfGrids.answer_grids`.
        steps: checkpoints; by default all.
        batch: the sequences; by default the first of `plateau_interp.analysis.observing.fixed_batch`.
        n: how many of these; 64 at most.

    Raises:
        ValueError: for a task whose answers are no grids, a run without checkpoints, steps that are not there, and
            answers that are no numbers.

    Example:
        >>> from plateau_interp import Run
        >>> grids_through_training(Run("runs/completion")).said.shape  # doctest: +SKIP
        torch.Size([11, 6, 4, 4])
    """
    task: Any = run.task
    if not isinstance(task, OfGrids):
        raise ValueError(f"the answers of {shown(task)} are no grids: it has no answer_grids(output, batch)")
    there = there_steps(steps, run.checkpoints, "checkpoint")
    if batch is None:
        batch = fixed_batch(run.task).take(torch.arange(min(whole_number("n", n, least=1), N_EXAMPLES)))
    grids = []
    with torch.no_grad():
        for step in there:
            grids.append(task.answer_grids(run.model(step)(batch.inputs), batch))
    said = torch.stack([each.said.detach().cpu() for each in grids])
    if not (finite := said.flatten(start_dim=1).isfinite().all(dim=1)).all():
        raise ValueError(f"{run}: at step {there[int((~finite).int().argmax())]} not all answers are numbers")
    return GridsThroughTraining(tuple(there), said, grids[0].truth.cpu(), grids[0].asked.cpu())
