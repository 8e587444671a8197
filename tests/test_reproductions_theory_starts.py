"""plateau_interp.reproductions.theory.starts: what the groups are, and the loss of a run with its penalty."""

import dataclasses

import pytest

from plateau_interp.reproductions.claims import Within
from plateau_interp.reproductions.running import train_setting
from plateau_interp.reproductions.settings import Setting
from plateau_interp.reproductions.theory.measured import REGULARISED
from plateau_interp.reproductions.theory.pooled import SpreadOver
from plateau_interp.reproductions.theory.starts import NET_KINDS, SCALES, STARTS, nets
from plateau_interp.training.settings import MeasuringOptions


def test_starts_of_a_group_differ_by_the_size_of_the_first_weights_alone() -> None:
    for group in NET_KINDS:
        settings = nets(*group)
        assert nets(*group) is settings
        assert [setting.recipe.model.init_std for setting in settings] == [*SCALES]
        others = {repr(dataclasses.replace(setting.recipe.model, init_std=1.0)) for setting in settings}
        assert len(others) == 1
        penalties = [one.coefficient for setting in settings for one in setting.recipe.interventions]
        assert penalties == ([group[2]] * 3 if group[2] else [])
        assert (settings[0].recipe.steps - 1) % settings[0].recipe.measure_every == 0


def test_every_group_has_a_claim_on_its_spread() -> None:
    spreads = [claim.check for claim in STARTS.claims if isinstance(claim.check, SpreadOver)]
    assert len(spreads) == len(NET_KINDS)
    assert {name for check in spreads for name in check.settings} == {setting.name for setting in STARTS.settings}
    learnt = [claim.check for claim in STARTS.claims if isinstance(claim.check, Within)]
    assert len(learnt) == 8


def test_the_loss_with_the_penalty_is_that_of_the_last_row(tmp_path) -> None:
    setting = nets("squared", "tanh", 0.01)[0]
    short = dataclasses.replace(setting.recipe, measuring=MeasuringOptions(every=2), checkpoint_every=4)
    short = dataclasses.replace(short, training=dataclasses.replace(short.training, steps=5))
    outcome = train_setting(Setting("short", short, whole=True), 0, tmp_path)
    row = outcome.metrics.iloc[-1]
    term = row["frobenius_penalty@blocks.*.mlp.W_in"]
    assert REGULARISED.of(outcome) == pytest.approx(row["train_loss"] + term, rel=1e-9)
    assert term == pytest.approx(0.005 * row["weight_norm"] ** 2)
