"""Figures of series: which checkpoints are drawn, and what is said of them."""

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from typecheck import unchecked

from plateau_interp.models import toy_model
from plateau_interp.series.measures import free_running, teacher_forced
from plateau_interp.tasks import Text
from plateau_interp.views.panels import COSINE
from plateau_interp.views.saving import rendered
from plateau_interp.views.series_figures import MEASURES, drawn_rows, series_figure
from plateau_interp.views.theme import DARK, LIGHT


def table(cosines=(0.1, 0.95, 0.4), steps=(0, 8, 1000), duplicate=False, **more):
    repetition = [value / 2 for value in cosines]
    return pd.DataFrame(
        {"step": steps, "duplicate": duplicate, "cosine": cosines, "repetition": repetition, "seconds": 1.0, **more}
    )


def legend(figure):
    return [text.get_text() for one in figure.legends for text in one.get_texts()]


def drawn(figure):
    """Steps and heights of each curve."""
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in figure.axes[0].lines]


def test_cosine_and_repetition_share_a_panel_on_a_log_axis():
    figure = series_figure(table())
    (axes,) = figure.axes
    assert drawn(figure) == [([0, 8, 1000], [0.1, 0.95, 0.4]), ([0, 8, 1000], [0.05, 0.475, 0.2])]
    assert [line.get_linestyle() for line in axes.lines] == ["-", "--"]
    assert axes.get_title() or axes.get_title(loc="left") == "Collapse of hidden states and repetition"
    assert legend(figure) == ["Collapse of hidden states", "Repetition"]
    assert (axes.get_xscale(), axes.get_xlabel()) == ("symlog", "step of pretraining")
    places = axes.transData.transform([[0, 0], [8, 0], [80, 0], [800, 0]])[:, 0]
    assert np.diff(places)[1:] == pytest.approx([np.diff(places)[1]] * 2)
    assert places[0] < places[1]
    assert axes.get_xlim()[1] > 1000


def test_no_curve_lies_under_the_legend():
    figure = series_figure({"a": table(), "b": table((0.9, 0.9, 0.9))})
    rendered(figure, "png")  # lays it out
    (axes,), (named,) = figure.axes, figure.legends
    assert named.get_window_extent().y1 < axes.get_window_extent().y0


NUMBERS = (0.1, 0.2, 0.3)
OWN = "a_measure_of_mine_whose_name_is_longer_than_a_panel_is_wide"


@pytest.mark.parametrize(
    "measures",
    [
        ["cosine_across_prompts", "teacher_forced_cosine"],
        ["cosine", "repetition", "held_out_loss"],
        [*MEASURES],
        OWN,
        ["cosine", OWN.replace("_", "")],
    ],
    ids=len,
)
def test_a_title_is_whole_whatever_is_drawn(measures):
    names = [measures] if isinstance(measures, str) else measures
    figure = series_figure(table(**dict.fromkeys([*MEASURES, *names], NUMBERS)), measures)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    title = axes.title if axes.get_title() else axes._left_title
    extent, width = title.get_window_extent(), figure.bbox.width
    assert 0 <= extent.x0 < extent.x1 <= width
    assert extent.y1 <= figure.bbox.height
    assert axes.get_window_extent().width > 0.8 * width
    assert axes.get_window_extent().height > 1.5 * figure.dpi


def test_a_title_names_measures_one_after_the_other():
    figure = series_figure(table(held_out_loss=NUMBERS), ["cosine", "repetition", "held_out_loss"])
    title = figure.axes[0].get_title(loc="left").replace("\n", " ")
    assert title == "Collapse of hidden states, repetition and held-out loss"


@pytest.mark.parametrize("cosines", [(0.1, 0.95, 0.4), (-0.6, 0.95, 0.4)])
def test_shares_and_cosines_have_an_axis_of_their_own_kind(cosines):
    low, high = series_figure(table(cosines), "cosine").axes[0].get_ylim()
    assert high == COSINE[1]
    assert low == min(COSINE[0], 1.05 * min(cosines))


