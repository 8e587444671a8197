"""Heat maps: accuracy by position, attention patterns, collapse matrices, effects of edits.

Pure functions from arrays to a `matplotlib.figure.Figure`, for papers and reports. Nothing is drawn where there is
nothing: colours begin at the ground itself, so a map lies on a light and a dark page alike. For attention maps to click
through use `plateau_interp.views.attention_view`.
"""

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from torch import Tensor

from plateau_interp.checks import shown
from plateau_interp.views.curves import PANEL_SIZE, Curves, draw_drops, grouped, spread
from plateau_interp.views.theme import LIGHT, Theme, figure_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["cosine_figure", "effect_figure", "grid_figure", "pattern_figure", "position_figure"]

MOST_NUMBERS = 150
"""Cells of an effect map into which the numbers are written."""
MOST_DECIMALS = 4
"""Of such a number; smaller ones are written with their power of ten."""


def position_figure(curves: Curves, *, drops: Sequence[int | None] = (), theme: Theme = LIGHT) -> "Figure":
    """Accuracy of each answer position over the steps, as a heat map; of several runs of those that got so far.

    Between two measured steps each has half of the way.

    Raises:
        ValueError: if no ``accuracy_0``, ``accuracy_1``, … was measured, or by some runs more of them than by others.

    Example:
        >>> import pandas as pd
        >>> metrics = pd.DataFrame({"step": [0, 1], "accuracy_0": [0.0, 1.0], "accuracy_1": [0.0, 0.5]})
        >>> position_figure(metrics).axes[0].get_ylabel()
        'answer position'
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    runs = [run for group in grouped(curves).values() for run in group]
    numbers = sorted({sum(bool(re.fullmatch(r"accuracy_\d+", str(column))) for column in run) for run in runs})
    if numbers == [0]:
        raise ValueError("the metrics have no accuracy_0, accuracy_1, …: no accuracy of single positions was measured")
    if len(numbers) > 1:
        raise ValueError(
            f"the runs measured {' and '.join(map(str, numbers))} answer positions, which have no mean: draw those of "
            "one number by themselves"
        )
    spreads = [spread(runs, f"accuracy_{position}")[""] for position in range(numbers[0])]
    # Of answers of several lengths, a position may be labelled at some steps alone, or never.
    steps = np.unique(np.concatenate([row.step for row in spreads]))
    rows = [pd.Series(row.mean, index=row.step).reindex(steps).to_numpy() for row in spreads]
    style = {**figure_style(theme), "axes.grid": False}  # open above and to the right: time goes on
    with matplotlib.rc_context(style):
        figure = Figure(figsize=PANEL_SIZE, layout="constrained")
        axes = figure.subplots()
        image = _columns_at(axes, steps, np.stack(rows), theme)
        axes.yaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
        axes.set(title="Accuracy of each answer", xlabel="training step", ylabel="answer position")
        draw_drops(axes, drops, colour=theme.other)  # without words, which would lie on the map
        _colour_bar(figure, image, axes, "share right", theme)
        return figure


def _columns_at(
    axes: "Axes", steps: Float[np.ndarray, " step"], values: Float[np.ndarray, "row step"], theme: Theme
) -> Any:
    """A map of shares, row 1 on top, each column from halfway to the step before it to halfway to the one after it."""
    between = (steps[1:] + steps[:-1]) / 2
    ends = (steps[0] - 0.5, steps[0] + 0.5)
    if len(between):
        ends = (2 * steps[0] - between[0], 2 * steps[-1] - between[-1])
    style: Any = {"cmap": _towards(theme.accent), "vmin": 0, "vmax": 1}
    bottom = len(values) + 0.5
    if len(set(np.diff(steps).tolist())) <= 1:
        return axes.imshow(values, aspect="auto", extent=(*ends, bottom, 0.5), **style)
    # As pixels: in a vector file thousands of rectangles would be slow, and show seams.
    edges = np.array([ends[0], *between, ends[1]])
    image = axes.pcolormesh(edges, np.arange(len(values) + 1) + 0.5, values, rasterized=True, **style)
    axes.set(xlim=ends, ylim=(bottom, 0.5))
    return image


def pattern_figure(
    patterns: Float[Tensor | np.ndarray, "map query key"],
    titles: Sequence[str],
    *,
    targets: Bool[Tensor | np.ndarray, "query key"] | None = None,
    label: str = "attention",
    limit: float | None = None,
    first_query: int = 0,
    theme: Theme = LIGHT,
) -> "Figure":
    """Attention maps next to each other, with one colour scale from white at 0; target positions are outlined.

    Args:
        patterns: the maps; negative entries are drawn in a second colour.
        titles: one a map.
        targets: positions to outline.
        label: what the colours mean.
        limit: the value of the strongest colour; by default the largest magnitude there is.
        first_query: position of the first row, for maps of the answer rows alone.
        theme: the colours, for a light or a dark ground.

    Raises:
        ValueError: for no map, a number of titles that differs from the number of maps, targets of another shape than a
            map's, or values that are not finite.

    Example:
        >>> figure = pattern_figure(np.eye(3)[None], ["step 0"])
        >>> figure.axes[0].get_title(loc="left")
        'step 0'
    """
    maps = _array("patterns", patterns)
    outlined = None if targets is None else _outline("targets", targets, maps)
    return _maps(maps, titles, outlined=outlined, label=label, most=limit, first_query=first_query, theme=theme)


def cosine_figure(
    matrices: Float[Tensor | np.ndarray, "step row row"],
    steps: Sequence[int],
    *,
    label: str = "cosine",
    theme: Theme = LIGHT,
) -> "Figure":
    """Collapse through time: at each step the mean cosine of each pair of answer rows.

    Raises:
        ValueError: for no matrix, a number of steps that differs, or values that are not finite.

    Example:
        >>> len(cosine_figure(np.ones((2, 4, 4)), [0, 100]).axes)
        3
    """
    titles = [f"step {step}" for step in steps]
    return _maps(
        _array("matrices", matrices),
        titles,
        label=label,
        most=1.0,
        rows="answer row",
        columns="answer row",
        theme=theme,
    )


def effect_figure(
    effects: Float[Tensor | np.ndarray, "row column"],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    label: str,
    title: str = "",
    theme: Theme = LIGHT,
) -> "Figure":
    """Effects of patching or ablation as a heat map with the numbers written in (up to 150 cells), white at 0.

    Args:
        effects: for example layers by heads, or layers by positions.
        rows: names of the rows.
        columns: names of the columns.
        label: what the numbers are, and their unit: ``"change of the loss (nats)"``, ``"share restored"``. Whoever
            made them knows; a figure cannot tell from the values.
        title: above the map.
        theme: the colours, for a light or a dark ground.

    Raises:
        ValueError: for no cell, names that do not fit the shape, or values that are not finite.

    Example:
        >>> names = {"rows": ["layer 0"], "columns": ["head 0", "head 1"]}
        >>> effect_figure(np.ones((1, 2)), **names, label="share restored").axes[0].texts[0].get_text()
        '1.00'
    """
    import matplotlib
    from matplotlib.figure import Figure

    values = _finite(_array("effects", effects))
    if not values.size:
        raise ValueError(f"effects of shape {values.shape} have no cell: there is nothing to draw")
    if values.shape != (len(rows), len(columns)):
        raise ValueError(
            f"effects of shape {values.shape} need as many names; got {len(rows)} rows, {len(columns)} columns"
        )
    most = float(np.abs(values).max()) or 1.0
    with matplotlib.rc_context({**figure_style(theme), "axes.grid": False}):
        size = (1.9 + 0.52 * len(columns), 1.1 + 0.36 * len(rows))
        figure = Figure(figsize=(max(size[0], 3.4), max(size[1], 1.9)), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(values, cmap=_diverging(theme), vmin=-most, vmax=most, aspect="auto")
        turned = max(map(len, columns)) > 5
        axes.set_xticks(range(len(columns)), columns, rotation=90 if turned else 0)
        axes.set_yticks(range(len(rows)), rows)
        axes.set_title(title)
        if values.size <= MOST_NUMBERS:
            _write_numbers(axes, values, theme)
        _colour_bar(figure, image, axes, label, theme)
        return figure


def grid_figure(
    grids: Float[Tensor | np.ndarray, "grid row column"],
    titles: Sequence[str],
    *,
    asked: Bool[Tensor | np.ndarray, "row column"] | None = None,
    most: float | None = None,
    theme: Theme = LIGHT,
) -> "Figure":
    """Grids of numbers next to each other, with one colour scale; the numbers are written in where there is room.

    Args:
        grids: such as what is right, and what a model says of it.
        titles: one a grid.
        asked: cells to outline.
        most: the size of the strongest colour; by default the largest there is.
        theme: the colours, for a light or a dark ground.

    Raises:
        ValueError: for no grid, a number of titles that differs, cells of another shape, or values that are not finite.

    Example:
        >>> figure = grid_figure(np.eye(2)[None], ["right"], asked=np.eye(2) > 0)
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['1.00', '0.00', '0.00', '1.00']
    """
    values = _array("grids", grids)
    outlined = None if asked is None else _outline("asked", asked, values)
    most = float(np.abs(values).max()) or 1.0 if most is None else most
    figure = _maps(values, titles, label="value", theme=theme, most=most, rows="row", columns="column")
    for axes, each in zip(figure.axes, values, strict=False):
        if each.size <= MOST_NUMBERS:
            _write_numbers(axes, each, theme)
        if outlined is not None:
            _outline_cells(axes, outlined, theme)
    return figure


def _outline(name: str, cells: Any, maps: np.ndarray) -> np.ndarray:
    """Cells to outline, which every map has."""
    outlined = _array(name, cells)
    if outlined.shape != maps.shape[1:]:
        raise ValueError(f"{name} must have the shape of a map, {maps.shape[1:]}; got {outlined.shape}")
    return outlined


def _outline_cells(axes: "Axes", cells: Bool[np.ndarray, "row column"], theme: Theme) -> None:
    """Each cell by itself, within its own ground: neighbours are told apart."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    boxes = [Rectangle((column - 0.46, row - 0.46), 0.92, 0.92) for row, column in np.argwhere(cells)]
    axes.add_collection(PatchCollection(boxes, facecolor="none", edgecolor=theme.ink, linewidth=1.6))


