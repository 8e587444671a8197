"""Interventions on what an update makes of the weights: their norm kept, their rows kept short.

They act after each ``step()`` of any PyTorch optimiser that has one of the parameters, in `train` and in a loop of your
own alike, on the parameters that are trained at that moment. What was changed stays when the context ends: it is a part
of the training, as weight decay is.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim.optimizer import register_optimizer_step_post_hook

from plateau_interp.checks import check_positive, shown
from plateau_interp.hooks.weights import trained_parameters
from plateau_interp.interventions.attached import CountedAttached, Receipt
from plateau_interp.models.parameters import Where, check_where, parameter_kind, parameters_where, row_axes
from plateau_interp.types import HookedModel

__all__ = ["ClipRows", "KeepNorm", "after_updates"]


@dataclass(frozen=True, eq=False)
class KeepNorm:
    """Give the weights, after each update, the norm that they had before the first: ``w |w_0| / |w|``.

    ``|w|`` is the Euclidean norm of all that is meant together, so their proportions are free. w_0 is what they are
    when this first begins to act: at the start of a training, or of the steps of a schedule. What a `FreezeWeights`
    holds meanwhile is left out, also of w_0. A schedule's strength s gives ``w (1 + s (|w_0| / |w| - 1))``.

    Args:
        where: parameters; by default all that are trained, norms and biases among them.

    Raises:
        ValueError: on entry, for a name that means nothing.

    Source: Liu et al., Omnigrok, arXiv 2210.01117, authors' notebook: AdamW without weight decay from weights of 0.8
    times the usual size, which is `plateau_interp.models.initializers.Scaled`.

    Example:
        >>> from plateau_interp import intervening, toy_model, train
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> task = MovingWindowSum(n=4)
        >>> model = toy_model(task, d_model=16)
        >>> before = torch.cat([parameter.flatten() for parameter in model.parameters()]).norm()
        >>> for step in train(model, task, steps=3, interventions=[KeepNorm()]):
        ...     after = torch.cat([parameter.flatten() for parameter in model.parameters()]).norm()
        >>> bool((after / before - 1).abs() < 1e-5)
        True
    """

    where: Where | None = field(default=None, kw_only=True)

    name: ClassVar[str] = "keep-norm"

    def __post_init__(self) -> None:
        if self.where is not None:
            check_where(self.where)

    def sites(self, model: HookedModel) -> tuple[str, ...]:
        """The parameters whose norm it would keep."""
        return tuple(self._parameters(model))

    def _parameters(self, model: HookedModel) -> dict[str, Parameter]:
        return trained_parameters(model) if self.where is None else parameters_where(model, self.where)

    @contextmanager
    def attach(self, model: HookedModel) -> Iterator["AttachedKeepNorm"]:
        """Act on the model's parameters while the context is open."""
        attached = AttachedKeepNorm(self, self._parameters(model))
        with after_updates(attached.parameters, attached.act):
            yield attached


@dataclass(frozen=True, eq=False)
class ClipRows:
    """Shorten, after each update, the rows of weight matrices that have grown too long: ``w_r min(1, c / |w_r|)``.

    A row is what leads to one output of a layer, all heads that it reads taken together; of an embedding, the vector of
    one token or position. A schedule's strength s gives ``w_r (1 + s (min(1, c / |w_r|) - 1))``.

    Args:
        max_norm: c, the longest a row may be.
        where: parameters, of which the weight matrices are meant; by default those of the blocks. (The source says "of
            the decoder", and shows no code: whether embeddings and unembedding are meant is unknown.)

    Raises:
        ValueError: for a norm that is not positive; on entry, for a name that means no weight matrix.

    Source: "Clip to grok", independent authors, 2026: 1.5 to 1.75 for division, up to 2 for multiplication, without
    weight decay.

    Example:
        >>> from plateau_interp import toy_model, train
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> task = MovingWindowSum(n=4)
        >>> model = toy_model(task, d_model=16)
        >>> for step in train(model, task, steps=3, interventions=[ClipRows(0.05)]):
        ...     longest = model.blocks[0].mlp.W_in.norm(dim=0).max()
        >>> bool(longest < 0.0501)
        True
    """

    max_norm: float
    where: Where = field(default="blocks.*.*W_*", kw_only=True)

    name: ClassVar[str] = "clip-rows"

    def __post_init__(self) -> None:
        check_positive(self, "max_norm")
        check_where(self.where)

    def sites(self, model: HookedModel) -> tuple[str, ...]:
        """The weight matrices whose rows it would shorten."""
        return tuple(self._parameters(model))

    def _parameters(self, model: HookedModel) -> dict[str, Parameter]:
        meant = parameters_where(model, self.where)
        matrices = {name: found for name, found in meant.items() if parameter_kind(name).startswith("W_")}
        if not matrices:
            raise ValueError(f"{shown(self.where)} means no weight matrix; it means {', '.join(meant)}")
        return matrices

    @contextmanager
    def attach(self, model: HookedModel) -> Iterator["AttachedClipRows"]:
        """Act on the model's parameters while the context is open."""
        attached = AttachedClipRows(self, self._parameters(model))
        with after_updates(attached.parameters, attached.act):
            yield attached


