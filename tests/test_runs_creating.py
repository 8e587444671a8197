"""plateau_interp.runs.creating: a folder is made, found again, or refused before anything is written."""

import dataclasses
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_paper import BASE
from trained_runs import RECIPE, finished, spoil

from plateau_interp.hooks import BiasAttention, PatchAttention
from plateau_interp.interventions.capturing import Capture
from plateau_interp.models.settings import ModelOptions
from plateau_interp.reproductions.running import train_setting
from plateau_interp.runs.creating import relocate
from plateau_interp.runs.run import Run, RunError
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.training.optimizers import SGD
from plateau_interp.training.settings import MeasuringOptions, TrainingOptions


def test_another_recipe_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", RECIPE)
    before = {file: file.read_bytes() for file in run.path.rglob("*") if file.is_file()}
    for other, difference in (
        (replace(RECIPE, seed=1), "seed is 0 there and 1 here"),
        (replace(RECIPE, task=MovingWindowSum(n=5, p=7)), "task.n is 4 there and 5 here"),
        (replace(RECIPE, training=replace(RECIPE.training, steps=5)), "training.steps is 25 there and 5 here"),
    ):
        with pytest.raises(RunError, match=f"holds the run of another recipe .{difference}"):
            Run.create(run.path, other)
    assert {file: file.read_bytes() for file in run.path.rglob("*") if file.is_file()} == before


