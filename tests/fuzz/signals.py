"""Signals at random moments: whatever was killed, the same command goes on and ends bit for bit where it would have."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from fuzz.harness import TINY, Finding, contents, numbers

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGKILL]
ENOUGH = 120.0
"""Seconds after which a command hangs."""


def fuzz(rng: random.Random, folder: Path) -> str:
    """Kill a training, a fork or a report, once or twice; then let it end.

    Raises:
        Finding: if it does not end, or with other numbers.
    """
    options = f"{TINY} --steps 60 --hook during:intervention=bias-attention,start=5".split()
    train = ["train", "moving-window-sum", *options, "--out"]
    whole, killed = folder / "whole", folder / "killed"
    _end([*train, str(whole)])
    words = [*train, str(killed)]
    kind = rng.choice(["train", "train", "fork", "report"])
    if kind == "report":
        return _kill_report(rng, whole, folder)
    if kind == "fork":
        fork = ["fork", str(whole), "--at", "21", "--hook", "fix-attention", "--steps", "60", "--out"]
        words, whole = [*fork, str(killed)], folder / "whole-fork"
        _end([*fork, str(whole)])
    for _ in range(rng.choice([1, 1, 2])):
        process = _start(words)
        time.sleep(rng.uniform(0.0, 9.0))
        process.send_signal(rng.choice(SIGNALS))
        _wait(process, words)
    _end(words)
    if numbers(whole) != numbers(killed):
        raise Finding(f"{words} was killed and went on, and ended with other numbers")
    return "done"


def _kill_report(rng: random.Random, run: Path, folder: Path) -> str:
    """Kill what writes a page over one that is there, where it writes, or anywhere: the page is whole at any moment."""
    before, page = contents(run), run / "report"
    shutil.copytree(page, folder / "page")
    if rng.random() < 0.3:
        shutil.rmtree(page)
    for _ in range(rng.choice([1, 2])):
        process = _start(["report", str(run)])
        begin, moment, was = time.monotonic(), rng.uniform(0.0, 20.0), _times(page)
        is_at_writing = rng.random() < 0.7
        while process.poll() is None and (is_at_writing or time.monotonic() - begin < moment):
            if is_at_writing and _times(page) != was:
                break
            time.sleep(0.001)
        process.send_signal(rng.choice(SIGNALS))
        _wait(process, ["report"])
        there = {name: digest for name, digest in contents(page).items() if not name.endswith(".tmp")}
        if not there.items() <= contents(folder / "page").items():
            raise Finding(f"a killed report left {sorted(there)}, not all of it as it should be")
    _end(["report", str(run)])
    after = contents(run)
    if {name: digest for name, digest in after.items() if not name.endswith(".tmp")} != before:
        raise Finding(f"after a killed report: {sorted(before.items() ^ after.items())}")
    return "done"


def _times(page: Path) -> dict[str, int]:
    """When the files of a page were written; one may go while it is asked."""
    times = {}
    for file in page.glob("*"):
        with suppress(OSError):
            times[file.name] = file.stat().st_mtime_ns
    return times


def _start(words: list[str]) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "plateau_interp.cli.main", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def _wait(process: "subprocess.Popen[str]", words: list[str]) -> str:
    try:
        _, err = process.communicate(timeout=ENOUGH)
    except subprocess.TimeoutExpired:
        process.kill()
        raise Finding(f"{words} hangs") from None
    return err


def _end(words: list[str]) -> None:
    process = _start(words)
    err = _wait(process, words)
    if process.returncode:
        raise Finding(f"{words} ends with {process.returncode}: {err[-2000:]}")
