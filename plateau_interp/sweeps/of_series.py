"""Sweeps of series: each is measured checkpoint after checkpoint, and where it peaks and ends is a row of the table.

What is downloaded stays in the hub's cache: several series of a sweep want the same checkpoints at the same time.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from plateau_interp.folders import REPORT
from plateau_interp.models.fitting import check_device
from plateau_interp.series.folder import BusySeries, SeriesError, SeriesFolder
from plateau_interp.series.recipe import SeriesRecipe
from plateau_interp.sweeps.changes import Changes
from plateau_interp.sweeps.endings import Ending, Stopped, never
from plateau_interp.sweeps.engines import Work
from plateau_interp.sweeps.jobs import Job, check_same_disk, ending_of
from plateau_interp.sweeps.kinds import MOST_REPORTED, Kind, PlannedRun
from plateau_interp.sweeps.memory import memory_of_series
from plateau_interp.sweeps.pace import Watching
from plateau_interp.views.series_figures import drawn_rows
from plateau_interp.views.series_report import NO_MEASURES, failures_told, write_series_report

__all__ = ["OfSeries", "measure_series", "summary_of_series"]


def measure_series(job: Job, stopped: Stopped = never) -> Ending:
    """Measure a series, or go on with it, to its end; a checkpoint that is not to be had is a failure of it."""

    def measure() -> Ending:
        check_same_disk(Path(job.seen_from))
        check_device(job.device)
        recipe = SeriesRecipe.from_dict(json.loads(job.recipe))
        failed: list[int] = []
        try:
            for record in recipe.measure(job.path, device=job.device, keep=True):
                if record.error:
                    failed.append(record.step)
                if stopped():
                    return Ending("stopped")
        except BusySeries as error:
            return Ending("busy", str(error))
        table = SeriesFolder(job.path).metrics()  # with earlier failures of checkpoints that nobody asks for now
        missing = failures_told(table[table["step"].isin(failed)])
        return Ending("failed", " ".join(missing)) if missing else Ending("done")

    return ending_of(measure, threads=job.threads)


def summary_of_series(table: pd.DataFrame) -> dict[str, float]:
    """The numbers of a series that are set beside another's; checkpoints with another's weights are left out.

    Args:
        table: as `plateau_interp.series.folder.SeriesFolder.metrics` has it.

    Returns:
        ``peak_cosine`` and ``peak_cosine_step``, the same of ``repetition``, and each measure at the last checkpoint
        that has it, as ``final_cosine``.

    Example:
        >>> rows = {"step": [0, 1, 2], "duplicate": False, "cosine": [0.1, 0.9, 0.4]}
        >>> summary_of_series(pd.DataFrame(rows))
        {'peak_cosine': 0.9, 'peak_cosine_step': 1.0, 'final_cosine': 0.4}
    """
    numbers = {}
    for name in ("cosine", "repetition"):
        if len(rows := drawn_rows(table, name)):
            peak = int(rows[name].argmax())
            numbers[f"peak_{name}"] = float(rows[name].iloc[peak])
            numbers[f"peak_{name}_step"] = float(rows["step"].iloc[peak])
    for name in map(str, table):
        if name not in NO_MEASURES and len(rows := drawn_rows(table, name)):
            numbers[f"final_{name}"] = float(rows[name].iloc[-1])
    return numbers


class OfSeries(Kind[SeriesRecipe]):
    """Series that are measured."""

    unit: ClassVar[str] = "checkpoint"
    shown: ClassVar[Mapping[str, str]] = {
        "peak_cosine": "peak cosine",
        "peak_cosine_step": "at step",
        "final_cosine": "final cosine",
        "final_repetition": "final repetition",
    }

    def read(self, data: Mapping[Any, Any]) -> SeriesRecipe:
        """As `SeriesRecipe.from_dict`."""
        return SeriesRecipe.from_dict(data)

    def plain(self, recipe: SeriesRecipe) -> dict[str, Any]:
        """As `SeriesRecipe.to_dict`."""
        return recipe.to_dict()

    def check_base(self, recipe: SeriesRecipe) -> None:
        """Any will do."""

    def seeds(self, changes: Changes, base: SeriesRecipe) -> Sequence[None]:
        """None, and it is a mistake to ask for some."""
        if changes.seeds is not None:
            raise ValueError("seeds: a series draws nothing, so it has none: leave them out")
        return (None,)

    def essence(self, recipe: SeriesRecipe) -> str:
        """All but which checkpoints."""
        return replace(recipe, revisions="all").to_json()

    def shorter(self, recipe: SeriesRecipe, there: SeriesRecipe) -> bool:
        """Never: a checkpoint's numbers do not hang on which others are measured."""
        return False

    def amount(self, recipe: SeriesRecipe) -> int:
        """Its checkpoints; one where nobody can say which there are, as the series itself will tell."""
        try:
            return len(recipe.series.revisions)
        except ValueError:
            return 1

    def amount_made(self, folder: Path) -> int:
        """The checkpoints that are measured."""
        try:
            return len(_measured(SeriesFolder(folder)))
        except SeriesError:
            return 0

    def made(self, recipe: SeriesRecipe, folder: Path) -> bool:
        """Whether all its checkpoints are measured.

        Raises:
            SeriesError: if the folder holds another series, or cannot be read.
        """
        return (folder / "series.json").is_file() and not recipe.located().left(folder)

    def rehearse(self, recipe: SeriesRecipe, folder: Path) -> None:
        """Nothing: what a model of the hub can do is known once it is loaded."""

    def memory(self, recipe: SeriesRecipe) -> int:
        """As `plateau_interp.sweeps.memory.memory_of_series`."""
        return memory_of_series(recipe)

    def text(self, recipe: SeriesRecipe) -> str:
        """With whole paths, as JSON."""
        return recipe.located().to_json()

    @property
    def work(self) -> Work:
        """`measure_series`."""
        return measure_series

    def seconds(
        self, runs: Sequence[PlannedRun[SeriesRecipe]], out: Path, *, threads: int, watching: Watching
    ) -> Sequence[float | None]:
        """The mean of what checkpoints of the same source took in this folder; None before there are any."""
        taken: dict[str, list[float]] = {}
        for file in out.glob("*/series.json"):
            try:
                folder = SeriesFolder(file.parent)
                seconds = [record.seconds for record in folder.records() if not record.error]
            except SeriesError:  # damaged, which the sweep says
                continue
            taken.setdefault(str(folder.settings["source"]), []).extend(seconds)
        known = {source: statistics.fmean(seconds) for source, seconds in taken.items() if seconds}
        return [known.get(run.recipe.located().source) for run in runs]

    def row(self, recipe: SeriesRecipe, folder: Path) -> dict[str, Any]:
        """The numbers of `summary_of_series`."""
        if not (folder / "series.json").is_file():
            return {"checkpoints": 0, "finished": False}
        there = SeriesFolder(folder)
        numbers = summary_of_series(there.metrics())
        return {"checkpoints": len(_measured(there)), "finished": self.made(recipe, folder), **numbers}

    def report(self, runs: Sequence[PlannedRun[SeriesRecipe]], out: Path) -> tuple[Path | None, tuple[str, ...]]:
        """The page that sets the series side by side; of many the first."""
        there: list[tuple[str, SeriesFolder]] = []
        for run in runs:
            try:
                folder = SeriesFolder(out / run.name)
                if len(drawn_rows(folder.metrics(), "cosine")):
                    there.append((run.name, folder))
            except SeriesError:  # not begun, or damaged, which the table says
                continue
        there = there[:MOST_REPORTED]
        page = write_series_report([folder for _, folder in there], out / REPORT) if there else None
        return page, tuple(name for name, _ in there)


def _measured(folder: SeriesFolder) -> set[int]:
    return {record.step for record in folder.records() if not record.error}
