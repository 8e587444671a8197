"""Two measured trainings on two one-thread workers, against one after the other on two threads in this process."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.harness import Side
from plateau_interp.models import toy_model
from plateau_interp.sweeps.endings import Stopped
from plateau_interp.sweeps.engines import Engine, Here, Loky
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.training.loop import train
from plateau_interp.training.meter import Meter
from plateau_interp.training.threads import threads_of_torch

__all__ = ["both", "busy_neighbour", "trained"]

N_STEPS = 12
"""A run's; the processes are there before the time is taken, as in a sweep of many runs."""
MEMORY = 2**30


def trained(job: tuple[int, int, int], stopped: Stopped) -> float:
    """The last loss of a default run of some steps: seed, threads, steps."""
    seed, threads, n_steps = job
    task = MovingWindowSum()
    with threads_of_torch(threads):
        steps = list(train(toy_model(task, seed=seed), task, steps=n_steps, seed=seed, meter=Meter(task)))
    return steps[-1].loss


@contextmanager
def both(n_steps: int = N_STEPS) -> Iterator[tuple[Side, Side]]:
    """Side by side, and one after the other, while the context is open."""

    def side(engine: Engine) -> Side:
        jobs = [(seed, engine.threads, n_steps) for seed in range(2)]
        pool = pools[engine]
        return lambda: [loss for _, loss in sorted(pool.results(trained, jobs))]

    workers, here = Loky(workers=2, threads=1), Here(threads=2)
    with workers.opened(memory=MEMORY) as processes, here.opened(memory=MEMORY) as process:
        pools = {workers: processes, here: process}
        yield side(workers), side(here)


@contextmanager
def busy_neighbour() -> Iterator[None]:
    """Another process that keeps a core busy, while the context is open.

    In a session of its own, as those of other people and other terminals are: where the kernel shares the cores out to
    sessions and not to processes, which is Linux's default, that takes most of a core.
    """
    busy = [sys.executable, "-c", "while True: pass"]
    with subprocess.Popen(busy, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            yield
        finally:
            process.kill()
