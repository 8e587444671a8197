"""Engines on dask: a scheduler that is running, workers of its own on this machine, or SLURM through dask-jobqueue.

Needs the extra ``cluster``. A worker that dies loses nothing but the steps since a run's last checkpoint: the scheduler
gives the run to another, which goes on from there.
"""

import logging
import signal
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from shutil import which
from typing import TYPE_CHECKING, Any, ClassVar

from plateau_interp.checks import check_whole
from plateau_interp.sweeps.endings import Stopped
from plateau_interp.sweeps.engines import Lost, Pool, Work, workers_that_fit

if TYPE_CHECKING:
    from dask_jobqueue import SLURMCluster
    from distributed import Client

__all__ = ["ClusterError", "Dask", "Slurm"]

ANSWER_WITHIN = 20.0
"""Seconds to wait for a scheduler that does not answer."""
ASK_EVERY = 1.0
"""Seconds between two questions of a worker whether to stop."""


class ClusterError(ValueError):
    """There is no cluster: dask is not installed, nobody answers, or the scheduler was lost."""


@dataclass(frozen=True)
class Dask:
    """A dask scheduler at an address, or workers of its own on this machine.

    Args:
        scheduler: its address, such as ``tcp://10.0.0.1:8786``; None starts workers on this machine.
        workers: that are started here; by default as many as there are cores and room in the free memory for.
        threads: of torch, in each worker.
    """

    name: ClassVar[str] = "dask"
    scheduler: str | None = None
    workers: int | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        check_whole(self, "threads", least=1)
        if self.workers is not None:
            check_whole(self, "workers", least=1)
            if self.scheduler is not None:
                raise ValueError("workers are started where there is no scheduler; give one of the two")

    @property
    def on_this_machine(self) -> bool:
        """Unless somebody else's scheduler has them."""
        return self.scheduler is None

    def expected(self, *, memory: int) -> int | None:
        """As the constructor says; the workers of another scheduler are not known."""
        if self.scheduler is not None:
            return None
        return self.workers or workers_that_fit(memory, threads=self.threads)

    @contextmanager
    def opened(self, *, memory: int) -> Iterator[Pool]:
        """Connected to the scheduler; workers of its own are ended with the context.

        Raises:
            ClusterError: if nobody answers, there are no workers, or dask is not installed.
        """
        _check_installed("distributed")
        from distributed import LocalCluster

        if self.scheduler is not None:
            with _client(self.scheduler) as client:
                if not client.scheduler_info(n_workers=-1)["workers"]:
                    raise ClusterError(
                        f"the dask scheduler at {self.scheduler} has no workers: start some with `dask worker ADDRESS`"
                    )
                yield _Cluster(client, self.scheduler)
            return
        # No memory limit: dask counts what torch holds as a leak, and would pause or kill the worker.
        sizes: dict[str, Any] = {"n_workers": self.expected(memory=memory), "threads_per_worker": 1, "memory_limit": 0}
        with (
            LocalCluster(**sizes, dashboard_address=":0", silence_logs=logging.ERROR) as cluster,
            _client(cluster) as client,
        ):
            yield _Cluster(client, cluster.scheduler_address)


@dataclass(frozen=True)
class Slurm:
    """Workers in the queue of SLURM, each a job of its own, through dask-jobqueue; jobs that end are asked for again.

    The scheduler runs in this process, on a machine that the workers can reach, such as the login node. (The job script
    is tested; nobody has tried it on a real SLURM.)

    Args:
        queue: the partition.
        workers: how many jobs to ask for.
        threads: of torch in each, and cores of a job.
        memory: of a job, such as ``8GB``.
        walltime: after which SLURM ends a job; its run goes on in the next.
        account: to be charged, if your cluster asks for one.
        directives: further ``#SBATCH`` lines, such as ``--gres=gpu:1``.
        before: lines of the job script that make Python ready, such as ``source .venv/bin/activate``.
    """

    name: ClassVar[str] = "slurm"
    queue: str
    workers: int = 4
    threads: int = 1
    memory: str = "4GB"
    walltime: str = "12:00:00"
    account: str | None = None
    directives: tuple[str, ...] = ()
    before: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_whole(self, "workers", "threads", least=1)

    def job_script(self) -> str:
        """What SLURM is given for each worker; nothing is asked for.

        Raises:
            ClusterError: if dask-jobqueue is not installed.
        """
        with self._cluster() as cluster:
            return str(cluster.job_script())

    @property
    def on_this_machine(self) -> bool:
        """They are where SLURM puts them."""
        return False

    def expected(self, *, memory: int) -> int:
        """As the constructor says; SLURM may give fewer, or later."""
        return self.workers

    @contextmanager
    def opened(self, *, memory: int) -> Iterator[Pool]:
        """Jobs in the queue, which are cancelled with the context.

        Raises:
            ClusterError: if dask-jobqueue or SLURM's own commands are not installed.
        """
        if which("sbatch") is None:
            raise ClusterError("SLURM's command sbatch is not on this machine")
        with self._cluster() as cluster:
            cluster.adapt(minimum=self.workers, maximum=self.workers)  # asks again for what SLURM has ended
            with _client(cluster) as client:
                yield _Cluster(client, cluster.scheduler_address)

    @contextmanager
    def _cluster(self) -> Iterator["SLURMCluster"]:
        _check_installed("dask_jobqueue")
        with _slurm_cluster()(
            queue=self.queue,
            cores=self.threads,
            processes=1,
            memory=self.memory,
            walltime=self.walltime,
            account=self.account,
            job_name="plateau-sweep",
            job_extra_directives=list(self.directives),
            job_script_prologue=list(self.before),
            scheduler_options={"dashboard_address": ":0"},
        ) as cluster:
            yield cluster


