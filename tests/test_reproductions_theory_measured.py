"""plateau_interp.reproductions.theory.measured: what is read off the last checkpoint of a run, against its model."""

import dataclasses
import math

import pandas as pd
import pytest
import torch

from plateau_interp.analysis.capacity import query_key_capacity
from plateau_interp.models import toy_model
from plateau_interp.models.settings import ModelOptions
from plateau_interp.reproductions.settings import Outcome
from plateau_interp.reproductions.theory.measured import (
    CAPACITY,
    GAP,
    INVERSE_ROOT,
    NORM,
    SCALED_CAPACITY,
    SCALED_NORM,
    TEST_LOSS,
    ends,
    held_out_loss,
)
from plateau_interp.reproductions.theory.scatter import TRAINING_SIZES
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.tasks import MatrixCompletion, ModularArithmetic, MovingWindowSum
from plateau_interp.training.settings import MeasuringOptions, TrainingOptions

FINITE = ModularArithmetic(p=5, operations=("add",))


def test_a_row_of_the_last_checkpoint_that_was_measured(tmp_path) -> None:
    recipe = Recipe(
        FINITE,
        model=ModelOptions(d_model=8, n_heads=2),
        training=TrainingOptions(steps=5, batch_size=8),
        measuring=MeasuringOptions(every=2),
        checkpoint_every=2,
    )
    run = Run.create(tmp_path / "run", recipe)
    for _ in run.train():
        pass
    table = ends(run)
    (row,) = table.to_dict("records")
    model = run.model(4)
    assert row["step"] == 4  # of step 5 there is no row
    assert row["capacity"] == pytest.approx(float(query_key_capacity(model).capacity.mean()))
    trained = [weights.detach().double().flatten() for weights in model.parameters() if weights.requires_grad]
    assert row["all_weights"] == pytest.approx(float(torch.cat(trained).norm()))
    assert row["n_train"] == len(FINITE.train_set) == 15
    assert row["test_loss"] == pytest.approx(run.metrics.set_index("step").loc[4, "validation_loss"], rel=1e-5)
    with torch.no_grad():
        train_loss = float(FINITE.loss(model(FINITE.train_set.inputs), FINITE.train_set))
    assert row["gap"] == pytest.approx(abs(train_loss - row["test_loss"]), rel=1e-4)

    outcome = Outcome(TRAINING_SIZES[0], 0, run.metrics.merge(table, on="step", how="left"))
    assert [one.of(outcome) for one in (NORM, CAPACITY, TEST_LOSS, GAP)] == [
        row[name] for name in ("all_weights", "capacity", "test_loss", "gap")
    ]
    root = math.sqrt(15)
    assert SCALED_CAPACITY.of(outcome) == pytest.approx(row["capacity"] / root)
    assert SCALED_NORM.of(outcome) == pytest.approx(row["product_norm"] / root)
    assert INVERSE_ROOT.of(outcome) == pytest.approx(1 / root)
    assert SCALED_CAPACITY.of(Outcome(TRAINING_SIZES[0], 0, pd.DataFrame({"step": [0]}))) is None


def test_what_is_held_out_is_the_same_each_time_and_squared_for_matrices() -> None:
    task = MovingWindowSum(n=4, p=7)
    model = toy_model(task, d_model=8)
    assert held_out_loss(model, task) == held_out_loss(model, task)
    matrices = MatrixCompletion(shapes=((2, 2),))
    encoder = toy_model(matrices, d_model=8, n_heads=2)
    huber = dataclasses.replace(matrices, delta=0.25)
    assert held_out_loss(encoder, huber) == held_out_loss(encoder, matrices) > 0.05
