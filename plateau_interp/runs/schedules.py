"""Schedules in a recipe whose time never comes: said when the run is made, since nothing would be seen of them later.

A warning and no error, because a run may be lengthened. What waits for metrics, as `plateau_interp.hooks.When` does,
has its time when it comes, and is not meant. So are checkpoints asked for beyond the last step.
"""

import warnings
from collections.abc import Iterator
from typing import Any

from plateau_interp.interventions.attaching import InterventionWarning
from plateau_interp.interventions.plan import brief
from plateau_interp.interventions.timing import never_acting
from plateau_interp.runs.recipe import Recipe

__all__ = ["CheckpointWarning", "idle", "warn_of_idle", "warn_of_late_checkpoints"]

TO_WHO_MAKES_IT = 4
"""From a warning to who makes a run: `warn_of_idle`, `create`, `Run.create`."""


class CheckpointWarning(UserWarning):
    """A checkpoint that was asked for is never made."""


def warn_of_idle(recipe: Recipe) -> None:
    """A warning for each schedule that can never act within the run's steps, or within those of the fork."""
    for schedule, steps in idle(recipe):
        whose = "the run" if recipe.fork_of is None else "the fork"
        warnings.warn(
            f"{brief(schedule)} never acts: {whose} makes steps {steps.start} to {steps.stop - 1}",
            InterventionWarning,
            stacklevel=TO_WHO_MAKES_IT,
        )


def warn_of_late_checkpoints(recipe: Recipe) -> None:
    """A warning if a run ends before some of the steps whose checkpoints it is asked to keep; a fork inherits them."""
    late = [step for step in recipe.checkpoint_at if step > recipe.steps]
    if late and recipe.fork_of is None:
        warnings.warn(
            f"checkpoint_at {', '.join(map(str, late))} comes to nothing: the run ends at step {recipe.steps}",
            CheckpointWarning,
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
        if (schedule := never_acting(intervention, steps)) is not None:
            yield schedule, steps


def _first_step(recipe: Recipe, plain: Any) -> int:
    """From where on an intervention is there: the step of the fork that brought it in, else 0."""
    fork = recipe.fork_of
    if fork is None:
        return 0
    return _first_step(fork.parent, plain) if plain in fork.parent.to_dict()["interventions"] else fork.step
