"""plateau_interp.reproductions.shortening.collapse: nothing but the intervention differs; attention is left alone."""

from plateau_interp.models import toy_model
from plateau_interp.reproductions.shortening.collapse import COLLAPSE


def test_settings_differ_by_an_intervention_on_the_final_states_alone() -> None:
    baseline, *others = COLLAPSE.settings
    assert not baseline.recipe.interventions
    model = toy_model(baseline.recipe.task, d_model=16)
    for setting in others:
        (intervention,) = setting.recipe.interventions
        assert intervention.sites(model) == ("unembed.hook_in",)
        assert setting.recipe.task == baseline.recipe.task
        assert setting.recipe.training == baseline.recipe.training
        assert setting.recipe.model == baseline.recipe.model
    coefficients = [one.recipe.interventions[0].coefficient for one in others[1:]]
    assert [setting.name for setting in others[1:]] == [f"sum-apart-{one:g}" for one in coefficients]
