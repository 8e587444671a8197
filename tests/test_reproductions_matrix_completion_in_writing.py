"""plateau_interp.reproductions.matrix_completion.in_writing: what is its own."""

import dataclasses
from pathlib import Path

from plateau_interp.models.settings import ModelOptions
from plateau_interp.reproductions.matrix_completion.in_writing import CAUSAL_MODELS
from plateau_interp.reproductions.running import train_setting
from plateau_interp.reproductions.settings import Setting
from plateau_interp.tasks import WrittenCompletion
from plateau_interp.training.settings import MeasuringOptions, TrainingOptions


def test_a_run_has_what_the_claims_are_about(tmp_path: Path) -> None:
    found = {}
    for setting in CAUSAL_MODELS.settings:
        assert isinstance(setting, Setting)
        recipe = dataclasses.replace(
            setting.recipe,
            task=WrittenCompletion(shape=(2, 2)),
            model=ModelOptions(attention=setting.recipe.model.attention, d_model=8),
            training=TrainingOptions(steps=4, batch_size=4),
            measuring=MeasuringOptions(every=1, n_sequences=8),
            checkpoint_every=4,
        )
        tiny = dataclasses.replace(setting, recipe=recipe)
        found[setting.name] = [train_setting(tiny, 0, tmp_path)]
    assert {*CAUSAL_MODELS.panels} <= {*found["written-softmax"][0].metrics}
    measured = [statement.finding.measured for statement in CAUSAL_MODELS.statements(found)]
    assert all(measured[:5])  # all that is judged
