"""Run folders as `plateau train` wrote them when digests were new stay readable, checked and trainable.

(tests/data/run-format-2.) Another name or default of a field of these recipes, or another way to make a digest, would
have every run of today refused as another recipe's: it is red here first.
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

KEPT = Path(__file__).parent / "data" / "run-format-2"


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy_kept(2, tmp_path, monkeypatch)


def lengthened(path: str, *, steps: int) -> Run:
    recipe = Run("run").recipe
    return Run.create(path, replace(recipe, training=replace(recipe.training, steps=steps)))


def assert_almost(one: Run, other: Run) -> None:
    for a, b in zip(one.model().parameters(), other.model().parameters(), strict=True):
        torch.testing.assert_close(a, b, **ALMOST)
    pd.testing.assert_frame_equal(one.metrics, other.metrics, **ALMOST)


@pytest.mark.parametrize(("name", "checkpoints"), [("run", 3), ("donor", 1)])
def test_they_are_of_format_2_and_whole(name: str, checkpoints: int) -> None:
    states = [json.loads(file.read_text()) for file in (KEPT / name).glob("checkpoints/*/state.json")]
    assert [state["format"] for state in states] == [2] * checkpoints
    assert {state["recipe"] for state in states} == {recipe_digest(Run(name).recipe)}
    checked = check_run(Path(name))
    assert checked.faults == ()
    assert (checked.checkpoints, checked.undigested, checked.rows) == (checkpoints, 0, 8)


def test_a_byte_that_changed_is_named() -> None:
    file = Path("run/checkpoints/8/optimizer.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    (fault,) = check_run(Path("run")).faults
    assert str(file) in fault


def test_a_run_is_read() -> None:
    run = Run("run")
    assert run.checkpoints == [0, 4, 8]
    assert run.finished
    assert list(run.metrics["step"]) == list(range(8))
    assert_almost(run, trained(Run.create("fresh", run.recipe)))


def test_a_run_goes_on_with_what_its_interventions_remember() -> None:
    fresh = trained(lengthened("fresh", steps=12))
    assert_almost(trained(lengthened("run", steps=12)), fresh)


def test_a_run_is_forked() -> None:
    assert_almost(trained(Run("run").fork(at=4, out="fork")), Run("run"))
