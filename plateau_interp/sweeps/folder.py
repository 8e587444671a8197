"""The folder of a sweep: which sweep it is, what its runs have come to, and all of them as one table.

```text
DIR/sweep.json                 the base recipe, and by name what each run changes of it
DIR/<setting>/seed-<seed>/     a run folder, as `plateau train` makes it: nothing else says what is done
DIR/<setting>/                 where it is of series: a series' folder, as `plateau series` makes it
DIR/summaries.parquet          a row a run: what it changes, and the numbers of its summary
DIR/report/                    the runs side by side
```
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import filelock
import pandas as pd

from plateau_interp.checks import shown
from plateau_interp.codec import RecipeError
from plateau_interp.files import check_folder, write_atomically
from plateau_interp.folders import check_place
from plateau_interp.runs.formats import SWEEP_FORMAT
from plateau_interp.runs.run import RunError
from plateau_interp.sweeps.changes import changed, field_at
from plateau_interp.sweeps.kinds import Kind, PlannedRun, Recipes
from plateau_interp.sweeps.pace import PACE
from plateau_interp.sweeps.plan import SweepPlan, kind_of_data

__all__ = ["SUMMARIES", "SWEEP", "begin", "refuse_others", "summaries"]

SWEEP, SUMMARIES = "sweep.json", "summaries.parquet"
LOCK = ".lock"
INSTEAD = "take another folder, or remove this one"
LOCK_PATIENCE = 30.0
"""Seconds to wait for another process that writes `SWEEP`, which takes it a moment."""


def begin(plan: SweepPlan[Any], out: Path) -> tuple[str, ...]:
    """Say whose a folder is, or find out that it is this sweep's; runs may come and go, as long as some stay.

    Returns:
        The names of the runs that its sweep has and the plan has not.

    Raises:
        RunError: if the folder holds another sweep, or something else, or cannot be made. Nothing is written then.
        ValueError: if it cannot be a folder.
    """
    refuse_others(plan, out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{out} cannot be made: {error.strerror}") from None
    with filelock.FileLock(out / LOCK, timeout=LOCK_PATIENCE):
        there, base = _check_same(plan, out) if (out / SWEEP).is_file() else ({}, None)
        runs = {**there, **{run.name: dict(run.values) for run in plan.runs}}
        ours = plan.kind.plain(plan.base)
        if runs != there or ours != base:
            data = {"format": SWEEP_FORMAT, "base": ours, "runs": runs}
            write_atomically(out / SWEEP, json.dumps(data, indent=2) + "\n")
    asked = {run.name for run in plan.runs}
    return tuple(name for name in runs if name not in asked)


def refuse_others(plan: SweepPlan[Any], out: Path) -> None:
    """Refuse a folder that is not for this sweep.

    Raises:
        RunError: if it holds another sweep, or something else, or lies in another folder of ours.
        ValueError: if it cannot be a folder.
    """
    check_folder(out)
    if (out / SWEEP).is_file():
        _check_same(plan, out)
        return
    try:
        check_place(out, "sweep")
    except ValueError as error:
        raise RunError(str(error)) from None
    if out.is_dir() and (others := {*out.iterdir()} - {out / LOCK, out / PACE}):
        raise RunError(f"{out} is not empty and holds no sweep: there is {shown(min(others).name)}")


def _check_same(plan: SweepPlan[Any], out: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The runs and the base that the folder's sweep has, as plain data, if it is the plan's."""
    file = out / SWEEP
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{file} is damaged: not valid JSON: {error}") from None
    try:
        version, base, runs = int(data["format"]), dict(data["base"]), dict(data["runs"])
    except (ValueError, TypeError, KeyError):
        raise RunError(f"{file} is damaged: expected the fields format, base and runs") from None
    if version > SWEEP_FORMAT:
        raise RunError(f"{file}: this version reads sweeps up to format {SWEEP_FORMAT}; got {shown(version)}")
    kind = plan.kind
    try:
        before = kind.read(base) if kind_of_data(base) is kind else None
    except RecipeError as error:
        raise RunError(f"{file}: base.{error}") from None
    ours = {run.name for run in plan.runs}
    if before is None or kind.essence(before) != kind.essence(plan.base):
        raise RunError(f"{out} holds another sweep: its base recipe is another one, see {file}; {INSTEAD}")
    if kind.shorter(plan.base, before):
        most, wanted = kind.amount(before), kind.amount(plan.base)
        raise RunError(
            f"{out} holds a sweep of {most} {kind.unit}s, and this one has {wanted}: it may get more, not fewer; take "
            "another folder"
        )
    for run in plan.runs:
        if run.name in runs and not _changes_are(runs[run.name], run, base, file, plan.kind):
            raise RunError(f"{out} holds another sweep: {run.name} is another run there, see {file}; {INSTEAD}")
    if not (ours >= runs.keys() or ours <= runs.keys()):
        one, other = min(runs.keys() - ours), min(ours - runs.keys())
        raise RunError(
            f"{out} holds another sweep: {one} is there alone, and {other} here; a sweep may grow, or a part of it "
            f"run; {INSTEAD}"
        )
    return runs, base


