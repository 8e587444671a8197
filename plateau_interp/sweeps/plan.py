"""From a base recipe and changes to runs, each with its recipe and the name of its folder; and sweeps as files.

Nothing is trained here: `plateau_interp.sweeps.sweep` does that.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Generic

from plateau_interp.checks import listed, nearest, shown
from plateau_interp.codec import RecipeError, expect_fields
from plateau_interp.runs.recipe import Recipe, of_file, read_fields
from plateau_interp.series.recipe import SeriesRecipe
from plateau_interp.sweeps.changes import ELSEWHERE, Changes, Combination, changed
from plateau_interp.sweeps.kinds import Kind, PlannedRun, Recipes
from plateau_interp.sweeps.naming import check_name, name_of
from plateau_interp.sweeps.of_runs import OfRuns
from plateau_interp.sweeps.of_series import OfSeries

__all__ = ["Base", "SweepPlan", "kind_of_data", "planned", "read_sweep"]

Base = Recipe | SeriesRecipe | Mapping[str, Any] | str | Path
"""A recipe, of a run or a series; or one as plain data, in which what is left open follows the task; or its file; or
the name of a task."""
OF_RUNS, OF_SERIES = OfRuns(), OfSeries()


@dataclass(frozen=True)
class SweepPlan(Generic[Recipes]):
    """The runs of a sweep, seeds before settings: whatever is there when one stops early can be compared."""

    base: Recipes
    runs: tuple[PlannedRun[Recipes], ...]
    kind: Kind[Recipes]


def kind_of_data(data: Mapping[Any, Any]) -> Kind[Any]:
    """What plain data of a recipe are of: a series has a source.

    Example:
        >>> kind_of_data({"source": "EleutherAI/pythia-14m"}).unit, kind_of_data({"task": {"name": "copy"}}).unit
        ('checkpoint', 'step')
    """
    return OF_SERIES if "source" in data and "task" not in data else OF_RUNS


def planned(base: Base, changes: Changes | Mapping[str, Any]) -> SweepPlan[Any]:
    """The runs that come out of a base and changes.

    Args:
        base: a `Recipe` or a `SeriesRecipe`; plain data of one; the path of its file; or the name of a task, for its
            defaults.
        changes: `Changes`, or the same as plain data.

    Raises:
        ValueError: for a path that leads to no field, a recipe that cannot be (the run is named), and for two runs of
            one recipe or of one name.

    Example:
        >>> plan = planned("moving-window-sum", {"grid": {"task.k": [2, 3]}, "seeds": 2})
        >>> [run.name for run in plan.runs]
        ['k=2/seed-0', 'k=3/seed-0', 'k=2/seed-1', 'k=3/seed-1']
    """
    data = _plain_base(base)
    if {"source", "task"} <= data.keys():
        raise RecipeError("base: has a source and a task: a series has a source, a run has a task")
    kind = kind_of_data(data)
    file = _file_of(base)
    with _of_base() if file is None else of_file(file):
        recipe = kind.read(data)
    with nullcontext() if file is None else of_file(file):
        kind.check_base(recipe)
    if not isinstance(changes, Changes):
        changes = Changes.from_dict(expect_fields(changes, path="changes"))
    settings = [(_name(each), each) for each in changes.combinations()]
    runs = tuple(
        _planned(kind, data, name, each, seed) for seed in kind.seeds(changes, recipe) for name, each in settings
    )
    _check_apart(runs, kind)
    return SweepPlan(recipe, runs, kind)


def read_sweep(path: str | Path) -> SweepPlan[Any]:
    """The plan in a ``.yaml`` or ``.json`` file: the field ``base``, and those of `Changes`.

    ``base`` has the fields of a recipe, of a run or a series, or is the path of a recipe file, from the folder of this
    one, or a task's name.

    Raises:
        ValueError: naming the file, for what it cannot be.
    """
    try:
        data = dict(read_fields(path, "sweep"))
        if "base" not in data:
            got = f"; got {listed([str(name) for name in data])}" if data else ""
            raise RecipeError(f"base: missing; it has the fields of a recipe, or is the name of a task{got}")
        _check_known(data)
        base = data.pop("base")
        if isinstance(base, str) and _is_file(base):
            base = Path(path).parent / base
        return planned(base, data)
    except ValueError as error:
        told = str(error)  # of a file that is not there, it begins so already
        raise RecipeError(told if told.startswith(f"{path}: ") else f"{path}: {told}") from None


def _check_known(data: Mapping[Any, Any]) -> None:
    """Refuse fields of a sweep's file that it has not."""
    known = ["base", *(item.name for item in fields(Changes))]
    of_recipes = {item.name for recipe in (Recipe, SeriesRecipe) for item in fields(recipe)} - ELSEWHERE.keys()
    for name in data:
        if name in of_recipes:
            raise RecipeError(f"{shown(name)}: a field of the recipe: it stands under base")
        if name not in known:
            raise RecipeError(f"{shown(name)}: unknown field; {nearest(str(name), known, most=1)}")


@contextmanager
def _of_base() -> Iterator[None]:
    """Of what is wrong in plain data that are in no file of their own it is told where they stand."""
    try:
        yield
    except RecipeError as error:
        raise type(error)(f"base.{error}") from None


def _plain_base(base: Any) -> dict[str, Any]:
    """Plain data, as much as was said."""
    if isinstance(base, Recipe | SeriesRecipe):
        return base.to_dict()
    if (file := _file_of(base)) is not None:
        return dict(read_fields(file))
    if isinstance(base, str):
        return {"task": {"name": base}}
    if not isinstance(base, Mapping):
        raise RecipeError(f"base: expected a recipe, its file or the name of a task; got {shown(base)}")
    return dict(base)


def _file_of(base: Any) -> Path | str | None:
    return base if isinstance(base, Path) or (isinstance(base, str) and _is_file(base)) else None


def _is_file(text: str) -> bool:
    return Path(text).suffix in (".json", ".yaml", ".yml")


def _name(combination: Combination) -> str:
    if combination.called is not None:
        check_name(combination.called)
    return name_of(combination)


def _planned(
    kind: Kind[Recipes], base: Mapping[str, Any], name: str, combination: Combination, seed: int | None
) -> PlannedRun[Recipes]:
    seeded = {} if seed is None else {"seed": seed}
    try:
        data = changed(base, combination.values, filled=lambda data: kind.plain(kind.read(data)))
        return PlannedRun(name, seed, combination.values, kind.read({**data, **seeded}))
    except RecipeError as error:
        raise RecipeError(f"{name}: {error}") from None


def _check_apart(runs: tuple[PlannedRun[Recipes], ...], kind: Kind[Recipes]) -> None:
    names: dict[str, PlannedRun[Recipes]] = {}
    recipes: dict[str, PlannedRun[Recipes]] = {}
    for run in runs:
        # Some file systems do not tell capitals from small letters.
        if (other := names.setdefault(run.name.lower(), run)) is not run:
            raise ValueError(f"two runs are called {other.name}: is a value there twice? A list can name its changes")
        if (other := recipes.setdefault(kind.text(run.recipe), run)) is not run:
            raise ValueError(f"{other.name} and {run.name} are one and the same recipe")
