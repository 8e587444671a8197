"""Measure one side against the other in one process, and print what came out beside its bound, row by row.

Ratios, because they hold on any machine; alternating, because a machine's speed drifts; medians, because others use it
too.
"""

import gc
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Side = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """A promise: ``measure`` gives a result that must not exceed the bound."""

    what: str
    bound: float
    measure: Callable[[], "Result"]


@dataclass(frozen=True)
class Result:
    """What was measured, mostly a median, with the quartiles of what it is the median of."""

    value: float
    details: str
    unit: str = ""
    quartiles: tuple[float, float] | None = None

    def __str__(self) -> str:
        spread = "" if self.quartiles is None else " ({:.3g} to {:.3g})".format(*self.quartiles)
        return f"{self.value:.3g}{self.unit}{spread}"


class Lacking(Exception):
    """What a row needs and this machine does not have: its bound is neither held nor broken."""


def ratio(side: Side, baseline: Side, *, rounds: int = 15, warm_ups: int = 2, for_each: int = 1) -> Result:
    """The median over many rounds of side / baseline, each timed once a round, in alternating order.

    A side that does the baseline's work for each of many is divided by so many of them, of which one is timed.
    """
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
    ratios = [ours / (for_each * theirs) for ours, theirs in pairs]
    ours, theirs = (statistics.median(times) * 1e3 for times in zip(*pairs, strict=True))
    each = f"{for_each} times " if for_each > 1 else ""
    return _median(ratios, f"{ours:.1f} / {each}{theirs:.1f} ms, {rounds} rounds")


def anew(measure: Callable[[], Result], *, goes: int = 9) -> Result:
    """The median of several goes, each with sides of its own: where tensors come to lie decides some per cent."""
    results = sorted((measure() for _ in range(goes)), key=lambda result: result.value)
    middle = results[goes // 2]
    return _median([result.value for result in results], f"{middle.details}; {goes} goes", middle.unit)


def wall_time(command: Sequence[str], *, rounds: int = 7) -> Result:
    """The median time of a command, in seconds."""
    times = [
        _seconds(lambda: subprocess.run(command, check=True, capture_output=True, text=True)) for _ in range(rounds + 1)
    ]
    return _median(times[1:], f"{rounds} rounds", " s")


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
    """Measure every row and print it at once; whether all bounds hold. A command that fails breaks its bound."""
    start, verdicts = time.monotonic(), []
    _print_line("measured (quartiles)", "bound", "", "what, and how")
    for row in rows:
        measured, unit = "-", ""
        try:
            result = row.measure()
        except Lacking as lacking:
            verdict, details = "lacking", f"not measured: {lacking}"
        except subprocess.CalledProcessError as error:
            verdict, details = "BROKEN", f"{error}\n{error.stderr}"
        else:
            verdict = "ok" if result.value <= row.bound else "BROKEN"
            measured, unit, details = str(result), result.unit, result.details
        verdicts.append(verdict)
        _print_line(measured, f"<= {row.bound:.3g}{unit}", verdict, row.what, *details.splitlines())
    lacking = f", {verdicts.count('lacking')} not measured" if "lacking" in verdicts else ""
    print(f"{verdicts.count('ok')} of {len(rows)} bounds hold{lacking}; {time.monotonic() - start:.0f} s", flush=True)
    return "BROKEN" not in verdicts


def _print_line(measured: str, bound: str, verdict: str, *what: str) -> None:
    """Further lines of ``what`` stand below the first."""
    left = f"{measured:<26} {bound:<10} {verdict:<8}"
    print(left + "\n".ljust(len(left) + 1).join(what), flush=True)


def _median(values: Sequence[float], details: str, unit: str = "") -> Result:
    low, middle, high = statistics.quantiles(values, n=4)
    return Result(middle, details, unit, (low, high))


def _seconds(side: Side) -> float:
    start = time.perf_counter()
    side()
    return time.perf_counter() - start
