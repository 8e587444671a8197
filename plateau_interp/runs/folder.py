"""The files of a run: where they are, read with every check, written by one at a time.

For those who train, fork and check runs; `plateau_interp.runs.run.Run` is the public face.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

import filelock
import pandas as pd
from torch import Tensor

from plateau_interp.codec import RecipeError, UnknownPluginError
from plateau_interp.files import is_step_name, remove_halves
from plateau_interp.folders import staying
from plateau_interp.runs.checkpoints import (
    OPTIMIZER,
    STATE,
    Checkpoint,
    Label,
    checkpoints_of,
    let_go,
    load_weights,
    place_of,
    read_label,
    saved_steps,
)
from plateau_interp.runs.errors import BusyFolder, DamagedFile, RunError
from plateau_interp.runs.identity import recipe_digest
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.table import Row, Table

__all__ = [
    "ENVIRONMENT",
    "LOCK",
    "METRICS",
    "RECIPE",
    "SECONDS",
    "TABLE",
    "RunFolder",
    "not_there",
    "only_writer",
    "removing_on_failure",
]

RECIPE, ENVIRONMENT, METRICS, SECONDS, TABLE, LOCK = (
    "recipe.json",
    "environment.json",
    "metrics.jsonl",
    "seconds.jsonl",
    "metrics.parquet",
    ".lock",
)
OF_A_SCRIPT = (
    "what a script registered is known in that process alone: call `plateau_interp.plugins.register` in this one, too, "
    "or install it as a package with an entry point, as the page on writing a task shows"
)

_written: set[Path] = set()
"""The folders that this process writes to: a lock alone does not say whose it is."""


class RunFolder:
    """A run folder with its recipe read.

    Raises:
        RunError: if the folder holds no run, or a recipe that cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_dir():
            raise RunError(f"{path} is not a folder; `plateau train` makes a run")
        file = path / RECIPE
        if not file.is_file():
            raise RunError(f"{path} holds no {RECIPE}: it is not a run folder")
        try:
            self.recipe = Recipe.from_json(file.read_text(encoding="utf-8"))
        except UnknownPluginError as error:
            raise RunError(f"{file}: {error}; {OF_A_SCRIPT}") from None
        except (RecipeError, UnicodeDecodeError) as error:
            raise RunError(f"{file}: {error}") from None
        self.table = Table(path / METRICS, every=self.recipe.measure_every)

    @cached_property
    def identity(self) -> str:
        """The digest of the recipe."""
        return recipe_digest(self.recipe)

    @property
    def environment(self) -> Path:
        """The file that says what made the run."""
        return self.path / ENVIRONMENT

    @property
    def seconds(self) -> Path:
        """The file that says how long the processor has worked, if anybody wrote it."""
        return self.path / SECONDS

    @property
    def checkpoints(self) -> list[int]:
        """Steps whose state is on disk, in order; raises as `check_there`."""
        self.check_there()
        return saved_steps(self.path)

    @property
    def step(self) -> int:
        """The last step whose state is on disk; 0 for a run that has not begun."""
        return max(self.checkpoints, default=0)

    @property
    def resumable(self) -> list[int]:
        """Steps from which training can go on at once: their checkpoints have the optimiser's state.

        Raises:
            RunError: if a checkpoint is damaged, with the remedy.
        """
        return [step for step in self.checkpoints if self.label(step).has_state]

    @property
    def finished(self) -> bool:
        """Whether every step of the recipe was made."""
        return self.step >= self.recipe.steps

    def check_there(self) -> None:
        """Refuse a folder that is gone: it is not a run that has not begun.

        Raises:
            RunError: if it was moved or removed after it was opened.
        """
        if not (self.path / RECIPE).is_file():
            raise RunError(f"{self.path} holds no {RECIPE} any more: it was moved or removed after it was opened")

    def check_unlinked(self) -> None:
        """Refuse to change checkpoints that are links: they may be another run's, which would be made thinner.

        The folder of the run may itself be one.

        Raises:
            RunError: naming the first.
        """
        home = checkpoints_of(self.path)
        for place in (home, *sorted(home.iterdir() if home.is_dir() else ())):
            if place.is_symlink():
                raise RunError(
                    f"{place} is a link: what training and pruning take from checkpoints would go from where they lie; "
                    "put a copy in its place"
                )

    def rows(self) -> tuple[Row, ...]:
        """The measured steps.

        Raises:
            RunError: if the table is damaged, or rows are missing, or others, than were there at the last checkpoint.
        """
        self._check_rows()
        return self.table.rows()

    def frame(self) -> pd.DataFrame:
        """`rows` as a table, the caller's own to change; raises as that does."""
        self._check_rows()
        return self.table.frame()

    def load(self, step: int) -> Checkpoint:
        """The state after ``step`` updates.

        Raises:
            RunError: as from `Checkpoint.load`, with the remedy.
        """
        with self._with_remedy(step):
            return Checkpoint.load(self.place(step), recipe=self.identity)

    def load_weights(self, step: int) -> dict[str, Tensor]:
        """The parameters after ``step`` updates.

        Raises:
            RunError: as from `Checkpoint.load`, with the remedy.
        """
        with self._with_remedy(step):
            return load_weights(self.place(step), recipe=self.identity)

    def label(self, step: int) -> Label:
        """What the checkpoint of a step says of itself.

        Raises:
            RunError: as from `Checkpoint.load`, with the remedy.
        """
        with self._with_remedy(step):
            return read_label(self.place(step), recipe=self.identity)

    def labels(self) -> dict[int, Label]:
        """By step, the labels of all checkpoints that can be read."""
        found = {}
        for step in self.checkpoints:
            with suppress(RunError, OSError):
                found[step] = self.label(step)
        return found

    def let_go(self, step: int) -> None:
        """Take the optimiser's state away from a checkpoint; raises as `plateau_interp.runs.checkpoints.let_go`."""
        with self._with_remedy(step):
            let_go(self.place(step), recipe=self.identity)

    def save(self, checkpoint: Checkpoint, *, rows: str) -> None:
        """Write a checkpoint to its place.

        Args:
            checkpoint: the state.
            rows: the digest of the rows before its step.

        Raises:
            OSError: naming the file; the checkpoint is not there then.
        """
        checkpoint.save(self.place(checkpoint.step), recipe=self.identity, rows=rows)

    def place(self, step: int) -> Path:
        """The folder of a checkpoint, whether it is there or not."""
        return place_of(self.path, step)

    def remove_leftovers(self) -> None:
        """Remove `leftovers`, and files beside the checkpoints that are half written; for who alone writes here."""
        for leftover in self.leftovers():
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        ours = (RECIPE, ENVIRONMENT, METRICS, SECONDS, TABLE)
        remove_halves(self.path, of=lambda name: name in ours, within=False)

    def leftovers(self) -> list[Path]:
        """What a kill left of checkpoints: half written, files half written of others, and what they have let go."""
        halves = [half for half in checkpoints_of(self.path).glob(".*.tmp") if is_step_name(half.name[1:-4])]
        halves += [half for step in self.checkpoints for half in self.place(step).glob(f".{STATE}.*.tmp")]
        gone = [self.place(step) / OPTIMIZER for step, label in self.labels().items() if not label.has_state]
        return [*halves, *(file for file in gone if file.is_file())]

    def _check_rows(self) -> None:
        """Whether the rows before the last checkpoint are those that were there when it was written.

        Raises:
            RunError: if they are not.
        """
        steps = self.checkpoints
        if not steps or self._has_rows_of(steps[-1]):
            self.table.rows()
            return
        whole = max((step for step in steps[:-1] if self._has_rows_of(step)), default=None)
        remedy = (
            "" if whole is None else f"; move the checkpoints after step {whole} away to make the rows from there again"
        )
        raise DamagedFile(
            self.table.file, f"its rows are not those that were there when {self.place(steps[-1])} was written{remedy}"
        )

    def _has_rows_of(self, step: int) -> bool:
        expected = self.label(step).rows
        there = self.table.digest(before=step)
        return expected is None or there == expected

    @contextmanager
    def _with_remedy(self, step: int) -> Iterator[None]:
        try:
            yield
        except DamagedFile as error:
            if step == min(self.checkpoints, default=step):
                raise
            raise RunError(f"{error}; move {self.place(step)} away to go on from the checkpoint before") from None


