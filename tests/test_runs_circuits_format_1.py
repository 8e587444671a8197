"""Circuits that `plateau circuit` kept beside a run in format 1 stay readable, and are gone on with.

(tests/data/circuits-format-1.) Another name of an option, or another way to make a digest, would have every folder of
today refused as another or a damaged one: it is red here first.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch

from plateau_interp.analysis.forming import CircuitOptions
from plateau_interp.runs.checking import check_run
from plateau_interp.runs.kept_circuits import KeptCircuits, kept_circuits
from plateau_interp.runs.run import Run

KEPT = Path(__file__).parent / "data" / "circuits-format-1"
OPTIONS = CircuitOptions(n_pairs=4, by_role=True)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    shutil.copytree(KEPT, tmp_path, dirs_exist_ok=True)
    return Run(tmp_path / "run")


def test_they_are_of_format_1_and_whole(run: Run) -> None:
    assert json.loads((KEPT / "run/circuits/circuits.json").read_text())["format"] == 1
    assert check_run(run.path).faults == ()


def test_they_are_read_with_how_they_were_measured(run: Run) -> None:
    there = kept_circuits(run)
    assert there is not None
    assert (there.options, there.steps) == (OPTIONS, [0, 4])
    last = there.forming().circuits[-1]
    assert repr(last) == "Circuit of 39 edges (attributed, resample, norms live, 4 sequences)"
    assert last.roles == ("prompt", "separator", "answer")
    assert last.positions.tolist() == [
        [True, True, True, False, False, False],
        [False, False, False, True, False, False],
        [False, False, False, False, True, True],
    ]
    assert float(last.scores.nansum()) == pytest.approx(-0.00065737042, rel=1e-6)


def test_a_step_that_is_missing_is_measured_as_the_others_were(run: Run) -> None:
    kept = KeptCircuits(run, OPTIONS)
    before = kept.forming().circuits[-1]
    (kept.path / "scores" / "4.safetensors").unlink()
    assert list(kept.measure([0, 4])) == [4]
    after = kept.forming().circuits[-1]
    torch.testing.assert_close(after.scores, before.scores, rtol=1e-3, atol=1e-7, equal_nan=True)
    assert (after.clean, after.ablated) == pytest.approx((before.clean, before.ablated), rel=1e-3)
