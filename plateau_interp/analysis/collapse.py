"""Collapse through time: how alike the hidden states of different answers are, step by step.

The matrices are drawn by `plateau_interp.views.cosine_figure`. One number a step is in the run's metrics: ``cosine``.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from plateau_interp import metrics
from plateau_interp.analysis.observing import Checkpointed, captured_at, fixed_batch
from plateau_interp.checks import listed, shown, there_steps, whole_numbers
from plateau_interp.interventions.capturing import Captured
from plateau_interp.interventions.hook_points import FINAL_STATE, resolve_hook_points
from plateau_interp.positions import input_length
from plateau_interp.types import answer_rows

__all__ = ["cosine_matrices"]


def cosine_matrices(
    source: Checkpointed | Captured,
    steps: int | Iterable[int] | None = None,
    *,
    at: str | None = None,
    run: Checkpointed | None = None,
) -> Float[Tensor, "step row row"]:
    """Cosine between the hidden states of each two answer rows, mean over the sequences.

    A run is measured on the fixed batch that attention views show; its interventions are not applied. What a `Capture`
    recorded is measured as it was recorded, on the training batch of each step.

    Args:
        source: a run, or captured steps.
        steps: which step or steps; all that there are by default.
        at: hook point of the states ``[batch, pos, d_model]``. By default the final LayerNorm's output,
            ``unembed.hook_in``, as the metric; of captured steps that do not hold it, the one hook point they hold.
        run: of captured steps: the run they were captured in, for its answer rows. Without it a row is any position.

    Raises:
        ValueError: for what is neither a run nor captured; for a step that is no whole number or is not there, or a
            hook point that is not there or holds something else; for captured states of another length than the run's
            inputs.

    Source: arXiv 2506.13688, COS_{i,j}.

    Example:
        >>> from plateau_interp import Run
        >>> run = Run("runs/mws")  # doctest: +SKIP
        >>> cosine_matrices(run, [0, 100, 400]).shape  # doctest: +SKIP
        torch.Size([3, 16, 16])
    """
    chosen = None if steps is None else whole_numbers("steps", steps)
    if isinstance(source, Captured):
        return _of_captured(source, chosen, at, run)
    if not isinstance(source, Checkpointed):
        raise ValueError(f"source must be a run, such as Run('runs/mws'), or Captured steps; got {shown(source)}")
    if run is not None:
        raise ValueError("run is for captured states: the run they were captured in; a run is its own")
    inputs, rows = fixed_batch(source.task).inputs, answer_rows(source.task)
    at = FINAL_STATE if at is None else at
    matrices = []
    for step in there_steps(chosen, source.checkpoints, "checkpoint of step"):
        model = source.model(step)
        names = resolve_hook_points(model, at)
        states = captured_at(model, inputs, names[0])
        if len(names) > 1 or states.ndim != 3:
            raise ValueError(f"at={shown(at)} is not one hook point that holds states [batch, pos, d_model]")
        matrices.append(_mean_cosines(states[:, rows]))
    return torch.stack(matrices)


def _of_captured(
    captured: Captured, steps: list[int] | None, at: str | None, run: Checkpointed | None
) -> Float[Tensor, "step row row"]:
    name = _recorded_point(captured, at)
    recorded = [step for step in captured.steps if name in captured.names(step)]
    matrices = []
    for step in there_steps(steps, recorded, "captured step"):
        states = captured[step, name]
        if states.ndim != 3:
            raise ValueError(f"{name} holds {tuple(states.shape)}; expected states [batch, pos, width]")
        matrices.append(_mean_cosines(states if run is None else _answers(states, run)))
    return torch.stack(matrices)


def _recorded_point(captured: Captured, at: str | None) -> str:
    """The hook point asked for, the final state, or the only one there is."""
    there = sorted({name for step in captured.steps for name in captured.names(step)})
    if at in there:
        return str(at)
    if at is not None:
        raise ValueError(f"{captured.path} holds no {at}; it holds {listed(there) or 'nothing'}: a hook point of these")
    if FINAL_STATE in there:
        return FINAL_STATE
    if len(there) != 1:
        which = f"several hook points, choose one with at=: {listed(there)}" if there else "no hook point"
        raise ValueError(f"{captured.path} holds {which}")
    return there[0]


def _answers(states: Float[Tensor, "batch pos width"], run: Checkpointed) -> Float[Tensor, "batch row width"]:
    n_inputs = input_length(run.task)
    if states.shape[1] != n_inputs:
        raise ValueError(
            f"the captured states are of {states.shape[1]} positions, the inputs of the run have {n_inputs}: "
            "it is not the run that they were captured in"
        )
    return states[:, answer_rows(run.task)]


def _mean_cosines(states: Float[Tensor, "batch row width"]) -> Float[Tensor, "row row"]:
    return metrics.pairwise_cosine(states).mean(dim=0)
