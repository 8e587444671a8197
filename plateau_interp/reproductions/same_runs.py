"""Whether two runs of a reproduction are one, by what was written down of them: `is_same_run`, `other_place`."""

from collections.abc import Mapping
from typing import Any

from plateau_interp.codec import RecipeError
from plateau_interp.runs.identity import recipe_digest
from plateau_interp.runs.recipe import Recipe

__all__ = ["is_same_run", "other_place"]


def is_same_run(one: Any, other: Any) -> bool:
    """Whether two identities are of one run, whichever version of the package wrote them down.

    They are those of `plateau_interp.reproductions.settings.Setting.identity` and of the other kinds of settings.
    Recipes are read and compared by their digests: a field that came later has its default in those that lack it. So
    are the arguments of a study: what was written down before they were counts as measured with those of now.
    """
    if one == other:  # as a rule: reading recipes is slow
        return True
    return _as_now(one) == _as_now(other) and _have_equal_arguments(one, other)


def _have_equal_arguments(one: Any, other: Any) -> bool:
    given = [each.get("arguments") if isinstance(each, Mapping) else None for each in (one, other)]
    return None in given or given[0] == given[1]


def _as_now(identity: Any) -> Any:
    try:
        recipe = Recipe.from_dict(identity["recipe"])
        taken = identity["taken"]
    except (KeyError, TypeError, RecipeError):
        return identity  # no identity, or one that this version cannot read: equal to its own copy alone
    return {"recipe": recipe_digest(recipe), "steps": recipe.steps, "taken": _as_now(taken)}


def other_place(there: Any, ours: Any) -> tuple[str, str] | None:
    """The first text in which the plain data of two recipes of one digest differ: a place, which digests leave out.

    Example:
        >>> other_place({"run": "one/donor@4", "steps": 6}, {"run": "two/donor@4", "steps": 8})
        ('one/donor@4', 'two/donor@4')
    """
    if isinstance(there, Mapping) and isinstance(ours, Mapping):
        pairs = [(there[key], ours[key]) for key in there if key in ours]
    elif isinstance(there, list | tuple) and isinstance(ours, list | tuple):
        pairs = list(zip(there, ours, strict=False))
    else:
        return (there, ours) if isinstance(there, str) and isinstance(ours, str) and there != ours else None
    return next((found for pair in pairs if (found := other_place(*pair)) is not None), None)
