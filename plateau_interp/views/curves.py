"""Figures in the style of the papers: curves, accuracy and attention maps, collapse matrices, effects of edits.

Pure functions from tables and arrays to a `matplotlib.figure.Figure`; `save_figure` writes PDF, SVG or PNG. pyplot and
its global state are not used. Names and titles are drawn as they are written: a ``$`` is a dollar, not mathematics. For
curves to zoom into use `plateau_interp.views.interactive`.
"""

import dataclasses
import io
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from torch import Tensor

from plateau_interp.files import write_atomically
from plateau_interp.types import Levels

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

__all__ = [
    "Curves",
    "Line",
    "Panel",
    "Spread",
    "cosine_figure",
    "curves_figure",
    "effect_figure",
    "legend_below",
    "level_lines",
    "limits",
    "lines",
    "panel",
    "parts",
    "pattern_figure",
    "position_figure",
    "save_figure",
    "spread",
    "title",
]

Curves = pd.DataFrame | Sequence[pd.DataFrame] | Mapping[str, pd.DataFrame | Sequence[pd.DataFrame]]
"""Metrics of one run; of several runs that differ in their seed; or of several named groups of such runs."""

INK, MUTED, GRID, GROUND = "#16181d", "#5f6673", "#dfe2e8", "#ffffff"
ACCENT, OTHER = "#0a5c9e", "#c2410c"
COLOURS = (ACCENT, OTHER, "#7a6a00", "#7d3c98", "#0f766e", "#9d174d")
FORMATS = ("pdf", "png", "svg")
PANEL_SIZE = (4.7, 3.0)
WORD = 0.019
"""Width of a letter beside a line, as a share of the panel."""
WORDS: Any = {
    "textcoords": "offset points",
    "fontsize": 8.5,
    "bbox": {"facecolor": GROUND, "edgecolor": "none", "alpha": 0.8, "pad": 0.8},
}
LETTER = 0.08
"""Width of a letter in a legend, in inches."""

STYLE: Any = {
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9.5,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "text.color": INK,
    "text.parse_math": False,
    "axes.titlecolor": INK,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.labelcolor": INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "image.interpolation": "nearest",
}


@dataclass(frozen=True)
class Panel:
    """How a column of the metrics is drawn: a title, the unit of its axis, and fixed limits where there are any."""

    title: str
    unit: str
    limits: tuple[float, float] | None = None


SHARE = (0, 1.03)
COSINE = (-0.05, 1.03)
PANELS = {
    "loss": Panel("Training loss", "nats a position"),
    "accuracy": Panel("Accuracy of greedy answers", "share of answer tokens", SHARE),
    "attention_progress": Panel("Attention progress", "share on target positions", SHARE),
    "repetition": Panel("Repetition in the answers", "share of equal neighbours", SHARE),
    "cosine": Panel("Similarity of hidden states", "mean pairwise cosine", COSINE),
    "entropy": Panel("Entropy of the answers", "nats"),
    "copies_of_first": Panel("Copies of the first answer", "share of answer tokens", SHARE),
    "attention_separator": Panel("Attention on the separator", "share", SHARE),
    "attention_progress_without_separator": Panel("Attention progress, separator aside", "share", SHARE),
    "norm": Panel("Length of hidden states", "Euclidean norm"),
    "right_counts": Panel("Right tokens in any order", "share of symbols", SHARE),
    "probe_test": Panel("Probe fitted on 64 sequences, on unseen ones", "share of tokens read", SHARE),
    "probe_train": Panel("Probe fitted on 64 sequences, on these", "share of tokens read", SHARE),
    "probe_test_1024": Panel("Probe fitted on 1024 sequences, on unseen ones", "share of tokens read", SHARE),
}
NUMBERED = {
    "accuracy": (Panel("Accuracy of answer {}", "share of sequences", SHARE), 1),
    "attention_progress": (Panel("Attention progress, layer {}", "share on target positions", SHARE), 0),
    "alternative": (Panel("Alternative attention, layer {}", "share on its positions", SHARE), 0),
    "cosine_segment": (Panel("Similarity of hidden states, segment {}", "mean pairwise cosine", COSINE), 1),
    "copies_in_half": (Panel("Copies of its first answer, half {}", "share of the half's tokens", SHARE), 1),
}
"""By the column without its number: the panel, and what the first is called. Layers count from 0, as in hook names."""


