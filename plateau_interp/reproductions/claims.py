"""Claims of a paper as statements about measured numbers, each with its tolerance and the reason for it.

A check takes, for each setting's name, the outcomes of its seeds, and answers with what was measured and whether the
claim holds. Numbers are medians over seeds, with the range; a step that was not reached is later than any other. What
could be measured in fewer than four of five seeds leaves a claim unknown.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from plateau_interp.reproductions.quantities import NEVER, Quantity, median
from plateau_interp.reproductions.settings import Outcome

__all__ = [
    "MAJORITY",
    "Check",
    "Claim",
    "Finding",
    "Ordered",
    "Outcomes",
    "Ratio",
    "Reported",
    "Statement",
    "Verdict",
    "Within",
    "only_reported",
]

Verdict = Literal["holds", "does not hold", "unknown", "not run"]
Outcomes = Mapping[str, Sequence[Outcome]]
"""By setting name, the outcomes of its seeds."""

MAJORITY = 0.8
"""Of the seeds, the share in which an order has to be as claimed: 4 of 5, 3 of 3."""


@dataclass(frozen=True)
class Finding:
    """What a check found."""

    measured: str
    verdict: Verdict


NOT_RUN = Finding("", "not run")


class Check(Protocol):
    """A statement about outcomes that holds or does not."""

    @property
    def expected(self) -> str:
        """What the claim says, in numbers or as an order."""
        ...

    def find(self, outcomes: Outcomes) -> Finding:
        """Quantity, and say whether it holds."""
        ...


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper, in our words, with the check that it comes down to.

    Args:
        text: the sentence.
        source: where it stands, and how well that is known.
        check: the measurable statement.
        reason: why the check's bounds are what they are.
        late: whether it was written after some of its runs had been looked at; bounds are best fixed before.
    """

    text: str
    source: str
    check: Check
    reason: str
    late: bool = False


@dataclass(frozen=True)
class Statement:
    """A claim of an experiment, with what was found.

    Args:
        experiment: its name.
        claim: the claim.
        finding: what its check found.
    """

    experiment: str
    claim: Claim
    finding: Finding

    def texts(self) -> dict[str, str]:
        """For tables and JSON: experiment, claim, source, what was expected and measured, and the verdict."""
        return {
            "experiment": self.experiment,
            "claim": self.claim.text,
            "source": f"{self.claim.source} (late)" if self.claim.late else self.claim.source,
            "expected": self.claim.check.expected,
            "measured": self.finding.measured or "-",
            "verdict": self.finding.verdict,
        }


@dataclass(frozen=True)
class Within:
    """A quantity's median over the seeds lies between two bounds, both included; on demand most seeds' values, too."""

    quantity: Quantity
    setting: str
    low: float = -math.inf
    high: float = math.inf
    most_seeds: bool = False

    @property
    def expected(self) -> str:
        """The interval."""
        low, high = self.quantity.tell(self.low), self.quantity.tell(self.high)
        bounds = f"in {low} to {high}"
        if self.low == -math.inf:
            bounds = f"≤ {high}"
        elif self.high == math.inf:
            bounds = f"≥ {low}"
        return f"{self.quantity.name} {bounds}{', in four of five seeds, too' if self.most_seeds else ''}"

    def find(self, outcomes: Outcomes) -> Finding:
        """Compare the median with the bounds."""
        ours = outcomes.get(self.setting, ())
        if not ours:
            return NOT_RUN
        values = list(_by_seed(self.quantity, ours).values())
        unseen = len(ours) - len(values)
        told = f"({_seeds(len(ours))}{f', not seen in {unseen}' if unseen else ''})"
        told = f"{self.quantity.tell_all(values)} {told}" if values else told
        if len(values) < MAJORITY * len(ours):
            return Finding(told, "unknown")
        within = sum(self.low <= value <= self.high for value in values)
        holds = self.low <= median(values) <= self.high
        if self.most_seeds:
            holds = holds and within >= MAJORITY * len(values)
        return Finding(told, "holds" if holds else "does not hold")


