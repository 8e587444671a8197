"""How long the processor has worked on a run: ``seconds.jsonl``, a line each time something is measured or saved.

``{"updates": 100, "seconds": 41.2}``: so many seconds of the processor, of all its threads together, for so many
updates, with what was measured and saved on the way; what whoever trains does between two steps is not counted, nor
what was lost by a kill. Two runs of one recipe have the same rows and other seconds, so no digest has them, and nothing
but a budget reads them. Runs of earlier versions have no such file: theirs are not known, and stay so.
"""

import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from plateau_interp.analysis.budgets import seconds_before
from plateau_interp.checks import shown
from plateau_interp.files import naming, write_atomically
from plateau_interp.runs.errors import DamagedFile

__all__ = ["Seconds", "Stopwatch", "read_seconds", "up_to", "write_seconds"]

Seconds = tuple[tuple[int, float], ...]
"""Updates made, and the seconds that they took, in order; empty where nobody wrote them down."""


class Stopwatch:
    """Counts the seconds of this process's processor while it is entered, and writes them down.

    Args:
        file: which; None counts in vain, for a run whose first steps nobody timed.
        before: what was counted earlier, which is in the file already.

    Raises:
        OSError: naming the file, if the disk is full.
    """

    def __init__(self, file: Path | None, before: Seconds) -> None:
        self._path = file
        self._before = before[-1][1] if before else 0.0
        self._file: IO[str] | None = None
        self._paused = 0.0

    def __enter__(self) -> Self:
        self._begun = time.process_time()
        if self._path is not None:
            self._file = self._path.open("a", encoding="utf-8")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._path is not None and self._file is not None:
            with naming(self._path):
                self._file.close()

    @property
    def seconds(self) -> float:
        """Counted until now, the earlier ones among them."""
        return self._before + time.process_time() - self._begun - self._paused

    def note(self, updates: int) -> None:
        """Write down the seconds until now."""
        if self._path is not None and self._file is not None:
            with naming(self._path):
                self._file.write(_line(updates, self.seconds))
                self._file.flush()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Count nothing in here."""
        begun = time.process_time()
        try:
            yield
        finally:
            self._paused += time.process_time() - begun


def read_seconds(file: Path) -> Seconds:
    """What a file holds; nothing if it is not there. A last line without its end was cut off by a kill.

    Raises:
        DamagedFile: naming the first line that is none.
    """
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return ()
    found: list[tuple[int, float]] = []
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            found.append(_entry(line, after=found[-1] if found else (0, 0.0)))
        except ValueError as error:
            why = f"{error}; remove the file if nobody needs to know how long the processor worked"
            raise DamagedFile(file, why, line=number) from None
    return tuple(found)


def up_to(known: Sequence[tuple[int, float]], updates: int) -> Seconds:
    """What is known of the first so many updates; nothing if it ends before.

    Example:
        >>> up_to([(10, 2.0), (20, 6.0)], 15), up_to([(10, 2.0)], 15)
        (((10, 2.0), (15, 4.0)), ())
    """
    last = seconds_before(known, updates)
    if last is None or not updates:
        return ()
    return (*((step, seconds) for step, seconds in known if step < updates), (updates, last))


def write_seconds(file: Path, known: Seconds) -> None:
    """Write these in the place of what is there; no file for none.

    Raises:
        OSError: as from `write_atomically`.
    """
    if known:
        write_atomically(file, "".join(_line(*entry) for entry in known))
    else:
        file.unlink(missing_ok=True)


def _line(updates: int, seconds: float) -> str:
    return json.dumps({"updates": updates, "seconds": round(seconds, 3)}) + "\n"


def _entry(line: bytes, *, after: tuple[int, float]) -> tuple[int, float]:
    try:
        data = json.loads(line)
        updates, seconds = data["updates"], data["seconds"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(f"{shown(line[:60])} is no count of seconds") from None
    if type(updates) is not int or type(seconds) not in (int, float) or not math.isfinite(seconds):
        raise ValueError(f"{shown(data)} is no count of seconds")
    if updates <= after[0] or seconds < after[1]:
        raise ValueError(f"{shown(data)} comes after {after[0]} updates and {after[1]} seconds")
    return updates, float(seconds)
