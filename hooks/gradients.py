"""Interventions on gradients: scale them, clip them, amplify their slow part, turn them off the weights' own direction.

They act in the backward pass, on the gradient of parameters (``where``, as in `plateau_interp.models.parameters`) or of
activations (``at``, hook points), each time one is computed: one backward pass a step is assumed where that matters.
They act before `train` clips the whole gradient. An activation's gradient belongs to its forward: what was run inside
the context is edited also if the backward pass comes after it.

Those that meet at one parameter or hook point act in the order given. At a hook point each has the gradient with regard
to the activation at its place: as edited by what stands before it, not by what stands after it. So where an edit of
the activation acts between two of them they do not meet, and the gradient comes to the one behind it first.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from plateau_interp.checks import check_fraction, check_number, check_positive, freeze_names
from plateau_interp.hooks.backward import edited_in_backward, editing_parameters
from plateau_interp.hooks.weights import trained_parameters
from plateau_interp.interventions.attached import CountedAttached, Receipt
from plateau_interp.interventions.attaching import hooking
from plateau_interp.interventions.hook_points import resolve_hook_points
from plateau_interp.models.parameters import Where, check_where, parameters_where
from plateau_interp.types import HookedModel

__all__ = [
    "AmplifySlowGradient",
    "AttachedGradientEdit",
    "ClipGradient",
    "OrthogonalGradient",
    "ScaleGradient",
    "orthogonal_part",
]

TINY = 1e-30
"""Of the source: keeps a weight of 0, or a gradient along it, from a division by 0."""

GradientEdit = Callable[[Tensor, str], Tensor]


@dataclass(frozen=True, eq=False, kw_only=True)
class _GradientEdit(ABC):
    """An edit of gradients, of parameters or of activations."""

    where: Where | None = None
    at: str | Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.where is not None and self.at is not None:
            raise ValueError("give where (parameters) or at (hook points), not both")
        if self.at is not None:
            freeze_names(self, "at")
        if self.where is not None:
            check_where(self.where)

    @abstractmethod
    def edit(self, gradient: Tensor) -> Tensor:
        """The formula."""

    def sites(self, model: HookedModel) -> tuple[str, ...]:
        """The parameters or hook points whose gradients it would edit."""
        return tuple(_parameters(model, self.where)) if self.at is None else resolve_hook_points(model, self.at)

    @contextmanager
    def attach(self, model: HookedModel) -> Iterator["AttachedGradientEdit"]:
        """Act on the model's gradients while the context is open."""
        attached = AttachedGradientEdit(self, self.sites(model))
        edit = attached.wrap(lambda gradient, name: self.edit(gradient))
        if self.at is None:
            with editing_parameters(_parameters(model, self.where), edit):
                yield attached
        else:

            def watch(act: Tensor, *, hook: Any) -> Tensor | None:
                return edited_in_backward(act, hook.name, edit) if act.requires_grad else None

            with hooking(model, dict.fromkeys(attached.sites, watch)) as attached.lost:
                yield attached


@dataclass(frozen=True, eq=False)
class ScaleGradient(_GradientEdit):
    """Multiply gradients by a factor: ``factor * g``.

    Args:
        factor: 1 changes nothing, 0 stops the gradient (an optimiser with momentum or weight decay still moves the
            parameter: use `FreezeWeights` to keep it).
        where: parameters; by default all that are trained, those that are frozen for a time among them.
        at: hook points, instead of parameters; a ``*`` stands for anything.

    Raises:
        ValueError: for a factor that is not finite; on entry, for a name that means nothing.

    Example:
        >>> from plateau_interp import intervening, toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> model = toy_model(MovingWindowSum(), d_model=32)
        >>> with intervening(model, ScaleGradient(0.0, where="mlp")):
        ...     model(torch.zeros(1, 4, dtype=torch.long)).sum().backward()
        >>> model.blocks[0].mlp.W_in.grad.abs().max().item()
        0.0
    """

    factor: float

    name: ClassVar[str] = "scale-gradient"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "factor")

    def edit(self, gradient: Tensor) -> Tensor:
        """``factor * g``."""
        return self.factor * gradient


