"""Measure one side against the other in one process, and print what came out beside its bound.

Ratios, because they hold on any machine; alternating, because a machine's speed drifts; medians, because others use it
too.
"""

import ctypes
import gc
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

Side = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """A promise: ``measure`` gives a result that must not exceed the bound."""

    what: str
    bound: float
    measure: Callable[[], "Result"]


@dataclass(frozen=True)
class Result:
    value: float
    details: str
    unit: str = ""


def keep_freed_memory() -> None:
    """Have this process keep what tensors free, where the C library can be told (glibc).

    Otherwise large pieces are given back and asked for again within a step, or not, as it happens: faults of pages that
    are five per cent of a step in one process and none in the next.
    """
    with suppress(AttributeError, OSError):
        tell = ctypes.CDLL(None).mallopt
        trim_threshold, mmap_threshold, much = -1, -3, 2**30
        tell(trim_threshold, much)
        tell(mmap_threshold, much)


def ratio(side: Side, baseline: Side, *, rounds: int = 15, warm_ups: int = 2) -> Result:
    """The median over many rounds of side / baseline, each timed once a round, in alternating order."""
    for warm_up in (side, baseline) * warm_ups:
        warm_up()
    pairs = []
    gc.disable()
    try:
        for index in range(rounds):
            order = (side, baseline) if index % 2 == 0 else (baseline, side)
            seconds = {one: _seconds(one) for one in order}
            pairs.append((seconds[side], seconds[baseline]))
    finally:
        gc.enable()
    ratios = [ours / theirs for ours, theirs in pairs]
    low, middle, high = statistics.quantiles(ratios, n=4)
    ours, theirs = (statistics.median(times) * 1e3 for times in zip(*pairs, strict=True))
    return Result(middle, f"{ours:.1f} / {theirs:.1f} ms, {rounds} rounds, quartiles {low:.3g} to {high:.3g}")


def anew(measure: Callable[[], Result], *, goes: int = 9) -> Result:
    """The median of several goes, each with sides of its own: where tensors come to lie decides some per cent."""
    results = sorted((measure() for _ in range(goes)), key=lambda result: result.value)
    values, middle = [result.value for result in results], results[goes // 2]
    return Result(middle.value, f"{middle.details}; {goes} goes, {values[0]:.3g} to {values[-1]:.3g}", middle.unit)


def wall_time(command: Sequence[str], *, rounds: int = 7) -> Result:
    """The median time of a command, in seconds."""
    times = [
        _seconds(lambda: subprocess.run(command, check=True, capture_output=True, text=True)) for _ in range(rounds + 1)
    ]
    return Result(statistics.median(times[1:]), f"{rounds} rounds, {min(times):.2f} to {max(times[1:]):.2f} s", " s")


def peak_memory(command: Sequence[str]) -> Result:
    """The largest resident memory of a command, in GiB.

    A small process in between starts it: a process that is started inherits the peak of the one that starts it.
    """
    launcher = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", launcher, *command], check=True, capture_output=True, text=True)
    kibibytes = int(done.stdout) / (1024 if sys.platform == "darwin" else 1)
    return Result(kibibytes / 2**20, "peak resident", " GiB")


def report(rows: Sequence[Row]) -> bool:
    """Measure every row, printing as it goes; whether all bounds hold. A command that fails breaks its bound."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    table = Table("what", "measured", "bound", "", "how")
    good = True
    with Live(table, console=console):
        for row in rows:
            try:
                result = row.measure()
            except subprocess.CalledProcessError as error:
                result = Result(math.nan, escape(f"{error}\n{error.stderr}"))
            holds = result.value <= row.bound
            good = good and holds
            measured, bound = (f"{number:.3g}{result.unit}" for number in (result.value, row.bound))
            table.add_row(row.what, measured, f"<= {bound}", "ok" if holds else "[red]BROKEN[/]", result.details)
    return good


def _seconds(side: Side) -> float:
    start = time.perf_counter()
    side()
    return time.perf_counter() - start
