"""Interventions on the logits, which change the loss: a temperature, and StableMax in the place of softmax.

They act at the hook point of the output for as long as they are attached, in training and in what is measured alike:
the loss that a run logs is the one that it is trained on. The order of the logits, and so every greedy answer, stays.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from plateau_interp.checks import check_positive
from plateau_interp.interventions.attaching import EditAttached, editing
from plateau_interp.interventions.hook_points import OUTPUT, output_cap, resolve_hook_points
from plateau_interp.types import BuiltForTask, HookedModel

__all__ = ["OutputTemperature", "StableMax", "log_stable"]


@dataclass(frozen=True, eq=False)
class OutputTemperature:
    """Divide the logits by a fixed number before the loss is taken: ``x / tau``.

    Args:
        tau: 1 changes nothing; above 1 the model is less sure, and grows its logits for longer.

    Raises:
        ValueError: for a temperature that is not positive; on entry, where outputs are no logits, and for a model that
            caps them, such as Gemma 2.

    Source: Khanh, arXiv 2606.18465, which names no default.

    Example:
        >>> from plateau_interp import intervening, toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> model, tokens = toy_model(MovingWindowSum(), d_model=32), torch.zeros(1, 4, dtype=torch.long)
        >>> plain = model(tokens)
        >>> with intervening(model, OutputTemperature(2.0)):
        ...     torch.equal(model(tokens), plain / 2)
        True
    """

    tau: float

    name: ClassVar[str] = "output-temperature"

    def __post_init__(self) -> None:
        check_positive(self, "tau")

    def attach(self, model: HookedModel) -> AbstractContextManager[EditAttached]:
        """Act on the model's output while the context is open."""
        return _editing_output(model, self, lambda act: act / self.tau, of_one=True)


@dataclass(frozen=True, eq=False)
class StableMax:
    """Have the loss take ``s(x_i) / sum_j s(x_j)`` for probabilities, with a slowly growing s in the place of exp.

    ``s(x) = x + 1`` from 0 on, ``1 / (1 - x)`` below. The edit puts ``log s(x) = sign(x) log(1 + |x|)`` in the place of
    the logits: the softmax of these numbers is StableMax of the logits, and a task's cross-entropy that of StableMax.
    It is for tasks whose outputs are logits.

    Raises:
        ValueError: on entry, where outputs are no logits, or a single one, and for a model that caps them, such as
            Gemma 2.

    Source: Prieto et al., Grokking at the Edge of Numerical Stability, arXiv 2501.04697. There the logarithm is taken
    in float64, here in the model's dtype and the loss in float32 at least: since s grows as x does and not as exp does,
    float32 is out of digits only for logits of some ten millions.

    Example:
        >>> from plateau_interp import intervening, toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> model, tokens = toy_model(MovingWindowSum(), d_model=32), torch.zeros(1, 4, dtype=torch.long)
        >>> with intervening(model, StableMax()) as (receipt,):
        ...     probabilities = model(tokens).softmax(dim=-1)
        >>> receipt.fired, probabilities.shape
        (1, torch.Size([1, 4, 18]))
    """

    name: ClassVar[str] = "stable-max"

    def attach(self, model: HookedModel) -> AbstractContextManager[EditAttached]:
        """Act on the model's output while the context is open."""
        return _editing_output(model, self, log_stable)


def log_stable(logits: Tensor) -> Tensor:
    """``log s(x)`` with ``s(x) = x + 1`` from 0 on and ``1 / (1 - x)`` below: ``sign(x) log(1 + |x|)``, by number.

    Example:
        >>> log_stable(torch.tensor([1.0, 0.0, -1.0]))
        tensor([ 0.6931,  0.0000, -0.6931])
    """
    # Not sign(x) log1p(|x|), whose gradient at 0 is 0: that of s is 1 on both sides.
    return torch.where(logits < 0, -torch.log1p(-logits.clamp(max=0)), torch.log1p(logits.clamp(min=0)))


def _editing_output(
    model: HookedModel, intervention: object, formula: Callable[[Tensor], Tensor], *, of_one: bool = False
) -> AbstractContextManager[EditAttached]:
    """Edit what a model gives, if that is logits; a single one, of two classes, only if the formula is of it, too."""
    if (cap := output_cap(model)) is not None:
        raise ValueError(
            f"{intervention!r} acts on the logits, and this model gives {cap:g} * tanh(logits / {cap:g}): it would act "
            "before that cap"
        )
    task = model.task if isinstance(model, BuiltForTask) else None
    if task is not None and (task.unit != "nats" or (task.d_output == 1 and not of_one)):
        raise ValueError(f"{intervention!r} acts on logits of several classes, and {task.name} has none")

    def edit(act: Tensor, *, hook: Any) -> Tensor:
        return formula(act).to(act.dtype)  # autocast may have taken it to float32

    return editing(model, intervention, dict.fromkeys(resolve_hook_points(model, OUTPUT), edit))
