"""Hand a run's rows to loggers as they come; a logger that fails costs one warning, never the run."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from plateau_interp.checks import shown
from plateau_interp.loggers.contract import Log, Logger
from plateau_interp.runs.run import Run
from plateau_interp.training.loop import Step

__all__ = ["LoggerWarning", "RunLog", "check_loggers", "logging_to"]


class LoggerWarning(UserWarning):
    """A logger failed; the run goes on without it."""


@dataclass(frozen=True, eq=False)
class _Opened:
    """A log, and what closes it."""

    logger: Logger
    log: Log
    context: AbstractContextManager[Log]


class RunLog:
    """The open logs of a run; see `logging_to`."""

    def __init__(self, run: Run, loggers: Sequence[Logger]) -> None:
        self._run = run
        self._opened = [opened for logger in loggers if (opened := self._open(logger)) is not None]

    def catch_up(self) -> None:
        """Hand on the rows before training goes on that a log lacks: of a fork its parent's, too.

        Raises:
            RunError: if the run's rows are damaged.
        """
        behind = [opened for opened in self._opened if opened.log.last_step is not None]
        if not behind or not self._run.step:
            return
        table = self._run.metrics
        for row in table[table["step"] < self._run.step].to_dict("records"):
            step = int(row.pop("step"))
            self._row(step, {str(name): float(value) for name, value in row.items()}, only=behind)

    def step(self, step: Step) -> None:
        """Hand on a step's row, if it was measured, to the logs that do not have it."""
        if step.metrics:
            self._row(step.step, {"samples": step.samples, "loss": step.loss, **step.metrics})

    def picture(self, name: str, file: Path) -> None:
        """Hand on a picture of the run as it is now.

        Args:
            name: of the picture.
            file: a PNG.
        """
        step = self._run.step
        self._each(lambda opened: opened.log.picture(step, name, file))

    def close(self, error: BaseException | None = None) -> None:
        """Close all logs; an error that ended the run is told to them."""
        while self._opened:
            self._close(self._opened.pop(), error)

    def _open(self, logger: Logger) -> _Opened | None:
        try:
            context = logger.open_log(self._run)
            return _Opened(logger, context.__enter__(), context)
        except Exception as error:
            self._warn(logger, error)
            return None

    def _row(self, step: int, numbers: dict[str, float], *, only: Sequence[_Opened] | None = None) -> None:
        def hand_on(opened: _Opened) -> None:
            last = opened.log.last_step
            if (only is None or opened in only) and (last is None or step > last):
                opened.log.row(step, {**numbers})  # its own, to change as it likes

        self._each(hand_on)

    def _each(self, act: Callable[[_Opened], None]) -> None:
        for opened in [*self._opened]:
            try:
                act(opened)
            except Exception as error:  # anything can go wrong in somebody's package, or on the way to a server
                self._opened.remove(opened)
                self._warn(opened.logger, error)
                self._close(opened, error, warning=False)

    def _close(self, opened: _Opened, told: BaseException | None, *, warning: bool = True) -> None:
        try:
            opened.context.__exit__(*((None, None, None) if told is None else (type(told), told, told.__traceback__)))
        except Exception as error:
            if warning and error is not told:
                self._warn(opened.logger, error)

    def _warn(self, logger: Logger, error: Exception) -> None:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        warnings.warn(
            f"the logger {shown(logger)} failed and is left out; the run goes on: {reason}", LoggerWarning, stacklevel=2
        )


def check_loggers(loggers: Sequence[Logger]) -> None:
    """Refuse what is no logger, and one that is given twice.

    Raises:
        ValueError: naming it.
    """
    for place, logger in enumerate(loggers):
        if isinstance(logger, type) or not isinstance(logger, Logger):
            raise ValueError(f"a logger must be one such as TensorBoard(); got {shown(logger)}")
        if logger in loggers[:place]:
            raise ValueError(f"the logger {shown(logger)} is given twice")


@contextmanager
def logging_to(run: Run, *loggers: Logger) -> Iterator[RunLog]:
    """Have a run's rows and pictures go to loggers while the context is open.

    Logs that last are brought up to date first: with the rows that the run has and they lack, of a fork also its
    parent's. A run that was killed and goes on has every step in them once. A logger that fails, in any way, is left
    out with one `LoggerWarning`; the run's bits are the same with and without loggers.

    Args:
        run: to be trained, or finished.
        loggers: such as `plateau_interp.loggers.tensorboard.TensorBoard`.

    Yields:
        The open logs, to be given each step of the run.

    Raises:
        ValueError: for what is no logger, and one that is given twice.
        RunError: if the run's rows are damaged.

    Example:
        >>> from plateau_interp.loggers.tensorboard import TensorBoard
        >>> run = Run("runs/mws")  # doctest: +SKIP
        >>> with logging_to(run, TensorBoard()) as log:  # doctest: +SKIP
        ...     for step in run.train():
        ...         log.step(step)
    """
    check_loggers(loggers)
    log = RunLog(run, loggers)
    try:
        log.catch_up()
        yield log
    except BaseException as error:
        log.close(error)
        raise
    log.close()
