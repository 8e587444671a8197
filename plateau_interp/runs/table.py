"""The table of a run: ``metrics.jsonl``, one line a measured step, appended as the run trains.

Lines are JSON objects of numbers; what is no number is null, because JSON knows no NaN. A last line without its end was
cut off by a kill and does not count. Everything is checked where it is read, and parsed once as long as the file stays
the same.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pandas as pd

from plateau_interp.checks import shown
from plateau_interp.files import naming, write_atomically
from plateau_interp.runs.errors import DamagedFile, RunError
from plateau_interp.training.loop import ROW_COLUMNS

__all__ = ["Row", "RowWriter", "Table", "nan_for_null", "null_for_nan", "text_of"]

Row = Mapping[str, float]

DIGITS = 18
"""More digits fit no 64-bit integer; nobody has that many steps."""


class Table:
    """The rows of a file, read when somebody asks and again when the file has changed.

    Args:
        file: where the rows are; it need not exist.
        every: steps from one row to the next.
    """

    def __init__(self, file: Path, *, every: int) -> None:
        self.file = file
        self.every = every
        self._version: tuple[int, int, int] | None = None
        self._rows: tuple[Row, ...] = ()
        self._frame = pd.DataFrame()
        self._digests: dict[int, str] = {}

    def rows(self, *, reached: int = 0) -> tuple[Row, ...]:
        """All rows, in order.

        Args:
            reached: a step up to which there must be rows.

        Raises:
            DamagedFile: naming the first line that is no row, or not that of its step.
            RunError: if there are fewer rows than that.
        """
        self._read()
        expected = len(range(0, reached, self.every))
        if len(self._rows) < expected:
            raise RunError(
                f"{self.file} has {len(self._rows)} rows before step {reached}, not the expected {expected}: one for "
                f"every {self.every} steps from 0 on"
            )
        return self._rows

    def frame(self, *, reached: int = 0) -> pd.DataFrame:
        """A table of all rows, the caller's own to change; raises as `rows` does."""
        self.rows(reached=reached)
        return self._frame.copy()

    def digest(self, *, before: int) -> str:
        """The digest of the rows before a step, the same however the file is spaced; raises as `rows` does."""
        rows = self.rows(reached=before)
        if before not in self._digests:
            self._digests[before] = _hashed(row for row in rows if row["step"] < before).hexdigest()
        return self._digests[before]

    def replace(self, rows: Iterable[Row]) -> None:
        """Write these rows in the place of those that are there.

        Raises:
            OSError: as from `write_atomically`.
        """
        write_atomically(self.file, text_of(rows))

    def _read(self) -> None:
        try:
            # Taken before the file is read: rows that come in between are read now, and once more the next time.
            stat = self.file.stat()
        except FileNotFoundError:
            self._version, self._rows, self._frame, self._digests = None, (), pd.DataFrame(), {}
            return
        version = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if version != self._version:
            self._rows = tuple(_parsed(self.file, every=self.every))
            self._frame = pd.DataFrame(list(self._rows))
            self._version, self._digests = version, {}


class RowWriter:
    """Appends rows to a file while it is entered.

    Args:
        file: which.
        there: the rows that it holds already.

    Raises:
        OSError: naming the file, if the disk is full.
    """

    def __init__(self, file: Path, *, there: Iterable[Row]) -> None:
        self._path = file
        self._hash = _hashed(there)

    def __enter__(self) -> Self:
        self._file = self._path.open("a", encoding="utf-8")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with naming(self._path):
            self._file.close()

    def add(self, row: Row) -> None:
        """Append a row, for every reader to see."""
        line = _line(row)
        with naming(self._path):
            self._file.write(line)
            self._file.flush()
        self._hash.update(line.encode())

    @property
    def digest(self) -> str:
        """The digest of all rows, as `Table.digest` tells it."""
        return self._hash.hexdigest()

    def force(self) -> None:
        """Force all rows to disk."""
        with naming(self._path):
            os.fsync(self._file.fileno())


def text_of(rows: Iterable[Row]) -> str:
    r"""The content of a file of these rows.

    Example:
        >>> text_of([{"step": 0, "loss": float("nan")}])
        '{"step": 0, "loss": null}\n'
    """
    return "".join(map(_line, rows))


def null_for_nan(numbers: Row) -> dict[str, float | None]:
    """Numbers as JSON knows them: None for what is not finite."""
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}


def nan_for_null(numbers: Mapping[str, float | None]) -> dict[str, float]:
    """The numbers that `null_for_nan` was given, infinite ones as NaN."""
    return {name: math.nan if value is None else value for name, value in numbers.items()}


def _hashed(rows: Iterable[Row]) -> "hashlib._Hash":
    hashed = hashlib.sha256()
    for row in rows:
        hashed.update(_line(row).encode())
    return hashed


def _line(row: Row) -> str:
    return json.dumps(null_for_nan(row), allow_nan=False) + "\n"


def _parsed(file: Path, *, every: int) -> Sequence[Row]:
    rows: list[Row] = []
    for number, line in enumerate(file.read_bytes().split(b"\n")[:-1], start=1):
        try:
            row = _row(line)
            _check_step(row["step"], expected=every * len(rows))
        except ValueError as error:
            raise DamagedFile(file, error, line=number) from None
        rows.append(row)
    return rows


def _row(line: bytes) -> Row:
    """The row of a line.

    Raises:
        ValueError: saying what is wrong with it.
    """
    try:
        data = json.loads(line.decode(), parse_int=_integer, parse_constant=_no_number)
    except UnicodeDecodeError:
        raise ValueError("it is no text in UTF-8") from None
    except (json.JSONDecodeError, RecursionError):
        raise ValueError(f"it is no JSON: {shown(line.decode())}") from None
    if not isinstance(data, dict):
        raise ValueError(f"it is no row of metrics: {shown(data)}")
    for name in ROW_COLUMNS:
        if name not in data:
            raise ValueError(f"it has no {name}")
    for name, value in data.items():
        _check_cell(name, value)
    return nan_for_null(data)


def _check_cell(name: str, value: Any) -> None:
    if name in ("step", "samples"):
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(f"{name} is {shown(value)}, not a whole number")
    elif value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ValueError(f"{name} is {shown(value)}, not a number")
    elif value is not None and not math.isfinite(value):
        raise ValueError(f"{name} is a number that is too large")


def _check_step(step: float, *, expected: int) -> None:
    if step < expected:
        raise ValueError(f"step {step} comes again; expected step {expected}")
    if step > expected:
        raise ValueError(f"step {expected} is missing: this is step {step}")


def _integer(digits: str) -> int:
    if len(digits) > DIGITS:
        raise ValueError(f"{shown(digits)} is too large a number")
    return int(digits)


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no JSON; what is no number is null")