@dataclass(frozen=True, eq=False)
class ClipGradient(_GradientEdit):
    """Shorten gradients that are too long, each tensor by itself: ``g * min(1, max_norm / |g|)``.

    ``|g|`` is the Euclidean norm of one parameter's gradient, or of an activation's over the whole batch. To clip the
    norm of all gradients together use the ``grad_clip`` of `plateau_interp.train`.

    Args:
        max_norm: the longest a gradient may be.
        where: parameters; by default all that are trained, those that are frozen for a time among them.
        at: hook points, instead of parameters; a ``*`` stands for anything.

    Raises:
        ValueError: for a norm that is not positive; on entry, for a name that means nothing.

    Example:
        >>> from plateau_interp import intervening, toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> model = toy_model(MovingWindowSum(), d_model=32)
        >>> with intervening(model, ClipGradient(1e-3, where="mlp")):
        ...     model(torch.zeros(1, 4, dtype=torch.long)).square().sum().backward()
        >>> model.blocks[0].mlp.W_in.grad.norm().item() <= 1.001e-3
        True
    """

    max_norm: float

    name: ClassVar[str] = "clip-gradient"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "max_norm")

    def edit(self, gradient: Tensor) -> Tensor:
        """``g * min(1, max_norm / |g|)``."""
        shrink: Tensor = self.max_norm / torch.linalg.vector_norm(gradient)  # norm 0: inf, clamped to 1
        return gradient * shrink.clamp(max=1.0)


@dataclass(frozen=True, eq=False)
class AmplifySlowGradient:
    """Add the slowly varying part of each parameter's gradient to it (Grokfast-EMA).

    ``m <- decay * m + (1 - decay) * g``, with ``m = g`` at first; the optimiser gets ``g + gain * m``. A schedule's
    strength multiplies ``gain``; while it is 0, m stands still.

    Args:
        decay: of the moving average, from 0 to below 1.
        gain: how much of it is added; 0 changes nothing.
        where: parameters; by default all that are trained, those that are frozen for a time among them.

    Raises:
        ValueError: for a number that cannot be; on entry, for a name that means nothing.

    Source: Lee et al., Grokfast, arXiv 2405.20233; defaults of the authors' code.

    Example:
        >>> from plateau_interp import intervening, toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> model = toy_model(MovingWindowSum(), d_model=32)
        >>> with intervening(model, AmplifySlowGradient(gain=2.0)) as (receipt,):
        ...     model(torch.zeros(1, 4, dtype=torch.long)).sum().backward()
        >>> receipt.fired == len(receipt.sites)
        True
    """

    decay: float = 0.98
    gain: float = 2.0
    where: Where | None = field(default=None, kw_only=True)

    name: ClassVar[str] = "amplify-slow-gradient"

    def __post_init__(self) -> None:
        check_fraction(self, "decay")
        check_number(self, "gain")
        if self.where is not None:
            check_where(self.where)

    def sites(self, model: HookedModel) -> tuple[str, ...]:
        """The parameters whose gradients it would edit."""
        return tuple(_parameters(model, self.where))

    @contextmanager
    def attach(self, model: HookedModel) -> Iterator["AttachedSlowGradient"]:
        """Act on the model's gradients while the context is open."""
        parameters = _parameters(model, self.where)
        attached = AttachedSlowGradient(self, parameters)

        def amplify(gradient: Tensor, name: str) -> Tensor:
            # In float32 at least: a small share of a new gradient is rounded away in a half-precision average.
            precise = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
            slow = attached.averages.get(name)
            if slow is None:
                slow = attached.averages[name] = precise.clone()
            else:
                slow.lerp_(precise, 1 - self.decay)
            return (precise + self.gain * slow).to(gradient.dtype)

        with editing_parameters(parameters, attached.wrap(amplify)):
            yield attached


@dataclass(frozen=True, eq=False)
class OrthogonalGradient:
    """Take from each parameter's gradient what only scales the parameter, and keep the gradient's length (perp-grad).

    For each tensor w with gradient g, ``p = g - (w·g) / (w·w) w``; the optimiser gets ``p |g| / |p|``. Where logits
    grow with the weights, what is taken away raises the confidence of answers that are right already. A schedule's
    strength between 0 and 1 mixes both gradients.

    Args:
        where: parameters; by default all that are trained, those that are frozen for a time among them.

    Raises:
        ValueError: on entry, for a name that means nothing.

    Source: Prieto et al., Grokking at the Edge of Numerical Stability, arXiv 2501.04697, authors' code: 1e-30 is added
    to both denominators. There without weight decay.

    Example:
        >>> from plateau_interp import intervening, toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> model = toy_model(MovingWindowSum(), d_model=32)
        >>> with intervening(model, OrthogonalGradient()):
        ...     model(torch.zeros(1, 4, dtype=torch.long)).square().sum().backward()
        >>> w = model.blocks[0].mlp.W_in
        >>> bool((w * w.grad).sum().abs() < 1e-5 * w.norm() * w.grad.norm())
        True
    """

    where: Where | None = field(default=None, kw_only=True)

    name: ClassVar[str] = "orthogonal-gradient"

    def __post_init__(self) -> None:
        if self.where is not None:
            check_where(self.where)

    def sites(self, model: HookedModel) -> tuple[str, ...]:
        """The parameters whose gradients it would edit."""
        return tuple(_parameters(model, self.where))

    @contextmanager
    def attach(self, model: HookedModel) -> Iterator["AttachedGradientEdit"]:
        """Act on the model's gradients while the context is open."""
        parameters = _parameters(model, self.where)
        attached = AttachedGradientEdit(self, tuple(parameters))
        edit = attached.wrap(lambda gradient, name: orthogonal_part(gradient, parameters[name].detach()))
        with editing_parameters(parameters, edit):
            yield attached


