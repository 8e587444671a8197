"""Many runs made from one recipe: train what is missing, on an engine, and set the runs side by side.

The run folder is the unit: what is there is kept, what was killed goes on, and another process that sweeps the same
folder shares the work, since one process writes to a run at a time. For one run use `plateau_interp.runs.run.Run`.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from plateau_interp.checks import as_path, shown
from plateau_interp.files import write_table
from plateau_interp.models.fitting import check_device
from plateau_interp.runs.run import Run, RunError
from plateau_interp.sweeps.changes import Changes
from plateau_interp.sweeps.endings import Ending
from plateau_interp.sweeps.engines import Engine, Loky, Lost, Pool, Work
from plateau_interp.sweeps.folder import REPORT, SUMMARIES, SWEEP, begin, made, summaries
from plateau_interp.sweeps.jobs import TrainingJob, train_run
from plateau_interp.sweeps.memory import most_memory
from plateau_interp.sweeps.plan import Base, PlannedRun, SweepPlan, planned
from plateau_interp.views.report import write_report

__all__ = ["Event", "Swept", "endings", "sweep", "train_sweep"]

WAIT = 2.0
"""Seconds before runs that another process is writing are asked for again."""
MOST_REPORTED = 12
"""Runs in one report: of more, one seed a setting, and the first of them."""


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
    """

    out: Path
    table: pd.DataFrame = field(repr=False)
    failed: dict[str, str]
    report: Path | None

    def run(self, name: str) -> Run:
        """A run by its name in the table.

        Raises:
            RunError: if it is not there.
        """
        return Run(self.out / name)


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
            `Recipe` says stays; what plain data leave open follows the task.
        changes: `plateau_interp.sweeps.changes.Changes`, or the same as plain data: ``grid``, ``zip``, ``list``,
            ``seeds``.
        out: the folder of the sweep.
        engine: where to train; by default `Loky`, one-thread processes on this machine.
        device: where the workers train.
        telling: is called as runs end.

    Raises:
        ValueError: for changes that lead to no recipe, before anything is written.
        RunError: if the folder holds another sweep or something else.

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
    plan: SweepPlan,
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
    begin(plan, out)
    failed: dict[str, str] = {}
    left = _left(plan.runs, out, failed)
    if left:
        place = out.resolve()
        jobs = {run.name: _job(run, place, device=device, threads=engine.threads) for run in left}
        with engine.opened(memory=most_memory(run.recipe for run in left)) as pool:
            for name, ending in endings(pool, train_run, jobs):
                if ending.how == "failed":
                    failed[name] = ending.reason
                if telling is not None:
                    telling(Event(name, ending))
    table = summaries(plan, out, failed)
    write_table(out / SUMMARIES, table)
    return Swept(out, table, failed, _report(plan.runs, out))


def _left(runs: Sequence[PlannedRun], out: Path, failed: dict[str, str]) -> list[PlannedRun]:
    left = []
    for run in runs:
        try:
            if not made(run, out):
                left.append(run)
        except RunError as error:
            failed[run.name] = str(error)
    return left


def _job(run: PlannedRun, out: Path, *, device: str, threads: int) -> TrainingJob:
    return TrainingJob(str(out / run.name), run.recipe.to_json(), str(out / SWEEP), device=device, threads=threads)


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


def _report(runs: Sequence[PlannedRun], out: Path) -> Path | None:
    """The page that compares; of many runs one seed a setting."""
    there = []
    for run in runs:
        try:
            if not (opened := Run(out / run.name)).metrics.empty:
                there.append((run.seed, opened))
        except RunError:  # not begun, or damaged, which the table says
            continue
    if len(there) > MOST_REPORTED:
        there = [each for each in there if each[0] == there[0][0]][:MOST_REPORTED]
    return write_report([run for _, run in there], out / REPORT) if there else None
