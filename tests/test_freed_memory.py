"""What is free is kept where it is wanted again, and goes back to the system where it is not."""

import os
import platform
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from plateau_interp.freed_memory import give_back_memory, keep_freed_memory


def resident() -> float:
    """Memory of this process in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


glibc_alone = pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="of Linux with glibc"
)

FAULTS = """
import resource
from plateau_interp.freed_memory import (
    M_MMAP_THRESHOLD,
    M_TRIM_THRESHOLD,
    MUCH,
    OLDER_GLIBC,
    give_back_memory,
    keep_freed_memory,
)

def faults(megabytes=8):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        blocks = [b"x" * (megabytes << 20) for _ in range(4)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

"""
"""A page has 4 to 64 KiB: 32 MiB are 500 to 8,000 of them, freed and asked for again ten times."""


def told(code: str, **environment: str) -> int:
    """A number that is printed by a process of its own, since the setting stays with the process."""
    command = [sys.executable, "-c", FAULTS + code]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | environment)
    return int(done.stdout)


@glibc_alone
def test_what_is_freed_is_there_for_the_next_step():
    assert told("print(faults())") > 2000  # else there is nothing to save
    assert told("keep_freed_memory(); faults(); print(faults())") < 20


@glibc_alone
def test_what_is_kept_is_given_back_when_that_is_asked_for():
    assert told("keep_freed_memory(); faults(); give_back_memory(); print(faults())") > 200


@glibc_alone
@pytest.mark.parametrize(
    "environment",
    [
        {"MALLOC_TRIM_THRESHOLD_": "131072"},
        {"MALLOC_MMAP_THRESHOLD_": "131072"},
        {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"},
    ],
    ids=lambda environment: next(iter(environment)),
)
def test_who_has_told_the_c_library_something_has_decided(environment):
    assert told("keep_freed_memory(); faults(); print(faults())", **environment) > 2000


@glibc_alone
def test_an_older_glibc_takes_a_smaller_size(monkeypatch):
    taken, trim_threshold, mmap_threshold = [], -1, -3  # as in glibc's malloc.h

    class Older:
        @staticmethod
        def mallopt(parameter, value):
            taken.append((parameter, value))
            return int(parameter == trim_threshold or value <= 2**25)

    monkeypatch.setattr("ctypes.CDLL", lambda name: Older)
    keep_freed_memory()
    assert taken == [(trim_threshold, 2**30), (mmap_threshold, 2**30), (mmap_threshold, 2**25)]


@glibc_alone
def test_what_is_free_between_what_is_used_is_given_back():
    blocks = [bytes(8000) for _ in range(12_000)]
    kept = blocks[::1000]
    full = resident()
    del blocks
    freed = full - resident()
    assert freed < 40  # else there is nothing to give back
    give_back_memory()
    assert full - resident() > 70
    assert len(kept) == 12


def test_where_the_c_library_is_another_nothing_is_asked_of_it(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr("ctypes.CDLL", None)
    give_back_memory()
    keep_freed_memory()
