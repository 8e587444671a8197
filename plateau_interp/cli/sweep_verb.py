"""``plateau sweep``: many runs from one recipe, side by side, with one table and one report."""

import dataclasses
import json
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from plateau_interp.cli.console import complain, print_json, print_table, print_text, table_rows, watched_timing
from plateau_interp.cli.parsing import Device, Json, UsageError
from plateau_interp.cli.watching import watching_runs

if TYPE_CHECKING:
    import pandas as pd

    from plateau_interp.sweeps.cost import SweepCost
    from plateau_interp.sweeps.endings import Ending
    from plateau_interp.sweeps.engines import Engine
    from plateau_interp.sweeps.sweep import Event, Swept

__all__ = [
    "BUSY",
    "EngineWord",
    "Jobs",
    "Queue",
    "Scheduler",
    "SweepVerb",
    "chosen_engine",
    "duration",
    "ending_in_words",
]

EngineWord = Annotated[
    str | None,
    arg(metavar="NAME[:FIELD=VALUE,...]", help="One of `plateau list engines`, as in `loky:workers=4,threads=2`."),
]
Jobs = Annotated[int | None, arg(metavar="N", help="Runs side by side: the engine's workers.")]
Scheduler = Annotated[str | None, arg(metavar="ADDRESS", help="Of the dask scheduler: tcp://HOST:8786.")]
Queue = Annotated[str | None, arg(metavar="NAME", help="SLURM's queue.")]


@dataclass(frozen=True)
class SweepVerb:
    """Train a recipe with changes to any of its fields, runs side by side, and compare what comes out.

    The file names a base recipe and what is changed: grid, zip, list, seeds. The same command trains what is missing
    alone: after Ctrl-C, a kill, a failure, or with a new seed or value in the file. A base with a source instead of a
    task is a series, as of `plateau series`, and measured.

    For example:
      plateau sweep windows.yaml --out sweeps/windows --dry-run
      plateau sweep windows.yaml --out sweeps/windows
      plateau sweep windows.yaml --out sweeps/windows --jobs 4
      plateau sweep windows.yaml --out sweeps/windows --engine dask --scheduler tcp://10.0.0.1:8786
      plateau sweep windows.yaml --out sweeps/windows --engine slurm --queue short --jobs 16
    """

    file: Annotated[Positional[Path], arg(metavar="SWEEP.yaml", help="What to train, as YAML or JSON.")]
    out: Annotated[Path, arg(metavar="DIR", help="The folder of the sweep.")]
    dry_run: Annotated[
        bool,
        arg(help="Try and time a few steps: tell what is left and what it would cost."),
    ] = False
    engine: EngineWord = None
    jobs: Jobs = None
    scheduler: Scheduler = None
    queue: Queue = None
    device: Device = "cpu"
    json: Json = False

    def run(self) -> None:
        """Train what is left, then tell what came out."""
        from plateau_interp.runs.run import RunError
        from plateau_interp.sweeps.cost import cost_of, left_of
        from plateau_interp.sweeps.plan import read_sweep
        from plateau_interp.sweeps.sweep import train_sweep

        plan = read_sweep(self.file)
        engine = chosen_engine(self.engine, jobs=self.jobs, scheduler=self.scheduler, queue=self.queue)
        if self.dry_run:
            cost = cost_of(plan, self.out, engine, watching=watched_timing)
            self._tell_cost(cost)
            if cost.refused:
                why = "; ".join(
                    f"{name} cannot be trained, as tried on this machine: {reason}"
                    for name, reason in cost.refused.items()
                )
                raise RunError(why)
            return
        kind = plan.kind
        amounts = {self.out / run.name: kind.amount(run.recipe) for run in left_of(plan, self.out)}
        told: set[str] = set()
        with watching_runs(self.out.name, amounts, unit=kind.unit, made=kind.amount_made) as show:
            telling = _teller(self.out, show, told)
            swept = train_sweep(plan, out=self.out, engine=engine, device=self.device, telling=telling)
        self._tell(swept, kind.shown)
        if swept.failed:
            names = [name if name in told else f"{name}: {reason}" for name, reason in swept.failed.items()]
            above = "; why is told above and stands in the table" if told & swept.failed.keys() else ""
            raise RunError(f"{len(swept.failed)} of {len(plan.runs)} runs failed: {'; '.join(names)}{above}")

    def _tell_cost(self, cost: "SweepCost") -> None:
        if self.json:
            print_json({**dataclasses.asdict(cost), "total_seconds": cost.total, "wall_seconds": cost.wall})
            return
        done = f"{cost.done} of {cost.runs} runs done"
        if not cost.seconds:
            print_text(f"{done}; {'the others cannot be trained' if cost.refused else NOTHING_LEFT}")
            return
        rows = [[name, "not known" if each is None else duration(each)] for name, each in cost.seconds.items()]
        print_table(["run left", "time, about"], rows)
        if cost.total is None:
            print_text(f"{done}; how long the others take is known once a checkpoint of their model is measured")
            return
        side_by_side = "" if cost.wall is None else f"; {duration(cost.wall)} on {cost.workers} workers"
        others = f"the others, but {cost.n_refused} that cannot be trained," if cost.refused else "the others"
        print_text(f"{done}; {others} take about {duration(cost.total)}{side_by_side}")

    def _tell(self, swept: "Swept", shown: Mapping[str, str]) -> None:
        report = None if swept.report is None else str(swept.report)
        if self.json:
            rows = table_rows(swept.table)
            told = {"others": swept.others, "report": report, "reported": swept.reported}
            print_json({"sweep": str(swept.out), "runs": rows, **told})
            return
        print_table(["setting", "runs done", *shown.values()], _by_setting(swept.table, list(shown)))
        print_text(f"Table: {swept.out / 'summaries.parquet'}")
        if report is not None:
            print_text(f"Report: {report}{_left_out(swept)}")
        if swept.others:
            print_text(
                f"The table and the report have these {len(swept.table)} runs alone: the folder's sweep has "
                f"{len(swept.others)} more, such as {swept.others[0]}"
            )


