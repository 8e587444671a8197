"""What a column of the metrics is called, its unit, and the limits of its axis.

The columns of the suite's own `plateau_interp.training.meter.Meter` have their panels here. Whoever adds other columns
hands the panels of these to the figure: ``curves_figure(table, ["my_column"], panels={"my_column": Panel(...)})``.
How a panel is drawn is in `plateau_interp.views.curves`.
"""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from plateau_interp.analysis.observing import Checkpointed
from plateau_interp.checks import shown
from plateau_interp.types import Task

__all__ = [
    "COSINE",
    "METER_PANELS",
    "NO_MORE",
    "SHARE",
    "Panel",
    "Panels",
    "limits",
    "loss_curve",
    "loss_panels",
    "panel",
    "parts",
]

SHARE = (0.0, 1.03)
"""Limits of an axis of shares."""
COSINE = (-0.05, 1.03)
"""Limits of an axis of mean cosines, which are seldom below 0."""
CURVE_POINTS = 500
"""Most points of the loss curve beside a slider."""


@dataclass(frozen=True)
class Panel:
    """How a column of the metrics is drawn.

    Attributes:
        title: above the panel. Of numbered columns it holds ``{}`` for the number.
        unit: of the axis.
        limits: of the axis where they are fixed; else they follow from the values.
        first: what the column with number 0 is called: answers count from 1, layers from 0, as in hook names.
    """

    title: str
    unit: str
    limits: tuple[float, float] | None = None
    first: int = 0


Panels = Mapping[str, Panel]
"""Panels by column. A key ``accuracy_#`` stands for ``accuracy_0``, ``accuracy_1`` and so on."""

NO_MORE: Panels = MappingProxyType({})
"""No panels beside the meter's."""
METER_PANELS: Panels = MappingProxyType(
    {
        "loss": Panel("Training loss", "nats a position"),
        "accuracy": Panel("Accuracy of greedy answers", "share of answer tokens", SHARE),
        "accuracy_#": Panel("Accuracy of answer {}", "share of sequences", SHARE, first=1),
        "attention_progress": Panel("Attention progress", "share on target positions", SHARE),
        "attention_progress_#": Panel("Attention progress, layer {}", "share on target positions", SHARE),
        "attention_separator": Panel("Attention on the separator", "share", SHARE),
        "attention_progress_without_separator": Panel("Attention progress, separator aside", "share", SHARE),
        "repetition": Panel("Repetition in the answers", "share of equal neighbours", SHARE),
        "cosine": Panel("Similarity of hidden states", "mean pairwise cosine", COSINE),
        "norm": Panel("Length of hidden states", "Euclidean norm"),
        "entropy": Panel("Entropy of the answers", "nats"),
        "copies_of_first": Panel("Copies of the first answer", "share of answer tokens", SHARE),
    }
)
"""Panels of the columns that the meter makes."""


def panel(column: str, more: Panels = NO_MORE) -> Panel:
    """How to draw a column; one that nobody has a panel for is drawn under its own name.

    Args:
        column: a column of the metrics.
        more: panels of columns that are not the meter's; they go first.

    Example:
        >>> panel("accuracy_0").title
        'Accuracy of answer 1'
        >>> panel("wins", {"wins": Panel("Wins", "share of games", SHARE)}).unit
        'share of games'
    """
    known = {**METER_PANELS, **more}
    if column in known:
        return known[column]
    measure, at, hook_point = column.partition("@")
    kind, _, number = measure.rpartition("_")
    if f"{kind}_#" in known and number.isdigit():
        look = known[f"{kind}_#"]
        return dataclasses.replace(look, title=look.title.format(int(number) + look.first), first=0)
    name = measure.replace("_", " ").capitalize()
    look = known.get(measure, Panel(name, ""))
    return Panel(f"{name} at {hook_point}", look.unit, look.limits) if at else look


def loss_panels(tasks: Iterable[Task]) -> Panels:
    """The loss of some tasks in their own unit, if that is not nats.

    Example:
        >>> from plateau_interp.tasks import MatrixCompletion, MovingWindowSum
        >>> loss_panels([MatrixCompletion()])["loss"].unit, loss_panels([MovingWindowSum()])
        ('mean square', mappingproxy({}))
    """
    unit = " or ".join(dict.fromkeys(task.unit for task in tasks)) or Task.unit
    return NO_MORE if unit == Task.unit else {"loss": dataclasses.replace(panel("loss"), unit=unit)}


def limits(look: Panel, values: Iterable[float]) -> tuple[float, float] | None:
    """Of a panel's axis, wide enough for negative values: a mean cosine may be negative.

    Example:
        >>> limits(panel("cosine"), [0.9, -1.0])
        (-1.05, 1.03)
    """
    if look.limits is None:
        return None
    low, high = look.limits
    return min([low, *(1.05 * value for value in values)]), high


def parts(columns: Iterable[str], column: str) -> dict[str, str]:
    """Columns that measure a part of what ``column`` measures, by what to call them.

    The parts are layers (``attention_progress_0``, …), heads (``x_0_1``, of layer 0 and head 1) and, where the loss of
    groups of sequences was measured (``loss_x``), these groups (``accuracy_x``).

    Example:
        >>> parts(["loss", "loss_window_sum", "accuracy", "accuracy_0", "accuracy_window_sum"], "accuracy")
        {'window sum': 'accuracy_window_sum'}
        >>> parts(["on_row", "on_row_0_1"], "on_row")
        {'layer 0, head 1': 'on_row_0_1'}
    """
    there = list(map(str, columns))
    groups = [name.removeprefix("loss_") for name in there if name.startswith("loss_")]
    named = {group.replace("_", " "): f"{column}_{group}" for group in groups}
    if column == "attention_progress":
        layers = [name.removeprefix(f"{column}_") for name in there if name.startswith(f"{column}_")]
        named |= {f"layer {layer}": f"{column}_{layer}" for layer in layers if layer.isdigit()}
    named |= {
        f"layer {found[1]}, head {found[2]}": name
        for name in there
        if (found := re.fullmatch(rf"{re.escape(column)}_(\d+)_(\d+)", name))
    }
    return {label: name for label, name in named.items() if name in there}


def loss_curve(run: Checkpointed) -> dict[str, Any] | None:
    """A run's loss by step, thinned, and the levels it passes: what a view draws beside its slider.

    Steps whose loss is no finite number are left out, and the title says how many. None where no step is left.

    Raises:
        ValueError: for metrics without a column ``step`` or ``loss``.
    """
    metrics = run.metrics
    if metrics.empty:
        return None
    if missing := [name for name in ("step", "loss") if name not in metrics]:
        raise ValueError(f"the metrics of {shown(run)} must have the columns step and loss; {missing[0]} is missing")
    losses = pd.to_numeric(metrics["loss"], errors="coerce").astype(float)
    drawn = np.isfinite(losses)
    n_left_out = len(metrics) - int(drawn.sum())
    if n_left_out == len(metrics):
        return None
    every = max(1, math.ceil(int(drawn.sum()) / CURVE_POINTS))
    levels = run.task.levels
    named = (("plateau", levels.plateau), ("floor", levels.floor))
    left_out = f"; {n_left_out} steps without a finite one left out" if n_left_out else ""
    return {
        "title": f"training loss ({run.task.unit}){left_out}",
        "log": False,
        "step": [int(step) for step in metrics["step"][drawn].iloc[::every]],
        "values": [round(loss, 4) for loss in losses[drawn].iloc[::every].tolist()],
        "levels": [[name, round(level, 4)] for name, level in named if level is not None and math.isfinite(level)],
    }