@dataclass(frozen=True)
class Ordered:
    """A quantity grows from setting to setting, in the medians and in four of five seeds of each two neighbours."""

    quantity: Quantity
    settings: tuple[str, ...]

    @property
    def expected(self) -> str:
        """The settings in order."""
        return f"{self.quantity.name}: {' < '.join(self.settings)}"

    def find(self, outcomes: Outcomes) -> Finding:
        """Compare neighbours seed by seed."""
        if not all(outcomes.get(name) for name in self.settings):
            return NOT_RUN
        by_setting = [_by_seed(self.quantity, outcomes[name]) for name in self.settings]
        if not all(by_setting):
            return Finding("not seen", "unknown")
        told = "; ".join(
            f"{name} {self.quantity.tell_all(list(values.values()))}"
            for name, values in zip(self.settings, by_setting, strict=True)
        )
        holds = True
        shares = []
        for first, second in itertools.pairwise(by_setting):
            shared = first.keys() & second.keys()
            if len(shared) < MAJORITY * min(len(outcomes[name]) for name in self.settings) or not shared:
                return Finding(f"{told} (only {_seeds(len(shared))} in common)", "unknown")
            right = sum(first[seed] < second[seed] for seed in shared)
            shares.append(f"{right}/{len(shared)}")
            medians = [median([values[seed] for seed in shared]) for values in (first, second)]
            holds = holds and right >= MAJORITY * len(shared) and medians[0] < medians[1]
        return Finding(f"{told} (seeds in order: {', '.join(shares)})", "holds" if holds else "does not hold")


@dataclass(frozen=True)
class Ratio:
    """A quantity over the same seed's in another setting: its median lies between two bounds."""

    quantity: Quantity
    setting: str
    over: str
    low: float = 0.0
    high: float = math.inf

    @property
    def expected(self) -> str:
        """The bounds as factors."""
        what = f"{self.quantity.name}, {self.setting} / {self.over}"
        if self.low == 0:
            return f"{what} ≤ {self.high:g}"
        return f"{what} ≥ {self.low:g}" if self.high == math.inf else f"{what} in {self.low:g} to {self.high:g}"

    def find(self, outcomes: Outcomes) -> Finding:
        """Divide seed by seed."""
        if not outcomes.get(self.setting) or not outcomes.get(self.over):
            return NOT_RUN
        ours, theirs = (_by_seed(self.quantity, outcomes[name]) for name in (self.setting, self.over))
        shared = [seed for seed in ours if 0 < theirs.get(seed, NEVER) < NEVER]
        if len(shared) < MAJORITY * len(outcomes[self.setting]):
            return Finding(f"a number over another for {_seeds(len(shared))} alone", "unknown")
        ratios = [ours[seed] / theirs[seed] for seed in shared]
        told = Quantity("", lambda _: None, digits=2).tell_all(ratios)
        holds = self.low <= median(ratios) <= self.high
        return Finding(f"{told} ({_seeds(len(shared))})", "holds" if holds else "does not hold")


@dataclass(frozen=True)
class Reported:
    """A quantity whose value the paper gives nowhere that is known: reported, not judged."""

    quantity: Quantity
    settings: tuple[str, ...]

    @property
    def expected(self) -> str:
        """That nothing is known."""
        return f"{self.quantity.name}: unknown"

    def find(self, outcomes: Outcomes) -> Finding:
        """Tell what was measured."""
        told = [
            f"{name} {self.quantity.tell_all(values)}"
            for name in self.settings
            if (values := list(_by_seed(self.quantity, outcomes.get(name, ())).values()))
        ]
        return Finding("; ".join(told), "unknown") if told else NOT_RUN


def only_reported(text: str, quantity: Quantity, *settings: str) -> Claim:
    """A claim of which no number is known: what is measured is told, and not judged.

    Args:
        text: what it is.
        quantity: what is measured.
        settings: names of the settings that it is measured of.
    """
    return Claim(text, "no number is known", Reported(quantity, settings), "")


def _by_seed(quantity: Quantity, outcomes: Sequence[Outcome]) -> dict[int, float]:
    values = {outcome.seed: quantity.of(outcome) for outcome in outcomes}
    return {seed: value for seed, value in values.items() if value is not None}


def _seeds(n: int) -> str:
    return "1 seed" if n == 1 else f"{n} seeds"
