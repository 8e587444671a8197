"""plateau_interp.hooks.villani: Psi through training, as columns of a run that is otherwise the same."""

import logging
import re

import pytest
import torch
from hook_cases import recheck, toy

from plateau_interp.analysis.villani import villani_diagnostic
from plateau_interp.hooks import During, FrobeniusPenalty, VillaniDiagnostic
from plateau_interp.interventions.attaching import intervening
from plateau_interp.interventions.clock import advance
from plateau_interp.interventions.measuring import attached_measures
from plateau_interp.models import toy_model
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.tasks import DepthTwoNet
from plateau_interp.training.loop import train
from plateau_interp.training.meter import Meter

TASK = DepthTwoNet(d=3, n=16, n_validation=4)


def net():
    return toy_model(TASK, d_mlp=4, dtype=torch.float64)


def test_its_columns_are_the_diagnostics():
    model = net()
    (near, far) = villani_diagnostic(model, TASK, TASK.train_set, step_size=0.5, penalty=0.1, radii=(1.0, 4.0))
    with intervening(model, VillaniDiagnostic(step_size=0.5, penalty=0.1, radii=(1.0, 4.0))):
        found = {name: value.item() for name, value in attached_measures(model).items()}
    assert found == {
        "psi": pytest.approx(near.psi),
        "psi_gradient": pytest.approx(near.gradient_square / 0.5),
        "psi_laplacian": pytest.approx(near.laplacian),
        "psi@4": pytest.approx(far.psi),
    }


def test_an_estimate_comes_with_its_error():
    model = net()
    with intervening(model, VillaniDiagnostic(probes=8, radii=(1.0, 2.0))):
        found = [attached_measures(model), attached_measures(model)]
        advance(model, step=1)
        later = attached_measures(model)
    assert set(found[0]) == {"psi", "psi_error", "psi_gradient", "psi_laplacian", "psi@2", "psi_error@2"}
    assert found[0]["psi_error"] > 0
    assert found[0] == found[1]  # of one step the same probes,
    assert later["psi"] != found[0]["psi"]  # of another others


def test_it_changes_no_bit_and_says_what_it_costs(caplog):
    weights, metrics = [], []
    with caplog.at_level(logging.INFO):
        for watched in ((), (VillaniDiagnostic(penalty=0.1, every=2),)):
            model = net()
            steps = train(
                model, TASK, steps=4, interventions=(FrobeniusPenalty(0.1), *watched), meter=Meter(TASK, every=1)
            )
            metrics.append([step.metrics for step in steps])
            weights.append(model.W_in.detach())
    assert weights[0].equal(weights[1])
    assert [("psi" in row) for row in metrics[1]] == [True, False, True, False]
    told = [record.getMessage() for record in caplog.records if "psi" in record.getMessage()]
    assert told == ["psi, its trace exact over 16 parameters: the arithmetic of about 192 backward passes each time"]


def test_it_says_what_it_costs_when_it_first_measures_whatever_step_it_was_asked_at_before(caplog):
    model = net()
    with caplog.at_level(logging.INFO), intervening(model, VillaniDiagnostic(every=2)):
        for step in (1, 2, 4):
            advance(model, step=step)
            assert bool(attached_measures(model)) == (step != 1)
    assert len([record for record in caplog.records if "psi" in record.getMessage()]) == 1


def test_a_run_has_it_where_it_was_measured(tmp_path):
    data = {
        "task": {"name": "depth-2-net", "d": 3, "n": 16},
        "model": {"d_mlp": 4},
        "training": {"steps": 5},
        "measuring": {"every": 1},
        "interventions": [{"name": "villani-diagnostic", "penalty": 0.1, "every": 2, "radii": [1, 2]}],
    }
    run = Run.create(tmp_path / "run", Recipe.from_dict(data))
    for step in run.train():
        if step.step == 2:
            break
    for _ in Run(tmp_path / "run").train():
        pass
    metrics = Run(tmp_path / "run").metrics
    assert metrics.loc[metrics["psi"].notna(), "step"].tolist() == [0, 2, 4]
    assert metrics["psi@2"].notna().sum() == 3


def test_it_heeds_a_schedule():
    model = net()
    with intervening(model, During(VillaniDiagnostic(), start=1)):
        advance(model, step=0)
        model(TASK.train_set.inputs)
        assert attached_measures(model) == {}
        advance(model, step=1)
        assert "psi" in attached_measures(model)


def test_what_it_cannot_measure_is_refused():
    model = toy()
    model.task = None
    with pytest.raises(ValueError, match="the model has no task: set model"):
        intervening(model, VillaniDiagnostic()).__enter__()
    kinked = net()
    kinked.cfg.act_fn = "relu"
    with pytest.raises(ValueError, match="twice differentiable"):
        intervening(kinked, VillaniDiagnostic()).__enter__()


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"step_size": 0.0}, "step_size must be a positive number; got 0.0"),
        ({"penalty": -1.0}, "penalty must be at least 0; got -1.0"),
        ({"probes": 1}, "probes must be at least 2; got 1"),
        ({"every": 0}, "every must be at least 1; got 0"),
        ({"radii": ()}, "radii must be numbers above 0, such as (1.0, 2.0); got ()"),
        ({"radii": (0.0,)}, "radii must be numbers above 0, such as (1.0, 2.0); got (0.0,)"),
        ({"radii": 2.0}, "radii must be numbers above 0, such as (1.0, 2.0); got 2.0"),
    ],
)
def test_numbers_that_cannot_be_are_refused(fields, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        recheck(VillaniDiagnostic(), **fields)
