"""Jobs for the tests of engines; imports nothing heavy, since every worker does."""

import os
import signal
import time
from pathlib import Path


def doubled(job, stopped):
    assert not stopped()
    return 2 * job


def heeds_ctrl_c(job, stopped):
    return signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def fragile(job, stopped):
    """Kills its worker if asked to: always, or the first time."""
    how, file = job
    first = not Path(file).exists()
    Path(file).touch()
    if how == "always" or (how == "once" and first):
        os.kill(os.getpid(), signal.SIGKILL)
    return how


def patient(job, stopped):
    """Says that it has begun, and waits until it is stopped or a file is there; says what it was."""
    folder, name = Path(job[0]), job[1]
    (folder / f"{name}.begun").write_text(str(os.getpid()))
    while not (folder / "go").exists():
        if stopped():
            (folder / f"{name}.stopped").touch()
            return "stopped"
        time.sleep(0.02)
    return name
