"""The errors of run folders."""

from pathlib import Path

__all__ = ["BusyFolder", "DamagedFile", "RunError"]


class RunError(ValueError):
    """A run folder that cannot be used as asked (nothing is written then), or a training that diverged."""


class BusyFolder(RunError):
    """A run folder that somebody else is writing to."""


class DamagedFile(RunError):
    """A file of a run that is not what was written.

    Args:
        file: which.
        why: what is wrong with it.
        line: of a table, where; counted from 1.
    """

    def __init__(self, file: Path, why: object, *, line: int | None = None) -> None:
        place = str(file) if line is None else f"{file}, line {line},"
        super().__init__(f"{place} is damaged: {why}")
