"""The folder of a sweep: which sweep it is, what its runs have come to, and all of them as one table.

```text
DIR/sweep.json                 the base recipe, and by name what each run changes of it
DIR/<setting>/seed-<seed>/     a run folder, as `plateau train` makes it: nothing else says what is done
DIR/summaries.parquet          a row a run: what it changes, and the numbers of its summary
DIR/report/                    the runs side by side
```
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import filelock
import pandas as pd

from plateau_interp.analysis.plateaus import Summary, comparable
from plateau_interp.checks import shown
from plateau_interp.codec import RecipeError
from plateau_interp.files import check_folder, write_atomically
from plateau_interp.runs.folder import RunFolder
from plateau_interp.runs.formats import SWEEP_FORMAT
from plateau_interp.runs.identity import recipe_digest
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run, RunError
from plateau_interp.sweeps.changes import changed, field_at
from plateau_interp.sweeps.pace import PACE
from plateau_interp.sweeps.plan import PlannedRun, SweepPlan

__all__ = ["REPORT", "SUMMARIES", "SWEEP", "begin", "made", "refuse_others", "steps_made", "summaries"]

SWEEP, SUMMARIES, REPORT = "sweep.json", "summaries.parquet", "report"
LOCK = ".lock"
LOCK_PATIENCE = 30.0
"""Seconds to wait for another process that writes `SWEEP`, which takes it a moment."""
LAST_BYTES = 4096
"""Bytes at the end of a table of metrics in which its last line is looked for."""


def begin(plan: SweepPlan, out: Path) -> None:
    """Say whose a folder is, or find out that it is this sweep's; runs may come and go, as long as some stay.

    Raises:
        RunError: if the folder holds another sweep, or something else. Nothing is written then.
        ValueError: if it cannot be a folder.
    """
    refuse_others(plan, out)
    out.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(out / LOCK, timeout=LOCK_PATIENCE):
        there = _check_same(plan, out) if (out / SWEEP).is_file() else {}
        runs = {**there, **{run.name: dict(run.values) for run in plan.runs}}
        if runs != there:
            data = {"format": SWEEP_FORMAT, "base": plan.base.to_dict(), "runs": runs}
            write_atomically(out / SWEEP, json.dumps(data, indent=2) + "\n")


def refuse_others(plan: SweepPlan, out: Path) -> None:
    """Refuse a folder that is not for this sweep.

    Raises:
        RunError: if it holds another sweep, or something else.
        ValueError: if it cannot be a folder.
    """
    check_folder(out)
    if (out / SWEEP).is_file():
        _check_same(plan, out)
    elif out.is_dir() and (others := {*out.iterdir()} - {out / LOCK, out / PACE}):
        raise RunError(f"{out} is not empty and holds no sweep: there is {shown(min(others).name)}")


def _check_same(plan: SweepPlan, out: Path) -> dict[str, Any]:
    """The runs that the folder's sweep has, if it is the plan's."""
    file = out / SWEEP
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        version, base, runs = int(data["format"]), data["base"], dict(data["runs"])
    except (ValueError, TypeError, KeyError) as error:
        raise RunError(f"{file} is damaged: {type(error).__name__}: {error}") from None
    if version > SWEEP_FORMAT:
        raise RunError(f"{file}: this version reads sweeps up to format {SWEEP_FORMAT}; got {shown(version)}")
    try:
        same = _essence(Recipe.from_dict(base)) == _essence(plan.base)
    except RecipeError as error:
        raise RunError(f"{file}: base.{error}") from None
    ours = {run.name for run in plan.runs}
    if not same:
        raise RunError(f"{out} holds another sweep: its base recipe is another one, see {file}")
    for run in plan.runs:
        if run.name in runs and not _changes_are(runs[run.name], run, base, file):
            raise RunError(f"{out} holds another sweep: {run.name} is another run there, see {file}")
    if not (ours >= runs.keys() or ours <= runs.keys()):
        one, other = min(runs.keys() - ours), min(ours - runs.keys())
        raise RunError(
            f"{out} holds another sweep: {one} is there alone, and {other} here; a sweep may grow, or a part of it run"
        )
    return runs


def _changes_are(there: Any, run: PlannedRun, base: dict[str, Any], file: Path) -> bool:
    """Whether what a run of this name changes in the folder's sweep makes the same run of it."""
    if there == json.loads(json.dumps(dict(run.values))):
        return True
    try:
        return _essence(Recipe.from_dict(changed(base, there))) == _essence(run.recipe)
    except (RecipeError, TypeError, AttributeError) as error:
        raise RunError(f"{file}: runs.{run.name}: {error}") from None


