"""Budgets: all currencies at a step, by hand."""

import pytest

from plateau_interp.analysis.budgets import CURRENCIES, Budget, Prices, seconds_before
from plateau_interp.tasks import Mixture, ModularArithmetic, MovingWindowSum


def test_a_budget_by_hand() -> None:
    prices = Prices(Mixture(), 128, flops=155_123_712, seconds=((100, 10.0), (300, 50.0)))
    product = prices.budget(302 - 2, group="moving-window-product")
    assert product == Budget(300, 13_200, 38_400, 155_123_712 * 38_400, 50.0)
    assert prices.budget(200).own_sequences == prices.budget(200).sequences == 25_600
    assert prices.budget(200).seconds == pytest.approx(30.0)
    assert prices.budget(50).seconds == pytest.approx(5.0)
    assert prices.budget(301).seconds is None  # beyond what was recorded
    assert [*vars(product)] == [*CURRENCIES]


def test_what_nobody_counted_is_told_as_that() -> None:
    bare = Prices(MovingWindowSum(), 256).budget(10)
    assert (bare.flops, bare.seconds) == (None, None)
    assert bare.describe() == "step 10; 2,560 sequences; FLOPs not counted; processor time not recorded"
    whole = Budget(1000, 42_000, 128_000, 19_855_835_136_000, 1234.56)
    assert whole.describe() == "step 1000; 42,000 own of 128,000 sequences; 19.9 TFLOP; 1,234.6 s of processor time"


def test_a_finite_task_s_last_batch_of_an_epoch_costs_less() -> None:
    task = ModularArithmetic(p=97, train_fraction=0.5)
    assert Prices(task, 512, flops=10).budget(10) == Budget(10, 4656, 4656, 46_560, None)


@pytest.mark.parametrize(("updates", "expected"), [(0, 0.0), (5, 1.0), (10, 2.0), (12, 3.0), (20, 7.0), (21, None)])
def test_seconds_between_two_records_are_in_proportion(updates: int, expected: float | None) -> None:
    assert seconds_before([(10, 2.0), (20, 7.0)], updates) == expected
    assert seconds_before([], updates) is None
