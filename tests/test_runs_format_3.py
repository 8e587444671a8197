"""Run folders as `plateau train` wrote them when some checkpoints had lost the optimiser's state stay readable.

(tests/data/run-format-3.) They are checked, gone on with and forked, from a checkpoint without that state, too.
"""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from kept_runs import ALMOST, copy_kept
from trained_runs import trained

from plateau_interp.runs.checking import check_run
from plateau_interp.runs.identity import recipe_digest
from plateau_interp.runs.run import Run

KEPT = Path(__file__).parent / "data" / "run-format-3"


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy_kept(3, tmp_path, monkeypatch)


def assert_almost(one: Run, other: Run) -> None:
    for a, b in zip(one.model().parameters(), other.model().parameters(), strict=True):
        torch.testing.assert_close(a, b, **ALMOST)
    pd.testing.assert_frame_equal(one.metrics, other.metrics, **ALMOST)


def test_they_are_of_format_3_and_whole() -> None:
    for name, checkpoints, resumable in (("run", 3, 2), ("donor", 1, 1)):
        states = [json.loads(file.read_text()) for file in (KEPT / name).glob("checkpoints/*/state.json")]
        assert [state["format"] for state in states] == [3] * checkpoints
        assert {state["recipe"] for state in states} == {recipe_digest(Run(name).recipe)}
        checked = check_run(Path(name))
        assert checked.faults == ()
        assert (checked.checkpoints, checked.resumable, checked.undigested, checked.rows) == (
            checkpoints,
            resumable,
            0,
            8,
        )


def test_a_run_is_read_and_goes_on() -> None:
    run = Run("run")
    assert (run.checkpoints, run.resumable) == ([0, 4, 8], [0, 8])
    assert run.finished
    fresh = Run.create("fresh", replace(run.recipe, training=replace(run.recipe.training, steps=12)))
    assert_almost(trained(Run.create("run", fresh.recipe)), trained(fresh))


def test_a_run_is_forked_where_it_has_no_optimiser_state() -> None:
    assert_almost(trained(Run("run").fork(at=4, out="fork")), Run("run"))
