"""Quantities: one number of a finished run each, read off its curves or the summary of its plateau.

Claims are statements about them. Every function here makes a `Quantity`. What was not measured is None; a step that was
never reached is infinite, later than any other. What is measured while a model trains is in
`plateau_interp.training.meter`, and what needs a run's checkpoints in `plateau_interp.reproductions.from_checkpoints`.
"""

import math
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from plateau_interp.metrics import as_float32
from plateau_interp.reproductions.settings import SOLVED_ACCURACY, Outcome, Setting

__all__ = [
    "CONSTANT",
    "DROP",
    "LENGTH",
    "NEVER",
    "PEAK_COSINE",
    "PEAK_REPETITION",
    "Quantity",
    "at",
    "difference",
    "falls_to",
    "final",
    "first_at",
    "halfway_before_drop",
    "last_on_plateau",
    "lowest",
    "mean_between",
    "mean_on_plateau",
    "median",
    "over",
    "part_solved",
    "peak",
    "peak_step",
    "peaks_before_drop",
    "since_fork",
    "splits_in_halves",
    "spread_of_answers",
    "steadily_at",
    "steps_to",
    "summary_number",
    "value_at",
]

NEVER = math.inf
CONSTANT = 0.9
"""Share of copies of the first token from which on an answer is called constant."""
RUNNING = 9
"""Measured values in a running median."""


@dataclass(frozen=True)
class Quantity:
    """One number of a run.

    Args:
        name: for tables, with its unit where it has one.
        of: reads it off an outcome; None where it was not measured, infinite where a step was not reached.
        digits: after the point, for tables.
    """

    name: str
    of: Callable[[Outcome], float | None]
    digits: int = 0

    def tell(self, value: float) -> str:
        """The number as text."""
        if abs(value) == NEVER:
            return "never" if value > 0 else "the other never"
        return f"{value:.{self.digits}f}"

    def tell_all(self, values: Sequence[float]) -> str:
        """Median and range as text."""
        low, high = min(values), max(values)
        middle = self.tell(median(values))
        return middle if len(values) == 1 else f"{middle} [{self.tell(low)}, {self.tell(high)}]"


def median(values: Sequence[float]) -> float:
    """The middle value; of two where they lie infinitely far apart, the lower: there is no number half-way."""
    low, high = statistics.median_low(values), statistics.median_high(values)
    return low if low == -high == -NEVER else statistics.median(values)


def summary_number(name: str, field: str, *, digits: int = 0, is_step: bool = False) -> Quantity:
    """A field of `plateau_interp.analysis.plateaus.Summary`."""

    def of(outcome: Outcome) -> float | None:
        value = getattr(outcome.summary, field)
        return NEVER if value is None and is_step else value

    return Quantity(name, of, digits)


def steps_to(percent: int) -> Quantity:
    """Steps until the decoded answers have a token accuracy."""

    def of(outcome: Outcome) -> float | None:
        step = outcome.summary.steps_to[percent]
        return NEVER if step is None else step

    return Quantity(f"steps to {percent} %", of)


def peak(column: str, *, until: "Quantity | None" = None, digits: int = 3) -> Quantity:
    """Highest value of a column of the metrics; from the step ``until`` on, such as `DROP`, it does not count."""
    return Quantity(_name_until("peak", column, until), _extreme_until(column, np.max, until), digits)


def lowest(column: str, *, until: "Quantity | None" = None, digits: int = 3) -> Quantity:
    """Lowest value of a column; ``until`` as in `peak`."""
    return Quantity(_name_until("lowest", column, until), _extreme_until(column, np.min, until), digits)


def _name_until(what: str, column: str, until: Quantity | None) -> str:
    return f"{what} {column}" if until is None else f"{what} {column} before the {until.name}"


def at(column: str, *, step: int = 0, digits: int = 3) -> Quantity:
    """A column's value at the first measured step from a step on."""

    def of(outcome: Outcome) -> float | None:
        rows = outcome.metrics[outcome.metrics["step"] >= step]
        return None if column not in rows or rows[column].iloc[:1].isna().all() else float(rows[column].iloc[0])

    return Quantity(f"{column} at step {step}", of, digits)


def final(column: str, *, rows: int = 10, digits: int = 3) -> Quantity:
    """Mean of a column's last measured values."""

    def of(outcome: Outcome) -> float | None:
        return float(outcome.metrics[column].dropna().tail(rows).mean()) if column in outcome.metrics else None

    return Quantity(f"final {column}", of, digits)


