"""What a logger is: a small frozen dataclass that opens a `Log` for a run.

A package registers its own under the entry-point group ``plateau_interp.loggers``, a script with
`plateau_interp.plugins.register`. Who only wants numbers out of a run reads `plateau_interp.runs.run.Run.metrics`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, runtime_checkable

from plateau_interp.plugins import protocol_of
from plateau_interp.runs.run import Run

__all__ = ["Log", "Logger", "check_installed"]


class Log(ABC):
    """Where the numbers of a run go while it is open.

    A run that was killed measures the rows after its last checkpoint again, bit for bit. A log that lasts therefore
    says in ``last_step`` how far it got: it is handed what is missing up to where training goes on, and then only what
    comes after that step.

    Attributes:
        last_step: the last step of which it has the row from before, -1 for none; None for a log that keeps nothing,
            and is handed what is measured from now on.

    Example:
        >>> class Collected(Log):
        ...     def __init__(self) -> None:
        ...         self.rows: dict[int, dict[str, float]] = {}
        ...
        ...     def row(self, step: int, numbers: Mapping[str, float]) -> None:
        ...         self.rows[step] = dict(numbers)
        >>> log = Collected()
        >>> log.row(0, {"loss": 2.9})
        >>> log.rows
        {0: {'loss': 2.9}}
    """

    last_step: int | None = None

    @abstractmethod
    def row(self, step: int, numbers: Mapping[str, float]) -> None:
        """Take the row of a measured step: ``samples``, ``loss`` and the meter's, as in `Run.metrics`.

        Steps come in order, each once. Raise anything if that fails: the log is closed then, and the run goes on.
        """

    def picture(self, step: int, name: str, file: Path) -> None:  # noqa: B027  # a log need not know pictures
        """Take a picture that was drawn after so many updates; by default nothing is done.

        Args:
            step: updates made.
            name: of the picture.
            file: a PNG.
        """


@protocol_of("loggers")
@runtime_checkable
class Logger(Protocol):
    """A small immutable value that says where a run is logged."""

    def open_log(self, run: Run) -> AbstractContextManager[Log]:
        """Open the log of a run; closed on exit, also on error."""
        ...


def check_installed(package: str, *, logger: str) -> None:
    """Refuse a logger whose package is not there, before anything is trained.

    Raises:
        ValueError: saying how to install it.

    Example:
        >>> check_installed("json", logger="json")
    """
    if find_spec(package) is None:
        raise ValueError(
            f"the logger {logger} needs the package {package}, which is not installed: "
            "pip install 'plateau-interp[logging]'"
        )
