"""Circuits as pictures for papers and as graphs for other tools.

Parts stand where they act: embeddings below, then layer by layer the heads and the MLP, the logits on top. Only the
largest edges are drawn, and the figure says how many there are.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from plateau_interp.analysis.circuits import Circuit
from plateau_interp.checks import shown
from plateau_interp.views.labels import kept
from plateau_interp.views.theme import LIGHT, Theme, figure_style

if TYPE_CHECKING:
    import networkx
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["N_DRAWN", "Part", "circuit_figure", "circuit_graph", "graphviz", "placed_parts"]

N_DRAWN = 40
"""Edges of a figure, unless asked for."""
WIDEST, THINNEST = 5.0, 0.4
"""Widths of the edges with the largest score and with none, in points."""
ROW_HEIGHT, PART_WIDTH = 0.62, 0.85
"""In inches."""
INPUTS = {"q": -0.22, "k": 0.0, "v": 0.22, "": 0.0}
"""Where an edge meets a part, from its middle, in units of the columns."""
ROLES_APART = 0.16
"""How far the edges of the first role run beside those of the last, in the same units."""


@dataclass(frozen=True)
class Part:
    """A node of the picture.

    Attributes:
        name: ``embed``, ``L0H1``, ``L0KV0``, ``MLP0``, ``logits``.
        row: from below.
        column: from the middle.
    """

    name: str
    row: int
    column: float


class _Edge(NamedTuple):
    writer: str
    reader: str
    """The part that reads."""
    entry: str
    """Which of a head's inputs: q, k, v; nothing for other parts."""
    role: str
    score: float


def placed_parts(found: Circuit, *, names: Sequence[str] | None = None) -> list[Part]:
    """Where each part of a model stands: rows from the embeddings to the logits, each centred.

    Args:
        found: a circuit of the model.
        names: only these, and no row without any of them; by default all.
    """
    every = dict.fromkeys([*found.writers, *(reader.partition(".")[0] for reader in found.readers)])
    kept = [name for name in every if names is None or name in names]
    rows: dict[tuple[int, int], list[str]] = {}
    for name in kept:
        rows.setdefault(_height(name), []).append(name)
    return [
        Part(name, row, place - (len(rows[height]) - 1) / 2)
        for row, height in enumerate(sorted(rows))
        for place, name in enumerate(rows[height])
    ]


def circuit_figure(found: Circuit, *, n: int | None = None, title: str = "", theme: Theme = LIGHT) -> "Figure":
    r"""The largest edges of a circuit, with width and sign by score, those of each role with dashes of their own.

    Of a model with many parts those without an edge are left out.

    Args:
        found: the circuit.
        n: how many edges; by default 40, or all if there are fewer.
        title: first line of the figure.
        theme: colours.

    Raises:
        ValueError: for what is no circuit, and for more edges than there are.

    Example:
        >>> from plateau_interp import circuit, toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> import torch
        >>> task = MovingWindowSum(n=4)
        >>> clean, corrupted = (task.sample(4, generator=torch.Generator().manual_seed(s)).inputs for s in (0, 1))
        >>> asked = {"clean": clean, "corrupted": corrupted, "metric": lambda logits: logits[:, -1, 0].mean()}
        >>> circuit_figure(circuit(toy_model(task, d_model=16), **asked), n=5).axes[0].get_xlabel()
        '5 of 13 edges\nattributed, resample, norms live, 4 sequences'
    """
    import matplotlib
    from matplotlib.figure import Figure

    edges = _largest(found, n)
    named = {name for edge in edges for name in (edge.writer, edge.reader)}
    everything = placed_parts(found)
    drawn = everything if len(everything) <= 2 * N_DRAWN else placed_parts(found, names=[*named])
    columns = max(abs(part.column) for part in drawn)
    n_rows = max(part.row for part in drawn) + 1
    size = (max(4.2, PART_WIDTH * (2 * columns + 2)), 1.1 + ROW_HEIGHT * n_rows)
    with matplotlib.rc_context(figure_style(theme, is_map=True)):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        _draw_edges(axes, edges, drawn, found.roles, theme)
        for part in drawn:
            faint = part.name not in named
            axes.text(
                part.column,
                part.row,
                part.name,
                ha="center",
                va="center",
                fontsize=8.5,
                color=theme.muted if faint else theme.ink,
                bbox={
                    "boxstyle": "round,pad=0.32",
                    "facecolor": theme.ground,
                    "edgecolor": theme.grid if faint else theme.muted,
                    "linewidth": 0.9,
                },
                zorder=3,
            )
        axes.set_xlim(-size[0] / PART_WIDTH / 2, size[0] / PART_WIDTH / 2)
        axes.set_ylim(-0.5, n_rows - 0.5)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_title(title)
        how = str(found).partition("(")[2].removesuffix(")")
        axes.set_xlabel(f"{len(edges)} of {found.n_edges} edges\n{how}", loc="left", fontsize=8.5)
        _add_legend(axes, found.roles, theme)
    return figure


