"""Sweeps of runs: each is trained, and its summary is a row of the table."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from plateau_interp.analysis.plateaus import Summary, comparable
from plateau_interp.codec import RecipeError
from plateau_interp.folders import REPORT
from plateau_interp.runs.folder import RunFolder
from plateau_interp.runs.identity import recipe_digest
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run, RunError
from plateau_interp.runs.starting import begin_, check_begun
from plateau_interp.sweeps.changes import Changes
from plateau_interp.sweeps.engines import Work
from plateau_interp.sweeps.jobs import train_run
from plateau_interp.sweeps.kinds import MOST_REPORTED, Kind, PlannedRun
from plateau_interp.sweeps.memory import memory_of
from plateau_interp.sweeps.pace import Watching, paces
from plateau_interp.views.report import write_report

__all__ = ["OfRuns", "steps_made"]

LAST_BYTES = 4096
"""Bytes at the end of a table of metrics in which its last line is looked for."""


class OfRuns(Kind[Recipe]):
    """Runs that are trained."""

    unit: ClassVar[str] = "step"
    shown: ClassVar[Mapping[str, str]] = {
        "plateau_level": "plateau level",
        "drop_step": "drop step",
        "steps_to_99": "steps to 99 %",
        "final_loss": "final loss",
        "final_accuracy": "final accuracy",
    }

    def read(self, data: Mapping[Any, Any]) -> Recipe:
        """As `Recipe.from_dict`."""
        return Recipe.from_dict(data)

    def plain(self, recipe: Recipe) -> dict[str, Any]:
        """As `Recipe.to_dict`."""
        return recipe.to_dict()

    def check_base(self, recipe: Recipe) -> None:
        """Refuse a fork."""
        if recipe.fork_of is not None:
            raise RecipeError("base: a sweep trains from step 0, and this is the recipe of a fork")

    def seeds(self, changes: Changes, base: Recipe) -> Sequence[int]:
        """That of the base, where the changes name none."""
        return changes.seed_numbers(base.seed)

    def essence(self, recipe: Recipe) -> str:
        """A digest; steps and seed do not count."""
        return recipe_digest(dataclasses.replace(recipe, seed=0))

    def shorter(self, recipe: Recipe, there: Recipe) -> bool:
        """Whether it has fewer steps."""
        return recipe.steps < there.steps

    def amount(self, recipe: Recipe) -> int:
        """Its steps."""
        return recipe.steps

    def amount_made(self, folder: Path) -> int:
        """As `steps_made`."""
        return steps_made(folder)

    def made(self, recipe: Recipe, folder: Path) -> bool:
        """Whether a run is there to its end, with its rows and what it ended with.

        Raises:
            RunError: if its folder cannot be read, or any of this is damaged or missing.
        """
        if not (folder / "recipe.json").is_file():
            return False
        there = RunFolder(folder)
        if not (there.finished and there.recipe.to_dict() == recipe.to_dict()):
            return False
        there.rows()
        there.load(there.step)
        return True

    def rehearse(self, recipe: Recipe, folder: Path) -> None:
        """As `Recipe.rehearse`, and of a new run what it begins with."""
        recipe.rehearse()
        if not (folder / "recipe.json").is_file():
            begin_(recipe, recipe.build_model())
            check_begun(recipe)

    def memory(self, recipe: Recipe) -> int:
        """As `plateau_interp.sweeps.memory.memory_of`."""
        return memory_of(recipe)

    def text(self, recipe: Recipe) -> str:
        """As `Recipe.to_json`."""
        return recipe.to_json()

    @property
    def work(self) -> Work:
        """`plateau_interp.sweeps.jobs.train_run`."""
        return train_run

    def seconds(
        self, runs: Sequence[PlannedRun[Recipe]], out: Path, *, threads: int, watching: Watching
    ) -> Sequence[float]:
        """A few steps of each kind are timed; the figures are kept in the sweep's folder."""
        return paces([run.recipe for run in runs], out, threads=threads, watching=watching)

    def row(self, recipe: Recipe, folder: Path) -> dict[str, Any]:
        """The numbers of `plateau_interp.analysis.plateaus.comparable`, and the last loss and accuracy."""
        there = Run(folder) if (folder / "recipe.json").is_file() else None
        if there is None:
            return {"steps": 0, "finished": False}
        numbers = {} if there.metrics.empty else _numbers(there.summary)
        return {"steps": there.step, "finished": there.finished, **numbers}

    def report(self, runs: Sequence[PlannedRun[Recipe]], out: Path) -> tuple[Path | None, tuple[str, ...]]:
        """The page that compares; of many runs one seed a setting, the first that there is."""
        there: list[tuple[PlannedRun[Recipe], Run]] = []
        for run in runs:
            try:
                if not (opened := Run(out / run.name)).metrics.empty:
                    there.append((run, opened))
            except RunError:  # not begun, or damaged, which the table says
                continue
        if len(there) > MOST_REPORTED:
            firsts: dict[str, tuple[PlannedRun[Recipe], Run]] = {}
            for each in there:
                firsts.setdefault(each[0].setting, each)
            there = list(firsts.values())[:MOST_REPORTED]
        page = write_report([opened for _, opened in there], out / REPORT) if there else None
        return page, tuple(run.name for run, _ in there)


def steps_made(folder: Path) -> int:
    """Steps up to the last measured one in a run folder, whoever trains it, at a glance; 0 where there is none."""
    try:
        with (folder / "metrics.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - LAST_BYTES))
            lines = file.read().split(b"\n")[:-1]
        return int(json.loads(lines[-1])["step"]) + 1
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return 0


def _numbers(summary: Summary) -> dict[str, float]:
    return {
        **{name: math.nan if value is None else float(value) for name, value in comparable(summary).items()},
        "final_loss": summary.final_loss,
        "final_accuracy": math.nan if summary.final_accuracy is None else summary.final_accuracy,
        "final_step": summary.last_step,
    }