@dataclass(frozen=True, eq=False)
class Spread:
    """Mean and standard deviation over the runs of a group, at each step that all of them measured."""

    step: Float[np.ndarray, " step"]
    mean: Float[np.ndarray, " step"]
    deviation: Float[np.ndarray, " step"]
    n_runs: int


@dataclass(frozen=True, eq=False)
class Line:
    """A curve of a panel; one without a label is not in the legend."""

    values: Spread
    colour: str
    label: str = ""
    dashed: bool = False
    thin: bool = False


def panel(column: str) -> Panel:
    """How to draw a column; one that the suite does not know is drawn under its own name.

    Example:
        >>> panel("accuracy_0").title
        'Accuracy of answer 1'
    """
    if column in PANELS:
        return PANELS[column]
    measure, at, hook_point = column.partition("@")
    kind, _, number = measure.rpartition("_")
    if kind in NUMBERED and number.isdigit():
        look, first = NUMBERED[kind]
        return dataclasses.replace(look, title=look.title.format(int(number) + first))
    name = measure.replace("_", " ").capitalize()
    known = PANELS.get(measure, Panel(name, ""))
    return Panel(f"{name} at {hook_point}", known.unit, known.limits) if at else known


def limits(look: Panel, values: Iterable[float]) -> tuple[float, float] | None:
    """Of a panel's axis, wide enough for negative values: a mean cosine may be negative.

    Example:
        >>> limits(panel("cosine"), [0.9, -1.0])
        (-1.05, 1.03)
    """
    if look.limits is None:
        return None
    low, high = look.limits
    return min([low, *(1.05 * value for value in values)]), high


def title(column: str, drawn: Sequence[Line]) -> str:
    """Of a panel: a loss that is also shown on a validation set is not called training loss."""
    return "Loss" if column == "loss" and any(line.dashed for line in drawn) else panel(column).title


def parts(columns: Iterable[str], column: str) -> dict[str, str]:
    """Columns that measure a part of what ``column`` measures, by what to call them.

    The parts are layers (``attention_progress_0``, …) and, where the loss of groups of sequences was measured
    (``loss_x``), these groups (``accuracy_x``).

    Example:
        >>> parts(["loss", "loss_window_sum", "accuracy", "accuracy_0", "accuracy_window_sum"], "accuracy")
        {'window sum': 'accuracy_window_sum'}
    """
    there = list(map(str, columns))
    groups = [name.removeprefix("loss_") for name in there if name.startswith("loss_")]
    found = {group.replace("_", " "): f"{column}_{group}" for group in groups}
    if column == "attention_progress":
        layers = [name.removeprefix(f"{column}_") for name in there if name.startswith(f"{column}_")]
        found |= {f"layer {layer}": f"{column}_{layer}" for layer in layers if layer.isdigit()}
    return {label: name for label, name in found.items() if name in there}


def lines(curves: Curves, column: str) -> list[Line]:
    """The curves of a panel: each group; its validation, dashed, where it was measured; the parts of a single group.

    A curve without any number, as of a group that was never drawn, is left out.

    Raises:
        ValueError: if there is no run, or a run did not measure the column.

    Example:
        >>> metrics = pd.DataFrame({"step": [0, 1], "loss": [2.9, 1.3], "validation_loss": [2.9, 1.9]})
        >>> [(line.label, line.dashed) for line in lines(metrics, "loss")]
        [('training', False), ('validation', True)]
    """
    grouped = _grouped(curves)
    drawn: list[Line] = []
    held_out = f"validation_{column}"
    for colour, (name, values) in zip(_cycled(len(grouped)), spread(curves, column).items(), strict=True):
        drawn.append(Line(values, colour, f"{name} (n = {values.n_runs})" if name and values.n_runs > 1 else name))
        if all(held_out in run for run in grouped[name]):
            label = "" if any(line.dashed and len(line.values.step) for line in drawn) else "validation"
            drawn.append(Line(spread(grouped[name], held_out)[""], colour, label, dashed=True))
    if len(grouped) > 1:
        return _with_numbers(drawn)
    (runs,) = grouped.values()
    shared = [name for name in runs[0].columns if all(name in run for run in runs)]
    named = parts(shared, column)
    for colour, (label, name) in zip(_cycled(len(named), first=2), named.items(), strict=True):
        drawn.append(Line(spread(runs, name)[""], colour, label, thin=True))
    drawn = _with_numbers(drawn)
    if len(drawn) > 1 and not drawn[0].label:
        drawn[0] = dataclasses.replace(drawn[0], label="training" if drawn[1].dashed else "all")
    return drawn


