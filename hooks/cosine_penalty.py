"""A term of the loss that keeps hidden states from collapsing, by adding its gradient where they are.

The loss that is recorded stays the task's. Terms on weights are in `plateau_interp.hooks.penalties`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from plateau_interp import metrics
from plateau_interp.checks import check_not_negative
from plateau_interp.hooks.backward import edited_in_backward, reaching
from plateau_interp.hooks.gradients import AttachedGradientEdit
from plateau_interp.interventions.attaching import hooking
from plateau_interp.interventions.hook_points import FINAL_STATE, resolve_hook_points
from plateau_interp.positions import input_length
from plateau_interp.types import BuiltForTask, HookedModel, answer_rows

__all__ = ["CosinePenalty", "cosine_slope"]


@dataclass(frozen=True, eq=False)
class CosinePenalty:
    """Add ``coefficient * C`` to the loss, C the mean pairwise cosine of hidden states: against their collapse.

    C is `plateau_interp.metrics.mean_pairwise_cosine` of the answer rows of the model's task, in the pairs that it
    takes (`Task.cosine_pairs`), mean over the batch: what a meter tells as ``cosine``. Of a model without a task it is
    that of all positions. The states' gradient becomes ``g + coefficient dC/dh``; nothing changes in a forward. A
    schedule's strength multiplies the coefficient. The loss of a run stays the task's. States are pushed apart as they
    are where this stands, also where an edit behind it puts something else in their place.

    Args:
        coefficient: in nats for a cosine of 1; 0 changes nothing.
        at: a hook point of states ``[batch pos width]``, by default the final ones, which are read out.

    Raises:
        ValueError: for a coefficient that is negative; on entry, for a hook point that is not there; in a forward, for
            one of another shape, or with fewer positions than the answer has.

    Source: ours; the collapse is that of arXiv 2506.13688.

    Example:
        >>> from plateau_interp import intervening, toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> task = MovingWindowSum(n=4)
        >>> model, batch = toy_model(task, d_model=16), task.sample(2, generator=torch.Generator())
        >>> with intervening(model, CosinePenalty(1.0)) as (receipt,):
        ...     (0 * task.loss(model(batch.inputs), batch)).backward()
        >>> receipt.sites, bool(model.blocks[0].mlp.W_in.grad.any())
        (('unembed.hook_in',), True)
    """

    coefficient: float
    at: str = FINAL_STATE

    name: ClassVar[str] = "cosine-penalty"

    def __post_init__(self) -> None:
        check_not_negative(self, "coefficient")

    def sites(self, model: HookedModel) -> tuple[str, ...]:
        """The hook points whose states are pushed apart."""
        return resolve_hook_points(model, self.at)

    @contextmanager
    def attach(self, model: HookedModel) -> Iterator[AttachedGradientEdit]:
        """Add to the states' gradients while the context is open."""
        task = model.task if isinstance(model, BuiltForTask) else None
        rows = slice(None) if task is None else answer_rows(task)
        pairs = None if task is None else task.cosine_pairs()
        if task is not None:
            n_rows = len(range(*rows.indices(input_length(task))))
            if n_rows < 2 or (pairs is not None and not pairs.any()):
                raise ValueError(f"{self.name} pushes states apart, and an answer of {task.name} has no two to compare")
        attached = AttachedGradientEdit(self, self.sites(model))
        latest: dict[str, Tensor] = {}

        def push(act: Tensor, *, hook: Any) -> Tensor | None:
            if not act.requires_grad:
                return None
            if act.ndim != 3:
                raise ValueError(f"at: {hook.name} holds {tuple(act.shape)}; expected [batch, pos, width]")
            states = act.detach()
            edit = attached.wrap(lambda gradient, name: gradient + self.coefficient * cosine_slope(states, rows, pairs))
            latest[hook.name] = edited_in_backward(act, hook.name, edit)
            return latest[hook.name]

        def pushed() -> list[Tensor]:
            states = [*latest.values()] if attached.active else []
            latest.clear()  # the graph of a forward is nobody's business after it
            return states

        with reaching(model, pushed), hooking(model, dict.fromkeys(attached.sites, push)) as attached.lost:
            yield attached


def cosine_slope(
    states: Float[Tensor, "batch pos d_model"], rows: slice, pairs: Bool[Tensor, "row row"] | None
) -> Float[Tensor, "batch pos d_model"]:
    """The gradient of the mean pairwise cosine of some rows, mean over the batch; in the states' dtype.

    Example:
        >>> states = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])
        >>> cosine_slope(states, slice(None), None)[0, 0]  # turning away from the other lowers the cosine
        tensor([0.0000, 0.7071])
    """
    with torch.enable_grad():
        free = states.to(torch.promote_types(states.dtype, torch.float32)).requires_grad_()
        cosine = metrics.mean_pairwise_cosine(free[:, rows], None if pairs is None else pairs.to(free.device)).mean()
        (found,) = torch.autograd.grad(cosine, free)
    return found.to(states.dtype)
