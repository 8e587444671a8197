"""What `plateau compare` says of budgets."""

from plateau_interp.analysis.budgets import Budget
from plateau_interp.analysis.criteria import Reached
from plateau_interp.cli.budget_rows import budget_rows


def test_a_row_a_currency_with_its_difference_from_the_first_run() -> None:
    first = Reached("elbow", "Elbow", None, 127, budget=Budget(127, 16_256, 16_256, 2_500_000_000, 12.5))
    other = Reached("elbow", "Elbow", None, 251, budget=Budget(251, 10_542, 32_128, None, 10.0))
    never = Reached("elbow", "Elbow", None, None)
    assert budget_rows([[first], [other], [never]]) == [
        ["Elbow: steps", "127", "251 (+124)", "not reached"],
        ["own sequences", "16,256", "10,542 (-5,714)", "not reached"],
        ["all sequences", "16,256", "32,128 (+15,872)", "not reached"],
        ["GFLOP", "2.5", "not counted", "not reached"],
        ["processor seconds", "12.5", "10.0 (-2.5)", "not reached"],
    ]


def test_without_a_number_to_compare_with_there_is_no_difference() -> None:
    first = Reached("elbow", "Elbow", None, 3, budget=Budget(3, 6, 6))
    other = Reached("elbow", "Elbow", None, 4, budget=Budget(4, 8, 8, 10**9, 1.0))
    rows = budget_rows([[first], [other]])
    assert rows[3:] == [["GFLOP", "not counted", "1.0"], ["processor seconds", "not recorded", "1.0"]]
    unmeasured = Reached("elbow", "Elbow", None, None, "not measured: no column loss")
    assert budget_rows([[unmeasured], [other]])[0] == ["Elbow: steps", "not measured: no column loss", "4"]


def test_what_no_run_has_reached_is_one_row_with_the_reasons() -> None:
    unmeasured = Reached("right_95", "95 %", None, None, "not measured: no column accuracy")
    never = Reached("right_95", "95 %", None, None)
    assert budget_rows([[unmeasured], [never], []]) == [
        ["95 %", "not measured: no column accuracy", "not reached", "-"]
    ]
