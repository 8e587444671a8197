"""Criteria: each by hand and by a slow loop, of runs, groups and what was not measured."""

import math
import random

import numpy as np
import pandas as pd
import pytest

from plateau_interp import summarise
from plateau_interp.analysis.budgets import Budget, Prices
from plateau_interp.analysis.criteria import (
    CRITERIA,
    Reached,
    criteria_of,
    elbow,
    first_held,
    in_columns,
    perfect_for,
)
from plateau_interp.analysis.plateaus import comparable, compare
from plateau_interp.tasks import MatrixCompletion, Mixture, ModularArithmetic, MovingWindowSum

SUM = MovingWindowSum(scored="answer")
LEVEL = SUM.levels.plateau or math.nan


def found(table: pd.DataFrame, task: object = SUM, **prices: object) -> dict[tuple[str, str | None], Reached]:
    reached = criteria_of(table, task=task, prices=Prices(task, 128, **prices))
    return {(one.rule, one.group): one for one in reached}


def slow_elbow(steps: list[int], losses: list[float], level: float) -> int | None:
    for place, step in enumerate(steps):
        near = sorted(losses[max(0, place - 2) : place + 3])
        middle = (near[(len(near) - 1) // 2] + near[len(near) // 2]) / 2
        if middle < level - 0.1:
            return step
    return None


def slow_held(steps: list[int], values: list[float], bound: float, times: int) -> int | None:
    for place in range(len(steps) - times + 1):
        if all(value >= bound for value in values[place : place + times]):
            return steps[place]
    return None


@pytest.mark.parametrize("seed", range(20))
def test_against_slow_loops(seed: int) -> None:
    rng = random.Random(seed)
    every = rng.choice([1, 3, 10])
    steps = [every * place for place in range(60)]
    losses = [2.7 - 0.02 * max(0, place - 20) + rng.gauss(0, 0.1) for place in range(60)]
    values = [min(1.0, 0.9 + 0.004 * place + rng.gauss(0, 0.03)) for place in range(60)]
    array = np.array(steps)
    assert elbow(array, np.array(losses), 2.6) == slow_elbow(steps, losses, 2.6)
    for times in (1, 5, 10):
        assert first_held(array, np.array(values), 0.95, evaluations=times) == slow_held(steps, values, 0.95, times)
    perfect = perfect_for(array, np.array(values))
    runs = [i for i, v in enumerate(values) if v >= 1]
    by_hand = None
    for last in runs:
        first = last
        while first - 1 in runs:
            first -= 1
        if steps[last] - steps[first] >= 49:
            by_hand = steps[last]
            break
    assert perfect == by_hand


def test_an_elbow_is_not_one_step_of_noise() -> None:
    losses = np.full(20, 2.65)
    losses[3] = 0.0
    losses[8:10] = 0.0
    assert elbow(np.arange(20), losses, 2.65) is None
    losses[13:] = 2.54
    assert elbow(np.arange(20), losses, 2.65) == 13
    assert elbow(np.arange(20), np.full(20, 2.551), 2.65) is None  # 0.1 below, and not a little less


def test_a_crossing_that_does_not_last_is_no_held_one() -> None:
    values = np.array([0.0, 0.96, 0.96, 0.96, 0.96, 0.94, *[0.95] * 5, 0.0])
    steps = np.arange(0, 120, 10)
    assert first_held(steps, values, 0.95, evaluations=1) == 10
    assert first_held(steps, values, 0.95, evaluations=5) == 60
    assert first_held(steps[:10], values[:10], 0.95, evaluations=5) is None  # the run ended before it was held


def test_50_perfect_steps_are_counted_as_the_source_does() -> None:
    """It stops at the step that is the fiftieth in a row: begun at 165, that is 214."""
    values = np.array([0.99] * 165 + [1.0] * 60)
    assert perfect_for(np.arange(225), values) == 214
    values[200] = 0.999
    assert perfect_for(np.arange(225), values) is None
    assert perfect_for(np.arange(0, 2250, 10), np.array([0.99] * 165 + [1.0] * 60)) == 1700


def whole_table() -> pd.DataFrame:
    steps = range(400)
    loss = [3.0] * 5 + [LEVEL] * 122 + [LEVEL - 0.2] * 53 + [0.01] * 220
    accuracy = [0.1] * 180 + [0.96] * 20 + [0.995] * 30 + [1.0] * 170
    return pd.DataFrame({"step": steps, "loss": loss, "accuracy": accuracy})


def test_a_run_by_hand_in_all_currencies() -> None:
    reached = found(whole_table(), flops=1000, seconds=[(508, 64.0)])
    at = {rule: one.step for (rule, _), one in reached.items()}
    assert at == {"elbow": 127, "right_95": 180, "right_99": 200, "perfect": 279}
    assert reached["elbow", None].budget == Budget(127, 16_256, 16_256, 16_256_000, 16.0)
    assert reached["elbow", None].describe() == "step 127; 16,256 sequences; 1.63e-05 TFLOP; 16.0 s of processor time"


def test_each_task_of_a_mixture_has_its_own_criteria() -> None:
    task = Mixture()
    ends = {"moving_window_sum": 251, "moving_window_difference": 257, "moving_window_product": 302}
    table = pd.DataFrame({"step": range(400), "loss": [2.6] * 400, "accuracy": [0.1] * 400})
    for (name, end), level in zip(ends.items(), task.group_levels.values(), strict=True):
        table[f"loss_{name}"] = [level.plateau] * end + [level.plateau - 0.11] * (400 - end)
        table[f"accuracy_{name}"] = [1.0 if step > 300 else math.nan if step % 2 else 0.5 for step in range(400)]
    reached = found(table, task)
    own = {name: reached["elbow", name].budget for name in task.group_names}
    assert [budget and (budget.steps, budget.own_sequences, budget.sequences) for budget in own.values()] == [
        (251, 10_542, 32_128),  # the poster's table 1, three tasks
        (257, 10_794, 32_896),
        (302, 13_288, 38_656),
    ]
    assert reached["elbow", None].step is None
    assert reached["right_99", "moving-window-sum"].step == 301
    assert reached["elbow", "moving-window-sum"].label.endswith(", moving-window-sum")
    columns = in_columns([*reached.values()])
    assert columns["elbow_own_sequences_moving_window_product"] == 13_288
    assert columns["elbow_steps"] is columns["elbow_flops_moving_window_sum"] is None


def test_grokking_first_held_and_final() -> None:
    task = ModularArithmetic(p=11, operations=("add", "divide"))
    validation = [0.0] * 10 + [0.96] + [0.5] * 9 + [0.97] * 20
    table = pd.DataFrame({"step": range(0, 400, 10), "loss": [0.1] * 40, "accuracy": [1.0] * 40})
    table["validation_accuracy"] = table["validation_accuracy_add"] = validation
    reached = found(table, task)
    assert reached["grokked", None].step == 100
    assert reached["grokked_held", None].step == 200
    assert reached["grokked_held", "add"].step == 200
    assert reached["grokked", "divide"].describe() == "not measured: no column validation_accuracy_divide"
    summary = summarise(table.assign(validation_loss=0.1), task=task, batch_size=512)
    assert summary.final_validation_accuracy == comparable(summary)["final_validation_accuracy"] == 0.97
    assert comparable(summary)["grokked_held_steps"] == 200
    assert not any(one.rule.startswith("grokked") for one in found(table, SUM).values())


def test_what_cannot_be_known_says_so_instead_of_a_number() -> None:
    table = whole_table()[["step", "loss"]]
    reached = found(table)
    assert reached["elbow", None].step == 127
    assert reached["right_95", None].describe() == "not measured: no column accuracy"
    assert reached["right_95", None].budget is None
    assert found(table, ModularArithmetic())["elbow", None].missing == "no closed form of the plateau is known"
    assert found(table, MatrixCompletion())["elbow", None].missing == "the loss is no cross-entropy"
    without = found(whole_table().assign(accuracy=0.5))
    assert without["perfect", None].describe() == "not reached"
    assert [criterion.name for criterion in CRITERIA[:4]] == [rule for rule, _ in reached]


def test_summaries_and_comparisons_have_them_side_by_side() -> None:
    one = summarise(whole_table(), task=SUM, batch_size=128, prices=Prices(SUM, 128, flops=7))
    other = summarise(whole_table()[["step", "loss"]], task=SUM, batch_size=128)
    rows = dict(one.rows())
    assert rows["Elbow: loss 0.1 below the plateau's closed form"].startswith("step 127; 16,256 sequences; ")
    assert dict(other.rows())["All right for 50 steps"] == "not measured: no column accuracy"
    table = compare({"one": one, "other": other}).set_index("run")
    assert table.loc["one", "elbow_sequences"] == 16_256
    assert table.loc["one", "elbow_flops"] == 7 * 16_256
    assert table.loc["other", "elbow_steps_change"] == 0
    assert table.loc[:, "right_95_steps"].isna().tolist() == [False, True]
    assert "final_validation_accuracy" not in table


def test_exactly_95_percent_are_95_percent() -> None:
    values = np.array([0.5, *[float(np.float32(0.95))] * 5])
    assert values.max() < 0.95
    assert first_held(np.arange(6), values, 0.95, evaluations=5) == 1
    table = pd.DataFrame({"step": np.arange(6), "loss": 2.0, "accuracy": values})
    assert found(table)["right_95", None].step == 1
