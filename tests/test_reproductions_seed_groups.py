"""plateau_interp.reproductions.seed_groups: shares of seeds with their intervals, and checks of some seeds alone."""

import pytest
from outcomes import outcome

from plateau_interp.reproductions.claims import Within
from plateau_interp.reproductions.quantities import final, peak
from plateau_interp.reproductions.seed_groups import Among, SeedGroup, ShareOfSeeds, share_interval
from plateau_interp.reproductions.settings import Outcome

ACCURACY = final("accuracy", rows=1)
STUCK = SeedGroup("draws that are stuck", ACCURACY, "a", high=0.9)


def draws(*last, name="a", **columns):
    return [outcome(seed, accuracy=(0.0, 0.1, end), name=name, **columns) for seed, end in enumerate(last)]


def test_an_interval_is_wilsons():
    """With z = 1.96: (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)."""
    z, n, p = 1.959964, 20, 0.35
    middle, half = p + z**2 / (2 * n), z * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    expected = [(middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)]
    assert share_interval(7, 20) == pytest.approx(expected, abs=1e-6)


def test_a_group_has_the_seeds_within_its_bounds_and_none_that_was_not_measured():
    whole = outcome(3)
    unmeasured = Outcome(whole.setting, 3, whole.metrics.drop(columns="accuracy"))
    outcomes = {"a": [*draws(0.9, 0.91, 0.2), unmeasured]}
    assert STUCK.seeds(outcomes) == [0, 2]
    assert SeedGroup("solved", ACCURACY, "a", low=0.91).seeds(outcomes) == [1]


@pytest.mark.parametrize(("low", "high", "verdict"), [(0.5, 0.5, "holds"), (0.6, 1.0, "does not hold")])
def test_a_share_is_held_against_its_bounds(low, high, verdict):
    finding = ShareOfSeeds(STUCK, low, high).find({"a": draws(0.2, 1.0, 0.3, 1.0)})
    assert finding.verdict == verdict
    assert finding.measured == "2 of 4, a share of 0.50 (95 % interval 0.15 to 0.85)"


def test_a_share_says_what_it_expects():
    assert ShareOfSeeds(STUCK, 0.12, 0.77).expected == "share of draws that are stuck in 0.12 to 0.77"


def test_a_check_of_a_group_leaves_the_other_seeds_of_every_setting_out():
    outcomes = {"a": draws(0.2, 1.0, 0.3), "b": [outcome(seed, cosine=(0, seed, 0), name="b") for seed in range(3)]}
    check = Among(STUCK, Within(peak("cosine", digits=0), "b", low=1, high=1))
    assert check.expected == "peak cosine in 1 to 1, of draws that are stuck"
    finding = check.find(outcomes)
    assert (finding.measured, finding.verdict) == ("1 [0, 2] (2 seeds)", "holds")


def test_a_group_without_seeds_is_unknown_and_without_runs_not_run():
    check = Among(STUCK, Within(peak("cosine"), "a", low=0.5))
    assert check.find({"a": draws(1.0)}).verdict == "unknown"
    assert check.find({"a": draws(1.0)}).measured == "no draws that are stuck"
    for nothing in ({}, {"a": []}):
        assert check.find(nothing).verdict == "not run"
        assert ShareOfSeeds(STUCK).find(nothing).verdict == "not run"
