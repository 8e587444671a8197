"""plateau_interp.analysis.generalisation: gaps, points of a scatter, and a correlation with its interval."""

import math

import numpy as np
import pytest

from plateau_interp.analysis.capacity import query_key_capacity
from plateau_interp.analysis.generalisation import capacity_points, correlation, generalisation_gap
from plateau_interp.models import toy_model
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.tasks import DepthTwoNet, ModularArithmetic, MovingWindowSum


def test_the_gap_is_of_both_sets_whole():
    task = DepthTwoNet(d=3, n=12, n_validation=7, label_noise=1.0)
    model = toy_model(task)
    losses = [task.loss(model(batch.inputs), batch).item() for batch in (task.train_set, task.validation_set)]
    assert generalisation_gap(model, task).item() == pytest.approx(abs(losses[0] - losses[1]))
    assert not generalisation_gap(model, task).requires_grad


def test_points_of_runs(tmp_path):
    runs = []
    for p in (5, 7):
        task = ModularArithmetic(p=p, train_fraction=0.5)
        data = {"model": {"d_model": 8, "n_heads": 2}, "training": {"steps": 2}, "task": {"name": task.name, "p": p}}
        data["task"]["train_fraction"] = 0.5
        run = Run.create(tmp_path / str(p), Recipe.from_dict(data))
        list(run.train())
        runs.append(run)
    points = capacity_points(runs)
    assert points["n_train"].tolist() == [10, 21]
    last = runs[1].model()
    assert points["capacity"][1] == pytest.approx(query_key_capacity(last).capacity.mean().item())
    assert points["scaled_capacity"][1] == pytest.approx(points["capacity"][1] / math.sqrt(21))
    assert points["gap"][1] == pytest.approx(generalisation_gap(last, runs[1].task).item())
    endless = Run.create(tmp_path / "endless", Recipe(MovingWindowSum(n=4)))
    with pytest.raises(ValueError, match="a gap needs a training set and a validation set; MovingWindowSum"):
        capacity_points([endless])


def test_r_and_its_interval():
    generator = np.random.default_rng(0)
    x = generator.normal(size=40)
    y = 0.8 * x + 0.6 * generator.normal(size=40)
    found = correlation(list(x), list(y))
    assert found.r == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert found.low < found.r < found.high < 1
    assert found == correlation(list(x), list(y))
    assert found.low != correlation(list(x), list(y), seed=1).low
    mirrored = correlation(list(x), list(-y))
    assert (mirrored.r, mirrored.low, mirrored.high) == pytest.approx((-found.r, -found.high, -found.low))
    assert str(found).startswith(f"r = {found.r:.2f} (95 % bootstrap interval {found.low:.2f} to ")


def test_the_interval_covers():
    """Of 200 samples of 30 points, in about 95 of 100 the true correlation lies in it."""
    covered, truth = 0, 0.6
    for sample in range(200):
        generator = np.random.default_rng(sample)
        x, noise = generator.normal(size=(2, 30))
        found = correlation(list(x), list(truth * x + 0.8 * noise), n_resamples=300)
        covered += found.low <= truth <= found.high
    assert 0.88 * 200 <= covered <= 0.99 * 200


def test_what_has_no_correlation():
    flat = correlation([1, 1, 1], [1, 2, 3])
    assert math.isnan(flat.r)
    assert math.isnan(flat.low)
    assert flat.n == 3
    for x, y, text in (
        ([1, 2], [1, 2], "3 at least; got 2 and 2"),
        ([1, 2, 3], [1, 2], "got 3 and 2"),
        ([1, 2, math.nan], [1, 2, 3], "finite"),
    ):
        with pytest.raises(ValueError, match=text):
            correlation(x, y)
