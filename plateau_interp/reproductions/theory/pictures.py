"""Pictures of the theory's experiments: where starts end, Psi along rays, and the scatter of capacity and gap."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from plateau_interp.reproductions.quantities import Quantity, final
from plateau_interp.reproductions.settings import Outcome
from plateau_interp.reproductions.theory.measured import CAPACITY, GAP, INVERSE_ROOT, REGULARISED, SCALED_CAPACITY
from plateau_interp.reproductions.theory.pooled import correlated
from plateau_interp.views.labels import legend_below
from plateau_interp.views.theme import LIGHT, figure_style, ordered_colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["rays_figure", "scatter_figure", "starts_figure"]

LINEAR_UP_TO = 1.0
"""Psi that grows is drawn on a scale that is logarithmic on both sides of this."""
PSI_HAS_GROWN = 1000.0
"""From here on it has grown."""


def starts_figure(outcomes: Mapping[str, Sequence[Outcome]]) -> "Figure":
    """A row a loss, activation and penalty, a dot a start: what is minimised, and the share of the constant's loss.

    Args:
        outcomes: by setting name, ``GROUP-start-SCALE``.
    """
    import matplotlib
    from matplotlib.figure import Figure

    groups: dict[str, list[tuple[float, Outcome]]] = {}
    for name, ours in outcomes.items():
        scale = float(name.rsplit("-start-", 1)[1])
        group = (ours[0].setting.about or name).rsplit(", start", 1)[0]
        groups.setdefault(group, []).extend((scale, one) for one in ours)
    scales = sorted({scale for dots in groups.values() for scale, _ in dots})
    colours = dict(zip(scales, ordered_colours(len(scales)), strict=True))
    drawn = (
        ("loss with the penalty", REGULARISED),
        ("loss of the data over the best constant's", final("share_of_constant", rows=1)),
    )
    with matplotlib.rc_context(figure_style()):
        figure = Figure(figsize=(9.5, 1.1 + 0.27 * len(groups)), layout="constrained")
        for axes, (label, quantity) in zip(figure.subplots(ncols=2, sharey=True), drawn, strict=True):
            for row, dots in enumerate(groups.values()):
                for scale, one in dots:
                    # Equal ends lie on top of each other: rings of three sizes show all.
                    size = 9.0 - 3.0 * scales.index(scale)
                    axes.plot(quantity.of(one), row, "o", markersize=size, markerfacecolor="none", color=colours[scale])
            axes.set(xlabel=label)
        figure.axes[0].set_yticks(range(len(groups)), [*groups])
        figure.axes[0].set_ylim(len(groups) - 0.5, -0.5)
        figure.axes[0].set_xlim(left=0.0)
        figure.axes[1].axvline(1.0, color=LIGHT.muted, linewidth=0.8, linestyle=":")
        figure.axes[1].set_xlim(0.0, 1.1)
        marks = [
            matplotlib.lines.Line2D(
                [],
                [],
                color=colours[scale],
                marker="o",
                linestyle="",
                markerfacecolor="none",
                markersize=9.0 - 3.0 * place,
            )
            for place, scale in enumerate(scales)
        ]
        legend_below(figure, marks, [f"initial weights of deviation {scale:g}" for scale in scales])
        return figure


def rays_figure(outcomes: Mapping[str, Sequence[Outcome]]) -> "Figure":
    """A panel a study: Psi over ``|W|``, a thin line a ray, those of the weights and of pairs strong, the bound dashed.

    Args:
        outcomes: of studies with the table of `plateau_interp.reproductions.theory.rays.psi_along_rays`.
    """
    import matplotlib
    from matplotlib.figure import Figure

    columns = 4
    height = -(-len(outcomes) // columns)
    strong = {"the weights": LIGHT.accent, "equal pairs": LIGHT.other}
    with matplotlib.rc_context(figure_style()):
        figure = Figure(figsize=(2.9 * columns, 2.6 * height + 0.3), layout="constrained")
        grid = figure.subplots(height, columns, squeeze=False)
        for axes, ours in zip(grid.flat, outcomes.values(), strict=False):
            for one in ours:
                for direction, rows in one.metrics.groupby("direction", sort=False):
                    colour = strong.get(str(direction))
                    width, above = (0.6, 1) if colour is None else (1.4, 2)
                    axes.plot(rows["norm"], rows["psi"], color=colour or LIGHT.muted, linewidth=width, zorder=above)
                rows = one.metrics.drop_duplicates("norm")
                axes.plot(rows["norm"], rows["least"], "--", color=LIGHT.ink, linewidth=1.0, zorder=3)
            axes.set(xscale="log", title=ours[0].setting.about, xlabel="|W|")
            axes.set_xticks([1.0, 100.0, 1e4], ["1", "100", "1e4"])
            _scale_psi(axes)
        for axes in grid[:, 0]:
            axes.set_ylabel("Ψ")
        for axes in grid.flat[len(outcomes) :]:
            axes.remove()
        line = matplotlib.lines.Line2D
        lines = [
            *(line([], [], color=colour, linewidth=1.4) for colour in strong.values()),
            line([], [], color=LIGHT.muted, linewidth=0.6),
            line([], [], color=LIGHT.ink, linestyle="--"),
        ]
        names = ["ray through the weights", "gates equal in pairs", "10 draws", "proved: not below"]
        legend_below(figure, lines, names)
        return figure


def _scale_psi(axes: "Axes") -> None:
    """Logarithmic in both directions where the highest is large; every other power of ten has its number."""
    low, high = axes.dataLim.y0, axes.dataLim.y1
    if high < PSI_HAS_GROWN:
        return
    powers = [float(10**power) for power in range(0, 12, 2)]
    ticks = [value for value in (*(-power for power in reversed(powers)), 0.0, *powers) if low <= value <= high]
    axes.set_yscale("symlog", linthresh=LINEAR_UP_TO)
    axes.set_ylim(2 * min(low, -LINEAR_UP_TO), 2 * high)
    axes.set_yticks(
        ticks, [f"{value:g}" if abs(value) < PSI_HAS_GROWN else f"{value:.0e}".replace("e+0", "e") for value in ticks]
    )


def scatter_figure(outcomes: Mapping[str, Sequence[Outcome]]) -> "Figure":
    """The gap of the losses against capacity over √m, against 1/√m and against capacity alone: a dot a run.

    Args:
        outcomes: by setting name, a setting a size of the training set.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(figure_style()):
        figure = Figure(figsize=(10.5, 3.4), layout="constrained")
        for axes, x in zip(
            figure.subplots(ncols=3, sharey=True), (SCALED_CAPACITY, INVERSE_ROOT, CAPACITY), strict=True
        ):
            _draw_scatter(axes, x, outcomes)
        figure.axes[0].set_ylabel("|training less held-out loss| (nats)")
        marks = [
            matplotlib.lines.Line2D([], [], color=colour, marker="o", linestyle="", markersize=4)
            for colour in ordered_colours(len(outcomes))
        ]
        legend_below(figure, marks, [ours[0].setting.about or name for name, ours in outcomes.items()])
        return figure


def _draw_scatter(axes: "Axes", x: Quantity, outcomes: Mapping[str, Sequence[Outcome]]) -> None:
    for colour, ours in zip(ordered_colours(len(outcomes)), outcomes.values(), strict=True):
        points = [(x.of(one), GAP.of(one)) for one in ours]
        axes.plot(*zip(*points, strict=True), "o", color=colour, markersize=4, alpha=0.85)
    found = correlated(x, GAP, tuple(outcomes), outcomes)
    told = (
        ""
        if found is None or math.isnan(found.r)
        else f"r = {found.r:.2f} [{found.low:.2f}, {found.high:.2f}], n = {found.n}"
    )
    axes.set(xlabel=x.name, title=told)
