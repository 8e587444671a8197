"""plateau_interp.hooks.capacity: the columns of a run and of a series, and that nothing is changed."""

import math

import pytest
import torch
from hook_cases import assert_untouched, gpt_neox

from plateau_interp.analysis.capacity import query_key_capacity
from plateau_interp.analysis.generalisation import generalisation_gap
from plateau_interp.hooks import QueryKeyCapacity
from plateau_interp.interventions.attaching import intervening
from plateau_interp.interventions.measuring import attached_measures
from plateau_interp.models import toy_model
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.series.series import CheckpointSeries
from plateau_interp.tasks import ModularArithmetic, MovingWindowSum
from plateau_interp.training.loop import train
from plateau_interp.training.meter import Meter
from plateau_interp.views.panels import parts

MEASURES = ("capacity", "frobenius", "nuclear", "operator", "stable_rank", "weights")


def test_each_head_has_its_columns_and_their_mean():
    model = toy_model(MovingWindowSum(n=4), d_model=16, n_heads=2, n_layers=2)
    expected = query_key_capacity(model)
    with intervening(model, QueryKeyCapacity()):
        found = attached_measures(model)
    for name in MEASURES:
        values = getattr(expected, name)
        assert found[f"qk_{name}"].item() == pytest.approx(values.mean().item())
        assert found[f"qk_{name}_1_0"].equal(values[1, 0])
        assert list(parts(found, f"qk_{name}")) == [f"layer {i}, head {j}" for i in (0, 1) for j in (0, 1)]
    assert len(found) == 6 * 5
    assert_untouched(model)


@torch.no_grad()
def test_a_finite_task_has_the_gap_and_the_bound():
    task = ModularArithmetic(p=5)
    model = toy_model(task, d_model=16, n_layers=2)
    with intervening(model, QueryKeyCapacity()):
        found = attached_measures(model)
    assert found["generalisation_gap"].item() == pytest.approx(generalisation_gap(model, task).item())
    _, cache = model.run_with_cache(task.train_set.inputs)
    bounds = []
    for layer in range(2):
        normalised = (
            cache[f"blocks.{layer}.ln1.hook_normalized"] * model.blocks[layer].ln1.w + model.blocks[layer].ln1.b
        )
        c = query_key_capacity(model).frobenius[layer].max() / math.sqrt(model.cfg.d_head)
        bounds.append(float(c * normalised.norm(dim=-1).max() ** 2) / math.sqrt(len(task.train_set)))
    assert found["qk_bound"].item() == pytest.approx(max(bounds), rel=1e-4)
    assert_untouched(model)


def test_a_model_without_a_task_has_the_rest():
    model = gpt_neox()
    with intervening(model, QueryKeyCapacity()):
        assert {name.split("_")[0] for name in attached_measures(model)} == {"qk"}


def test_it_changes_no_bit():
    task = ModularArithmetic(p=5)
    weights = []
    for watched in ((), (QueryKeyCapacity(),)):
        model = toy_model(task, d_model=16)
        rows = [s.metrics for s in train(model, task, steps=3, interventions=watched, meter=Meter(task, every=1))]
        weights.append(model.W_Q.detach())
        assert ("qk_capacity" in rows[0]) == bool(watched)
    assert weights[0].equal(weights[1])


def test_a_series_has_it(tmp_path):
    small = {"model": {"d_model": 8, "n_heads": 1, "n_layers": 1}, "checkpoint_every": 1}
    data = {"task": {"name": "text", "n": 16}, "training": {"steps": 1, "batch_size": 2}, **small}
    run = Run.create(tmp_path / "run", Recipe.from_dict(data))
    list(run.train())
    series = CheckpointSeries(run)
    records = list(series.measure(["To be"], out=tmp_path / "series", n_new=2, interventions=[QueryKeyCapacity()]))
    for record in records:
        expected = query_key_capacity(run.model(record.step)).capacity.mean().item()
        assert record.measures["qk_capacity"] == pytest.approx(expected, rel=1e-6)
    assert len({record.measures["qk_capacity"] for record in records}) == len(records) > 1
