"""Interventions on parameters: freeze groups of them, or take them from another model.

Which parameters is said as `plateau_interp.models.parameters` says: a group, a pattern over names, a function of the
name. To change what the optimiser gets to see instead, use `plateau_interp.hooks.gradients`.
"""

import bisect
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from plateau_interp.checks import listed, nearest
from plateau_interp.hooks.sources import Source, check_source, open_source
from plateau_interp.interventions.attached import CountedAttached, Receipt
from plateau_interp.interventions.origins import Origin
from plateau_interp.interventions.session import session
from plateau_interp.models.parameters import Where, check_where, parameters_where
from plateau_interp.models.tokenizers import OF_TOKENS, check_same_vocabulary
from plateau_interp.models.weights import tensors_digest
from plateau_interp.types import PLACE, HookedModel

__all__ = ["FreezeWeights", "TransplantWeights", "WeightsReceipt", "trained_parameters", "transplant_weights_"]


@dataclass(eq=False)
class WeightsReceipt(Receipt):
    """What was frozen or replaced; ``fired`` counts how often that began.

    Attributes:
        entries: scalars in the parameters.
    """

    entries: int = 0


@dataclass
class _Hold:
    """What freezes make of one parameter: how many hold it, and its requires_grad before the first."""

    requires_grad: bool
    n_freezes: int = 0


class _Freezes(dict[str, _Hold]):
    """The parameters of one model that freezes hold, by name."""


class _Transplants(list["AttachedTransplant"]):
    """The transplants of one model that hold parameters, the latest last."""


def trained_parameters(model: HookedModel) -> dict[str, torch.nn.Parameter]:
    """The parameters that require a gradient, or will again when the freezes that hold them end.

    Example:
        >>> from plateau_interp import intervening, toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> model = toy_model(MovingWindowSum(), d_model=32)
        >>> with intervening(model, FreezeWeights("*")):
        ...     "embed.W_E" in trained_parameters(model), "unembed.b_U" in trained_parameters(model)
        (True, False)
    """
    held = session(model).slot(_Freezes)
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if (held[name].requires_grad if name in held else parameter.requires_grad)
    }


@dataclass(frozen=True, eq=False)
class FreezeWeights:
    """Keep parameters as they are, bit for bit, whatever the optimiser.

    They require no gradient and have none, so PyTorch's optimisers pass them by: no momentum, no weight decay. The one
    exception is ``torch.optim.LBFGS``, which takes a missing gradient for zero and moves them by what it remembers.
    Optimiser state stays and is taken up again after release. On exit they require a gradient again if they did before.

    Args:
        where: see `plateau_interp.models.parameters`.

    Raises:
        ValueError: on entry, if ``where`` means no parameter.

    Source: arXiv 2506.13688, figure 5.

    Example:
        >>> from plateau_interp import intervening, toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> model = toy_model(MovingWindowSum(), d_model=32)
        >>> with intervening(model, FreezeWeights("embeddings")) as (receipt,):
        ...     print(*receipt.sites)
        embed.W_E pos_embed.W_pos ln_final.w ln_final.b unembed.W_U unembed.b_U
    """

    where: Where

    name: ClassVar[str] = "freeze-weights"

    def __post_init__(self) -> None:
        check_where(self.where)

    def sites(self, model: HookedModel) -> tuple[str, ...]:
        """The parameters it would freeze."""
        return tuple(parameters_where(model, self.where))

    @contextmanager
    def attach(self, model: HookedModel) -> Iterator["AttachedFreeze"]:
        """Let the dial freeze while the context is open."""
        attached = AttachedFreeze(self, parameters_where(model, self.where), session(model).slot(_Freezes))
        try:
            yield attached
        finally:
            attached.dial(0.0)


