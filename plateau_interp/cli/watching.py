"""Progress of many runs at once, read from their folders: whoever trains them, on whatever machine."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from plateau_interp.cli.console import PLAIN_SECONDS, complain

__all__ = ["watching_runs"]

LOOK_EVERY = 1.0
"""Seconds between two looks at the folders."""


@contextlib.contextmanager
def watching_runs(
    name: str, runs: Mapping[Path, int], *, unit: str = "step", made: Callable[[Path], int] | None = None
) -> Iterator[Callable[[Path, str], None]]:
    """A bar on stderr over the steps of all runs, with the time left; a line every few seconds where it is no terminal.

    What is yielded is called with the folder of a run that has ended and a line about it. Ctrl-C tells how many have.

    Args:
        name: of all together.
        runs: by folder the steps that a run has when it is done.
        unit: what is counted, where it is not steps.
        made: reads off a folder how many there are; by default `plateau_interp.sweeps.of_runs.steps_made`.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from plateau_interp.sweeps.of_runs import steps_made

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[told]}"))
    bar = Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal)
    watch = _Watch(runs, unit, steps_made if made is None else made)
    line = bar.add_task(name, total=watch.total, completed=watch.made, told=watch.told())
    ended = threading.Event()

    def look() -> None:
        last = time.monotonic()
        while watch.left and not ended.wait(LOOK_EVERY):
            watch.look()
            bar.update(line, completed=watch.made, told=watch.told())
            if not console.is_terminal and time.monotonic() - last >= PLAIN_SECONDS:
                last = time.monotonic()
                complain(f"{watch.told()}{watch.time_left()}")

    def show(folder: Path, told: str) -> None:
        watch.end(folder)
        if console.is_terminal:
            console.print(told, markup=False, highlight=False)
        else:
            complain(told)

    looking = threading.Thread(target=look, daemon=True)
    try:
        with bar:
            looking.start()
            yield show
            watch.look()
            bar.update(line, completed=watch.made, told=watch.told())
    except KeyboardInterrupt:
        watch.look()
        raise KeyboardInterrupt(watch.stopped()) from None
    finally:
        ended.set()
        looking.join()


class _Watch:
    """Steps made in folders, and since when they were watched."""

    def __init__(self, runs: Mapping[Path, int], unit: str, made: Callable[[Path], int]) -> None:
        self._unit, self._made_in = unit, made
        self.left, self._lock = dict(runs), threading.Lock()
        self.n_runs, self.total, self.done, self._full = len(runs), sum(runs.values()), 0, 0
        self._begin, self._first = time.monotonic(), self.total
        self.look()

    def look(self) -> None:
        """Read how far the runs are that are not done."""
        there = {folder: self._made_in(folder) for folder in list(self.left)}
        for folder, steps in there.items():
            if steps >= self.left.get(folder, 0):
                self.end(folder)
        self.made = self._full + sum(there.get(folder, 0) for folder in list(self.left))
        if self.made < self._first:  # at first, and where a killed run goes on from its checkpoint
            self._begin, self._first = time.monotonic(), self.made

    def end(self, folder: Path) -> None:
        """Count a run as done, however few steps it made."""
        with self._lock:
            if folder in self.left:
                self._full += self.left.pop(folder)
                self.done += 1

    def told(self) -> str:
        return f"{self.done}/{self.n_runs} runs, {self._unit} {self.made:,}/{self.total:,}"

    def stopped(self) -> str:
        """After what it was stopped, and what becomes of the others."""
        if not self.left:
            return "when no run was left, before what is made of them was written"
        begun = any(folder.is_dir() for folder in self.left)
        none = "no other had begun" if self.done else "none had begun"
        others = "the others go on from a checkpoint" if begun else none
        return f"after {self.done} of {self.n_runs} runs; {others}"

    def time_left(self) -> str:
        """In words, once there is anything to say."""
        since = self.made - self._first
        left = (time.monotonic() - self._begin) / since * (self.total - self.made) if since else 0.0
        return f", {left:.0f} s left" if since else ""
