"""Reports: one page about one or several runs, with what was measured in words, figures and a table.

The page is one file that needs no network; each figure is also a PNG beside it. `plateau report` calls `write_report`.
The parts are `plateau_interp.views.report_words`, `report_curves`, `report_maps` and `circuit_report`; the layout is
``report.html.jinja`` and ``report.css``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from plateau_interp.analysis.observing import Checkpointed
from plateau_interp.checks import as_path, shown
from plateau_interp.files import check_folder
from plateau_interp.folders import REPORT, check_place
from plateau_interp.runs.identity import recipe_digest
from plateau_interp.views.circuit_report import beside_progress, circuit_sections, circuits_of, overlap_drawings
from plateau_interp.views.page import ASSETS, check_report_folder, report_document, write_report_page
from plateau_interp.views.report_curves import curve_drawings, not_drawn
from plateau_interp.views.report_maps import map_sections
from plateau_interp.views.report_words import (
    facts,
    histories,
    lede,
    measured_rows,
    run_headline,
    run_names,
    setting,
    task_name,
)
from plateau_interp.views.saving import page_picture, report_picture, themed_svg
from plateau_interp.views.theme import LIGHT
from plateau_interp.views.whose import check_same_owners

if TYPE_CHECKING:
    from plateau_interp.runs.run import Run

__all__ = ["write_report"]


def write_report(runs: "Run | Sequence[Run]", out: str | Path | None = None) -> Path:
    """Write the report of a run, or of several runs together.

    Args:
        runs: one run with at least one measured step, or several; they should be of one task.
        out: the folder to write to; by default ``report/`` in the run's own folder. Needed for several runs.

    Returns:
        Path of ``index.html``. Beside it lies a PNG of each figure.

    Raises:
        ValueError: for what is no run; if a run has no measured step yet, there is no run, or ``out`` is missing for
            several runs; if the folder is a file, or a link in the place of a run's own, holds a file of these names
            that no report wrote or a report of other runs, or lies in another folder of ours, which has no such place.

    Example:
        >>> from plateau_interp import Run
        >>> write_report(Run("runs/mws"))  # doctest: +SKIP
        PosixPath('runs/mws/report/index.html')
    """
    listed = list(runs) if isinstance(runs, Sequence) and not isinstance(runs, str) else [runs]
    if not listed:
        raise ValueError("there is no run to report")
    for run in listed:
        if not isinstance(run, Checkpointed):
            raise ValueError(f"runs must be a Run, such as Run('runs/mws'), or several; got {shown(run)}")
    if out is None and len(listed) > 1:
        raise ValueError("a report of several runs needs a folder of its own: give out=...")
    for run in listed:
        if run.metrics.empty:
            raise ValueError(f"{run.path} has no measured step yet: there is nothing to report")
    folder = listed[0].path / REPORT if out is None else as_path(out)
    check_folder(folder)
    check_place(folder, "report", of=[run.path for run in listed])
    check_same_owners(folder, [recipe_digest(run.recipe) for run in listed], written="a report of other runs")
    page, pictures = _compose(listed, folder)
    check_report_folder(folder, pictures)
    return write_report_page(folder, page, pictures)


def _compose(runs: "list[Run]", folder: Path) -> tuple[str, dict[str, bytes]]:
    """The page, and the PNGs by name."""
    import jinja2

    names = run_names(runs)
    summaries = [run.summary for run in runs]
    circuits = circuits_of(runs, names)
    drawings = beside_progress(curve_drawings(runs, names, summaries), overlap_drawings(circuits))
    sections = [*map_sections(runs, names, summaries), *circuit_sections(circuits, folder)]
    drawn = {drawing.name: page_picture(drawing.draw, drawing.name) for drawing in drawings}
    pictures = {name: png for name, (_svg, png) in drawn.items()}
    pictures |= {section.name: report_picture(section.whole(theme=LIGHT), section.name) for section in sections}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ASSETS), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    task = task_name(runs)
    body = environment.get_template("report.html.jinja").render(
        task=task,
        names=names,
        headline=run_headline(runs, summaries),
        lede=lede(runs, summaries),
        facts=facts(runs, summaries),
        figures=drawings,
        not_drawn=not_drawn(runs),
        maps=sections,
        table=histories(runs) + measured_rows(summaries),
        recipes=[(name, setting(run), run.recipe.to_json()) for name, run in zip(names, runs, strict=True)],
        curve=lambda name: drawn[name][0],
        still=themed_svg,
    )
    page = report_document(
        body,
        title=f"{task}: {', '.join(names)}",
        owners=[recipe_digest(run.recipe) for run in runs],
        styles=["report.css"],
        viewed=any(section.view for section in sections),
    )
    return page, pictures
