"""Curves in the style of the papers: one panel a column of the metrics, with means and spreads over seeds.

Pure functions from tables to a `matplotlib.figure.Figure`, which `plateau_interp.views.save_figure` writes; pyplot and
its global state are not used. What the panels are called is in `plateau_interp.views.panels`, heat maps in
`plateau_interp.views.maps`, curves to zoom into in `plateau_interp.views.interactive`.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from plateau_interp.checks import shown
from plateau_interp.types import Levels
from plateau_interp.views.labels import Words, draw_legends, kept, title_lines
from plateau_interp.views.panels import NO_MORE, Panels, limits, panel, parts
from plateau_interp.views.theme import LIGHT, Theme, figure_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "PANEL_SIZE",
    "Curves",
    "Line",
    "Spread",
    "check_columns",
    "curves_figure",
    "draw_drops",
    "grouped",
    "level_lines",
    "lines",
    "spread",
    "title",
]

Curves = pd.DataFrame | Sequence[pd.DataFrame] | Mapping[str, pd.DataFrame | Sequence[pd.DataFrame]]
"""Metrics of one run; of several runs that differ in their seed; or of several named groups of such runs."""

PANEL_SIZE = (4.7, 3.0)
"""Width and height of a panel, in inches."""


@dataclass(frozen=True, eq=False)
class Spread:
    """Mean and standard deviation over the runs of a group, at each step over those that got so far.

    Attributes:
        step: in order.
        mean: over the runs.
        deviation: of the sample; 0 for one run.
        n: how many runs.
    """

    step: Float[np.ndarray, " step"]
    mean: Float[np.ndarray, " step"]
    deviation: Float[np.ndarray, " step"]
    n: Int[np.ndarray, " step"]

    @property
    def n_runs(self) -> int:
        """How many runs, at most."""
        return int(self.n.max(initial=0))

    def label(self, name: str) -> str:
        """A name for a legend, with the number of runs if there are several; of how many everywhere none has to say."""
        most, fewest = self.n_runs, int(self.n.min(initial=self.n_runs))
        if most < 2 or (not name and fewest == most):
            return name
        told = f"n = {most}" if fewest == most else f"n = {fewest} to {most}"
        return f"{name} ({told})" if name else told


@dataclass(frozen=True, eq=False)
class Line:
    """A curve of a panel; one without a label is not in the legend. ``series`` is the number of its colour."""

    values: Spread
    series: int
    label: str = ""
    dashed: bool = False
    thin: bool = False


def title(column: str, drawn: Sequence[Line], panels: Panels = NO_MORE) -> str:
    """Of a panel: a loss that is also shown on a validation set is not called training loss.

    Example:
        >>> title("loss", [])
        'Training loss'
    """
    return "Loss" if column == "loss" and any(line.dashed for line in drawn) else panel(column, panels).title


def grouped(curves: Curves) -> dict[str, list[pd.DataFrame]]:
    """The runs by group; a single group has no name.

    Raises:
        ValueError: for what is no table, if there is no run, or one without a measured step.

    Example:
        >>> list(grouped(pd.DataFrame({"step": [0], "loss": [2.9]})))
        ['']
    """
    groups = curves if isinstance(curves, Mapping) else {"": curves}
    for runs in groups.values():
        for run in [runs] if isinstance(runs, pd.DataFrame) or not isinstance(runs, Iterable) else runs:
            if not isinstance(run, pd.DataFrame):
                raise ValueError(f"curves must be tables of metrics, such as Run.metrics; got {shown(run)}")
    listed = {name: [runs] if isinstance(runs, pd.DataFrame) else list(runs) for name, runs in groups.items()}
    if not listed or not all(listed.values()):
        raise ValueError("there is no run to draw")
    if any(run.empty for runs in listed.values() for run in runs):
        raise ValueError("a run has no measured step yet: there is nothing to draw")
    return listed


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
    groups = grouped(curves)
    drawn: list[Line] = []
    held_out = f"validation_{column}"
    for series, (name, values) in enumerate(spread(curves, column).items()):
        drawn.append(Line(values, series, values.label(name)))
        if all(held_out in run for run in groups[name]):
            label = "" if any(line.dashed and len(line.values.step) for line in drawn) else "validation"
            drawn.append(Line(spread(groups[name], held_out)[""], series, label, dashed=True))
    if len(groups) > 1:
        return _with_numbers(drawn)
    (runs,) = groups.values()
    shared = [name for name in runs[0].columns if all(name in run for run in runs)]
    # The second colour is the drop's.
    for series, (label, name) in enumerate(parts(shared, column).items(), start=2):
        drawn.append(Line(spread(runs, name)[""], series, label, thin=True))
    drawn = _with_numbers(drawn)
    if len(drawn) > 1 and not next(iter(groups)):
        first = drawn[0]
        drawn[0] = dataclasses.replace(first, label=first.values.label("training" if drawn[1].dashed else "all"))
    return drawn


def spread(curves: Curves, column: str) -> dict[str, Spread]:
    """Mean and spread of a column for each group, at each step over its runs that have begun and not ended.

    A run begins and ends with its first and last number: one that was stopped, or whose loss is no number any more,
    hides nothing of the others. Between them it counts at the steps at which the others have a number, too.

    Raises:
        ValueError: if there is no run, a run did not measure the column, or one of a group was measured at none of the
            others' steps.

    Example:
        >>> runs = [pd.DataFrame({"step": [0, 1], "loss": [3.0, end]}) for end in (1.0, 2.0)]
        >>> spread(runs, "loss")[""].mean.tolist()
        [3.0, 1.5]
    """
    spreads = {}
    for name, runs in grouped(curves).items():
        for run in runs:
            if not {"step", column} <= set(run.columns):
                there = ", ".join(map(str, run.columns))
                raise ValueError(f"the metrics have no column {column!r}; they have {there}")
        measured = [run.set_index("step")[column].dropna() for run in runs]
        spreads[name] = _over_runs(measured, which=f"the runs of {name!r}" if name else "the runs")
    return spreads


def level_lines(levels: Levels | None) -> list[tuple[str, float]]:
    """The closed-form levels that are known, by name.

    Example:
        >>> level_lines(Levels(floor=1.3))
        [('floor', 1.3)]
    """
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
    panels: Panels = NO_MORE,
    theme: Theme = LIGHT,
) -> "Figure":
    """One panel a column, side by side: the mean over the runs of each group and one standard deviation around it.

    Runs of a group that ended at different steps count as far as they got; the legend then says "n = 1 to 3".

    Args:
        curves: metrics of one run, of several seeds, or of named groups.
        columns: what to draw. A column ``x`` also shows ``validation_x``, dashed, and the mean of ``x_truth``, dotted,
            where they were measured; of a single group also the parts of ``x`` (see `panels.parts`).
        levels: closed-form losses, drawn into the loss panel.
        drops: steps of the drop, marked in each panel.
        panels: titles, units and limits of columns that are not the meter's.
        theme: the colours, for a light or a dark ground.

    Raises:
        ValueError: if there is no run, or a column was not measured.

    Example:
        >>> figure = curves_figure(pd.DataFrame({"step": [0, 1], "loss": [2.9, 1.3]}), ["loss"])
        >>> figure.axes[0].get_title(loc="left")
        'Training loss'
    """
    import matplotlib
    from matplotlib.figure import Figure

    check_columns(columns)
    with matplotlib.rc_context(figure_style(theme)):
        figure = Figure(figsize=(PANEL_SIZE[0] * len(columns), PANEL_SIZE[1]), layout="constrained")
        for axes, column in zip(figure.subplots(1, len(columns), squeeze=False)[0], columns, strict=True):
            _draw_curves(axes, lines(curves, column), column, panels, theme)
            drawn = list(axes.get_lines())
            marks = [(f"{name} {level:.4f}", level) for name, level in level_lines(levels) if column == "loss"]
            marks += _truth(curves, f"{column}_truth")
            for _text, level in marks:
                axes.axhline(level, color=theme.muted, linewidth=1, linestyle=(0, (2, 3)), zorder=1)
            colour = theme.other if len(grouped(curves)) == 1 else theme.muted
            marked = draw_drops(axes, drops, colour=colour)
            words = Words(axes, theme, drawn, [level for _text, level in marks], marked)
            for text, level in marks:
                words.beside_level(text, level)
            if len(marked) == 1:
                words.beside_drop(f"drop, step {marked[0]}", marked[0], colour=colour)
        draw_legends(figure)
        return figure


def check_columns(columns: object) -> None:
    """Refuse what is no list of columns to draw.

    Raises:
        ValueError: for no column, and for a single name, whose letters nobody means.
    """
    if isinstance(columns, str) or not isinstance(columns, Sequence):
        raise ValueError(f"columns must be a list, such as ['loss']; got {shown(columns)}")
    if not columns:
        raise ValueError("columns is empty: there is nothing to draw")


def draw_drops(axes: "Axes", drops: Sequence[int | None], *, colour: str) -> list[int]:
    """A vertical line at each drop; returns their steps, in order."""
    marked = sorted({drop for drop in drops if drop is not None})
    for drop in marked:
        axes.axvline(drop, color=colour, linewidth=1.2, alpha=0.9, zorder=1)
    return marked


def _over_runs(measured: Sequence["pd.Series[float]"], *, which: str) -> Spread:
    """Of one column of several runs, by step.

    Raises:
        ValueError: if one has no step in common with those beside it.
    """
    joined = pd.concat(measured, axis=1, join="outer").sort_index()
    steps, values = joined.index.to_numpy(dtype=float), joined.to_numpy(dtype=float)
    there = np.zeros(values.shape, dtype=bool)
    for number, run in enumerate(measured):
        if len(run):
            there[:, number] = (steps >= run.index.min()) & (steps <= run.index.max())
    kept_steps = there.any(axis=1) & ~(there & np.isnan(values)).any(axis=1)
    beside = there & (there.sum(axis=1, keepdims=True) > 1)
    if (beside.any(axis=0) & ~beside[kept_steps].any(axis=0)).any():
        raise ValueError(f"{which} were measured at other steps, none of them common: draw each by itself")
    values, n = values[kept_steps], there[kept_steps].sum(axis=1)
    total = np.nansum(values, axis=1)
    mean = total / n
    squares = np.nansum((values - mean[:, None]) ** 2, axis=1)
    return Spread(steps[kept_steps], mean, np.sqrt(squares / np.maximum(n - 1, 1)), n)


def _with_numbers(drawn: list[Line]) -> list[Line]:
    return [line for line in drawn if len(line.values.step)]


def _draw_curves(axes: "Axes", drawn: Sequence[Line], column: str, panels: Panels, theme: Theme) -> None:
    look = panel(column, panels)
    for line in drawn:
        values, colour = line.values, theme.nth(line.series)
        # Where there are more parts than colours, those that come second are dotted.
        again = line.thin and line.series >= len(theme.series)
        style: Any = {
            "linewidth": 1.2 if line.thin else 1.8,
            "linestyle": "--" if line.dashed else ":" if again else "-",
        }
        style["marker"] = "o" if len(values.step) == 1 else None  # one measured step has no line
        axes.plot(values.step, values.mean, color=colour, label=kept(line.label), **style)
        if values.n_runs > 1:
            low, high = values.mean - values.deviation, values.mean + values.deviation
            axes.fill_between(values.step, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.set(title=title_lines(title(column, drawn, panels)), xlabel="training step", ylabel=look.unit)
    axes.margins(x=0.01)
    if look.limits:
        axes.set_ylim(limits(look, [float(line.values.mean.min()) for line in drawn]))


def _truth(curves: Curves, column: str) -> list[tuple[str, float]]:
    """What is said of the true answers, and their value: the mean of the runs, if each of them has one."""
    runs = [run for group in grouped(curves).values() for run in group]
    if not all(column in run for run in runs):
        return []
    truth = float(pd.Series([run[column].mean() for run in runs]).mean())
    return [] if np.isnan(truth) else [(f"true answers {truth:.3f}", truth)]
