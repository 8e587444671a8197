"""Figures as files, and as pictures inside a page.

`save_figure` is for users. Pages of our own take `rendered` for the PNG beside them and `themed_svg` for the picture in
them. Interactive figures are saved by `plateau_interp.views.interactive`.
"""

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from plateau_interp.checks import as_path, shown
from plateau_interp.files import check_file, write_atomically
from plateau_interp.views.theme import DARK, LIGHT, Theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Draw", "page_picture", "rendered", "report_mark", "report_picture", "save_figure", "themed_svg"]

FORMATS = ("pdf", "png", "svg")


class Draw(Protocol):
    """Draws one figure in the colours of a theme: ``partial(curves_figure, table)`` is one."""

    def __call__(self, *, theme: Theme) -> "Figure":
        """A new figure."""
        ...


def save_figure(figure: "Figure", path: str | Path, *, title: str | None = None) -> Path:
    """Write a figure as PDF, SVG (vectors) or PNG (200 dots an inch), whole or not at all; returns the path.

    Args:
        figure: what to write.
        path: of the file; its ending says as what.
        title: inside the file, where nobody sees it.

    Raises:
        ValueError: for what is no figure or no path, for another ending, and for a path of a folder or below a file.

    Example:
        >>> from plateau_interp.views import cosine_figure
        >>> import numpy as np
        >>> save_figure(cosine_figure(np.eye(3)[None], [0]), "collapse.svg").name
        'collapse.svg'
    """
    from matplotlib.figure import Figure

    if not isinstance(figure, Figure):
        raise ValueError(f"figure must be a matplotlib Figure, such as curves_figure gives; got {shown(figure)}")
    path = as_path(path, "the path of a file, such as 'runs/curves.png'")
    check_file(path)
    kind = path.suffix.removeprefix(".").lower()
    if kind not in FORMATS:
        raise ValueError(f"a figure is saved as {', '.join(FORMATS)}; got {path.name!r}")
    write_atomically(path, rendered(figure, kind, title=title))
    return path


def rendered(figure: "Figure", kind: str, *, background: str = "auto", title: str | None = None) -> bytes:
    """A figure as a file's content; the same figure gives the same bytes.

    Args:
        figure: what to write.
        kind: ``pdf``, ``png`` or ``svg``.
        background: a colour of matplotlib's; ``auto`` is the figure's own, ``none`` is transparent.
        title: inside the file, where nobody sees it.
    """
    import matplotlib

    undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind, {})
    metadata = undated if title is None else {**undated, "Title": title}
    settings: Any = {"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "plateau-interp"}
    buffer = io.BytesIO()
    with matplotlib.rc_context(settings):
        figure.savefig(buffer, format=kind, dpi=200, facecolor=background, metadata=metadata)
    return buffer.getvalue()


def themed_svg(draw: Draw, name: str) -> str:
    """A figure for a page on a light or a dark ground: drawn once with each theme; the style of pages shows one.

    Args:
        draw: draws the figure.
        name: unique on the page: ids inside the pictures begin with it.
    """
    return _on_both(_laid_out(draw(theme=LIGHT)), draw(theme=DARK), name)


def page_picture(draw: Draw, name: str) -> tuple[str, bytes]:
    """A figure for a page, as `themed_svg`, and the PNG that lies beside the page."""
    light = _laid_out(draw(theme=LIGHT))
    return _on_both(light, draw(theme=DARK), name), report_picture(light, name)


def report_picture(figure: "Figure", name: str) -> bytes:
    """The PNG of a figure that lies beside a report, ``NAME.png``."""
    return rendered(figure, "png", title=report_mark(name))


def report_mark(name: str) -> str:
    """What the PNG of that name beside a report is titled, within: a copy under another name is somebody's.

    Example:
        >>> report_mark("loss")
        'Picture of a plateau report (loss)'
    """
    return f"Picture of a plateau report ({name})"


def _on_both(light: "Figure", dark: "Figure", name: str) -> str:
    drawn = ((LIGHT.name, light), (DARK.name, _laid_out(dark)))
    return "".join(f'<div class="on-{on}">{_inline(figure, f"{name}-{on}")}</div>' for on, figure in drawn)


def _laid_out(figure: "Figure") -> "Figure":
    """A figure of ours with its layout done: one that still has an engine is drawn twice each time it is written."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)
    return figure


def _inline(figure: "Figure", name: str) -> str:
    """A figure as an SVG element that is as wide as its place on the page."""
    text = rendered(figure, "svg", background="none").decode()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    opening, closing, rest = text.partition(">")
    text = re.sub(r' (width|height)="[^"]*"', "", opening) + closing + rest
    for start in ('id="', "url(#", 'href="#'):
        text = text.replace(start, f"{start}{name}-")
    return text
