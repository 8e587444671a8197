"""What the command says, and where: results on stdout, progress and complaints on stderr.

rich is loaded where something is drawn: help and mistakes are plain text, and told at once.
"""

import contextlib
import json
import logging
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

    from plateau_interp.runs.recipe import Recipe
    from plateau_interp.runs.run import Run
    from plateau_interp.training.loop import Step
    from plateau_interp.training.threads import CoreTimes

__all__ = [
    "PLAIN_SECONDS",
    "complain",
    "counting",
    "print_json",
    "print_rich",
    "print_table",
    "print_text",
    "showing_progress",
    "table_rows",
    "telling_notes",
    "telling_warnings",
    "watched_timing",
]

PLAIN_SECONDS = 5.0
"""Seconds between two lines of progress where there is no terminal to draw a bar on."""

DRAWN_SECONDS = 0.1
"""Seconds between two states of a bar: what it tells of a step must be read, for which a GPU would have to wait."""

WATCHED_SECONDS = 10.0
"""After so many it is known whether other programs need the cores."""


@contextlib.contextmanager
def showing_progress(run: "Run", *, name: str | None = None) -> Iterator[Callable[["Step"], None]]:
    """A bar on stderr with loss, accuracy and time left; a line every few seconds where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from plateau_interp.training.threads import core_times

    console = Console(stderr=True)
    measured: Step | None = None
    last_line = last_drawn = begin = time.monotonic()
    began, advised = core_times(), False
    start, total = run.step, run.recipe.steps
    reached = start
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[told]}"), TimeRemainingColumn())
    bar = Progress(TextColumn("{task.description}"), *columns, console=console, disable=not console.is_terminal)
    line = bar.add_task(name or run.task.name, total=total, completed=start, told="")

    def show(step: "Step") -> None:
        nonlocal measured, last_line, last_drawn, reached, advised
        reached = step.step + 1
        measured = step if "accuracy" in step.metric_tensors else measured
        now = time.monotonic()
        if now - last_drawn < DRAWN_SECONDS and reached < total:
            return
        last_drawn = now
        accuracy = "-" if measured is None else f"{measured.metrics['accuracy']:.3f}"
        told = f"loss {step.loss:.4f}  accuracy {accuracy}"
        bar.update(line, completed=reached, told=told)
        if not advised and now - begin >= WATCHED_SECONDS:
            advised = True
            _advise(core_times() - began, console)
        if not console.is_terminal and (now - last_line >= PLAIN_SECONDS or reached == total):
            left = (now - begin) / (reached - start) * (total - reached)
            complain(f"step {reached}/{total}  {told}  {left:.0f} s left")
            last_line = now

    try:
        with bar:
            yield show
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"at step {reached}; the steps since checkpoint {run.step} will be made again"
        ) from None


def _advise(passed: "CoreTimes", console: "Console") -> None:
    """A line, above the bar, where the machine has not a core for each thread."""
    import psutil
    import torch

    from plateau_interp.training.threads import advice_on_threads

    advice = advice_on_threads(passed, threads=torch.get_num_threads(), cores=psutil.cpu_count() or 1)
    if advice is not None:
        console.print(f"plateau: {advice}", markup=False, highlight=False, soft_wrap=True)


def watched_timing(recipes: "Sequence[Recipe]") -> "Iterator[Recipe]":
    """The recipes one by one, with a line on stderr that says what takes so long, and a bar on a terminal."""
    from rich.console import Console
    from rich.progress import track

    kinds = "one kind" if len(recipes) == 1 else f"{len(recipes)} kinds"
    complain(f"timing {kinds} of training step, once on this machine: the figures are kept with the runs")
    console = Console(stderr=True)
    yield from track(recipes, "", console=console, transient=True, disable=not console.is_terminal)


@contextlib.contextmanager
def counting(name: str, *, total: int, done: int = 0) -> Iterator[Callable[[str], None]]:
    """A bar on stderr that goes on with each call, with what was found and the time left; else a line each.

    ``done`` of the total were made before. Ctrl-C tells how many there are, all of which are taken to be kept.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[told]}", markup=False),
        TimeRemainingColumn(),
    )
    bar = Progress(
        TextColumn("{task.description}", markup=False), *columns, console=console, disable=not console.is_terminal
    )
    line = bar.add_task(name, total=total, completed=done, told="")
    n_done = done

    def show(told: str) -> None:
        nonlocal n_done
        n_done += 1
        bar.update(line, advance=1, told=told)
        if not console.is_terminal:
            complain(told)

    try:
        with bar:
            yield show
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"after {n_done} of {total}; they are kept") from None


def print_text(text: str) -> None:
    """A line, or several, on stdout."""
    sys.stdout.write(text + "\n")


def print_json(data: Any) -> None:
    """Indented JSON on stdout."""
    print_text(json.dumps(data, indent=2))


def table_rows(table: "pd.DataFrame") -> list[dict[str, Any]]:
    """The rows of a table for JSON, with all digits of its numbers; what is no number is null."""
    import numpy as np
    import pandas as pd

    def plain(value: Any) -> Any:
        if isinstance(value, np.generic | np.ndarray):
            value = value.tolist()
        return None if value is pd.NA or (isinstance(value, float) and not math.isfinite(value)) else value

    return [{str(name): plain(value) for name, value in row.items()} for row in table.to_dict(orient="records")]


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Rows under their titles on stdout."""
    from rich import box
    from rich.table import Column, Table

    # A word that is too long goes on in the next line: cut off, two settings would look the same.
    table = Table(*(Column(each, overflow="fold") for each in columns), box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*row)
    print_rich(table)


def print_rich(table: "Table") -> None:
    """A table of rich's on stdout: as wide as the terminal, or where there is none as COLUMNS says, or 120 columns."""
    from rich.console import Console

    columns = os.environ.get("COLUMNS", "")
    asked = int(columns) if columns.isdecimal() else 0
    width = None if sys.stdout.isatty() else asked or 120
    Console(width=width, markup=False, highlight=False, emoji=False).print(table)


def complain(text: str) -> None:
    """A line on stderr."""
    sys.stderr.write(f"plateau: {text}\n")


@contextlib.contextmanager
def telling_notes() -> Iterator[None]:
    """What the package's modules log, such as why something takes a while, is told while the context is open."""
    log, level = logging.getLogger(__name__.partition(".")[0]), logging.INFO
    before, teller = log.level, _Teller()
    log.addHandler(teller)
    log.setLevel(level)
    try:
        yield
    finally:
        log.removeHandler(teller)
        log.setLevel(before)


class _Teller(logging.Handler):
    """Tells each record as a line on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        complain(record.getMessage())


@contextlib.contextmanager
def telling_warnings() -> Iterator[None]:
    """The package's own warnings are complaints while the context is open; others are shown as before."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def tell(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            # By its module: to import the class would load torch before a mistake in the words is told.
            if category.__module__.partition(".")[0] == __name__.partition(".")[0]:
                complain(" ".join(f"warning: {message}".split()))
            else:
                show(message, category, *place, **more)

        warnings.showwarning = tell
        yield
