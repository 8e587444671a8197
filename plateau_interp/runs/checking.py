"""Check run folders: every digest, every row, the recipe, circuits; nothing is changed and no lock is taken."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plateau_interp.checks import as_path
from plateau_interp.files import read_table
from plateau_interp.runs.checkpoints import copy_weights
from plateau_interp.runs.errors import DamagedFile, RunError
from plateau_interp.runs.folder import TABLE, RunFolder
from plateau_interp.runs.kept_circuits import kept_circuits
from plateau_interp.runs.run import Run
from plateau_interp.runs.seconds import read_seconds

__all__ = ["Checked", "check_run"]


@dataclass(frozen=True)
class Checked:
    """What was found in a run folder.

    Args:
        path: the folder.
        checkpoints: how many it has.
        resumable: how many of them have the optimiser's state.
        rows: measured steps, as far as the table can be read.
        undigested: checkpoints of the format before digests: they can be read, nobody can tell if they were changed.
        faults: one line each, naming the file.
    """

    path: Path
    checkpoints: int = 0
    resumable: int = 0
    rows: int = 0
    undigested: int = 0
    faults: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """For people: what there is, and the faults."""
        light = self.checkpoints - self.resumable
        note = f", {light} of them without the optimiser's state" if light and not self.faults else ""
        note += f", {self.undigested} of them written without digests" if self.undigested else ""
        verdict = f"{len(self.faults)} fault{'s' if len(self.faults) > 1 else ''}" if self.faults else "all whole"
        return [f"{self.path}: {self.checkpoints} checkpoints{note}, {self.rows} rows: {verdict}", *self.faults]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        counts = {"checkpoints": self.checkpoints, "resumable": self.resumable, "rows": self.rows}
        return {"run": str(self.path), **counts, "undigested": self.undigested, "faults": list(self.faults)}


def check_run(path: str | Path) -> Checked:
    """Read everything that a run folder holds, as if it were needed.

    Args:
        path: a run folder, or what should be one.

    Raises:
        ValueError: for what is no path.

    Example:
        >>> check_run("nowhere").faults
        ('nowhere is not a folder; `plateau train` makes a run',)
    """
    path = as_path(path)
    try:
        folder = RunFolder(path)
    except (RunError, OSError) as fault:
        return Checked(path, faults=(str(fault),))
    steps = folder.checkpoints
    faults = [fault for step in steps for fault in _faults_of_checkpoint(folder, step)]
    faults += [*_faults_of_length(folder), *_faults_of_table(folder)]
    faults += [*_faults_of_seconds(folder), *_faults_of_circuits(path)]
    told_once = tuple(dict.fromkeys(faults))  # the last checkpoint has the digest of the table, too
    labels = folder.labels().values()
    undigested = sum(label.format == 1 for label in labels)
    resumable = sum(label.has_state for label in labels)
    return Checked(path, len(steps), resumable, _readable_rows(folder), undigested, told_once)


def _faults_of_checkpoint(folder: RunFolder, step: int) -> Iterator[str]:
    try:
        checkpoint = folder.load(step)
        copy_weights(folder.recipe.build_model(), checkpoint.weights)
    except (RunError, OSError) as fault:
        yield str(fault)
    except ValueError as fault:
        yield f"{folder.place(step)} does not fit {folder.path}: {fault}"


def _faults_of_length(folder: RunFolder) -> Iterator[str]:
    # The steps are no part of what checkpoints have a digest of: a run may be lengthened.
    beyond = [step for step in folder.checkpoints if step > folder.recipe.steps]
    if beyond:
        asked = f"asks for {folder.recipe.steps} steps, but there is a checkpoint of step {max(beyond)}"
        yield f"{folder.path / 'recipe.json'} {asked}: it was changed"


def _faults_of_table(folder: RunFolder) -> Iterator[str]:
    try:
        rows = folder.rows()
    except (RunError, OSError) as fault:
        yield str(fault)
        return
    if rows and not folder.checkpoints:
        yield f"{folder.table.file} has {len(rows)} rows, but there is no checkpoint to go on from"
    parquet = folder.path / TABLE
    if not parquet.is_file():
        return
    try:
        copy = read_table(parquet)
    except (ValueError, OSError) as fault:
        yield str(fault)
        return
    # Written when training ends: of a run that was lengthened since, the first rows.
    if len(copy) <= len(rows) and not copy.equals(folder.table.frame().head(len(copy))):
        yield str(DamagedFile(parquet, f"its rows are not those of {folder.table.file.name}"))


def _faults_of_seconds(folder: RunFolder) -> Iterator[str]:
    try:
        read_seconds(folder.seconds)
    except (RunError, OSError) as fault:
        yield str(fault)


def _faults_of_circuits(path: Path) -> Iterator[str]:
    try:
        kept = kept_circuits(Run(path))
        yield from () if kept is None else kept.faults()
    except (RunError, OSError) as fault:
        yield str(fault)


def _readable_rows(folder: RunFolder) -> int:
    try:
        return len(folder.table.rows())
    except (RunError, OSError):
        return 0
