"""plateau_interp.runs.forking: what a fork has of its parent, and which cannot be."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from trained_runs import RECIPE, batch_at, contents, finished, trained, undoes_training

from plateau_interp.hooks import AmplifySlowGradient, BiasAttention, During, ScaleGradient, TransplantWeights, When
from plateau_interp.interventions.capturing import Capture, Captured
from plateau_interp.runs.run import Run, RunError


def test_a_fork_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", RECIPE)
    (run.path / "checkpoints" / "20" / "state.json").write_text("{")
    with pytest.raises(RunError, match="is damaged"):
        run.fork(at=22, out=tmp_path / "fork")
    assert not (tmp_path / "fork").exists()
    assert run.fork(at=12, out=tmp_path / "fork").step == 12


def test_a_run_that_is_named_by_a_dot_can_be_forked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished(tmp_path / "run", RECIPE).path)
    assert Run(".").fork(at=10).path == tmp_path / "run-from-10"


@pytest.mark.parametrize("at", [0, 7, 10, 25])
def test_a_fork_without_interventions_is_its_parent_bit_for_bit(tmp_path: Path, at: int) -> None:
    parent = finished(tmp_path / "parent", RECIPE)
    fork = parent.fork(at=at, out=tmp_path / "fork")
    assert fork.checkpoints == [at]
    for _ in fork.train():
        pass
    assert fork.recipe.fork_of is not None
    assert fork.recipe.fork_of.step == at
    mine, theirs = contents(fork.path), contents(parent.path)
    del mine[f"checkpoints/{at}/state.json"]
    for name, content in mine.items():
        if name in theirs and not name.endswith("state.json"):  # they name the recipe
            assert content == theirs[name], name
    assert mine["checkpoints/25/model.safetensors"] == theirs["checkpoints/25/model.safetensors"]
    assert mine["metrics.jsonl"] == theirs["metrics.jsonl"]


def test_a_killed_fork_goes_on_and_its_folder_is_found_beside_the_parent(tmp_path: Path) -> None:
    parent = finished(tmp_path / "parent", RECIPE)
    steps = parent.fork(at=7).train()
    for _ in range(8):
        next(steps)
    steps.close()
    for _ in parent.fork(at=7).train():
        pass
    assert Run(tmp_path / "parent-from-7").finished
    assert Run(tmp_path / "parent-from-7").metrics.equals(parent.metrics)


def test_a_fork_goes_on_and_is_lengthened_though_its_parent_was_lengthened(tmp_path: Path) -> None:
    """How long the parent was to be is no part of what its fork is."""
    parent = finished(tmp_path / "parent", RECIPE)
    steps = parent.fork(at=7, interventions=[BiasAttention(factor=3.0)]).train()
    for _ in range(3):
        next(steps)
    steps.close()
    parent = finished(tmp_path / "parent", replace(RECIPE, training=replace(RECIPE.training, steps=RECIPE.steps + 5)))
    fork = parent.fork(at=7, interventions=[BiasAttention(factor=3.0)])
    for _ in fork.train():
        pass
    anew = parent.fork(at=7, interventions=[BiasAttention(factor=3.0)], out=tmp_path / "anew")
    for _ in anew.train():
        pass
    assert (fork.step, fork.recipe.to_json()) == (RECIPE.steps + 5, anew.recipe.to_json())
    assert fork.metrics.equals(anew.metrics)
    with pytest.raises(RunError, match=r"the run of another recipe \(interventions is "):
        parent.fork(at=7, interventions=[BiasAttention(factor=4.0)])


def test_forks_that_cannot_be_are_refused(tmp_path: Path) -> None:
    parent = finished(tmp_path / "parent", RECIPE)
    with pytest.raises(RunError, match="can be forked at steps 0 to 25; got 26"):
        parent.fork(at=26)
    with pytest.raises(RunError, match="can be forked at steps 20 to 20; got 3; for an earlier step fork its parent"):
        parent.fork(at=20, out=tmp_path / "late").fork(at=3)
    with pytest.raises(RunError, match="has not begun: there is nothing to fork"):
        Run.create(tmp_path / "new", RECIPE).fork(at=0)
    with pytest.raises(RunError, match="a fork at step 20 cannot end at step 10"):
        parent.fork(at=20, steps=10)
    with pytest.raises(RunError, match=r"holds a run that is no fork \(25 steps\); a fork needs a folder"):
        parent.fork(at=20, out=parent.path)
    longer = replace(RECIPE, training=replace(RECIPE.training, steps=30), checkpoint_every=5)
    with pytest.raises(RunError, match=r"another recipe \(checkpoint_every is 10 there and 5 here\)"):
        Run.create(parent.path, longer)


def test_a_fork_that_cannot_be_leaves_no_folder(tmp_path: Path) -> None:
    parent = finished(tmp_path / "parent", RECIPE)
    with pytest.raises(ValueError, match="4"):
        parent.fork(at=10, interventions=[BiasAttention(factor=2.0, layers=[4])])
    assert [child.name for child in tmp_path.iterdir()] == ["parent"]


def test_a_fork_at_0_without_its_parents_transplant_starts_from_fresh_weights(tmp_path: Path) -> None:
    finished(tmp_path / "donor", replace(RECIPE, seed=9))
    transplant = TransplantWeights(str(tmp_path / "donor"), "mlp")
    parent = finished(tmp_path / "parent", replace(RECIPE, interventions=(transplant,)))
    assert not torch.equal(parent.model(0).W_in, RECIPE.build_model().W_in)
    fork = parent.fork(at=0, interventions=[])
    for _ in fork.train():
        pass
    plain = finished(tmp_path / "plain", RECIPE)
    mine, theirs = contents(fork.path), contents(plain.path)
    assert mine.keys() == theirs.keys()
    differing = [name for name in mine if mine[name] != theirs[name] and not name.endswith("state.json")]
    assert differing == []


@pytest.mark.parametrize("wrapped", [False, True], ids=["at once", "scheduled"])
@pytest.mark.parametrize("at", [0, 7, 10])
def test_a_fork_with_a_transplant_of_its_own_starts_with_it(tmp_path: Path, at: int, wrapped: bool) -> None:
    donor = finished(tmp_path / "donor", replace(RECIPE, seed=9)).model()
    parent = finished(tmp_path / "parent", RECIPE)
    transplant: Any = TransplantWeights(str(tmp_path / "donor"), "mlp")
    fork = parent.fork(at=at, interventions=[During(transplant, start=at) if wrapped else transplant])
    before, after = next(fork.train()), fork.model(at)
    assert before.step == at
    assert torch.equal(after.W_in, donor.W_in)
    assert not torch.equal(after.W_Q, donor.W_Q)
    if at in parent.checkpoints:
        assert torch.equal(after.W_Q, parent.model(at).W_Q)
    loss = RECIPE.task.loss(after(batch_at(at).inputs), batch_at(at))
    assert before.loss == loss.item()


@pytest.mark.parametrize(("at", "first"), [(0, False), (7, False), (7, True)])
@pytest.mark.parametrize(
    "make",
    [
        lambda donor: AmplifySlowGradient(),
        lambda donor: When(BiasAttention(factor=3.0), since="loss < 2.5", ramp=20),
        lambda donor: TransplantWeights(donor, "mlp"),
        pytest.param(lambda donor: During(TransplantWeights(donor, "mlp"), start=7, stop=12), marks=undoes_training),
        lambda donor: During(During(TransplantWeights(donor, "mlp"), start=2), stop=20),
    ],
    ids=["average", "condition", "transplant", "scheduled transplant", "nested transplant"],
)
def test_what_a_fork_keeps_beside_others_goes_on(tmp_path: Path, make: Any, at: int, first: bool) -> None:
    recipe = replace(RECIPE, checkpoint_every=5, training=replace(RECIPE.training, steps=15))
    finished(tmp_path / "donor", replace(recipe, seed=9))
    kept, nothing = make(str(tmp_path / "donor")), ScaleGradient(1.0)
    parent = finished(tmp_path / "parent", replace(recipe, interventions=(kept,)))
    fork = parent.fork(at=at, interventions=[nothing, kept] if first else [kept, nothing])
    for _ in fork.train():
        pass
    assert fork.metrics.equals(parent.metrics)
    last = "checkpoints/15/model.safetensors"
    assert contents(fork.path)[last] == contents(parent.path)[last]


def test_a_fork_does_not_write_over_its_parents_captures(tmp_path: Path) -> None:
    capture = Capture(("blocks.0.attn.hook_pattern",), out=str(tmp_path / "captured"), sequences=1)
    parent = finished(tmp_path / "parent", replace(RECIPE, interventions=(capture,)))
    with pytest.raises(RunError, match=r"captured holds what the parent captured; give the fork's Capture another"):
        parent.fork(at=7, interventions=[capture, BiasAttention()])
    assert not (tmp_path / "parent-from-7").exists()
    elsewhere = replace(capture, out=str(tmp_path / "elsewhere"))
    child = parent.fork(at=7, interventions=[elsewhere, BiasAttention()])
    with pytest.raises(RunError, match="captured holds"):
        child.fork(at=7, interventions=[capture])
    for _ in child.train():
        pass
    assert Captured(tmp_path / "captured").steps == list(range(25))
    assert Captured(tmp_path / "elsewhere").steps == list(range(7, 25))
    shutil.rmtree(tmp_path / "captured")
    parent.fork(at=13, interventions=[])
    assert not (tmp_path / "captured").exists(), "steps trained again for a fork were recorded the first time"
    parent.fork(at=13, out=tmp_path / "same")


def test_a_fork_is_not_gone_on_with_for_another_run_of_its_parents_recipe(tmp_path: Path) -> None:
    donor = tmp_path / "donor"
    recipe = replace(RECIPE, interventions=(TransplantWeights(str(donor), "mlp layers"),))

    def made(seed: int) -> Run:
        for path in (donor, tmp_path / "run"):
            shutil.rmtree(path, ignore_errors=True)
        finished(donor, replace(RECIPE, seed=seed))
        return trained(Run.create(tmp_path / "run", recipe))  # no copy of what was finished before

    fork = made(1).fork(at=10, out=tmp_path / "fork")
    before = contents(fork.path)
    with pytest.raises(RunError, match=r"fork is the fork of another run of this recipe: at step 0 .*run has other"):
        made(2).fork(at=10, out=tmp_path / "fork")
    assert contents(fork.path) == before
    assert made(1).fork(at=10, out=tmp_path / "fork").step == 10
