"""plateau_interp.tasks.depth_two: points on a sphere, their labels, and what is measured of a net that learns them."""

import json
import math
import re

import pytest
import torch
from hook_cases import recheck

from plateau_interp.cli.main import main
from plateau_interp.hooks import ScaleActivation
from plateau_interp.models import toy_model
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.tasks import DepthTwoNet
from plateau_interp.tasks.depth_two import alternating
from plateau_interp.training.loop import train
from plateau_interp.training.meter import Meter
from plateau_interp.types import Batch


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_points_lie_on_the_sphere_and_are_all_different():
    task = DepthTwoNet(d=3, n=40, n_validation=20)
    assert task.points.norm(dim=1).allclose(torch.ones(60).double(), atol=1e-12)
    assert len(task.points.unique(dim=0)) == task.d_vocab == 60
    assert task.points.mean(dim=0).norm() < 0.5
    assert task.train_set.tokens.flatten().tolist() == list(range(40))
    assert task.validation_set.tokens.flatten().tolist() == list(range(40, 60))


def test_the_data_follow_from_the_fields_alone():
    one, same, other = DepthTwoNet(), DepthTwoNet(), DepthTwoNet(data_seed=1)
    assert one.points.equal(same.points)
    assert one.train_set.labels.equal(same.train_set.labels)
    assert not one.points.equal(other.points)
    # Noise is another stream: the points and the teacher's labels are the same with and without.
    noisy = DepthTwoNet(label_noise=0.5)
    assert noisy.points.equal(one.points)
    assert noisy.validation_set.labels.equal(one.validation_set.labels)
    errors = noisy.train_set.labels - one.train_set.labels
    assert errors.std() == pytest.approx(0.5, rel=0.2)


def test_a_sine_is_a_wave_along_one_direction():
    task = DepthTwoNet(d=2, n=200)
    labels = task.train_set.labels[:, 0]
    angles = torch.linspace(0, math.tau, 721)
    directions = torch.stack([angles.cos(), angles.sin()], dim=1).double()
    waves = (3 * task.points[:200] @ directions.T).sin()
    assert (waves - labels[:, None]).abs().amax(dim=0).min() < 0.02
    assert labels.abs().max() <= 1


def test_a_net_can_be_the_teacher():
    task = DepthTwoNet(teacher="net", activation="sigmoid")
    assert task.train_set.labels.abs().max() <= 1  # of two gates with +1/2 and two with -1/2
    assert not task.train_set.labels.equal(DepthTwoNet().train_set.labels)


def test_classes_are_even_and_turned_round_by_noise():
    clean = DepthTwoNet(objective="logistic", n=300)
    assert sorted(clean.train_set.labels.unique().tolist()) == [-1, 1]
    assert float(clean.train_set.labels.mean()) == pytest.approx(0, abs=0.2)
    noisy = DepthTwoNet(objective="logistic", n=300, label_noise=0.2)
    turned = noisy.train_set.labels != clean.train_set.labels
    assert turned.double().mean() == pytest.approx(0.2, abs=0.07)
    assert noisy.validation_set.labels.equal(clean.validation_set.labels)


def test_losses_by_hand():
    output = torch.tensor([[[0.5]], [[-2.0]]])
    batch = Batch(torch.tensor([[0], [1]]), torch.tensor([[1.0], [1.0]]).double())
    assert DepthTwoNet().loss(output, batch).item() == pytest.approx((0.25 + 9) / 4)
    logistic = (math.log(1 + math.exp(-0.5)) + math.log(1 + math.exp(2.0))) / 2
    task = DepthTwoNet(objective="logistic")
    assert task.loss(output, batch).item() == pytest.approx(logistic)
    hidden = batch.scoring(torch.tensor([True, False]))
    assert task.loss(output, hidden).item() == pytest.approx(math.log(1 + math.exp(-0.5)))


@pytest.mark.parametrize("objective", ["squared", "logistic"])
def test_the_best_constant(objective):
    task = DepthTwoNet(objective=objective, label_noise=0.3, n=50)
    constants = torch.linspace(-3, 3, 6001).double()
    losses = [task.loss(torch.full((50, 1, 1), float(c)), task.train_set).item() for c in constants[::10]]
    assert min(losses) == pytest.approx(task.constant_loss, abs=1e-4)
    assert min(losses) >= task.constant_loss - 1e-6
    assert task.levels.plateau == task.constant_loss