def _extreme_until(
    column: str, extreme: Callable[[np.ndarray], float], until: Quantity | None
) -> Callable[[Outcome], float | None]:
    def of(outcome: Outcome) -> float | None:
        last = NEVER if until is None else until.of(outcome)
        if column not in outcome.metrics or last is None:
            return None
        values = outcome.metrics[column][outcome.metrics["step"] < last].dropna()
        return None if values.empty else float(extreme(values.to_numpy(dtype=float)))

    return of


DROP = summary_number("drop step", "drop_step", is_step=True)
PEAK_COSINE, PEAK_REPETITION = peak("cosine"), peak("repetition")
LENGTH = Quantity("steps on the plateau", lambda outcome: outcome.summary.length or 0)
"""0 without a plateau."""


def first_at(column: str, level: float) -> Quantity:
    """First step at which a column reaches a level."""

    def of(outcome: Outcome) -> float | None:
        if column not in outcome.metrics:
            return None
        return _first_step(outcome.metrics["step"], _at_least(outcome.metrics[column], level))

    return Quantity(f"first step with {column} ≥ {level:g}", of)


def steadily_at(column: str, level: float) -> Quantity:
    """First step at which the median of the last 9 measured values of a column reaches a level.

    For measures of single batches that wander about a level before they stay there; it lags 4 measured steps behind.
    """

    def of(outcome: Outcome) -> float | None:
        if column not in outcome.metrics:
            return None
        median = outcome.metrics[column].rolling(RUNNING).median()
        return _first_step(outcome.metrics["step"], _at_least(median, level))

    return Quantity(f"first step with {column} steadily ≥ {level:g}", of)


def peak_step(column: str) -> Quantity:
    """The measured step at which a column is highest, the first of several."""

    def of(outcome: Outcome) -> float | None:
        seen = _measured(outcome, column)
        return None if seen.empty else float(seen["step"].iloc[int(np.argmax(seen[column]))])

    return Quantity(f"step of the peak {column}", of)


def falls_to(column: str, level: float) -> Quantity:
    """First measured step, from the column's peak on, at which it is no more than a level."""

    def of(outcome: Outcome) -> float | None:
        seen = _measured(outcome, column)
        if seen.empty:
            return None
        later = seen.iloc[int(np.argmax(seen[column])) :]
        return _first_step(later["step"], pd.Series(as_float32(later[column]) <= as_float32(level), index=later.index))

    return Quantity(f"step at which {column} has fallen to {level:g}", of)


def value_at(column: str, moment: Quantity, *, digits: int = 3) -> Quantity:
    """A column's value at a measured step that another quantity names; None where that was not reached."""

    def of(outcome: Outcome) -> float | None:
        seen, step = _measured(outcome, column), moment.of(outcome)
        there = seen.loc[seen["step"] == step, column]
        return None if there.empty else float(there.iloc[0])

    return Quantity(f"{column} at the {moment.name}", of, digits)


def mean_between(column: str, start: int, stop: int, *, digits: int = 3) -> Quantity:
    """A column's mean over the measured steps from ``start`` to ``stop``, both included; None if the last is missing.

    So a run that ended before is not taken for one that went all the way.
    """

    def of(outcome: Outcome) -> float | None:
        seen = _measured(outcome, column)
        if seen.empty or outcome.metrics["step"].iloc[-1] < stop:
            return None
        values = seen.loc[seen["step"].between(start, stop), column]
        return None if values.empty else float(values.mean())

    return Quantity(f"mean {column}, steps {start} to {stop}", of, digits)


def _measured(outcome: Outcome, column: str) -> pd.DataFrame:
    """The rows in which a column was measured."""
    if column not in outcome.metrics:
        return pd.DataFrame(columns=["step", column])
    return outcome.metrics[["step", column]].dropna()


def over(part: Quantity, whole: Quantity, name: str) -> Quantity:
    """One quantity divided by another.

    Where the other's step was not reached, it is at least the last: what is told then is an upper bound.
    """

    def of(outcome: Outcome) -> float | None:
        above, below = part.of(outcome), whole.of(outcome)
        if above is None or not below or above == below == NEVER:
            return None
        return above / min(below, float(outcome.metrics["step"].iloc[-1]))

    return Quantity(name, of, 2)


def spread_of_answers() -> Quantity:
    """Steps between the first and the last of the answers after y_1 to be right in half of the sequences."""

    def of(outcome: Outcome) -> float | None:
        columns = [name for name in map(str, outcome.metrics) if re.fullmatch(r"accuracy_[1-9]\d*", name)]
        steps = [first_at(column, 0.5).of(outcome) for column in columns]
        known = [step for step in steps if step is not None]
        return None if min(known, default=NEVER) == NEVER else max(known) - min(known)

    return Quantity("steps from the first to the last of y_2 ... y_16 at 50 %", of)


