"""What it took a run to reach a criterion, in a currency of choice, of all its tasks or of one; and what mixing saves.

The criteria and currencies are those of `plateau_interp.analysis.criteria` and `plateau_interp.analysis.budgets`. A
task that is trained alone is read as the run's whole.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from plateau_interp.analysis.budgets import Budget
from plateau_interp.reproductions.claims import MAJORITY, Finding, Outcomes
from plateau_interp.reproductions.quantities import NEVER, Quantity, median
from plateau_interp.reproductions.settings import Outcome, Setting
from plateau_interp.reproductions.shortening.mixes import TASKS, drawn_tasks

__all__ = ["CURRENCY_WORDS", "RULE_WORDS", "JointOverSeparate", "MeanSaving", "taken_to"]

RULE_WORDS = {
    "elbow": "the elbow",
    "right_95": "95 % right",
    "right_99": "99 % right",
    "perfect": "all right for 50 steps",
    "grokked": "95 % of the validation set",
    "grokked_held": "95 % of the validation set, held",
}
"""By the name of a criterion."""
CURRENCY_WORDS = {
    "steps": "steps",
    "own_sequences": "own sequences",
    "sequences": "sequences of all tasks",
    "flops": "FLOPs",
    "seconds": "processor seconds",
}
"""By the field of a budget."""


def taken_to(rule: str, currency: str, word: str | None = None) -> Quantity:
    """What it took to reach a criterion; infinite if it was not reached, None if the run has no such task or measure.

    Args:
        rule: the name of a criterion, one of `RULE_WORDS`.
        currency: one of `CURRENCY_WORDS`.
        word: one of `plateau_interp.reproductions.shortening.mixes.TASKS`, or an operation of modular arithmetic; None
            for all that the run draws.

    Example:
        >>> taken_to("elbow", "own_sequences", "product").name
        'own sequences to the elbow, product'
    """

    def of(outcome: Outcome) -> float | None:
        group = _group(outcome, word)
        if group is False:
            return None
        end = next((one for one in outcome.summary.reached if (one.rule, one.group) == (rule, group)), None)
        if end is None or end.missing:
            return None
        return NEVER if end.budget is None else _amount(end.budget, currency)

    whose = "" if word is None else f", {word}"
    return Quantity(f"{CURRENCY_WORDS[currency]} to {RULE_WORDS[rule]}{whose}", of)


def _group(outcome: Outcome, word: str | None) -> str | bool | None:
    """The group whose criteria are read: None where the whole run is; False where the task is not drawn."""
    if word is None:
        return None
    assert isinstance(outcome.setting, Setting)
    drawn, name = drawn_tasks(outcome.setting.recipe.task), TASKS[word].name if word in TASKS else word
    if name not in drawn:
        return False
    return name if len(drawn) > 1 else None


def _amount(budget: Budget, currency: str) -> float | None:
    found: float | None = getattr(budget, currency)
    return found


@dataclass(frozen=True)
class MeanSaving:
    """What mixing saves on average over the tasks: the mean of ``1 - cost / cost alone``, within two bounds.

    Of a task with several mixtures the mean cost of these counts, as in the poster's table.

    Args:
        rule: until which criterion costs are counted.
        currency: in what.
        mixes: by task, the names of the settings that have it beside others.
        low: lower bound, as a share.
        high: upper bound.
    """

    rule: str
    currency: str
    mixes: Mapping[str, Sequence[str]]
    low: float
    high: float

    @property
    def settings(self) -> tuple[str, ...]:
        """All that it compares."""
        return tuple(dict.fromkeys([*self.mixes, *(name for names in self.mixes.values() for name in names)]))

    @property
    def expected(self) -> str:
        """The bounds in per cent."""
        what = f"mean saving of {CURRENCY_WORDS[self.currency]} to {RULE_WORDS[self.rule]}"
        if self.low == -NEVER:
            return f"{what} ≤ {self.high:.0%}"
        return f"{what} in {self.low:.0%} to {self.high:.0%}"

    def find(self, outcomes: Outcomes) -> Finding:
        """Compare seed by seed; a seed in which something was not reached has no number."""
        if not all(outcomes.get(name) for name in self.settings):
            return Finding("", "not run")
        savings = list(self.by_seed(outcomes).values())
        n_seeds = min(len(outcomes[name]) for name in self.settings)
        if not savings or len(savings) < MAJORITY * n_seeds:
            return Finding(f"reached by all in {len(savings)} of {n_seeds} seeds alone", "unknown")
        told = Quantity("", lambda _: None, digits=0).tell_all([100 * one for one in savings])
        holds = self.low <= median(savings) <= self.high
        return Finding(f"{told} % (seeds: {len(savings)})", "holds" if holds else "does not hold")

    def by_seed(self, outcomes: Outcomes) -> dict[int, float]:
        """The mean saving of each seed in which all was reached."""
        by_task = [self._of_task(word, outcomes) for word in self.mixes]
        shared = set.intersection(*(set(one) for one in by_task))
        return {seed: statistics.mean(one[seed] for one in by_task) for seed in sorted(shared)}

    def _of_task(self, word: str, outcomes: Outcomes) -> dict[int, float]:
        quantity = taken_to(self.rule, self.currency, word)
        alone, *mixed = [_reached(quantity, outcomes.get(name, ())) for name in (word, *self.mixes[word])]
        shared = set(alone).intersection(*mixed)
        return {seed: 1 - statistics.mean(one[seed] for one in mixed) / alone[seed] for seed in shared}


@dataclass(frozen=True)
class JointOverSeparate:
    """What one training of all tasks took until the last of them was there, over what separate ones took together.

    Args:
        rule: until which criterion.
        joint: the name of the setting that trains all.
        separate: by task the name of the setting that trains it alone.
        low: lower bound of the median.
        high: upper bound.
    """

    rule: str
    joint: str
    separate: Mapping[str, str]
    low: float
    high: float

    @property
    def settings(self) -> tuple[str, ...]:
        """All that it compares."""
        return (self.joint, *self.separate.values())

    @property
    def expected(self) -> str:
        """The bounds as factors."""
        what = f"sequences of all tasks until every task is at {RULE_WORDS[self.rule]}, jointly / separately"
        return f"{what} in {self.low:.2g} to {self.high:.2g}"

    def find(self, outcomes: Outcomes) -> Finding:
        """Divide seed by seed."""
        if not all(outcomes.get(name) for name in self.settings):
            return Finding("", "not run")
        factors = list(self.by_seed(outcomes).values())
        n_seeds = min(len(outcomes[name]) for name in self.settings)
        if not factors or len(factors) < MAJORITY * n_seeds:
            return Finding(f"reached by all in {len(factors)} of {n_seeds} seeds alone", "unknown")
        told = Quantity("", lambda _: None, digits=2).tell_all(factors)
        holds = self.low <= median(factors) <= self.high
        return Finding(f"{told} (seeds: {len(factors)})", "holds" if holds else "does not hold")

    def by_seed(self, outcomes: Outcomes) -> dict[int, float]:
        """The factor of each seed in which all was reached."""
        quantities = {word: taken_to(self.rule, "sequences", word) for word in self.separate}
        joint = [_reached(quantity, outcomes.get(self.joint, ())) for quantity in quantities.values()]
        alone = [_reached(quantities[word], outcomes.get(name, ())) for word, name in self.separate.items()]
        shared = set.intersection(*(set(one) for one in (*joint, *alone)))
        return {seed: max(one[seed] for one in joint) / sum(one[seed] for one in alone) for seed in sorted(shared)}


def _reached(quantity: Quantity, outcomes: Sequence[Outcome]) -> dict[int, float]:
    """By seed, where there is a number that is above 0."""
    values = {outcome.seed: quantity.of(outcome) for outcome in outcomes}
    return {seed: value for seed, value in values.items() if value is not None and 0 < value < NEVER}
