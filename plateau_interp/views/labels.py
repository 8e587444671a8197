"""Words inside a panel and legends below it, placed where they hide nothing.

For figures of `plateau_interp.views.curves` and those of papers; a heat map's words are its titles.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from plateau_interp.views.theme import Theme

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

__all__ = ["Words", "draw_legends", "kept", "legend_below", "title_lines"]

WORD = 0.019
"""Width of a letter beside a line, as a share of the panel."""
LETTER = 0.08
"""Width of a letter in a legend, in inches."""
TITLE = 44
"""Letters of a title for which a panel of the usual size has room beside its numbers."""
CLEAR = 0.06
"""Distance from a line at which a text is clear of it, as a share of the panel's height."""


@dataclass
class Words:
    """Writes into a panel whose lines are drawn: each text where it is clearest of curves, lines and other texts.

    Where no place is clear a text lies over the lines, on a ground of its own.

    Attributes:
        axes: the panel.
        theme: its colours.
        curves: lines to keep clear of.
        levels: heights of horizontal lines.
        drops: steps of vertical lines.
        taken: start, stop and height of each text so far, in shares of the axes.
    """

    axes: "Axes"
    theme: Theme
    curves: "Sequence[Line2D]"
    levels: Sequence[float]
    drops: Sequence[int]
    taken: list[tuple[float, float, float]] = field(default_factory=list)

    def beside_level(self, text: str, level: float) -> None:
        """Above or below a horizontal line; at its right end, if that is clear."""
        room, (bottom, top) = WORD * len(text), self.axes.get_ylim()

        def box(place: tuple[float, bool]) -> tuple[float, float, float]:
            start = place[0] * (1 - room)
            return start, start + room, (level - bottom) / (top - bottom) + (-0.05 if place[1] else 0.05)

        places = [(at, below) for below in (False, True) for at in (1.0, 0.0, 0.3, 0.5, 0.7)]
        others = [other for other in self.levels if other != level]
        at, below = max(places, key=lambda place: self._clearance(box(place), others))
        self.taken.append(box((at, below)))
        x, shift, align = (1.0, -3, "right") if at == 1 else (self.taken[-1][0], 3, "left")
        look: Any = {"xytext": (shift, -10 if below else 4), "ha": align, "color": self.theme.muted}
        self.axes.annotate(text, (x, level), xycoords=("axes fraction", "data"), **self._style, **look)

    def beside_drop(self, text: str, drop: int, *, colour: str) -> None:
        """To the left or right of a vertical line."""
        room, (left, right) = WORD * len(text), self.axes.get_xlim()
        at = (drop - left) / (right - left)

        def box(place: tuple[bool, float]) -> tuple[float, float, float]:
            start = at - room - 0.01 if place[0] else at + 0.01
            return start, start + room, place[1]

        places = [(before, height) for height in (0.5, 0.65, 0.35, 0.8, 0.2) for before in (False, True)]
        inside = [place for place in places if box(place)[0] >= 0 and box(place)[1] <= 1] or places
        before, height = max(inside, key=lambda place: self._clearance(box(place), self.levels))
        self.taken.append(box((before, height)))
        look: Any = {"xytext": (-5 if before else 5, 0), "ha": "right" if before else "left", "va": "center"}
        place = ("data", "axes fraction")
        self.axes.annotate(text, (drop, height), xycoords=place, color=colour, **self._style, **look)

    @property
    def _style(self) -> Any:
        ground = {"facecolor": self.theme.ground, "edgecolor": "none", "alpha": 0.8, "pad": 0.8}
        return {"textcoords": "offset points", "fontsize": 8.5, "bbox": ground}

    def _clearance(self, box: tuple[float, float, float], levels: Sequence[float]) -> float:
        """How far a text would be from all there is, as a share of the panel's height; `CLEAR` is enough."""
        start, stop, height = box
        (left, right), (bottom, top) = self.axes.get_xlim(), self.axes.get_ylim()
        if not 0.02 < height < 0.98 or any(start <= (drop - left) / (right - left) <= stop for drop in self.drops):
            return 0.0
        if any(a < stop and start < b and abs(other - height) < 0.08 for a, b, other in self.taken):
            return 0.0
        steps = left + (right - left) * np.linspace(start, stop, 60)
        curves = [np.interp(steps, np.asarray(line.get_xdata()), np.asarray(line.get_ydata())) for line in self.curves]
        heights = [(values - bottom) / (top - bottom) - height for values in (*curves, *map(np.asarray, levels))]
        if any(above.min() < 0 < above.max() for above in heights):  # it goes through the text
            return 0.0
        return min([CLEAR, *(float(np.abs(above).min()) for above in heights)])


def kept(label: str) -> str | None:
    """A label that stays in the legend: matplotlib leaves out those that begin with an underscore."""
    return f"\N{ZERO WIDTH SPACE}{label}" if label.startswith("_") else label or None


def title_lines(title: str) -> str:
    """A panel's title in as many lines as it needs: matplotlib cuts it at the figure's edge.

    Example:
        >>> print(title_lines("Likeness of different prompts and cosine while reading a text"))
        Likeness of different prompts and cosine
        while reading a text
    """
    return textwrap.fill(title, TITLE, break_on_hyphens=False)


def draw_legends(figure: "Figure") -> None:
    """One legend if it is that of all panels; else each panel's own, below it."""
    from matplotlib.transforms import ScaledTranslation

    named = [axes.get_legend_handles_labels() for axes in figure.axes]
    if len({tuple(labels) for _handles, labels in named}) == 1:
        if named[0][1]:
            legend_below(figure, *named[0])
        return
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.1 + 0.2 * max(len(labels) for _handles, labels in named))
    below = ScaledTranslation(0, -0.5, figure.dpi_scale_trans)  # inches: the labels of the axis
    for axes, (handles, labels) in zip(figure.axes, named, strict=True):
        if labels:
            place: Any = {"bbox_to_anchor": (0, 0), "bbox_transform": axes.transAxes + below, "borderaxespad": 0}
            axes.legend(handles, labels, loc="upper left", **place)


def legend_below(figure: "Figure", handles: "Sequence[Artist]", labels: Sequence[str]) -> None:
    """One legend for a figure, below its panels, in as many columns as there is room for; the figure grows with it."""
    width, height = figure.get_size_inches()
    wrapped = [textwrap.fill(label, int(width / LETTER) - 8) for label in labels]
    longest = max(len(line) for label in wrapped for line in label.splitlines())
    n_columns = min(len(labels), max(1, int(width / (LETTER * (longest + 7)))))
    n_lines = sum(label.count("\n") + 1 for label in wrapped) / n_columns
    figure.set_size_inches(width, height + 0.1 + 0.2 * int(n_lines + 0.99))
    figure.legend(handles, wrapped, loc="outside lower left", ncols=n_columns)
