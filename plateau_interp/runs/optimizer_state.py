"""What an optimiser remembers, as values by place: taken from a live one, put into another, split for files and joined.

A place is ``PARAMETER/NAME`` for what it keeps of a parameter, and ``/GROUP/NAME`` for an entry of a parameter group,
by the group's number, that the optimiser itself has changed, added or removed since it was built. All other entries are
the recipe's, which builds them again. What could not come back bit for bit and of its own type is refused by name.
"""

import copy
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from plateau_interp.runs.kept_values import (
    GONE,
    ValueDecoder,
    ValueEncoder,
    bits_cloned,
    check_is_text,
    identical,
    rebuilt,
)
from plateau_interp.runs.shared_memory import sharing
from plateau_interp.types import HookedModel

__all__ = [
    "BuiltGroups",
    "StoredState",
    "entry_of",
    "optimizer_state",
    "owner_of",
    "place_of_entry",
    "put_optimizer_state",
]


@dataclass(frozen=True, eq=False)
class BuiltGroups:
    """The parameter groups of an optimiser as its recipe built them, to tell later what it has changed itself.

    Args:
        members: by group, the identities of its parameters.
        entries: by group, copies of all else.
        attributes: copies of what it holds itself, as far as it is numbers, text and tensors.

    Example:
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.5)
        >>> built = BuiltGroups.of(optimizer)
        >>> optimizer.param_groups[0]["lr"] *= 0.5
        >>> built.changed(optimizer)
        {'/0/lr': 0.25}
    """

    members: tuple[tuple[int, ...], ...]
    entries: tuple[Mapping[str, Any], ...]
    attributes: Mapping[str, Any]

    @staticmethod
    def of(optimizer: torch.optim.Optimizer) -> "BuiltGroups":
        """Those of an optimiser that was just built.

        Raises:
            ValueError: for one whose state is more than checkpoints keep, naming what.
        """
        kind = type(optimizer).__name__
        if more := sorted(map(str, optimizer.state_dict().keys() - {"state", "param_groups"})):
            raise ValueError(
                f"{kind} has {', '.join(more)} in its state_dict(), which no checkpoint keeps: have it in param_groups"
            )
        try:
            entries = tuple(copy.deepcopy(_entries(group)) for group in optimizer.param_groups)
        except Exception as error:  # whatever somebody's object says
            raise ValueError(f"{kind} has something in its param_groups that cannot be copied: {error}") from None
        return BuiltGroups(_members(optimizer), entries, _attributes(optimizer))

    def changed(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """The optimiser's own entries, by place; `GONE` is what it has removed.

        Raises:
            ValueError: if it has other groups, or other parameters in them.
        """
        if _members(optimizer) != self.members:
            raise ValueError(
                f"{type(optimizer).__name__} has other parameter groups than it was built with, which no checkpoint "
                "keeps: leave groups and their parameters as they are"
            )
        found = dict[str, Any]()
        for number, (group, before) in enumerate(zip(optimizer.param_groups, self.entries, strict=True)):
            now = _entries(group)
            for name in {**before, **now}:
                place = place_of_entry(number, name)
                if name not in now:
                    found[place] = GONE
                elif name not in before or not identical(now[name], before[name]):
                    found[place] = now[name]
        return found

    def forgotten(self, optimizer: torch.optim.Optimizer) -> list[str]:
        """The optimiser's own attributes that are new or have changed, which no checkpoint keeps."""
        before, now = self.attributes, _attributes(optimizer)
        return [name for name in now if name not in before or not identical(now[name], before[name])]


def place_of_entry(group: int, name: str) -> str:
    """The place of an entry of a parameter group."""
    return f"/{group}/{name}"


def entry_of(place: str) -> tuple[int, str]:
    """The parameter group and the name of an entry at a place.

    Example:
        >>> entry_of("/1/d"), owner_of("/1/d"), owner_of("embed.W_E/exp_avg")
        ((1, 'd'), '', 'embed.W_E')
    """
    _, number, name = place.split("/", 2)
    return int(number), name


def owner_of(place: str) -> str:
    """The parameter whose state is at a place; nobody's at that of a group's entry."""
    return place.partition("/")[0]


def optimizer_state(optimizer: torch.optim.Optimizer, model: HookedModel, built: BuiltGroups) -> dict[str, Any]:
    """All that an optimiser remembers, by place; what it does later does not change it.

    Args:
        optimizer: of the model's parameters.
        model: in training.
        built: the optimiser's groups as they were built.

    Raises:
        ValueError: naming what cannot be kept.
    """
    kind = type(optimizer).__name__
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    live, detached = dict[str, Any](), dict[int, Tensor]()
    for parameter, values in optimizer.state.items():
        if id(parameter) not in names:
            whose = f"a tensor {tuple(parameter.shape)}" if isinstance(parameter, Tensor) else repr(parameter)
            raise ValueError(
                f"{kind} has state of {whose}, which is no parameter of the model, and no checkpoint keeps that: have "
                "it in param_groups"
            )
        if not isinstance(values, Mapping):
            raise ValueError(f"{kind} has state of {names[id(parameter)]} that is no dict, which no checkpoint keeps")
        for name, value in values.items():
            whole = f"{names[id(parameter)]}/{check_is_text(name, kind)}"
            # What a parameter's state asks of autograd is nothing that loading ever gave back.
            is_asking = isinstance(value, Tensor) and (value.requires_grad or isinstance(value, Parameter))
            live[whole] = detached.setdefault(id(value), value.detach()) if is_asking else value
    live |= built.changed(optimizer)
    memo, tensors = dict[int, Any](), list[tuple[str, Tensor]]()
    state = {
        place: rebuilt(value, memo, partial(_noted, bits_cloned, _told(place), tensors), f"{kind}: {_told(place)}")
        for place, value in live.items()
    }
    for number, group in enumerate(optimizer.param_groups):
        for name, value in _entries(group).items():  # those, too, that are still as they were built
            told = _told(place_of_entry(number, name))
            with suppress(ValueError):  # an object of somebody's own
                rebuilt(value, memo, partial(_noted, Tensor.detach, told, tensors), told)
    _check_apart(kind, tensors, model)
    return state


def put_optimizer_state(
    optimizer: torch.optim.Optimizer, state: Mapping[str, Any], model: HookedModel, *, weights: Mapping[str, Tensor]
) -> None:
    """Give an optimiser that was just built what another remembered.

    Tensors go where their parameter is. A state tensor that had its parameter's dtype gets that of its parameter here;
    every other keeps its own. An entry that was a tensor when it was built stays on that one's device.

    Args:
        optimizer: of the model's parameters.
        state: by place, from `optimizer_state`.
        model: whose they are.
        weights: those beside which the state was taken.

    Raises:
        ValueError: for the state of a parameter that it does not train, or of a group that it does not have.
    """
    parameters = dict(model.named_parameters())
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    trained = {name for name, parameter in parameters.items() if id(parameter) in held}
    for place in state:
        _check_known(place, trained, len(optimizer.param_groups))
    stored = StoredState.of(state)
    _load(optimizer, {name: state[name] for name in (*stored.tensors, *stored.numbers) if name in state}, parameters)
    # Torch has given every tensor its parameter's dtype by now, and it makes nothing good of text.
    memo = dict[int, Any]()
    for place, value in stored.tensors.items():
        owner, name = _parts(place)
        if owner:
            mine = optimizer.state[parameters[owner]]
            dtype = value.dtype if name == "step" else _dtype(value, weights[owner], parameters[owner])
            if mine[name].dtype != dtype:
                mine[name] = value.to(mine[name].device, dtype, copy=True)
            memo[id(value)] = mine[name]
    for place, _ in stored.encoded:
        owner, name = _parts(place)
        if owner:
            put = partial(_beside, was=weights[owner], parameter=parameters[owner])
            optimizer.state[parameters[owner]][name] = rebuilt(state[place], memo, put, place)
        else:
            number, name = entry_of(place)
            _put_entry(optimizer.param_groups[number], name, state[place], memo)


@dataclass(frozen=True, eq=False)
class StoredState:
    """An optimiser's state as files hold it.

    Args:
        tensors: by name; a parameter's own under their place, all others under ``//NUMBER``, which is no place.
        numbers: whole and finite ones, by place, as they are in JSON.
        encoded: everything else, as pairs of place and value in strict JSON.

    Example:
        >>> StoredState.of({"W/step": 3, "/0/betas": (0.5, -0.0), "/0/d": torch.ones(2)}).encoded
        [['/0/betas', {'tuple': [0.5, -0.0]}], ['/0/d', {'tensor': '//0'}]]
    """

    tensors: Mapping[str, Tensor]
    numbers: Mapping[str, Any]
    encoded: Sequence[Any] = ()

    @staticmethod
    def of(state: Mapping[str, Any]) -> "StoredState":
        """A state from `optimizer_state` or `joined`, split; the same in whichever order it was put together."""
        encoder = ValueEncoder()
        numbers, others = dict[str, Any](), dict[str, Any]()
        for place, value in sorted(state.items()):
            if not place.startswith("/") and isinstance(value, Tensor) and encoder.names(value, place):
                continue
            is_number = value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
            (numbers if is_number and not place.startswith("/") else others)[place] = value
        encoded = [[place, encoder.encode(value)] for place, value in others.items()]
        return StoredState(encoder.tensors, numbers, encoded)

    def joined(self) -> dict[str, Any]:
        """The state that was split, by place.

        Raises:
            ValueError: if ``encoded`` is not what `of` makes.
        """
        own = {name: value for name, value in self.tensors.items() if not name.startswith("//")}
        decoder = ValueDecoder(self.tensors)
        try:
            return {**own, **self.numbers, **{place: decoder.decode(value) for place, value in self.encoded}}
        except (ValueError, TypeError) as error:  # no pairs, for one
            raise ValueError(f"it is no optimiser's state: {error}") from None

    def would_be_misread(self, weights: Mapping[str, Tensor]) -> bool:
        """Whether a version that knows only tensors of their parameter's dtype, and numbers, would load another state.

        Args:
            weights: beside which the state was taken.
        """
        parts = {name: _parts(name) for name in self.tensors}
        return bool(self.encoded) or any(
            name != "step" and self.tensors[place].dtype != weights[owner].dtype
            for place, (owner, name) in parts.items()
        )


def _noted(put: Callable[[Tensor], Tensor], told: str, tensors: list[tuple[str, Tensor]], tensor: Tensor) -> Tensor:
    """A new tensor of an old one, which is written down."""
    tensors.append((told, tensor))
    return put(tensor)


def _check_apart(kind: str, tensors: Sequence[tuple[str, Tensor]], model: HookedModel) -> None:
    """Refuse two tensors of which the one would no longer change with the other once they come back."""
    others = list[tuple[str, Tensor]]()
    for name, parameter in model.named_parameters():
        others.append((f"the parameter {name}", parameter))
        if parameter.grad is not None:
            others.append((f"the gradient of {name}", parameter.grad))
    if pair := sharing(tensors, others):
        raise ValueError(
            f"{kind}: {pair[0]} shares memory with {pair[1]}, which no checkpoint keeps: have a clone, or make a view "
            "anew at each step()"
        )


def _members(optimizer: torch.optim.Optimizer) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(map(id, group["params"])) for group in optimizer.param_groups)


