"""What `plateau` can do: each verb is a dataclass of its words, with the work in `run`.

torch and TransformerLens take seconds to load, so imports stand inside the functions that need them: help and mistakes
are answered at once. In Python use `plateau_interp.runs.run.Run`, which does the work.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import getdoc
from pathlib import Path
from typing import Annotated, Any, Protocol, cast

from tyro.conf import Positional, arg

from plateau_interp.cli.check_verb import CheckVerb
from plateau_interp.cli.circuit_verb import CircuitVerb
from plateau_interp.cli.console import (
    complain,
    print_json,
    print_rich,
    print_table,
    print_text,
    table_rows,
)
from plateau_interp.cli.finishing import finish, read_loggers
from plateau_interp.cli.parsing import (
    Device,
    Interventions,
    Json,
    Loggers,
    Out,
    Threads,
    UsageError,
    check_folder_option,
    check_once,
    parse,
)
from plateau_interp.cli.prune_verb import PruneVerb
from plateau_interp.cli.reproduce_verb import ReproduceVerb
from plateau_interp.cli.series_verb import SeriesVerb, refuse_series, series_among, write_series_reports
from plateau_interp.cli.sweep_verb import SweepVerb
from plateau_interp.plugins import PluginKind

__all__ = ["VERBS", "Compare", "ForkVerb", "List", "Report", "Train", "Verb", "read_verb"]

Runs = Annotated[tuple[Path, ...], arg(metavar="RUN [RUN ...]", help="Run folders.")]


class Verb(Protocol):
    """What a verb's dataclass can do once its fields are read."""

    def run(self) -> None:
        """Do the work; a mistake of the user's is a ValueError or OSError."""
        ...


@dataclass(frozen=True)
class Train:
    """Train a model on a task, print where its plateau and drop are, and write a report.

    The options depend on the task: `plateau train TASK --help` lists them, the task's own sizes first. In place of a
    task's name a recipe file (.json, .yaml) may stand; options given with it override it, and what neither says is left
    to the task.

    For example:
      plateau train moving-window-sum --seed 0 --out runs/mws
      plateau train moving-window-sum --n 8 --d-model 64 --steps 200 --out runs/small
      plateau train moving-window-sum --optimizer adamw:weight_decay=0.1 --out runs/adamw
      plateau train runs/mws/recipe.json --seed 1 --out runs/mws-1
      plateau train moving-window-sum --log tensorboard wandb:mode=offline --out runs/logged
    """

    task: Annotated[Positional[str], arg(metavar="TASK", help="One of `plateau list tasks`, or a recipe file.")]
    options: Annotated[
        Positional[tuple[str, ...]],
        arg(metavar="--out DIR [OPTIONS]", help="The run's folder, and what `plateau train TASK --help` lists."),
    ]

    def run(self) -> None:
        """Train what the options say, or go on with it."""
        from plateau_interp.cli.options import read_training
        from plateau_interp.runs.run import Run
        from plateau_interp.training.threads import threads_of_torch

        recipe, options = read_training(self.task, self.options)
        loggers = read_loggers(options.log)
        with threads_of_torch(options.threads):
            finish(Run.create(options.out, recipe), device=options.device, as_json=options.json, loggers=loggers)


@dataclass(frozen=True)
class ForkVerb:
    """Go on from a step of a run, on the very batches it saw, with other interventions.

    Without --hook the parent's stay; with none after it nothing acts.

    For example:
      plateau fork runs/mws --at 50 --hook fix-attention --out runs/fixed
      plateau fork runs/mws --at 100 --hook bias-attention:factor=10 ablate-heads:heads=[0] --out runs/both
      plateau fork runs/mws --at 50 --hook fix-attention --log tensorboard --out runs/fixed
    """

    parent: Annotated[Positional[Path], arg(metavar="RUN", help="The folder of the run to leave.")]
    at: Annotated[int, arg(help="The step to leave it at.")]
    out: Out
    interventions: Interventions = None
    steps: Annotated[int | None, arg(help="Train up to this step; by default as far as the parent.")] = None
    log: Loggers = ()
    device: Device = "cpu"
    threads: Threads = None
    json: Json = False

    def run(self) -> None:
        """Train the fork."""
        from plateau_interp.cli.words import read_plugin
        from plateau_interp.runs.run import Run
        from plateau_interp.training.threads import threads_of_torch

        texts = self.interventions
        parent = Run(self.parent)
        kept = parent.recipe.interventions
        interventions = kept if texts is None else tuple(read_plugin("hooks", text) for text in texts)
        loggers = read_loggers(self.log)
        parent.recipe.check_device(self.device)
        with threads_of_torch(self.threads):
            fork = parent.fork(
                at=self.at, interventions=interventions, steps=self.steps, out=self.out, device=self.device
            )
            finish(fork, device=self.device, as_json=self.json, loggers=loggers)


