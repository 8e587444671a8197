"""Pictures of a run: attention pages, curves, heat maps and reports.

`attention_view` and `write_report` are the two to start with. matplotlib, plotly and jinja2 are imported when the first
picture is made. Nothing here needs the network. What is measured, and not drawn, is in `plateau_interp.analysis`.

* Figures: `curves` and `maps` are those for papers, `interactive` the curves to zoom into, `series_figures` measures of
  checkpoints. `theme` is colours and type, `panels` titles and units of columns, `labels` words in a panel and below
  it; `saving` makes files and inline pictures.
* Circuits: `circuit_views` makes a page of one, `circuit_figures` draws it, or hands it to networkx and GraphViz;
  `circuit_report` writes the folder of `plateau circuit`, and what a run's report has of it.
* Attention: `attention_views` makes a view, `series_attention` that of a series, `readings` are the numbers that it
  holds, `page` puts views on a page.
* Answers: `grid_views` shows those that are grids of numbers beside what is right.
* Reports: `report` writes that of runs, from `report_words`, `report_curves` and `report_maps`; `series_report` that of
  checkpoints. By `whose` a page is known again as that of the same runs.
"""

from plateau_interp.analysis.collapse import cosine_matrices
from plateau_interp.views.attention_views import attention_view
from plateau_interp.views.circuit_figures import circuit_figure, circuit_graph, graphviz
from plateau_interp.views.circuit_views import CircuitView, circuit_page, circuit_view
from plateau_interp.views.curves import curves_figure
from plateau_interp.views.grid_views import GridView, grid_view
from plateau_interp.views.interactive import interactive_curves, save_interactive
from plateau_interp.views.maps import cosine_figure, effect_figure, grid_figure, pattern_figure, position_figure
from plateau_interp.views.page import Page, side_by_side
from plateau_interp.views.panels import Panel
from plateau_interp.views.readings import AttentionView
from plateau_interp.views.report import write_report
from plateau_interp.views.saving import save_figure
from plateau_interp.views.theme import DARK, LIGHT, Theme

__all__ = [
    "DARK",
    "LIGHT",
    "AttentionView",
    "CircuitView",
    "GridView",
    "Page",
    "Panel",
    "Theme",
    "attention_view",
    "circuit_figure",
    "circuit_graph",
    "circuit_page",
    "circuit_view",
    "cosine_figure",
    "cosine_matrices",
    "curves_figure",
    "effect_figure",
    "graphviz",
    "grid_figure",
    "grid_view",
    "interactive_curves",
    "pattern_figure",
    "position_figure",
    "save_figure",
    "save_interactive",
    "side_by_side",
    "write_report",
]
