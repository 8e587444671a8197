"""When a plateau ends and when a model has grokked, by explicit criteria, each with what it took to get there.

Different criteria tell different stories of one run: an elbow comes long before the last answers are right, and a first
crossing of 95 % may not last. So all of them are told, of a mixture also for each of its tasks. Where a plateau is, and
the drop by which it ends, is found without any bound by `plateau_interp.analysis.plateaus.summarise`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from plateau_interp.analysis.budgets import CURRENCIES, Budget, Prices
from plateau_interp.metrics import as_float32
from plateau_interp.training.shares import OfGroups, column_word, group_names
from plateau_interp.types import Task, is_finite

__all__ = [
    "CRITERIA",
    "Criterion",
    "Reached",
    "criteria_of",
    "delay_told",
    "elbow",
    "first_held",
    "in_columns",
    "perfect_for",
]

ELBOW = 0.10
"""Nats below the closed form of the plateau."""
MEDIAN_OF = 5
HELD, HELD_VALIDATION = 5, 10
"""Measured steps in a row."""
PERFECT_STEPS = 50
UNIT = "nats"


@dataclass(frozen=True)
class Criterion:
    """A rule by which something has come to an end.

    Args:
        name: as columns begin with it.
        title: for people.
        column: of the metrics, that it reads.
        find: the step at which it is fulfilled, from steps, values and the closed form of the plateau.
        of_finite: whether it is for tasks with a validation set alone.
    """

    name: str
    title: str
    column: str
    find: Callable[[np.ndarray, np.ndarray, float], int | None]
    of_finite: bool = False


@dataclass(frozen=True)
class Reached:
    """When a rule was fulfilled in a run, and what that took.

    Args:
        rule: the name of one of `CRITERIA`.
        title: the rule's, for people.
        group: whose end it is, of a task of several; None for all together.
        step: updates made then; None if it was not reached, or cannot be known.
        missing: why it cannot be known; empty where it can.
        budget: what the updates before that step took.
    """

    rule: str
    title: str
    group: str | None
    step: int | None
    missing: str = ""
    budget: Budget | None = None

    @property
    def label(self) -> str:
        """What it is called in a table."""
        return self.title if self.group is None else f"{self.title}, {self.group}"

    def describe(self) -> str:
        """For a table.

        Example:
            >>> Reached("elbow", "", None, None).describe(), Reached("elbow", "", None, None, "unknown").describe()
            ('not reached', 'unknown')
        """
        return self.missing or ("not reached" if self.budget is None else self.budget.describe())


def elbow(
    steps: np.ndarray, losses: np.ndarray, level: float, *, below: float = ELBOW, median_of: int = MEDIAN_OF
) -> int | None:
    """The first measured step at which the loss is clearly below its plateau; None if there is none.

    The loss is the median of the measured step, the two before it and the two after it; near an end, of those there
    are.

    Args:
        steps: measured ones, in order.
        losses: at each.
        level: the closed form of the plateau.
        below: how far below it counts.
        median_of: measured steps.

    Source: the elbows of "Shortening the Loss Plateau", table 1, lie 0.05 to 0.15 nats below the closed form; how they
    were read is not known.

    Example:
        >>> elbow(np.arange(6), np.array([3.0, 2.7, 2.7, 0.1, 2.6, 2.4]), 2.656)
        4
    """
    smooth = pd.Series(losses).rolling(median_of, center=True, min_periods=1).median().to_numpy()
    return _first_step(steps, smooth < level - below)


def first_held(steps: np.ndarray, values: np.ndarray, bound: float, *, evaluations: int) -> int | None:
    """The first step from which on a value is at least a bound at so many measured steps in a row.

    Example:
        >>> first_held(np.arange(5), np.array([0.0, 1.0, 0.0, 1.0, 1.0]), 0.95, evaluations=2)
        3
    """
    reached = pd.Series(as_float32(values) >= as_float32(bound)).rolling(evaluations).sum().to_numpy() == evaluations
    last = _first_index(reached)
    return None if last is None else int(steps[last - evaluations + 1])


def perfect_for(steps: np.ndarray, values: np.ndarray, *, n_steps: int = PERFECT_STEPS) -> int | None:
    """The step by which all was right at so many steps in a row, those between measured ones taken as they are.

    It is the last of these steps: the one at which the source's code stops to train.

    Example:
        >>> perfect_for(np.arange(0, 100, 10), np.array([1.0, 0.5] + [1.0] * 8))
        70
    """
    since: int | None = None
    for step, value in zip(steps.tolist(), values.tolist(), strict=True):
        if not value >= 1.0:  # NaN, too
            since = None
            continue
        since = step if since is None else since
        if step - since >= n_steps - 1:
            return int(step)
    return None


def _held(bound: float, evaluations: int) -> Callable[[np.ndarray, np.ndarray, float], int | None]:
    return lambda steps, values, level: first_held(steps, values, bound, evaluations=evaluations)


CRITERIA = (
    Criterion("elbow", "Elbow: loss 0.1 below the plateau's closed form", "loss", elbow),
    Criterion("right_95", f"95 % of tokens right, held for {HELD} evaluations", "accuracy", _held(0.95, HELD)),
    Criterion("right_99", f"99 % of tokens right, held for {HELD} evaluations", "accuracy", _held(0.99, HELD)),
    Criterion(
        "perfect",
        f"All right for {PERFECT_STEPS} steps",
        "accuracy",
        lambda steps, values, _: perfect_for(steps, values),
    ),
    Criterion(
        "grokked", "Grokked: validation 95 % right for the first time", "validation_accuracy", _held(0.95, 1), True
    ),
    Criterion(
        "grokked_held",
        f"Grokked: validation 95 % right, held for {HELD_VALIDATION} evaluations",
        "validation_accuracy",
        _held(0.95, HELD_VALIDATION),
        True,
    ),
)
"""All rules, in the order of every table. Source: "Shortening the Loss Plateau", its code and what we add to it."""


def criteria_of(metrics: pd.DataFrame, *, task: Task, prices: Prices) -> tuple[Reached, ...]:
    """When each rule was fulfilled, of all sequences and, of a task of several, of each group.

    What cannot be known, since a column or a closed form is missing, says so.

    Args:
        metrics: one row a measured step, in order, with ``step``.
        task: for its groups and closed forms.
        prices: what its steps cost.

    Example:
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> task = MovingWindowSum(scored="answer")
        >>> table = pd.DataFrame({"step": range(10), "loss": [2.7] * 5 + [1.0] * 5})
        >>> [(end.rule, end.step, end.missing) for end in criteria_of(table, task=task, prices=Prices(task, 128))][:2]
        [('elbow', 5, ''), ('right_95', None, 'not measured: no column accuracy')]
    """
    groups: Sequence[str | None] = (None, *group_names(task))
    rules = [rule for rule in CRITERIA if is_finite(task) or not rule.of_finite]
    return tuple(_reached(rule, metrics, task, group, prices) for rule in rules for group in groups)


def in_columns(found: Sequence[Reached]) -> dict[str, float | int | None]:
    """What it took to reach each criterion, as columns of a table: ``CRITERION_CURRENCY``, of a group with its name.

    None where it was not reached, or is not known.

    Example:
        >>> list(in_columns([Reached("elbow", "", "moving-window-sum", 3, budget=Budget(3, 6, 12))]).values())
        [3, 6, 12, None, None]
    """
    columns: dict[str, float | int | None] = {}
    for one in found:
        ending = "" if one.group is None else f"_{column_word(one.group)}"
        for currency in CURRENCIES:
            columns[f"{one.rule}_{currency}{ending}"] = None if one.budget is None else getattr(one.budget, currency)
    return columns


def _reached(rule: Criterion, metrics: pd.DataFrame, task: Task, group: str | None, prices: Prices) -> Reached:
    column = rule.column if group is None else f"{rule.column}_{column_word(group)}"
    level = _level(task, group)
    missing = ""
    if column not in metrics:
        missing = f"not measured: no column {column}"
    elif rule.column == "loss" and level is None:
        missing = "no closed form of the plateau is known"
    elif rule.column == "loss" and task.unit != UNIT:
        missing = "the loss is no cross-entropy"
    if missing:
        return Reached(rule.name, rule.title, group, None, missing)
    measured = metrics[["step", column]].dropna()
    step = rule.find(measured["step"].to_numpy(), measured[column].to_numpy(dtype=float), level or 0.0)
    budget = None if step is None else prices.budget(step, group=group)
    return Reached(rule.name, rule.title, group, step, budget=budget)


def _level(task: Task, group: str | None) -> float | None:
    """The closed form of the plateau, of all sequences or of a group."""
    if group is None:
        return task.levels.plateau
    return task.group_levels[group].plateau if isinstance(task, OfGroups) else None


def _first_step(steps: np.ndarray, fulfilled: np.ndarray) -> int | None:
    index = _first_index(fulfilled)
    return None if index is None else int(steps[index])


def _first_index(fulfilled: np.ndarray) -> int | None:
    found = np.flatnonzero(fulfilled)
    return int(found[0]) if len(found) else None


def delay_told(steps: int | None) -> str:
    """A grokking delay in words.

    Example:
        >>> delay_told(600), delay_told(-50)
        ('600 steps', 'none, 50 steps before the training set')
    """
    if steps is None:
        return "unknown"
    return f"none, {-steps} steps before the training set" if steps < 0 else f"{steps} steps"