class AttachedUpdate(CountedAttached, ABC):
    """The live side of what acts after updates; ``fired`` counts them."""

    def __init__(self, intervention: object, parameters: Mapping[str, Parameter]) -> None:
        super().__init__(intervention, receipt=Receipt(repr(intervention), tuple(parameters)), gradual=True)
        self.parameters = parameters

    @torch.no_grad()
    def act(self) -> None:
        """An update was made."""
        strength = self.strength
        trained = {name: parameter for name, parameter in self.parameters.items() if parameter.requires_grad}
        if strength == 0.0 or not trained:
            return
        for name, factor in self.factors(trained).items():
            trained[name].mul_(factor if strength == 1.0 else 1 + strength * (factor - 1))
        self.receipt.fired += 1

    @abstractmethod
    def factors(self, trained: Mapping[str, Parameter]) -> Mapping[str, Tensor]:
        """The formula: what each parameter is multiplied by."""


class AttachedKeepNorm(AttachedUpdate):
    """The live side of `KeepNorm`, which remembers the squared norm of each parameter when it began to act."""

    def __init__(self, intervention: KeepNorm, parameters: Mapping[str, Parameter]) -> None:
        super().__init__(intervention, parameters)
        self._squares: dict[str, Tensor] = {}

    def dial(self, strength: float) -> None:
        """Set the strength; the first above 0 takes the norms."""
        super().dial(strength)
        if self.active and not self._squares:
            self._squares = _squares(self.parameters)

    def factors(self, trained: Mapping[str, Parameter]) -> dict[str, Tensor]:
        """``|w_0| / |w|``, one for all; weights of 0 stay."""
        before = sum(self._squares[name] for name in trained)
        now = torch.stack([*_squares(trained).values()]).sum()
        factor = torch.where(now == 0, 1.0, before / now).sqrt()  # weights of 0 have no other norm
        return {name: factor.to(parameter.dtype) for name, parameter in trained.items()}

    def state(self) -> dict[str, Tensor]:
        """The squared norms."""
        return dict(self._squares)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave."""
        self._squares = {name: square.to(self.parameters[name].device, copy=True) for name, square in state.items()}


class AttachedClipRows(AttachedUpdate):
    """The live side of `ClipRows`."""

    def __init__(self, intervention: ClipRows, parameters: Mapping[str, Parameter]) -> None:
        super().__init__(intervention, parameters)
        self._max_norm = intervention.max_norm

    def factors(self, trained: Mapping[str, Parameter]) -> dict[str, Tensor]:
        """``min(1, c / |w_r|)`` of each row; a row of 0 stays."""
        norms = {
            name: torch.linalg.vector_norm(parameter, dim=row_axes(name), keepdim=True)
            for name, parameter in trained.items()
        }
        return {name: (self._max_norm / norm).clamp(max=1.0) for name, norm in norms.items()}


def _squares(parameters: Mapping[str, Parameter]) -> dict[str, Tensor]:
    # In float64: a whole training multiplies by numbers next to 1.
    return {
        name: torch.linalg.vector_norm(parameter.detach(), dtype=torch.float64).square()
        for name, parameter in parameters.items()
    }


@contextmanager
def after_updates(parameters: Mapping[str, Parameter], act: Callable[[], None]) -> Iterator[None]:
    """Call a function after each update by an optimiser that has one of these parameters, while the context is open.

    Example:
        >>> weight = Parameter(torch.ones(1))
        >>> weight.grad = torch.ones(1)
        >>> with after_updates({"weight": weight}, lambda: print("updated")):
        ...     torch.optim.SGD([weight], lr=0.1).step()
        updated
    """
    ours = {id(parameter) for parameter in parameters.values()}

    def note(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        # torch has no such hook of a parameter; that of all optimisers knows those that are made later, too.
        if any(id(parameter) in ours for group in optimizer.param_groups for parameter in group["params"]):
            act()

    handle = register_optimizer_step_post_hook(note)
    try:
        yield
    finally:
        handle.remove()
