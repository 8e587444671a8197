"""What the studies of finished runs share: on which matrices, at which steps, and how losses are told.

Each study is a function of a run that gives a table, one row a checkpoint and case. The experiments read the five small
runs of `plateau_interp.reproductions.matrix_completion.drop` at the same steps.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from plateau_interp.analysis.observing import Checkpointed
from plateau_interp.checks import shown, there_steps
from plateau_interp.tasks import MatrixCompletion
from plateau_interp.training.batches import stream_generator
from plateau_interp.types import Batch, HookedModel
from plateau_interp.views.panels import Panel

__all__ = [
    "BEFORE",
    "CLOSE_BEFORE",
    "END",
    "LOSSES",
    "WHOLE_LEVEL",
    "completion_task",
    "entry_losses",
    "fresh_matrices",
    "models_at",
]

BEFORE = 2000
"""On the plateau of every one of the five runs, which go on for 2,920 steps at least."""
CLOSE_BEFORE = 2500
END = 5000
WHOLE_LEVEL = 1 / 9
"""E (uv)², the mean squared error of saying 0."""
LOSSES = {
    "loss": Panel("All entries", "mean square"),
    "loss_observed": Panel("Entries that are seen", "mean square"),
    "loss_missing": Panel("Missing entries", "mean square"),
}


def completion_task(run: Checkpointed) -> MatrixCompletion:
    """The run's task.

    Raises:
        ValueError: if it is another than matrix completion.
    """
    if not isinstance(run.task, MatrixCompletion):
        raise ValueError(f"the study is of runs of matrix completion; this one is of {shown(run.task)}")
    return run.task


def models_at(run: Checkpointed, steps: Sequence[int] | None) -> Iterator[tuple[int, HookedModel]]:
    """The run's models at some checkpoints, by default at all.

    Raises:
        ValueError: for a step without a checkpoint.
    """
    for step in there_steps(steps, run.checkpoints, "checkpoint"):
        yield step, run.model(step)


def fresh_matrices(task: MatrixCompletion, n: int, *, number: int = 0) -> Batch:
    """Matrices that are in no training stream, the same for every run and checkpoint; another set a number."""
    return task.sample(n, generator=stream_generator(0, "studies of completion", number))


@torch.no_grad()
def entry_losses(
    model: HookedModel, task: MatrixCompletion, read: Batch, asked: Batch | None = None
) -> tuple[dict[str, float], Float[Tensor, "batch query 1"]]:
    """The losses of a model that reads some sequences, by name, and its output.

    Args:
        model: under whatever is attached to it.
        task: of the sequences.
        read: what it reads.
        asked: whose gaps and labels count, by default those of what it reads.
    """
    output: Tensor = model(read.inputs)
    losses = task.entry_losses(output, read if asked is None else asked)
    named = {"loss": losses.all, "loss_observed": losses.observed, "loss_missing": losses.missing}
    return {name: float(loss) for name, loss in named.items()}, output
