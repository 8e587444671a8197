"""plateau_interp.reproductions.claims: each kind of check on outcomes made by hand."""

import pytest
from outcomes import outcome

from plateau_interp.reproductions.claims import Ordered, Ratio, Reported, Within
from plateau_interp.reproductions.quantities import Quantity, peak, steps_to

PEAK_COSINE, TO_99 = peak("cosine"), steps_to(99)


def seeds(*cosines, name="a"):
    return [outcome(seed, cosine=(0.0, cosine, 0.1), name=name) for seed, cosine in enumerate(cosines)]


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.5, 0.9, "holds"), (0.7, 1.0, "does not hold"), (0.6, 0.6, "holds")]
)
def test_within_looks_at_the_median_and_includes_its_bounds(low, high, verdict):
    finding = Within(PEAK_COSINE, "a", low, high).find({"a": seeds(0.5, 0.6, 0.95)})
    assert finding.verdict == verdict
    assert finding.measured == "0.600 [0.500, 0.950] (3 seeds)"


@pytest.mark.parametrize(("values", "verdict"), [((2, 2, 2), "holds"), ((1, 2, 9), "does not hold")])
def test_within_can_ask_for_most_seeds(values, verdict):
    last = Quantity("cosine", lambda one: values[one.seed])
    ours = {"a": [outcome(seed) for seed in range(3)]}
    assert Within(last, "a", high=3, most_seeds=True).find(ours).verdict == verdict
    assert Within(last, "a", high=3).find(ours).verdict == "holds"


def test_within_says_what_it_expects():
    assert Within(PEAK_COSINE, "a", 0.5, 0.75).expected == "peak cosine in 0.500 to 0.750"
    assert Within(PEAK_COSINE, "a", low=0.5).expected == "peak cosine ≥ 0.500"
    assert Within(PEAK_COSINE, "a", high=0.5).expected == "peak cosine ≤ 0.500"


def test_an_order_holds_in_the_medians_and_in_four_of_five_seeds():
    low, high = seeds(0.1, 0.2, 0.3, 0.4, 0.5), seeds(0.2, 0.3, 0.4, 0.5, 0.45, name="b")
    finding = Ordered(PEAK_COSINE, ("a", "b")).find({"a": low, "b": high})
    assert finding.verdict == "holds"
    assert finding.measured.endswith("(seeds in order: 4/5)")
    assert Ordered(PEAK_COSINE, ("b", "a")).find({"a": low, "b": high}).verdict == "does not hold"


def test_an_order_that_three_of_five_seeds_have_does_not_hold():
    low, high = seeds(0.1, 0.2, 0.3, 0.4, 0.5), seeds(0.2, 0.3, 0.4, 0.1, 0.2, name="b")
    assert Ordered(PEAK_COSINE, ("a", "b")).find({"a": low, "b": high}).verdict == "does not hold"


def test_an_order_of_medians_alone_does_not_hold():
    low, high = seeds(0.1, 0.2, 0.9), seeds(0.3, 0.4, 0.2, name="b")
    assert Ordered(PEAK_COSINE, ("a", "b")).find({"a": low, "b": high}).verdict == "does not hold"


def test_equal_values_are_in_no_order_and_never_is_later_than_any_step():
    same = {"a": [outcome()], "b": [outcome(name="b")]}
    assert Ordered(TO_99, ("a", "b")).find(same).verdict == "does not hold"
    never = {"a": [outcome()], "b": [outcome(name="b", accuracy=(0.0, 0.0, 0.0))]}
    assert Ordered(TO_99, ("a", "b")).find(never).verdict == "holds"


def test_an_order_without_a_seed_in_common_is_unknown():
    assert Ordered(PEAK_COSINE, ("a", "b")).find({"a": [outcome(0)], "b": [outcome(1)]}).verdict == "unknown"


def test_ratios_are_taken_seed_by_seed():
    ours, theirs = seeds(0.2, 0.6), seeds(0.4, 0.6, 0.1, name="b")
    finding = Ratio(PEAK_COSINE, "a", "b", low=0.7, high=0.8).find({"a": ours, "b": theirs})
    assert finding.measured == "0.75 [0.50, 1.00] (2 seeds)"
    assert finding.verdict == "holds"
    assert Ratio(PEAK_COSINE, "a", "b", high=0.7).find({"a": ours, "b": theirs}).verdict == "does not hold"
    assert Ratio(PEAK_COSINE, "a", "b", low=0.8).expected == "peak cosine, a / b ≥ 0.8"


def test_a_ratio_over_what_never_came_is_unknown():
    never = [outcome(accuracy=(0.0, 0.0, 0.0))]
    assert Ratio(TO_99, "a", "b", high=0.5).find({"a": [outcome()], "b": never}).verdict == "unknown"
    assert Ratio(TO_99, "b", "a", high=0.5).find({"a": [outcome()], "b": never}).verdict == "does not hold"


def test_what_has_no_known_value_is_told_and_not_judged():
    finding = Reported(PEAK_COSINE, ("a", "c")).find({"a": seeds(0.5)})
    assert (finding.measured, finding.verdict) == ("a 0.500", "unknown")


@pytest.mark.parametrize(
    "check",
    [
        Within(PEAK_COSINE, "a"),
        Ordered(PEAK_COSINE, ("a", "b")),
        Ratio(PEAK_COSINE, "a", "b"),
        Reported(PEAK_COSINE, ("a",)),
    ],
)
def test_without_outcomes_nothing_was_run(check):
    assert check.find({}).verdict == "not run"
    assert check.find({"a": [], "b": []}).verdict == "not run"


UNSEEN = Quantity("unseen", lambda one: 0.5 if one.seed < 3 else None, 1)


@pytest.mark.parametrize(("n", "verdict"), [(3, "holds"), (4, "unknown"), (5, "unknown")])
def test_what_a_minority_of_the_seeds_showed_is_unknown(n, verdict):
    ours = {"a": [outcome(seed) for seed in range(n)], "b": [outcome(seed) for seed in range(n)]}
    finding = Within(UNSEEN, "a", high=1.0).find(ours)
    assert finding.verdict == verdict
    assert finding.measured.endswith(f"not seen in {n - 3})") == (n > 3)
    assert (Ordered(UNSEEN, ("a", "b")).find(ours).verdict == "unknown") == (n > 3)
    assert (Ratio(UNSEEN, "a", "b", high=2).find(ours).verdict == "unknown") == (n > 3)


def test_a_ratio_over_nothing_is_unknown():
    nothing = [outcome(cosine=(0.0, 0.0, 0.0))]
    assert Ratio(PEAK_COSINE, "a", "b", high=2).find({"a": [outcome()], "b": nothing}).verdict == "unknown"
