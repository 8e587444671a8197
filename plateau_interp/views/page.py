"""Pages that hold attention views: one copy of the JavaScript, no network, all text escaped.

Used by `plateau_interp.views.readings` and the report; call those. The emitter is our own because CircuitsVis's asks
the internet whether it is online each time a view is shown, puts a copy of its 1.3 MB into each view, and lets a token
that holds ``</script>`` break out of it.
"""

import base64
import errno
import importlib.util
import json
import math
import os
import secrets
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from plateau_interp.checks import as_path, listed, shown
from plateau_interp.files import check_file, write_atomically
from plateau_interp.views.saving import report_mark
from plateau_interp.views.theme import LIGHT, MASKED, page_variables, view_variables
from plateau_interp.views.whose import owners_mark

__all__ = [
    "ASSETS",
    "CARRIER",
    "CONTENT_POLICY",
    "PICTURES_ARE_MARKED",
    "Carrier",
    "Page",
    "View",
    "bundle",
    "check_report_folder",
    "document",
    "executing_cell",
    "packed",
    "report_document",
    "report_pictures",
    "script_json",
    "side_by_side",
    "write_report_page",
]

ASSETS = Path(__file__).parent
"""Where scripts, styles and templates of pages lie."""

SCRIPTS = ("tools.js", "circuit.js", "grid.js", "attention.js")
"""The last one mounts the views, by what the others define."""
STYLES = ("attention.css", "circuit.css", "grid.css")

CONTENT_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
"""The browser itself refuses any request from a saved page."""

PICTURES_ARE_MARKED = f"<!-- {report_mark('NAME')}: so each PNG beside it is titled -->"
"""In the head of reports; those of earlier versions lie beside pictures that do not say whose they are."""

PAGE_STYLE = """
:root { color-scheme: light dark; }
body { margin: 0; padding: clamp(16px, 3vw, 40px); background: var(--ground); color: var(--ink); }
"""

_FIGURE_STYLE = """
.on-dark { display: none; }
@media (prefers-color-scheme: dark) { .on-light { display: none; } .on-dark { display: block; } }
.on-light text, .on-dark text { font-family: var(--sans) !important; }
"""
"""For pages that hold each figure twice (`saving.themed_svg`): one is shown, by the ground, in the page's type."""


@dataclass(frozen=True, eq=False)
class Page:
    """Views on one page, side by side where there is room; show it in a notebook or `save` it.

    Args:
        views: attention and circuit views, in reading order.
        title: of the saved page.
        linked: move the views that have steps together, and give readings of one kind the same colour scale.

    Raises:
        ValueError: for a page without views, and for what is none.

    Example:
        >>> import torch
        >>> from plateau_interp.views import attention_view
        >>> page = Page([attention_view(torch.eye(3)[None]), attention_view(torch.ones(1, 3, 3))])
        >>> page.html.count("CircuitsVis=(()")
        1
    """

    views: Sequence["View"] = field(repr=False)
    title: str = "Attention"
    linked: bool = True

    def __post_init__(self) -> None:
        if not self.views:
            raise ValueError("a page needs at least one view; got none")
        for view in self.views:
            if not isinstance(view, View):
                raise ValueError(f"a page holds views, such as attention_view(run); got {shown(view)}")

    @property
    def html(self) -> str:
        """The whole page: one file that works with no network."""
        return document(bundle() + self.fragment("view"), title=self.title)

    def fragment(self, name: str) -> str:
        """The views alone, for a page that holds `bundle` already; ``name`` must be unique on that page."""
        specs = [view.spec() for view in self.views]
        if self.linked and len(specs) > 1:
            _link(specs, name)
        parts = [
            _embedded(spec, view.still(), f"{name}-{n}")
            for n, (spec, view) in enumerate(zip(specs, self.views, strict=True))
        ]
        return "".join(parts) if len(parts) == 1 else f'<div class="pv-pair">{"".join(parts)}</div>'

    def save(self, path: str | Path) -> Path:
        """Write the page as one HTML file, whole or not at all; returns its path.

        Raises:
            ValueError: for what is no path, and for one of a folder or below a file.
        """
        path = as_path(path, "the path of a file, such as 'runs/attention.html'")
        check_file(path)
        write_atomically(path, self.html)
        return path

    def _repr_html_(self) -> str:
        return _notebook_bundle() + self.fragment(f"view-{secrets.token_hex(4)}")


