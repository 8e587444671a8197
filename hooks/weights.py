"""Interventions on parameters: freeze groups of them, or take them from another model.

Groups are those of the optimal-initialisation experiments of arXiv 2506.13688 (figure 5), in TransformerLens's names:

| group | parameters |
|---|---|
| ``"attention map"`` | queries, keys, token and position embeddings, first LayerNorms |
| ``"attention"`` | the same, values and output projections |
| ``"mlp"`` | MLPs, second LayerNorms, final LayerNorm, unembedding |
| ``"embeddings"`` | token and position embeddings, final LayerNorm, unembedding |

Anything else is a pattern over parameter names, such as ``"blocks.0.attn.W_*"``, or a function of the name. Whatever
matches nothing is an error: the authors' own rule for the attention map looks for lower-case names and would, with
their final code, silently leave out queries and keys.
"""

import bisect
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from plateau_interp.checks import listed, nearest
from plateau_interp.hooks.sources import Source, check_source, open_source
from plateau_interp.interventions.receipts import InterventionReceipt
from plateau_interp.types import HookedModel

__all__ = [
    "FreezeWeights",
    "TransplantWeights",
    "Where",
    "check_where",
    "parameters_where",
    "trained_parameters",
    "transplant_weights_",
]

Where = str | Callable[[str], bool]
"""A group, a pattern over parameter names, or a function of the name."""

PARTS = {
    "queries": r"blocks\.LAYER\.attn\.(_?[Wb]_Q|q_norm\..*)",
    "keys": r"blocks\.LAYER\.attn\.(_?[Wb]_K|k_norm\..*)",
    "values": r"blocks\.LAYER\.attn\._?[Wb]_V",
    "output projections": r"blocks\.LAYER\.attn\._?[Wb]_O",
    "first norms": r"blocks\.LAYER\.ln1\..*",
    "second norms": r"blocks\.LAYER\.ln2\..*",
    "MLPs": r"blocks\.LAYER\.mlp\..*",
    "token embedding": r"embed\..*",
    "position embedding": r"pos_embed\..*",
    "final norm": r"ln_final\..*",
    "unembedding": r"unembed\..*",
}

GROUPS = {
    "attention map": ("queries", "keys", "token embedding", "position embedding", "first norms"),
    "attention": (
        "queries",
        "keys",
        "values",
        "output projections",
        "token embedding",
        "position embedding",
        "first norms",
    ),
    "mlp": ("MLPs", "second norms", "final norm", "unembedding"),
    "embeddings": ("token embedding", "position embedding", "final norm", "unembedding"),
}

_frozen: WeakKeyDictionary[Any, dict[str, list[Any]]] = WeakKeyDictionary()
"""By model and parameter name: how many freezes hold it, and its requires_grad before the first."""

_transplanted: WeakKeyDictionary[Any, list["TransplantReceipt"]] = WeakKeyDictionary()
"""By model: the transplants that hold parameters, the latest last."""


def check_where(where: Any) -> None:
    """Refuse what cannot say which parameters are meant.

    Raises:
        ValueError: for anything but a string or a function.
    """
    if not isinstance(where, str) and (isinstance(where, type) or not callable(where)):
        raise ValueError(f"where must be a group, a pattern over names or a function of the name; got {where!r}")


def parameters_where(model: HookedModel, where: Where) -> dict[str, torch.nn.Parameter]:
    """The parameters that a group, a name pattern or a function of the name means.

    Every part of a group must be there in every layer, unless the model's configuration says it has none (no position
    embedding with rotary positions, no MLPs in a model of attention alone).

    Raises:
        ValueError: if nothing matches, or a part of a group is missing.

    Example:
        >>> from plateau_interp import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> list(parameters_where(toy_model(MovingWindowSum(), d_model=32), "blocks.0.attn.W_*"))
        ['blocks.0.attn.W_Q', 'blocks.0.attn.W_O', 'blocks.0.attn.W_K', 'blocks.0.attn.W_V']
    """
    check_where(where)
    parameters = dict(model.named_parameters())
    if isinstance(where, str) and where in GROUPS:
        names = {name for part in GROUPS[where] for name in _part(model, part, parameters, group=where)}
    elif isinstance(where, str):
        names = {name for name in parameters if name == where or fnmatchcase(name, where)}
    else:
        names = {name for name in parameters if where(name)}
    if not names:
        hint = (
            nearest(where, [*GROUPS, *parameters]) if isinstance(where, str) else f"there are {listed([*parameters])}"
        )
        raise ValueError(f"{where!r} means no parameter of the model; {hint}")
    return {name: parameter for name, parameter in parameters.items() if name in names}


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
    held = _frozen.get(model, {})
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if (held[name][1] if name in held else parameter.requires_grad)
    }


