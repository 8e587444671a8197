"""Whether two runs of a reproduction are one, by what was written down of them: `is_same_run`, `other_place`.

And whether a setting asks of the run that it leaves for what a fork cannot have: `not_as_left`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from plateau_interp.codec import RecipeError
from plateau_interp.runs.identity import recipe_digest
from plateau_interp.runs.recipe import Recipe

__all__ = ["is_same_run", "not_as_left", "other_place"]


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


def not_as_left(recipe: Recipe, parent: Recipe) -> str | None:
    """The first field in which a fork's recipe is to differ from its parent's and cannot; None if there is none.

    Interventions and the number of steps are its own. How often it is kept, its parent says; but checkpoints that it
    asks for by their steps are compared.

    Example:
        >>> from dataclasses import replace
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> parent = Recipe(MovingWindowSum(), checkpoint_every=20)
        >>> not_as_left(Recipe(MovingWindowSum()), parent), not_as_left(Recipe(MovingWindowSum(p=5)), parent)
        (None, 'task')
    """
    training = dataclasses.replace(parent.training, steps=recipe.steps)
    ours, theirs = recipe.to_dict(), dataclasses.replace(parent, training=training).to_dict()
    own = {"interventions", "fork_of", "init_from", "checkpoint_every", "state_every"}
    own |= set() if recipe.checkpoint_at else {"checkpoint_at"}
    return next((name for name in ours if name not in own and ours[name] != theirs.get(name)), None)