def spread(curves: Curves, column: str) -> dict[str, Spread]:
    """Mean and spread of a column for each group, at the steps at which all of its runs have a number.

    The deviation is the sample standard deviation (0 for one run).

    Raises:
        ValueError: if there is no run, or a run did not measure the column.

    Example:
        >>> runs = [pd.DataFrame({"step": [0, 1], "loss": [3.0, end]}) for end in (1.0, 2.0)]
        >>> spread(runs, "loss")[""].mean.tolist()
        [3.0, 1.5]
    """
    spreads = {}
    for name, runs in _grouped(curves).items():
        for run in runs:
            if not {"step", column} <= set(run.columns):
                there = ", ".join(map(str, run.columns))
                raise ValueError(f"the metrics have no column {column!r}; they have {there}")
        measured = [run.set_index("step")[column].dropna() for run in runs]
        joined = pd.concat(measured, axis=1, join="inner").sort_index()
        values = joined.to_numpy(dtype=float)
        deviation = values.std(axis=1, ddof=1) if len(runs) > 1 else np.zeros(len(values))
        spreads[name] = Spread(joined.index.to_numpy(dtype=float), values.mean(axis=1), deviation, len(runs))
    return spreads


def level_lines(levels: Levels | None) -> list[tuple[str, float]]:
    """The closed-form levels that are known, by name."""
    if levels is None:
        return []
    named = (("initial", levels.initial), ("plateau", levels.plateau), ("floor", levels.floor))
    return [(name, level) for name, level in named if level is not None]


def curves_figure(
    curves: Curves,
    columns: Sequence[str] = ("loss", "accuracy"),
    *,
    levels: Levels | None = None,
    drops: Sequence[int | None] = (),
) -> "Figure":
    """One panel a column, side by side: the mean over the runs of each group and one standard deviation around it.

    Args:
        curves: metrics of one run, of several seeds, or of named groups.
        columns: what to draw. A column ``x`` also shows ``validation_x``, dashed, and the mean of ``x_truth``, dotted,
            where they were measured; of a single group also the parts of ``x`` (see `parts`).
        levels: closed-form losses, drawn into the loss panel.
        drops: steps of the drop, marked in each panel.

    Raises:
        ValueError: if there is no run, or a column was not measured.

    Example:
        >>> figure = curves_figure(pd.DataFrame({"step": [0, 1], "loss": [2.9, 1.3]}), ["loss"])
        >>> figure.axes[0].get_title(loc="left")
        'Training loss'
    """
    import matplotlib
    from matplotlib.figure import Figure

    if not columns:
        raise ValueError("columns is empty: there is nothing to draw")
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(PANEL_SIZE[0] * len(columns), PANEL_SIZE[1]), layout="constrained")
        for axes, column in zip(figure.subplots(1, len(columns), squeeze=False)[0], columns, strict=True):
            _draw_curves(axes, curves, column)
            drawn = list(axes.get_lines())
            marks = [(f"{name} {level:.4f}", level) for name, level in level_lines(levels) if column == "loss"]
            marks += _truth(curves, f"{column}_truth")
            _draw_marks(axes, marks)
            colour = OTHER if len(_grouped(curves)) == 1 else MUTED
            marked = _draw_drops(axes, drops, colour=colour)
            words = _Words(axes, drawn, [level for _text, level in marks], marked)
            for text, level in marks:
                words.beside_level(text, level)
            if len(marked) == 1:
                words.beside_drop(f"drop, step {marked[0]}", marked[0], colour=colour)
        _draw_legends(figure)
        return figure


def legend_below(figure: "Figure", handles: "Sequence[Artist]", labels: Sequence[str]) -> None:
    """One legend for a figure, below its panels, in as many columns as there is room for; the figure grows with it."""
    width, height = figure.get_size_inches()
    wrapped = [textwrap.fill(label, int(width / LETTER) - 8) for label in labels]
    longest = max(len(line) for label in wrapped for line in label.splitlines())
    n_columns = min(len(labels), max(1, int(width / (LETTER * (longest + 7)))))
    n_lines = sum(label.count("\n") + 1 for label in wrapped) / n_columns
    figure.set_size_inches(width, height + 0.1 + 0.2 * int(n_lines + 0.99))
    figure.legend(handles, wrapped, loc="outside lower left", ncols=n_columns)


