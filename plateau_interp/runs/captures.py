"""What a `Capture` in a recipe means for runs and forks: whose its folder is, and what is not recorded again."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor

from plateau_interp.files import steps_in
from plateau_interp.folders import OF_A_RUN
from plateau_interp.interventions.attached import Attached, Intervention
from plateau_interp.interventions.capturing import Capture
from plateau_interp.interventions.timing import contents, wrapped_by
from plateau_interp.runs.errors import RunError
from plateau_interp.runs.recipe import Recipe
from plateau_interp.types import HookedModel

__all__ = ["captures", "captures_in", "check_apart", "check_captures", "check_unused", "recorded"]


def captures(recipe: Recipe) -> list[Capture]:
    """All that a recipe holds, those inside schedules too."""
    return [capture for intervention in recipe.interventions for capture in captures_in(intervention)]


def captures_in(intervention: Intervention) -> Iterator[Capture]:
    """The intervention itself, or what a wrapper such as a schedule holds, one or several."""
    if isinstance(intervention, Capture):
        yield intervention
    for inner in contents(intervention):
        yield from captures_in(inner)


def recorded(intervention: Any) -> Any:
    """An intervention, or several, with a stand-in for each `Capture`: steps trained again were recorded before."""
    if isinstance(intervention, Capture):
        return _Recorded()
    if isinstance(intervention, tuple | list):
        return type(intervention)(map(recorded, intervention))
    inner = {name: recorded(content) for name, content in wrapped_by(intervention).items()}
    return dataclasses.replace(intervention, **inner) if inner else intervention


def check_captures(recipe: Recipe, parent: Recipe) -> None:
    """Refuse a fork that would record other activations over those of the run it comes from.

    Raises:
        RunError: naming the folder.
    """
    if recipe.to_dict()["interventions"] == parent.to_dict()["interventions"]:
        return  # the same activations over again
    taken = {Path(capture.out).resolve() for older in _lineage(parent) for capture in captures(older)}
    for capture in captures(recipe):
        if Path(capture.out).resolve() in taken:
            raise RunError(f"{capture.out} holds what the parent captured; give the fork's Capture another folder")


def check_apart(path: Path, recipe: Recipe) -> None:
    """Refuse a `Capture` into what else is written by the run itself, or by another `Capture`, and a run within one.

    Args:
        path: of the run's folder, which need not be there.
        recipe: of the run.

    Raises:
        RunError: naming both folders.
    """
    run = path.resolve()
    outs = {Path(capture.out).resolve(): capture.out for capture in captures(recipe)}
    for place, out in outs.items():
        if place == run or (run in place.parents and place.relative_to(run).parts[0] in OF_A_RUN):
            raise RunError(
                f"{out} lies among what the run {path} writes itself; give its Capture another folder, as "
                f"{path / 'captured'}"
            )
        for other, name in {run: path, **outs}.items():
            if place in other.parents:
                raise RunError(f"{name} lies in {out}, where a Capture of the run writes; take another folder")


def check_unused(found: Sequence[Capture]) -> None:
    """Refuse folders that hold recordings, for a run that has made none.

    Raises:
        RunError: naming the folder.
    """
    for capture in found:
        if Path(capture.out).is_dir() and steps_in(Path(capture.out)):
            raise RunError(f"{capture.out} holds what another run captured; give this run's Capture another folder")


class _Recorded:
    """In the place of a `Capture` while steps are trained again."""

    @contextmanager
    def attach(self, model: HookedModel) -> Iterator[Attached]:
        yield _Remembering(self)


class _Remembering(Attached):
    """Hands on the memory of what it stands for."""

    _memory: Mapping[str, Tensor] = MappingProxyType({})

    def state(self) -> dict[str, Tensor]:
        return dict(self._memory)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self._memory = state


def _lineage(recipe: Recipe) -> Iterator[Recipe]:
    yield recipe
    if recipe.fork_of is not None:
        yield from _lineage(recipe.fork_of.parent)
