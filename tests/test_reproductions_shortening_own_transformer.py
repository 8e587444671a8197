"""plateau_interp.reproductions.shortening.own_transformer: the poster's setting; with its numbers its claims hold."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest

from plateau_interp.models.matrix_draws import Dense, Small, Sparse
from plateau_interp.reproductions.settings import Outcome
from plateau_interp.reproductions.shortening.own_transformer import DETECTED, SPARSE_AND_SMALL
from plateau_interp.training.batches import training_batch

NEVER = 10**6
DECAYS = {"fig3-decay-1": 1.0, "fig3-decay-0.1": 0.1, "fig3-dense-decay-0.1": 0.1}
"""Where it is not the poster's."""


def outcome(setting, trained, validated):
    """A run whose sets are right from a step on each."""
    steps = np.arange(0, setting.recipe.steps, 50)
    rows = {"step": steps, "loss": 1.0, "accuracy": np.where(steps < trained, 0.1, 1.0)}
    return Outcome(setting, 0, pd.DataFrame(rows | {"validation_accuracy": np.where(steps < validated, 0.1, 1.0)}))


def verdicts(ends):
    """By claim, of runs that end as told, in the order of the settings."""
    settings = SPARSE_AND_SMALL.settings
    outcomes = {setting.name: [outcome(setting, *end)] for setting, end in zip(settings, ends, strict=True)}
    return {one.claim.text: one.finding.verdict for one in SPARSE_AND_SMALL.statements(outcomes)}


def test_it_is_the_poster_s_setting():
    for setting in SPARSE_AND_SMALL.settings:
        recipe, optimizer = setting.recipe, setting.recipe.training.optimizer
        task, model = recipe.task, recipe.build_model()
        assert (task.d_vocab, task.n_pos, len(task.train_set), len(task.validation_set)) == (99, 5, 4656, 4656)
        assert sum(parameter.numel() for parameter in model.parameters()) == 422_627
        assert (recipe.steps, recipe.batch_size, recipe.measure_every, setting.whole) == (8000, 512, 50, True)
        assert (optimizer.learning_rate, optimizer.beta1, optimizer.beta2, optimizer.eps) == (1e-3, 0.9, 0.98, 1e-8)
        (group,) = optimizer.build(model.named_parameters()).param_groups
        assert group["weight_decay"] == DECAYS.get(setting.name, 1e-3)
        assert recipe.training.grad_clip == math.inf
        assert recipe.training.schedule.constant
    assert len(training_batch(task, seed=0, step=9, batch_size=512)) == 48
    labels = task.train_set.labels
    assert (labels[:, -1] < 97).all()
    assert (labels[:, :-1] == -100).all()


def test_settings_differ_from_the_baseline_by_one_thing():
    baseline, *inits, decayed, less, dense_less = (setting.recipe for setting in SPARSE_AND_SMALL.settings)
    assert [recipe.model.init for recipe in inits] == [(Sparse(0.9),), (Small(0.01),), (Dense(),)]
    for recipe in inits:
        assert dataclasses.replace(recipe, model=baseline.model) == baseline
    for recipe, other in ((decayed, baseline), (less, baseline), (dense_less, inits[-1])):
        assert dataclasses.replace(recipe, training=other.training) == other
    assert SPARSE_AND_SMALL.n_seeds == 5


@pytest.mark.parametrize(
    ("trained", "validated", "told"),
    [(2250, 2550, 3300), (2250, 4000, 4000), (2250, NEVER, math.inf), (NEVER, NEVER, math.inf)],
)
def test_the_poster_s_detector_passes_over_a_thousand_steps(trained, validated, told):
    assert DETECTED.of(outcome(SPARSE_AND_SMALL.settings[0], trained, validated)) == told


def test_with_the_poster_s_numbers_its_claims_hold():
    found = verdicts([(450, NEVER), (2250, 2550), (2450, 3150), (2000, 5000), (450, 1500), (450, NEVER), (450, NEVER)])
    assert {text: verdict for text, verdict in found.items() if verdict != "holds"} == {
        "By the poster's detector": "unknown"
    }


def test_claims_fail_where_sparse_weights_do_as_dense_ones_and_no_weights_are_slow():
    found = verdicts([(450, 2500), (900, 2600), (300, 7000), (900, 2600), (450, 6000), (450, 5000), (450, 7900)])
    assert set(found.values()) == {"does not hold", "holds", "unknown"}
    # 2,600 is about 2,550; all else is otherwise.
    assert [text for text, verdict in found.items() if verdict == "holds"] == [
        "With sparse initial weights 95 % of what was held out is right at about step 2,550",
        "With sparse initial weights the poster's detector tells about step 3,300",
    ]


def test_by_how_much_is_not_told_where_dense_weights_never_grok():
    found = verdicts([(450, NEVER), (2250, 2550), (2450, 3150), (2000, NEVER), (450, 1500), (450, NEVER), (450, 7900)])
    assert found["Sparse ones do so by their mask: sooner than dense ones of the same variance and zero biases"] == (
        "holds"
    )
    assert found["and by a fifth at least"] == "unknown"
    assert found["nor from dense ones"] == "does not hold"
    assert found["Ten times the weight decay makes it grok sooner"] == "holds"


def test_what_was_written_after_a_run_had_been_looked_at_says_so():
    assert [claim.text for claim in SPARSE_AND_SMALL.claims if claim.late] == [
        "Ten times the weight decay makes it grok sooner"
    ]
