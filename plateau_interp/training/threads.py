"""How many threads torch has, and whether the machine has a core for each: on a busy one they wait for each other."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch

from plateau_interp.checks import whole_number

__all__ = ["CoreTimes", "advice_on_threads", "core_times", "threads_of_torch"]


@contextmanager
def threads_of_torch(number: int | None) -> Iterator[None]:
    """Have torch use so many threads in this process; None for as many as it has.

    Raises:
        ValueError: for a number below 1.

    Example:
        >>> with threads_of_torch(1):
        ...     torch.get_num_threads()
        1
    """
    if number is None:
        yield
        return
    number = whole_number("threads", number, least=1)
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class CoreTimes:
    """Seconds since some moment: on the clock, and of processor time, of this process and of all there are."""

    clock: float
    own: float
    all: float

    def __sub__(self, earlier: "CoreTimes") -> "CoreTimes":
        return CoreTimes(self.clock - earlier.clock, self.own - earlier.own, self.all - earlier.all)


def core_times() -> CoreTimes:
    """Now; what runs with a low priority, and gives way, is not counted among all."""
    machine = psutil.cpu_times()
    return CoreTimes(time.monotonic(), time.process_time(), machine.user + machine.system)


def advice_on_threads(passed: CoreTimes, *, threads: int, cores: int) -> str | None:
    """What to do where other programs leave fewer cores than there are threads; None where there is nothing to say.

    Two threads that share a core wait for each other at the end of every product: a step takes two to seven times as
    long then as on one thread.

    Args:
        passed: a difference of two `core_times`, of some seconds.
        threads: of torch.
        cores: of the machine.

    Example:
        >>> advice_on_threads(CoreTimes(clock=10, own=11, all=20), threads=2, cores=2)
        "other programs keep 0.9 of this machine's 2 cores busy, and 2 threads wait for each other: try --threads 1"
    """
    others = max(0.0, passed.all - passed.own) / passed.clock
    left = max(1, int(cores - others))
    # A quarter of a core is what a desktop and its browser take.
    if threads == 1 or threads <= left or threads + others <= cores + 0.25:
        return None
    if others < 0.25:
        return f"{threads} threads share {cores} cores and wait for each other: try --threads {left}"
    return (
        f"other programs keep {others:.1f} of this machine's {cores} cores busy, and {threads} threads wait for each "
        f"other: try --threads {left}"
    )
