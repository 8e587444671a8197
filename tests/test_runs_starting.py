"""Runs that begin with the weights of another: which, with what optimiser state, resumed, forked, refused."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from trained_runs import contents, finished, trained
from two_texts import two_texts

from plateau_interp import MeasuringOptions, ModelOptions, Recipe, Run, RunError, TrainingOptions
from plateau_interp.hooks import FreezeWeights, ScaleGradient, TransplantWeights
from plateau_interp.models.initializers import PaperDraw, PyTorchDefault, Scaled
from plateau_interp.models.matrix_draws import Sparse
from plateau_interp.runs.donors import InitFrom
from plateau_interp.runs.folder import RunFolder
from plateau_interp.tasks import DepthTwoNet, MatrixCompletion, MovingWindowSum, OneHotArithmetic, PrefixSum
from plateau_interp.training.loop import train
from plateau_interp.training.optimizers import SGD

TASK = MovingWindowSum(n=4, p=5)
OPTIONS: dict[str, Any] = {
    "model": ModelOptions(d_model=8),
    "training": TrainingOptions(steps=6, batch_size=4),
    "measuring": MeasuringOptions(n_sequences=2),
    "checkpoint_every": 2,
    "state_every": 1,
}


@pytest.fixture
def donor(tmp_path: Path) -> Run:
    return finished(tmp_path / "donor", Recipe(PrefixSum(n=4, p=5), **OPTIONS))


def begun(donor: Run, *, seed: int = 3, **fields: Any) -> Recipe:
    init = InitFrom(f"{donor.path}@4", **fields)
    return Recipe(TASK, **OPTIONS, seed=seed, init_from=init)


def values(run: Run, step: int) -> dict[str, torch.Tensor]:
    return {name: parameter.detach() for name, parameter in run.model(step).named_parameters()}


def test_a_run_begins_with_its_donor_s_weights(donor: Run, tmp_path: Path) -> None:
    run = trained(Run.create(tmp_path / "run", begun(donor)))
    theirs = values(donor, 4)
    assert all(torch.equal(value, theirs[name]) for name, value in values(run, 0).items())
    # By hand: the same model, trained with a fresh optimiser on the batches of the new run.
    model = donor.model(4)
    by_hand = train(model, TASK, steps=6, batch_size=4, seed=3)
    assert [step.loss for step in by_hand] == run.metrics["loss"].tolist()
    assert all(torch.equal(value, dict(model.named_parameters())[name]) for name, value in values(run, 6).items())


def test_what_is_never_trained_is_the_model_s_own(tmp_path: Path) -> None:
    """The points of a depth-2 net's task, and the embedding of a mask that is to be 0."""
    steps = {"training": TrainingOptions(steps=2, batch_size=4), "checkpoint_every": 1}
    first = finished(tmp_path / "points", Recipe(DepthTwoNet(n=8, data_seed=0), **steps))
    other = Recipe(DepthTwoNet(n=8, data_seed=1), **steps, init_from=InitFrom(str(first.path)))
    begun_with = values(finished(tmp_path / "other", other), 0)
    assert torch.equal(begun_with["embed.W_E"], other.build_model().embed.W_E)
    assert torch.equal(begun_with["blocks.0.mlp.W_in"], values(first, 2)["blocks.0.mlp.W_in"])

    kinds = {kind: ModelOptions(d_model=8, n_heads=1, n_layers=1, mask_embedding=kind) for kind in ("trained", "zero")}
    task = MatrixCompletion(shapes=((2, 2),))
    first = finished(tmp_path / "trained mask", Recipe(task, model=kinds["trained"], **steps))
    other = Recipe(task, model=kinds["zero"], **steps, init_from=InitFrom(str(first.path)))
    begun_with = values(finished(tmp_path / "zero mask", other), 0)
    assert values(first, 2)["embed.W_E"][task.mask_token].any()
    assert not begun_with["embed.W_E"][task.mask_token].any()