def _write_numbers(axes: "Axes", values: Float[np.ndarray, "row column"], theme: Theme) -> None:
    """Into the cells of the map that is drawn there: two decimals, or two digits of the largest of small numbers."""
    (image,) = axes.images
    largest = np.abs(values[np.isfinite(values)]).max(initial=0.0)
    decimals = 2 if largest == 0 else max(2, 1 - math.floor(math.log10(largest)))

    def written(value: float) -> str:
        if decimals > MOST_DECIMALS:
            return f"{value:.1e}"
        return f"{round(value, decimals) + 0.0:.{decimals}f}"  # not -0.00

    for row, column in np.ndindex(values.shape):
        colour = theme.legible_on(image.cmap(image.norm(values[row, column])))
        axes.text(column, row, written(float(values[row, column])), ha="center", va="center", fontsize=8, color=colour)


def _maps(
    maps: Float[np.ndarray, "map query key"],
    titles: Sequence[str],
    *,
    label: str,
    theme: Theme,
    outlined: Bool[np.ndarray, "query key"] | None = None,
    most: float | None = None,
    rows: str = "query position",
    columns: str = "key position",
    first_query: int = 0,
) -> "Figure":
    import matplotlib
    from matplotlib.collections import PatchCollection
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import MaxNLocator

    if maps.ndim != 3 or not len(maps) or not maps[0].size:
        raise ValueError(f"maps are [map, query, key], at least one; got shape {maps.shape}")
    if len(titles) != len(maps):
        raise ValueError(f"{len(maps)} maps need {len(maps)} titles; got {len(titles)}")
    strongest = float(np.abs(_finite(maps)).max())
    most = strongest or 1.0 if most is None else most
    negative = bool((maps < 0).any())
    with matplotlib.rc_context(figure_style(theme, is_map=True)):
        colours = _diverging(theme) if negative else _towards(theme.accent)
        n_queries, n_keys = maps.shape[1:]
        height = 1.05 + 2.05 * min(n_queries / n_keys, 2)
        figure = Figure(figsize=(2.75 * len(maps) + 0.9, height), layout="constrained")
        extent = (-0.5, n_keys - 0.5, first_query + n_queries - 0.5, first_query - 0.5)
        panels = figure.subplots(1, len(maps), squeeze=False)[0]
        for axes, values, title in zip(panels, maps, titles, strict=True):
            image = axes.imshow(values, cmap=colours, vmin=-most if negative else 0.0, vmax=most, extent=extent)
            if outlined is not None:
                boxes = [
                    Rectangle((key - 0.5, first_query + query - 0.5), 1, 1) for query, key in np.argwhere(outlined)
                ]
                axes.add_collection(PatchCollection(boxes, facecolor="none", edgecolor=theme.ink, linewidth=0.8))
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
            axes.set_title(title)
            axes.set_xlabel(columns)
        panels[0].set_ylabel(rows)
        _colour_bar(figure, image, list(panels), label, theme)
        return figure


