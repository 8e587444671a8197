"""Make a run folder, or find out that it is there; refuse, before anything is written, what cannot be a run."""

import warnings
from pathlib import Path
from typing import Any

from plateau_interp.files import write_atomically
from plateau_interp.folders import check_place
from plateau_interp.interventions.attached import load_attached_state
from plateau_interp.interventions.attaching import attaching, quietly
from plateau_interp.runs.captures import captures, check_apart, check_unused
from plateau_interp.runs.checkpoints import saved_steps
from plateau_interp.runs.errors import RunError
from plateau_interp.runs.folder import LOCK, RECIPE, RunFolder, not_there, only_writer, removing_on_failure
from plateau_interp.runs.identity import goes_on_with
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.resuming import going_on
from plateau_interp.runs.schedules import warn_of_idle, warn_of_late_checkpoints
from plateau_interp.runs.starting import begin_, check_begun
from plateau_interp.training.meter import MeterWarning, unused_sequences

__all__ = ["create", "relocate", "takes"]


def create(path: Path, recipe: Recipe) -> RunFolder:
    """A new run folder, or the one that is there if it has the same recipe.

    A larger number of steps lengthens it, and another ``state_every`` holds from then on. Of a run that is made or
    lengthened a warning names what never acts; see `plateau_interp.runs.schedules`.

    Raises:
        RunError: if the folder holds another recipe's run, files that are no run's, or a damaged run that is to be
            lengthened; if it lies in another folder of ours, or a `Capture` in what the run writes itself. Nothing is
            written then.
        ValueError: as from `Recipe.rehearse`, `begin_` and `check_begun`. Nothing is written then either.
    """
    # As it will be read back: a 1 given for a float is a 1.0, and what cannot be read is refused now.
    recipe = Recipe.from_json(recipe.to_json())
    if takes(path, recipe):
        recipe.rehearse()
        warn_of_idle(recipe)
        warn_of_late_checkpoints(recipe)
        if recipe.fork_of is None and not saved_steps(path):
            begin_(recipe, recipe.build_model())
        if recipe.fork_of is None and not (path / RECIPE).exists():
            check_begun(recipe)
            if unused := unused_sequences(recipe.task, recipe.measuring.n_sequences):
                warnings.warn(unused, MeterWarning, stacklevel=3)  # `create`, `Run.create`
            check_unused(captures(recipe))
        # A fork without checkpoints is made again from its parent.
        if (path / RECIPE).exists() and (saved_steps(path) or recipe.fork_of is None):
            RunFolder(path).check_unlinked()
            start, _ = going_on(RunFolder(path))  # what cannot be lengthened keeps the recipe that it has
            if start is not None and recipe.interventions:
                with quietly(), attaching(recipe.build_model(), *recipe.interventions) as attached:
                    load_attached_state(attached, start.memory)
        ours = not_there([path / RECIPE, path / LOCK, path])
        path.mkdir(parents=True, exist_ok=True)
        with only_writer(path), removing_on_failure(ours):
            if takes(path, recipe):  # nobody was quicker
                write_atomically(path / RECIPE, recipe.to_json())
    return RunFolder(path)


def relocate(path: Path, recipe: Recipe) -> None:
    """Have the recipe in a run folder name other folders as this one does: they were moved.

    `create` refuses that: it cannot know whether a folder of the same name holds the same run. Who calls this does.

    Raises:
        RunError: if the folder holds no run, or that of another recipe, or if somebody is writing there.
    """
    recipe = Recipe.from_json(recipe.to_json())
    if RunFolder(path).recipe.to_dict() == recipe.to_dict():
        return
    with only_writer(path):
        there = RunFolder(path).recipe
        if not goes_on_with(recipe, there):
            raise RunError(f"{path} holds the run of another recipe ({_difference(there, recipe)})")
        write_atomically(path / RECIPE, recipe.to_json())


def takes(path: Path, recipe: Recipe) -> bool:
    """Whether the recipe is to be written to the folder; False if it is there.

    Raises:
        RunError: if the folder is not for this recipe.
    """
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file; a run needs a folder")
    if not (path / RECIPE).exists():
        try:
            check_place(path, "run")
        except ValueError as error:
            raise RunError(str(error)) from None
        check_apart(path, recipe)
        ours = {path / LOCK, *path.glob(f".{RECIPE}.*.tmp")}
        if path.is_dir() and {*path.iterdir()} - ours:
            raise RunError(f"{path} is not empty and holds no run")
        return True
    there = RunFolder(path).recipe
    if there.to_dict() == recipe.to_dict():
        return False
    if not (goes_on_with(recipe, there) and _in_its_folders(there) == _in_its_folders(recipe)):
        if recipe.fork_of is not None and there.fork_of is None:
            raise RunError(
                f"{path} holds a run that is no fork ({there.steps} steps); a fork needs a folder of its own"
            )
        raise RunError(f"{path} holds the run of another recipe ({_difference(there, recipe)})")
    return True


def _in_its_folders(recipe: Recipe) -> dict[str, Any]:
    """What makes a run, and those that it was forked from, as its digest has it, and where the folders lie it names.

    Here another folder of the same name may be another run.
    """
    data = recipe.to_dict()
    level: dict[str, Any] | None = data
    while level is not None:
        del level["training"]["steps"], level["state_every"]
        level = (level["fork_of"] or {}).get("parent")
    return data


def _difference(one: Recipe, other: Recipe) -> str:
    """The first field in which two recipes differ, with both values; of those that may not, if any does."""

    def flat(data: Any, path: str = "") -> dict[str, Any]:
        if not isinstance(data, dict):
            return {path: data}
        return {p: v for key, value in data.items() for p, v in flat(value, f"{path}.{key}".lstrip(".")).items()}

    theirs, ours = flat(one.to_dict()), flat(other.to_dict())
    differing = [path for path in {**theirs, **ours} if theirs.get(path) != ours.get(path)]
    path = min(differing, key=lambda path: path.endswith(("training.steps", "state_every")))
    return f"{path} is {theirs.get(path)!r} there and {ours.get(path)!r} here"