def test_by_group_the_rest_is_as_it_was_drawn(donor: Run, tmp_path: Path) -> None:
    recipe = begun(donor, where=("attention map", "blocks.0.mlp.*"))
    recipe = replace(recipe, model=replace(recipe.model, init=(Sparse(0.5, where="*.W_*"),)))
    run = Run.create(tmp_path / "run", recipe)
    next(iter(run.train()))
    theirs, drawn = values(donor, 4), dict(recipe.build_model().named_parameters())
    attention = ("W_Q", "b_Q", "W_K", "b_K", "W_E", "W_pos")
    for name, value in values(run, 0).items():
        is_taken = name.endswith(attention) or name.startswith(("blocks.0.mlp.", "blocks.0.ln1."))
        assert torch.equal(value, theirs[name] if is_taken else drawn[name]), name


def test_the_optimiser_s_state_is_taken_or_fresh(donor: Run, tmp_path: Path) -> None:
    fresh, taken, part = (
        trained(Run.create(tmp_path / name, begun(donor, **fields)))
        for name, fields in {
            "fresh": {},
            "taken": {"optimizer": "taken"},
            "part": {"optimizer": "taken", "where": "mlp"},
        }.items()
    )
    # By hand: the donor's first four steps once more, and on with the same optimiser on the new run's batches.
    again = donor.recipe.build_model()
    optimizer = donor.recipe.optimizer.build(again.named_parameters())
    list(train(again, donor.task, steps=4, batch_size=4, optimizer=optimizer))
    losses = [step.loss for step in train(again, TASK, steps=6, batch_size=4, seed=3, optimizer=optimizer)]
    assert losses == taken.metrics["loss"].tolist()
    assert losses[0] == fresh.metrics["loss"][0]
    assert losses[1:] != fresh.metrics["loss"].tolist()[1:]
    step_counts = {name: float(state["step"]) for name, state in _states(part).items()}
    assert step_counts["blocks.0.mlp.W_in"] == 10
    assert step_counts["embed.W_E"] == 6


def _states(run: Run) -> dict[str, dict[str, torch.Tensor]]:
    import safetensors.torch

    file = run.path / "checkpoints" / str(run.step) / "optimizer.safetensors"
    states: dict[str, dict[str, torch.Tensor]] = {}
    for place, value in safetensors.torch.load_file(file).items():
        name, _, key = place.rpartition("/")
        states.setdefault(name, {})[key] = value
    return states


@pytest.mark.parametrize(
    "fields",
    [pytest.param({}, marks=pytest.mark.slow), {"optimizer": "taken", "where": "mlp"}],
    ids=["whole", "group"],
)
def test_stopped_and_forked_it_comes_out_bit_for_bit_also_without_its_donor(
    donor: Run, tmp_path: Path, fields: dict[str, Any]
) -> None:
    whole = trained(Run.create(tmp_path / "whole", begun(donor, **fields)))
    stopped = Run.create(tmp_path / "stopped", begun(donor, **fields))
    for step in stopped.train():
        if step.step == 2:
            break
    at_0 = whole.fork(at=0, out=tmp_path / "at 0")
    shutil.move(donor.path, tmp_path / "gone")
    assert contents(trained(Run(tmp_path / "stopped")).path) == contents(whole.path)
    for at, fork in ((0, at_0), (4, whole.fork(at=4, out=tmp_path / "at 4"))):
        trained(fork)
        assert fork.metrics.equals(whole.metrics)
        assert all(torch.equal(value, values(whole, 6)[name]) for name, value in values(fork, 6).items()), at
    longer = replace(whole.recipe, training=replace(whole.recipe.training, steps=7))
    assert trained(Run.create(whole.path, longer)).step == 7


