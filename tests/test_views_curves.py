"""Figures: what is drawn where, read back from the figures themselves."""

import ast
import itertools
import re
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import is_color_like
from matplotlib.text import Text
from typecheck import unchecked

from plateau_interp.types import Levels
from plateau_interp.views import Page, attention_view
from plateau_interp.views import theme as theme_module
from plateau_interp.views.curves import curves_figure, grouped, spread
from plateau_interp.views.interactive import interactive_curves, save_interactive
from plateau_interp.views.maps import cosine_figure, effect_figure, grid_figure, pattern_figure, position_figure
from plateau_interp.views.panels import Panel, panel
from plateau_interp.views.saving import rendered, save_figure
from plateau_interp.views.theme import DARK, LIGHT, page_variables, view_variables

LEVELS = Levels(initial=2.89, plateau=2.63, floor=1.3)


def metrics(shift=0.0, n_steps=40):
    steps = np.arange(n_steps)
    loss = np.where(steps < n_steps // 2, 2.63, 1.3) + shift
    table = {"step": steps, "loss": loss, "accuracy": (steps >= n_steps // 2) * 1.0, "repetition": 0.3 + shift}
    return pd.DataFrame({**table, "repetition_truth": 0.06, "accuracy_0": 1.0, "accuracy_1": table["accuracy"]})


def lines(axes):
    """The curves, without the straight marks (levels and drops)."""
    return [line for line in axes.get_lines() if len(line.get_xdata()) > 2]


def words(axes):
    return [text.get_text() for text in axes.texts]


def legend(axes):
    """What the legend of the figure, or of the panel, says."""
    drawn = [*axes.figure.legends, *filter(None, [axes.get_legend()])]
    return [text.get_text() for one in drawn for text in one.get_texts()]


def test_one_run_is_drawn_as_measured():
    table = metrics()
    left, right = curves_figure(table, levels=LEVELS, drops=[20]).axes
    assert lines(left)[0].get_ydata() == pytest.approx(table["loss"])
    assert lines(right)[0].get_ydata() == pytest.approx(table["accuracy"])
    assert {"initial 2.8900", "plateau 2.6300", "floor 1.3000", "drop, step 20"} == set(words(left))
    assert words(right) == ["drop, step 20"]


def test_one_measured_step_is_a_point():
    early, later = (curves_figure(metrics(n_steps=n), ["loss"]).axes[0].get_lines()[0] for n in (1, 2))
    assert (early.get_marker(), later.get_marker()) == ("o", "None")


def test_a_negative_cosine_is_not_cut_off():
    table = metrics().assign(cosine=np.linspace(-0.2, 0.9, 40))
    low, high = curves_figure(table, ["cosine"]).axes[0].get_ylim()
    assert (low, high) == pytest.approx((-0.21, 1.03))
    assert curves_figure(table.abs(), ["cosine"]).axes[0].get_ylim() == (-0.05, 1.03)


def test_levels_stand_at_their_height():
    axes = curves_figure(metrics(), ["loss"], levels=Levels(floor=1.3)).axes[0]
    straight = [line for line in axes.get_lines() if len(line.get_xdata()) == 2]
    assert [line.get_ydata()[0] for line in straight] == [1.3]


def test_several_seeds_are_a_mean_and_a_band():
    runs = [metrics(shift) for shift in (0.0, 0.1, 0.5)]
    axes = curves_figure({"linear": runs, "softmax": metrics(1.0)}, ["loss"]).axes[0]
    mean, single = lines(axes)
    by_hand = np.stack([run["loss"] for run in runs])
    assert mean.get_ydata() == pytest.approx(by_hand.mean(axis=0))
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx((by_hand.mean(axis=0) + by_hand.std(axis=0, ddof=1)).max())
    assert len(axes.collections) == 1  # a single run has no spread
    assert legend(axes) == ["linear (n = 3)", "softmax"]
    assert mean.get_color() != single.get_color()


def test_a_run_that_was_stopped_or_diverged_hides_nothing_of_the_others():
    whole, short, diverged = metrics(), metrics(0.5).iloc[:10], metrics(1.0)
    diverged.loc[20:, "loss"] = np.nan
    runs = [whole, short, diverged]
    joined = spread(runs, "loss")[""]
    assert joined.step.tolist() == whole["step"].tolist()
    assert joined.n.tolist() == [3] * 10 + [2] * 10 + [1] * (len(whole) - 20)
    loss = whole["loss"].to_numpy()
    assert joined.mean == pytest.approx(loss + np.select([joined.n == 3, joined.n == 2], [0.5, 0.5], 0.0))
    expected = np.select([joined.n == 3, joined.n == 2], [0.5, np.std([0, 1], ddof=1)], 0.0)
    assert joined.deviation == pytest.approx(expected)
    assert legend(curves_figure(runs, ["loss"]).axes[0]) == ["n = 1 to 3"]
    assert legend(curves_figure({"a": runs, "b": whole}, ["loss"]).axes[0]) == ["a (n = 1 to 3)", "b"]
    (*_, drawn) = interactive_curves(runs, ["loss"]).data
    assert (drawn.name, len(drawn.x)) == ("n = 1 to 3", len(whole))


def test_runs_that_were_measured_at_other_steps_count_where_both_were():
    often, seldom = metrics(), metrics(1.0).iloc[::3]
    joined = spread([often, seldom], "loss")[""]
    last = seldom["step"].iloc[-1]
    assert joined.step.tolist() == [*seldom["step"], *range(int(last) + 1, len(often))]
    between = seldom.assign(step=seldom["step"] + 0.5)
    with pytest.raises(ValueError, match=r"^the runs were measured at other steps, none of them common"):
        position_figure([often, between])
    with pytest.raises(ValueError, match=r"^the runs of 'a' were measured"):
        curves_figure({"a": [often, between]}, ["loss"])


def test_repetition_is_drawn_beside_the_truth():
    axes = curves_figure(metrics(), ["repetition"]).axes[0]
    assert words(axes) == ["true answers 0.060"]
    named = curves_figure({"a": metrics(), "b": metrics()}, ["repetition"]).axes[0]
    assert legend(named) == ["a", "b"]
    assert words(named) == ["true answers 0.060"]


def test_validation_is_dashed_in_interactive_curves_too():
    table = metrics().assign(validation_loss=2.0, validation_accuracy=0.0)
    figure = interactive_curves(table, ["loss", "accuracy"])
    assert [(trace.name, trace.line.dash, trace.showlegend) for trace in figure.data] == [
        ("training", "solid", True),
        ("validation", "dash", True),
        ("training", "solid", False),
        ("validation", "dash", False),
    ]
    assert "Loss" in {note.text for note in figure.layout.annotations}


def test_a_single_step_is_a_point_in_interactive_curves_too():
    assert [trace.mode for trace in interactive_curves(metrics().iloc[:1], ["loss"]).data] == ["markers"]
    assert [trace.mode for trace in interactive_curves(metrics(), ["loss"]).data] == ["lines"]


def test_a_column_without_a_number_is_no_line():
    table = metrics().assign(loss_seen=2.0, loss_never=np.nan, validation_loss=np.nan, repetition_truth=np.nan)
    loss, repetition = curves_figure(table, ["loss", "repetition"], levels=LEVELS, drops=[20]).axes
    assert legend(loss) == ["all", "seen"]
    assert len(lines(loss)) == 2
    assert words(repetition) == ["drop, step 20"]
    groups = {"first": table, "second": metrics().assign(validation_loss=2.0)}
    assert legend(curves_figure(groups, ["loss"]).axes[0]) == ["first", "second", "validation"]
    nothing = curves_figure(table.assign(accuracy=np.nan), ["accuracy"], drops=[20]).axes[0]
    assert not lines(nothing)


def place(axes, word):
    """The box around a word, in shares of the axes."""
    text = next(text for text in axes.texts if text.get_text().startswith(word))
    box = Text.get_window_extent(text)  # without the point it belongs to
    return box.transformed(axes.transAxes.inverted())


def laid_out(figure):
    figure.draw_without_rendering()
    return figure


@pytest.mark.parametrize("columns", [["loss"], ["loss", "accuracy", "repetition"]])
def test_a_legend_lies_below_the_panels(columns):
    names = ["base", "a rather long name of a run that goes on and on", "runs/moving-window-sum/seed-2", "fork"]
    figure = laid_out(curves_figure({name: metrics() for name in names}, columns, levels=LEVELS, drops=[20]))
    (only,) = figure.legends
    assert [text.get_text() for text in only.get_texts()] == names
    box, page = only.get_window_extent(), figure.bbox
    assert page.x0 <= box.x0 < box.x1 <= page.x1
    assert all(axes.get_legend() is None and axes.get_tightbbox().y0 >= box.y1 for axes in figure.axes)
    alone = laid_out(curves_figure(metrics(), columns)).axes[0].get_window_extent().height
    assert figure.axes[0].get_window_extent().height == pytest.approx(alone, rel=0.06)


def test_a_name_that_is_wider_than_the_figure_is_broken():
    figure = laid_out(curves_figure({"x" * 150: metrics(), "y": metrics()}, ["loss"]))
    box = figure.legends[0].get_window_extent()
    assert box.x1 <= figure.bbox.x1
    assert figure.axes[0].get_tightbbox().y0 >= box.y1


def test_panels_with_lines_of_their_own_have_legends_of_their_own():
    table = metrics().assign(validation_loss=2.0, attention_progress=0.5)
    table = table.assign(attention_progress_0=0.4, attention_progress_1=0.6)
    figure = laid_out(curves_figure(table, ["loss", "attention_progress", "repetition"]))
    shown = [axes.get_legend() for axes in figure.axes]
    assert not figure.legends
    assert shown[2] is None
    assert [[text.get_text() for text in one.get_texts()] for one in shown[:2]] == [
        ["training", "validation"],
        ["all", "layer 0", "layer 1"],
    ]
    for axes, drawn in zip(figure.axes, shown[:2], strict=False):
        box = drawn.get_window_extent()
        assert box.y0 >= 0
        assert axes.xaxis.get_tightbbox().y0 >= box.y1


def test_words_have_a_ground_of_their_own():
    axes = curves_figure(metrics(), ["loss"], levels=LEVELS, drops=[20]).axes[0]
    assert len(axes.texts) == 4
    assert all(text.get_bbox_patch().get_facecolor()[:3] == (1.0, 1.0, 1.0) for text in axes.texts)


def test_true_answers_are_named_where_no_curve_is():
    steps = np.arange(100)
    noisy = 1.68 + 0.03 * np.sin(steps)
    table = pd.DataFrame({"step": steps, "entropy": np.where(steps < 45, 0.8, noisy), "entropy_truth": 1.68})
    axes = laid_out(curves_figure(table, ["entropy"], drops=[45])).axes[0]
    assert place(axes, "true answers").x1 < place(axes, "drop").x1
    inside = axes.transData + axes.transAxes.inverted()
    curve = inside.transform(table[["step", "entropy"]].to_numpy())
    box = place(axes, "true answers")
    under = (curve[:, 0] >= box.x0) & (curve[:, 0] <= box.x1)
    assert not ((curve[under, 1] > box.y0) & (curve[under, 1] < box.y1)).any()


@pytest.mark.parametrize(
    ("column", "name", "unit", "limits"),
    [
        ("accuracy_4", "Accuracy of answer 5", "share of sequences", (0, 1.03)),
        ("attention_progress_0", "Attention progress, layer 0", "share on target positions", (0, 1.03)),
        ("cosine@blocks.0.x", "Cosine at blocks.0.x", "mean pairwise cosine", (-0.05, 1.03)),
        ("norm@blocks.0.x", "Norm at blocks.0.x", "Euclidean norm", None),
        ("my_number_3", "My number 3", "", None),
    ],
)
def test_columns_have_words_and_units(column, name, unit, limits):
    assert panel(column) == Panel(name, unit, limits)


def test_who_adds_a_column_brings_its_panel():
    panels = {"wins": Panel("Games won", "share of games", (0, 1)), "wins_#": Panel("Game {}", "share", first=1)}
    assert panel("wins_0", panels) == Panel("Game 1", "share")
    assert panel("loss", panels) == panel("loss")
    assert panel("loss", {"loss": Panel("Mean squared error", "")}).title == "Mean squared error"
    table = metrics().assign(wins=0.5, wins_0=0.5)
    first, second = curves_figure(table, ["wins", "wins_0"], panels=panels).axes
    assert (first.get_title(loc="left"), first.get_ylabel(), first.get_ylim()) == (
        "Games won",
        "share of games",
        (0, 1),
    )
    assert second.get_title(loc="left") == "Game 1"
    notes = interactive_curves(table, ["wins"], panels=panels).layout
    assert (notes.annotations[0].text, notes.yaxis.title.text) == ("Games won", "share of games")


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_every_figure_is_drawn_in_the_colours_of_its_theme(theme):
    maps, names = np.eye(2)[None], {"rows": ["a", "b"], "columns": ["c", "d"]}
    figures = (
        curves_figure(metrics(), ["loss"], levels=LEVELS, drops=[20], theme=theme),
        position_figure(metrics(), drops=[20], theme=theme),
        pattern_figure(maps, ["x"], targets=maps[0] > 0, theme=theme),
        cosine_figure(maps, [0], theme=theme),
        effect_figure(maps[0], **names, label="effect", theme=theme),
    )
    for figure in figures:
        drawn = rendered(figure, "svg").decode()
        colours = {theme.ground, theme.ink, theme.muted, theme.grid, *theme.series}
        # black and white are matplotlib's own, of what is not seen: an unfilled patch, a clip path
        assert set(re.findall(r"#[0-9a-f]{6}", drawn)) <= {*colours, "#000000", "#ffffff"}
        assert {theme.ink, theme.muted} <= set(re.findall(r"#[0-9a-f]{6}", drawn))


def test_pages_and_views_have_the_colours_of_both_themes():
    for style in (page_variables(), view_variables()):
        light, dark = style.split("@media (prefers-color-scheme: dark)")
        assert LIGHT.accent in light
        assert DARK.accent in dark


def colours_in(file):
    """Hexadecimal numbers, and in Python what matplotlib takes for a colour or a map of colours, by whatever name."""
    text = file.read_text(encoding="utf-8")
    found = set(re.findall(r"#[0-9a-f]{3}\b|#[0-9a-f]{6}\b", text))
    nodes = ast.walk(ast.parse(text)) if file.suffix == ".py" else ()
    strings = [node.value for node in nodes if isinstance(node, ast.Constant)]
    words = {word for word in strings if isinstance(word, str) and len(word) > 2 and word != "none"}
    return found | {word for word in words if word in matplotlib.colormaps or (word.isalpha() and is_color_like(word))}


def test_no_colour_is_named_outside_the_theme(tmp_path):
    package = Path(theme_module.__file__).parent.parent
    files = [file for folder in ("views", "reproductions") for file in (package / folder).rglob("*.*")]
    files = [file for file in files if file.suffix in {".py", ".css", ".js", ".jinja"} and file.name != "theme.py"]
    assert len(files) > 40
    assert not {file.name: colours for file in files if (colours := colours_in(file))}
    assert {"RdBu_r", "viridis"} <= colours_in(package / "views" / "theme.py")
    (tmp_path / "picture.py").write_text('draw(color="white", edgecolor="#abc", cmap="magma", facecolor="none")')
    assert colours_in(tmp_path / "picture.py") == {"white", "#abc", "magma"}


@pytest.mark.parametrize("drop", [5, 20, 39])
def test_names_of_levels_and_drops_are_clear_of_the_curve(drop):
    steps = np.arange(40)
    loss = np.where(steps < drop, 2.63, 1.3)
    table = pd.DataFrame({"step": steps, "loss": loss})
    axes = curves_figure(table, ["loss"], levels=LEVELS, drops=[drop]).axes[0]
    axes.get_figure().draw_without_rendering()  # lays the figure out
    inside = axes.transData + axes.transAxes.inverted()
    boxes = [place(axes, word) for word in ("initial", "plateau", "floor", "drop")]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    for word in ("initial", "plateau", "floor", "drop"):
        box = place(axes, word)
        assert box.x0 >= 0
        assert box.x1 <= 1
        grid = np.linspace(0, 39, 500)
        curve = inside.transform(np.stack([grid, np.interp(grid, steps, loss)], axis=1))
        under = (curve[:, 0] >= box.x0) & (curve[:, 0] <= box.x1)
        assert not ((curve[under, 1] > box.y0) & (curve[under, 1] < box.y1)).any(), word


def test_several_drops_are_marked_without_words():
    axes = curves_figure(metrics(), ["loss"], drops=[10, None, 12, 12]).axes[0]
    assert sorted(line.get_xdata()[0] for line in axes.get_lines() if len(line.get_xdata()) == 2) == [10, 12]
    assert words(axes) == []


def test_positions_are_rows_from_the_top():
    table = metrics()
    image = position_figure([table, table.assign(accuracy_1=0.0)]).axes[0].get_images()[0]
    shown = np.asarray(image.get_array())
    assert shown[0] == pytest.approx(1.0)
    assert shown[1] == pytest.approx(table["accuracy"] / 2)
    assert image.get_clim() == (0, 1)
    left, right, bottom, top = image.get_extent()
    assert (left, right) == (-0.5, 39.5)
    assert top < bottom


def test_accuracies_stand_at_their_steps_however_these_lie():
    steps = [0, 1, 2, 4, 8, 16, 32, 64, 100]
    right = [0.0] * 5 + [1.0] * 4
    figure = position_figure(pd.DataFrame({"step": steps, "loss": 1.0, "accuracy_0": right, "accuracy_1": 0.0}))
    axes = figure.axes[0]
    (mesh,) = axes.collections
    edges = mesh.get_coordinates()[0, :, 0]
    assert edges.tolist() == [-0.5, 0.5, 1.5, 3.0, 6.0, 12.0, 24.0, 48.0, 82.0, 118.0]
    assert np.asarray(mesh.get_array()).tolist() == [right, [0.0] * 9]
    assert mesh.get_coordinates()[:, 0, 1].tolist() == [0.5, 1.5, 2.5]
    assert (axes.get_xlim(), axes.get_ylim()) == ((-0.5, 118.0), (2.5, 0.5))
    assert b"image" in rendered(figure, "svg")
    (image,) = position_figure(pd.DataFrame({"step": [7], "accuracy_0": [0.5]})).axes[0].get_images()
    assert [*image.get_extent()] == [6.5, 7.5, 1.5, 0.5]


def test_an_answer_that_is_not_labelled_at_a_step_or_ever_is_blank_there():
    nan = float("nan")
    table = pd.DataFrame({"step": [0, 1, 2], "accuracy_0": nan, "accuracy_1": [nan, 0.0, 1.0], "accuracy_2": 0.5})
    for runs in (table, [table, table.assign(accuracy_1=nan)]):
        (image,) = position_figure(runs).axes[0].get_images()
        shown = np.ma.filled(image.get_array(), nan)
        np.testing.assert_array_equal(shown, [[nan] * 3, [nan, 0.0, 1.0], [0.5] * 3])


@pytest.mark.parametrize("turned", [False, True])
def test_runs_with_different_numbers_of_answers_have_no_mean(turned):
    runs = [metrics(), metrics().assign(accuracy_2=0.5)]
    with pytest.raises(ValueError, match="measured 2 and 3 answer positions, which have no mean"):
        position_figure(runs[::-1] if turned else runs)


def test_names_are_drawn_as_they_are_written():
    names = ["_base", r"a$\foo$", "lr$1$b", "plain"]
    curves = curves_figure({name: metrics() for name in names}, ["loss"])
    maps = pattern_figure(np.stack([np.eye(2)] * 4), names)
    effects = effect_figure(np.eye(4), rows=names, columns=names, title=names[1], label="effect")
    for figure in (curves, maps, effects):
        drawn = rendered(figure, "svg").decode().replace("\N{ZERO WIDTH SPACE}", "")
        shown = re.findall(r">([^<>\n]+)</text>", drawn)
        assert set(names) <= set(shown)
        assert rendered(figure, "png").startswith(b"\x89PNG")  # each sign has a glyph: a missing one would warn


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_tensors_of_any_precision_are_drawn(dtype):
    values = torch.tensor([[1.0, 0.0], [2.0, 4.0]]).to(dtype).expand(1, 2, 2)
    effects = effect_figure(values[0], rows=["a", "b"], columns=["c", "d"], label="effect")
    for figure in (pattern_figure(values, ["x"]), cosine_figure(values, [0]), effects):
        assert np.asarray(figure.axes[0].get_images()[0].get_array()).tolist() == [[1, 0], [2, 4]]
    steep = torch.full((1, 2, 2), 0.5, dtype=torch.bfloat16, requires_grad=True)
    assert np.asarray(pattern_figure(steep, ["x"]).axes[0].get_images()[0].get_array()).max() == 0.5


def test_maps_share_one_scale_and_show_signs():
    maps = torch.tensor([[[1.0, 0.0], [0.0, 2.0]], [[-4.0, 0.0], [0.0, 0.0]]])
    target = torch.eye(2, dtype=torch.bool)
    figure = pattern_figure(maps, ["before", "after"], targets=target)
    images = [axes.get_images()[0] for axes in figure.axes[:2]]
    assert [image.get_clim() for image in images] == [(-4, 4), (-4, 4)]
    red, blue = images[1].to_rgba(np.array([-4.0, 4.0]))
    assert red[0] > red[2]
    assert blue[2] > blue[0]
    boxes = figure.axes[0].collections[0].get_paths()
    assert [box.vertices.min(axis=0).tolist() for box in boxes] == [[-0.5, -0.5], [0.5, 0.5]]


def test_maps_of_some_rows_keep_their_positions():
    axes = pattern_figure(np.eye(4)[None, 2:], ["x"], targets=np.eye(4, dtype=bool)[2:], first_query=2).axes[0]
    assert axes.get_images()[0].get_extent() == [-0.5, 3.5, 3.5, 1.5]
    boxes = axes.collections[0].get_paths()
    assert [box.vertices.min(axis=0).tolist() for box in boxes] == [[1.5, 1.5], [2.5, 2.5]]


def test_maps_without_signs_begin_at_zero():
    image = pattern_figure(np.eye(2)[None], ["x"], limit=2.0).axes[0].get_images()[0]
    assert image.get_clim() == (0, 2)
    assert image.to_rgba(np.array([0.0]))[0, 3] == 0  # nothing is drawn where there is nothing


def test_collapse_is_shown_from_zero_to_one():
    figure = cosine_figure(torch.full((2, 3, 3), 0.5), [0, 100])
    assert [axes.get_title(loc="left") for axes in figure.axes[:2]] == ["step 0", "step 100"]
    assert figure.axes[0].get_images()[0].get_clim() == (0, 1)


def test_effects_carry_their_numbers():
    axes = effect_figure(
        np.array([[0.5, -2.0, -1e-4]]), rows=["layer 0"], columns=["a", "b", "c"], title="Ablation", label="nats"
    ).axes[0]
    assert words(axes) == ["0.50", "-2.00", "0.00"]
    assert axes.get_images()[0].get_clim() == (-2, 2)
    small = np.array([[0.004, -0.003, 0.0012, -1e-7]])
    names = {"rows": ["a"], "columns": list("abcd"), "label": "nats"}
    assert words(effect_figure(small, **names).axes[0]) == ["0.0040", "-0.0030", "0.0012", "0.0000"]
    assert words(effect_figure(small * 1e-3, **names).axes[0]) == ["4.0e-06", "-3.0e-06", "1.2e-06", "-1.0e-10"]
    assert words(effect_figure(small * 0, **names).axes[0]) == ["0.00"] * 4
    assert not effect_figure(np.zeros((20, 10)), rows=["r"] * 20, columns=["c"] * 10, label="effect").axes[0].texts


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: curves_figure([]), "no run to draw"),
        (lambda: curves_figure({"a": []}), "no run to draw"),
        (lambda: unchecked(grouped)(3), "^curves must be tables of metrics, such as Run.metrics; got 3"),
        (lambda: unchecked(grouped)([3]), "^curves must be tables of metrics, such as Run.metrics; got 3"),
        (lambda: unchecked(grouped)({"a": 3}), "^curves must be tables of metrics, such as Run.metrics; got 3"),
        (lambda: unchecked(grouped)("loss"), "^curves must be tables of metrics, .*; got 'l'"),
        (lambda: curves_figure(metrics(), "loss"), r"^columns must be a list, such as \['loss'\]; got 'loss'$"),
        (lambda: interactive_curves(metrics(), "loss"), r"^columns must be a list, such as \['loss'\]; got 'loss'$"),
        (lambda: unchecked(save_figure)(3, "x.png"), "^figure must be a matplotlib Figure, .*; got 3$"),
        (lambda: unchecked(save_figure)(curves_figure(metrics()), 3), "^expected the path of a file, .*; got 3$"),
        (
            lambda: unchecked(save_interactive)(interactive_curves(metrics()), 3),
            "^expected the path of a file, such as 'runs/curves.html'; got 3$",
        ),
        (
            lambda: unchecked(Page.save)(Page([attention_view(torch.eye(2)[None])]), None),
            "^expected the path of a file, such as 'runs/attention.html'; got None$",
        ),
        (lambda: curves_figure(metrics(), []), "columns is empty"),
        (lambda: interactive_curves(metrics(), []), "columns is empty"),
        (lambda: curves_figure(metrics(), ["cosine"]), "no column 'cosine'; they have step, loss"),
        (lambda: curves_figure(metrics().iloc[:0]), "no measured step yet"),
        (lambda: position_figure(metrics()[["step", "loss", "accuracy"]]), "no accuracy_0"),
        (lambda: unchecked(pattern_figure)(5, ["a"]), "^patterns must be an array or a tensor of numbers; got 5$"),
        (lambda: unchecked(pattern_figure)(np.array([[["x"]]]), ["a"]), "^patterns must be an array or .*; got array"),
        (
            lambda: unchecked(pattern_figure)(np.zeros((1, 2, 2)), ["a"], targets=5),
            "^targets must be an array or a tensor of numbers; got 5$",
        ),
        (
            lambda: unchecked(pattern_figure)(np.zeros((1, 2, 4)), ["a"], targets=np.eye(4), first_query=2),
            r"^targets must have the shape of a map, \(2, 4\); got \(4, 4\)$",
        ),
        (
            lambda: unchecked(pattern_figure)(np.zeros((1, 2, 2)), ["a"], targets=np.eye(2)[None]),
            r"^targets must have the shape of a map, \(2, 2\); got \(1, 2, 2\)$",
        ),
        (
            lambda: unchecked(grid_figure)(np.zeros((1, 2, 2)), ["a"], asked=np.eye(3)),
            r"^asked must have the shape of a map, \(2, 2\); got \(3, 3\)$",
        ),
        (lambda: unchecked(cosine_figure)(5, [0]), "^matrices must be an array or a tensor of numbers; got 5$"),
        (
            lambda: unchecked(effect_figure)("x", rows=["a"], columns=["b"], label="effect"),
            "^effects must be an array or a tensor of numbers; got 'x'$",
        ),
        (
            lambda: unchecked(theme_module.figure_style)("dark"),
            "^theme must be LIGHT, DARK or a Theme of yours; got 'dark'$",
        ),
        (lambda: pattern_figure(np.zeros((0, 2, 2)), []), r"at least one; got shape \(0, 2, 2\)"),
        (lambda: pattern_figure(np.zeros((2, 2, 2)), ["a"]), "2 maps need 2 titles; got 1"),
        (lambda: pattern_figure(np.full((1, 2, 2), np.nan), ["a"]), "must be finite"),
        (lambda: pattern_figure(np.full((1, 2, 2), np.nan), ["a"], limit=1.0), "must be finite"),
        (lambda: cosine_figure(np.full((1, 2, 2), np.nan), [0]), "must be finite"),
        (lambda: effect_figure(np.zeros((0, 0)), rows=[], columns=[], label="x"), r"shape \(0, 0\) have no cell"),
        (lambda: effect_figure(np.zeros((2, 2)), rows=["a"], columns=["b", "c"], label="x"), "got 1 rows, 2 columns"),
        (lambda: save_figure(curves_figure(metrics()), "figure.gif"), "pdf, png, svg; got 'figure.gif'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


@pytest.mark.parametrize(("kind", "magic"), [("pdf", b"%PDF"), ("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_figures_are_saved_whole_and_the_same_each_time(tmp_path, kind, magic):
    first = save_figure(curves_figure(metrics(), levels=LEVELS), tmp_path / f"one.{kind}").read_bytes()
    second = save_figure(curves_figure(metrics(), levels=LEVELS), tmp_path / f"two.{kind}").read_bytes()
    assert first.startswith(magic)
    assert first == second
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"one.{kind}", f"two.{kind}"]


@pytest.mark.parametrize(
    "save",
    [
        lambda path: save_figure(curves_figure(metrics()), path),
        lambda path: save_interactive(interactive_curves(metrics()), path),
        lambda path: attention_view(torch.eye(2)[None]).save(path),
        lambda path: Page([attention_view(torch.eye(2)[None])]).save(path),
    ],
)
def test_where_no_file_can_be_is_refused_with_the_path_that_was_given(save, tmp_path):
    folder, file = tmp_path / "taken.png", tmp_path / "file.png"
    folder.mkdir()
    file.touch()
    with pytest.raises(
        ValueError, match=f"^{re.escape(str(folder))} is a folder: give the path of a file in it, such as"
    ):
        save(folder)
    with pytest.raises(ValueError, match=f"^{re.escape(str(file))} cannot be a folder: .*file.png is a file$"):
        save(file / "a.png")
    assert sorted(tmp_path.rglob("*")) == [file, folder]


def test_curves_in_a_pdf_are_vectors(tmp_path):
    content = save_figure(curves_figure(metrics(), ["loss"]), tmp_path / "figure.pdf").read_bytes()
    assert b"/Subtype /Image" not in content


def test_interactive_curves_hold_the_same_numbers(tmp_path):
    runs = [metrics(0.0), metrics(0.2)]
    figure = interactive_curves({"linear": runs}, ["loss", "accuracy"], levels=LEVELS, drops=[20])
    drawn = [trace for trace in figure.data if trace.showlegend is not False or trace.name]
    mean = next(trace for trace in drawn if trace.name == "linear (n = 2)")
    assert mean.y == pytest.approx(np.mean([run["loss"] for run in runs], axis=0))
    assert {note.text for note in figure.layout.annotations} >= {"plateau 2.6300", "Training loss"}
    text = save_interactive(figure, tmp_path / "curves.html").read_text(encoding="utf-8")
    assert not re.search(r"<script[^>]+src=", text)


def test_drawing_leaves_the_settings_of_matplotlib_alone():
    import matplotlib

    before = dict(matplotlib.rcParams)
    save = curves_figure(metrics())
    assert save is not None
    assert dict(matplotlib.rcParams) == before


def test_importing_the_views_loads_no_drawing_library():
    code = "import sys, plateau_interp.views; print([name for name in sys.modules if name in ('matplotlib', 'plotly')])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"


def test_effects_without_a_unit_are_refused():
    with pytest.raises(TypeError, match="label"):
        effect_figure(np.ones((1, 1)), rows=["layer 0"], columns=["head 0"])
    bar = effect_figure(np.ones((1, 1)), rows=["layer 0"], columns=["head 0"], label="share restored").axes[1]
    assert bar.get_ylabel() == "share restored"


def test_a_title_is_whole_however_long_a_column_s_name_is():
    column = "a_measure_of_mine_whose_name_is_longer_than_a_panel_is_wide"
    figure = curves_figure(metrics().assign(**{column: 1.0}), ["loss", column])
    figure.draw_without_rendering()
    assert figure.axes[1]._left_title.get_window_extent().x1 <= figure.bbox.width
    assert figure.axes[0].get_window_extent().width == pytest.approx(figure.axes[1].get_window_extent().width, rel=0.2)
