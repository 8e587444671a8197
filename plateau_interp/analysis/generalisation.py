"""How far training and held-out loss are apart, and how that goes with a capacity over runs of different sizes.

A correlation over runs, with its interval and how many there were, whatever its sign: no claim beyond it.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from plateau_interp.analysis.capacity import query_key_capacity
from plateau_interp.analysis.observing import Checkpointed
from plateau_interp.checks import seed_number, shown, whole_number
from plateau_interp.types import FiniteTask, HookedModel, is_finite

__all__ = ["Correlation", "capacity_points", "correlation", "generalisation_gap"]

COVERAGE = 0.95
"""Of the interval."""


@dataclass(frozen=True)
class Correlation:
    """Pearson's r of n points, with a 95 % interval from resampling them; NaN where a side does not vary."""

    r: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"r = {self.r:.2f} (95 % bootstrap interval {self.low:.2f} to {self.high:.2f}, n = {self.n})"


@torch.no_grad()
def generalisation_gap(model: HookedModel, task: FiniteTask) -> Float[Tensor, ""]:
    """``|loss on the training set - loss on the validation set|``, both whole, in the task's unit.

    Measured: of these two sets, as they were split. Not covered: the loss over all that could be drawn, from which the
    validation set's differs by chance, and on which side the training set's lies.

    Source: the vertical axis of the scatter of arXiv 2205.11359, as its authors' code has it.

    Example:
        >>> from plateau_interp import toy_model
        >>> from plateau_interp.tasks import DepthTwoNet
        >>> task = DepthTwoNet(n=10)
        >>> generalisation_gap(toy_model(task), task).shape
        torch.Size([])
    """
    device = next(iter(model.parameters())).device
    batches = (task.train_set.to(device), task.validation_set.to(device))
    train, held_out = (task.loss(model(batch.inputs), batch) for batch in batches)
    return (train - held_out).abs()


def capacity_points(runs: Iterable[Checkpointed]) -> pd.DataFrame:
    """A row a run, of its last checkpoint: what the paper's scatter is drawn from.

    Columns ``n_train``, how many sequences were trained on, m; ``capacity``, C_QK, and ``frobenius``, |M|_F, both mean
    over heads; ``scaled_capacity``, ``capacity/sqrt(m)``; ``gap``, `generalisation_gap`.

    Args:
        runs: of finite tasks, such as the runs of a sweep over the size of the training set.

    Raises:
        ValueError: for a run whose task has no training set.

    Source: the axes of the scatter of arXiv 2205.11359, with the capacity of attention heads in the place of a
    DeepONet's. What heads have beyond the theorem is told at `plateau_interp.analysis.capacity.query_key_capacity`.

    Example:
        >>> from plateau_interp import Run
        >>> points = capacity_points([Run("runs/p-11"), Run("runs/p-53")])  # doctest: +SKIP
        >>> print(correlation(points["scaled_capacity"], points["gap"]))  # doctest: +SKIP
    """
    rows = []
    for run in runs:
        task = run.task
        if not is_finite(task):
            raise ValueError(f"a gap needs a training set and a validation set; {shown(task, most=60)} has none")
        model = run.model()
        heads, n_train = query_key_capacity(model), len(task.train_set)
        capacity = float(heads.capacity.mean())
        rows.append(
            {
                "n_train": n_train,
                "capacity": capacity,
                "frobenius": float(heads.frobenius.mean()),
                "scaled_capacity": capacity / math.sqrt(n_train),
                "gap": float(generalisation_gap(model, task)),
            }
        )
    return pd.DataFrame(rows)


def correlation(
    x: Sequence[float] | pd.Series, y: Sequence[float] | pd.Series, *, n_resamples: int = 2000, seed: int = 0
) -> Correlation:
    """Pearson's r of two columns, with a percentile bootstrap interval: points are drawn anew, with replacement.

    Resamples in which a side does not vary have no r and are left out. With few points the interval is too short.

    Args:
        x: one number a point.
        y: likewise.
        n_resamples: how often points are drawn anew.
        seed: of the draws.

    Raises:
        ValueError: for columns of unequal length, fewer than 3 points, or a number that is not finite.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.

    Example:
        >>> found = correlation([1, 2, 3, 4, 5], [2, 1, 4, 3, 5])
        >>> round(found.r, 2), found.n, found.low < found.r < found.high
        (0.8, 5, True)
    """
    whole_number("n_resamples", n_resamples, least=1)
    sides = np.asarray([*map(float, x)]), np.asarray([*map(float, y)])
    if len(sides[0]) != len(sides[1]) or len(sides[0]) < 3:
        raise ValueError(f"x and y must be equally many numbers, 3 at least; got {len(sides[0])} and {len(sides[1])}")
    if not all(np.isfinite(side).all() for side in sides):
        raise ValueError("x and y must be finite numbers")
    n = len(sides[0])
    rows = np.random.default_rng(seed_number(seed)).integers(n, size=(n_resamples, n))
    resampled = _pearson(sides[0][rows], sides[1][rows])
    known = resampled[np.isfinite(resampled)]
    tail = (1 - COVERAGE) / 2
    low, high = np.quantile(known, [tail, 1 - tail]) if len(known) else (math.nan, math.nan)
    (r,) = _pearson(sides[0][None], sides[1][None])
    return Correlation(float(r), float(low), float(high), n)


def _pearson(
    x: Float[np.ndarray, "resample point"], y: Float[np.ndarray, "resample point"]
) -> Float[np.ndarray, " resample"]:
    """NaN where a side does not vary."""
    dx, dy = x - x.mean(axis=-1, keepdims=True), y - y.mean(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        r: np.ndarray = (dx * dy).sum(axis=-1) / np.sqrt((dx**2).sum(axis=-1) * (dy**2).sum(axis=-1))
    return r
