"""Circuits beside a run: kept as they were measured, never measured twice, and refused where they do not belong."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from trained_runs import finished

from plateau_interp import ModelOptions, Recipe, Run, TrainingOptions
from plateau_interp.analysis.forming import CircuitOptions, circuits
from plateau_interp.runs import kept_circuits as module
from plateau_interp.runs.checking import check_run
from plateau_interp.runs.errors import BusyFolder, RunError
from plateau_interp.runs.identity import recipe_digest
from plateau_interp.runs.kept_circuits import KeptCircuits, kept_circuits
from plateau_interp.tasks import MovingWindowSum

OPTIONS = CircuitOptions(n_pairs=4, by_role=True)
RECIPE = Recipe(
    MovingWindowSum(n=4, p=5), ModelOptions(d_model=12), TrainingOptions(steps=4, batch_size=4), checkpoint_every=2
)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return finished(tmp_path / "run", RECIPE)


def test_what_is_read_is_what_was_measured(run: Run) -> None:
    kept = KeptCircuits(run, OPTIONS)
    assert not kept.path.exists()
    assert list(kept.measure([0, 4])) == [0, 4]
    forming, expected = kept.forming(), circuits(run, steps=[0, 4], n_pairs=4, by_role=True)
    assert forming.steps == (0, 4)
    for one, other in zip(forming.circuits, expected.circuits, strict=True):
        assert str(one) == str(other)
        assert (one.writers, one.readers, one.roles) == (other.writers, other.readers, other.roles)
        assert (one.clean, one.ablated) == (other.clean, other.ablated)
        torch.testing.assert_close(one.scores, other.scores, rtol=0, atol=0, equal_nan=True)
        assert torch.equal(one.positions, other.positions)


def test_nothing_is_measured_twice(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    drawn: list[Any] = []
    measured, draw = module.task_circuit, module.counterfactual_pairs
    monkeypatch.setattr(module, "task_circuit", lambda *a, **k: asked.append(k["pairs"]) or measured(*a, **k))
    monkeypatch.setattr(module, "counterfactual_pairs", lambda *a: drawn.append(draw(*a)) or drawn[-1])
    assert list(KeptCircuits(run, OPTIONS).measure([4])) == [4]
    assert list(KeptCircuits(run, OPTIONS).measure([0, 4, 2])) == [0, 2]
    assert list(KeptCircuits(run, OPTIONS).measure([0, 4])) == []
    assert [pairs is drawn[1] for pairs in asked] == [False, True, True]  # once for all that one call measures
    assert len(drawn) == 2
    assert KeptCircuits(run, OPTIONS).steps == [0, 2, 4]


def test_a_run_tells_whether_it_has_circuits(run: Run, tmp_path: Path) -> None:
    assert kept_circuits(run) is None
    list(KeptCircuits(run, OPTIONS, tmp_path / "elsewhere").measure([0]))
    assert kept_circuits(run) is None
    list(KeptCircuits(run, OPTIONS).measure([2]))
    there = kept_circuits(run)
    assert there is not None
    assert there.options == OPTIONS
    assert there.steps == [2]


def test_circuits_that_were_measured_otherwise_or_of_another_run_are_refused(run: Run, tmp_path: Path) -> None:
    kept = KeptCircuits(run, OPTIONS)
    list(kept.measure([0]))
    with pytest.raises(ValueError, match=r"circuits holds circuits of n_pairs=4, not 8, seed=0, not 1; take another"):
        KeptCircuits(run, replace(OPTIONS, n_pairs=8, seed=1))
    with pytest.raises(ValueError, match="scoring='attributed', not 'exact'"):
        KeptCircuits(run, replace(OPTIONS, scoring="exact"))
    with pytest.raises(ValueError, match=r"n_pairs=4, not None, .*texts=None, not \[\['a', 'b'\]\]"):
        KeptCircuits(run, CircuitOptions(texts=(("a", "b"),)))
    assert KeptCircuits(run, replace(OPTIONS, n_steps=3)).steps == [0]  # attributed scores have no such forwards
    other = finished(tmp_path / "other", replace(RECIPE, seed=1))
    with pytest.raises(ValueError, match="holds circuits of another run; take another folder"):
        KeptCircuits(other, OPTIONS, kept.path)
    longer = replace(RECIPE, training=TrainingOptions(steps=6, batch_size=4))
    assert list(KeptCircuits(finished(run.path, longer), OPTIONS).measure([6])) == [6]


def test_a_beginning_without_a_circuit_binds_nobody(run: Run) -> None:
    kept = KeptCircuits(run, OPTIONS)
    list(kept.measure([0]))
    (kept.path / "scores" / "0.safetensors").unlink()
    (kept.path / "index.html").write_text("a page of before")
    assert kept_circuits(run) is None
    again = KeptCircuits(run, replace(OPTIONS, n_pairs=2))
    assert list(again.measure([0])) == [0]
    assert json.loads((kept.path / "circuits.json").read_text())["options"]["n_pairs"] == 2


def test_damage_is_told_by_the_file(run: Run) -> None:
    kept = KeptCircuits(run, OPTIONS)
    with pytest.raises(ValueError, match="holds no circuit; `plateau circuit` measures them"):
        kept.forming()
    list(kept.measure([0]))
    file = kept.path / "scores" / "0.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"0\.safetensors is damaged: it is not what was written"):
        kept.forming()
    file.write_bytes(content[:-9])
    with pytest.raises(ValueError, match=r"0\.safetensors is damaged"):
        kept.forming()
    file.write_bytes(content)
    settings = kept.path / "circuits.json"
    written = json.loads(settings.read_text())
    settings.write_text(json.dumps({**written, "format": 2}))
    with pytest.raises(ValueError, match="has format 2; this version reads up to 1"):
        KeptCircuits(run, OPTIONS)
    settings.write_text(json.dumps({**written, "options": {"n_pairs": 0}}))
    with pytest.raises(ValueError, match=r"circuits\.json is damaged: .*n_pairs must be at least 1; got 0"):
        kept_circuits(run)
    settings.unlink()
    with pytest.raises(ValueError, match=r"circuits\.json is damaged"):
        KeptCircuits(run, OPTIONS)


def test_what_cannot_be_measured_writes_nothing(run: Run, tmp_path: Path) -> None:
    kept = KeptCircuits(run, OPTIONS)
    with pytest.raises(ValueError, match="no checkpoint of step 3"):
        list(kept.measure([3]))
    assert not kept.path.exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be a folder"):
        KeptCircuits(run, OPTIONS, tmp_path / "file" / "circuits")


def test_a_check_of_the_run_reads_its_circuits(run: Run) -> None:
    kept = KeptCircuits(run, OPTIONS)
    list(kept.measure([0, 4]))
    assert check_run(run.path).faults == ()
    file = kept.path / "scores" / "4.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    (fault,) = check_run(run.path).faults
    assert fault.startswith(f"{file} is damaged: ")
    (kept.path / "circuits.json").write_text("{")
    (fault,) = check_run(run.path).faults
    assert fault.startswith(f"{kept.path / 'circuits.json'} is damaged: ")


@pytest.mark.parametrize("mine", ["my own", "{}", "[1, 2]", '{"circuits": []}'])
def test_somebody_s_file_of_the_same_name_makes_no_folder_of_circuits(run: Run, tmp_path: Path, mine: str) -> None:
    """Neither alone nor beside pages, which would be written over."""
    (tmp_path / "mine").mkdir()
    for name in ("circuits.json", "index.html"):
        (tmp_path / "mine" / name).write_text(mine)
        with pytest.raises(RunError, match=r"circuits\.json"):
            KeptCircuits(run, OPTIONS, tmp_path / "mine")


def test_a_folder_that_is_moved_meanwhile_is_not_made_again(run: Run, tmp_path: Path) -> None:
    measured = KeptCircuits(run, OPTIONS, tmp_path / "elsewhere").measure([0, 2, 4])
    assert next(measured) == 0
    (tmp_path / "elsewhere").rename(tmp_path / "moved")
    with pytest.raises(RunError, match="elsewhere is gone: it was moved or removed while it was written to"):
        next(measured)
    assert not (tmp_path / "elsewhere").exists()
    assert list(KeptCircuits(run, OPTIONS, tmp_path / "moved").measure([0, 2, 4])) == [2, 4]


def test_two_at_a_time_are_refused(run: Run) -> None:
    """Whoever was quicker has the folder: circuits of two ways would look like one."""
    attributed, exact = KeptCircuits(run, OPTIONS), KeptCircuits(run, replace(OPTIONS, scoring="exact"))
    measured = attributed.measure([0, 4])
    assert next(measured) == 0
    with pytest.raises(BusyFolder, match=r"this process is writing to .*circuits already: .* its other `measure\(\)`"):
        next(exact.measure([2]))
    assert list(measured) == [4]
    with pytest.raises(RunError, match="holds circuits of scoring='attributed', not 'exact'; take another folder"):
        next(exact.measure([2]))
    assert attributed.steps == [0, 4]
    assert list(KeptCircuits(run, OPTIONS).measure([0, 2, 4])) == [2]


def test_a_second_process_is_refused(run: Run) -> None:
    measured = KeptCircuits(run, OPTIONS).measure([0, 4])
    next(measured)
    code = (
        "import sys; from plateau_interp import Run; from plateau_interp.analysis.forming import CircuitOptions; "
        "from plateau_interp.runs.kept_circuits import KeptCircuits; "
        "next(KeptCircuits(Run(sys.argv[1]), CircuitOptions(n_pairs=4, by_role=True)).measure([2]))"
    )
    other = subprocess.run([sys.executable, "-c", code, str(run.path)], capture_output=True, text=True)
    assert "BusyFolder: another process is writing to" in other.stderr
    assert list(measured) == [4]


def test_what_another_measured_meanwhile_is_not_measured_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other, draw = KeptCircuits(run, OPTIONS), KeptCircuits(run, OPTIONS), module.counterfactual_pairs

    def late(*arguments: Any) -> Any:
        monkeypatch.setattr(module, "counterfactual_pairs", draw)
        assert list(one.measure([2])) == [2]
        return draw(*arguments)

    monkeypatch.setattr(module, "counterfactual_pairs", late)
    assert list(other.measure([0, 2])) == [0]


@pytest.mark.parametrize(
    "otherwise",
    [{"scoring": "exact"}, {"ablation": "zero"}, {"freeze_norms": True}, {"by_role": False}, {"n_pairs": 3}],
    ids=["scoring", "ablation", "norms", "roles", "pairs"],
)
def test_a_circuit_that_was_measured_otherwise_than_its_folder_says_is_a_fault(
    run: Run, tmp_path: Path, otherwise: dict[str, Any]
) -> None:
    kept = KeptCircuits(run, OPTIONS)
    list(kept.measure([0]))
    other = KeptCircuits(run, replace(OPTIONS, **otherwise), tmp_path / "other")
    list(other.measure([4]))
    shutil.copy(other.path / "scores" / "4.safetensors", kept.path / "scores")
    file = kept.path / "scores" / "4.safetensors"
    with pytest.raises(RunError, match=f"^{re.escape(str(file))} was measured otherwise than circuits.json says: "):
        kept.forming()
    (fault,) = check_run(run.path).faults
    expected = "attributed, resample, norms live, by role, 4 sequences"
    assert fault.endswith(f", not ({expected}); delete it to have it measured again")
    file.unlink()
    assert list(kept.faults()) == []


def test_what_a_kill_left_goes_when_more_is_measured(run: Run) -> None:
    kept = KeptCircuits(run, OPTIONS)
    list(kept.measure([0]))
    left = [kept.path / ".circuits.json.0123abcd.tmp", kept.path / "scores" / ".4.safetensors.0123abcd.tmp"]
    page = kept.path / ".index.html.0123abcd.tmp"  # somebody may be drawing now
    for half in (*left, page):
        half.write_bytes(b"half")
    assert list(kept.measure([4])) == [4]
    assert [half.exists() for half in (*left, page)] == [False, False, True]


def test_circuits_of_weights_that_have_been_replaced_are_not_added_to(run: Run, tmp_path: Path) -> None:
    kept = KeptCircuits(run, OPTIONS, tmp_path / "circuits")
    assert list(kept.measure([2])) == [2]
    shutil.rmtree(run.path)
    other = finished(run.path, replace(RECIPE, seed=1))
    settings = json.loads((kept.path / "circuits.json").read_text())
    settings["recipe_sha256"] = recipe_digest(other.recipe)  # as where what a run takes from is another
    (kept.path / "circuits.json").write_text(json.dumps(settings))
    again = KeptCircuits(other, OPTIONS, tmp_path / "circuits")
    with pytest.raises(RunError, match=r"circuits holds circuits of other weights than .*run has at step 2 now"):
        list(again.measure([2, 4]))
    assert again.steps == [2]
    shutil.rmtree(other.path / "checkpoints" / "2")
    assert list(again.measure([4])) == [4]  # nobody can tell
