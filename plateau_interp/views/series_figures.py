"""Measures of checkpoints against the step of pretraining, on a logarithmic axis; several series over each other.

For the curves of a run of ours, measured while it trains, see `plateau_interp.views.curves`.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from plateau_interp.checks import nearest, shown
from plateau_interp.views.curves import PANEL_SIZE, check_columns
from plateau_interp.views.labels import kept, legend_below, title_lines
from plateau_interp.views.panels import COSINE, SHARE, Panel, Panels, limits
from plateau_interp.views.theme import LIGHT, Theme, figure_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["MEASURES", "drawn_rows", "series_figure"]

MEASURES: Panels = MappingProxyType(
    {
        "cosine": Panel("Collapse of hidden states", "mean cosine", COSINE),
        "repetition": Panel("Repetition", "share of neighbours that are equal", SHARE),
        "held_out_loss": Panel("Held-out loss", "nats a token"),
        "cosine_across_prompts": Panel("Likeness of different prompts", "mean cosine", COSINE),
        "distinct_tokens": Panel("Distinct tokens", "share", SHARE),
        "entropy": Panel("Entropy of a continuation", "nats"),
        "teacher_forced_cosine": Panel("Cosine while reading a text", "mean cosine", COSINE),
    }
)
"""Panels of what `plateau_interp.series.measures` measures, in the order of a report."""
DASHES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D")
"""Of the first four measures, the next four and so on, whose dashes are the same."""


def drawn_rows(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    """The rows of a series that are data: no checkpoint with another's weights, none without a number.

    Example:
        >>> rows = {"step": [0, 1, 2], "duplicate": [True, True, False], "cosine": [0.1, 0.1, 0.9]}
        >>> list(drawn_rows(pd.DataFrame(rows), "cosine")["step"])
        [2]
    """
    if measure not in table:  # nor is there any other column where nothing was measured yet
        return table.iloc[:0]
    return table[~table["duplicate"] & table[measure].notna()].sort_values("step")


def series_figure(
    series: pd.DataFrame | Mapping[str, pd.DataFrame],
    measures: str | Sequence[str] = ("cosine", "repetition"),
    *,
    theme: Theme = LIGHT,
) -> "Figure":
    """One panel: measures against the step, as in figure 8 of the paper; solid the first measure, dashed the second.

    Checkpoints that have the very same weights as another are not drawn.

    Args:
        series: what `SeriesFolder.metrics` gives, or several such tables by name.
        measures: columns that share an axis.
        theme: the colours.

    Raises:
        ValueError: if no series has a number of a measure.

    Source: arXiv 2506.13688, figure 8.

    Example:
        >>> rows = {"step": [0, 8, 64], "duplicate": False, "cosine": [0.1, 0.9, 0.4], "repetition": [0.0, 0.8, 0.1]}
        >>> len(series_figure(pd.DataFrame(rows)).axes[0].lines)
        2
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    tables = {"": series} if isinstance(series, pd.DataFrame) else series
    names = [measures] if isinstance(measures, str) else list(measures)
    _check(tables, names)
    with matplotlib.rc_context(figure_style(theme)):
        figure = Figure(figsize=PANEL_SIZE, layout="constrained")
        axes = figure.subplots()
        for index, (series_name, table) in enumerate(tables.items()):
            for number, name in enumerate(names):
                rows = drawn_rows(table, name)
                if rows.empty:  # another series has it
                    continue
                words = (series_name, _panel(name).title if len(names) > 1 else "")
                axes.plot(
                    rows["step"],
                    rows[name],
                    linestyle=DASHES[number % len(DASHES)],
                    color=theme.nth(index if len(tables) > 1 else number),
                    marker=MARKERS[number // len(DASHES) % len(MARKERS)],
                    markersize=3.5,
                    clip_on=False,  # whole points, also on the axis
                    label=kept(": ".join(filter(None, words))),
                )
        # Step 0 is a checkpoint, too: below 1 the axis is linear.
        axes.set_xscale("symlog", linthresh=1, linscale=0.4)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _position: f"{step:,.0f}"))
        axes.set_xlim(left=-0.1)
        axes.set_xlabel("step of pretraining")
        _name(axes, names)
        width, height = figure.get_size_inches()
        figure.set_size_inches(width, height + 0.2 * axes.get_title(loc="left").count("\n"))
        if len(names) > 1 or len(tables) > 1:
            legend_below(figure, *axes.get_legend_handles_labels())
        return figure


def _check(tables: Mapping[str, Any], names: Sequence[str]) -> None:
    check_columns(names)
    if not tables:
        raise ValueError("there is no series to draw")
    for table in tables.values():
        if not isinstance(table, pd.DataFrame):
            raise ValueError(
                f"a series is drawn from its table, such as SeriesFolder(path).metrics(); got {shown(table)}"
            )
    for name in names:
        if not any(len(drawn_rows(table, name)) for table in tables.values()):
            there = {str(column) for table in tables.values() for column in table.select_dtypes("number")}
            raise ValueError(f"no checkpoint has a number of {name!r} that is data; {nearest(name, sorted(there))}")


def _panel(name: str) -> Panel:
    """Of a measure; one of the user's has its own name, whatever the meter of a run calls so."""
    return MEASURES.get(name) or Panel(name.replace("_", " ").capitalize(), "")


def _name(axes: "Axes", names: Sequence[str]) -> None:
    """Title, unit and limits of a panel, as far as its measures have them in common."""
    looks = [_panel(name) for name in names]
    *first, last = [looks[0].title, *(look.title.lower() for look in looks[1:])]
    axes.set_title(title_lines(" and ".join(filter(None, (", ".join(first), last)))))
    if len({look.unit for look in looks}) == 1:
        axes.set_ylabel(looks[0].unit)
    if all(look.limits for look in looks):
        heights = [float(height) for line in axes.get_lines() for height in np.asarray(line.get_ydata())]
        bounds = [bound for look in looks if (bound := limits(look, heights))]
        axes.set_ylim(min(low for low, _high in bounds), max(high for _low, high in bounds))