def orthogonal_part(gradient: Tensor, weight: Tensor) -> Tensor:
    """What of a gradient is orthogonal to the weights, as long as the whole: ``p |g| / |p|``, p = g - (w·g) / (w·w) w.

    Example:
        >>> orthogonal_part(torch.tensor([3.0, 4.0]), torch.tensor([2.0, 0.0]))
        tensor([0., 5.])
    """
    # Sums of squares of small halves are 0, and TINY is, too: in float32 at least.
    dtype = torch.promote_types(gradient.dtype, torch.float32)
    whole, weight = gradient.to(dtype), weight.to(dtype)
    rest = whole - (weight * whole).sum() / (weight.square().sum() + TINY) * weight
    stretch: Tensor = torch.linalg.vector_norm(whole) / (torch.linalg.vector_norm(rest) + TINY)
    longer: Tensor = rest * stretch
    return longer.to(gradient.dtype)


@dataclass(eq=False)
class GradientReceipt(Receipt):
    """What an edit did to gradients; ``fired`` counts gradients, one a tensor and backward pass.

    Attributes:
        entries: gradient entries seen, over all firings.
    """

    entries: int = 0
    _squares: dict[str, Tensor] = field(default_factory=dict, repr=False)

    @property
    def change(self) -> float:
        """Root-mean-square size of the change over all entries of all firings. Reading it waits for the device."""
        return math.sqrt(sum(float(square) for square in self._squares.values()) / max(self.entries, 1))

    def describe(self) -> str:
        """One line for people."""
        return f"{super().describe()}: {self.entries} entries, root-mean-square change {self.change:.3g}"

    def note(self, name: str, before: Tensor, after: Tensor) -> None:
        """Count one gradient, as it was and as it became."""
        self.fired += 1
        self.entries += before.numel()
        precision = torch.promote_types(before.dtype, torch.float32)
        square = torch.linalg.vector_norm(after - before, dtype=precision).square()
        self._squares[name] = self._squares[name] + square if name in self._squares else square


class AttachedGradientEdit(CountedAttached):
    """An edit of gradients while it is attached.

    A strength between 0 and 1 gives ``g + strength * (edit(g) - g)``.
    """

    receipt: GradientReceipt

    def __init__(self, intervention: object, sites: Sequence[str]) -> None:
        super().__init__(intervention, receipt=GradientReceipt(repr(intervention), tuple(sites)), gradual=True)

    def wrap(self, edit: GradientEdit) -> Callable[[Tensor, str], Tensor | None]:
        """The edit, obeying the dial and counted."""

        @torch.no_grad()
        def apply(gradient: Tensor, name: str) -> Tensor | None:
            strength = self.strength
            if strength == 0.0:
                return None
            edited = edit(gradient, name)
            if strength != 1.0:
                edited = torch.lerp(gradient, edited, strength)
            self.receipt.note(name, gradient, edited)
            return edited

        return apply


class AttachedSlowGradient(AttachedGradientEdit):
    """The live side of `AmplifySlowGradient`, which remembers the moving averages, by parameter name."""

    def __init__(self, intervention: AmplifySlowGradient, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        super().__init__(intervention, tuple(parameters))
        self.averages: dict[str, Tensor] = {}
        self._parameters = parameters

    def state(self) -> dict[str, Tensor]:
        """The moving averages."""
        return {name: average.contiguous() for name, average in self.averages.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave."""
        self.averages = {name: average.to(self._parameters[name].device, copy=True) for name, average in state.items()}


def _parameters(model: HookedModel, where: Where | None) -> dict[str, torch.nn.Parameter]:
    """What ``where`` means; for None every parameter that is trained."""
    return trained_parameters(model) if where is None else parameters_where(model, where)