def _changes_are(there: Any, run: PlannedRun[Recipes], base: dict[str, Any], file: Path, kind: Kind[Recipes]) -> bool:
    """Whether what a run of this name changes in the folder's sweep makes the same run of it, or a part of it."""
    if there == json.loads(json.dumps(dict(run.values))):
        return True
    try:
        data = changed(base, there, filled=lambda data: kind.plain(kind.read(data)))
        before = kind.read(data)
        return kind.essence(before) == kind.essence(run.recipe) and not kind.shorter(run.recipe, before)
    except (RecipeError, TypeError, AttributeError) as error:
        raise RunError(f"{file}: runs.{run.name}: {error}") from None


def summaries(plan: SweepPlan[Any], out: Path, failed: Mapping[str, str]) -> pd.DataFrame:
    """All runs as a table.

    Args:
        plan: whose runs, in its order.
        out: the sweep's folder.
        failed: by name of a run, its error.

    Returns:
        Columns ``run``, ``setting``, ``seed``; a column a changed field, under its path; ``steps`` made, ``finished``,
        ``error``; and the numbers of `plateau_interp.analysis.plateaus.comparable`, ``final_loss`` and
        ``final_accuracy`` of those that have measured a step, at the last such, ``final_step``. Of series there is no
        seed, and instead of the steps there are ``checkpoints``, instead of the numbers those of
        `plateau_interp.sweeps.of_series.summary_of_series`.
    """
    paths = list(dict.fromkeys(path for run in plan.runs for path in run.values))
    table = pd.DataFrame([_row(plan.kind, run, out, failed.get(run.name, ""), paths) for run in plan.runs])
    for path in paths:
        if not _of_one_kind(table[path]):  # a column of a file has one type
            table[path] = [json.dumps(None if pd.isna(value) else value) for value in table[path]]
    return table


def _row(kind: Kind[Recipes], run: PlannedRun[Recipes], out: Path, error: str, paths: list[str]) -> dict[str, Any]:
    row = {"run": run.name, "setting": run.setting, **({} if run.seed is None else {"seed": run.seed})}
    row |= {path: _value(kind, run, path) for path in paths}
    try:
        made = kind.row(run.recipe, out / run.name)
    except ValueError as damage:
        made, error = {f"{kind.unit}s": 0, "finished": False}, error or str(damage)
    told = {name: made.pop(name) for name in (f"{kind.unit}s", "finished")}
    return {**row, **told, "error": error, **made}


def _value(kind: Kind[Recipes], run: PlannedRun[Recipes], path: str) -> Any:
    """What a run has where another is changed: its own change, or what its recipe says; None where that has no such."""
    value = run.values[path] if path in run.values else field_at(kind.plain(run.recipe), path)
    return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value)


def _of_one_kind(column: "pd.Series[Any]") -> bool:
    kinds = {float if type(value) is int else type(value) for value in column if not pd.isna(value)}
    return len(kinds) < 2
