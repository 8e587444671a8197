"""Signals at random moments: whatever was killed, the same command goes on and ends bit for bit where it would have."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from fuzz.harness import TINY, Finding, numbers

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGKILL]
ENOUGH = 120.0
"""Seconds after which a command hangs."""


def fuzz(rng: random.Random, folder: Path) -> str:
    """Kill a training, or a fork, once or twice; then let it end.

    Raises:
        Finding: if it does not end, or with other numbers.
    """
    options = f"{TINY} --steps 60 --hook during:intervention=bias-attention,start=5".split()
    train = ["train", "moving-window-sum", *options, "--out"]
    whole, killed = folder / "whole", folder / "killed"
    _end([*train, str(whole)])
    words = [*train, str(killed)]
    if rng.random() < 0.4:
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
