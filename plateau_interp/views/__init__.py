"""Pictures of a run: attention pages, curves and reports.

`attention_view` and `write_report` are the two to start with; `plateau_interp.views.curves` has the figures for papers
and `plateau_interp.views.interactive` the curves to zoom into. matplotlib, plotly and jinja2 are imported when the
first picture is made. Nothing here needs the network.
"""

from plateau_interp.views.attention import AttentionView, attention_view
from plateau_interp.views.collapse import cosine_matrices
from plateau_interp.views.curves import (
    cosine_figure,
    curves_figure,
    effect_figure,
    pattern_figure,
    position_figure,
    save_figure,
)
from plateau_interp.views.interactive import interactive_curves, save_interactive
from plateau_interp.views.page import Page, side_by_side
from plateau_interp.views.report import write_report

__all__ = [
    "AttentionView",
    "Page",
    "attention_view",
    "cosine_figure",
    "cosine_matrices",
    "curves_figure",
    "effect_figure",
    "interactive_curves",
    "pattern_figure",
    "position_figure",
    "save_figure",
    "save_interactive",
    "side_by_side",
    "write_report",
]
