"""The rows of a comparison that say what it took to reach each criterion, in all currencies side by side."""

from collections.abc import Sequence
from dataclasses import astuple
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plateau_interp.analysis.criteria import Reached

__all__ = ["budget_rows"]

IN_WORDS = ("steps", "own sequences", "all sequences", "GFLOP", "processor seconds")
GIGA = 1e9
FLOPS, SECONDS = 3, 4
"""Places in a budget."""
UNKNOWN = {FLOPS: "not counted", SECONDS: "not recorded"}


def budget_rows(runs: Sequence[Sequence["Reached"]]) -> list[list[str]]:
    """A row a currency for each criterion that a run has reached, one row with the reasons for each that none has.

    Args:
        runs: of each run what `plateau_interp.analysis.criteria.criteria_of` found, the one to compare with first.

    Example:
        >>> from plateau_interp.analysis.budgets import Budget
        >>> from plateau_interp.analysis.criteria import Reached
        >>> one = Reached("elbow", "Elbow", None, 3, budget=Budget(3, 6, 6))
        >>> budget_rows([[one], [Reached("elbow", "Elbow", None, None)]])[:2]
        [['Elbow: steps', '3', 'not reached'], ['own sequences', '6', 'not reached']]
    """
    by_run = [{one.label: one for one in found} for found in runs]
    labels = dict.fromkeys(label for found in by_run for label in found)
    return [row for label in labels for row in _rows(label, [found.get(label) for found in by_run])]


def _rows(label: str, found: Sequence["Reached | None"]) -> list[list[str]]:
    budgets = [None if one is None or one.budget is None else astuple(one.budget) for one in found]
    reasons = ["-" if one is None else one.describe() for one in found]
    if not any(budgets):
        return [[label, *reasons]]
    first = budgets[0]
    rows = []
    for place, currency in enumerate(IN_WORDS):
        cells = []
        for reason, budget in zip(reasons, budgets, strict=True):
            compared = None if first is None or budget is first else first[place]
            cells.append(reason if budget is None else _cell(budget[place], compared, place))
        rows.append([currency if place else f"{label}: {currency}", *cells])
    return rows


def _cell(amount: float | None, first: float | None, place: int) -> str:
    """An amount, and its difference from the first run's."""
    if amount is None:
        return UNKNOWN[place]
    scale, form = (GIGA, ",.1f") if place == FLOPS else (1.0, ",.1f" if place == SECONDS else ",.0f")
    told = f"{amount / scale:{form}}"
    return told if first is None else f"{told} ({(amount - first) / scale:+{form}})"
