"""Checks that part a setting's seeds in two: how large one part is, and other checks of that part alone."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from plateau_interp.reproductions.claims import Check, Finding, Outcomes
from plateau_interp.reproductions.quantities import Quantity
from plateau_interp.reproductions.settings import Outcome

__all__ = ["Among", "SeedGroup", "ShareOfSeeds", "share_interval"]

CONFIDENCE = 0.95


def share_interval(count: int, total: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share.

    Args:
        count: how many of them.
        total: how many there are, at least 1.

    Example:
        >>> [round(end, 2) for end in share_interval(2, 5)]
        [0.12, 0.77]
    """
    from scipy.stats import binomtest  # half a second, for those alone who tell a share

    interval = binomtest(count, total).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


@dataclass(frozen=True)
class SeedGroup:
    """The seeds of a setting in which a quantity lies in bounds, both included.

    Args:
        name: for tables, as in "draws that are stuck".
        quantity: of the setting's runs; a seed in which it was not measured is in no group.
        setting: its name.
        low: the bounds.
        high: likewise.
    """

    name: str
    quantity: Quantity
    setting: str
    low: float = -math.inf
    high: float = math.inf

    def seeds(self, outcomes: Outcomes) -> list[int]:
        """Which they are."""
        values = {one.seed: self.quantity.of(one) for one in outcomes.get(self.setting, ())}
        return [seed for seed, value in values.items() if value is not None and self.low <= value <= self.high]

    def among(self, outcomes: Outcomes) -> Mapping[str, Sequence[Outcome]]:
        """The outcomes of every setting, of these seeds alone."""
        ours = set(self.seeds(outcomes))
        return {name: [one for one in all_seeds if one.seed in ours] for name, all_seeds in outcomes.items()}


@dataclass(frozen=True)
class ShareOfSeeds:
    """The share of a setting's seeds that are in a group lies between two bounds, both included."""

    group: SeedGroup
    low: float = 0.0
    high: float = 1.0

    @property
    def expected(self) -> str:
        """The bounds."""
        return f"share of {self.group.name} in {self.low:.2f} to {self.high:.2f}"

    def find(self, outcomes: Outcomes) -> Finding:
        """Count them, and say between what the share lies that so many seeds tell of."""
        total = len(outcomes.get(self.group.setting, ()))
        if not total:
            return Finding("", "not run")
        count = len(self.group.seeds(outcomes))
        low, high = share_interval(count, total)
        told = f"{count} of {total}, a share of {count / total:.2f} (95 % interval {low:.2f} to {high:.2f})"
        return Finding(told, "holds" if self.low <= count / total <= self.high else "does not hold")


@dataclass(frozen=True)
class Among:
    """Another check, of the seeds of a group alone; unknown if there are none."""

    group: SeedGroup
    check: Check

    @property
    def expected(self) -> str:
        """What the other check says, and of which seeds."""
        return f"{self.check.expected}, of {self.group.name}"

    def find(self, outcomes: Outcomes) -> Finding:
        """Leave the other seeds out."""
        if not outcomes.get(self.group.setting):
            return Finding("", "not run")
        ours = self.group.among(outcomes)
        return self.check.find(ours) if ours[self.group.setting] else Finding(f"no {self.group.name}", "unknown")
