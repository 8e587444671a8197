"""From a base recipe and changes to runs, each with its recipe and the name of its folder; and sweeps as files.

Nothing is trained here: `plateau_interp.sweeps.sweep` does that.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plateau_interp.checks import nearest, shown
from plateau_interp.codec import RecipeError, expect_fields
from plateau_interp.runs.recipe import Recipe, read_fields
from plateau_interp.sweeps.changes import Changes, Combination, changed
from plateau_interp.sweeps.naming import check_name, name_of

__all__ = ["Base", "PlannedRun", "SweepPlan", "planned", "read_sweep"]

Base = Recipe | Mapping[str, Any] | str | Path
"""A recipe; or one as plain data, in which what is left open follows the task; or the file, or the task, of one."""


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep.

    Args:
        setting: the name of what is changed.
        seed: of the run.
        values: what is changed, by the path of the field, as plain data.
        recipe: the whole of it.
    """

    setting: str
    seed: int
    values: Mapping[str, Any]
    recipe: Recipe

    @property
    def name(self) -> str:
        """Its folder, within that of the sweep."""
        return f"{self.setting}/seed-{self.seed}"


@dataclass(frozen=True)
class SweepPlan:
    """The runs of a sweep, seeds before settings: whatever is there when one stops early can be compared."""

    base: Recipe
    runs: tuple[PlannedRun, ...]


def planned(base: Base, changes: Changes | Mapping[str, Any]) -> SweepPlan:
    """The runs that come out of a base and changes.

    Args:
        base: a `Recipe`; plain data of one; the path of a recipe file; or the name of a task, for its defaults.
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
    recipe = Recipe.from_dict(data)
    if recipe.fork_of is not None:
        raise RecipeError("base: a sweep trains from step 0, and this is the recipe of a fork")
    if not isinstance(changes, Changes):
        changes = Changes.from_dict(expect_fields(changes, path="changes"))
    settings = [(_name(each), each) for each in changes.combinations()]
    runs = tuple(
        _planned(data, name, each, seed) for seed in changes.seed_numbers(recipe.seed) for name, each in settings
    )
    _check_apart(runs)
    return SweepPlan(recipe, runs)


def read_sweep(path: str | Path) -> SweepPlan:
    """The plan in a ``.yaml`` or ``.json`` file: the field ``base``, and those of `Changes`.

    ``base`` has the fields of a recipe, or is the path of a recipe file, from the folder of this one, or a task's name.

    Raises:
        ValueError: naming the file, for what it cannot be.
    """
    data = dict(read_fields(path, "sweep"))
    try:
        if "base" not in data:
            raise RecipeError(f"base: missing; {nearest('base', map(str, data), most=1)}")
        base = data.pop("base")
        if isinstance(base, str) and _is_file(base):
            base = Path(path).parent / base
        return planned(base, data)
    except ValueError as error:
        raise RecipeError(f"{path}: {error}") from None


def _plain_base(base: Any) -> dict[str, Any]:
    """Plain data, as much as was said."""
    if isinstance(base, Recipe):
        return base.to_dict()
    if isinstance(base, Path) or (isinstance(base, str) and _is_file(base)):
        return dict(read_fields(base))
    if isinstance(base, str):
        return {"task": {"name": base}}
    if not isinstance(base, Mapping):
        raise RecipeError(f"base: expected a recipe, its file or the name of a task; got {shown(base)}")
    return dict(base)


def _is_file(text: str) -> bool:
    return Path(text).suffix in (".json", ".yaml", ".yml")


def _name(combination: Combination) -> str:
    if combination.called is not None:
        check_name(combination.called)
    return name_of(combination)


def _planned(base: Mapping[str, Any], name: str, combination: Combination, seed: int) -> PlannedRun:
    try:
        recipe = Recipe.from_dict({**changed(base, combination.values), "seed": seed})
    except RecipeError as error:
        raise RecipeError(f"{name}: {error}") from None
    return PlannedRun(name, seed, combination.values, recipe)


def _check_apart(runs: tuple[PlannedRun, ...]) -> None:
    names: dict[str, PlannedRun] = {}
    recipes: dict[str, PlannedRun] = {}
    for run in runs:
        # Some file systems do not tell capitals from small letters.
        if (other := names.setdefault(run.name.lower(), run)) is not run:
            raise ValueError(f"two runs are called {other.name}: is a value there twice? A list can name its changes")
        if (other := recipes.setdefault(run.recipe.to_json(), run)) is not run:
            raise ValueError(f"{other.name} and {run.name} are one and the same recipe")
