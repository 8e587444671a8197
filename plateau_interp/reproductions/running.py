"""Trains what an experiment asks for: each setting and seed once, whatever experiments share it.

Runs are ordinary run folders under ``RUNS/<setting>/seed-<seed>``. A run that is there is not made again, and one that
was killed goes on, so the same call simply continues. What comes out is read by `plateau_interp.reproductions.results`.
"""

import itertools
import json
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pandas as pd

from plateau_interp.files import write_atomically
from plateau_interp.intervening import InterventionWarning
from plateau_interp.reproductions.experiments import SOLVED, Experiment, Outcome, Setting, first_solved
from plateau_interp.runs import Run
from plateau_interp.training import Step, train

__all__ = ["collect", "estimated_seconds", "outcome", "plan", "train_setting"]

ADDED, SECONDS = "added.parquet", "seconds.json"


def plan(experiments: Iterable[Experiment], *, n_seeds: int | None = None) -> list[tuple[Setting, int]]:
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
    ordered: dict[tuple[Setting, int], None] = {}

    def add(setting: Setting, seed: int) -> None:
        for needed in setting.needs(seed):
            add(*needed)
        ordered.setdefault((setting, seed))

    for experiment in experiments:
        for seed, setting in itertools.product(range(n_seeds or experiment.n_seeds), experiment.settings):
            add(setting, seed)
    return list(ordered)


def outcome(setting: Setting, seed: int, runs: Path) -> Outcome | None:
    """What came out of a setting's run; None if it has not ended (or not begun)."""
    folder = setting.folder(runs, seed)
    if not (folder / "recipe.json").is_file():
        return None
    run = Run(folder)
    metrics = run.metrics
    if not setting.ended(metrics) or (setting.adds is not None and not (folder / ADDED).is_file()):
        return None
    if setting.adds is not None:
        metrics = metrics.merge(pd.read_parquet(folder / ADDED), on="step", how="left")
    return Outcome(setting, seed, metrics)


def collect(settings: Iterable[Setting], runs: Path) -> dict[str, list[Outcome]]:
    """By setting name, what came out of every run that has ended, whatever its seed."""
    found: dict[str, list[Outcome]] = {}
    for setting in settings:
        folders = (runs / setting.name).glob("seed-*")
        seeds = sorted(int(folder.name.removeprefix("seed-")) for folder in folders if folder.is_dir())
        ended = [outcome(setting, seed, runs) for seed in seeds]
        found[setting.name] = [one for one in ended if one is not None]
    return found


def train_setting(
    setting: Setting, seed: int, runs: Path, *, device: str = "cpu", show: Callable[[Step], None] = lambda step: None
) -> Outcome:
    """Make (or go on with) a setting's run until it has ended.

    Args:
        setting: what to train; what it `Setting.needs` must have been trained.
        seed: of the run.
        runs: the folder of all runs.
        device: where to train.
        show: called with each step.

    Raises:
        RunError: as from `Run.train` and `Run.fork`.
    """
    done = outcome(setting, seed, runs)
    if done is not None:
        return done
    with warnings.catch_warnings():
        # A run may be solved before a scheduled intervention's time has come; that is a finding, not a slip.
        warnings.simplefilter("ignore", InterventionWarning)
        begin = time.monotonic()
        run = setting.open(runs, seed, device=device)
        if not setting.ended(run.metrics):
            solved = first_solved(run.metrics)
            for step in run.train(device=device):
                show(step)
                if solved is None and step.metrics.get("accuracy", 0.0) >= SOLVED:
                    solved = step.step
                if step.metrics and setting.enough(step.step, solved=solved):
                    break
        if setting.adds is not None:
            table = setting.adds(run).to_parquet(index=False)
            assert table is not None
            write_atomically(run.path / ADDED, table)
    before = seconds(run.path) or 0.0
    write_atomically(run.path / SECONDS, json.dumps(before + time.monotonic() - begin) + "\n")
    done = outcome(setting, seed, runs)
    assert done is not None, f"{run.path} did not end"
    return done


def seconds(folder: Path) -> float | None:
    """How long a run took, as far as it was not killed; None if nobody took the time."""
    file = folder / SECONDS
    return float(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None


def estimated_seconds(settings: Sequence[Setting], *, n_steps: int = 2) -> dict[str, float]:
    """Seconds that one run of each setting takes here at most: measured steps of its model, times its steps.

    Settings with equal task, model and batch are timed once.
    """
    rates: dict[str, float] = {}
    found = {}
    for setting in settings:
        recipe = setting.recipe
        key = f"{recipe.task}{recipe.model}{recipe.batch_size}{recipe.measuring}"
        if key not in rates:
            steps = train(
                recipe.build_model(),
                recipe.task,
                steps=n_steps + 1,
                batch_size=recipe.batch_size,
                meter=recipe.build_meter() if recipe.measuring.every == 1 else None,
            )
            next(steps)  # the first pays for what later ones find made
            begin = time.perf_counter()
            for _ in steps:
                pass
            rates[key] = (time.perf_counter() - begin) / n_steps
        first = 0 if setting.leaves is None else setting.leaves[1]
        found[setting.name] = rates[key] * (recipe.steps - first)
    return found
