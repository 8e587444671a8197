"""``plateau reproduce``: a paper's experiments, in turn or side by side, and what came of its claims."""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from plateau_interp.checks import shown
from plateau_interp.cli.console import (
    complain,
    counting,
    print_json,
    print_table,
    print_text,
    showing_progress,
    watched_timing,
)
from plateau_interp.cli.parsing import Device, Json, check_folder_option
from plateau_interp.cli.sweep_verb import (
    BUSY,
    EngineWord,
    Jobs,
    Queue,
    Scheduler,
    chosen_engine,
    duration,
    ending_in_words,
)
from plateau_interp.cli.watching import watching_runs
from plateau_interp.plugins import PluginError, plugin

if TYPE_CHECKING:
    from collections.abc import Callable

    from plateau_interp.reproductions.experiments import Experiment, Paper
    from plateau_interp.reproductions.settings import Compared, Setting
    from plateau_interp.series.folder import Record
    from plateau_interp.sweeps.engines import Engine

__all__ = ["ReproduceVerb"]


@dataclass(frozen=True)
class ReproduceVerb:
    """Run a paper's experiments, print which of its claims hold, and write RESULTS.md.

    Runs that are there are not made again, and one that was killed goes on: the same command continues. A run that
    fails does not keep the others from being made; what failed is told at the end. So is what an experiment needs and
    this machine lacks, such as a model of the hub; that is a failure only where the experiment was named.

    For example:
      plateau reproduce loss-plateau --list
      plateau reproduce loss-plateau fig2 fig3 fig5 --seeds 3 --jobs 2
      plateau reproduce loss-plateau --draw --publish .
    """

    paper: Annotated[Positional[str], arg(metavar="PAPER", help="One of `plateau list experiments`.")]
    experiments: Annotated[
        Positional[tuple[str, ...]], arg(metavar="[EXPERIMENT ...]", help="Which to run; by default all.")
    ] = ()
    seeds: Annotated[int | None, arg(help="Seeds a setting; by default as many as each experiment asks for.")] = None
    out: Annotated[Path | None, arg(metavar="DIR", help="The folder of its runs, by default runs/PAPER.")] = None
    publish: Annotated[
        Path | None, arg(metavar="DIR", help="Where RESULTS.md and results/ go, by default with the runs.")
    ] = None
    list: Annotated[bool, arg(help="Show the experiments and what they would cost here, and run nothing.")] = False
    draw: Annotated[bool, arg(help="Train nothing; write RESULTS.md from what is there.")] = False
    jobs: Jobs = None
    engine: EngineWord = None
    scheduler: Scheduler = None
    queue: Queue = None
    device: Device = "cpu"
    json: Json = False

    def run(self) -> None:
        """Train what is missing, then tell what came out."""
        from plateau_interp.models.fitting import check_device
        from plateau_interp.reproductions.costs import costs
        from plateau_interp.reproductions.experiments import Paper
        from plateau_interp.reproductions.results import check_published, claims, publish
        from plateau_interp.reproductions.running import plan
        from plateau_interp.runs.run import RunError

        engine = self._engine()
        if engine is None or engine.on_this_machine:
            check_device(self.device)
        check_folder_option(self.out)
        check_folder_option(self.publish)
        paper = plugin("experiments", self.paper)
        if not isinstance(paper, Paper):
            raise PluginError(
                f"{self.paper!r} leads to {shown(paper)}, which is no Paper; see `plateau list experiments`"
            )
        if paper.name != self.paper:  # workers and pages know it by its name alone
            raise PluginError(
                f"{self.paper!r} leads to a paper that is called {paper.name!r}: its name and that of its entry point "
                "must be one"
            )
        chosen = paper.choose(self.experiments)
        runs = Path("runs", paper.name) if self.out is None else self.out
        if self.list:
            self._tell_costs(costs(chosen, runs, n_seeds=self.seeds, watching=watched_timing))
            return
        out = runs if self.publish is None else self.publish
        check_published(paper, out)  # before anything is trained
        todo = plan(chosen, n_seeds=self.seeds)
        lacking: dict[Compared, str] = {}
        in_turn, failed = todo, list[str]()
        if engine is not None and not self.draw:
            in_turn, side_by_side = _parted(todo, self.device)
            names = self._train_side_by_side(paper, side_by_side, runs, engine)
            failed += [f"{name} (why is told above)" for name in names]
        failed += self._make_in_turn(in_turn, runs, lacking)
        page = publish(paper, runs, out)
        found = claims(paper, chosen, out)
        if self.json:
            print_json({"results": str(page), "claims": found})
        else:
            print_table([*found[0]] if found else ["claim"], [[*claim.values()] for claim in found])
            print_text(f"Results: {page}")
        not_run = _not_run(paper, chosen, lacking)
        told = [f"{len(failed)} of {len(todo)} runs failed: {'; '.join(failed)}"] if failed else []
        if told or (not_run and self.experiments):
            raise RunError("; ".join([*told, *not_run]))
        for line in not_run:
            complain(line)

    def _make_in_turn(
        self, todo: "Sequence[tuple[Compared, int]]", runs: Path, lacking: "dict[Compared, str]"
    ) -> "Sequence[str]":
        """Make one after the other in this process, a bar each; returns what failed, notes what lacked something.

        What another process is at is waited for behind the others, as an engine does, and with it what takes from it.
        """
        from plateau_interp.reproductions.settings import NotHereError
        from plateau_interp.runs.errors import BusyFolder, RunError
        from plateau_interp.sweeps.sweep import WAIT

        failed, told = [], set[str]()
        left = {each: f"{number}/{len(todo)}" for number, each in enumerate(todo, start=1)}
        while left:
            busy: dict[tuple[Compared, int], str] = {}
            for (setting, seed), number in left.items():
                name = f"{setting.name} seed {seed}"
                try:
                    if any(needed in busy for needed in setting.needs(seed)):
                        busy[setting, seed] = number
                        continue
                    self._make(setting, seed, runs, name=f"{number} {name}")
                except NotHereError as error:
                    lacking.setdefault(setting, str(error))
                except BusyFolder:
                    busy[setting, seed] = number
                    if name not in told:
                        told.add(name)
                        complain(f"{name}: {BUSY}")
                except RunError as error:
                    failed.append(f"{name}: {error}")
            if left := busy:
                time.sleep(WAIT)
        return failed

    def _engine(self) -> "Engine | None":
        """The engine that is asked for; None to train in turn in this process, on as many threads as it has."""
        if (self.engine, self.jobs, self.scheduler, self.queue) == (None, None, None, None):
            return None
        return chosen_engine(self.engine, jobs=self.jobs, scheduler=self.scheduler, queue=self.queue)

    def _train_side_by_side(
        self, paper: "Paper", todo: "Sequence[tuple[Setting, int]]", runs: Path, engine: "Engine"
    ) -> "Sequence[str]":
        """Train on an engine, with one bar for all; tells why what fails does, and returns the names."""
        from plateau_interp.reproductions.side_by_side import left_to_train, train_side_by_side

        left, failed = left_to_train(todo, runs), []
        folders = {setting.folder(runs, seed): setting.recipe.steps for setting, seed in left}
        with watching_runs(paper.name, folders) as show:
            for setting, seed, ending in train_side_by_side(paper, left, runs, engine=engine, device=self.device):
                name = f"{setting.name} seed {seed}"
                if ending.how == "busy":
                    complain(f"{name}: {BUSY}")
                    continue
                show(setting.folder(runs, seed), ending_in_words(name, ending))
                if ending.how == "failed":
                    failed.append(name)
        return failed

    def _make(self, setting: "Compared", seed: int, runs: Path, *, name: str) -> None:
        """A setting's run, or series; nothing where there is only to be drawn."""
        from plateau_interp.reproductions.pretrained import PublishedModel
        from plateau_interp.reproductions.running import train_setting
        from plateau_interp.reproductions.settings import Setting
        from plateau_interp.reproductions.study import Study

        if self.draw:
            setting.check(runs, seed)
        elif isinstance(setting, Study):
            setting.measure(runs, seed)
        elif isinstance(setting, PublishedModel):
            setting.measure(runs, seed, device=self.device, showing=partial(_counting_checkpoints, name))
        else:
            assert isinstance(setting, Setting)
            train_setting(setting, seed, runs, device=self.device, showing=partial(showing_progress, name=name))

    def _tell_costs(self, costs: Sequence[Mapping[str, Any]]) -> None:
        if self.json:
            print_json(costs)
            return
        rows = [
            [str(cost["name"]), str(cost["figures"]), f"{cost['done']}/{cost['runs']}", _time_left(cost)]
            for cost in costs
        ]
        print_table(["experiment", "reproduces", "runs done", "time left, about"], rows)
        if others := sorted({folder for cost in costs for folder in cost["others"]}):
            complain(f"of other recipes than now, to be moved (or use another --out): {', '.join(others)}")