@dataclass(frozen=True)
class Compare:
    """Set the plateaus and drops of runs side by side, and their curves in one page; changes are from the first run.

    For example:
      plateau compare runs/mws runs/fixed
      plateau compare runs/* --out reports/all --json
    """

    runs: Positional[Runs]
    out: Annotated[
        Path | None,
        arg(
            metavar="DIR",
            help="Where the page goes; by default into the first run's report folder, over the last one there.",
        ),
    ] = None
    json: Json = False

    def run(self) -> None:
        """Print one column a run, and the path of the page."""
        from plateau_interp.analysis.criteria import in_columns
        from plateau_interp.analysis.plateaus import compare
        from plateau_interp.cli.budget_rows import budget_rows
        from plateau_interp.folders import REPORT
        from plateau_interp.runs.run import Run
        from plateau_interp.views.report import write_report

        check_folder_option(self.out)
        refuse_series(self.runs)
        check_once(self.runs)
        runs = [Run(path) for path in self.runs]
        summaries = {str(run.path): run.summary for run in runs}
        table = compare(summaries)
        page = write_report(runs, runs[0].path / REPORT / "compared" if self.out is None else self.out)
        if self.json:
            print_json({"runs": table_rows(table), "report": str(page)})
            return
        first, *others = table.to_dict(orient="records")
        budgets = {name for summary in summaries.values() for name in in_columns(summary.reached)}
        names = [str(name) for name in first if f"{name}_change" in first and name not in budgets]
        rows = [
            [_in_words(name), _compared(first, name, changed=False), *(_compared(run, name) for run in others)]
            for name in names
        ]
        print_table(["", *table["run"]], [*rows, *budget_rows([summary.reached for summary in summaries.values()])])
        if len({str(run.recipe.task) for run in runs}) > 1:
            # Whole: a cut would hide in what they differ.
            tasks = "; ".join(f"{run.path}: {' '.join(str(run.recipe.task).split())}" for run in runs)
            print_text(f"The runs are of different tasks, so what losses and levels mean differs, too. {tasks}")
        print_text(f"Report: {page}")


@dataclass(frozen=True)
class Report:
    """Write each run's report (again): RUN/report/index.html, one page that works offline, and pictures beside it.

    It has a run's circuits if `plateau circuit` measured them. The folder of a series may stand in place of a run's.

    For example:
      plateau report runs/mws
      plateau report runs/mws runs/fixed --out reports/fixing
      plateau report series/14m series/70m --out reports/sizes
    """

    runs: Positional[Runs]
    out: Annotated[Path | None, arg(metavar="DIR", help="One report of all the runs together, in this folder.")] = None
    json: Json = False

    def run(self) -> None:
        """Print each report's path."""
        from plateau_interp.runs.run import Run
        from plateau_interp.views.report import write_report

        if not self.runs:
            raise UsageError("which run? plateau report RUN [RUN ...]")
        check_folder_option(self.out)
        if series_among(self.runs):
            reports = write_series_reports(self.runs, self.out)
        else:
            runs = [Run(path) for path in self.runs]
            reports = [write_report(run) for run in runs] if self.out is None else [write_report(runs, self.out)]
        if self.json:
            print_json([str(report) for report in reports])
        else:
            print_text("\n".join(map(str, reports)))


@dataclass(frozen=True)
class List:
    """List the plug-ins that can be named on the command line and in recipes, whichever package they come from.

    Of tasks also the alphabet, the lengths, the closed-form losses, the default model and an example.

    For example:
      plateau list tasks
      plateau list optimizers --json
    """

    kind: Positional[PluginKind]
    json: Json = False

    def run(self) -> None:
        """Print what `plateau_interp.cli.listing` finds."""
        from plateau_interp.cli.listing import listed_plugins, tables

        rows = listed_plugins(self.kind)
        if self.json:
            print_json(rows)
        elif rows:
            for table in tables(self.kind, rows):
                print_rich(table)
        else:
            complain(f"no installed package has {self.kind}")


RATIOS = ("plateau_level", "peak_cosine", "peak_repetition", "final_accuracy", "final_validation_accuracy")
"""Columns of a comparison that are no counts."""

VERBS: dict[str, type[Any]] = {
    "train": Train,
    "fork": ForkVerb,
    "compare": Compare,
    "report": Report,
    "circuit": CircuitVerb,
    "series": SeriesVerb,
    "sweep": SweepVerb,
    "reproduce": ReproduceVerb,
    "list": List,
    "check": CheckVerb,
    "prune": PruneVerb,
}


def read_verb(words: Sequence[str]) -> Verb:
    """The verb that a command line asks for, its fields filled in.

    Raises:
        UsageError: for an unknown verb, and for words that do not fit it.
    """
    verb, others = (words[0], words[1:]) if words else ("", ())
    if verb not in VERBS:
        found = f"no verb is called {verb!r}" if verb else "no verb was given"
        raise UsageError(f"{found}: it is one of {', '.join(VERBS)}; see `plateau --help`")
    if verb == "train" and others and not others[0].startswith("-"):
        return Train(others[0], tuple(others[1:]))  # which options there are, the task decides: `run` reads them
    if verb == "train" and not {"-h", "--help"} & {*others}:
        raise UsageError("the task comes first: plateau train TASK [options]; see `plateau list tasks`")
    return cast(Verb, parse(VERBS[verb], others, prog=f"plateau {verb}", description=getdoc(VERBS[verb])))


def _in_words(column: str) -> str:
    """A column's name for people: ``steps_to_50`` is ``steps to 50 %``."""
    return column.replace("_", " ") + (" %" if column.startswith(("steps_to_", "samples_to_")) else "")


def _compared(run: Mapping[Any, Any], name: str, *, changed: bool = True) -> str:
    """A number of a run, and its change: steps and samples in full, others to four digits after the point."""
    value, change = run[name], run[f"{name}_change"]
    is_count = name not in RATIOS
    if value != value:
        return _missing(run, name)
    form = ",.0f" if is_count else ".4f"
    return f"{value:{form}}" if not changed or change != change else f"{value:{form}} ({change:+{form}})"


def _missing(run: Mapping[Any, Any], name: str) -> str:
    """Why a run has no such number: nothing of the kind was measured, or it was, and the run never came there."""
    kind = name.partition("_")[0]
    read_off = {"steps": "final_accuracy", "samples": "final_accuracy"}
    read_off |= dict.fromkeys(("train", "validation", "grokking"), "final_validation_accuracy")
    is_measured = kind not in read_off or run[read_off[kind]] == run[read_off[kind]]
    if kind in ("peak", "final") or not is_measured:
        return "not measured"
    return "none" if kind == "plateau" else "not reached"
