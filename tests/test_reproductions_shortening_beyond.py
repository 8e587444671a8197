"""plateau_interp.reproductions.shortening.beyond: who goes on from where, and how far an elbow moves."""

import numpy as np
import pytest
from shortening_outcomes import NOT_REACHED, outcome

from plateau_interp.hooks import FreezeWeights
from plateau_interp.models.parameters import parameters_where
from plateau_interp.reproductions.shortening.beyond import SECOND_TASK, TO_ELBOW, WHAT_TRANSFERS, switches_figure
from plateau_interp.reproductions.shortening.mixes import SUM_PRODUCT, SWITCHES, TRAINED_ALONE, drawn_tasks

BY_NAME = {setting.name: setting for setting in (*SECOND_TASK.settings, *WHAT_TRANSFERS.settings)}


@pytest.mark.parametrize("step", SWITCHES)
def test_a_second_task_comes_or_goes_at_a_checkpoint_that_keeps_the_optimiser_s_state(step: int) -> None:
    on, off = BY_NAME[f"sum-from-{step}"], BY_NAME[f"no-sum-from-{step}"]
    assert (on.begins.setting, off.begins.setting) == (TRAINED_ALONE["product"], SUM_PRODUCT)
    assert (len(drawn_tasks(on.recipe.task)), len(drawn_tasks(off.recipe.task))) == (2, 1)
    for setting in (on, off):
        assert (setting.begins.step, setting.begins.optimizer) == (step, "taken")
        donor = setting.begins.setting.recipe
        assert donor.keeps(step)
        assert donor.state_every == 1
        assert donor.task.d_vocab == setting.recipe.task.d_vocab == 20


def test_the_picture_has_the_steps_by_which_the_elbow_moves_with_those_before() -> None:
    alone = TRAINED_ALONE["product"]
    outcomes = {
        alone.name: [outcome(alone, {"product": 700}), outcome(alone, {"product": 600}, seed=1)],
        "sum-from-100": [outcome(BY_NAME["sum-from-100"], {"sum": 50, "product": 150})],
        "no-sum-from-300": [outcome(BY_NAME["no-sum-from-300"], {"product": 500}, seed=1)],
        "no-sum-from-400": [outcome(BY_NAME["no-sum-from-400"], {"product": NOT_REACHED}, seed=1)],
    }
    (axes, _) = switches_figure(outcomes).axes
    told = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in axes.texts}
    # 100 + 150 steps against 700; 300 + 500 against 600.
    assert told == {(0, 0): "-450", (1, 2): "+200", (1, 3): "never"}
    before = outcome(BY_NAME["no-sum-from-400"], {"product": 2}, seed=1)  # its donor had left the plateau before
    assert TO_ELBOW.of(before) is None
    assert axes.get_xlabel() == "switched at this step"
    assert np.ma.count_masked(axes.images[0].get_array()) == 5


def test_what_came_before_the_switch_at_most_seeds_is_not_told_from_the_slowest_alone() -> None:
    alone, off = TRAINED_ALONE["product"], BY_NAME["no-sum-from-300"]
    there_before = [outcome(off, {"product": 2}, seed=seed) for seed in (1, 2)]
    outcomes = {
        alone.name: [outcome(alone, {"product": 700}, seed=seed) for seed in range(3)],
        off.name: [outcome(off, {"product": 200}), *there_before],
    }
    assert [text.get_text() for text in switches_figure(outcomes).axes[0].texts] == []


def test_each_group_is_taken_from_the_prefix_sum_and_frozen_or_not() -> None:
    taken = [setting for setting in WHAT_TRANSFERS.settings if setting.begins is not None]
    assert len(taken) == 10
    for setting in taken:
        assert setting.begins.setting.name == "prefix-sum"
        assert setting.begins.step == 420
        frozen = setting.recipe.interventions
        assert bool(frozen) == setting.name.endswith("frozen")
        assert all(isinstance(one, FreezeWeights) and one.where == setting.begins.where for one in frozen)


@pytest.mark.parametrize("kept", ["trained", "frozen"])
def test_queries_and_keys_are_taken_without_embeddings_and_norms(kept: str) -> None:
    setting = BY_NAME[f"prefix-queries-and-keys-{kept}"]
    taken = parameters_where(setting.recipe.build_model(), setting.begins.where)
    assert sorted(taken) == [f"blocks.0.attn.{name}" for name in ("W_K", "W_Q", "b_K", "b_Q")]


@pytest.mark.parametrize(("steps", "right"), [((80, 80), True), ((70, 600), False)], ids=["as claimed", "otherwise"])
def test_what_is_claimed_of_queries_and_keys(steps: tuple[int, int], right: bool) -> None:
    trained, frozen = (BY_NAME[f"prefix-queries-and-keys-{kept}"] for kept in ("trained", "frozen"))
    ends = zip((TRAINED_ALONE["sum"], trained, frozen), (150, *steps), strict=True)
    outcomes = {
        setting.name: [outcome(setting, {"sum": end}, seed=seed, steps=500) for seed in range(3)]
        for setting, end in ends
    }
    told = WHAT_TRANSFERS.statements(outcomes)
    found = [one.finding.verdict for one in told if "queries and keys" in one.claim.text]
    assert found == ["holds" if right else "does not hold"] * 2