class View(ABC):
    """What stands on a page by itself or with others: plain data for the front end, and a still picture.

    Attributes:
        title: first line.
    """

    title: str

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """The plain data that the front end draws."""

    @abstractmethod
    def still(self) -> str:
        """A picture as HTML, for where no script runs."""

    @property
    def html(self) -> str:
        """One whole page that works with no network."""
        return Page([self], title=self.title).html

    def save(self, path: str | Path) -> Path:
        """Write the view as one HTML file that works with no network; returns its path."""
        return Page([self], title=self.title).save(path)

    def _repr_html_(self) -> str:
        return Page([self])._repr_html_()


def packed(values: np.ndarray) -> dict[str, Any]:
    """Numbers as integers in base64, for a page: four decimals at least, fewer of what is above 100,000.

    What is below 1e-300 is 0.

    Example:
        >>> packed(np.array([0.5, -1.0]))
        {'data': 'iBPw2A==', 'bits': 16, 'decimals': 4}
    """
    most = float(np.abs(values).max(initial=0.0))
    digits = math.floor(math.log10(most)) if most else 0
    decimals = min(max(4, 3 - digits), 300, 8 - digits)  # 10.0**309 overflows, and so do integers of 32 bits
    whole = np.rint(values * 10.0**decimals)
    small = np.abs(whole).max(initial=0) <= np.iinfo(np.int16).max
    data = base64.b64encode(whole.astype("<i2" if small else "<i4").tobytes()).decode()
    return {"data": data, "bits": 16 if small else 32, "decimals": decimals}


def side_by_side(*views: View, title: str = "Attention") -> Page:
    """Views next to each other, with one slider and the same colour scales: a run and its fork, or two checkpoints.

    Example:
        >>> import torch
        >>> from plateau_interp.views import attention_view
        >>> side_by_side(attention_view(torch.eye(3)[None]), attention_view(torch.ones(1, 3, 3))).title
        'Attention'
    """
    return Page(views, title=title)


def report_document(body: str, *, title: str, owners: Sequence[str], styles: Sequence[str], viewed: bool) -> str:
    """The whole page of a report.

    Args:
        body: HTML.
        title: text.
        owners: digests of the recipes of what it tells of.
        styles: names of its style sheets among the assets.
        viewed: whether there is a view in it, so that it needs the `bundle`.
    """
    style = _FIGURE_STYLE + "".join((ASSETS / name).read_text(encoding="utf-8") for name in styles)
    whole = (bundle() if viewed else "") + body
    return document(whole, title=title, style=style, head=PICTURES_ARE_MARKED + owners_mark(owners))


def document(body: str, *, title: str, style: str = "", head: str = "") -> str:
    """A whole HTML page around a body that is HTML already, as ``head`` is; ``title`` is text."""
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{page_variables()}{PAGE_STYLE}{style}</style></head>\n<body>{body}</body></html>\n"
    )


def check_report_folder(folder: Path, pictures: Iterable[str]) -> None:
    """Refuse a folder in which a report would write over what no report wrote.

    Args:
        folder: where it is to go.
        pictures: their names, without the ending.

    Raises:
        ValueError: naming the files.
    """
    page, files = folder / "index.html", [folder / f"{picture}.png" for picture in pictures]
    is_report = _is_report(page)
    if is_report and PICTURES_ARE_MARKED not in page.read_text(encoding="utf-8", errors="replace"):
        return  # an earlier version's, whose pictures do not say whose they are
    ours = [file for file in (page, *files) if _is_of_a_report(file)]
    theirs = [file for file in (page, *files) if file.exists() and file not in ours]
    if not is_report and len(ours) < len(files):
        theirs = theirs or ours  # a report writes its page first: some of its pictures without it are somebody's copies
    if theirs:
        names = listed([file.name for file in theirs])
        raise ValueError(f"{folder} holds {names}, of no report there: move it, or take another folder")


def write_report_page(folder: Path, page: str, pictures: Mapping[str, bytes]) -> Path:
    """Write a report, ``index.html`` and its PNGs by name; returns the page.

    The page comes first: by it the folder is known as a report's, also where a kill left no time for the pictures. What
    an earlier report had and this one has not is removed.

    Raises:
        IsADirectoryError: naming what is a folder and should become a file; nothing is written then.
    """
    files: dict[Path, str | bytes] = {folder / "index.html": page}
    files |= {folder / f"{name}.png": picture for name, picture in pictures.items()}
    for file in files:
        if file.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
    for file, content in files.items():
        write_atomically(file, content)
    for picture in set(report_pictures(folder)) - {*files}:
        picture.unlink()
    return next(iter(files))