def position_figure(curves: Curves, *, drops: Sequence[int | None] = ()) -> "Figure":
    """Accuracy of each answer position over the steps, as a heat map; the mean where there are several runs.

    Raises:
        ValueError: if no ``accuracy_0``, ``accuracy_1``, … was measured, or by some runs more of them than by others.

    Example:
        >>> metrics = pd.DataFrame({"step": [0, 1], "accuracy_0": [0.0, 1.0], "accuracy_1": [0.0, 0.5]})
        >>> position_figure(metrics).axes[0].get_ylabel()
        'answer position'
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    runs = [run for group in _grouped(curves).values() for run in group]
    numbers = sorted({sum(bool(re.fullmatch(r"accuracy_\d+", str(column))) for column in run) for run in runs})
    if numbers == [0]:
        raise ValueError("the metrics have no accuracy_0, accuracy_1, …: no accuracy of single positions was measured")
    if len(numbers) > 1:
        raise ValueError(
            f"the runs measured {' and '.join(map(str, numbers))} answer positions, which have no mean: draw those of "
            "one number by themselves"
        )
    rows = [spread(runs, f"accuracy_{position}")[""] for position in range(numbers[0])]
    steps = rows[0].step
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=PANEL_SIZE, layout="constrained")
        axes = figure.subplots()
        half = (steps[-1] - steps[0]) / max(len(steps) - 1, 1) / 2 or 0.5
        image = axes.imshow(
            np.stack([row.mean for row in rows]),
            cmap=_towards(ACCENT),
            vmin=0,
            vmax=1,
            aspect="auto",
            extent=(steps[0] - half, steps[-1] + half, len(rows) + 0.5, 0.5),
        )
        axes.yaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
        axes.set(title="Accuracy of each answer", xlabel="training step", ylabel="answer position")
        _draw_drops(axes, drops, colour=OTHER)  # without words, which would lie on the map
        _colour_bar(figure, image, axes, "share right")
        return figure


def pattern_figure(
    patterns: Float[Tensor | np.ndarray, "map query key"],
    titles: Sequence[str],
    *,
    targets: Bool[Tensor | np.ndarray, "query key"] | None = None,
    label: str = "attention",
    limit: float | None = None,
    first_query: int = 0,
) -> "Figure":
    """Attention maps next to each other, with one colour scale from white at 0; target positions are outlined.

    Args:
        patterns: the maps; negative entries are drawn in a second colour.
        titles: one a map.
        targets: positions to outline.
        label: what the colours mean.
        limit: the value of the strongest colour; by default the largest magnitude there is.
        first_query: position of the first row, for maps of the answer rows alone.

    Raises:
        ValueError: for no map, a number of titles that differs from the number of maps, or values that are not finite.

    Example:
        >>> figure = pattern_figure(np.eye(3)[None], ["step 0"])
        >>> figure.axes[0].get_title(loc="left")
        'step 0'
    """
    outlined = None if targets is None else _array(targets)
    maps = _array(patterns)
    return _maps(maps, titles, outlined=outlined, label=label, most=limit, first_query=first_query)


def cosine_figure(
    matrices: Float[Tensor | np.ndarray, "step row row"], steps: Sequence[int], *, label: str = "cosine"
) -> "Figure":
    """Collapse through time: at each step the mean cosine of each pair of answer rows.

    Raises:
        ValueError: for no matrix, a number of steps that differs, or values that are not finite.

    Example:
        >>> len(cosine_figure(np.ones((2, 4, 4)), [0, 100]).axes)
        3
    """
    return _maps(_array(matrices), [f"step {step}" for step in steps], label=label, most=1.0, axes_name="answer row")


def effect_figure(
    effects: Float[Tensor | np.ndarray, "row column"],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str = "",
    label: str = "change of the loss (nats)",
) -> "Figure":
    """Effects of patching or ablation as a heat map with the numbers written in (up to 150 cells), white at 0.

    Args:
        effects: for example layers by heads, or layers by positions.
        rows: names of the rows.
        columns: names of the columns.
        title: above the map.
        label: what the numbers are.

    Raises:
        ValueError: for no cell, names that do not fit the shape, or values that are not finite.

    Example:
        >>> effect_figure(np.ones((1, 2)), rows=["layer 0"], columns=["head 0", "head 1"]).axes[0].texts[0].get_text()
        '1.00'
    """
    import matplotlib
    from matplotlib.figure import Figure

    values = _finite(_array(effects))
    if not values.size:
        raise ValueError(f"effects of shape {values.shape} have no cell: there is nothing to draw")
    if values.shape != (len(rows), len(columns)):
        raise ValueError(
            f"effects of shape {values.shape} need as many names; got {len(rows)} rows, {len(columns)} columns"
        )
    most = float(np.abs(values).max()) or 1.0
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        size = (1.9 + 0.52 * len(columns), 1.1 + 0.36 * len(rows))
        figure = Figure(figsize=(max(size[0], 3.4), max(size[1], 1.9)), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(values, cmap=_diverging(), vmin=-most, vmax=most, aspect="auto")
        turned = max(map(len, columns)) > 5
        axes.set_xticks(range(len(columns)), columns, rotation=90 if turned else 0)
        axes.set_yticks(range(len(rows)), rows)
        axes.set_title(title)
        if values.size <= 150:
            for row, column in np.ndindex(values.shape):
                colour = "white" if abs(values[row, column]) > 0.6 * most else INK
                text = f"{round(float(values[row, column]), 2) + 0.0:.2f}"  # not -0.00
                axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
        _colour_bar(figure, image, axes, label)
        return figure


def save_figure(figure: "Figure", path: str | Path) -> Path:
    """Write a figure as PDF, SVG (vectors) or PNG (200 dots an inch), whole or not at all; returns the path.

    Raises:
        ValueError: for another ending.
    """
    path = Path(path)
    kind = path.suffix.removeprefix(".").lower()
    if kind not in FORMATS:
        raise ValueError(f"a figure is saved as {', '.join(FORMATS)}; got {path.name!r}")
    write_atomically(path, rendered(figure, kind))
    return path


def rendered(figure: "Figure", kind: str, *, background: str = "white") -> bytes:
    """A figure as a file's content; the same figure gives the same bytes."""
    import matplotlib

    fixed = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind, {})
    settings: Any = {"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "plateau-interp"}
    buffer = io.BytesIO()
    with matplotlib.rc_context(settings):
        figure.savefig(buffer, format=kind, dpi=200, facecolor=background, metadata=fixed)
    return buffer.getvalue()


def _grouped(curves: Curves) -> dict[str, list[pd.DataFrame]]:
    groups = curves if isinstance(curves, Mapping) else {"": curves}
    listed = {name: [runs] if isinstance(runs, pd.DataFrame) else list(runs) for name, runs in groups.items()}
    if not listed or not all(listed.values()):
        raise ValueError("there is no run to draw")
    if any(run.empty for runs in listed.values() for run in runs):
        raise ValueError("a run has no measured step yet: there is nothing to draw")
    return listed


def _with_numbers(drawn: list[Line]) -> list[Line]:
    return [line for line in drawn if len(line.values.step)]


def _draw_curves(axes: "Axes", curves: Curves, column: str) -> None:
    look = panel(column)
    drawn = lines(curves, column)
    for line in drawn:
        values = line.values
        style: Any = {"linewidth": 1.2 if line.thin else 1.8, "linestyle": "--" if line.dashed else "-"}
        style["marker"] = "o" if len(values.step) == 1 else None  # one measured step has no line
        axes.plot(values.step, values.mean, color=line.colour, label=_kept(line.label), **style)
        if values.n_runs > 1:
            low, high = values.mean - values.deviation, values.mean + values.deviation
            axes.fill_between(values.step, low, high, color=line.colour, alpha=0.2, linewidth=0)
    axes.set(title=title(column, drawn), xlabel="training step", ylabel=look.unit)
    axes.margins(x=0.01)
    if look.limits:
        axes.set_ylim(limits(look, [float(line.values.mean.min()) for line in drawn]))


def _kept(label: str) -> str | None:
    """A label that stays in the legend: matplotlib leaves out those that begin with an underscore."""
    return f"\N{ZERO WIDTH SPACE}{label}" if label.startswith("_") else label or None


def _truth(curves: Curves, column: str) -> list[tuple[str, float]]:
    """What is said of the true answers, and their value: the mean of the runs, if each of them has one."""
    runs = [run for group in _grouped(curves).values() for run in group]
    if not all(column in run for run in runs):
        return []
    truth = float(pd.Series([run[column].mean() for run in runs]).mean())
    return [] if np.isnan(truth) else [(f"true answers {truth:.3f}", truth)]


def _draw_marks(axes: "Axes", marks: Sequence[tuple[str, float]]) -> None:
    for _text, level in marks:
        axes.axhline(level, color=MUTED, linewidth=1, linestyle=(0, (2, 3)), zorder=1)


def _draw_drops(axes: "Axes", drops: Sequence[int | None], *, colour: str) -> list[int]:
    """A vertical line at each drop; returns their steps."""
    marked = sorted({drop for drop in drops if drop is not None})
    for drop in marked:
        axes.axvline(drop, color=colour, linewidth=1.2, alpha=0.9, zorder=1)
    return marked


@dataclass
class _Words:
    """Writes into a panel whose lines are drawn: each text where it is clearest of curves, lines and other texts.

    Where no place is clear a text lies over the lines, on a ground of its own.
    """

    axes: "Axes"
    curves: "Sequence[Line2D]"
    levels: Sequence[float]
    drops: Sequence[int]
    taken: list[tuple[float, float, float]] = field(default_factory=list)
    """Start, stop and height of each text so far, in shares of the axes."""

    def beside_level(self, text: str, level: float) -> None:
        """Above or below a horizontal line; at its right end, if that is clear."""
        room, (bottom, top) = WORD * len(text), self.axes.get_ylim()

        def box(place: tuple[float, bool]) -> tuple[float, float, float]:
            start = place[0] * (1 - room)
            return start, start + room, (level - bottom) / (top - bottom) + (-0.05 if place[1] else 0.05)

        places = [(at, below) for below in (False, True) for at in (1.0, 0.0, 0.3, 0.5, 0.7)]
        others = [other for other in self.levels if other != level]
        at, below = max(places, key=lambda place: self._clearance(box(place), others))
        self.taken.append(box((at, below)))
        x, shift, align = (1.0, -3, "right") if at == 1 else (self.taken[-1][0], 3, "left")
        look: Any = {"xytext": (shift, -10 if below else 4), "ha": align, "color": MUTED}
        self.axes.annotate(text, (x, level), xycoords=("axes fraction", "data"), **WORDS, **look)

    def beside_drop(self, text: str, drop: int, *, colour: str) -> None:
        """To the left or right of a vertical line."""
        room, (left, right) = WORD * len(text), self.axes.get_xlim()
        at = (drop - left) / (right - left)

        def box(place: tuple[bool, float]) -> tuple[float, float, float]:
            start = at - room - 0.01 if place[0] else at + 0.01
            return start, start + room, place[1]

        places = [(before, height) for height in (0.5, 0.65, 0.35, 0.8, 0.2) for before in (False, True)]
        inside = [place for place in places if box(place)[0] >= 0 and box(place)[1] <= 1] or places
        before, height = max(inside, key=lambda place: self._clearance(box(place), self.levels))
        self.taken.append(box((before, height)))
        look: Any = {"xytext": (-5 if before else 5, 0), "ha": "right" if before else "left", "va": "center"}
        self.axes.annotate(text, (drop, height), xycoords=("data", "axes fraction"), color=colour, **WORDS, **look)

    def _clearance(self, box: tuple[float, float, float], levels: Sequence[float]) -> float:
        """How far a text would be from all there is, as a share of the panel's height; 0.06 is enough."""
        start, stop, height = box
        (left, right), (bottom, top) = self.axes.get_xlim(), self.axes.get_ylim()
        if not 0.02 < height < 0.98 or any(start <= (drop - left) / (right - left) <= stop for drop in self.drops):
            return 0.0
        if any(a < stop and start < b and abs(other - height) < 0.08 for a, b, other in self.taken):
            return 0.0
        steps = left + (right - left) * np.linspace(start, stop, 60)
        curves = [np.interp(steps, np.asarray(line.get_xdata()), np.asarray(line.get_ydata())) for line in self.curves]
        heights = [(values - bottom) / (top - bottom) - height for values in (*curves, *map(np.asarray, levels))]
        if any(above.min() < 0 < above.max() for above in heights):  # it goes through the text
            return 0.0
        return min([0.06, *(float(np.abs(above).min()) for above in heights)])


def _draw_legends(figure: "Figure") -> None:
    """One legend if it is that of all panels; else each panel's own, below it."""
    from matplotlib.transforms import ScaledTranslation

    named = [axes.get_legend_handles_labels() for axes in figure.axes]
    if len({tuple(labels) for _handles, labels in named}) == 1:
        if named[0][1]:
            legend_below(figure, *named[0])
        return
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.1 + 0.2 * max(len(labels) for _handles, labels in named))
    below = ScaledTranslation(0, -0.5, figure.dpi_scale_trans)  # inches: the labels of the axis
    for axes, (handles, labels) in zip(figure.axes, named, strict=True):
        if labels:
            place: Any = {"bbox_to_anchor": (0, 0), "bbox_transform": axes.transAxes + below, "borderaxespad": 0}
            axes.legend(handles, labels, loc="upper left", **place)


