"""Run folders whose optimiser keeps numbers in its groups, as they were first written, stay readable.

(tests/data/run-format-4.) They are checked, gone on with and forked.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from kept_runs import ALMOST, copy_kept
from own_optimizers import registered
from trained_runs import trained

from plateau_interp.runs.checking import check_run
from plateau_interp.runs.folder import RunFolder
from plateau_interp.runs.run import Run

KEPT = Path(__file__).parent / "data" / "run-format-4"


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    copy_kept(4, tmp_path, monkeypatch)
    with registered():
        yield


def assert_almost(one: Run, other: Run) -> None:
    for a, b in zip(one.model().parameters(), other.model().parameters(), strict=True):
        torch.testing.assert_close(a, b, **ALMOST)
    pd.testing.assert_frame_equal(one.metrics, other.metrics, **ALMOST)


def test_they_are_of_format_4_where_they_must_be_and_whole() -> None:
    files = sorted((KEPT / "run").glob("checkpoints/*/state.json"))
    assert [json.loads(file.read_text())["format"] for file in files] == [3, 3, 4]
    checked = check_run(Path("run"))
    assert (checked.faults, checked.checkpoints, checked.resumable, checked.rows) == ((), 3, 2, 8)
    state = RunFolder(Path("run")).load(8).optimizer
    assert state is not None
    assert (state["/0/k"], state["embed.W_E/times"], type(state["/0/betas"])) == (8, 8, tuple)
    assert state["/0/weight_sum"].dtype == torch.float64
    assert state["/0/history"] is state["/1/history"]


def test_a_run_is_read_and_goes_on() -> None:
    run = Run("run")
    assert (run.checkpoints, run.resumable) == ([0, 4, 8], [0, 8])
    fresh = Run.create("fresh", replace(run.recipe, training=replace(run.recipe.training, steps=12)))
    assert_almost(trained(Run.create("run", fresh.recipe)), trained(fresh))


def test_a_run_is_forked_where_it_has_no_optimiser_state() -> None:
    assert_almost(trained(Run("run").fork(at=4, out="fork")), Run("run"))