def _essence(base: Recipe) -> str:
    return recipe_digest(dataclasses.replace(base, seed=0))


def made(run: PlannedRun, out: Path) -> bool:
    """Whether a run is there to its end, with its rows and what it ended with.

    Raises:
        RunError: if its folder cannot be read, or any of this is damaged or missing.
    """
    path = out / run.name
    if not (path / "recipe.json").is_file():
        return False
    folder = RunFolder(path)
    if not (folder.finished and folder.recipe.to_dict() == run.recipe.to_dict()):
        return False
    folder.rows()
    folder.load(folder.step)
    return True


def steps_made(folder: Path) -> int:
    """Steps up to the last measured one in a run folder, whoever trains it, at a glance; 0 where there is none."""
    try:
        with (folder / "metrics.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - LAST_BYTES))
            lines = file.read().split(b"\n")[:-1]
        return int(json.loads(lines[-1])["step"]) + 1
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return 0


def summaries(plan: SweepPlan, out: Path, failed: Mapping[str, str]) -> pd.DataFrame:
    """All runs as a table.

    Args:
        plan: whose runs, in its order.
        out: the sweep's folder.
        failed: by name of a run, its error.

    Returns:
        Columns ``run``, ``setting``, ``seed``; a column a changed field, under its path; ``steps`` made, ``finished``,
        ``error``; and the numbers of `plateau_interp.analysis.plateaus.comparable`, ``final_loss`` and
        ``final_accuracy`` of those that have measured a step.
    """
    paths = list(dict.fromkeys(path for run in plan.runs for path in run.values))
    table = pd.DataFrame([_row(run, out, failed.get(run.name, ""), paths) for run in plan.runs])
    for path in paths:
        if not _of_one_kind(table[path]):  # a column of a file has one type
            table[path] = [json.dumps(value) for value in table[path]]
    return table


def _row(run: PlannedRun, out: Path, error: str, paths: list[str]) -> dict[str, Any]:
    row: dict[str, Any] = {"run": run.name, "setting": run.setting, "seed": run.seed}
    row |= {path: _value(run, path) for path in paths}
    folder = out / run.name
    try:
        there = Run(folder) if (folder / "recipe.json").is_file() else None
        steps, finished = (0, False) if there is None else (there.step, there.finished)
        numbers = {} if there is None or there.metrics.empty else _numbers(there.summary)
    except RunError as damage:
        steps, finished, numbers, error = 0, False, {}, error or str(damage)
    return row | {"steps": steps, "finished": finished, "error": error} | numbers


def _value(run: PlannedRun, path: str) -> Any:
    """What a run has where another is changed: its own change, or what its recipe says; None where that has no such."""
    value = run.values[path] if path in run.values else field_at(run.recipe.to_dict(), path)
    return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value)


def _of_one_kind(column: "pd.Series[Any]") -> bool:
    kinds = {float if type(value) is int else type(value) for value in column if value is not None}
    return len(kinds) < 2


def _numbers(summary: Summary) -> dict[str, float]:
    return {
        **{name: math.nan if value is None else float(value) for name, value in comparable(summary).items()},
        "final_loss": summary.final_loss,
        "final_accuracy": math.nan if summary.final_accuracy is None else summary.final_accuracy,
    }
