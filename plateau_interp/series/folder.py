"""The folder of a series: what was asked, a line a measured checkpoint, and every prompt's own answers.

``series.json`` says of what and how; ``checkpoints.jsonl`` has a line a checkpoint, which is done once its line is
there; ``answers.parquet`` has what followed each prompt, ``metrics.parquet`` the lines as a table,
``attention/<step>.safetensors`` what the checkpoint attended to in the first prompt.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import filelock
import pandas as pd

from plateau_interp.checks import listed, shown
from plateau_interp.files import digest, read_table, write_atomically, write_table
from plateau_interp.folders import check_place, staying
from plateau_interp.interventions.measuring import numbered
from plateau_interp.runs.checking import Checked
from plateau_interp.runs.formats import SERIES_FORMAT
from plateau_interp.series.attention import KeptAttention
from plateau_interp.series.prompts import Prompts
from plateau_interp.series.same_series import differing_settings, differing_told, trained_under_alone

__all__ = ["RECORD_COLUMNS", "BusySeries", "Record", "SeriesError", "SeriesFolder", "check_series"]

SETTINGS, CHECKPOINTS, METRICS, ANSWERS, ATTENTION, LOCK = (
    "series.json",
    "checkpoints.jsonl",
    "metrics.parquet",
    "answers.parquet",
    "attention",
    ".lock",
)
RECORD_COLUMNS = ("step", "revision", "weights", "seconds", "duplicate", "error")
"""The columns that every row of a series has; a measure of such a name is ``NAME#2`` there."""


class SeriesError(ValueError):
    """A folder that is no series, another one, or damaged; one line that names it."""


class BusySeries(SeriesError):
    """A folder of a series that somebody else is writing to."""


@dataclass(frozen=True, eq=False)
class Record:
    """What was measured of one checkpoint.

    Attributes:
        step: updates of pretraining.
        revision: its name.
        weights: SHA-256 of its weights.
        seconds: that loading and measuring took.
        measures: numbers by name, NaN where there is none; empty where the checkpoint could not be had.
        error: why it could not be had; empty if it could.
        duplicate_of: steps of the series, measured before, with the very same weights.
        attention: SHA-256 of the file with its attention; empty where none was kept.
        files: SHA-256 of the files it was read from, where others may come to stand in their place; of the hub, the
            commit; of a run, of the weights; else empty.
        origins: SHA-256 of what interventions took from, such as another run; empty where they took from nothing.
    """

    step: int
    revision: str
    weights: str
    seconds: float
    measures: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    error: str = ""
    duplicate_of: tuple[int, ...] = ()
    attention: str = ""
    files: str = ""
    origins: str = ""

    def line(self) -> str:
        """The record as a line of JSON; what is no number is null there."""
        numbers = {name: value if math.isfinite(value) else None for name, value in self.measures.items()}
        told = {"step": self.step, "revision": self.revision, "weights": self.weights, "seconds": self.seconds}
        some = {"attention": self.attention, "files": self.files, "origins": self.origins, "error": self.error}
        whole = {**told, "measures": numbers, **{name: value for name, value in some.items() if value}}
        return json.dumps({**whole, "sha256": _digest(whole)}) + "\n"