def _slurm_cluster() -> Any:
    """dask-jobqueue's class. Its import makes Ctrl-C end the process without a word, everywhere: that is undone."""
    handler = signal.getsignal(signal.SIGINT)
    from dask_jobqueue import SLURMCluster

    signal.signal(signal.SIGINT, handler)
    return SLURMCluster


def _check_installed(module: str) -> None:
    """Refuse to go on without a module of the extra.

    Raises:
        ClusterError: saying how to install it.
    """
    if find_spec(module) is None:
        raise ClusterError(f"{module} is not installed: pip install 'plateau-interp[cluster]'")


@contextmanager
def _client(where: Any) -> Iterator["Client"]:
    from distributed import Client

    try:
        client = Client(where, timeout=ANSWER_WITHIN, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        reason = " ".join(str(error).split())
        raise ClusterError(f"no dask scheduler answers at {where}: {reason}") from None
    try:
        yield client
    finally:
        with suppress(OSError, TimeoutError):  # it may be the scheduler that is gone
            client.close(timeout=2)


class _Cluster:
    def __init__(self, client: "Client", address: str) -> None:
        self.client, self.address = client, address

    def results(self, function: Work, jobs: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        from distributed import as_completed

        word = f"plateau-{uuid.uuid4().hex}"
        futures = {
            self.client.submit(_on_worker, function, job, word, pure=False): index for index, job in enumerate(jobs)
        }
        given_up: list[int] = []
        try:
            for future in as_completed(futures, loop=self.client.loop):
                self._check_there(future)
                if _was_killed(future):  # perhaps by another job, whose worker it waited for
                    given_up.append(futures[future])
                else:
                    yield futures[future], _result(future)
            for index in given_up:  # once more, with no other job beside it
                future = self.client.submit(_on_worker, function, jobs[index], word, pure=False)
                futures[future] = index
                for ended in as_completed([future], loop=self.client.loop):
                    self._check_there(ended)
                    yield index, _result(ended)
        except BaseException:
            _stop(self.client, list(futures), word)
            raise

    def _check_there(self, future: Any) -> None:
        if future.status in ("cancelled", "lost"):
            raise ClusterError(f"the dask scheduler at {self.address} was lost; what is trained is kept")


def _was_killed(future: Any) -> bool:
    from distributed.scheduler import KilledWorker

    return future.status == "error" and isinstance(future.exception(), KilledWorker)


def _result(future: Any) -> Any:
    if future.status == "finished":
        return future.result()
    error = future.exception()
    return Lost(f"{type(error).__name__}: {' '.join(str(error).split())}")


def _stop(client: "Client", futures: list[Any], word: str) -> None:
    """Have the workers stop, and forget what has not begun."""
    from distributed import Event

    if client.status != "running":
        return
    with suppress(OSError, TimeoutError):
        Event(word, client=client).set()
        client.cancel(futures)


def _on_worker(function: Work, job: Any, word: str) -> Any:
    return function(job, _asking(word))


def _asking(word: str) -> Stopped:
    from distributed import Event

    event, asked, answer = Event(word), time.monotonic(), False

    def stopped() -> bool:
        nonlocal asked, answer
        if time.monotonic() - asked >= ASK_EVERY:
            answer, asked = bool(event.is_set()), time.monotonic()
        return answer

    return stopped
