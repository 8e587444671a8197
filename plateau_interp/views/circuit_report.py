"""What is written about circuits that were measured: the folder of `plateau circuit`, and parts of a run's report.

The page is one file that needs no network; beside it lie still pictures, as SVG and PNG, and the numbers as tables. The
circuits themselves are those of `plateau_interp.runs.kept_circuits`.
"""

import os
import re
from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import quote

import pandas as pd

from plateau_interp.analysis.circuits import Circuit
from plateau_interp.analysis.forming import Forming
from plateau_interp.checks import listed
from plateau_interp.files import check_file, check_folder, names_in, write_atomically, write_table
from plateau_interp.folders import check_place
from plateau_interp.runs.identity import recipe_digest
from plateau_interp.runs.kept_circuits import kept_circuits
from plateau_interp.views.circuit_figures import N_DRAWN, circuit_figure
from plateau_interp.views.circuit_views import circuit_page, circuit_view
from plateau_interp.views.curves import curves_figure
from plateau_interp.views.page import CONTENT_POLICY, Page
from plateau_interp.views.panels import SHARE, Panel, Panels
from plateau_interp.views.report_curves import OVERLAID, Drawing
from plateau_interp.views.report_maps import Section
from plateau_interp.views.saving import Draw, save_figure
from plateau_interp.views.theme import LIGHT, Theme
from plateau_interp.views.whose import check_same_owners, owners_mark

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from plateau_interp.runs.run import Run

__all__ = [
    "CIRCUIT_PANELS",
    "Formed",
    "beside_progress",
    "check_shared_folder",
    "circuit_sections",
    "circuits_of",
    "compared_edges",
    "overlap_drawings",
    "write_circuit_report",
]

CIRCUIT_PANELS: Panels = MappingProxyType(
    {
        "circuit_overlap": Panel("Overlap with the last circuit", "share of the largest edges", SHARE),
        "circuit_rank": Panel("Likeness to the last circuit", "rank correlation of scores", (-1.05, 1.05)),
        "answer_difference": Panel("Clean against corrupted answer", "difference of logits"),
    }
)
"""Panels of the columns of `plateau_interp.analysis.forming.Forming.metrics`."""
FEW = 5
"""Of a small model so many edges are compared: a tenth of thirteen edges is one, which is the same or not."""
MOST_SECTIONS = 4
"""Runs whose circuits stand in one report."""
OF_CIRCUITS = "Picture of plateau circuit"
"""The title inside the pictures of several runs, by which those of an earlier page are known."""
OF_SEVERAL = "<title>Circuits of "
PICTURE = re.compile(r"(circuit-\d+|forming)\.(svg|png)")


@dataclass(frozen=True, eq=False)
class Formed:
    """A run, what it is called, and its circuits through training.

    Attributes:
        name: on pages and in pictures.
        run: with checkpoints.
        forming: its circuits.
        page: the page that was written about them, if any.
    """

    name: str
    run: "Run"
    forming: Forming
    page: Path | None = None

    @property
    def last(self) -> Circuit:
        """The circuit at the last step that was measured."""
        return self.forming.circuits[-1]

    @property
    def metrics(self) -> pd.DataFrame:
        """The metrics of the run and of its circuits, by step."""
        found = self.forming.metrics(n=compared_edges(self.last))
        metrics = self.run.metrics
        return found if metrics.empty else metrics.merge(found, on="step", how="outer", sort=True)


