"""Curves to zoom into and hover over, offline: plotly figures of what `plateau_interp.views.curves` draws."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from plateau_interp.checks import as_path
from plateau_interp.files import check_file, write_atomically
from plateau_interp.types import Levels
from plateau_interp.views.curves import Curves, check_columns, level_lines, lines, title
from plateau_interp.views.panels import NO_MORE, Panels, panel
from plateau_interp.views.theme import LIGHT

if TYPE_CHECKING:
    import plotly.graph_objects

__all__ = ["interactive_curves", "save_interactive"]


def interactive_curves(
    curves: Curves,
    columns: Sequence[str] = ("loss", "accuracy"),
    *,
    levels: Levels | None = None,
    drops: Sequence[int | None] = (),
    panels: Panels = NO_MORE,
) -> "plotly.graph_objects.Figure":
    """One panel a column, one below the other with a common step axis; hovering shows all values of a step.

    Args:
        curves: metrics of one run, of several seeds, or of named groups.
        columns: what to draw.
        levels: closed-form losses, drawn into the loss panel.
        drops: steps of the drop, marked in each panel.
        panels: titles and units of columns that are not the meter's.

    Raises:
        ValueError: if there is no run, or a column was not measured.

    Example:
        >>> import pandas as pd
        >>> figure = interactive_curves(pd.DataFrame({"step": [0, 1], "loss": [2.9, 1.3]}), ["loss"])
        >>> len(figure.data)
        1
    """
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    check_columns(columns)
    drawn = [lines(curves, column) for column in columns]
    titles = [title(column, some, panels) for column, some in zip(columns, drawn, strict=True)]
    named: set[str] = set()
    figure = make_subplots(rows=len(columns), cols=1, shared_xaxes=True, vertical_spacing=0.09, subplot_titles=titles)
    for row, (column, some) in enumerate(zip(columns, drawn, strict=True), start=1):
        for line in some:
            values, colour = line.values, LIGHT.nth(line.series)
            name = line.label or (f"validation {column}" if line.dashed else column)
            shown = {"legendgroup": name, "showlegend": line.label not in {"", *named}, "name": name}
            named.add(line.label)
            if values.n_runs > 1:
                for bound, fill in (
                    (values.mean - values.deviation, None),
                    (values.mean + values.deviation, "tonexty"),
                ):
                    band = {"mode": "lines", "line_width": 0, "hoverinfo": "skip", "showlegend": False}
                    faint = f"rgba({int(colour[1:3], 16)},{int(colour[3:5], 16)},{int(colour[5:7], 16)},0.2)"
                    trace = go.Scatter(x=values.step, y=bound, fill=fill, fillcolor=faint, legendgroup=name, **band)
                    figure.add_trace(trace, row=row, col=1)
            style = {"color": colour, "width": 1.3 if line.thin else 2, "dash": "dash" if line.dashed else "solid"}
            mode = "lines" if len(values.step) > 1 else "markers"  # one measured step has no line
            trace = go.Scatter(x=values.step, y=values.mean, mode=mode, line=style, marker={"color": colour}, **shown)
            figure.add_trace(trace, row=row, col=1)
        if column == "loss":
            for name, level in level_lines(levels):
                text = {"annotation_text": f"{name} {level:.4f}", "annotation_position": "top right"}
                figure.add_hline(level, line_dash="dot", line_color=LIGHT.muted, row=row, col=1, **text)
        figure.update_yaxes(title_text=panel(column, panels).unit, row=row, col=1)
    for drop in {drop for drop in drops if drop is not None}:
        figure.add_vline(drop, line_color=LIGHT.other, line_width=1)
    figure.update_xaxes(title_text="training step", row=len(columns), col=1)
    figure.update_layout(template="plotly_white", hovermode="x unified", height=300 * len(columns) + 60)
    return figure


def save_interactive(figure: "plotly.graph_objects.Figure", path: str | Path) -> Path:
    """Write an interactive figure as one HTML file (about 5 MB: plotly travels with it) that works with no network.

    Raises:
        ValueError: for what is no path, and for one of a folder or below a file.
    """
    path = as_path(path, "the path of a file, such as 'runs/curves.html'")
    check_file(path)
    content = figure.to_html(include_plotlyjs=True, full_html=True, config={"displaylogo": False})
    write_atomically(path, content)
    return path