def test_what_is_no_data_is_not_drawn():
    rows = table((0.1, 0.2, 0.2, math.nan, 0.5), steps=(0, 8, 16, 32, 64), duplicate=[False, True, True, False, False])
    assert list(drawn_rows(rows, "cosine")["step"]) == [0, 64]
    assert drawn(series_figure(rows)) == [([0, 64], [0.1, 0.5]), ([0, 64], [0.05, 0.25])]


def test_rows_are_drawn_by_step():
    assert drawn(series_figure(table(steps=(8, 0, 1)), "cosine")) == [([0, 1, 8], [0.95, 0.4, 0.1])]


def test_several_series_have_a_colour_each():
    figure = series_figure({"14m": table(), "_70m": table((0.2, 0.9, 0.3))}, theme=DARK)
    assert [to_hex(line.get_color()) for line in figure.axes[0].lines] == [DARK.nth(0)] * 2 + [DARK.nth(1)] * 2
    told = ["14m: Collapse of hidden states", "14m: Repetition", "_70m: Collapse of hidden states", "_70m: Repetition"]
    assert [text.strip("\N{ZERO WIDTH SPACE}") for text in legend(figure)] == told
    assert legend(series_figure({"14m": table(), "70m": table()}, "cosine")) == ["14m", "70m"]


def test_all_measures_of_several_series_look_different():
    whole = table(**dict.fromkeys(MEASURES, NUMBERS))
    lines = series_figure({"a": whole, "b": whole}, [*MEASURES]).axes[0].lines
    looks = {(to_hex(line.get_color()), line.get_linestyle(), line.get_marker()) for line in lines}
    assert len(looks) == len(lines) == 2 * len(MEASURES)


def test_one_measure_of_one_series_needs_no_legend():
    figure = series_figure(table(), "cosine")
    assert legend(figure) == []
    assert figure.axes[0].get_ylabel() == "mean cosine"
    assert to_hex(figure.axes[0].lines[0].get_color()) == LIGHT.nth(0)


def test_a_series_without_the_measure_is_left_out_and_the_others_keep_their_colours():
    figure = series_figure({"without": table(), "with": table(held_out_loss=[3.0, 2.0, 1.0])}, "held_out_loss")
    assert drawn(figure) == [([0, 8, 1000], [3.0, 2.0, 1.0])]
    assert legend(figure) == ["with"]
    assert to_hex(figure.axes[0].lines[0].get_color()) == LIGHT.nth(1)


def test_a_measure_of_ones_own_has_its_own_name():
    axes = series_figure(table(norm=[1.0, 2.0, 3.0]), "norm").axes[0]
    assert (axes.get_title(loc="left") or axes.get_title(), axes.get_ylabel()) == ("Norm", "")


def test_every_measure_has_a_panel():
    """Those of a series that was really measured."""
    task = Text(n=16)
    model = toy_model(task, d_model=16)
    numbers = free_running(model, ["Why?"], n_new=2)[0] | teacher_forced(model, task.held_out(2).tokens)
    assert set(MEASURES) == set(numbers)


@pytest.mark.parametrize(
    ("series", "measures", "told"),
    [
        (table(), "cosin", "no checkpoint has a number of 'cosin' that is data; the nearest "),
        (table(duplicate=True), "cosine", "no checkpoint has a number of 'cosine' that is data"),
        (table((math.nan,) * 3), "cosine", "no checkpoint has a number of 'cosine' that is data"),
        (pd.DataFrame(), "cosine", "no checkpoint has a number of 'cosine' that is data"),
        ({}, "cosine", "there is no series to draw"),
        ({"a": "series/14m"}, "cosine", r"a series is drawn from its table, such as SeriesFolder\(path\).metrics"),
        (table(), [], "columns is empty"),
    ],
)
def test_what_cannot_be_drawn_is_refused(series, measures, told):
    with pytest.raises(ValueError, match=told):
        unchecked(series_figure)(series, measures)
