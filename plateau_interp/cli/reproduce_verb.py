"""``plateau reproduce``: a paper's experiments run, and which of its claims hold told and written down."""

import contextlib
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
from plateau_interp.cli.parsing import Device, Json, refuse_file
from plateau_interp.plugins import PluginError, plugin

if TYPE_CHECKING:
    from collections.abc import Callable

    from plateau_interp.reproductions.experiments import Experiment, Paper
    from plateau_interp.reproductions.settings import Compared
    from plateau_interp.series.folder import Record

__all__ = ["Reproduce"]


@dataclass(frozen=True)
class Reproduce:
    """Run a paper's experiments, print which of its claims hold, and write RESULTS.md.

    Runs that are there are not made again, and one that was killed goes on: the same command continues. A run that
    fails does not keep the others from being made; what failed is told at the end. An experiment that needs what is not
    on this machine, such as a model of the hub, is not run unless it is named: the list says what it needs.

    For example:
      plateau reproduce loss-plateau --list
      plateau reproduce loss-plateau fig2 fig3 fig5 --seeds 3
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
    device: Device = "cpu"
    json: Json = False

    def run(self) -> None:
        """Train what is missing, then tell what came out."""
        from plateau_interp.cli.options import check_device_option
        from plateau_interp.reproductions.costs import costs
        from plateau_interp.reproductions.experiments import Paper
        from plateau_interp.reproductions.results import claims, publish
        from plateau_interp.reproductions.running import plan
        from plateau_interp.reproductions.settings import NotHereError
        from plateau_interp.runs.run import RunError

        check_device_option(self.device)
        refuse_file(self.out)
        refuse_file(self.publish)
        paper = plugin("experiments", self.paper)
        if not isinstance(paper, Paper):
            raise PluginError(
                f"{self.paper!r} leads to {shown(paper)}, which is no Paper; see `plateau list experiments`"
            )
        chosen = paper.choose(self.experiments)
        runs = Path("runs", paper.name) if self.out is None else self.out
        if self.list:
            self._tell_costs(costs(chosen, runs, n_seeds=self.seeds, watching=watched_timing))
            return
        failed = []
        lacking: dict[Compared, str] = {}
        todo = plan(chosen, n_seeds=self.seeds)
        for number, (setting, seed) in enumerate(todo, start=1):
            try:
                self._make(setting, seed, runs, name=f"{number}/{len(todo)} {setting.name} seed {seed}")
            except NotHereError as error:
                lacking.setdefault(setting, str(error))
            except RunError as error:
                failed.append(f"{setting.name} seed {seed}: {error}")
        out = runs if self.publish is None else self.publish
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

    def _make(self, setting: "Compared", seed: int, runs: Path, *, name: str) -> None:
        """A setting's run, or series; nothing where there is only to be drawn."""
        from plateau_interp.reproductions.pretrained import PublishedModel
        from plateau_interp.reproductions.running import train_setting
        from plateau_interp.reproductions.settings import Setting

        if self.draw:
            setting.check(runs, seed)
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


def _not_run(paper: "Paper", chosen: "Sequence[Experiment]", lacking: "Mapping[Compared, str]") -> "list[str]":
    """A line an experiment that lacked something: what it needs, why that is not here, and the command elsewhere."""
    lines = []
    for experiment in chosen:
        reasons = [lacking[setting] for setting in experiment.settings if setting in lacking]
        if reasons:
            lines.append(
                f"{experiment.name} not run: needs {experiment.needs or reasons[0]}; then `plateau reproduce "
                f"{paper.name} {experiment.name}`" + (f" ({reasons[0]})" if experiment.needs else "")
            )
    return lines


@contextlib.contextmanager
def _counting_checkpoints(name: str, total: int, done: int) -> "Iterator[Callable[[Record], None]]":
    with counting(name, total=total, done=done) as show:
        yield lambda record: show(record.error or f"step {record.step:,}  cosine {record.measures['cosine']:.3f}")


def _time_left(cost: Mapping[str, Any]) -> str:
    """Of an experiment, as far as it is known, and what it needs."""
    seconds, needs = cost["seconds"], f"needs {cost['needs']}" if cost["needs"] else ""
    if seconds is None:
        return needs or "unknown"
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"
