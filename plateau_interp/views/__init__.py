"""Pictures of a run: attention pages, curves and reports.

`attention_view` and `write_report` are the two to start with. matplotlib, plotly and jinja2 are imported when the first
picture is made. Nothing here needs the network.
"""

from plateau_interp.views.attention import AttentionView, attention_view
from plateau_interp.views.page import Page, side_by_side

__all__ = ["AttentionView", "Page", "attention_view", "side_by_side"]
