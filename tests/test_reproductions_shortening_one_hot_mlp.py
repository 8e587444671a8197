"""plateau_interp.reproductions.shortening.one_hot_mlp: no remedy stands beside a baseline without its weight decay."""

import pytest

from plateau_interp.models.initializers import Scaled
from plateau_interp.reproductions.claims import Ordered, Ratio
from plateau_interp.reproductions.shortening.one_hot_mlp import (
    DECAYS,
    GROKKING_DECAY,
    GROKKING_INITS,
    GROKKING_REMEDIES,
    MATCHED,
)

EXPERIMENTS = (GROKKING_DECAY, GROKKING_INITS, GROKKING_REMEDIES)
ACROSS = ("faster than a weight decay of 1", "The delay goes with", "Five times the weight decay")
"""Claims about weight decay itself."""


def decay_of(setting):
    return setting.recipe.training.optimizer.weight_decay


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=[one.name for one in EXPERIMENTS])
def test_what_is_compared_has_the_same_weight_decay_and_as_many_steps(experiment):
    by_name = {setting.name: setting for setting in experiment.settings}
    for claim in experiment.claims:
        if any(words in claim.text for words in ACROSS):
            continue
        check = claim.check
        names = (check.setting, check.over) if isinstance(check, Ratio) else ()
        names = check.settings if isinstance(check, Ordered) else names
        assert len({decay_of(by_name[name]) for name in names}) <= 1, claim.text
        assert len({by_name[name].recipe.steps for name in names}) <= 1, claim.text


def test_a_remedy_differs_from_its_baseline_by_itself_alone():
    for setting in GROKKING_REMEDIES.settings[3:]:
        (word,) = [word for word in MATCHED if setting.name == f"mlp-{word.lower().replace(' ', '-')}"]
        baseline = MATCHED[word].recipe
        assert not baseline.interventions
        assert len(setting.recipe.interventions) == 1
        assert baseline.model == setting.recipe.model
        assert baseline.training == setting.recipe.training


def test_it_is_the_source_s_setting():
    for decay, setting in DECAYS.items():
        recipe = setting.recipe
        optimizer = recipe.training.optimizer
        assert (recipe.model.d_model, recipe.model.mlp_width, recipe.task.d_output) == (194, 128, 97)
        assert (recipe.batch_size, optimizer.learning_rate, optimizer.beta2) == (4704, 1e-3, 0.999)
        assert optimizer.weight_decay == decay
    kept = GROKKING_REMEDIES.settings[-2]
    assert kept.recipe.model.init == (Scaled(0.8),)
