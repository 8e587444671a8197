"""What is free goes back to the system, and a series sees to it after each checkpoint."""

import platform
import resource
import sys
from pathlib import Path

import pytest

from plateau_interp.series.memory import give_back_memory


def resident() -> float:
    """Memory of this process in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


@pytest.mark.skipif(sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="of Linux with glibc")
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
