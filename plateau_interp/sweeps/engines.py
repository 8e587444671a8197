"""Where the jobs of a sweep run: an `Engine` opens a `Pool` of workers, which does one function's jobs in any order.

Engines are plug-ins (``plateau list engines``) and plain data. Here are those that need one machine and nothing else;
`plateau_interp.sweeps.cluster` has those on dask. All use one thread a worker unless told otherwise: threads wait for
each other where cores are shared, and one thread makes the same bits everywhere.
"""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import joblib
import psutil
from joblib.externals.loky.process_executor import TerminatedWorkerError

from plateau_interp.checks import check_whole
from plateau_interp.plugins import protocol_of
from plateau_interp.sweeps.endings import Stopped, never

__all__ = ["Engine", "Here", "Loky", "Lost", "Pool", "Work", "workers_that_fit"]

Work = Callable[[Any, Stopped], Any]
"""What is done with a job, which is plain data: a function at the top level of a module."""
MOST_DEATHS = 2
"""Of workers, without a job ending between, before the jobs that are left are done one at a time."""


@dataclass(frozen=True)
class Lost:
    """In the place of a job's result: its worker died, or could not begin.

    Args:
        reason: in words.
    """

    reason: str


class Pool(Protocol):
    """Workers that are there as long as an engine's context is open."""

    def results(self, function: Work, jobs: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Each job's index and result, or `Lost`, as they end; a loop that is left, by Ctrl-C too, stops the jobs."""
        ...


@protocol_of("engines")
@runtime_checkable
class Engine(Protocol):
    """Opens workers; a frozen dataclass under the entry-point group ``plateau_interp.engines``."""

    @property
    def threads(self) -> int:
        """Of torch, in each worker."""
        ...

    @property
    def on_this_machine(self) -> bool:
        """Whether the workers have this machine's devices."""
        ...

    def expected(self, *, memory: int) -> int | None:
        """How many workers there would be, each of which will need so many bytes; None if only a scheduler knows."""
        ...

    def opened(self, *, memory: int) -> AbstractContextManager[Pool]:
        """Workers, each of which will need so many bytes, while the context is open."""
        ...


@dataclass(frozen=True)
class Here:
    """This process: one run after the other.

    Args:
        threads: of torch.
    """

    name: ClassVar[str] = "here"
    threads: int = 1

    def __post_init__(self) -> None:
        check_whole(self, "threads", least=1)

    @property
    def on_this_machine(self) -> bool:
        """It is."""
        return True

    def expected(self, *, memory: int) -> int:
        """One."""
        return 1

    @contextmanager
    def opened(self, *, memory: int) -> Iterator[Pool]:
        """Itself; the run's own checks look at the memory."""
        yield _InTurn()


class _InTurn:
    def results(self, function: Work, jobs: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        for index, job in enumerate(jobs):
            yield index, function(job, never)


@dataclass(frozen=True)
class Loky:
    """Processes of this machine, by joblib's loky.

    Args:
        workers: by default as many as there are cores, or fewer, as many as have room in the free memory.
        threads: of torch, in each.
    """

    name: ClassVar[str] = "loky"
    workers: int | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        check_whole(self, "threads", least=1)
        if self.workers is not None:
            check_whole(self, "workers", least=1)

    @property
    def on_this_machine(self) -> bool:
        """They are."""
        return True

    def expected(self, *, memory: int) -> int:
        """As the constructor says."""
        return self.workers or workers_that_fit(memory, threads=self.threads)

    @contextmanager
    def opened(self, *, memory: int) -> Iterator[Pool]:
        """Processes, which joblib starts with the first job."""
        yield _Processes(self.expected(memory=memory), self.threads)


def workers_that_fit(memory: int, *, threads: int) -> int:
    """As many workers as this machine has cores for, and free memory; at least one.

    Args:
        memory: bytes that each will need.
        threads: that each will have.

    Example:
        >>> workers_that_fit(2**60, threads=1)
        1
    """
    return max(1, min(int(joblib.cpu_count()) // threads, _free_memory() // memory))


@dataclass
class _Processes:
    workers: int
    threads: int
    _deaths: int = field(default=0, init=False)

    def results(self, function: Work, jobs: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        left = dict(enumerate(jobs))
        self._deaths = 0
        while left and self._deaths < MOST_DEATHS:
            try:
                for index, result in self._side_by_side(function, left):
                    self._deaths = 0
                    del left[index]
                    yield index, result
            except TerminatedWorkerError:  # takes all the others with it; runs go on from their checkpoints
                self._deaths += 1
        for index, job in left.items():  # one of them kills its worker: which one shows when each is alone
            yield index, self._alone(function, job)

    def _side_by_side(self, function: Work, jobs: dict[int, Any]) -> Iterator[tuple[int, Any]]:
        calls = [joblib.delayed(_numbered)(function, index, job) for index, job in jobs.items()]
        with joblib.parallel_config(backend="loky", inner_max_num_threads=self.threads):
            # At least two: joblib takes one to mean this process, which a run that fills the memory would end.
            parallel = joblib.Parallel(n_jobs=max(2, self.workers), return_as="generator_unordered", batch_size=1)
            with _deaf_to_ctrl_c():  # in here the workers are started
                results = parallel(calls if self.workers > 1 else calls[:1])
            yield from results

    def _alone(self, function: Work, job: Any) -> Any:
        try:
            return next(self._side_by_side(function, {0: job}))[1]
        except TerminatedWorkerError as error:
            return Lost(f"its worker was killed, as where the memory is full: {' '.join(str(error).split())}")


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """What is started meanwhile never gets Ctrl-C, which a terminal sends to all; this process does, afterwards.

    It is what ends its workers; each of them would only print where it was.
    """
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _numbered(function: Work, index: int, job: Any) -> tuple[int, Any]:
    return index, function(job, never)


def _free_memory() -> int:
    """Bytes of memory that the machine could give away now."""
    return int(psutil.virtual_memory().available)
