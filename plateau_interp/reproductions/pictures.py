"""Pictures of experiments: every seed a thin line, so that the spread is seen and not averaged away.

The general figures are in `plateau_interp.views.curves` and `plateau_interp.views.maps`.
"""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float

from plateau_interp.reproductions.experiments import Experiment
from plateau_interp.reproductions.quantities import NEVER, Quantity
from plateau_interp.reproductions.settings import Compared, Outcome, Setting
from plateau_interp.views.curves import level_lines
from plateau_interp.views.labels import legend_below
from plateau_interp.views.panels import Panels, limits, loss_panels, panel
from plateau_interp.views.theme import DIFFERENCE_MAP, LIGHT, figure_style, ordered_colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["against_figure", "beside_figure", "cases_figure", "median_move", "moves_figure", "seeds_figure"]

PANEL = (3.3, 2.5)
COLUMNS = 4
MOST_BESIDE = 5
"""Columns of settings beside each other; more of them would be too small to read."""
TITLE_WIDTH = 30
"""Characters that fit above a panel."""
CUT, FLATTENED = 0.02, 3.0
"""The share of a panel's values that may be beyond its axis, if the axis is so many times as high with them."""
NARROWEST_MAP = 2.3
"""Inches of a map that has room for its title and what runs along it."""
MOST_LEVELS = 3
"""Levels of one task; those of several tasks in one picture would tell nothing."""


