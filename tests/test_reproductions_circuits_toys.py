"""plateau_interp.reproductions.circuits.toys: levels, forks, and the picture of a forming circuit."""

import pandas as pd
import pytest

from plateau_interp.reproductions.circuits import PAPER
from plateau_interp.reproductions.circuits.measured import EDGE
from plateau_interp.reproductions.circuits.pictures import MOST_NAMED, forming_figure
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


@pytest.mark.parametrize("n_edges", [2, 9])
def test_the_picture_has_losses_edges_and_shares(n_edges: int) -> None:
    def one(seed: int, setting: Setting) -> Outcome:
        shared = {"step": [0, 10], "loss": [2.0, 1.0], "circuit_overlap": [0.0, 1.0], "main_edges_there": [0.5, 1.0]}
        scores = {f"{EDGE}a>{place}": [0.0, 1.0 + place] for place in range(n_edges)}
        return Outcome(setting, seed, pd.DataFrame({**shared, **scores}))

    figure = forming_figure({each.name: [one(0, each), one(1, each)] for each in (WINDOWS, BIASED)})
    losses, edges, shares = figure.axes[:3]
    assert len(figure.axes) == 6
    assert [len(axes.get_lines()) for axes in (losses, shares)] == [2, 4]
    assert len(edges.get_lines()) == min(n_edges, MOST_NAMED) + 1  # and half of the last score
    assert losses.get_title(loc="left") == "moving-window sum, one layer"
    labels = [text.get_text() for text in shares.get_legend().get_texts()]
    assert labels == ["as high up as at last", "have half of their last score"]
