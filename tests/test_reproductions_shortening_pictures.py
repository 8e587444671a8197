"""plateau_interp.reproductions.shortening.pictures: what is drawn where."""

import numpy as np
import pandas as pd
import pytest
from shortening_outcomes import as_on_the_poster

from plateau_interp.reproductions.settings import Outcome
from plateau_interp.reproductions.shortening.grokking_tasks import GROKKING_TASKS
from plateau_interp.reproductions.shortening.own_tasks import OWN_TASKS
from plateau_interp.reproductions.shortening.pictures import losses_figure, mixes_figure, operations_figure
from plateau_interp.reproductions.shortening.poster import SEQUENCES
from plateau_interp.reproductions.shortening.shared_facts import SHARED_FACTS
from plateau_interp.reproductions.shortening.table_one import FIG1


@pytest.fixture(scope="module")
def poster():
    return as_on_the_poster()


def test_every_mixture_has_its_costs_in_both_currencies_beside_the_poster_s(poster):
    axes = mixes_figure(poster).axes
    assert [one.get_title(loc="left") for one in axes[:3]] == ["sum", "difference", "product"]
    dots = [line for line in axes[2].get_lines() if line.get_marker() == "o"]
    assert [float(line.get_ydata()[0]) for line in dots] == [93_568, 24_064, 24_064, 13_288]
    (crosses,) = [line for line in axes[2].get_lines() if line.get_marker() == "x"]
    assert [*crosses.get_ydata()] == [SEQUENCES[1]["product"], SEQUENCES[2]["product"], 24_096, 13_288]
    (fair,) = [line for line in axes[5].get_lines() if line.get_marker() == "x"]
    assert [*fair.get_ydata()] == [93_568, 48_192, 48_192, 38_656]
    for one in axes:  # nothing is cut off
        assert one.get_ylim()[0] == 0
        assert one.get_ylim()[1] > max(float(y) for line in one.get_lines() for y in line.get_ydata())
    labels = [label.get_text() for label in axes[5].get_xticklabels()]
    assert labels == ["alone", "with sum", "with difference", "all three"]


def test_the_loss_of_the_product_is_drawn_against_its_own_sequences_and_all(poster):
    shown = {setting.name: poster[setting.name] for setting in FIG1.settings}
    own, everything = losses_figure(shown).axes
    last = [[float(line.get_xdata()[-1]) for line in axes.get_lines()[:4]] for axes in (own, everything)]
    assert last == [[899 * share for share in (128, 64, 64, 44)], [899 * 128] * 4]
    assert own.get_xlabel() == "own sequences"
    # Where it falls: at the poster's elbow, in sequences of its own.
    line = own.get_lines()[3]
    assert line.get_xdata()[line.get_ydata() < 1.0][0] == 13_288


@pytest.mark.parametrize("experiment", [OWN_TASKS, GROKKING_TASKS, SHARED_FACTS], ids=lambda one: one.name)
def test_division_alone_stands_behind_division_in_company(experiment):
    """A run of one operation has no column of its own for it: its whole validation set is drawn there."""
    levels = {setting.name: 0.1 * (place + 1) for place, setting in enumerate(experiment.settings)}

    def measured(setting):
        table = pd.DataFrame({"step": np.arange(3), "loss": 1.0, "validation_accuracy": levels[setting.name]})
        if len(setting.recipe.task.operations) > 1:
            table["validation_accuracy_divide"] = table["validation_accuracy"]
            table["validation_accuracy"] = 0.9  # of all
        return [Outcome(setting, 0, table)]

    outcomes = {setting.name: measured(setting) for setting in experiment.settings}
    first, *others = levels.values()
    axes = operations_figure(outcomes).axes
    rows = [one for one in axes if one.get_subplotspec().rowspan.start == 1]
    drawn = [[float(line.get_ydata()[0]) for line in one.get_lines()] for one in rows]
    assert drawn == [[first, level] for level in others]
    assert experiment.draws is operations_figure