@pytest.mark.slow
def test_interventions_act_on_what_was_taken(donor: Run, tmp_path: Path) -> None:
    recipe = begun(donor)
    plain = trained(Run.create(tmp_path / "plain", recipe))
    frozen = (FreezeWeights("embedding tables"),)
    run = trained(Run.create(tmp_path / "run", replace(recipe, interventions=frozen)))
    theirs = values(donor, 4)
    same = {name for name, value in values(run, 6).items() if torch.equal(value, theirs[name])}
    assert same == {"embed.W_E", "pos_embed.W_pos", "unembed.b_U"}
    # A transplant comes after; a fork at 0 without it begins as the donor was.
    transplant = TransplantWeights(f"{donor.path}@0", "mlp")
    under = Run.create(tmp_path / "under", replace(recipe, interventions=(transplant,)))
    trained(under)
    assert torch.equal(values(under, 0)["blocks.0.mlp.W_in"], values(donor, 0)["blocks.0.mlp.W_in"])
    fork = trained(under.fork(at=0, interventions=[], out=tmp_path / "fork"))
    assert fork.metrics.equals(plain.metrics)
    other = trained(plain.fork(at=2, interventions=[ScaleGradient(0.0)], out=tmp_path / "other"))
    assert all(torch.equal(value, values(plain, 2)[name]) for name, value in values(other, 2).items())


def test_a_donor_that_has_changed_is_refused_and_nothing_is_written(donor: Run, tmp_path: Path) -> None:
    recipe = begun(donor)
    weights = donor.path / "checkpoints" / "4" / "model.safetensors"
    shutil.copy(donor.path / "checkpoints" / "2" / "model.safetensors", weights)
    with pytest.raises(RunError, match=r"^init_from: what .*donor@4 holds has changed since the recipe was made, or "):
        Run.create(tmp_path / "run", recipe)
    shutil.rmtree(weights.parent)
    with pytest.raises(
        RunError, match=r"^init_from: .*checkpoints/4, whose weights the run begins with, is not there: p"
    ):
        Run.create(tmp_path / "run", recipe)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "fields", "message"),
    [
        ({"model": ModelOptions(d_model=16)}, {}, r"embed\.W_E is \(6, 8\) in .*donor@4, but \(6, 16\) here; take oth"),
        ({"model": ModelOptions(d_model=8, n_layers=2)}, {}, r".*donor@4 has no parameter blocks\.1\..*; the nearest"),
        ({}, {"where": "mpl"}, "'mpl' means no parameter of the model; the nearest "),
        (
            {"training": TrainingOptions(steps=6, optimizer=SGD())},
            {"optimizer": "taken"},
            "the state of the donor's Adam is nothing to SGD: train with the same optimiser, or take it fresh",
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(
    donor: Run, tmp_path: Path, changes: Any, fields: Any, message: str
) -> None:
    init = InitFrom(f"{donor.path}@4", **fields)
    with pytest.raises(RunError, match=f"^init_from: {message}"):
        Run.create(tmp_path / "run", Recipe(TASK, **{**OPTIONS, **changes}, init_from=init))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "where", "message"),
    [
        (
            {"init": (Sparse(0.8),)},
            "*",
            r"init: Sparse\(.*0\.8\) comes to nothing: init_from=.*donor@4 replaces all that it draws; leave "
            "it out, or take other weights alone with where$",
        ),
        (
            {"init": (Scaled(0.5, where="*.b_*"), Sparse(0.9, where="*.W_in"))},
            "mlp",
            r"init: Sparse\(.*\) comes",
        ),
        ({"init_std": 0.5}, "*", r"init_std=0\.5 comes to nothing: init_from=.*donor@4 replaces what is drawn with it"),
        ({"init_std": 0.5, "init": (PyTorchDefault(),)}, None, r"init_std=0\.5 comes to nothing: init replaces what"),
    ],
    ids=["init", "one of two", "init_std", "init_std by init"],
)
def test_a_draw_of_which_nothing_is_left_is_refused(
    donor: Run, tmp_path: Path, options: dict[str, Any], where: str | None, message: str
) -> None:
    recipe = Recipe(TASK, **{**OPTIONS, "model": ModelOptions(d_model=8, **options)})
    recipe = replace(recipe, init_from=None if where is None else InitFrom(f"{donor.path}@4", where=where))
    with pytest.raises(RunError, match=f"^{message}"):
        Run.create(tmp_path / "run", recipe)
    assert not (tmp_path / "run").exists()


