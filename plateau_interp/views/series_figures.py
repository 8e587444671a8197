"""Measures of checkpoints against the step of pretraining, on a logarithmic axis; several series over each other.

For the curves of a run of ours, measured while it trains, see `plateau_interp.views.curves`.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from plateau_interp.checks import nearest, shown
from plateau_interp.views.curves import PANEL_SIZE
from plateau_interp.views.theme import LIGHT, Theme, figure_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["MEASURES", "drawn_rows", "series_figure"]

MEASURES: Mapping[str, tuple[str, str]] = {
    "cosine": ("Collapse of hidden states", "mean cosine"),
    "cosine_across_prompts": ("Likeness of different prompts", "mean cosine"),
    "repetition": ("Repetition", "share of neighbours that are equal"),
    "distinct_tokens": ("Distinct tokens", "share"),
    "entropy": ("Entropy of a continuation", "nats"),
    "held_out_loss": ("Held-out loss", "nats a token"),
    "teacher_forced_cosine": ("Cosine while reading a text", "mean cosine"),
}
"""What a measure's panel is called, and its unit."""
DASHES = ("-", "--", ":", "-.")


def drawn_rows(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    """The rows of a series that are data: no checkpoint with another's weights, none without a number.

    Example:
        >>> rows = {"step": [0, 1, 2], "duplicate": [True, True, False], "cosine": [0.1, 0.1, 0.9]}
        >>> list(drawn_rows(pd.DataFrame(rows), "cosine")["step"])
        [2]
    """
    if measure not in table:
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
    for table in tables.values():
        if not isinstance(table, pd.DataFrame):
            raise ValueError(
                f"a series is drawn from its table, such as SeriesFolder(path).metrics(); got {shown(table)}"
            )
    for name in names:
        if not any(len(drawn_rows(table, name)) for table in tables.values()):
            there = {str(column) for table in tables.values() for column in table.select_dtypes("number")}
            raise ValueError(f"no checkpoint has a number of {name!r} that is data; {nearest(name, sorted(there))}")
    with matplotlib.rc_context(figure_style(theme)):
        figure = Figure(figsize=PANEL_SIZE, layout="constrained")
        axes = figure.subplots()
        for index, (series_name, table) in enumerate(tables.items()):
            for number, name in enumerate(names):
                rows = drawn_rows(table, name)
                colour = theme.nth(index if len(tables) > 1 else number)
                label = " ".join(filter(None, (series_name, MEASURES.get(name, (name,))[0] if len(names) > 1 else "")))
                axes.plot(
                    rows["step"],
                    rows[name],
                    linestyle=DASHES[number % len(DASHES)],
                    color=colour,
                    marker="o",
                    markersize=3.5,
                    label=label,
                )
        _name(axes, names)
        # Step 0 is a checkpoint, too: below 1 the axis is linear.
        axes.set_xscale("symlog", linthresh=1, linscale=0.4)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _position: f"{step:,.0f}"))
        axes.set_xlim(left=-0.1)
        axes.set_xlabel("step of pretraining")
        if len(names) > 1 or len(tables) > 1:
            axes.legend()
        return figure


def _name(axes: Any, names: Sequence[str]) -> None:
    titles = [MEASURES.get(name, (name.replace("_", " "), ""))[0] for name in names]
    units = {MEASURES.get(name, ("", ""))[1] for name in names}
    axes.set_title(" and ".join([titles[0], *(title.lower() for title in titles[1:])]))
    if len(units) == 1:
        axes.set_ylabel(units.pop())
