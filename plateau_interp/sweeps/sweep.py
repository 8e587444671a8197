"""Many runs, or series, made from one recipe: make what is missing, on an engine, and set them side by side.

Their folder is the unit: what is there is kept, what was killed goes on, and another process that sweeps the same
folder shares the work, since one process writes to a run at a time. For one run use `plateau_interp.runs.run.Run`, for
one series `plateau_interp.series.series.CheckpointSeries`.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from plateau_interp.checks import as_path, shown
from plateau_interp.files import write_table
from plateau_interp.models.fitting import check_device
from plateau_interp.runs.run import Run, RunError
from plateau_interp.series.folder import SeriesFolder
from plateau_interp.sweeps.changes import Changes
from plateau_interp.sweeps.endings import Ending
from plateau_interp.sweeps.engines import Engine, Loky, Lost, Pool, Work
from plateau_interp.sweeps.folder import SUMMARIES, SWEEP, begin, refuse_others, summaries
from plateau_interp.sweeps.jobs import Job
from plateau_interp.sweeps.kinds import Kind, PlannedRun, Recipes
from plateau_interp.sweeps.plan import Base, SweepPlan, planned

__all__ = ["WAIT", "Event", "Swept", "endings", "sweep", "train_sweep"]

WAIT = 2.0
"""Seconds before runs that another process is writing are asked for again."""


@dataclass(frozen=True)
class Event:
    """What is told while a sweep goes on.

    Args:
        run: whose run's name.
        ending: how it ended: done, failed, or busy, where another process is at it and it is waited for.
    """

    run: str
    ending: Ending


@dataclass(frozen=True)
class Swept:
    """What came out of a sweep.

    Args:
        out: its folder.
        table: as `plateau_interp.sweeps.folder.summaries` has it; also in ``summaries.parquet``.
        failed: by name of a run, its error; the same sweep again tries them again.
        report: the page that compares, if anything was measured.
        others: the names of further runs that the folder's sweep has, where a part of it was asked for; the table and
            the report are without them.
        reported: the names of the runs that the report has: of more than twelve runs one seed a setting, and of more
            settings, or series, the first twelve.
    """

    out: Path
    table: pd.DataFrame = field(repr=False)
    failed: dict[str, str]
    report: Path | None
    others: tuple[str, ...] = ()
    reported: tuple[str, ...] = ()

    def run(self, name: str) -> Run:
        """A run by its name in the table.

        Raises:
            RunError: if it is not there.
        """
        return Run(self.out / name)

    def series(self, name: str) -> SeriesFolder:
        """A series by its name in the table.

        Raises:
            SeriesError: if it is not there.
        """
        return SeriesFolder(self.out / name)


def sweep(
    base: Base,
    changes: Changes | Mapping[str, Any],
    *,
    out: str | Path,
    engine: Engine | None = None,
    device: str = "cpu",
    telling: Callable[[Event], None] | None = None,
) -> Swept:
    """Train a recipe with changes to any of its fields, each combination with each seed, and compare what comes out.

    Called again it trains what is missing alone: a new seed, say, or what was killed. A run that fails stops no other.

    Args:
        base: a `Recipe`; plain data of one; the path of a recipe file; or the name of a task, for its defaults. What a
            `Recipe` says stays; what plain data leave open follows the task. Or a
            `plateau_interp.series.recipe.SeriesRecipe`, for series that are measured; they have no seeds.
        changes: `plateau_interp.sweeps.changes.Changes`, or the same as plain data: ``grid``, ``zip``, ``list``,
            ``seeds``.
        out: the folder of the sweep.
        engine: where to train; by default `Loky`, one-thread processes on this machine.
        device: where the workers train.
        telling: is called as runs end.

    Raises:
        ValueError: for changes that lead to no recipe, before anything is written.
        RunError: if the folder holds another sweep or something else, lies in another folder of ours, or is moved or
            removed meanwhile.

    Example:
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> from plateau_interp import Recipe
        >>> changes = {"grid": {"task.k": [2, 3]}, "seeds": 3}
        >>> swept = sweep(Recipe(MovingWindowSum()), changes, out="sweeps/windows")  # doctest: +SKIP
        >>> swept.table[["run", "drop_step"]]  # doctest: +SKIP
    """
    plan, folder = planned(base, changes), as_path(out)
    return train_sweep(plan, out=folder, engine=engine, device=device, telling=telling)


def train_sweep(
    plan: SweepPlan[Any],
    *,
    out: Path,
    engine: Engine | None = None,
    device: str = "cpu",
    telling: Callable[[Event], None] | None = None,
) -> Swept:
    """Train a plan's runs; the arguments, and what is raised, are those of `sweep`."""
    if engine is None:
        engine = Loky()
    if not isinstance(engine, Engine):
        raise ValueError(f"engine must be one of `plateau list engines`, such as Loky(); got {shown(engine)}")
    if engine.on_this_machine:
        check_device(device)
    refuse_others(plan, out)
    failed: dict[str, str] = {}
    left, kind = _left(plan, out, failed), plan.kind
    if not left:
        others = begin(plan, out)
    else:
        place = out.resolve()
        jobs = {run.name: _job(kind, run, place, device=device, threads=engine.threads) for run in left}
        with engine.opened(memory=max(kind.memory(run.recipe) for run in left)) as pool:
            others = begin(plan, out)  # now: where there are no workers nothing is written
            for name, ending in endings(pool, kind.work, jobs):
                if ending.how == "failed":
                    failed[name] = ending.reason
                if telling is not None:
                    telling(Event(name, ending))
    if not (out / SWEEP).is_file():
        raise RunError(f"{out} is gone: it was moved or removed while its runs were made; sweep where it is now")
    table = summaries(plan, out, failed)
    write_table(out / SUMMARIES, table)
    report, reported = kind.report(plan.runs, out)
    return Swept(out, table, failed, report, others, reported)


def _left(plan: SweepPlan[Recipes], out: Path, failed: dict[str, str]) -> list[PlannedRun[Recipes]]:
    left = []
    for run in plan.runs:
        try:
            if not plan.kind.made(run.recipe, out / run.name):
                left.append(run)
        except ValueError as error:
            failed[run.name] = str(error)
    return left


def _job(kind: Kind[Recipes], run: PlannedRun[Recipes], out: Path, *, device: str, threads: int) -> Job:
    return Job(str(out / run.name), kind.text(run.recipe), str(out / SWEEP), device=device, threads=threads)


def endings(pool: Pool, function: Work, jobs: Mapping[str, Any]) -> Iterator[tuple[str, Ending]]:
    """Each job's ending, as they end; those that another process is at are told as busy once, and waited for."""
    left, told = dict(jobs), set[str]()
    while left:
        names = list(left)
        for index, result in pool.results(function, list(left.values())):
            ending = Ending("failed", result.reason) if isinstance(result, Lost) else result
            name = names[index]
            if ending.how == "busy":
                if name not in told:
                    told.add(name)
                    yield name, ending
                continue
            del left[name]
            yield name, ending
        if left:
            time.sleep(WAIT)
