"""Checks that look at several settings at once: how far their ends lie apart, and a correlation over all their runs."""

import math
from dataclasses import dataclass

import numpy as np

from plateau_interp.analysis.generalisation import Correlation, correlation
from plateau_interp.reproductions.claims import Finding, Outcomes
from plateau_interp.reproductions.quantities import Quantity, median

__all__ = ["Correlated", "SpreadOver", "correlated"]


@dataclass(frozen=True)
class SpreadOver:
    """Of one seed's runs, the largest less the smallest of a quantity: its median over seeds lies in bounds.

    Args:
        quantity: of each setting.
        settings: names, all of which have to be there.
        low: the bounds, both included.
        high: likewise.
    """

    quantity: Quantity
    settings: tuple[str, ...]
    low: float = 0.0
    high: float = math.inf

    @property
    def expected(self) -> str:
        """The bounds."""
        bounds = f"≤ {self.high:g}" if self.high < math.inf else f"≥ {self.low:g}"
        return f"spread of {self.quantity.name} over {len(self.settings)} starts {bounds}"

    def find(self, outcomes: Outcomes) -> Finding:
        """Subtract seed by seed."""
        by_setting = [{one.seed: self.quantity.of(one) for one in outcomes.get(name, ())} for name in self.settings]
        seeds = set.intersection(*(set(values) for values in by_setting))
        if not seeds:
            return Finding("", "not run")
        ends = [[values[seed] for values in by_setting] for seed in sorted(seeds)]
        known = [[value for value in values if value is not None] for values in ends]
        if any(len(values) < len(self.settings) for values in known):
            return Finding("not measured of all", "unknown")
        spreads = [max(values) - min(values) for values in known]
        of_each = ", ".join(self.quantity.tell(value) for value in known[0])
        told = (
            f"{Quantity('', lambda _: None, 4).tell_all(spreads)} ({of_each}{' at the first seed' * (len(seeds) > 1)})"
        )
        return Finding(told, "holds" if self.low <= median(spreads) <= self.high else "does not hold")


@dataclass(frozen=True)
class Correlated:
    """Pearson's r of two quantities, one point a run of any of the settings, with its bootstrap interval and n.

    Args:
        x: a quantity.
        y: another.
        settings: names; of those that are missing there are no points.
        low: what the whole interval has to lie above; None to tell r without a verdict.
        within: subtract from each point the mean of its setting, so that what differs between settings has no part.
    """

    x: Quantity
    y: Quantity
    settings: tuple[str, ...]
    low: float | None = None
    within: bool = False

    @property
    def expected(self) -> str:
        """The bound, or that nothing is known."""
        pair = f"Pearson's r of {self.x.name} and {self.y.name}{', less the means of each size' * self.within}"
        return f"{pair}: {'unknown' if self.low is None else f'the 95 % interval above {self.low:g}'}"

    def find(self, outcomes: Outcomes) -> Finding:
        """Correlate."""
        found = correlated(self.x, self.y, self.settings, outcomes, within=self.within)
        if found is None:
            return Finding("", "not run")
        if self.low is None or math.isnan(found.r):
            return Finding(str(found), "unknown")
        return Finding(str(found), "holds" if found.low > self.low else "does not hold")


def correlated(
    x: Quantity, y: Quantity, settings: tuple[str, ...], outcomes: Outcomes, *, within: bool = False
) -> Correlation | None:
    """`plateau_interp.analysis.generalisation.correlation` of the runs of some settings; None of fewer than 3 runs.

    Args:
        x: a quantity.
        y: another.
        settings: names.
        outcomes: by setting name.
        within: whether to subtract the mean of its setting from each point.
    """
    points: list[np.ndarray] = []
    for name in settings:
        pairs = [(x.of(one), y.of(one)) for one in outcomes.get(name, ())]
        known = np.array([pair for pair in pairs if None not in pair], dtype=float).reshape(-1, 2)
        points += [*(known - known.mean(axis=0) if within and len(known) else known)]
    if len(points) < 3:
        return None
    xs, ys = np.array(points).T
    return correlation(xs.tolist(), ys.tolist())