def _maps(
    maps: Float[np.ndarray, "map query key"],
    titles: Sequence[str],
    *,
    label: str,
    outlined: Bool[np.ndarray, "query key"] | None = None,
    most: float | None = None,
    axes_name: str = "",
    first_query: int = 0,
) -> "Figure":
    import matplotlib
    from matplotlib.collections import PatchCollection
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import MaxNLocator

    if maps.ndim != 3 or not len(maps) or not maps[0].size:
        raise ValueError(f"maps are [map, query, key], at least one; got shape {maps.shape}")
    if len(titles) != len(maps):
        raise ValueError(f"{len(maps)} maps need {len(maps)} titles; got {len(titles)}")
    strongest = float(np.abs(_finite(maps)).max())
    most = strongest or 1.0 if most is None else most
    negative = bool((maps < 0).any())
    with matplotlib.rc_context({**STYLE, "axes.grid": False, "axes.spines.top": True, "axes.spines.right": True}):
        n_queries, n_keys = maps.shape[1:]
        height = 1.05 + 2.05 * min(n_queries / n_keys, 2)
        figure = Figure(figsize=(2.75 * len(maps) + 0.9, height), layout="constrained")
        extent = (-0.5, n_keys - 0.5, first_query + n_queries - 0.5, first_query - 0.5)
        panels = figure.subplots(1, len(maps), squeeze=False)[0]
        for axes, values, title in zip(panels, maps, titles, strict=True):
            colours = _diverging() if negative else _towards(ACCENT)
            image = axes.imshow(values, cmap=colours, vmin=-most if negative else 0.0, vmax=most, extent=extent)
            if outlined is not None:
                boxes = [
                    Rectangle((key - 0.5, first_query + query - 0.5), 1, 1) for query, key in np.argwhere(outlined)
                ]
                axes.add_collection(PatchCollection(boxes, facecolor="none", edgecolor=INK, linewidth=0.8))
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
            axes.set_title(title)
            axes.set_xlabel(axes_name or "key position")
        panels[0].set_ylabel(axes_name or "query position")
        _colour_bar(figure, image, list(panels), label)
        return figure