class SeriesFolder:
    """What is in the folder of a series, read when somebody asks.

    Args:
        path: the folder.

    Raises:
        SeriesError: if it holds no series, or one that cannot be read.

    Example:
        >>> SeriesFolder(Path("nowhere"))
        Traceback (most recent call last):
            ...
        plateau_interp.series.folder.SeriesError: nowhere holds no series; `plateau series` makes one
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        file = self.path / SETTINGS
        if not file.is_file():
            raise SeriesError(f"{self.path} holds no series; `plateau series` makes one")
        try:
            self.settings: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            self.format = int(self.settings["format"])
            if self.format > SERIES_FORMAT:
                raise SeriesError(f"{self.path} has format {self.format}; this version reads up to {SERIES_FORMAT}")
            self.prompts = Prompts(tuple(self.settings["prompts"]), str(self.settings["prompts_origin"]))
            if self.prompts.digest != self.settings["prompts_sha256"]:
                raise SeriesError(f"{file} has other prompts than were written")
            # What a report tells.
            _ = int(self.settings["n_new"]), [each["name"] for each in self.settings["interventions"]]
            _ = self.settings["source"], trained_under_alone(self.settings)
        except SeriesError:
            raise
        except (ValueError, KeyError, TypeError, RecursionError, UnicodeDecodeError) as error:
            raise SeriesError(f"{file} cannot be read: {shown(error)}") from None

    @classmethod
    def opened(cls, path: str | Path, settings: Mapping[str, Any]) -> "SeriesFolder":
        """The series of these settings in a folder, begun if there is none yet, or none that has measured anything.

        Raises:
            SeriesError: if the folder holds another series, files that are no series', or lies in another of ours.
        """
        path = Path(path)
        asked = json.loads(json.dumps({"format": SERIES_FORMAT, **settings}))
        there = cls.found(path, settings)
        if there is None or there._differing(settings):
            # The latter was begun by a command that was mistaken in something: nothing is lost.
            with nullcontext() if there is None else there.writing():
                write_atomically(path / SETTINGS, json.dumps(asked, indent=2) + "\n")
            return cls(path)
        return there

    @classmethod
    def found(cls, path: str | Path, settings: Mapping[str, Any]) -> "SeriesFolder | None":
        """The series of these settings in a folder; None if there is none yet. Nothing is written.

        Raises:
            SeriesError: if the folder holds another series, which has measured something, or other things.
        """
        path = Path(path)
        if path.exists() and not path.is_dir():
            raise SeriesError(f"{path} is a file; a folder is needed")
        if (path / SETTINGS).is_file():
            there = cls(path)
            if (differing := there._differing(settings)) and there.records():
                told = differing_told(differing, there.settings, settings)
                raise SeriesError(f"{path} holds a series with {told}; take another folder")
            return there
        try:
            check_place(path, "series")
        except ValueError as error:
            raise SeriesError(str(error)) from None
        ours = {path / LOCK, *path.glob(f".{SETTINGS}.*.tmp")}
        if path.is_dir() and (others := {*path.iterdir()} - ours):
            name = shown(min(others).name)
            raise SeriesError(f"{path} is not empty and holds no series: there is {name}; take another folder")
        return None

    def _differing(self, settings: Mapping[str, Any]) -> list[str]:
        return differing_settings(self.settings, {"format": SERIES_FORMAT, **settings})

    @contextmanager
    def writing(self) -> Iterator[Callable[[], None]]:
        """Keep everybody else from writing.

        Yields:
            What raises a SeriesError if the folder is not there any more, or another in its place.

        Raises:
            BusySeries: if somebody does.
        """
        lock = filelock.FileLock(self.path / LOCK)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise BusySeries(f"{self.path} is being written already, by another process or by this one") from None
        is_there = staying(self.path / LOCK)

        def check_still_there() -> None:
            if not is_there():
                raise SeriesError(
                    f"{self.path} is gone: it was moved or removed while it was written to; go on where it is now"
                )

        try:
            yield check_still_there
        finally:
            lock.release()

    def records(self) -> list[Record]:
        """What was measured, in the order of measuring; a last line that was cut by a kill does not count.

        Raises:
            SeriesError: naming the first line that is no record.
        """
        file = self.path / CHECKPOINTS
        if not file.is_file():
            return []
        *lines, _ = file.read_bytes().split(b"\n")
        records: list[Record] = []
        seen: dict[str, list[int]] = {}
        for number, line in enumerate(lines, start=1):
            record = _parsed(line.decode(errors="replace"), f"{file}, line {number}", seen)
            if record.weights:
                seen.setdefault(record.weights, []).append(record.step)
            records.append(record)
        return records

    def add(self, record: Record, answers: pd.DataFrame, attention: KeptAttention | None = None) -> None:
        """Write down a checkpoint: its attention and answers, then its line, which is what counts.

        Raises:
            OSError: naming the file, if the disk is full.
        """
        if attention is not None:
            content = attention.to_bytes()
            write_atomically(self._attention_file(record.step), content)
            record = replace(record, attention=digest(content))
        earlier = self.answers()
        kept = earlier[earlier["step"] != record.step] if len(earlier) else earlier
        if len(answers):
            write_table(self.path / ANSWERS, pd.concat([kept, answers], ignore_index=True) if len(kept) else answers)
        file = self.path / CHECKPOINTS
        there = file.read_bytes() if file.is_file() else b""
        whole = there[: there.rfind(b"\n") + 1]  # a last line that was cut by a kill is dropped
        # Not in place: a snapshot of the folder by hard links has the file, too.
        write_atomically(file, whole + record.line().encode())
        write_table(self.path / METRICS, self.metrics())

    def answers(self) -> pd.DataFrame:
        """Every prompt at every checkpoint that is done: ``step``, ``prompt``, ``tokens``, ``text``, its measures."""
        file = self.path / ANSWERS
        done = {record.step for record in self.records() if record.weights}
        if not file.is_file():
            if done:
                raise SeriesError(
                    f"{file} is missing, but {CHECKPOINTS} says that {len(done)} checkpoints were measured"
                )
            return pd.DataFrame()
        try:
            table = read_table(file)
        except ValueError as error:
            raise SeriesError(str(error)) from None
        if missing := sorted(done - set(table["step"])):
            raise SeriesError(f"{file} has no answers of step {listed(list(map(str, missing)))}")
        return table[table["step"].isin(done)].reset_index(drop=True)

    def attention(self, record: Record) -> KeptAttention | None:
        """What a checkpoint attended to in the first prompt; None where that was not kept.

        Raises:
            SeriesError: naming the file, if it is missing or not what was written.
        """
        if not record.attention:
            return None
        file = self._attention_file(record.step)
        if not file.is_file():
            raise SeriesError(
                f"{file} is missing, but {CHECKPOINTS} says that attention was kept of step {record.step}"
            )
        content = file.read_bytes()
        if digest(content) != record.attention:
            raise SeriesError(f"{file} is not what was written")
        return KeptAttention.from_bytes(content)

    def metrics(self) -> pd.DataFrame:
        """A row a checkpoint, by step: ``step``, ``revision``, ``weights``, ``seconds``, ``duplicate``, the measures.

        ``duplicate`` is whether another step has the very same weights: such rows are no data, since nobody can tell
        which of the steps they belong to.
        """
        # A checkpoint that was not to be had has another line once it is.
        latest = {record.step: record for record in self.records()}
        records = sorted(latest.values(), key=lambda record: record.step)
        counts: dict[str, int] = {}
        for record in records:
            counts[record.weights] = counts.get(record.weights, 0) + 1
        rows = [
            {
                "step": record.step,
                "revision": record.revision,
                "weights": record.weights,
                "seconds": record.seconds,
                "duplicate": bool(record.weights) and counts[record.weights] > 1,
                "error": record.error,
                **numbered(record.measures, taken=RECORD_COLUMNS),  # earlier versions wrote such names
            }
            for record in records
        ]
        return pd.DataFrame(rows)

    def _attention_file(self, step: int) -> Path:
        return self.path / ATTENTION / f"{step}.safetensors"


def check_series(path: Path) -> Checked:
    """Check that the lines, answers and attention of a series are what was written.

    Example:
        >>> check_series(Path("nowhere")).faults
        ('nowhere holds no series; `plateau series` makes one',)
    """
    try:
        folder = SeriesFolder(path)
        records = folder.records()
        n_answers = len(folder.answers())
    except SeriesError as error:
        return Checked(path, faults=(str(error),))
    n_measured = len({record.step for record in records if record.weights})
    return Checked(
        path,
        checkpoints=n_measured,
        resumable=n_measured,
        rows=n_answers,
        faults=tuple(_faults_of_attention(folder, records)),
    )


def _faults_of_attention(folder: SeriesFolder, records: Sequence[Record]) -> Iterator[str]:
    for record in records:
        try:
            folder.attention(record)
        except SeriesError as error:
            yield str(error)


def _digest(told: Mapping[str, Any]) -> str:
    """Of a line without its digest."""
    return digest(json.dumps(told, sort_keys=True).encode())


def _parsed(line: str, where: str, seen: Mapping[str, list[int]]) -> Record:
    try:
        told = json.loads(line)
        if told.pop("sha256") != _digest(told):
            raise SeriesError(f"{where} is not what was written")
        measures = {
            str(name): math.nan if value is None else float(value) for name, value in dict(told["measures"]).items()
        }
        weights = str(told["weights"])
        return Record(
            int(told["step"]),
            str(told["revision"]),
            weights,
            float(told["seconds"]),
            measures,
            str(told.get("error", "")),
            tuple(seen.get(weights, ())) if weights else (),
            str(told.get("attention", "")),
            str(told.get("files", "")),
            str(told.get("origins", "")),
        )
    except SeriesError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        raise SeriesError(f"{where} is no record of a checkpoint: {shown(line)}") from None
