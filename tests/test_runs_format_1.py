"""Run folders as version 0.1.0 wrote them stay readable and can be gone on with (tests/data/run-format-1)."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from kept_runs import ALMOST, copy_kept
from trained_runs import trained

from plateau_interp.hooks import AmplifySlowGradient, BiasAttention, During, TransplantWeights
from plateau_interp.models import ToyTransformer
from plateau_interp.models.settings import ModelOptions
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.training.settings import MeasuringOptions, TrainingOptions

KEPT = Path(__file__).parent / "data" / "run-format-1"
RECIPE = Recipe(
    MovingWindowSum(n=3, p=5),
    model=ModelOptions(d_model=8, d_mlp=8),
    training=TrainingOptions(steps=8, batch_size=8),
    interventions=(
        During(BiasAttention(factor=3.0), start=2, stop=6),
        TransplantWeights("donor@8", "mlp"),
        AmplifySlowGradient(),
    ),
    measuring=MeasuringOptions(n_sequences=4),
    checkpoint_every=4,
    seed=1,
)


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy_kept(1, tmp_path, monkeypatch)


def longer(recipe: Recipe, steps: int) -> Recipe:
    return replace(recipe, training=replace(recipe.training, steps=steps))


def equal(one: ToyTransformer, other: ToyTransformer) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def assert_almost(one: Run, other: Run, *, step: int) -> None:
    for a, b in zip(one.model(step).parameters(), other.model(step).parameters(), strict=True):
        torch.testing.assert_close(a, b, **ALMOST)
    pd.testing.assert_frame_equal(one.metrics, other.metrics, **ALMOST)


def as_format_1(run: Run) -> Run:
    """The run with its checkpoints' states as format 1 had them."""
    for file in run.path.glob("checkpoints/*/state.json"):
        state = json.loads(file.read_text())
        kept = {name: state[name] for name in ("step", "latest", "optimizer")}
        file.write_text(json.dumps({"format": 1, **kept}, indent=2) + "\n")
    return Run(run.path)


def test_they_are_as_they_were_written() -> None:
    for file in KEPT.glob("*/checkpoints/*/state.json"):
        assert sorted(json.loads(file.read_text())) == ["format", "latest", "optimizer", "step"]
        assert json.loads(file.read_text())["format"] == 1
        assert (file.parent / "interventions.safetensors").stat().st_size > 16 or "donor" in file.parts


def test_a_run_is_read() -> None:
    run = Run("run")
    assert run.checkpoints == [0, 4, 8]
    assert run.finished
    assert run.recipe.to_dict() == RECIPE.to_dict()
    assert list(run.metrics["step"]) == list(range(8))
    assert run.summary.final_loss < 2
    assert not equal(run.model(4), run.model(8))
    assert_almost(run, trained(Run.create("fresh", RECIPE)), step=8)


def test_a_run_goes_on_with_what_its_interventions_remember() -> None:
    shutil.copytree("run", "halves")
    whole = trained(Run.create("run", longer(RECIPE, 14)))
    steps = Run.create("halves", longer(RECIPE, 14)).train()
    for _ in range(3):
        next(steps)
    steps.close()
    halves = trained(Run("halves"))
    assert halves.metrics.equals(whole.metrics)
    assert equal(halves.model(), whole.model())
    assert_almost(whole, trained(Run.create("fresh", longer(RECIPE, 14))), step=14)


def test_a_run_is_forked() -> None:
    again = trained(Run("run").fork(at=6, interventions=RECIPE.interventions[1:], out="again", steps=10))
    assert_almost(again, Run("fork"), step=10)
    same = trained(Run("run").fork(at=4, out="same"))
    assert_almost(same, Run("run"), step=8)


def test_a_fork_is_read_goes_on_and_is_found_again() -> None:
    fork = Run("run").fork(at=6, interventions=RECIPE.interventions[1:], out="fork", steps=10)
    assert fork.checkpoints == [6, 10]
    stored = fork.model(10)
    shutil.rmtree("fork/checkpoints/10")
    again = trained(Run("fork"))
    for a, b in zip(again.model(10).parameters(), stored.parameters(), strict=True):
        torch.testing.assert_close(a, b, **ALMOST)


def test_what_goes_on_from_format_1_is_bit_for_bit_what_goes_on_from_now() -> None:
    recipe = replace(RECIPE, state_every=1)  # format 1 kept every state
    trained(Run.create("new", recipe))
    shutil.copytree("new", "old")
    as_format_1(Run("old"))
    new, old = (trained(Run.create(name, longer(recipe, 14))) for name in ("new", "old"))
    assert old.metrics.equals(new.metrics)
    assert equal(old.model(), new.model())
    forks = [trained(run.fork(at=6, interventions=RECIPE.interventions[1:])) for run in (new, old)]
    assert forks[0].metrics.equals(forks[1].metrics)
    assert equal(forks[0].model(), forks[1].model())