def test_the_run_of_the_same_recipe_is_found_and_nothing_is_written(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", RECIPE)
    before = {file: file.stat().st_mtime_ns for file in run.path.rglob("*") if file.is_file() and file.suffix}
    assert Run.create(run.path, RECIPE).finished
    assert {file: file.stat().st_mtime_ns for file in before} == before


def test_foreign_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("dear reader")
    with pytest.raises(RunError, match=r"thesis is not empty and holds no run"):
        Run.create(tmp_path / "thesis", RECIPE)
    with pytest.raises(RunError, match=r"chapter.tex is a file; a run needs a folder"):
        Run.create(tmp_path / "thesis" / "chapter.tex", RECIPE)
    with pytest.raises(RunError, match=r"holds no recipe.json: it is not a run folder"):
        Run(tmp_path / "thesis")
    with pytest.raises(RunError, match=r"nowhere is not a folder"):
        Run(tmp_path / "nowhere")
    assert [file.name for file in (tmp_path / "thesis").iterdir()] == ["chapter.tex"]


def test_whole_numbers_for_floats_are_the_same_recipe(tmp_path: Path) -> None:
    recipe = replace(RECIPE, training=replace(RECIPE.training, grad_clip=1, optimizer=SGD(learning_rate=1)))
    Run.create(tmp_path / "run", recipe)
    assert finished(tmp_path / "run", recipe).finished


def test_a_kill_while_the_recipe_is_written_leaves_a_folder_that_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".recipe.json.1f.tmp").write_text("{")
    assert finished(tmp_path / "run", RECIPE).finished


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": ModelOptions(n_heads=3)}, "n_heads must divide d_model; got n_heads=3 and d_model=256"),
        ({"interventions": (BiasAttention(factor=2.0, layers=[4]),)}, "4"),
        ({"measuring": MeasuringOptions(cosine_at=("blocks.0.hook_no",))}, "cosine_at: the model has no hook point"),
    ],
    ids=["model", "intervention", "measuring"],
)
def test_a_recipe_that_cannot_be_leaves_no_folder(tmp_path: Path, changes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Run.create(tmp_path / "run", replace(RECIPE, **changes))
    assert not (tmp_path / "run").exists()


def test_a_damaged_run_is_not_lengthened(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", RECIPE)
    longer = replace(RECIPE, training=replace(RECIPE.training, steps=30))
    spoil(run.path / "checkpoints" / "25" / "model.safetensors")
    recipe = (run.path / "recipe.json").read_bytes()
    with pytest.raises(RunError, match=r"25/model.safetensors is damaged"):
        Run.create(run.path, longer)
    assert (run.path / "recipe.json").read_bytes() == recipe
    shutil.rmtree(run.path / "checkpoints")
    with pytest.raises(RunError, match="has 25 rows, but there is no checkpoint"):
        Run.create(run.path, longer)
    assert (run.path / "recipe.json").read_bytes() == recipe


def test_a_run_whose_donor_has_changed_is_not_lengthened(tmp_path: Path) -> None:
    donor = tmp_path / "donor"
    finished(donor, RECIPE)
    patched = replace(RECIPE, interventions=(PatchAttention(source=str(donor)),))
    run = finished(tmp_path / "patched", patched)
    finished(donor, replace(RECIPE, training=replace(RECIPE.training, steps=30)))  # other weights at its end
    recipe = (run.path / "recipe.json").read_bytes()
    with pytest.raises(ValueError, match="takes from has changed since"):
        Run.create(run.path, replace(patched, training=replace(RECIPE.training, steps=30)))
    assert (run.path / "recipe.json").read_bytes() == recipe


def test_a_moved_run_is_told_new_places_and_nothing_else(tmp_path):
    train_setting(BASE, 0, tmp_path)
    folder = tmp_path / "base" / "seed-0"
    there = Run(folder).recipe
    for other in (dataclasses.replace(there, seed=1), dataclasses.replace(there, training=TrainingOptions(steps=1))):
        with pytest.raises(RunError, match="holds the run of another recipe"):
            relocate(folder, other)
    assert Run(folder).recipe == there


def test_a_fork_needs_a_folder_of_its_own(tmp_path: Path) -> None:
    run, other = finished(tmp_path / "run", RECIPE), finished(tmp_path / "other", replace(RECIPE, seed=1))
    with pytest.raises(
        RunError, match=r"other holds a run that is no fork \(25 steps\); a fork needs a folder of its own"
    ):
        run.fork(at=10, out=other.path)
    fork = run.fork(at=10, out=tmp_path / "fork")
    with pytest.raises(RunError, match="fork holds the run of another recipe"):
        run.fork(at=20, out=fork.path)


@pytest.mark.parametrize(
    "inside", ["", "checkpoints", "checkpoints/x", "checkpoints/0", "report", "circuits", "metrics.jsonl"]
)
def test_a_capture_into_what_the_run_writes_itself_leaves_no_folder(tmp_path: Path, inside: str) -> None:
    path = tmp_path / "run"
    recipe = replace(RECIPE, interventions=(Capture(("hook_embed",), out=str(path / inside)),))
    expected = f"{path / inside} lies among what the run {path} writes itself; give its Capture another folder, as"
    parent = finished(tmp_path / "parent", RECIPE)
    for begin in (
        lambda: Run.create(path, recipe),
        lambda: parent.fork(at=10, interventions=recipe.interventions, out=path),
    ):
        with pytest.raises(RunError, match=f"^{re.escape(expected)} {re.escape(str(path / 'captured'))}$"):
            begin()
        assert not path.exists()


def test_a_run_or_a_capture_within_a_capture_leaves_no_folder(tmp_path: Path) -> None:
    outer = Capture(("hook_embed",), out=str(tmp_path / "outer"))
    inner = Capture(("hook_embed",), out=str(tmp_path / "outer" / "inner"))
    for path, interventions, lies in (
        (tmp_path / "outer" / "run", (outer,), r"outer/run lies in .*outer, where a Capture of the run writes"),
        (tmp_path / "run", (inner, outer), r"outer/inner lies in .*outer, where a Capture of the run writes"),
    ):
        with pytest.raises(RunError, match=lies):
            Run.create(path, replace(RECIPE, interventions=interventions))
    assert list(tmp_path.iterdir()) == []


def test_a_fork_is_made_by_its_parent_alone(tmp_path: Path) -> None:
    """Its recipe says nothing of the state that it goes on with."""
    parent = finished(tmp_path / "run", RECIPE)
    fork = parent.fork(at=10, out=tmp_path / "fork")
    with pytest.raises(RunError, match=r"again cannot be begun: its recipe goes on from step 10 of another run"):
        Run.create(tmp_path / "again", fork.recipe)
    assert not (tmp_path / "again").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=r"fork that one, as Run\('runs/mws'\)\.fork\(at=10\)"):
        Run.create(tmp_path / "empty", fork.recipe)
    assert list((tmp_path / "empty").iterdir()) == []
    longer = replace(fork.recipe, training=replace(fork.recipe.training, steps=30))
    assert Run.create(fork.path, longer).recipe.steps == 30  # what is there is lengthened as any run
