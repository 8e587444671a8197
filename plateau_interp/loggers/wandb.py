"""Metrics, recipe and pictures for Weights & Biases, online or off: ``wandb sync RUN/wandb/offline-run-*``.

Who reads a run of a folder needs none of it. For a log that needs no account use
`plateau_interp.loggers.tensorboard`.
"""

import json
import secrets
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from plateau_interp.files import write_atomically
from plateau_interp.loggers.contract import Log, check_installed
from plateau_interp.runs.run import Run

__all__ = ["WeightsAndBiases", "logged_items", "records"]

PATIENCE = 30.0
"""Seconds for the end of a session to reach the disk; half of one is usual on a busy machine."""
FOLDER, IDENTITY = "wandb", "run-id.txt"
BLOCK, FILE_HEADER, HEADER = 32768, 7, 7
FIRST, FULL, LAST = 2, 1, 4
"""Of a record's parts, in LevelDB's numbers; 3 is one between the first and the last."""


@dataclass(frozen=True)
class WeightsAndBiases:
    """Log to Weights & Biases: metrics by step, the recipe as configuration, the report's pictures at the end.

    What is sent, or waits to be sent, lies in RUN/wandb. A run that goes on does so under its id there, and no step
    comes twice.

    Args:
        project: of the account.
        entity: user or team; None for the account's own.
        mode: ``offline`` writes files alone, for ``wandb sync``; None does as ``WANDB_MODE`` says, by default online.

    Raises:
        ValueError: if the package wandb is not installed, or the mode is another.

    Example:
        >>> WeightsAndBiases(mode="offline").project
        'plateau-interp'
    """

    name: ClassVar[str] = "wandb"
    project: str = "plateau-interp"
    entity: str | None = None
    mode: Literal["online", "offline"] | None = None

    def __post_init__(self) -> None:
        check_installed("wandb", logger=self.name)
        if self.mode not in (None, "online", "offline"):
            raise ValueError(f"mode must be online, offline or None; got {self.mode!r}")

    @contextmanager
    def open_log(self, run: Run) -> Iterator[Log]:
        """The log of a run, under an id of its own."""
        log = _Session(self, run)
        try:
            yield log
        except BaseException:
            log.close(exit_code=1)
            raise
        log.close(exit_code=0)


class _Session(Log):
    """One more session of a run's log, begun when there is something to log."""

    def __init__(self, logger: WeightsAndBiases, run: Run) -> None:
        self._logger = logger
        self._run = run
        self._folder = run.path / FOLDER
        self._is_open = False
        there = list(logged_items(run.path))
        self._pictures_at = max((step for name, step in there if name.startswith("report/")), default=-1)
        self._rows_to = self.last_step = max((step for name, step in there if name == "loss"), default=-1)
        self._row_at: int | None = None

    def row(self, step: int, numbers: Mapping[str, float]) -> None:
        self._session.log(dict(numbers), step=step)  # and is written with the next, or at the end
        self._row_at = step

    def picture(self, step: int, name: str, file: Path) -> None:
        if self._row_at is None and self._pictures_at >= self._rows_to:
            return  # nothing is new since they were logged
        import wandb

        # In the last row: a row of their own might have the step of one that comes if the run is lengthened.
        at = step if self._row_at is None else self._row_at
        self._session.log({f"report/{name}": wandb.Image(str(file))}, step=at)

    def close(self, *, exit_code: int) -> None:
        if not self._is_open:
            return
        file = Path(self._session.dir).parent / f"run-{self._id}.wandb"
        self._session.finish(exit_code=exit_code)
        if not file.is_file():  # WANDB_MODE=disabled: nothing is logged anywhere
            return
        # It does not wait for the disk, and who opens the log next has to find all of it.
        deadline = time.monotonic() + PATIENCE
        while not any(record.WhichOneof("record_type") == "exit" for record in _messages(file)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{file} was not written to its end within {PATIENCE:.0f} s")
            time.sleep(0.05)

    @property
    def _id(self) -> str:
        file = self._folder / IDENTITY
        if not file.is_file():
            write_atomically(file, secrets.token_hex(4) + "\n")
        return file.read_text(encoding="utf-8").strip()

    @cached_property
    def _session(self) -> Any:
        import wandb

        session = wandb.init(
            project=self._logger.project,
            entity=self._logger.entity,
            mode=self._logger.mode,
            id=self._id,
            resume="allow",
            name=self._run.path.resolve().name,
            config=self._run.recipe.to_dict(),
            dir=str(self._run.path),
            # It says nothing on the terminal, and looks at no code: what made a run is in the recipe.
            settings=wandb.Settings(silent=True, console="off", disable_git=True, save_code=False),
        )
        self._is_open = True
        return session


def logged_items(run: Path) -> Iterator[tuple[str, int]]:
    """The names of all that the sessions of a run folder have written down, with their steps.

    Nobody else knows after a kill: what was handed to the package may not have reached its file.

    Args:
        run: its folder.

    Example:
        >>> list(logged_items(Path("runs/never-logged")))
        []
    """
    for file in sorted((run / FOLDER).glob("*run-*/run-*.wandb")):
        for record in _messages(file):
            if record.WhichOneof("record_type") == "history":
                items = {item.key or ".".join(item.nested_key): item.value_json for item in record.history.item}
                step = int(json.loads(items.get("_step", "-1")))
                yield from ((name, step) for name in items)


def _messages(file: Path) -> Iterator[Any]:
    from wandb.proto.wandb_internal_pb2 import Record

    return map(Record.FromString, records(file.read_bytes()))


def records(content: bytes) -> Iterator[bytes]:
    """The records of a session's file, which is LevelDB's log format behind a header; a cut-off end does not count.

    Args:
        content: of the file.

    Example:
        >>> list(records(b"header." + struct.pack("<IHB", 0, 2, FULL) + b"me"))
        [b'me']
    """
    at, parts = FILE_HEADER, b""
    while at + HEADER <= len(content):
        if BLOCK - at % BLOCK < HEADER:  # the rest of a block is empty
            at += BLOCK - at % BLOCK
            continue
        _checksum, n_bytes, kind = struct.unpack("<IHB", content[at : at + HEADER])
        begin, at = at + HEADER, at + HEADER + n_bytes
        if not kind or at > len(content):
            return
        part = content[begin:at]
        parts = part if kind in (FIRST, FULL) else parts + part
        if kind in (FULL, LAST):
            yield parts