def peaks_before_drop(column: str) -> Quantity:
    """Steps from the column's peak to the drop."""

    def of(outcome: Outcome) -> float | None:
        drop = outcome.summary.drop_step
        if drop is None or column not in outcome.metrics:
            return None
        return float(drop - outcome.metrics["step"].iloc[int(np.nanargmax(outcome.metrics[column]))])

    return Quantity(f"steps from peak {column} to the drop", of)


def halfway_before_drop() -> Quantity:
    """Steps from where attention progress is half-way between its first and last values to the drop.

    None where it does not grow.
    """

    def of(outcome: Outcome) -> float | None:
        drop = outcome.summary.drop_step
        if drop is None or "attention_progress" not in outcome.metrics:
            return None
        seen = outcome.metrics[["step", "attention_progress"]].dropna()
        progress = seen["attention_progress"].to_numpy()
        if not len(progress) or progress[0] >= progress[-10:].mean():
            return None
        middle = (progress[0] + progress[-10:].mean()) / 2
        return float(drop - seen["step"].iloc[int(np.argmax(progress >= middle))])

    return Quantity("steps from half of the attention progress to the drop", of)


def since_fork(quantity: Quantity) -> Quantity:
    """A quantity that counts steps, counted from the step at which a setting leaves another; None if it came before."""

    def of(outcome: Outcome) -> float | None:
        value, setting = quantity.of(outcome), outcome.setting
        left = setting.leaves if isinstance(setting, Setting) else None
        if value is None or left is None or value < left[1]:
            return None
        return value - left[1]

    return Quantity(f"{quantity.name} after the fork", of)


def difference(first: Quantity, second: Quantity) -> Quantity:
    """What one quantity has more than another: infinite if its step was not reached, -infinite if the other's."""

    def of(outcome: Outcome) -> float | None:
        more, less = first.of(outcome), second.of(outcome)
        if more is None or less is None or more == less == NEVER:
            return None
        return more - less

    return Quantity(f"{first.name} minus {second.name}", of, first.digits)


def part_solved(name: str, answers: Sequence[int]) -> Quantity:
    """First step at which some of the answers are 99 % right on average."""

    def of(outcome: Outcome) -> float | None:
        columns = [f"accuracy_{index}" for index in answers]
        if not set(columns) <= set(outcome.metrics):
            return None
        return _first_step(outcome.metrics["step"], _at_least(outcome.metrics[columns].mean(axis=1), SOLVED_ACCURACY))

    return Quantity(f"step from which {name} are right", of)


def _first_step(steps: pd.Series, reached: pd.Series) -> float:
    return float(steps[reached].iloc[0]) if reached.any() else NEVER


def _at_least(values: pd.Series, level: float) -> pd.Series:
    return pd.Series(as_float32(values) >= as_float32(level), index=values.index)


def splits_in_halves() -> Quantity:
    """How constant both halves of the answers are at some step at which the whole is not, after it was constant."""

    def of(outcome: Outcome) -> float | None:
        if "copies_in_half_0" not in outcome.metrics:
            return None
        whole = outcome.metrics["copies_of_first"]
        later = outcome.metrics[(whole < 0.6) & (whole.cummax() >= CONSTANT)]
        both = later[["copies_in_half_0", "copies_in_half_1"]].min(axis=1)
        return None if both.isna().all() else float(both.max())

    return Quantity(
        f"peak of the lower of copies_in_half_0 and _1 while copies_of_first is < 0.6, once it was ≥ {CONSTANT:g}",
        of,
        3,
    )


def last_on_plateau(column: str) -> Quantity:
    """A column's last value from the start to the end of the plateau."""
    return Quantity(f"last {column} on the plateau", _on_plateau(column, lambda values: values.iloc[-1]), 3)


def mean_on_plateau(column: str) -> Quantity:
    """A column's mean from the start to the end of the plateau."""
    return Quantity(f"mean {column} on the plateau", _on_plateau(column, lambda values: values.mean()), 3)


def _on_plateau(column: str, reduced: Callable[[pd.Series], float]) -> Callable[[Outcome], float | None]:
    def of(outcome: Outcome) -> float | None:
        start, end = outcome.summary.start, outcome.summary.end
        if start is None or end is None or column not in outcome.metrics:
            return None
        values = outcome.metrics[outcome.metrics["step"].between(start, end)][column].dropna()
        return None if values.empty else float(reduced(values))

    return of