@dataclass(frozen=True, eq=False)
class FreezeWeights:
    """Keep parameters as they are, bit for bit, whatever the optimiser.

    They require no gradient and have none, so PyTorch's optimisers pass them by: no momentum, no weight decay. The one
    exception is ``torch.optim.LBFGS``, which takes a missing gradient for zero and moves them by what it remembers.
    Optimiser state stays and is taken up again after release. On exit they require a gradient again if they did before.

    Args:
        where: see `plateau_interp.hooks.weights`.

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

    def __post_init__(self) -> None:
        check_where(self.where)

    def sites(self, model: HookedModel) -> tuple[str, ...]:
        """The parameters it would freeze."""
        return tuple(parameters_where(model, self.where))

    @contextmanager
    def attach(self, model: HookedModel) -> Iterator["FreezeReceipt"]:
        """Let the receipt's dial freeze while the context is open."""
        receipt = FreezeReceipt(self, self.sites(model), parameters=parameters_where(model, self.where), model=model)
        try:
            yield receipt
        finally:
            receipt.dial(0.0)


@dataclass(eq=False)
class FreezeReceipt(InterventionReceipt):
    """What is frozen; ``fired`` counts how often the freeze began."""

    parameters: Mapping[str, torch.nn.Parameter] = field(default_factory=dict, repr=False)
    model: Any = field(default=None, repr=False)
    strength: float = 0.0
    thawed: set[str] = field(default_factory=set)

    @property
    def gradual(self) -> bool:
        """A parameter is frozen or not."""
        return False

    @property
    def entries(self) -> int:
        """Scalars in the frozen parameters."""
        return sum(parameter.numel() for parameter in self.parameters.values())

    def dial(self, strength: float) -> None:
        """Freeze for any strength above 0, release at 0."""
        was_on, self.strength = self.strength > 0, strength
        if strength > 0 and not was_on:
            self.fired += 1
            self._freeze()
        elif was_on and strength == 0:
            self._release()

    def complaints(self) -> list[str]:
        """Parameters that somebody else made trainable meanwhile."""
        thawed = f"did not hold {listed(sorted(self.thawed))}: requires_grad was set inside" if self.thawed else None
        return [*super().complaints(), *([thawed] if thawed else [])]

    def _freeze(self) -> None:
        held = _frozen.setdefault(self.model, {})
        for name, parameter in self.parameters.items():
            held.setdefault(name, [0, parameter.requires_grad])[0] += 1
            parameter.requires_grad_(False)
            parameter.grad = None

    def _release(self) -> None:
        held = _frozen[self.model]
        for name, parameter in self.parameters.items():
            if parameter.requires_grad:
                self.thawed.add(name)
            held[name][0] -= 1
            if held[name][0] == 0:  # freezes may overlap and end in any order
                parameter.requires_grad_(held.pop(name)[1])


@dataclass(frozen=True, eq=False)
class TransplantWeights:
    """Give parameters the values they have in another model.

    The values are copied on entry (under a schedule, when its time begins), and training goes on from them; add
    `FreezeWeights` to keep them. On exit the parameters get back the values they had before, and if training has moved
    them meanwhile, a warning says that this is undone. For a transplant that stays use `transplant_weights_`.

    Args:
        source: a model; a run as ``"RUN"`` or ``"RUN@STEP"``; or a mapping from parameter name to tensor.
        where: see `plateau_interp.hooks.weights`.

    Raises:
        ValueError: on entry, if ``where`` means no parameter, or the source lacks one or has it in another shape.

    Source: arXiv 2506.13688, figure 5.

    Example:
        >>> from plateau_interp import intervening, toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> one, other = (toy_model(MovingWindowSum(), d_model=32, seed=seed) for seed in (1, 2))
        >>> with intervening(one, TransplantWeights(other, "mlp")):
        ...     print(torch.equal(one.W_in, other.W_in), torch.equal(one.W_E, other.W_E))
        True False
    """

    source: Source = field(repr=False)
    where: Where

    def __post_init__(self) -> None:
        check_source(self.source)
        check_where(self.where)

    def sites(self, model: HookedModel) -> tuple[str, ...]:
        """The parameters it would replace."""
        return tuple(parameters_where(model, self.where))

    @contextmanager
    def attach(self, model: HookedModel) -> Iterator["TransplantReceipt"]:
        """Let the receipt's dial replace while the context is open."""
        parameters = parameters_where(model, self.where)
        values = _source_values(self.source, parameters)
        receipt = TransplantReceipt(self, tuple(parameters), parameters=parameters, values=values, model=model)
        try:
            yield receipt
        finally:
            receipt.dial(0.0)


