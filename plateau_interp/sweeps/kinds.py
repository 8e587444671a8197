"""What a sweep is made of: runs that are trained, or series that are measured; all that differs between the two.

A recipe says what to do with a folder, and a `Kind` how: `plateau_interp.sweeps.of_runs`,
`plateau_interp.sweeps.of_series`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from plateau_interp.sweeps.changes import Changes
from plateau_interp.sweeps.engines import Work
from plateau_interp.sweeps.pace import Watching

__all__ = ["MOST_REPORTED", "Kind", "PlannedRun", "Recipes"]

MOST_REPORTED = 12
"""Runs in one report: of more, one seed a setting, and of more settings the first."""

Recipes = TypeVar("Recipes")
"""What a kind's recipes are."""


@dataclass(frozen=True)
class PlannedRun(Generic[Recipes]):
    """One run, or series, of a sweep.

    Args:
        setting: the name of what is changed.
        seed: of the run; None for what has none.
        values: what is changed, by the path of the field, as plain data.
        recipe: the whole of it.
    """

    setting: str
    seed: int | None
    values: Mapping[str, Any]
    recipe: Recipes

    @property
    def name(self) -> str:
        """Its folder, within that of the sweep."""
        return self.setting if self.seed is None else f"{self.setting}/seed-{self.seed}"


class Kind(ABC, Generic[Recipes]):
    """How recipes of one kind are read, made in folders, counted and told."""

    unit: ClassVar[str]
    """What there are many of in each: steps, checkpoints."""
    shown: ClassVar[Mapping[str, str]]
    """Columns of the table that are printed, with their titles."""

    @abstractmethod
    def read(self, data: Mapping[Any, Any]) -> Recipes:
        """The recipe in plain data.

        Raises:
            RecipeError: naming the path of the field that does not fit.
        """

    @abstractmethod
    def plain(self, recipe: Recipes) -> dict[str, Any]:
        """Plain data of a recipe, in which nothing is left open."""

    @abstractmethod
    def check_base(self, recipe: Recipes) -> None:
        """Refuse a recipe that no sweep can begin with.

        Raises:
            RecipeError: saying why.
        """

    @abstractmethod
    def seeds(self, changes: Changes, base: Recipes) -> Sequence[int | None]:
        """The seeds that the changes ask for; None alone for what has none.

        Raises:
            ValueError: if they ask for some where there are none.
        """

    @abstractmethod
    def essence(self, recipe: Recipes) -> str:
        """A text that is the same for recipes that differ in their seed, or in how far they go."""

    @abstractmethod
    def shorter(self, recipe: Recipes, there: Recipes) -> bool:
        """Whether it ends before another of the same essence does, so that what is there goes too far for it."""

    @abstractmethod
    def amount(self, recipe: Recipes) -> int:
        """How many units it has when it is done."""

    @abstractmethod
    def amount_made(self, folder: Path) -> int:
        """How many of them there are in a folder, at a glance, whoever makes them."""

    @abstractmethod
    def made(self, recipe: Recipes, folder: Path) -> bool:
        """Whether it is there to its end.

        Raises:
            ValueError: for a folder that cannot be read.
        """

    @abstractmethod
    def rehearse(self, recipe: Recipes, folder: Path) -> None:
        """Try in small whether it can be made, as far as that is known beforehand; nothing is written.

        Raises:
            ValueError: saying why it cannot.
        """

    @abstractmethod
    def memory(self, recipe: Recipes) -> int:
        """Bytes that a worker needs for it, roughly."""

    @abstractmethod
    def text(self, recipe: Recipes) -> str:
        """As a `plateau_interp.sweeps.jobs.Job` has it."""

    @property
    @abstractmethod
    def work(self) -> Work:
        """The function of a worker, which makes one, or goes on with it, to its end."""

    @abstractmethod
    def seconds(
        self, runs: Sequence[PlannedRun[Recipes]], out: Path, *, threads: int, watching: Watching
    ) -> Sequence[float | None]:
        """What a unit of each takes; None where nobody knows."""

    @abstractmethod
    def row(self, recipe: Recipes, folder: Path) -> dict[str, Any]:
        """What the table has of it: the units made, whether it is ``finished``, and the numbers of its summary.

        Raises:
            ValueError: for a folder that cannot be read.
        """

    @abstractmethod
    def report(self, runs: Sequence[PlannedRun[Recipes]], out: Path) -> tuple[Path | None, tuple[str, ...]]:
        """Write the page that compares, if there is anything to compare; with the names of the runs that it has."""