def circuit_graph(found: Circuit, *, n: int | None = None) -> "networkx.MultiDiGraph":
    """The largest edges as a graph of networkx: edges have ``score``, ``input`` (q, k, v or nothing) and ``role``.

    Args:
        found: the circuit.
        n: how many edges; by default all.

    Raises:
        ValueError: for what is no circuit, and for more edges than there are.
    """
    import networkx

    graph = networkx.MultiDiGraph()
    graph.add_nodes_from((part.name, {"row": part.row, "column": part.column}) for part in placed_parts(found))
    for edge in _largest(found, found.n_edges if n is None else n):
        graph.add_edge(edge.writer, edge.reader, score=edge.score, input=edge.entry, role=edge.role)
    return graph


def graphviz(found: Circuit, *, n: int | None = None, theme: Theme = LIGHT) -> str:
    """The largest edges as a text that GraphViz draws: ``dot -Tsvg``.

    Args:
        found: the circuit.
        n: how many edges; by default 40, or all if there are fewer.
        theme: colours.

    Raises:
        ValueError: for what is no circuit, and for more edges than there are.
    """
    edges = _largest(found, n)
    most = _most(edges)
    lines = ["digraph circuit {", "  rankdir=BT; node [shape=box, style=rounded];"]
    for edge in edges:
        label = ", ".join(filter(None, [edge.entry, edge.role if len(found.roles) > 1 else ""]))
        width, colour = _width(edge.score, most), _colour(edge.score, theme)
        drawn = f'label="{label}", penwidth={width:.2f}, color="{colour}", tooltip="{edge.score:.4g}"'
        lines.append(f'  "{edge.writer}" -> "{edge.reader}" [{drawn}];')
    return "\n".join([*lines, "}", ""])


def _largest(found: Any, n: int | None) -> list[_Edge]:
    if not isinstance(found, Circuit):
        raise ValueError(f"expected a Circuit, as circuit(model, ...) gives; got {shown(found)}")
    chosen = min(N_DRAWN, found.n_edges) if n is None else n
    found.largest(chosen)  # refuses what is too many
    rows = found.table().head(chosen)
    columns = (rows.writer, rows.reader, rows.role, rows.score)
    return [
        _Edge(writer, reader.partition(".")[0], reader.partition(".")[2], role, score)
        for writer, reader, role, score in zip(*(column.tolist() for column in columns), strict=True)
    ]


def _height(name: str) -> tuple[int, int]:
    """Layer and place in it, for sorting: embeddings, shared keys, heads, MLP, logits."""
    if match := re.fullmatch(r"L(\d+)(H|KV)\d+", name):
        return int(match[1]), 1 if match[2] == "H" else 0
    if match := re.fullmatch(r"MLP(\d+)", name):
        return int(match[1]), 2
    return (-1, 0) if name.endswith("embed") else (10**9, 0)


def _colour(score: float, theme: Theme) -> str:
    if score == 0:
        return theme.muted
    return theme.accent if score < 0 else theme.other


def _most(edges: Sequence[_Edge]) -> float:
    return max((abs(edge.score) for edge in edges), default=0.0) or 1.0


def _width(score: float, most: float) -> float:
    return THINNEST + (WIDEST - THINNEST) * abs(score) / most


def _draw_edges(
    axes: "Axes", edges: Sequence[_Edge], drawn: Sequence[Part], roles: Sequence[str], theme: Theme
) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    where = {part.name: part for part in drawn}
    most = _most(edges)
    for edge in reversed(edges):  # the largest on top
        start, end = where[edge.writer], where[edge.reader]
        role = roles.index(edge.role)
        aside = ROLES_APART * (role - (len(roles) - 1) / 2) / max(1, len(roles) - 1)
        x = end.column + INPUTS[edge.entry] + aside
        foot = end.row - (0.34 if edge.entry else 0.2)
        rise = max(0.45, 0.3 * (end.row - start.row))
        # Edges over several rows bend outwards, so that they do not run through the parts between.
        bend = 0.0 if end.row - start.row < 2 else 0.55 * (1 if start.column >= 0 else -1)
        points = [
            (start.column + aside, start.row + 0.2),
            (start.column + aside + bend, start.row + 0.2 + rise),
            (x + bend, foot - rise),
            (x, foot),
        ]
        path = Path(points, [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4])
        if edge.entry:
            axes.text(
                x - aside,
                end.row - 0.27,
                edge.entry,
                ha="center",
                va="center",
                fontsize=6.5,
                color=theme.muted,
                zorder=4,
            )
        axes.add_patch(
            PathPatch(
                path,
                facecolor="none",
                edgecolor=_colour(edge.score, theme),
                linewidth=_width(edge.score, most),
                linestyle=_dashes(role),
                alpha=0.75,
                capstyle="round" if role == 0 else "butt",
            )
        )


def _add_legend(axes: "Axes", roles: Sequence[str], theme: Theme) -> None:
    from matplotlib.lines import Line2D

    told = ((theme.accent, "raises the metric"), (theme.other, "lowers it"))
    handles = [Line2D([], [], color=colour, linewidth=3, label=label) for colour, label in told]
    if len(roles) > 1:
        handles += [
            Line2D([], [], color=theme.muted, linewidth=1.8, linestyle=_dashes(number), label=kept(role))
            for number, role in enumerate(roles)
        ]
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2)


def _dashes(role: int) -> Any:
    """Of the edges of a role: the first are drawn through, those after it with a dash and so many dots."""
    return "-" if role == 0 else (0, (4, 1) + (1, 1) * role)