def compared_edges(found: Circuit) -> int:
    """How many of the largest edges are compared with those of another circuit: a tenth, but five of a small model."""
    return min(found.n_edges, max(FEW, found.n_edges // 10))


def write_circuit_report(formed: Sequence[Formed], out: Path, *, n: int = N_DRAWN) -> Path:
    """Write the page, the pictures and the tables of circuits through training.

    ``index.html`` has the circuit with a slider over the steps and the attention of every layer; of several runs their
    circuits side by side, with one scale and one slider. ``circuit.svg`` and ``.png`` are the last circuit, and
    ``forming.svg`` and ``.png`` its overlap with those before, beside the loss. ``edges.parquet`` has a row a step and
    edge, ``metrics.parquet`` one a step. Of several runs there is a picture each, ``circuit-1.svg`` and so on, and the
    tables have a column ``run``.

    Args:
        formed: one run's circuits, or several runs'.
        out: the folder.
        n: edges of the still pictures, at most.

    Returns:
        Path of ``index.html``.

    Raises:
        ValueError: if there is no run; if the folder is a file, or lies in another of ours, which has no such place; of
            several runs as `check_shared_folder`, and if the folder holds the circuits of others.
    """
    if not formed:
        raise ValueError("there is no circuit to draw")
    check_folder(out)
    check_place(out, "circuits", of=[one.run.path for one in formed])
    digests = [recipe_digest(one.run.recipe) for one in formed]
    html = _page(formed).html
    if len(formed) > 1:
        check_shared_folder(out)
        check_same_owners(out, digests, written="circuits of other runs")
        html = html.replace("<head>", f"<head>{owners_mark(digests)}", 1)
    # The page comes first: by it the folder is known, also where a kill left no time for the rest.
    page = out / "index.html"
    check_file(page)
    write_atomically(page, html)
    stems = set[str]()
    for number, one in enumerate(formed, start=1):
        name = f"circuit-{number}" if len(formed) > 1 else "circuit"
        _write_figure(partial(_last_figure, one, n=n, titled=len(formed) > 1), out / name)
        stems.add(name)
    if all(len(one.forming.steps) > 1 for one in formed) and len(formed) <= OVERLAID:
        _write_figure(partial(_forming_figure, formed), out / "forming")
        stems.add("forming")
    write_table(out / "edges.parquet", _stacked(formed, [one.forming.table() for one in formed]))
    metrics = [one.forming.metrics(n=compared_edges(one.last)) for one in formed]
    write_table(out / "metrics.parquet", _stacked(formed, metrics))
    if len(formed) > 1:
        _remove_earlier(out, stems)
    return page


def check_shared_folder(out: Path) -> None:
    """Refuse a folder in which a page of several runs would be written beside, or over, what is not its own.

    Raises:
        ValueError: naming what is there.
    """
    page = out / "index.html"
    text = page.read_text(encoding="utf-8", errors="replace") if page.is_file() else ""
    if (there := names_in(out)) and not (CONTENT_POLICY in text and OF_SEVERAL in text):
        raise ValueError(f"{out} holds other things: {listed(there)}; take another folder")


def circuits_of(runs: "Sequence[Run]", names: Sequence[str]) -> list[Formed]:
    """Those of the runs whose circuits were measured, in their own folders.

    Raises:
        ValueError: naming a folder or file that is not what was written.
    """
    there = [(name, run, kept_circuits(run)) for name, run in zip(names, runs, strict=True)]
    pages = [(name, run, kept, kept.path / "index.html") for name, run, kept in there if kept is not None]
    return [Formed(name, run, kept.forming(), page if page.is_file() else None) for name, run, kept, page in pages]


def overlap_drawings(formed: Sequence[Formed]) -> list[Drawing]:
    """How alike the circuits are to the last, for the curves of a report; none where one step alone was measured."""
    drawn = [one for one in formed if len(one.forming.steps) > 1][:OVERLAID]
    if not drawn:
        return []
    draw = partial(_curves_figure, drawn, ["circuit_overlap"])
    of = f" Of {listed([one.name for one in drawn])}." if len(drawn) > 1 else ""
    sizes = dict.fromkeys((compared_edges(one.last), one.last.n_edges) for one in drawn)
    chance = " or ".join(f"{n} of {n_edges} edges: {n / n_edges:.2f} by chance" for n, n_edges in sizes)
    caption = f"Which share of the largest edges of the last circuit are the largest already; {chance}.{of}"
    return [Drawing("circuit_overlap", draw, caption)]


def beside_progress(drawings: Sequence[Drawing], more: Sequence[Drawing]) -> list[Drawing]:
    """The drawings of a report with more of them after attention progress; at the end where that was not measured."""
    places = [index for index, drawing in enumerate(drawings, start=1) if drawing.name == "attention_progress"]
    place = places[0] if places else len(drawings)
    return [*drawings[:place], *more, *drawings[place:]]


def circuit_sections(formed: Sequence[Formed], folder: Path) -> list[Section]:
    """The last circuit of each run as a still, with a link to its page, for a report that lies in ``folder``."""
    sections = []
    for number, one in enumerate(formed[:MOST_SECTIONS], start=1):
        several = len(formed) > 1
        draw = partial(_last_figure, one, n=N_DRAWN, titled=False)
        last = one.last
        caption = (
            f"The largest edges at step {one.forming.steps[-1]}: how much less sure of the answer the model is when an "
            f"edge alone is cut. The answer's logit is {last.clean:.2f} above that of the corrupted prompt's answer; "
            f"{last.ablated:.2f} with every edge cut."
        )
        href = "" if one.page is None else quote(os.path.relpath(one.page, folder).replace(os.sep, "/"))
        links = [("Circuit through training", href)] if href else []
        name, title = (f"circuit-{number}", f"Circuit of {one.name}") if several else ("circuit", "Circuit")
        sections.append(Section(title, name, draw, [draw], caption, links=links))
    return sections


def _page(formed: Sequence[Formed]) -> Page:
    if len(formed) == 1:
        (one,) = formed
        return circuit_page(one.run, one.forming, title=f"Circuit of {one.name}")
    views = [circuit_view(one.forming, title=one.name, run=one.run) for one in formed]
    return Page(views, title=f"Circuits of {', '.join(one.name for one in formed)}")


def _last_figure(one: Formed, *, n: int, titled: bool, theme: Theme = LIGHT) -> "Figure":
    title = f"{one.name}, step {one.forming.steps[-1]}" if titled else f"step {one.forming.steps[-1]}"
    return circuit_figure(one.last, n=min(n, one.last.n_edges), title=title, theme=theme)


def _forming_figure(formed: Sequence[Formed], *, theme: Theme = LIGHT) -> "Figure":
    measured = ("loss", "attention_progress", "answer_difference", "circuit_overlap")
    columns = [name for name in measured if all(name in one.metrics for one in formed)]
    return _curves_figure(formed, columns, theme=theme)


def _curves_figure(formed: Sequence[Formed], columns: Sequence[str], *, theme: Theme = LIGHT) -> "Figure":
    curves = formed[0].metrics if len(formed) == 1 else {one.name: one.metrics for one in formed}
    drops = [None if one.run.metrics.empty else one.run.summary.drop_step for one in formed]
    return curves_figure(curves, columns, drops=drops, panels=CIRCUIT_PANELS, theme=theme)


def _write_figure(draw: Draw, stem: Path) -> None:
    for ending in ("svg", "png"):
        save_figure(draw(theme=LIGHT), stem.with_name(f"{stem.name}.{ending}"), title=OF_CIRCUITS)


def _remove_earlier(out: Path, stems: Container[str]) -> None:
    """Remove pictures that an earlier page of other runs had beside it, and that this one has not."""
    for file in out.iterdir():
        name = PICTURE.fullmatch(file.name)
        if name and name[1] not in stems and file.is_file() and OF_CIRCUITS.encode() in file.read_bytes()[:2000]:
            file.unlink()


def _stacked(formed: Sequence[Formed], tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One table; of several runs with their names in front."""
    if len(tables) == 1:
        return tables[0]
    named = [table.assign(run=one.name)[["run", *table.columns]] for one, table in zip(formed, tables, strict=True)]
    return pd.concat(named, ignore_index=True)