@dataclass(eq=False)
class TransplantReceipt(InterventionReceipt):
    """What was replaced; ``fired`` counts how often the values were copied, by an earlier part of the training too."""

    parameters: Mapping[str, torch.nn.Parameter] = field(default_factory=dict, repr=False)
    values: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    model: Any = field(default=None, repr=False)
    strength: float = 0.0
    undone: set[str] = field(default_factory=set)
    _found: dict[str, Tensor] = field(default_factory=dict, repr=False)
    _rank: float = math.inf  # among the transplants of an earlier training; later than those if it acts now

    @property
    def gradual(self) -> bool:
        """Values are replaced or not."""
        return False

    @property
    def entries(self) -> int:
        """Scalars in the replaced parameters."""
        return sum(parameter.numel() for parameter in self.parameters.values())

    def dial(self, strength: float) -> None:
        """Copy the source's values at any strength above 0, put the old ones back at 0."""
        self.strength = strength
        if strength > 0 and not self._found:
            self.fired += 1
            self._hold({name: parameter.detach().clone() for name, parameter in self.parameters.items()}, rank=math.inf)
            _copy_(self.parameters, self.values)
        elif strength == 0 and self._found:
            self._release()

    def keep(self) -> None:
        """Put nothing back on exit; for a model that nobody uses afterwards."""
        if self._found:
            self._let_go()

    def complaints(self) -> list[str]:
        """Training that was undone."""
        undone = (
            f"undid training of {listed(sorted(self.undone))}; transplant_weights_ would not" if self.undone else None
        )
        return [*super().complaints(), *([undone] if undone else [])]

    def state(self) -> dict[str, Tensor]:
        """The values to put back, and which of the model's transplants this is in order of acting."""
        if not self._found:
            return {}
        place = next(i for i, holder in enumerate(_transplanted[self.model]) if holder is self)
        return {**self._found, "rank": torch.tensor(place)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave: the model holds the transplant, or what training made of it, already."""
        if self._found:
            self._let_go()
        found = {name: value.to(self.parameters[name]) for name, value in state.items() if name != "rank"}
        if found:
            self._hold(found, rank=float(state.get("rank", 0)))  # 0: written before there were ranks
            self.fired = max(self.fired, 1)
        self.strength = 1.0 if found else 0.0

    def _hold(self, found: dict[str, Tensor], *, rank: float) -> None:
        self._found, self._rank = found, rank
        bisect.insort(_transplanted.setdefault(self.model, []), self, key=lambda holder: holder._rank)

    def _release(self) -> None:
        """Put the old values back; under a later transplant of the same parameter, leave them to that one."""
        before, later = self._let_go()
        for name, found in before.items():
            parameter, heir = self.parameters[name], next((one for one in later if name in one._found), None)
            if heir is not None:
                heir._found[name] = found
                continue
            if not parameter.equal(self.values[name]):
                self.undone.add(name)
            _copy_({name: parameter}, {name: found})

    def _let_go(self) -> tuple[dict[str, Tensor], list["TransplantReceipt"]]:
        """No longer hold anything; gives what was held, and the transplants that acted later."""
        found, self._found = self._found, {}
        holders = _transplanted[self.model]
        place = next(i for i, holder in enumerate(holders) if holder is self)
        del holders[place]
        return found, holders[place:]


def transplant_weights_(model: HookedModel, source: Source, *, where: Where) -> tuple[str, ...]:
    """Give parameters the values they have in another model, for good.

    Args:
        model: changed in place.
        source: as for `TransplantWeights`.
        where: see `plateau_interp.hooks.weights`.

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
    _copy_(parameters, _source_values(source, parameters))
    return tuple(parameters)


def _part(model: HookedModel, part: str, parameters: Mapping[str, Any], *, group: str) -> list[str]:
    """The parameters of one part of a group; an error if it is missing in a layer that should have it."""
    found: list[str] = []
    layers = range(model.cfg.n_layers) if "LAYER" in PARTS[part] else [0]
    for layer in layers:
        pattern = re.compile(PARTS[part].replace("LAYER", str(layer)))
        matched = [name for name in parameters if pattern.fullmatch(name)]
        if not matched and not _may_lack(model.cfg, part):
            place = f" in layer {layer}" if "LAYER" in PARTS[part] else ""
            raise ValueError(
                f"group {group!r} needs {part}, but the model has none{place}; it has {', '.join(parameters)}"
            )
        found += matched
    return found


def _may_lack(cfg: Any, part: str) -> bool:
    if part == "position embedding":
        return cfg.positional_embedding_type not in ("standard", "shortformer")
    if cfg.attn_only and part in ("MLPs", "second norms"):
        return True
    if part == "second norms" and getattr(cfg, "parallel_attn_mlp", False):
        return True
    return part.endswith(("norm", "norms")) and cfg.normalization_type not in ("LN", "RMS")


def _source_values(source: Source, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The source's tensors for some parameters, as they are now."""
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
    return {name: tensors[name].detach().to(parameter, copy=True) for name, parameter in parameters.items()}


@torch.no_grad()
def _copy_(parameters: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    for name, parameter in parameters.items():
        parameter.copy_(values[name])