def _colour_bar(figure: "Figure", image: Any, axes: Any, label: str, theme: Theme) -> None:
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02, aspect=22)
    bar.set_label(label, color=theme.muted)
    if bar.solids is not None:
        bar.solids.set_rasterized(True)  # one small picture, not 256 rectangles in a vector file


def _towards(colour: str) -> Any:
    """From nothing to a colour: white on paper, the page's own ground in a dark report."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgba

    return LinearSegmentedColormap.from_list("towards", [to_rgba(colour, 0.0), to_rgba(colour, 1.0)])


def _diverging(theme: Theme) -> Any:
    from matplotlib.colors import LinearSegmentedColormap, to_rgba

    ends = [(theme.other, 1.0), (theme.other, 0.0), (theme.accent, 0.0), (theme.accent, 1.0)]
    colours = [to_rgba(colour, alpha) for colour, alpha in ends]
    return LinearSegmentedColormap.from_list("diverging", list(zip((0.0, 0.5, 0.5, 1.0), colours, strict=True)))


def _array(name: str, values: Any) -> np.ndarray:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = (values.double() if values.is_floating_point() else values).numpy()  # NumPy has no bfloat16
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be an array or a tensor of numbers; got {shown(values)}")
    return values


def _finite(values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all():
        raise ValueError("the values to draw must be finite; there is a NaN or an infinity among them")
    return values
