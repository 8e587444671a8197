"""plateau_interp.reproductions.shortening.shared_facts: nothing but the split, or the second operation, differs."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from plateau_interp.reproductions.claims import Ratio, Reported
from plateau_interp.reproductions.settings import Outcome
from plateau_interp.reproductions.shortening.ends import taken_to
from plateau_interp.reproductions.shortening.one_hot_mlp import DECAYS
from plateau_interp.reproductions.shortening.shared_facts import SHARED_FACTS
from plateau_interp.tasks import OneHotArithmetic

ALONE, ALONE_BY_TRIPLES, WITH_PRODUCTS, BY_TRIPLES, WITH_SUMS = SHARED_FACTS.settings


def grokked(setting, step):
    """Division's validation set is right from a step on; what is beside it never."""
    steps = np.arange(0, setting.recipe.steps, 25)
    right, wrong = np.where(steps < step, 0.1, 1.0), np.full(len(steps), 0.1)
    if len(setting.recipe.task.operations) == 1:
        accuracies = {"validation_accuracy": right}
    else:
        own = {one: right if one == "divide" else wrong for one in setting.recipe.task.operations}
        accuracies = {f"validation_accuracy_{word}": values for word, values in own.items()}
        accuracies["validation_accuracy"] = np.mean([*own.values()], axis=0)
    return Outcome(setting, 0, pd.DataFrame({"step": steps, "loss": 1.0, **accuracies}))


def verdicts(steps):
    outcomes = {
        setting.name: [grokked(setting, step)] for setting, step in zip(SHARED_FACTS.settings, steps, strict=True)
    }
    return [one.finding.verdict for one in SHARED_FACTS.statements(outcomes)]


def test_the_settings_are_those_of_the_mlp_and_differ_by_operations_and_split_alone():
    assert [setting.name for setting in SHARED_FACTS.settings] == [
        "mlp-divide",
        "mlp-divide-triples",
        "mlp-divide-multiply",
        "mlp-divide-multiply-triples",
        "mlp-divide-add",
    ]
    for setting in SHARED_FACTS.settings:
        recipe, known = setting.recipe, DECAYS[1.0].recipe
        assert recipe.task.p == 97
        assert dataclasses.replace(recipe.task, operations=("add",), split="equations") == OneHotArithmetic()
        assert recipe.batch_size == len(recipe.task.train_set)
        assert recipe.training == dataclasses.replace(known.training, batch_size=recipe.batch_size)
        assert dataclasses.replace(recipe.model, d_model=194) == known.model
        assert (recipe.steps, recipe.measure_every, recipe.optimizer.weight_decay) == (3500, 25, 1.0)
        assert setting.whole
    assert SHARED_FACTS.n_seeds == 5


def test_each_is_compared_with_division_alone_of_its_own_split():
    by_name = {setting.name: setting.recipe.task for setting in SHARED_FACTS.settings}
    checks = [claim.check for claim in SHARED_FACTS.claims if isinstance(claim.check, Ratio)]
    assert [(check.setting, check.low, check.high) for check in checks] == [
        (WITH_PRODUCTS.name, 0.0, 0.8),
        (BY_TRIPLES.name, 0.9, float("inf")),
        (WITH_SUMS.name, 0.9, float("inf")),
    ]
    for check in checks:
        assert by_name[check.over].operations == ("divide",)
        assert by_name[check.over].split == by_name[check.setting].split


def divisions_told(task):
    """How many of the divisions that are held out are trained on as a product, and the share of them."""
    products = {task.tokens_to_text(row)[0] for row in task.train_set.tokens}
    held_out = [
        (row, label)
        for row, label in zip(task.validation_set.tokens, task.validation_set.labels[:, 0].tolist(), strict=True)
        if task.tokens_to_text(row)[0].split()[1] == "divide"
    ]
    words = [(task.tokens_to_text(row)[0].split()[2], label) for row, label in held_out]
    told = sum(f"{b} multiply {c}" in products or f"{c} multiply {b}" in products for b, c in words)
    return told / len(words)


def test_multiplication_tells_held_out_divisions_where_equations_are_split_and_none_by_triples():
    assert divisions_told(WITH_PRODUCTS.recipe.task) == pytest.approx(0.75, abs=0.03)  # one of two products
    assert divisions_told(BY_TRIPLES.recipe.task) == 0
    assert divisions_told(WITH_SUMS.recipe.task) == 0


def test_division_is_read_alone_and_in_company_and_a_step_of_two_operations_costs_twice():
    steps, flops = (taken_to("grokked", currency, "divide") for currency in ("steps", "flops"))
    alone, beside = grokked(ALONE, 1000), grokked(BY_TRIPLES, 1000)
    assert steps.of(alone) == steps.of(beside) == 1000
    assert flops.of(beside) / flops.of(alone) == pytest.approx(2, rel=0.03)
    assert taken_to("grokked", "steps", "multiply").of(alone) is None


def test_verdicts():
    expected = ["holds", "holds", "holds", "holds"]
    told_of = [isinstance(claim.check, Reported) for claim in SHARED_FACTS.claims]
    assert told_of == [False] * 4 + [True] * 3
    # Division alone; alone by triples; beside multiplication; that by triples; beside addition.
    assert verdicts((2000, 2400, 1600, 2160 + 25, 9999))[:4] == expected
    assert verdicts((2000, 2400, 1625, 2160 + 25, 9999))[:4] == ["holds", "does not hold", "holds", "holds"]
    assert verdicts((2000, 2400, 1600, 2150, 1775))[:4] == ["holds", "holds", "does not hold", "does not hold"]
    assert verdicts((9999, 9999, 1600, 2150, 1775))[:4] == ["does not hold", "unknown", "unknown", "unknown"]
