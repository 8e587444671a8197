"""Whether two runs of a reproduction are one, by what was written down of them: `is_same_run`."""

from collections.abc import Mapping
from typing import Any

from plateau_interp.codec import RecipeError
from plateau_interp.runs.identity import recipe_digest
from plateau_interp.runs.recipe import Recipe

__all__ = ["is_same_run"]


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
