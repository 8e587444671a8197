"""plateau_interp.reproductions.quantities: numbers of outcomes made by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from outcomes import RECIPE, outcome

from plateau_interp.reproductions.quantities import (
    LENGTH,
    Quantity,
    at,
    difference,
    falls_to,
    final,
    first_at,
    halfway_before_drop,
    last_on_plateau,
    lowest,
    mean_between,
    mean_on_plateau,
    over,
    part_solved,
    peak,
    peak_step,
    peaks_before_drop,
    since_fork,
    splits_in_halves,
    spread_of_answers,
    steadily_at,
    steps_to,
    summary_number,
    value_at,
)
from plateau_interp.reproductions.settings import Outcome, Setting

TO_99 = steps_to(99)


def test_measures_by_hand():
    one = outcome()
    assert peak("cosine").of(one) == 0.9
    assert peak("cosine", until=summary_number("", "peak_cosine_step")).of(one) == 0.1
    assert lowest("cosine", until=Quantity("", lambda one: 1)).of(one) == 0.1
    assert peak("cosine", until=Quantity("", lambda one: math.inf)).of(one) == 0.9
    assert peak("cosine", until=Quantity("", lambda one: None)).of(one) is None
    assert peak("cosine", until=Quantity("", lambda one: 0)).of(one) is None
    assert peak("cosine", until=summary_number("drop step", "drop_step")).name == "peak cosine before the drop step"
    assert lowest("cosine").of(one) == 0.1
    assert at("cosine", step=1).of(one) == 0.9
    assert final("cosine").of(one) == pytest.approx(0.4)
    assert steps_to(50).of(one) == 1
    assert summary_number("final loss", "final_loss").of(one) == 1.0


def test_where_a_column_falls_and_what_another_is_there():
    one = Outcome(
        Setting("a", RECIPE),
        0,
        pd.DataFrame(
            {
                "step": [0, 4, 8, 12, 16],
                "cosine": [0.1, 0.9, np.nan, 0.5, 0.2],
                "repetition": [0.0, 0.8, 0.7, 0.6, np.nan],
            }
        ),
    )
    assert peak_step("cosine").of(one) == 4
    assert falls_to("cosine", 0.5).of(one) == 12  # from the peak on: step 0 was lower
    assert falls_to("cosine", 0.1).of(one) == math.inf
    assert value_at("repetition", falls_to("cosine", 0.5)).of(one) == 0.6
    assert value_at("repetition", falls_to("cosine", 0.2)).of(one) is None
    assert value_at("repetition", falls_to("cosine", 0.1)).of(one) is None
    assert value_at("repetition", peak_step("norm")).of(one) is None
    assert mean_between("cosine", 4, 12).of(one) == pytest.approx(0.7)
    assert mean_between("cosine", 4, 20).of(one) is None  # it did not go as far
    of_norm = value_at("norm", peak_step("cosine"))
    for quantity in (peak_step("norm"), falls_to("norm", 1.0), mean_between("norm", 0, 4), of_norm):
        assert quantity.of(one) is None
    assert value_at("cosine", peak_step("cosine")).name == "cosine at the step of the peak cosine"


def test_what_was_not_measured_is_none_and_what_was_not_reached_is_never():
    one = outcome(accuracy=(0.0, 0.0, 0.0))
    assert [quantity.of(one) for quantity in (peak("norm"), lowest("norm"), at("norm"), final("norm"))] == [None] * 4
    assert at("cosine", step=7).of(one) is None
    assert TO_99.of(one) == math.inf
    assert summary_number("drop", "first_answer_step", is_step=True).of(one) == math.inf
    assert summary_number("level", "level_expected").of(one) == RECIPE.task.levels.plateau


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([3.0], "3"),
        ([1.0, 2.0, 9.0], "2 [1, 9]"),
        ([1.0, math.inf], "never [1, never]"),
        ([1.0, 2.0, math.inf], "2 [1, never]"),
        ([math.inf], "never"),
    ],
)
def test_median_and_range_as_text(values, text):
    assert Quantity("steps", lambda one: None).tell_all(values) == text


def plateau(**columns):
    """A run that falls to its plateau at once, sits there for 30 steps and drops at the end."""
    loss = [2.9, *[2.6] * 30, *[0.7] * 10]
    table = pd.DataFrame({"step": range(len(loss)), "loss": loss, "accuracy": [0.1] * 31 + [1.0] * 10, **columns})
    return Outcome(Setting("a", RECIPE), 0, table)


def test_the_last_value_on_the_plateau_skips_what_was_not_measured():
    one = plateau(norm=[float(step) if step % 2 else math.nan for step in range(41)])
    end = one.summary.end
    assert end is not None
    assert 25 <= end <= 31
    assert last_on_plateau("norm").of(one) == (end if end % 2 else end - 1)
    assert last_on_plateau("other").of(one) is None
    odd = [step for step in range(one.summary.start, end + 1) if step % 2]
    assert mean_on_plateau("norm").of(one) == sum(odd) / len(odd)
    assert mean_on_plateau("other").of(one) is None
    assert LENGTH.of(one) == end - one.summary.start
    assert LENGTH.of(outcome()) == 0
    assert last_on_plateau("cosine").of(outcome()) is None  # three steps are no plateau


def test_what_comes_before_the_plateau_is_not_on_it():
    one = plateau()
    fall = pd.DataFrame({"step": range(12), "loss": np.linspace(3.4, 2.9, 12), "accuracy": 0.1, "early": 1.0})
    later = one.metrics.assign(step=one.metrics["step"] + 12)
    both = Outcome(one.setting, 0, pd.concat([fall, later], ignore_index=True))
    assert 10 < both.summary.start < 14
    assert last_on_plateau("early").of(both) is None
    assert mean_on_plateau("early").of(both) is None


def test_peaks_and_half_ways_are_counted_back_from_the_drop():
    one = plateau(cosine=[step if step < 20 else 0 for step in range(41)], attention_progress=[*range(31), *[30] * 10])
    drop = one.summary.drop_step
    assert peaks_before_drop("cosine").of(one) == drop - 19
    assert halfway_before_drop().of(one) == drop - 15
    assert peaks_before_drop("norm").of(one) is None
    assert halfway_before_drop().of(outcome()) is None
    assert halfway_before_drop().of(plateau(attention_progress=[*range(41)][::-1])) is None
    unseen = plateau(attention_progress=[math.nan, *range(1, 31), *[30] * 10])
    assert halfway_before_drop().of(unseen) == unseen.summary.drop_step - 16


def test_half_way_between_two_infinities_is_the_lower():
    quantity = Quantity("steps", lambda _: None)
    assert quantity.tell_all([math.inf, -math.inf]) == "the other never [the other never, never]"
    assert quantity.tell_all([math.inf, 3.0]) == "never [3, never]"
    assert quantity.tell_all([4.0, 3.0]) == "4 [3, 4]"


def test_a_level_is_reached_steadily_once_most_of_nine_values_are_above_it():
    wandering = [1.0 if step in (3, 4, 20) or step > 25 else 0.0 for step in range(41)]
    assert first_at("accuracy_4", 0.9).of(plateau(accuracy_4=wandering)) == 3
    assert steadily_at("accuracy_4", 0.9).of(plateau(accuracy_4=wandering)) == 30
    assert steadily_at("accuracy_4", 0.9).of(plateau(accuracy_4=[0.0] * 41)) == math.inf
    assert steadily_at("other", 0.9).of(plateau()) is None


def test_measures_are_combined():
    one = outcome()
    first = first_at("cosine", 0.9)
    assert (first.of(one), TO_99.of(one)) == (1, 2)
    assert first_at("cosine", 0.95).of(one) == math.inf
    assert first_at("norm", 0.5).of(one) is None
    assert difference(TO_99, first).of(one) == 1
    assert over(first, TO_99, "part").of(one) == 0.5
    never = outcome(accuracy=(0.0, 0.0, 0.0))
    assert difference(TO_99, first).of(never) == math.inf
    assert difference(first, TO_99).of(never) == -math.inf
    assert difference(TO_99, TO_99).of(never) is None
    assert over(first, TO_99, "part").of(never) == 0.5  # of the last step: an upper bound
    assert over(TO_99, TO_99, "part").of(never) is None
    assert over(TO_99, first, "part").of(never) == math.inf


def test_a_value_of_a_checkpoint_is_none_where_there_was_none():
    seen = outcome(probe_test=(math.nan, 0.5, math.nan))
    assert at("probe_test").of(seen) is None
    assert at("probe_test", step=1).of(seen) == 0.5


def test_steps_that_were_not_reached_are_told():
    assert Quantity("a step", lambda _: None).tell_all([3, math.inf, math.inf]) == "never [3, never]"
    assert Quantity("a difference", lambda _: None).tell_all([-math.inf, 3, 4]) == "3 [the other never, 4]"


def test_steps_are_counted_from_the_fork():
    fork = Setting("fork", RECIPE, leaves=(Setting("parent", RECIPE), 1))
    assert since_fork(TO_99).of(Outcome(fork, 0, outcome().metrics)) == 1
    assert since_fork(TO_99).of(Outcome(fork, 0, outcome(accuracy=(0.0, 0.0, 0.0)).metrics)) == math.inf
    assert since_fork(peak("norm")).of(Outcome(fork, 0, outcome().metrics)) is None  # not measured
    assert since_fork(TO_99).of(Outcome(fork, 0, outcome(accuracy=(1.0, 1.0, 1.0)).metrics)) is None  # it was before
    assert since_fork(TO_99).of(outcome()) is None  # no fork


def test_parts_are_right_when_their_mean_is_and_answers_leave_together_or_not():
    one = outcome(accuracy_0=(1.0, 1.0, 1.0), accuracy_1=(0.0, 0.6, 0.98), accuracy_2=(0.0, 0.1, 1.0))
    assert part_solved("the first", [0]).of(one) == 0
    assert part_solved("all", [0, 1, 2]).of(one) == 2
    assert part_solved("the second", [1]).of(one) == math.inf
    assert part_solved("what is not there", [3]).of(one) is None
    assert spread_of_answers().of(one) == 1
    assert spread_of_answers().of(outcome(accuracy_1=(0.0, 0.0, 0.0), accuracy_2=(0.0, 1.0, 1.0))) == math.inf
    assert spread_of_answers().of(outcome(accuracy_1=(0.0, 0.0, 0.0))) is None
    assert spread_of_answers().of(outcome()) is None


def test_a_constant_is_not_a_split_into_halves():
    halves = {"copies_in_half_0": (1.0, 0.9, 0.5), "copies_in_half_1": (1.0, 0.8, 0.5)}
    assert splits_in_halves().of(outcome(copies_of_first=(1.0, 0.5, 0.3), **halves)) == 0.8
    assert splits_in_halves().of(outcome(copies_of_first=(1.0, 0.7, 0.3), **halves)) == 0.5  # the whole is constant yet
    assert splits_in_halves().of(outcome(copies_of_first=(0.8, 0.5, 0.3), **halves)) is None  # it never was
    assert splits_in_halves().of(outcome(copies_of_first=(0.5, 1.0, 0.3), **halves)) == 0.5  # not before the constant
    assert splits_in_halves().of(outcome(copies_of_first=(1.0, 0.9, 0.9), **halves)) is None
    assert splits_in_halves().of(outcome()) is None
