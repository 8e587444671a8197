"""plateau_interp.reproductions.shortening.poster: the poster's own arithmetic."""

import pytest

from plateau_interp.reproductions.shortening.mixes import ALL_THREE, BATCH, PAIRS_WITH, TASKS, TRAINED_ALONE
from plateau_interp.reproductions.shortening.poster import POSTER_STEPS, SAVING, SEQUENCES


def test_its_counts_are_whole_steps_of_the_shares_that_our_mixtures_have() -> None:
    for word, task in TASKS.items():
        for count, setting in ((1, TRAINED_ALONE[word]), (2, PAIRS_WITH[word][0]), (3, ALL_THREE)):
            share = setting.recipe.task.group_counts(BATCH)[task.name]
            # Of two tasks it is the mean of two counts: of half steps.
            assert (SEQUENCES[count][word] / share * (2 if count == 2 else 1)).is_integer()
            assert POSTER_STEPS[count][word] == SEQUENCES[count][word] / share


def test_its_savings_follow_from_its_counts() -> None:
    assert pytest.approx({2: 0.4455, 3: 0.6324}, abs=5e-5) == SAVING
    assert [round(POSTER_STEPS[3][word]) for word in ("sum", "product", "difference")] == [251, 302, 257]
