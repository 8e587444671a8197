"""A short, fixed part of the fuzzers; `make fuzz SECONDS=600` makes more of it."""

import sys

import pytest
from fuzz.__main__ import FUZZERS, main, one_case
from fuzz.harness import Finding, Outcome, must_be_good

CASES = {"command-lines": 25, "recipes": 40, "folders": 20, "compositions": 60, "full-disks": 3, "signals": 1}


@pytest.mark.slow
@pytest.mark.parametrize("name", FUZZERS)
def test_nothing_is_found(name):
    for seed in range(CASES[name]):
        one_case(name, seed)


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
