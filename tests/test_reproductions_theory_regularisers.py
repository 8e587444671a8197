"""plateau_interp.reproductions.theory.regularisers: ways that differ in what is added to the loss alone."""

import dataclasses

import pytest

from plateau_interp.hooks import CapacityRegulariser, FrobeniusPenalty
from plateau_interp.reproductions.claims import Ratio
from plateau_interp.reproductions.theory import PAPER
from plateau_interp.reproductions.theory.regularisers import (
    COMPLETION_COMPARED,
    HUBER,
    MODULAR_COMPARED,
    NORM_TOLERANCE,
    WINDOWS_COMPARED,
)


@pytest.mark.parametrize(
    "experiment", [WINDOWS_COMPARED, MODULAR_COMPARED, COMPLETION_COMPARED], ids=lambda one: one.name
)
def test_ways_differ_in_what_is_added_alone(experiment) -> None:
    plain, frobenius, capacity = (setting.recipe for setting in experiment.settings[:3])
    assert plain.interventions == ()
    assert plain == dataclasses.replace(frobenius, interventions=()) == dataclasses.replace(capacity, interventions=())
    (penalty,), (regulariser,) = frobenius.interventions, capacity.interventions
    assert isinstance(penalty, FrobeniusPenalty)
    assert isinstance(regulariser, CapacityRegulariser)
    assert penalty.where == "*"
    assert penalty.coefficient > 0 < regulariser.coefficient
    assert experiment.n_seeds == 5
    optimizer = plain.training.optimizer
    assert getattr(optimizer, "weight_decay", 0.0) == 0.0


@pytest.mark.parametrize(
    "experiment", [WINDOWS_COMPARED, MODULAR_COMPARED, COMPLETION_COMPARED], ids=lambda one: one.name
)
def test_equal_norms_are_a_claim(experiment) -> None:
    _, frobenius, capacity = (setting.name for setting in experiment.settings[:3])
    first = experiment.claims[0].check
    assert isinstance(first, Ratio)
    assert (first.setting, first.over) == (capacity, frobenius)
    assert (first.low, first.high) == (1 - NORM_TOLERANCE, 1 + NORM_TOLERANCE)


def test_hubers_loss_is_all_that_differs() -> None:
    squared, huber = (setting.recipe for setting in HUBER.settings)
    assert huber.task.delta == 0.25
    assert dataclasses.replace(huber, task=squared.task) == squared
    assert HUBER.settings[0] is COMPLETION_COMPARED.settings[0]
    assert squared.task.delta is None


def test_a_checkpoint_has_a_row_wherever_ends_are_read() -> None:
    for setting in PAPER.settings(PAPER.experiments[2:]):
        recipe = setting.recipe
        assert setting.adds is not None
        assert recipe.checkpoint_every % recipe.measure_every == 0
        assert recipe.checkpoint_every + recipe.measure_every >= recipe.steps > recipe.checkpoint_every
