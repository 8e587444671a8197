"""A short, fixed part of the fuzzers; `make fuzz SECONDS=600` makes more of it."""

import subprocess
import sys

import pytest
from fuzz.__main__ import FUZZERS, main, one_case
from fuzz.harness import Finding, NotHere, Outcome, must_be_good

CASES = {
    "command-lines": 25,
    "recipes": 40,
    "folders": 20,
    "series-and-sweeps": 20,
    "compositions": 60,
    "full-disks": 3,
    "signals": 1,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FUZZERS)
def test_nothing_is_found(name):
    try:
        for seed in range(CASES[name]):
            one_case(name, seed)
    except NotHere as reason:
        pytest.skip(str(reason))


def test_no_disk_is_mounted_unless_asked_for(monkeypatch, capsys):
    def run(words, **options):
        raise AssertionError(f"{words} was run")

    monkeypatch.delenv("PLATEAU_FUZZ_MOUNT", raising=False)
    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(NotHere, match="PLATEAU_FUZZ_MOUNT=1"):
        one_case("full-disks", 0)
    monkeypatch.setattr(sys, "argv", ["fuzz", "full-disks", "--cases", "3"])
    assert main() == 0
    assert "full-disks: 1 cases: 1 left out (a disk is mounted on request alone" in capsys.readouterr().out


def test_a_disk_that_cannot_be_mounted_is_no_success(monkeypatch):
    def run(words, **options):
        return subprocess.CompletedProcess(words, 32, b"", b"mount: permission denied\n")

    monkeypatch.setenv("PLATEAU_FUZZ_MOUNT", "1")
    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(NotHere, match="no disk could be mounted: mount: permission denied"):
        one_case("full-disks", 0)


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(("train",), 2, "", "plateau: one\nplateau: two\n"),
        Outcome(("train",), 2, "", ""),
        Outcome(("train",), 1, "", "plateau: one\n"),
        Outcome(("train",), 2, "", f"plateau: {'x' * 2000}\n"),
        Outcome(("train",), 0, "", "Traceback (most recent call last):\n"),
    ],
)
def test_a_bad_outcome_is_a_finding(outcome):
    with pytest.raises(Finding):
        must_be_good(outcome)


def test_a_finding_is_told_and_fails(monkeypatch, capsys):
    def fuzz(rng, folder):
        raise Finding("something is lost")

    monkeypatch.setitem(FUZZERS, "recipes", (fuzz, 1.0))
    monkeypatch.setattr(sys, "argv", ["fuzz", "recipes", "--cases", "2"])
    assert main() == 1
    told = capsys.readouterr().out
    assert told.count("something is lost") == 2
    assert "recipes: 2 cases: 2 FOUND" in told
    assert "make fuzz ARGS='recipes --first 1 --cases 1'" in told
