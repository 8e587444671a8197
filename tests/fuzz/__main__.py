"""``python -m fuzz``: try to lose data, to get another number, or to see a traceback, for so many seconds.

Prints how many cases each fuzzer made and what they came to. A finding is printed with the command that makes it again,
and the exit status is then 1. Run by ``make fuzz SECONDS=600``.
"""

import argparse
import os
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

from fuzz import command_lines, compositions, folders, full_disks, kept_folders, recipes, signals
from fuzz.harness import NotHere, without_reports

Fuzzer = Callable[[random.Random, Path], str]

FUZZERS: dict[str, tuple[Fuzzer, float]] = {
    "command-lines": (command_lines.fuzz, 0.2),
    "recipes": (recipes.fuzz, 0.15),
    "folders": (folders.fuzz, 0.2),
    "series-and-sweeps": (kept_folders.fuzz, 0.15),
    "compositions": (compositions.fuzz, 0.1),
    "full-disks": (full_disks.fuzz, 0.05),
    "signals": (signals.fuzz, 0.15),
}
"""By name: the fuzzer, and its share of the time."""


def one_case(name: str, seed: int) -> str:
    """Make one case, in a folder of its own; what it came to.

    Raises:
        Finding: if it may not be.
    """
    fuzzer, _ = FUZZERS[name]
    with tempfile.TemporaryDirectory() as folder, without_reports():
        here = Path.cwd()
        os.chdir(folder)  # relative paths of random words lead in here
        try:
            return fuzzer(random.Random(f"{name}/{seed}"), Path(folder))
        finally:
            os.chdir(here)


def main() -> int:
    """Fuzz; 0 if nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="FUZZER", help=f"which, by default all: {', '.join(FUZZERS)}")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long in all")
    parser.add_argument("--first", type=int, default=0, help="the first seed; each case has the next")
    parser.add_argument("--cases", type=int, help="so many cases of each, however long they take")
    options = parser.parse_args()
    names = options.names or [*FUZZERS]
    unknown = [name for name in names if name not in FUZZERS]
    if unknown:
        parser.error(f"no fuzzer is called {unknown[0]}: there are {', '.join(FUZZERS)}")
    whole = sum(FUZZERS[name][1] for name in names)
    n_found = 0
    for name in names:
        until, seed, outcomes = (
            time.monotonic() + options.seconds * FUZZERS[name][1] / whole,
            options.first,
            Counter[str](),
        )
        while (seed - options.first < options.cases) if options.cases else (time.monotonic() < until):
            try:
                outcomes[one_case(name, seed)] += 1
            except NotHere as reason:
                outcomes[f"left out ({reason})"] += 1
                seed += 1
                break
            except Exception as error:
                outcomes["FOUND"] += 1
                sys.stdout.write(f"\n{name}, seed {seed}: {type(error).__name__}: {error}\n")
                if not isinstance(error, AssertionError):
                    traceback.print_exc(file=sys.stdout)
                sys.stdout.write(f"again: make fuzz ARGS='{name} --first {seed} --cases 1'\n")
            seed += 1
        n_found += outcomes["FOUND"]
        told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
        sys.stdout.write(f"{name}: {seed - options.first} cases: {told}\n")
        sys.stdout.flush()
    return 1 if n_found else 0


if __name__ == "__main__":
    sys.exit(main())
