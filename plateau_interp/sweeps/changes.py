"""A table of changes to a recipe: which fields, with which values, in which combinations; and how one is applied.

A field is named by its path, such as ``training.optimizer.learning_rate`` or ``interventions[0].factor``, as errors in
recipes name it. For the runs that come out see `plateau_interp.sweeps.plan`.
"""

import contextlib
import copy
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from plateau_interp.checks import nearest, shown, whole_number
from plateau_interp.codec import RecipeError, encode
from plateau_interp.plugins import kind_of

__all__ = ["ELSEWHERE", "Changes", "Combination", "changed", "field_at"]

IN_BRACKETS = re.compile(r"\[(\d+)\]")
ELSEWHERE = {
    "seed": "the seeds of a sweep are given as seeds, such as seeds: 3 or seeds: [0, 7]",
    "fork_of": "a sweep trains from step 0: fork the runs that came out of it",
    "format": "that is the number of the recipe's format",
}
"""Top-level fields of a recipe that no change may name."""


@dataclass(frozen=True)
class Combination:
    """One way to train: what is changed, by the path of the field, as plain data.

    Args:
        table: what grid and zip say.
        single: what the list says.
        called: what somebody called that, if they did.
    """

    table: Mapping[str, Any] = field(default_factory=dict)
    single: Mapping[str, Any] = field(default_factory=dict)
    called: str | None = None

    @property
    def values(self) -> dict[str, Any]:
        """All that is changed."""
        return {**self.table, **self.single}


@dataclass(frozen=True)
class Changes:
    """Changes to any fields of a recipe; what stands in several of these is combined, each with each.

    Args:
        grid: by field the values that it takes; every value of one with every value of the others.
        zip: by field the values that it takes, those at one place of all lists together.
        list: single changes, as fields and values; or by name, which is then that of the folder.
        seeds: that each is trained with: so many from 0 on, or which; by default that of the base.

    Raises:
        ValueError: for a field that stands twice, lists of unequal length in ``zip``, no values or no seeds.

    Example:
        >>> changes = Changes(grid={"task.k": [2, 3]}, list={"plain": {}, "wide": {"model.d_model": 64}}, seeds=2)
        >>> [(each.called, each.values["task.k"]) for each in changes.combinations()]
        [('plain', 2), ('wide', 2), ('plain', 3), ('wide', 3)]
    """

    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    zip: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    list: Sequence[Mapping[str, Any]] | Mapping[str, Any] = ()
    seeds: int | Sequence[int] | None = None

    def __post_init__(self) -> None:
        for name, table in (("grid", self.grid), ("zip", self.zip)):
            _check_fields(table, name)
            for path, values in table.items():
                _check_values(values, f"{name}: {path}")
        lengths = {path: len(values) for path, values in self.zip.items()}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{path} has {length}" for path, length in lengths.items())
            raise ValueError(f"zip: the lists must be of one length; {told}")
        if not isinstance(self.list, Sequence | Mapping) or isinstance(self.list, str):
            raise ValueError(f"list: expected a list of changes, or changes by name; got {shown(self.list)}")
        for called, single in self._listed():
            _check_fields(single, f"list: {called}" if called else "list")
        self._check_once()
        self.seed_numbers(0)

    def _check_once(self) -> None:
        listed = {path for _, values in self._listed() for path in values}
        for one, other in itertools.combinations(({*self.grid}, {*self.zip}, listed), 2):
            if twice := sorted(one & other):
                raise ValueError(f"{twice[0]} stands in two of grid, zip and list: one of them says what it is")

    @staticmethod
    def from_dict(data: Mapping[Any, Any]) -> "Changes":
        """Read plain data.

        Raises:
            ValueError: for what is none of the fields, with the nearest, and as the constructor.
        """
        known = [item.name for item in fields(Changes)]
        for name in data:
            if name not in known:
                raise ValueError(f"{shown(name)}: unknown field; {nearest(str(name), known, most=1)}")
        return Changes(**data)

    def seed_numbers(self, default: int) -> "tuple[int, ...]":
        """The seeds, each once.

        Raises:
            ValueError: for what are none.
        """
        if self.seeds is None:
            return (default,)
        if isinstance(self.seeds, Sequence) and not isinstance(self.seeds, str):
            seeds = tuple(whole_number("seeds", seed, least=0) for seed in self.seeds)
            if not seeds or len(set(seeds)) < len(seeds):
                raise ValueError(f"seeds: expected some, each once; got {shown(self.seeds)}")
            return seeds
        return tuple(range(whole_number("seeds", self.seeds, least=1)))

    def combinations(self) -> Iterator[Combination]:
        """What comes out of grid, zip and list; one without changes if they are empty."""
        grid = [[(path, value) for value in values] for path, values in self.grid.items()]
        zipped = [{path: values[n] for path, values in self.zip.items()} for n in range(self._zip_length())]
        for chosen, together, (called, single) in itertools.product(
            itertools.product(*grid), zipped or [{}], list(self._listed()) or [(None, {})]
        ):
            table = {path: _plain(value, path) for path, value in {**dict(chosen), **together}.items()}
            yield Combination(table, {path: _plain(value, path) for path, value in single.items()}, called)

    def _zip_length(self) -> int:
        return len(next(iter(self.zip.values()), ()))

    def _listed(self) -> "Iterator[tuple[str | None, Mapping[str, Any]]]":
        if isinstance(self.list, Mapping):
            yield from self.list.items()
        else:
            yield from ((None, values) for values in self.list)


