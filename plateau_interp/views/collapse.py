"""Collapse through time: how alike the hidden states of different answers are, at each checkpoint of a run.

The matrices are for `plateau_interp.views.curves.cosine_figure`. One number a step is in the run's metrics: ``cosine``.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from plateau_interp import metrics
from plateau_interp.interventions.hook_points import resolve_hook_points
from plateau_interp.training.meter import FINAL_STATE
from plateau_interp.types import answer_rows
from plateau_interp.views.attention import AttentionSource, captured_at, chosen_steps, fixed_batch, whole_numbers

__all__ = ["cosine_matrices"]


def cosine_matrices(
    run: AttentionSource, steps: int | Iterable[int], *, at: str = FINAL_STATE
) -> Float[Tensor, "step row row"]:
    """Cosine between the hidden states of each two answer rows, mean over the fixed batch that attention views show.

    Args:
        run: its checkpoints are read; its interventions are not applied.
        steps: which checkpoint or checkpoints.
        at: hook point of the states ``[batch, pos, d_model]``; by default the final LayerNorm's output, as the metric.

    Raises:
        ValueError: for a step that is no whole number or has no checkpoint, or a hook point that is not there or holds
            something else.

    Source: arXiv 2506.13688, COS_{i,j}.

    Example:
        >>> from plateau_interp import Run
        >>> run = Run("runs/mws")  # doctest: +SKIP
        >>> cosine_matrices(run, [0, 100, 400]).shape  # doctest: +SKIP
        torch.Size([3, 16, 16])
    """
    inputs, rows = fixed_batch(run.task).inputs, answer_rows(run.task)
    matrices = []
    for step in chosen_steps(whole_numbers("steps", steps), run.checkpoints, "checkpoint of step"):
        model = run.model(step)
        names = resolve_hook_points(model, at)
        states = captured_at(model, inputs, names[0])
        if len(names) > 1 or states.ndim != 3:
            raise ValueError(f"at={at!r} is not one hook point that holds states [batch, pos, d_model]")
        matrices.append(metrics.pairwise_cosine(states[:, rows]).mean(dim=0))
    return torch.stack(matrices)