def seeds_figure(experiment: Experiment, outcomes: Mapping[str, Sequence[Outcome]]) -> "Figure":
    """One panel a column of the metrics, one colour a setting, one line a seed; closed-form losses dotted.

    Settings of an experiment are mostly ordered (a factor, a step): neighbours get neighbouring colours. A setting that
    leaves another that is shown, too, is drawn from there on. Where a loss's first steps would flatten the rest, the
    axis ends below them.

    Args:
        experiment: says which columns.
        outcomes: by setting name; what was not run is left out.
    """
    import matplotlib
    from matplotlib.figure import Figure

    measured = {column for ours in outcomes.values() for one in ours for column in one.metrics.columns}
    columns = [column for column in experiment.panels if column in measured]
    added = _added_panels(one.setting for ours in outcomes.values() for one in ours)
    levels = _levels(one.setting for ours in outcomes.values() for one in ours) if "loss" in columns else set()
    height = -(-len(columns) // COLUMNS)
    width = -(-len(columns) // height)
    with matplotlib.rc_context(figure_style()):
        figure = Figure(figsize=(PANEL[0] * width, PANEL[1] * height + 0.3), layout="constrained")
        grid = figure.subplots(height, width, squeeze=False)
        for axes, column in zip(grid.flat, columns, strict=False):
            for colour, ours in zip(ordered_colours(len(outcomes)), outcomes.values(), strict=True):
                for one in ours:
                    if column in one.metrics:
                        rows = _own_rows(one, outcomes)[["step", column]].dropna()
                        axes.plot(rows["step"], rows[column], color=colour, linewidth=0.9, alpha=0.8)
            if column == "loss" and len(levels) <= MOST_LEVELS:
                for _, level in levels:
                    axes.axhline(level, color=LIGHT.muted, linewidth=0.8, linestyle=":")
            told = panel(column, added)
            name = textwrap.fill(told.title, TITLE_WIDTH, break_long_words=False)
            lowest = [float(values.min()) for line in axes.get_lines() if len(values := np.asarray(line.get_ydata()))]
            axes.set(title=name, ylabel=told.unit, xlabel="training step", ylim=limits(told, lowest))
            if told.limits is None:
                _cut_first_spike(axes)
        for axes in grid.flat[len(columns) :]:
            axes.remove()
        if len(outcomes) > 1:
            lines = [matplotlib.lines.Line2D([], [], color=colour) for colour in ordered_colours(len(outcomes))]
            legend_below(figure, lines, [ours[0].setting.about or name for name, ours in outcomes.items()])
        return figure


def against_figure(
    outcomes: Mapping[str, Sequence[Outcome]], column: str, measures: Sequence[str], *, mark: float
) -> "Figure":
    """Measures against a column that falls while a model learns, not against the step: time runs to the right.

    Args:
        outcomes: by setting name; one colour a setting, one line a seed.
        column: on the horizontal axis, from its highest value to its lowest.
        measures: one panel each.
        mark: the value of the column where a dotted line stands.
    """
    import matplotlib
    from matplotlib.figure import Figure

    added = _added_panels(one.setting for ours in outcomes.values() for one in ours)
    across = panel(column, added)
    with matplotlib.rc_context(figure_style()):
        size = (1.3 * PANEL[0] * len(measures), 1.2 * PANEL[1] + 0.3)
        figure = Figure(figsize=size, layout="constrained")
        for axes, measure in zip(figure.subplots(ncols=len(measures), squeeze=False).flat, measures, strict=True):
            for colour, ours in zip(ordered_colours(len(outcomes)), outcomes.values(), strict=True):
                for one in ours:
                    if not {column, measure} <= set(one.metrics):
                        continue
                    rows = one.metrics[[column, measure]].dropna()
                    axes.plot(rows[column], rows[measure], color=colour, linewidth=0.9, alpha=0.8)
            axes.axvline(mark, color=LIGHT.muted, linewidth=0.8, linestyle=":")
            look = panel(measure, added)
            axes.set(title=look.title, ylabel=look.unit, xlabel=f"{across.title} ({across.unit})", ylim=look.limits)
            axes.invert_xaxis()
        lines = [matplotlib.lines.Line2D([], [], color=colour) for colour in ordered_colours(len(outcomes))]
        legend_below(figure, lines, [ours[0].setting.about or name for name, ours in outcomes.items()])
        return figure


def beside_figure(outcomes: Mapping[str, Sequence[Outcome]], measures: Sequence[str]) -> "Figure":
    """Each setting beside the first, which is grey behind all others: a column a setting, a row a measure, in bands.

    For settings that have no order, and too many lines for one panel.

    Args:
        outcomes: by setting name; one line a seed.
        measures: columns of the metrics.
    """
    import matplotlib
    from matplotlib.figure import Figure

    (_, first), *others = outcomes.items()
    added = _added_panels(one.setting for ours in outcomes.values() for one in ours)
    bands = max(-(-len(others) // MOST_BESIDE), 1)
    width, height = max(-(-len(others) // bands), 1), bands * len(measures)
    with matplotlib.rc_context(figure_style()):
        size = (0.75 * PANEL[0] * width, 0.8 * PANEL[1] * height + 0.5)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(height, width, squeeze=False, sharex=True)
        for place, (name, ours) in enumerate(others):
            band, column = divmod(place, width)
            column_of_panels = grid[band * len(measures) : (band + 1) * len(measures), column]
            about = textwrap.fill(ours[0].setting.about or name, TITLE_WIDTH * 2 // 3, break_long_words=False)
            column_of_panels[0].set_title(about, fontsize=9)
            column_of_panels[-1].set_xlabel("training step")
            for row, (axes, measure) in enumerate(zip(column_of_panels, measures, strict=True)):
                if place:
                    axes.sharey(grid[row, 0])
                for seeds, colour in ((first, LIGHT.muted), (ours, LIGHT.accent)):
                    for one in seeds:
                        if measure not in one.metrics:
                            continue
                        seen = one.metrics[["step", measure]].dropna()
                        axes.plot(seen["step"], seen[measure], color=colour, linewidth=0.8, alpha=0.7)
                look = panel(measure, added)
                # The unit alone would not tell one share from another.
                label = "\n".join(filter(None, [textwrap.fill(look.title, TITLE_WIDTH * 2 // 3), look.unit]))
                axes.set_ylabel(label if column == 0 else "")
                if look.limits is not None:  # None would end the scaling, and cut off what the next panels have
                    axes.set_ylim(look.limits)
                axes.tick_params(labelleft=column == 0, labelbottom=axes is column_of_panels[-1])
        for axes in grid[-len(measures) :, len(others) - (bands - 1) * width :].flat:
            axes.remove()
        lines = [matplotlib.lines.Line2D([], [], color=colour) for colour in (LIGHT.muted, LIGHT.accent)]
        legend_below(figure, lines, [first[0].setting.about or first[0].setting.name, "what the title says"])
        return figure


def cases_figure(outcomes: Mapping[str, Sequence[Outcome]], measures: Sequence[str]) -> "Figure":
    """Cases of studies, one below the other: a dot a seed, a colour a step, a panel a measure.

    Args:
        outcomes: of `plateau_interp.reproductions.study.Study`, whose tables have ``step`` and ``case``.
        measures: columns of these.
    """
    import matplotlib
    from matplotlib.figure import Figure

    rows = [one.metrics for ours in outcomes.values() for one in ours]
    cases = list(dict.fromkeys(case for table in rows for case in table["case"]))
    steps = sorted({int(step) for table in rows for step in table["step"]})
    added = _added_panels(one.setting for ours in outcomes.values() for one in ours)
    with matplotlib.rc_context(figure_style()):
        size = (1.6 + 0.8 * PANEL[0] * len(measures), 1.1 + 0.24 * len(cases))
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(ncols=len(measures), sharey=True, squeeze=False)
        for axes, measure in zip(grid.flat, measures, strict=True):
            for place, (step, colour) in enumerate(zip(steps, ordered_colours(len(steps)), strict=True)):
                # Beside each other where steps share a case, the earlier above.
                shift = 0.5 * (place - (len(steps) - 1) / 2) / len(steps)
                for table in rows:
                    seen = table[table["step"] == step].dropna(subset=[measure])
                    heights = [cases.index(case) + shift for case in seen["case"]]
                    axes.plot(seen[measure], heights, "o", color=colour, markersize=3.5, alpha=0.8)
            look = panel(measure, added)
            name = textwrap.fill(look.title, TITLE_WIDTH, break_long_words=False)
            axes.set(title=name, xlabel=look.unit, xlim=look.limits)
            axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))
        grid[0, 0].set_yticks(range(len(cases)), cases)
        grid[0, 0].set_ylim(len(cases) - 0.5, -0.5)
        marks = [
            matplotlib.lines.Line2D([], [], color=colour, marker="o", linestyle="", markersize=3.5)
            for colour in ordered_colours(len(steps))
        ]
        legend_below(figure, marks, [f"step {step:,}" for step in steps])
        return figure


def median_move(outcomes: Mapping[str, Sequence[Outcome]], fork: Setting, quantity: Quantity) -> float:
    """By how many steps something comes later in a fork than in what it left: the median over seeds.

    Infinite where it did not come; NaN without a seed in which the fork was made before it.

    Args:
        outcomes: by setting name.
        fork: a setting that leaves another.
        quantity: a step.

    Raises:
        ValueError: for a setting that leaves none.
    """
    if fork.leaves is None:
        raise ValueError(f"{fork.name} leaves no other setting: there is nothing to compare it with")
    left, moment = fork.leaves
    before = {one.seed: quantity.of(one) for one in outcomes.get(left.name, [])}
    after = {one.seed: quantity.of(one) for one in outcomes.get(fork.name, [])}
    pairs = [(step, before.get(seed)) for seed, step in after.items() if step is not None]
    moves = [step - base for step, base in pairs if base is not None and moment <= base < NEVER]
    return float(np.median(moves)) if moves else np.nan


def moves_figure(
    moves: Mapping[str, Float[np.ndarray, "row column"]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    along: str = "frozen from this step on",
) -> "Figure":
    """Steps by which something moves, as heat maps: blue earlier, red later, hatched where nothing is known.

    Args:
        moves: by title of the map, training steps: NaN where nothing was run, or there is nothing to compare it with;
            infinite where it never came.
        rows: names of the rows.
        columns: names of the columns: the steps at which something was done.
        along: what that was.
    """
    import matplotlib
    from matplotlib.figure import Figure

    finite = np.abs([steps for table in moves.values() for steps in table.flat if np.isfinite(steps)])
    most = float(max([1.0, *finite]))
    with matplotlib.rc_context({**figure_style(), "axes.grid": False}):
        names, width = 0.075 * max(map(len, rows)), max(0.75 * len(columns) + 0.2, NARROWEST_MAP)
        size = (1.6 + names + width * len(moves), 1.2 + 0.36 * len(rows))
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(ncols=len(moves), sharey=True, squeeze=False)
        for axes, (title, table) in zip(grid.flat, moves.items(), strict=True):
            image = axes.imshow(np.minimum(table, most), cmap=DIFFERENCE_MAP, vmin=-most, vmax=most, aspect="auto")
            for row, column in np.ndindex(table.shape):
                _tell_move(axes, row, column, float(table[row, column]), most=most)
            axes.set_xticks(range(len(columns)), columns)
            axes.set(title=textwrap.fill(title, TITLE_WIDTH), xlabel=along)
        grid[0, 0].set_yticks(range(len(rows)), rows)
        figure.colorbar(image, ax=grid, label="steps")
        return figure


def _tell_move(axes: "Axes", row: int, column: int, steps: float, *, most: float) -> None:
    from matplotlib.patches import Rectangle

    if np.isnan(steps):
        place = (column - 0.5, row - 0.5)
        axes.add_patch(Rectangle(place, 1, 1, fill=False, hatch="///", edgecolor=LIGHT.grid, linewidth=0))
        return
    (image,) = axes.images
    colour = LIGHT.legible_on(image.cmap(image.norm(np.clip(steps, -most, most))))
    text = "never" if np.isinf(steps) else f"{steps:+.0f}"
    axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)


def _cut_first_spike(axes: "Axes") -> None:
    """End the axis a little above 49 of 50 values where the others, a loss's first steps, would flatten these."""
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in axes.get_lines()] or [np.zeros(0)])
    values = values[np.isfinite(values)]
    if not len(values):
        return
    low, most, top = values.min(), np.quantile(values, 1 - CUT), values.max()
    if top - low > FLATTENED * (most - low) > 0:
        axes.set_ylim(low - 0.1 * (most - low), most + 0.3 * (most - low))


def _own_rows(one: Outcome, outcomes: Mapping[str, Sequence[Outcome]]) -> pd.DataFrame:
    """The rows that are not, line for line, those of the run that it leaves, if that is in the picture."""
    left = one.setting.leaves if isinstance(one.setting, Setting) else None
    if left is None or all(parent.seed != one.seed for parent in outcomes.get(left[0].name, ())):
        return one.metrics
    return one.metrics[one.metrics["step"] >= left[1]]


def _levels(settings: Iterable[Compared]) -> set[tuple[str, float]]:
    """Closed-form losses of their tasks."""
    trained = (setting for setting in settings if isinstance(setting, Setting))
    return {level for setting in trained for level in level_lines(setting.recipe.task.levels)}


def _added_panels(settings: Iterable[Compared]) -> Panels:
    """Those of the columns that the settings bring with them, beside the meter's, and of their losses."""
    settings = list(settings)
    losses = loss_panels(setting.recipe.task for setting in settings if isinstance(setting, Setting))
    added = {column: look for setting in settings if setting.adds for column, look in setting.adds.panels.items()}
    return {**losses, **added}
