"""plateau_interp.reproductions.shortening.own_tasks: its setting of two operations, and what is claimed."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from plateau_interp.reproductions.settings import Outcome
from plateau_interp.reproductions.shortening.own_tasks import OWN_TASKS
from plateau_interp.training.batches import training_batch

ALONE, WITH_PRODUCTS, BY_TRIPLES = OWN_TASKS.settings
NEVER = 10**6


def grokked(setting, divides, multiplies=NEVER, *, seed=0):
    """Division's validation set is right from a step on, multiplication's from another."""
    steps = np.arange(0, setting.recipe.steps, 50)
    right = {"divide": np.where(steps < divides, 0.1, 1.0), "multiply": np.where(steps < multiplies, 0.1, 1.0)}
    own = {word: right[word] for word in setting.recipe.task.operations}
    each = {f"validation_accuracy_{word}": values for word, values in own.items()} if len(own) > 1 else {}
    rows = {"step": steps, "loss": 1.0, "accuracy": 1.0, "validation_accuracy": np.mean([*own.values()], axis=0)}
    return Outcome(setting, seed, pd.DataFrame(rows | each))


def verdicts(alone, with_products, by_triples):
    ends = {ALONE: [(alone,)] * 5, WITH_PRODUCTS: [with_products] * 5, BY_TRIPLES: [by_triples] * 5}
    outcomes = {
        setting.name: [grokked(setting, *end, seed=seed) for seed, end in enumerate(seeds)]
        for setting, seeds in ends.items()
    }
    return [one.finding.verdict for one in OWN_TASKS.statements(outcomes)]


def test_it_is_the_poster_s_setting_of_division_with_multiplication():
    recipe = WITH_PRODUCTS.recipe
    task = recipe.task
    # The operation is told at the front; of the poster's 103 tokens two are of operations that are not there.
    assert (task.operations, task.layout, task.n_pos, task.d_vocab) == (("divide", "multiply"), "prefix", 6, 103 - 2)
    assert (len(task.train_set), len(task.validation_set)) == (4656 + 4704, 4656 + 4705)
    assert [len(training_batch(task, seed=0, step=step, batch_size=512)) for step in (17, 18)] == [512, 144]
    assert (recipe.steps, recipe.batch_size, recipe.measure_every) == (8000, 512, 50)
    assert WITH_PRODUCTS.whole
    assert OWN_TASKS.n_seeds == 5


def test_settings_differ_by_their_equations_alone():
    for setting in (WITH_PRODUCTS, BY_TRIPLES):
        assert dataclasses.replace(setting.recipe, task=ALONE.recipe.task) == ALONE.recipe
    assert dataclasses.replace(BY_TRIPLES.recipe.task, split="equations") == WITH_PRODUCTS.recipe.task
    assert ALONE.name == "fig3-baseline"  # whose runs are there


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ((NEVER, (5450, 5250), (NEVER, NEVER)), ["holds", "holds", "holds", "holds"]),
        ((7000, (7900, 7900), (NEVER, NEVER)), ["holds", "does not hold", "does not hold", "holds"]),
        ((NEVER, (NEVER, 5250), (7900, 5000)), ["does not hold", "holds", "does not hold", "does not hold"]),
        ((NEVER, (3600, 3450), (NEVER, 5000)), ["does not hold", "does not hold", "holds", "holds"]),
    ],
    ids=["as in its repository", "no sooner than alone", "told by nothing", "too soon"],
)
def test_verdicts(steps, expected):
    assert verdicts(*steps) == [*expected, "unknown"]