def _parted(
    todo: "Sequence[tuple[Compared, int]]", device: str
) -> "tuple[list[tuple[Compared, int]], list[tuple[Setting, int]]]":
    """What is for this process, published models and what lacks something here, and what an engine can train."""
    from plateau_interp.reproductions.settings import NotHereError, Setting

    in_turn: list[tuple[Compared, int]] = []
    side_by_side: list[tuple[Setting, int]] = []
    for setting, seed in todo:
        try:
            if isinstance(setting, Setting):
                setting.check_here(device)
                side_by_side.append((setting, seed))
            else:
                in_turn.append((setting, seed))
        except NotHereError:
            in_turn.append((setting, seed))
    return in_turn, side_by_side


def _not_run(paper: "Paper", chosen: "Sequence[Experiment]", lacking: "Mapping[Compared, str]") -> "list[str]":
    """A line an experiment that lacked something: what it needs, why that is not here, and the command elsewhere."""
    lines = []
    for experiment in chosen:
        reasons = [lacking[setting] for setting in experiment.settings if setting in lacking]
        if reasons:
            why = f" ({reasons[0]})" if experiment.needs else ""
            lines.append(f"{experiment.name} {paper.not_run(experiment, lacking=reasons[0])}{why}")
    return lines


@contextlib.contextmanager
def _counting_checkpoints(name: str, total: int, done: int) -> "Iterator[Callable[[Record], None]]":
    with counting(name, total=total, done=done) as show:
        yield lambda record: show(record.error or f"step {record.step:,}  cosine {record.measures['cosine']:.3f}")


def _time_left(cost: Mapping[str, Any]) -> str:
    """Of an experiment, as far as it is known, and what it needs."""
    needs = f"needs {cost['needs']}" if cost["needs"] else ""
    return duration(cost["seconds"]) if cost["seconds"] is not None else needs or "unknown"