def changed(
    base: Mapping[str, Any], values: Mapping[str, Any], *, filled: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    """Plain data of a recipe with some fields changed; the whole of a part before what is in it.

    What the base leaves open stays open, so a change of the task brings that task's own defaults with it.

    Args:
        base: plain data of a recipe, which stays as it is.
        values: by path, as plain data.
        filled: plain data of the whole recipe, with what was left open; raises a `RecipeError` for none.

    Raises:
        RecipeError: for a path that leads to no field, with the nearest, and a base that is no recipe.

    Example:
        >>> from plateau_interp import Recipe
        >>> base = {"task": {"name": "moving-window-sum"}}
        >>> filled = lambda data: Recipe.from_dict(data).to_dict()
        >>> data = changed(base, {"task.k": 3, "training.optimizer.learning_rate": 0.01}, filled=filled)
        >>> data["task"], data["training"]["optimizer"]["learning_rate"]
        ({'name': 'moving-window-sum', 'k': 3}, 0.01)
    """
    data = copy.deepcopy(dict(base))
    whole = filled(data)
    for path, value in sorted(values.items(), key=lambda item: len(_parts(item[0]))):
        parts = _parts(path)
        if parts[0] in ELSEWHERE and parts[0] in whole:
            raise RecipeError(f"{path}: {ELSEWHERE[str(parts[0])]}")
        _put(data, whole, parts, value, path)
        with contextlib.suppress(RecipeError):  # some changes are possible only together: the run has the last word
            whole = filled(data)
    return data


def field_at(data: Mapping[str, Any], path: str) -> Any:
    """What plain data of a recipe has at a path; None if it leads nowhere.

    Example:
        >>> field_at({"task": {"name": "copy", "n": 4}}, "task.n")
        4
    """
    found = _at(data, _parts(path))
    return None if found is None else found[0]


def _parts(path: str) -> list[str | int]:
    words = [word for word in IN_BRACKETS.sub(r".\1", path).split(".") if word]
    return [int(word) if word.isdecimal() else word for word in words] or [path]


def _put(data: Any, whole: Any, parts: Sequence[str | int], value: Any, path: str) -> None:
    """Set a field in plain data; what lies on the way and was left open is taken from the whole recipe."""
    if _at(whole, parts) is None:
        raise RecipeError(f"{path}: unknown field; {_nearest_path(path, whole)}")
    for part in parts[:-1]:
        inner = whole[part]
        if isinstance(data, dict) and data.get(part) is None:
            # A plug-in is taken whole, since its name and its fields belong together; of options the rest stays open.
            data[part] = copy.deepcopy(inner) if isinstance(inner, list) or "name" in inner else {}
        data, whole = data[part], inner
    data[parts[-1]] = value


def _at(whole: Any, parts: Sequence[str | int]) -> tuple[Any] | None:
    """What stands at a path, in a tuple; None if it leads nowhere."""
    for part in parts:
        in_list = isinstance(whole, list) and isinstance(part, int) and part < len(whole)
        if not in_list and not (isinstance(whole, dict) and part in whole):
            return None
        whole = whole[part]
    return (whole,)


def _nearest_path(path: str, whole: Mapping[str, Any]) -> str:
    """A hint: the whole path of what was named by its end alone, or the most similar one."""
    known = [each for each in _paths(whole) if each.partition(".")[0] not in ELSEWHERE]
    ends = [each for each in known if each.endswith(f".{path}")]
    return f"did you mean {ends[0]!r}?" if ends else nearest(path, known, most=1)


def _paths(whole: Any, before: str = "") -> Iterator[str]:
    if before:
        yield before
    if isinstance(whole, dict):
        for name, inner in whole.items():
            yield from _paths(inner, f"{before}.{name}" if before else name)
    elif isinstance(whole, list):
        for index, inner in enumerate(whole):
            yield from _paths(inner, f"{before}[{index}]")


def _plain(value: Any, path: str) -> Any:
    """A value with plug-ins as plain data; other objects are refused when the recipe is read."""
    if kind := kind_of(value):
        return _without_defaults(value, encode(kind, value, path=path))
    if isinstance(value, Mapping):
        return {name: _plain(inner, f"{path}.{name}") for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, f"{path}[{index}]") for index, inner in enumerate(value)]
    return value


def _without_defaults(value: Any, data: Mapping[str, Any]) -> dict[str, Any]:
    """As a person would write it; so that a field which a later version adds does not rename folders."""
    defaults = {item.name: item.default for item in fields(value)}
    missing = object()
    return {name: plain for name, plain in data.items() if defaults.get(name, missing) != getattr(value, name, None)}


def _check_fields(table: Any, where: str) -> None:
    if not isinstance(table, Mapping):
        raise ValueError(f"{where}: expected fields and values, or {{}} for none; got {shown(table)}")
    for path in table:
        if not isinstance(path, str) or not path:
            raise ValueError(f"{where}: expected the paths of fields, such as task.k; got {shown(path)}")


def _check_values(values: Any, where: str) -> None:
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        raise ValueError(f"{where}: expected a list of values, such as [2, 3]; got {shown(values)}")