class _OnParameters(CountedAttached):
    """The live side of what acts on parameters when its dial is turned; it is on or off."""

    def __init__(self, intervention: object, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        size = sum(parameter.numel() for parameter in parameters.values())
        super().__init__(intervention, receipt=WeightsReceipt(repr(intervention), tuple(parameters), entries=size))
        self.parameters = parameters


class AttachedFreeze(_OnParameters):
    """The live side of `FreezeWeights`: any strength above 0 freezes, 0 releases."""

    def __init__(
        self, intervention: FreezeWeights, parameters: Mapping[str, torch.nn.Parameter], held: dict[str, _Hold]
    ) -> None:
        super().__init__(intervention, parameters)
        self._held = held
        self._thawed: set[str] = set()

    @property
    def trains_only(self) -> bool:
        """It is updates that it keeps from the weights."""
        return True

    def dial(self, strength: float) -> None:
        """Freeze for any strength above 0, release at 0."""
        was_on = self.active
        super().dial(strength)
        if self.active and not was_on:
            self.receipt.fired += 1
            self._freeze()
        elif was_on and not self.active:
            self._release()

    def complaints(self) -> list[str]:
        """Parameters that somebody else made trainable meanwhile."""
        thawed = [f"did not hold {listed(sorted(self._thawed))}: requires_grad was set inside"] if self._thawed else []
        return [*super().complaints(), *thawed]

    def _freeze(self) -> None:
        for name, parameter in self.parameters.items():
            self._held.setdefault(name, _Hold(parameter.requires_grad)).n_freezes += 1
            parameter.requires_grad_(False)
            # Optimisers pass by what has no gradient; a zero or an old one would still feed momentum and decay.
            parameter.grad = None

    def _release(self) -> None:
        for name, parameter in self.parameters.items():
            if parameter.requires_grad:
                self._thawed.add(name)
            self._held[name].n_freezes -= 1
            if self._held[name].n_freezes == 0:  # freezes may overlap and end in any order
                parameter.requires_grad_(self._held.pop(name).requires_grad)


@dataclass(frozen=True, eq=False)
class TransplantWeights:
    """Give parameters the values they have in another model.

    The values are copied on entry (under a schedule, when its time begins), and training goes on from them; add
    `FreezeWeights` to keep them. On exit the parameters get back the values they had before, and if training has moved
    them meanwhile, a warning says that this is undone. For a transplant that stays use `transplant_weights_`.

    Args:
        source: a model; a run as ``"RUN"`` or ``"RUN@STEP"``; or a mapping from parameter name to tensor.
        where: see `plateau_interp.models.parameters`.

    Raises:
        ValueError: on entry, if ``where`` means no parameter, or the source lacks one or has it in another shape; for
            an embedding or unembedding, if the tokenizers of both say that the tokens are others.

    Source: arXiv 2506.13688, figure 5.

    Example:
        >>> from plateau_interp import intervening, toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> one, other = (toy_model(MovingWindowSum(), d_model=32, seed=seed) for seed in (1, 2))
        >>> with intervening(one, TransplantWeights(other, "mlp")):
        ...     print(torch.equal(one.W_in, other.W_in), torch.equal(one.W_E, other.W_E))
        True False
    """

    source: Source = field(repr=False, metadata=PLACE)
    where: Where

    name: ClassVar[str] = "transplant-weights"

    def __post_init__(self) -> None:
        check_source(self.source)
        check_where(self.where)

    def sites(self, model: HookedModel) -> tuple[str, ...]:
        """The parameters it would replace."""
        return tuple(parameters_where(model, self.where))

    @contextmanager
    def attach(self, model: HookedModel) -> Iterator["AttachedTransplant"]:
        """Let the dial replace while the context is open."""
        parameters = parameters_where(model, self.where)
        values = _source_values(self.source, parameters, model)
        origin = Origin(tensors_digest(values) if isinstance(self.source, str) else None)
        attached = AttachedTransplant(self, parameters, values, session(model).slot(_Transplants), origin=origin)
        try:
            yield attached
        finally:
            attached.dial(0.0)


class AttachedTransplant(_OnParameters):
    """The live side of `TransplantWeights`: any strength above 0 copies the values, 0 puts the old ones back.

    ``fired`` counts how often the values were copied, by an earlier part of the training too.

    Transplants may overlap, and end in any order. What is under one parameter is then a pile: the values that a
    transplant found are those of the one below it, and when one ends in the middle, the one above it inherits what it
    found; the top one alone writes to the model. So the model's transplants are kept in the order in which they acted.
    """

    def __init__(
        self,
        intervention: TransplantWeights,
        parameters: Mapping[str, torch.nn.Parameter],
        values: Mapping[str, Tensor],
        pile: list["AttachedTransplant"],
        *,
        origin: Origin,
    ) -> None:
        super().__init__(intervention, parameters)
        self._origin = origin
        self._values = values
        self._pile = pile
        self._found: dict[str, Tensor] = {}
        # That order is not the order of attaching (schedules), and a resumed run must have it again: a rank is the
        # place in the pile as it was saved. What acts for the first time now acts after all that is remembered.
        self._rank = math.inf
        self._undone: set[str] = set()

    def dial(self, strength: float) -> None:
        """Copy the source's values at any strength above 0, put the old ones back at 0."""
        super().dial(strength)
        if self.active and not self._found:
            self.receipt.fired += 1
            self._hold({name: parameter.detach().clone() for name, parameter in self.parameters.items()}, rank=math.inf)
            _copy_(self.parameters, self._values)
        elif self._found and not self.active:
            self._release()

    def keep(self) -> None:
        """Put nothing back on exit; for a model that nobody uses afterwards."""
        if self._found:
            self._let_go()

    def complaints(self) -> list[str]:
        """Training that was undone."""
        names = listed(sorted(self._undone))
        undone = [f"undid training of {names}; transplant_weights_ would not"] if names else []
        return [*super().complaints(), *undone]

    def state(self) -> dict[str, Tensor]:
        """What it takes from; while it acts, the values to put back, and its place among the model's transplants."""
        held = {**self._found, "rank": torch.tensor(self._place())} if self._found else {}
        return {**held, **self._origin.state()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave: the model holds the transplant, or what training made of it, already.

        Raises:
            ValueError: if a run that is named holds other values now.
        """
        state = self._origin.known(state, self.intervention)
        if self._found:
            self._let_go()
        found = {name: value.to(self.parameters[name]) for name, value in state.items() if name != "rank"}
        if found:
            self._hold(found, rank=float(state.get("rank", 0)))  # 0: written before there were ranks
            self.receipt.fired = max(self.receipt.fired, 1)
        self._strength = 1.0 if found else 0.0  # not by the dial: it would copy, or put back

    def _hold(self, found: dict[str, Tensor], *, rank: float) -> None:
        self._found, self._rank = found, rank
        bisect.insort(self._pile, self, key=lambda holder: holder._rank)

    def _release(self) -> None:
        """Put the old values back; under a later transplant of the same parameter, leave them to that one."""
        before, later = self._let_go()
        for name, found in before.items():
            parameter, heir = self.parameters[name], next((one for one in later if name in one._found), None)
            if heir is not None:
                heir._found[name] = found
                continue
            if not parameter.equal(self._values[name]):
                self._undone.add(name)
            _copy_({name: parameter}, {name: found})

    def _let_go(self) -> tuple[dict[str, Tensor], list["AttachedTransplant"]]:
        """No longer hold anything; gives what was held, and the transplants that acted later."""
        found, self._found = self._found, {}
        place = self._place()
        del self._pile[place]
        return found, self._pile[place:]

    def _place(self) -> int:
        return next(i for i, holder in enumerate(self._pile) if holder is self)


def transplant_weights_(model: HookedModel, source: Source, *, where: Where) -> tuple[str, ...]:
    """Give parameters the values they have in another model, for good.

    Args:
        model: changed in place.
        source: as for `TransplantWeights`.
        where: see `plateau_interp.models.parameters`.

    Returns:
        The names of the parameters that were replaced.

    Raises:
        ValueError: as `TransplantWeights`.

    Example:
        >>> from plateau_interp import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> one, other = (toy_model(MovingWindowSum(), d_model=32, seed=seed) for seed in (1, 2))
        >>> transplant_weights_(one, other, where="embed.*")
        ('embed.W_E',)
    """
    parameters = parameters_where(model, where)
    _copy_(parameters, _source_values(source, parameters, model))
    return tuple(parameters)


def _source_values(source: Source, parameters: Mapping[str, Tensor], model: HookedModel) -> dict[str, Tensor]:
    """The source's tensors for some of a model's parameters, as they are now."""
    opened = open_source(source)
    if isinstance(opened, Tensor):
        raise ValueError("expected a model, a run or tensors by parameter name; got a tensor")
    tensors = dict(opened.named_parameters()) if callable(opened) else opened
    for name, parameter in parameters.items():
        if name not in tensors:
            raise ValueError(f"the source has no parameter {name}; {nearest(name, list(tensors))}")
        if not isinstance(tensors[name], Tensor):
            raise ValueError(f"the source's {name} must be a tensor; got {tensors[name]!r}")
        if tensors[name].shape != parameter.shape:
            mine, its = tuple(parameter.shape), tuple(tensors[name].shape)
            raise ValueError(f"{name} has shape {mine} in the model, but {its} in the source")
    if of_tokens := [name for name in parameters if name.startswith(OF_TOKENS)]:
        try:
            check_same_vocabulary(model, opened, name=source if isinstance(source, str) else "the source")
        except ValueError as error:
            raise ValueError(f"{of_tokens[0]}: {error}") from None
    return {name: tensors[name].detach().to(parameter, copy=True) for name, parameter in parameters.items()}


@torch.no_grad()
def _copy_(parameters: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    for name, parameter in parameters.items():
        parameter.copy_(values[name])