def _colour_bar(figure: "Figure", image: Any, axes: Any, label: str) -> None:
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02, aspect=22)
    bar.set_label(label, color=MUTED)
    if bar.solids is not None:
        bar.solids.set_rasterized(True)  # one small picture, not 256 rectangles in a vector file


def _towards(colour: str) -> Any:
    """From nothing to a colour: white on paper, the page's own ground in a dark report."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgba

    return LinearSegmentedColormap.from_list("towards", [to_rgba(colour, 0.0), to_rgba(colour, 1.0)])


def _diverging() -> Any:
    from matplotlib.colors import LinearSegmentedColormap, to_rgba

    ends = [to_rgba(OTHER, 1.0), to_rgba(OTHER, 0.0), to_rgba(ACCENT, 0.0), to_rgba(ACCENT, 1.0)]
    return LinearSegmentedColormap.from_list("diverging", list(zip((0.0, 0.5, 0.5, 1.0), ends, strict=True)))


def _cycled(n: int, *, first: int = 0) -> list[str]:
    return [COLOURS[(first + index) % len(COLOURS)] for index in range(n)]


def _array(values: Tensor | np.ndarray) -> np.ndarray:
    if not isinstance(values, Tensor):
        return values
    values = values.detach().cpu()
    return (values.double() if values.is_floating_point() else values).numpy()  # NumPy has no bfloat16


def _finite(values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all():
        raise ValueError("the values to draw must be finite; there is a NaN or an infinity among them")
    return values