def _attributes(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Copies of what an optimiser has beside what every one has, as far as a checkpoint could keep it."""
    found = dict[str, Any]()
    common = vars(torch.optim.SGD([torch.zeros(())], fused=True))  # with torch's flags of fused updates
    for name, value in vars(optimizer).items():
        if name not in common:
            with suppress(ValueError):  # an object of somebody's own, or the model
                found[name] = rebuilt(value, {}, bits_cloned, name)
    return found


def _entries(group: Mapping[str, Any]) -> dict[str, Any]:
    """All of a group but its parameters."""
    return {name: value for name, value in group.items() if name != "params"}


def _parts(place: str) -> tuple[str, str]:
    """Whose it is, a parameter's or nobody's, and the rest of a place."""
    owner, _, rest = place.partition("/")
    return owner, rest


def _told(place: str) -> str:
    """A place in words."""
    owner, rest = _parts(place)
    if owner:
        return f"{rest!r} of {owner}"
    number, name = entry_of(place)
    return f"{name!r} of parameter group {number}"


def _check_known(place: str, trained: Collection[str], n_groups: int) -> None:
    owner = owner_of(place)
    if owner and owner not in trained:
        raise ValueError(f"another optimiser's state: {place} belongs to no parameter that it trains")
    if not owner and entry_of(place)[0] >= n_groups:
        raise ValueError(f"another optimiser's state: {_told(place)}, which it does not have")


def _load(optimizer: torch.optim.Optimizer, own: Mapping[str, Any], parameters: Mapping[str, Tensor]) -> None:
    """Give an optimiser tensors and numbers of its parameters through its own ``load_state_dict``.

    That knows what belongs on which device.
    """
    order = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    by_index: dict[int, dict[str, Any]] = {}
    for place, value in own.items():
        owner, name = _parts(place)
        mine = by_index.setdefault(order.index(id(parameters[owner])), {})
        mine[name] = bits_cloned(value) if isinstance(value, Tensor) else value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": by_index})


def _put_entry(group: dict[str, Any], name: str, value: Any, memo: dict[int, Any]) -> None:
    if value is GONE:
        group.pop(name, None)
        return
    before = group.get(name)
    beside = before if isinstance(before, Tensor) else next(iter(group["params"]), torch.empty(0))
    group[name] = rebuilt(value, memo, partial(torch.Tensor.to, device=beside.device, copy=True), name)


def _dtype(value: Tensor, was: Tensor, parameter: Tensor) -> torch.dtype:
    """What a state tensor is beside a parameter, if it was taken beside another."""
    return parameter.dtype if value.dtype == was.dtype else value.dtype


def _beside(value: Tensor, *, was: Tensor, parameter: Tensor) -> Tensor:
    return value.to(parameter.device, _dtype(value, was, parameter), copy=True)