def report_pictures(folder: Path) -> list[Path]:
    """The PNGs of the report in a folder, and none of somebody's, nor a copy of one of them under another name."""
    return [file for file in sorted(folder.glob("*.png")) if _is_of_a_report(file)]


def _is_report(page: Path) -> bool:
    """Whether a page is a report of ours, of an earlier version too: their templates have these numbers on top."""
    marks = (CONTENT_POLICY, '<dl class="facts">')
    return page.is_file() and all(mark in page.read_text(encoding="utf-8", errors="replace") for mark in marks)


def _is_of_a_report(file: Path) -> bool:
    """Whether a file is a report's page, or one of its pictures under the very name that it was written as."""
    if not file.is_file():
        return False
    if file.suffix != ".png":
        return _is_report(file)
    with file.open("rb") as stream:
        return report_mark(file.stem).encode() in stream.read(1000)


@cache
def bundle() -> str:
    """CircuitsVis, our front end and its style, as HTML for one place on a page (1.3 MB).

    Raises:
        ModuleNotFoundError: if circuitsvis is not installed.
    """
    spec = importlib.util.find_spec("circuitsvis")  # importing it would import torch and more
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("attention views need circuitsvis: pip install circuitsvis")
    library = (Path(spec.origin).parent / "dist" / "cdn" / "iife.js").read_text(encoding="utf-8")
    # Closing and opening script tags occur inside JavaScript strings only, where this spelling means the same.
    library = library.replace("</script", "\\x3c/script").replace("<script", "\\x3cscript").replace("<!--", "\\x3c!--")
    front = "".join((ASSETS / name).read_text(encoding="utf-8") for name in SCRIPTS)
    styles = [(ASSETS / name).read_text(encoding="utf-8") for name in STYLES]
    style = view_variables() + "".join(styles)
    colours = script_json({"positive": LIGHT.accent, "negative": LIGHT.other, "masked": MASKED})
    # A page with an AMD loader (exported notebooks) would catch the library's parts; `define` is hidden from them.
    library = library.partition("//# sourceMappingURL")[0]
    library = f"window.CircuitsVis||(function(define){{{library};window.CircuitsVis=CircuitsVis}})();"
    return f"<style>{style}</style><script>{library}</script><script>window.plateauColours={colours};{front}</script>"


def script_json(data: object) -> str:
    r"""JSON that is safe inside a script element: nothing in it can close the element.

    Example:
        >>> print(script_json("</script>"))
        "\u003c/script>"
    """
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _embedded(spec: dict[str, Any], still: str, name: str) -> str:
    return (
        f'<div class="pv" data-plateau-view="{name}">{still}</div>'
        f"<script>(window.plateauViews=window.plateauViews||[]).push({script_json({**spec, 'id': name})})</script>"
    )


def _link(specs: list[dict[str, Any]], group: str) -> None:
    for spec in specs:
        spec["group"] = group
    circuits = [spec for spec in specs if "widest" in spec]
    for spec in circuits:
        spec["widest"] = max(one["widest"] for one in circuits)
    everything = [reading for spec in specs for reading in spec["readings"]]
    for kind in {reading["kind"] for reading in everything}:
        readings = [reading for reading in everything if reading["kind"] == kind]
        shared = max(reading["range"] for reading in readings)
        negative = any(reading["negative"] for reading in readings)
        for reading in readings:
            reading.update(range=shared, negative=negative)


@dataclass
class Carrier:
    """The notebook cell whose output holds the bundle, and the execution of it that emitted it."""

    cell: str | None = None
    execution: int | None = None


CARRIER = Carrier()
"""That of this kernel's notebook."""


def _notebook_bundle() -> str:
    """The bundle, unless an output of this kernel's notebook holds it already.

    Running the carrying cell again replaces its output, so that execution carries the bundle anew. Colab shows each
    output in a frame of its own, and outside a notebook nothing is known of a page: there each view is complete.
    """
    place = executing_cell()
    if place is None or "google.colab" in sys.modules:
        return bundle()
    cell, execution = place
    again = cell is not None and cell == CARRIER.cell and execution != CARRIER.execution
    if CARRIER.execution is not None and not again:
        return ""
    CARRIER.cell, CARRIER.execution = cell, execution
    return bundle()


def executing_cell() -> tuple[str | None, int] | None:
    """Id of the running notebook cell (None if the front end sends none) and its execution count; None elsewhere."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    header = shell.get_parent() if hasattr(shell, "get_parent") else {}
    return header.get("metadata", {}).get("cellId"), int(shell.execution_count)
