"""The pictures of table 1 and figure 1: what each task took alone and in company, and the loss of the product.

And of division in company: `operations_figure`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from plateau_interp.reproductions.pictures import beside_figure
from plateau_interp.reproductions.quantities import NEVER
from plateau_interp.reproductions.settings import Outcome, Setting
from plateau_interp.reproductions.shortening.ends import taken_to
from plateau_interp.reproductions.shortening.mixes import ALL_THREE, BATCH, PAIRS_WITH, TASKS, drawn_tasks
from plateau_interp.reproductions.shortening.poster import SEQUENCES
from plateau_interp.tasks import Mixture
from plateau_interp.training.shares import column_word
from plateau_interp.views.labels import legend_below
from plateau_interp.views.theme import LIGHT, figure_style, ordered_colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

__all__ = ["losses_figure", "mixes_figure", "operations_figure"]

COSTS = {"own_sequences": "own sequences", "sequences": "sequences of all tasks"}
RULES = {"elbow": ("o", "to the elbow"), "right_99": ("^", "to 99 % of its tokens right")}
SMOOTH = 5


def mixes_figure(outcomes: Mapping[str, Sequence[Outcome]]) -> "Figure":
    """A column a task, a row a currency: dots a seed, alone, in both pairs and among three; crosses the poster's.

    Args:
        outcomes: by setting name; what was not run is left out.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(figure_style()):
        figure = Figure(figsize=(10.5, 5.6), layout="constrained")
        grid = figure.subplots(len(COSTS), len(TASKS), squeeze=False, sharex="col", sharey="col")
        for column, word in enumerate(TASKS):
            grid[0, column].set_title(word)
            for row, currency in enumerate(COSTS):
                _draw_costs(grid[row, column], word, currency, outcomes)
            grid[0, column].set_ylim(bottom=0)  # last: it ends the scaling of what shares the axis
        for row, title in enumerate(COSTS.values()):
            grid[row, 0].set_ylabel(title)
        marks = [
            *(_mark(marker, colour) for (marker, _), colour in zip(RULES.values(), _colours(), strict=True)),
            _mark("x", LIGHT.ink),
        ]
        legend_below(figure, marks, [*(label for _, label in RULES.values()), "the poster's elbow"])
        return figure


def _colours() -> list[str]:
    return [LIGHT.accent, LIGHT.muted]


def _mark(marker: str, colour: str) -> "Line2D":
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, marker=marker, linestyle="")


def _draw_costs(axes: "Axes", word: str, currency: str, outcomes: Mapping[str, Sequence[Outcome]]) -> None:
    others = [f"with {next(w for w in TASKS if w != word and w in s.name)}" for s in PAIRS_WITH[word]]
    places = {word: "alone", **{s.name: told for s, told in zip(PAIRS_WITH[word], others, strict=True)}}
    places[ALL_THREE.name] = "all three"
    for (rule, (marker, _)), colour in zip(RULES.items(), _colours(), strict=True):
        quantity = taken_to(rule, currency, word)
        for place, name in enumerate(places):
            values = [value for one in outcomes.get(name, ()) if (value := quantity.of(one)) not in (None, NEVER)]
            axes.plot([place] * len(values), values, marker, color=colour, markersize=4, alpha=0.8)
    poster = [SEQUENCES[count][word] for count in (1, 2, 2, 3)]
    if currency == "sequences":
        shares = [BATCH, BATCH // 2, BATCH // 2, 44 if word == "product" else 42]
        poster = [number * BATCH // share for number, share in zip(poster, shares, strict=True)]
    axes.plot(range(len(poster)), poster, "x", color=LIGHT.ink, markersize=6)
    axes.set_xticks(range(len(places)), list(places.values()), rotation=20)


def losses_figure(outcomes: Mapping[str, Sequence[Outcome]]) -> "Figure":
    """The loss of the product against sequences of its own, and against those of all tasks; a colour a mixture.

    Args:
        outcomes: by setting name; a line a seed.
    """
    import matplotlib
    from matplotlib.figure import Figure

    product = TASKS["product"]
    with matplotlib.rc_context(figure_style()):
        figure = Figure(figsize=(9.5, 3.6), layout="constrained")
        grid = figure.subplots(ncols=2, sharey=True)
        colours = ordered_colours(len(outcomes))
        for colour, ours in zip(colours, outcomes.values(), strict=True):
            for one in ours:
                _draw_loss(grid, one, product.name, colour)
        for axes, title in zip(grid, COSTS.values(), strict=True):
            if product.levels.plateau is not None:
                axes.axhline(product.levels.plateau, color=LIGHT.muted, linewidth=0.8, linestyle=":")
            axes.set(xlabel=title, xlim=(0, None), ylim=(0, None))
        grid[0].set_ylabel("loss of the product (nats)")
        lines = [matplotlib.lines.Line2D([], [], color=colour) for colour in colours]
        legend_below(figure, lines, [ours[0].setting.about or name for name, ours in outcomes.items()])
        return figure


def _draw_loss(grid: "Sequence[Axes]", one: Outcome, group: str, colour: str) -> None:
    assert isinstance(one.setting, Setting)
    task, column = one.setting.recipe.task, f"loss_{column_word(group)}"
    assert isinstance(task, Mixture)
    column = column if len(drawn_tasks(task)) > 1 else "loss"
    rows = one.metrics[["step", column]].dropna()
    steps, losses = rows["step"].to_numpy(), rows[column].rolling(SMOOTH, center=True, min_periods=1).median()
    own = task.group_counts(BATCH)[group]
    for axes, share in zip(grid, (own, BATCH), strict=True):
        axes.plot(np.asarray(steps) * share, losses, color=colour, linewidth=0.9, alpha=0.8)


def operations_figure(outcomes: Mapping[str, Sequence[Outcome]]) -> "Figure":
    """Division in company beside division alone, which is grey behind it: the loss, and what is right of the held-out.

    Args:
        outcomes: by setting name, division alone first.
    """
    named = {name: [_named_by_operation(one) for one in ours] for name, ours in outcomes.items()}
    return beside_figure(named, ("loss", "validation_accuracy_divide", "validation_accuracy"))


def _named_by_operation(one: Outcome) -> Outcome:
    """With the accuracy of a single operation under its name, too, as a run of several has that of each."""
    assert isinstance(one.setting, Setting)
    drawn = drawn_tasks(one.setting.recipe.task)
    if len(drawn) > 1 or "validation_accuracy" not in one.metrics:
        return one
    own = {f"validation_accuracy_{column_word(drawn[0])}": one.metrics["validation_accuracy"]}
    return dataclasses.replace(one, metrics=one.metrics.assign(**own))
