"""Trains what an experiment asks for: each setting and seed once, whatever experiments share it.

Published models are not trained, but measured: `plateau_interp.reproductions.pretrained`; so are runs that have ended:
`plateau_interp.reproductions.study`.

Runs are ordinary run folders under ``RUNS/<setting>/seed-<seed>``. A run that is there is not made again, and one that
was killed goes on, so the same call simply continues. What comes out is read by `plateau_interp.reproductions.results`.
"""

import itertools
import json
import re
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

import pandas as pd

from plateau_interp.files import write_atomically, write_table
from plateau_interp.interventions.attaching import quietly
from plateau_interp.metrics import as_float32
from plateau_interp.reproductions.experiments import Experiment
from plateau_interp.reproductions.pretrained import PublishedModel
from plateau_interp.reproductions.settings import SOLVED_ACCURACY, Compared, Outcome, Setting
from plateau_interp.reproductions.study import Study
from plateau_interp.runs.run import Run, RunError
from plateau_interp.series.folder import SeriesFolder
from plateau_interp.training.loop import Step

__all__ = ["collect", "made_with", "outcome", "plan", "train_setting"]

SECONDS = "seconds.json"
SEED = re.compile(r"seed-(\d+)")
"""A folder with another ending was put aside by somebody."""


def plan(experiments: Iterable[Experiment], *, n_seeds: int | None = None) -> list[tuple[Compared, int]]:
    """The runs that experiments need, each once, what others take from first.

    Seeds go round before settings, so that stopping early leaves whole comparisons.

    Args:
        experiments: whose settings.
        n_seeds: seeds 0 to ``n_seeds - 1``; by default as many as each experiment asks for.

    Raises:
        ValueError: if ``n_seeds`` is below 1.
    """
    if n_seeds is not None and n_seeds < 1:
        raise ValueError(f"seeds must be at least 1; got {n_seeds}")
    ordered: dict[tuple[Compared, int], None] = {}

    def add(setting: Compared, seed: int) -> None:
        for needed in setting.needs(seed):
            add(*needed)
        ordered.setdefault((setting, seed))

    for experiment in experiments:
        for seed, setting in itertools.product(range(n_seeds or experiment.n_seeds), experiment.settings):
            if seed == 0 or not setting.one_seed:
                add(setting, seed)
    return list(ordered)


def outcome(setting: Compared, seed: int, runs: Path) -> Outcome | None:
    """What came out of a setting's run; None if it has not ended (or not begun).

    Raises:
        RunError: if its folder holds the run of another recipe; as `plateau_interp.reproductions.added.Added.beside`.
    """
    if isinstance(setting, PublishedModel | Study):
        return setting.outcome(runs, seed)
    assert isinstance(setting, Setting)
    folder = setting.folder(runs, seed)
    if not (folder / "recipe.json").is_file():
        return None
    setting.check(runs, seed)
    run = Run(folder)
    if not _ended(setting, run) or (setting.adds is not None and not setting.adds.is_kept(folder)):
        return None
    metrics = run.metrics if setting.adds is None else setting.adds.beside(run.metrics, folder)
    return Outcome(setting, seed, metrics)


def collect(settings: Iterable[Compared], runs: Path) -> dict[str, list[Outcome]]:
    """By setting name, what came out of every run that has ended, whatever its seed; not of other recipes' runs."""
    found: dict[str, list[Outcome]] = {}
    for setting in settings:
        names = [folder.name for folder in (runs / setting.name).glob("seed-*") if folder.is_dir()]
        seeds = sorted(int(match[1]) for match in map(SEED.fullmatch, names) if match)
        found[setting.name] = []
        for seed in seeds:
            with suppress(RunError):
                if (one := outcome(setting, seed, runs)) is not None:
                    found[setting.name].append(one)
    return found


def train_setting(
    setting: Setting,
    seed: int,
    runs: Path,
    *,
    device: str = "cpu",
    showing: Callable[[Run], AbstractContextManager[Callable[[Step], None]]] | None = None,
) -> Outcome:
    """Make (or go on with) a setting's run until it has ended.

    Args:
        setting: what to train; what it `Setting.needs` must have been trained.
        seed: of the run.
        runs: the folder of all runs.
        device: where to train.
        showing: given the run, a context whose value is called with each step: a progress bar.

    Raises:
        NotHereError: if its task lacks something on this machine.
        RunError: as from `Run.train` and `Run.fork`.
    """
    done = outcome(setting, seed, runs)
    if done is not None:
        return done
    setting.check_here(device)
    # A run may be solved before a scheduled intervention's time has come; that is a finding, not a slip.
    with quietly():
        begin = time.monotonic()
        run = setting.open(runs, seed, device=device)
        if not _ended(setting, run):
            solved, seen = setting.solved(run.metrics), _accuracies(run)
            with nullcontext(lambda step: None) if showing is None else showing(run) as show:
                for step in run.train(device=device):
                    show(step)
                    if solved is None and (accuracy := step.metrics.get("accuracy")) is not None:
                        seen.append((step.step, accuracy))
                        if as_float32(accuracy) >= as_float32(SOLVED_ACCURACY):  # nothing is solved at another step
                            solved = setting.solved(pd.DataFrame(seen, columns=["step", "accuracy"]))
                    # The last measured step of a whole run may come before its last step, whose checkpoint others take.
                    if step.metrics and not setting.whole and setting.enough(step.step, solved=solved):
                        break
            write_table(run.path / "metrics.parquet", run.metrics)
        if setting.adds is not None:
            setting.adds.keep(run)
    before = seconds(run.path) or 0.0
    write_atomically(run.path / SECONDS, json.dumps(before + time.monotonic() - begin) + "\n")
    done = outcome(setting, seed, runs)
    assert done is not None, f"{run.path} did not end"
    return done


def _accuracies(run: Run) -> list[tuple[int, float]]:
    """Steps and accuracies of what a run has measured."""
    if "accuracy" not in run.metrics:
        return []
    rows = run.metrics[["step", "accuracy"]].dropna()
    return list(zip(rows["step"].tolist(), rows["accuracy"].tolist(), strict=True))


def _ended(setting: Setting, run: Run) -> bool:
    """Whether a run has all that its setting asks for: of a whole one the last checkpoint, which others may take."""
    return setting.ended(run.metrics) and (run.finished or not setting.whole)


def made_with(setting: Compared, seed: int, runs: Path) -> dict[str, Any]:
    """What made a run that has ended: versions, machine and threads, its training ``steps`` and ``seconds``."""
    folder = setting.folder(runs, seed)
    environment = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    if isinstance(setting, PublishedModel):
        took = sum(record.seconds for record in SeriesFolder(folder).records())
        return {**environment, "seconds": took, "steps": 0}
    if isinstance(setting, Study):
        return {**environment, "seconds": setting.seconds(runs, seed), "steps": 0}
    run = Run(folder)
    first = 0 if run.recipe.fork_of is None else run.recipe.fork_of.step
    # A fork of a run that had ended before the step that it leaves at makes none of its own.
    own = max(0, int(run.metrics["step"].iloc[-1]) + 1 - first)
    return {**environment, "seconds": seconds(folder), "steps": own}


def seconds(folder: Path) -> float | None:
    """How long a run took, as far as it was not killed; None if nobody took the time."""
    file = folder / SECONDS
    return float(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None
