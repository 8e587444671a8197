"""plateau_interp.reproductions.theory.pooled: spreads and correlations over runs made by hand."""

import numpy as np
import pandas as pd
import pytest

from plateau_interp.reproductions.quantities import Quantity, final
from plateau_interp.reproductions.settings import Outcome
from plateau_interp.reproductions.theory.pooled import Correlated, SpreadOver, correlated
from plateau_interp.reproductions.theory.scatter import TRAINING_SIZES

X, Y = (Quantity(name, final(name, rows=1).of, 2) for name in "xy")


def outcomes(points: dict[str, list[tuple[float, float]]]) -> dict[str, list[Outcome]]:
    return {
        name: [
            Outcome(TRAINING_SIZES[0], seed, pd.DataFrame({"step": [0], "x": [x], "y": [y]}))
            for seed, (x, y) in enumerate(ours)
        ]
        for name, ours in points.items()
    }


def test_the_spread_is_the_largest_less_the_smallest_of_each_seed() -> None:
    found = outcomes({"a": [(1.0, 0.0), (5.0, 0.0)], "b": [(1.5, 0.0), (5.1, 0.0)], "c": [(1.2, 0.0), (5.0, 0.0)]})
    finding = SpreadOver(X, ("a", "b", "c"), high=0.31).find(found)
    assert finding.verdict == "holds"
    assert finding.measured == "0.3000 [0.1000, 0.5000] (1.00, 1.50, 1.20 at the first seed)"
    assert SpreadOver(X, ("a", "b", "c"), high=0.29).find(found).verdict == "does not hold"
    assert SpreadOver(X, ("a", "b", "c"), low=0.31).find(found).verdict == "does not hold"
    assert SpreadOver(X, ("a", "b"), low=0.3).expected == "spread of x over 2 starts ≥ 0.3"
    assert SpreadOver(X, ("a", "b", "c", "d")).find(found).verdict == "not run"
    found["c"] = found["c"][:1]
    assert SpreadOver(X, ("a", "b", "c"), high=0.51).find(found).measured == "0.5000 (1.00, 1.50, 1.20)"
    assert SpreadOver(final("z"), ("a", "b")).find(found).verdict == "unknown"


def test_the_correlation_is_pearsons_over_all_runs() -> None:
    rng = np.random.default_rng(0)
    points = {name: [(float(x), float(x + rng.normal())) for x in rng.normal(size=4)] for name in "abc"}
    flat = np.array([point for ours in points.values() for point in ours])
    found = correlated(X, Y, ("a", "b", "c"), outcomes(points))
    assert found is not None
    assert found.r == pytest.approx(np.corrcoef(flat.T)[0, 1])
    assert found.n == 12
    assert correlated(X, Y, ("a",), outcomes({"a": points["a"][:2]})) is None


def test_means_of_settings_have_no_part_within() -> None:
    first = [(0.0, 1.0), (1.0, 0.5), (2.0, 0.2), (3.0, -0.5)]
    points = {
        name: [(x + shift, y + shift) for x, y in first] for name, shift in (("a", 0.0), ("b", 99.0), ("c", 50.0))
    }
    pooled, within = (
        Correlated(X, Y, ("a", "b", "c"), low=0.0, within=way).find(outcomes(points)) for way in (False, True)
    )
    assert (pooled.verdict, within.verdict) == ("holds", "does not hold")
    assert within.measured.startswith("r = -0.99")


def test_a_correlation_without_bound_or_number_has_no_verdict() -> None:
    points = {"a": [(0.0, 1.0), (1.0, 2.0), (2.0, 2.0)]}
    told = Correlated(X, Y, ("a",))
    assert told.find(outcomes(points)).verdict == "unknown"
    assert told.expected.endswith("unknown")
    assert Correlated(X, Y, ("a",), low=0.0).expected.endswith("the 95 % interval above 0")
    flat = Correlated(X, Y, ("a",), low=0.0).find(outcomes({"a": [(1.0, 1.0), (1.0, 2.0), (1.0, 3.0)]}))
    assert flat.verdict == "unknown"
    assert Correlated(X, Y, ("b",), low=0.0).find(outcomes(points)).verdict == "not run"