NOTHING_LEFT = "there is only the table and the report to write"
BUSY = "another process is at it; it is waited for"
COUNTS = ("drop_step", "steps_to_99", "peak_cosine_step")
"""Columns of whole numbers."""


def chosen_engine(word: str | None, *, jobs: int | None, scheduler: str | None, queue: str | None) -> "Engine":
    """The engine that the options name; loky, if none does.

    Raises:
        ValueError: for an engine that there is not, and an option that it does not take.
    """
    from plateau_interp.cli.words import read_plugin
    from plateau_interp.plugins import plugin

    if jobs is not None and jobs < 1:
        raise UsageError(f"--jobs must be at least 1; got {jobs}")
    name, _, fields = (word or "loky").partition(":")
    known = {item.name for item in dataclasses.fields(plugin("engines", name))}
    options = {"workers": ("--jobs", jobs), "scheduler": ("--scheduler", scheduler), "queue": ("--queue", queue)}
    for field, (option, value) in options.items():
        if value is None:
            continue
        if field not in known:
            raise UsageError(f"the engine {name} takes no {option}: it has {', '.join(sorted(known))}")
        if re.search(rf"(^|,) *{field} *=", fields):
            raise UsageError(f"{option} is the {field}= of --engine: give one of the two")
        fields = ",".join([*filter(None, [fields]), f"{field}={json.dumps(value)}"])
    engine: Engine = read_plugin("engines", f"{name}:{fields}" if fields else name)
    return engine


def duration(seconds: float) -> str:
    """A length of time for people.

    Example:
        >>> duration(30), duration(600), duration(9000)
        ('30 s', '10 min', '2.5 h')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"


def _teller(out: Path, show: Callable[[Path, str], None], told: set[str]) -> Callable[["Event"], None]:
    """Tells how runs end, and adds the names of those to a set."""
    warned: set[str] = set()

    def tell(event: "Event") -> None:
        if event.ending.how == "busy":
            complain(f"{event.run}: {BUSY}")
            return
        told.add(event.run)
        show(out / event.run, ending_in_words(event.run, event.ending))
        for warning in event.ending.warned:
            if warning not in warned:
                warned.add(warning)
                complain(f"warning: {event.run}: {warning}")

    return tell


def ending_in_words(run: str, ending: "Ending") -> str:
    """A line about a run that has ended."""
    return f"{run}: {ending.how}{f': {ending.reason}' if ending.reason else ''}"


def _left_out(swept: "Swept") -> str:
    """Which runs of the table a report has; empty if it has all."""
    table = swept.table
    if len(swept.reported) == len(table):
        return ""
    settings = table.loc[table["run"].isin(swept.reported), "setting"]
    if settings.is_unique and len(settings) == table["setting"].nunique():
        return ", with one seed of each setting"
    return f", with {len(swept.reported)} of the {len(table)} runs"


def _by_setting(table: "pd.DataFrame", columns: Sequence[str]) -> list[list[str]]:
    """A row a setting: how many of its seeds are done, and each number's median and range over these."""
    rows = []
    for setting, runs in table.groupby("setting", sort=False):
        done = runs[runs["finished"].astype(bool) & (runs["error"] == "")]
        numbers = [_range(done[name].tolist(), count=name in COUNTS) if name in done else "-" for name in columns]
        rows.append([str(setting), f"{len(done)}/{len(runs)}", *numbers])
    return rows


def _range(values: list[float], *, count: bool) -> str:
    """The median, and the least and the most; how many there are, where not all have one."""
    there = [value for value in values if value == value]
    if not there:
        return "-"
    form = ",.0f" if count else ".4f"
    middle, low, high = statistics.median(there), min(there), max(there)
    spread = "" if low == high else f" ({low:{form}} to {high:{form}})"
    missing = "" if len(there) == len(values) else f", {len(there)} of {len(values)}"
    return f"{middle:{form}}{spread}{missing}"
