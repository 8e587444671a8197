"""plateau_interp.reproductions.circuits.toys: levels, and what a fork and a setting are."""

import pandas as pd

from plateau_interp.reproductions.circuits import PAPER
from plateau_interp.reproductions.circuits.toys import BIASED, WINDOW_FALL, WINDOW_ONSET, WINDOWS
from plateau_interp.reproductions.settings import Outcome, Setting


def test_onset_and_fall_of_windows_are_shares_of_the_way_between_closed_forms() -> None:
    levels = WINDOWS.recipe.task.levels
    assert levels.plateau is not None
    assert levels.floor is not None
    for share, quantity in ((0.1, WINDOW_ONSET), (0.5, WINDOW_FALL)):
        level = levels.plateau - share * (levels.plateau - levels.floor)
        steps, losses = [0, 10, 20], [levels.plateau, level + 0.01, level - 0.01]
        assert quantity.of(Outcome(WINDOWS, 0, pd.DataFrame({"step": steps, "loss": losses}))) == 20


def test_the_fork_differs_from_its_parent_by_the_bias_alone() -> None:
    assert BIASED.leaves == (WINDOWS, 40)
    ours, theirs = BIASED.recipe.to_dict(), WINDOWS.recipe.to_dict()
    assert {key for key in ours if ours[key] != theirs.get(key)} == {"interventions"}


def test_every_setting_has_three_seeds_and_measures_its_circuit() -> None:
    assert {experiment.n_seeds for experiment in PAPER.experiments} == {3}
    for setting in PAPER.settings():
        assert isinstance(setting, Setting)
        assert setting.adds is not None
        assert setting.whole
        assert (setting.recipe.steps - 10) % setting.recipe.checkpoint_every == 0  # a checkpoint that has a row
