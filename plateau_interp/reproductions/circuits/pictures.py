"""The picture of a forming circuit: the loss, the main edges as they come, and how much of the circuit is there."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from plateau_interp.reproductions.circuits.measured import edge_scores, main_edges
from plateau_interp.reproductions.settings import Outcome
from plateau_interp.views.theme import LIGHT, figure_style, ordered_colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["MOST_NAMED", "forming_figure"]

MOST_NAMED = 6
"""Edges that one panel can name."""
ROOM = 0.3
"""Above the shares, for what says which is which."""
SHARES = {"circuit_overlap": "as high up as at last", "main_edges_there": "have half of their last score"}


def forming_figure(outcomes: Mapping[str, Sequence[Outcome]]) -> "Figure":
    """A row a setting: the loss of every seed, the largest edges of the first seed, shares of the main edges.

    Args:
        outcomes: by setting name; what was not run is left out.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(figure_style()):
        figure = Figure(figsize=(11.0, 2.9 * len(outcomes)), layout="constrained")
        grid = figure.subplots(len(outcomes), 3, squeeze=False, sharex=True)
        for (loss, edges, shares), (name, ours) in zip(grid, outcomes.items(), strict=True):
            _draw_losses(loss, ours)
            _draw_edges(edges, ours[0])
            _draw_shares(shares, ours)
            loss.set_title(ours[0].setting.about or name)
        for axes in grid[-1]:
            axes.set_xlabel("training step")
        return figure


def _draw_losses(axes: "Axes", ours: Sequence[Outcome]) -> None:
    for colour, one in zip(ordered_colours(len(ours)), ours, strict=True):
        rows = one.metrics[["step", "loss"]].dropna()
        axes.plot(rows["step"], rows["loss"], color=colour, linewidth=1.0, label=f"seed {one.seed}")
    axes.set_ylabel("training loss (nats)")
    axes.legend()


def _draw_edges(axes: "Axes", one: Outcome) -> None:
    scores = edge_scores(one)
    named = main_edges(one)[:MOST_NAMED]
    for colour, edge in zip(ordered_colours(len(named)), named, strict=True):
        axes.plot(scores.index, scores[edge] / scores[edge].iloc[-1], color=colour, linewidth=1.2, label=edge)
    axes.axhline(0.5, color=LIGHT.muted, linewidth=0.8, linestyle=":")
    axes.set(title=f"Largest edges, seed {one.seed}", ylabel="score over its last")
    axes.legend(fontsize=7)


def _draw_shares(axes: "Axes", ours: Sequence[Outcome]) -> None:
    colours = dict(zip(SHARES, (LIGHT.muted, LIGHT.accent), strict=True))
    for number, one in enumerate(ours):
        for column, label in SHARES.items():
            rows = one.metrics[["step", column]].dropna()
            axes.plot(
                rows["step"],
                rows[column],
                color=colours[column],
                linewidth=1.0,
                alpha=0.8,
                label=label if not number else None,
            )
    axes.set(title="Main edges, all seeds", ylabel="share of them", ylim=(0.0, 1.0 + ROOM), yticks=(0.0, 0.5, 1.0))
    axes.legend(fontsize=7, loc="upper left")