@contextmanager
def only_writer(path: Path, *, by: str = "train") -> Iterator[Callable[[], None]]:
    """Keep everybody else from writing to a folder.

    Args:
        path: the folder.
        by: the method that holds it for as long as somebody loops over what it gives.

    Yields:
        What raises a RunError if the folder is not there any more, or another in its place: whoever writes for long
        asks before each time, or else a folder of the old name would be made.

    Raises:
        BusyFolder: if somebody writes there already; it says whether that is this process itself.
    """
    place = path.resolve()
    lock = filelock.FileLock(path / LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        if place in _written:
            raise BusyFolder(
                f"this process is writing to {path} already: end the loop over its other `{by}()`, or close() that"
            ) from None
        raise BusyFolder(f"another process is writing to {path}") from None
    _written.add(place)
    is_there = staying(path / LOCK)

    def check_still_there() -> None:
        if not is_there():
            raise RunError(f"{path} is gone: it was moved or removed while it was written to; go on where it is now")

    try:
        yield check_still_there
    finally:
        _written.discard(place)
        lock.release()


def not_there(paths: list[Path]) -> list[Path]:
    """Those of the paths at which there is nothing, not even a broken link."""
    return [path for path in paths if not os.path.lexists(path)]


@contextmanager
def removing_on_failure(paths: list[Path]) -> Iterator[None]:
    """If the block fails, remove these files, and these folders if nothing else is in them.

    Args:
        paths: that nobody had before, as `not_there` tells, each folder after what is in it.
    """
    try:
        yield
    except BaseException:  # Ctrl-C too
        for path in paths:
            with suppress(OSError):  # what went wrong is told, not what went wrong after it
                path.rmdir() if path.is_dir() else path.unlink()
        raise
