"""Schedules in a recipe whose time never comes: said when the run is made, since nothing would be seen of them later.

A warning and no error, because a run may be lengthened. What waits for metrics, as `plateau_interp.hooks.When` does,
has its time when it comes, and is not meant.
"""

import warnings
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

from plateau_interp.interventions.attaching import InterventionWarning
from plateau_interp.interventions.plan import brief
from plateau_interp.runs.captures import contents
from plateau_interp.runs.recipe import Recipe

__all__ = ["Scheduled", "idle", "warn_of_idle"]

TO_WHO_MAKES_IT = 4
"""From a warning to who makes a run: `warn_of_idle`, `create`, `Run.create`."""


@runtime_checkable
class Scheduled(Protocol):
    """A wrapper that says beforehand when what it wraps acts, as `plateau_interp.hooks.During` does."""

    def strength(self, step: int) -> float:
        """How much it acts at a step; 0 is not at all."""
        ...


def warn_of_idle(recipe: Recipe) -> None:
    """A warning for each schedule that can never act within the run's steps, or within those of the fork."""
    for schedule, steps in idle(recipe):
        whose = "the run" if recipe.fork_of is None else "the fork"
        warnings.warn(
            f"{brief(schedule)} never acts: {whose} makes steps {steps.start} to {steps.stop - 1}",
            InterventionWarning,
            stacklevel=TO_WHO_MAKES_IT,
        )


def idle(recipe: Recipe) -> Iterator[tuple[Any, range]]:
    """The schedules that can never act, each with the steps at which it could have.

    What a fork has kept from its parent had the parent's steps, too.

    Example:
        >>> from plateau_interp.hooks import BiasAttention, During
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> late = During(BiasAttention(factor=10.0), start=400)
        >>> [steps for _, steps in idle(Recipe(MovingWindowSum(), interventions=[late]))]
        [range(0, 400)]
    """
    for intervention, plain in zip(recipe.interventions, recipe.to_dict()["interventions"], strict=True):
        steps = range(_first_step(recipe, plain), recipe.steps)
        for schedules in _schedules_around(intervention):
            if steps and not any(all(each.strength(step) for each in schedules) for step in steps):
                yield schedules[0], steps
                break


def _first_step(recipe: Recipe, plain: Any) -> int:
    """From where on an intervention is there: the step of the fork that brought it in, else 0."""
    fork = recipe.fork_of
    if fork is None:
        return 0
    return _first_step(fork.parent, plain) if plain in fork.parent.to_dict()["interventions"] else fork.step


def _schedules_around(intervention: Any, outer: tuple[Scheduled, ...] = ()) -> Iterator[tuple[Scheduled, ...]]:
    """Of each intervention that wraps no other the schedules around it, the outermost first, if there are any."""
    around = (*outer, intervention) if isinstance(intervention, Scheduled) else outer
    inner = contents(intervention)
    for each in inner:
        yield from _schedules_around(each, around)
    if around and not inner:
        yield around