def test_what_is_measured():
    task = DepthTwoNet(objective="logistic", d=3, n=30, n_validation=10)
    model = toy_model(task, d_mlp=4)
    step = next(train(model, task, steps=1, meter=Meter(task)))
    expected = {"train_loss", "share_of_constant", "weight_norm", "train_accuracy", "validation_accuracy"}
    assert step.metrics.keys() == {*expected, "validation_loss"}
    fresh = toy_model(task, d_mlp=4)
    outputs = fresh(task.train_set.inputs)
    assert step.metrics["train_loss"] == pytest.approx(task.loss(outputs, task.train_set).item())
    assert step.metrics["share_of_constant"] == pytest.approx(step.metrics["train_loss"] / task.constant_loss)
    assert step.metrics["weight_norm"] == pytest.approx(fresh.W_in.norm().item())
    right = (outputs.flatten() > 0) == (task.train_set.labels.flatten() > 0)
    assert step.metrics["train_accuracy"] == pytest.approx(right.double().mean().item())
    assert task.remark(step.metrics).startswith("the training points' loss is ")
    assert task.remark({}) == ""


def test_a_sample_is_of_the_training_points():
    task = DepthTwoNet(n=5, n_validation=3)
    batch = task.sample(200, generator=generator())
    assert batch.tokens.unique().tolist() == [0, 1, 2, 3, 4]
    assert batch.labels.equal(task.train_set.labels[batch.tokens[:, 0]])
    assert alternating(3).tolist() == pytest.approx([3**-0.5, -(3**-0.5), 3**-0.5])


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"d": 0}, "d must be at least 1; got 0"),
        ({"n": 0}, "n must be at least 1; got 0"),
        ({"objective": "hinge"}, "objective must be one of squared, logistic; got 'hinge'"),
        ({"activation": "relu"}, "activation must be one of gelu, sigmoid, silu, softplus, tanh; got 'relu'"),
        ({"label_noise": -1.0}, "label_noise must be at least 0; got -1.0"),
        (
            {"objective": "logistic", "label_noise": 1.5},
            "label_noise of a logistic loss is a share, at most 1; got 1.5",
        ),
    ],
)
def test_what_cannot_be_is_refused(fields, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        recheck(DepthTwoNet(), **fields)


def small_recipe():
    training = {"steps": 9, "batch_size": 8}
    return Recipe.from_dict(
        {
            "task": {"name": "depth-2-net", "d": 3, "n": 24, "n_validation": 8, "objective": "logistic"},
            "model": {"d_mlp": 4, "dtype": "float64"},
            "training": training,
            "measuring": {"every": 3},
            "checkpoint_every": 4,
        }
    )


def test_a_run_of_it_resumes_and_forks(tmp_path):
    recipe = small_recipe()
    assert recipe == Recipe.from_json(recipe.to_json())
    whole = Run.create(tmp_path / "whole", recipe)
    assert [step.epoch for step in whole.train()] == [0, 0, 0, 1, 1, 1, 2, 2, 2]

    for step in Run.create(tmp_path / "stopped", recipe).train():
        if step.step == 6:
            break
    resumed = Run(tmp_path / "stopped")
    assert len(list(resumed.train())) == 5
    assert resumed.model().W_in.equal(whole.model().W_in)
    assert resumed.metrics.equals(whole.metrics)

    fork = whole.fork(at=4, interventions=[ScaleActivation("blocks.0.mlp.hook_post", 0.5)], out=tmp_path / "fork")
    assert len(list(fork.train())) == 5
    assert not fork.model().W_in.equal(whole.model().W_in)
    assert fork.model().W_E.equal(whole.model().W_E)


@pytest.mark.slow  # draws figures
def test_the_command_line_trains_and_reports_it(tmp_path, capsys):
    (tmp_path / "recipe.json").write_text(small_recipe().to_json())
    assert main(["train", str(tmp_path / "recipe.json"), "--out", str(tmp_path / "run"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    for words in ("Train loss", "Weight norm", "of the best constant", "Share of the points held out"):
        assert words in page


def test_points_that_are_handed_out_are_copies() -> None:
    task = DepthTwoNet(d=3, n=10)
    kept = task.points.clone()
    task.points.zero_()
    assert torch.equal(task.points, kept)
