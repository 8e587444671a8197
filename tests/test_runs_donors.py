"""`InitFrom`: what it finds out of a donor, what it refuses, how recipes, options and digests have it."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from hook_cases import recheck
from trained_runs import finished

from plateau_interp import (
    MeasuringOptions,
    ModelOptions,
    Recipe,
    RecipeError,
    Run,
    TrainingOptions,
    intervening,
    toy_model,
)
from plateau_interp.cli.main import main
from plateau_interp.cli.options import read_training
from plateau_interp.files import digest
from plateau_interp.hooks import TransplantWeights
from plateau_interp.hooks.sources import open_source
from plateau_interp.runs.donors import InitFrom, donor_digest
from plateau_interp.runs.identity import recipe_digest
from plateau_interp.tasks import PrefixSum

RECIPE = Recipe(
    PrefixSum(n=4, p=5),
    model=ModelOptions(d_model=8),
    training=TrainingOptions(steps=6, batch_size=4),
    measuring=MeasuringOptions(n_sequences=2),
    checkpoint_every=2,
)


@pytest.fixture
def donor(tmp_path: Path) -> Run:
    return finished(tmp_path / "donor", RECIPE)


def test_a_donor_is_known_by_its_step_and_by_what_is_taken(donor: Run) -> None:
    init = InitFrom(str(donor.path))
    weights = donor.path / "checkpoints" / "6" / "model.safetensors"
    assert (init.source, init.path, init.step) == (f"{donor.path}@6", donor.path, 6)
    assert init.digest == digest(weights.read_bytes()) == donor_digest(init)
    assert InitFrom(init.source, digest=init.digest) == init
    assert InitFrom(f"{donor.path}@2").digest != init.digest
    taken = InitFrom(str(donor.path), optimizer="taken")
    assert taken.digest not in (init.digest, InitFrom(f"{donor.path}@0", optimizer="taken").digest)
    state = donor.path / "checkpoints" / "6" / "optimizer.safetensors"
    state.write_bytes(state.read_bytes()[:-1] + b"!")
    assert donor_digest(init) == init.digest
    assert donor_digest(taken) != taken.digest


def test_a_folder_that_is_called_like_a_step_of_another_is_taken_by_its_name(tmp_path: Path) -> None:
    run = finished(tmp_path / "x@2", RECIPE)
    init = InitFrom(str(run.path))
    assert (init.source, init.path, init.step) == (f"{run.path}@6", run.path, 6)
    assert InitFrom(f"{run.path}@4").step == 4
    model = toy_model(RECIPE.task, d_model=8)
    with intervening(model, TransplantWeights(str(run.path), where="mlp")):
        assert torch.equal(model.blocks[0].mlp.W_in, run.model(6).blocks[0].mlp.W_in)


def test_a_name_that_means_two_runs_is_refused(donor: Run, tmp_path: Path) -> None:
    other = tmp_path / "donor@2"
    shutil.copytree(donor.path, other)
    told = re.escape(f"{other} is both a folder and step 2 of {donor.path}: rename one of the folders")
    with pytest.raises(ValueError, match=told):
        InitFrom(str(other))
    with pytest.raises(ValueError, match=told):
        open_source(str(other))
    assert InitFrom(f"{other}@4").path == other
    assert InitFrom(f"{donor.path}@4").path == donor.path


def test_a_folder_of_an_earlier_format_is_a_donor(tmp_path: Path) -> None:
    kept = Path(__file__).parent / "data" / "run-format-1" / "run"
    step = Run(kept).step
    file = kept / "checkpoints" / str(step) / "model.safetensors"
    assert InitFrom(str(kept), optimizer="taken").step == step
    assert InitFrom(str(kept)).digest == digest(file.read_bytes())


def test_recipes_hold_it_and_go_by_the_name_of_the_folder(donor: Run, tmp_path: Path) -> None:
    init = InitFrom(str(donor.path), where=("mlp", "read-out"), optimizer="taken")
    recipe = Recipe(PrefixSum(n=4, p=5), init_from=init)
    data = recipe.to_dict()["init_from"]
    assert data == {
        "source": f"{donor.path}@6",
        "where": ["mlp", "read-out"],
        "optimizer": "taken",
        "digest": init.digest,
    }
    shutil.move(donor.path, tmp_path / "elsewhere")  # a recipe is read without its donor
    assert Recipe.from_json(recipe.to_json()) == recipe
    moved = Recipe.from_dict({**recipe.to_dict(), "init_from": {**data, "source": "other/place/donor@6"}})
    assert recipe_digest(moved) == recipe_digest(recipe)
    others = [{"source": "donor@4"}, {"digest": "0"}, {"where": "mlp"}, {"optimizer": "fresh"}]
    for other in others:
        changed = Recipe.from_dict({**recipe.to_dict(), "init_from": {**data, **other}})
        assert recipe_digest(changed) != recipe_digest(recipe)
    assert recipe_digest(Recipe(PrefixSum(n=4, p=5))) != recipe_digest(recipe)


def test_the_command_line_names_it(donor: Run, tmp_path: Path) -> None:
    words = ["--init-from", f"{donor.path}@4", "--init-where", "mlp", "embed.*", "--init-optimizer", "fresh"]
    recipe, _ = read_training("prefix-sum", [*words, "--out", "x"])
    assert recipe.init_from == InitFrom(f"{donor.path}@4", where=("mlp", "embed.*"))
    file = tmp_path / "recipe.json"
    file.write_text(recipe.to_json())
    shutil.move(donor.path, tmp_path / "elsewhere")
    again, _ = read_training(str(file), ["--seed", "1", "--out", "x"])
    assert again.init_from == recipe.init_from  # its digest is known
    assert read_training(str(file), ["--init-from", "None", "--out", "x"])[0].init_from is None
    assert read_training("prefix-sum", ["--out", "x"])[0].init_from is None


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("donro", {}, r"^.*donro is no run's folder; the nearest is donor there$"),
        ("donor@3", {}, r"donor has no checkpoint of step 3; the nearest is 2$"),
        ("donor@2", {"optimizer": "taken"}, "donor@2 keeps no optimiser state: take it fresh, or from a checkpoint"),
        ("donor", {"digest": "0"}, "^source must name the step whose digest this is, as in 'RUN@STEP'; got "),
        ("donor", {"where": ()}, r"^where must be a group or a pattern over names, or several; got \(\)$"),
    ],
)
def test_what_cannot_be_taken_is_refused(donor: Run, name: str, fields: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InitFrom(str(donor.path.with_name(name)), **fields)


def test_what_is_no_donor_is_refused(donor: Run, tmp_path: Path) -> None:
    init = InitFrom(str(donor.path))
    for fields, message in (
        ({"source": 3}, "^source must be a run's folder, such as 'runs/mws@100'; got 3$"),
        ({"where": 3}, "^where must be a group or a pattern over names, or several; got 3$"),
        ({"optimizer": "kept"}, "^optimizer must be one of fresh, taken; got 'kept'$"),
        ({"digest": 3}, "^digest must be text, or None to have it found out; got 3$"),
    ):
        with pytest.raises(ValueError, match=message):
            recheck(InitFrom(init.source, digest=init.digest), **fields)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty has no checkpoint to begin with$"):
        InitFrom(str(tmp_path / "empty"))
    (donor.path / "checkpoints" / "6" / "state.json").write_text("[]")
    with pytest.raises(ValueError, match=r"checkpoints/6/state\.json is damaged: "):
        InitFrom(str(donor.path))


def test_a_mistake_is_told_in_one_line_with_its_field(donor: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RecipeError, match=r"^init_from: .*no is no run's folder"):
        Recipe.from_dict({"task": {"name": "prefix-sum"}, "init_from": {"source": str(donor.path / "no")}})
    with pytest.raises(RecipeError, match=r"^init_from\.form: unknown field; the nearest is "):
        Recipe.from_dict({"task": {"name": "prefix-sum"}, "init_from": {"source": "x", "form": "mlp"}})
    assert main(["train", "prefix-sum", "--init-from", f"{donor.path}@5", "--out", "x"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("donor has no checkpoint of step 5; the nearest is 4")
    for word in ("--init-where mlp", "--init-optimizer taken"):  # of nobody: it would have no effect
        assert main(["train", "prefix-sum", *word.split(), "--out", "x"]) == 2
        assert "name it by --init-from" in capsys.readouterr().err
    assert InitFrom(f"{donor.path}@4", where=("mlp",)) == InitFrom(f"{donor.path}@4", where="mlp")