def test_a_draw_of_which_something_is_left_stays(donor: Run, tmp_path: Path) -> None:
    """So does one that changes nothing by itself, as the first of a sweep may."""
    kept = [
        ({"init": (Sparse(0.9),)}, "mlp"),
        ({"init": (Scaled(1.0), PaperDraw())}, "*"),
        ({"init_std": 0.5}, "attention"),
        ({"init_std": 0.02}, "*"),
    ]
    for number, (options, where) in enumerate(kept):
        recipe = Recipe(TASK, **{**OPTIONS, "model": ModelOptions(d_model=8, **options)})
        Run.create(tmp_path / str(number), replace(recipe, init_from=InitFrom(f"{donor.path}@4", where=where)))


def test_what_an_architecture_takes_no_notice_of_is_refused_of_a_new_run_alone(tmp_path: Path) -> None:
    """A run that was made before it was refused can be opened, and goes on."""
    recipe = Recipe(OneHotArithmetic(p=5), **{**OPTIONS, "model": ModelOptions(init_std=0.5)})
    with pytest.raises(ValueError, match=r"^init_std says nothing to a one-hot MLP: leave it out; got 0\.5$"):
        Run.create(tmp_path / "new", recipe)
    assert not (tmp_path / "new").exists()
    older = tmp_path / "older"
    older.mkdir()
    (older / "recipe.json").write_text(recipe.to_json())
    run = trained(Run.create(older, recipe))
    assert Run(older).finished
    assert torch.equal(values(run, 0)["blocks.0.mlp.W_in"], Recipe(OneHotArithmetic(p=5)).build_model().W_in[0])


def test_embeddings_of_another_vocabulary_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    sea, sky = two_texts(tmp_path)
    options = {**OPTIONS, "model": ModelOptions(d_model=8, n_heads=1, n_layers=1), "measuring": MeasuringOptions()}
    donor = finished(tmp_path / "donor", Recipe(sea, **options))
    for where, first in (
        ("*", "embed.W_E"),
        ("read-out", "unembed.W_U"),
        (("mlp layers", "token embedding"), "embed.W_E"),
    ):
        recipe = Recipe(sky, **options, init_from=InitFrom(f"{donor.path}@4", where=where))
        told = f"{first}: the vocabularies of this run and of .*donor@4 differ: token 256 is '.*' and '.*'; take others"
        with pytest.raises(RunError, match=f"^init_from: {told}"):
            Run.create(tmp_path / "run", recipe)
        assert not (tmp_path / "run").exists()
    layers = InitFrom(f"{donor.path}@4", where=("attention layers", "mlp layers", "position embedding"))
    run = trained(Run.create(tmp_path / "run", Recipe(sky, **options, init_from=layers)))
    assert torch.equal(values(run, 0)["blocks.0.mlp.W_in"], values(donor, 4)["blocks.0.mlp.W_in"])


def test_a_donor_of_the_same_text_may_have_lost_it(tmp_path: Path) -> None:
    sea, _ = two_texts(tmp_path)
    options = {**OPTIONS, "model": ModelOptions(d_model=8, n_heads=1, n_layers=1), "measuring": MeasuringOptions()}
    donor = finished(tmp_path / "donor", Recipe(sea, **options))
    (tmp_path / "moved").mkdir()
    shutil.move(sea.corpus, tmp_path / "moved")
    moved = replace(sea, corpus=str(tmp_path / "moved" / "sea.txt"))
    run = trained(Run.create(tmp_path / "run", Recipe(moved, **options, init_from=InitFrom(f"{donor.path}@4"))))
    assert torch.equal(values(run, 0)["embed.W_E"], RunFolder(donor.path).load_weights(4)["embed.W_E"])
