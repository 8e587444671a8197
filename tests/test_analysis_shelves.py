"""Plateaus at a level that is known, which lie where the search for an unknown one does not look."""

import numpy as np
import pandas as pd
import pytest
from filled import FilledNumbers

from plateau_interp.analysis.plateaus import summarise
from plateau_interp.analysis.shelves import Shelf, known_shelf, lies_low, shelf, smoothed
from plateau_interp.tasks import MatrixCompletion, MovingWindowSum

LEVEL = 1 / 30


def losses(*stretches: tuple[float, int], noise: float = 0.0) -> np.ndarray:
    """Stretches of a level and a length, with noise that is a share of the level, as that of single batches is."""
    levels = np.concatenate([np.full(length, level) for level, length in stretches])
    return levels * (1 + noise * np.random.default_rng(0).standard_normal(len(levels)))


def summary_of(loss: np.ndarray):
    table = pd.DataFrame({"step": 10 * np.arange(len(loss)), "loss": loss})
    return summarise(table, task=MatrixCompletion(), batch_size=128)


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.1])
@pytest.mark.parametrize("first", [0.3, 37.0])
def test_plateau_and_drop_are_found_below_a_high_beginning(first, noise):
    """As in the paper, whose loss is 37 after the first update."""
    found = summary_of(losses((first, 5), (LEVEL, 300), (0.015, 100), noise=noise))
    assert found.level == pytest.approx(LEVEL, rel=0.02)
    assert found.has_plateau
    assert found.start <= 100
    assert 2950 <= found.end <= 3050
    assert 3040 <= found.drop_step <= 3090
    assert found.unit == "mean square"


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_a_plateau_that_is_not_left_has_no_drop(noise):
    found = summary_of(losses((0.3, 5), (LEVEL, 300), noise=noise))
    assert found.level == pytest.approx(LEVEL, rel=0.02)
    assert found.drop_step is None
    assert found.end >= 2900
    assert found.left_initial_level


def test_a_loss_that_passes_by_was_on_no_plateau():
    falling = 0.3 * np.exp(-np.arange(300) / 40)
    found = summary_of(falling)
    assert (found.level, found.start, found.end) == (None, None, None)
    assert found.drop_step is not None


def test_the_level_is_a_mean_and_no_median():
    """Errors of squares are skewed: the median of the batches is below their mean."""
    raw = np.concatenate([np.full(5, 0.3), np.tile([0.03, 0.03, 0.04], 100), np.full(100, 0.01)])
    assert known_shelf(raw, smoothed(raw, half=0.15), LEVEL).level == pytest.approx(0.1 / 3, rel=1e-3)


@pytest.mark.parametrize(("level", "is_low"), [(2.9, False), (1.0, False), (0.74, True), (0.5, True), (0.4, False)])
def test_a_level_lies_low_within_the_last_quarter(level, is_low):
    assert lies_low(level, first=1.5, lowest=0.5) == is_low


def test_a_level_above_the_last_quarter_is_searched_as_ever():
    task = FilledNumbers()
    table = pd.DataFrame({"step": np.arange(90), "loss": losses((0.6, 5), (0.4, 50), (0.1, 35))})
    assert summarise(table, task=task, batch_size=8).level == pytest.approx(0.4, abs=0.005)


def test_a_plateau_that_is_searched_ends_at_its_last_row():
    loss = losses((3.0, 1), (2.0, 20), (0.0, 20))
    assert shelf(loss, loss, lowest=0.0) == Shelf(level=2.0, start=1, end=20, drop=21)


def test_what_lingers_in_the_last_quarter_below_the_first_loss_is_no_plateau():
    loss = losses((100.0, 1), (2.0, 20), (0.0, 20))
    assert shelf(loss, loss, lowest=0.0) == Shelf(None, None, None, 1)


@pytest.mark.parametrize(("rise", "is_found"), [(0.0, True), (0.025, True), (0.045, False)])
def test_two_rows_are_a_plateau_unless_the_loss_rises_by_more_than_a_bandwidth(rise, is_found):
    loss = np.array([3.0, 2.0, 2.0 + rise, 0.0, 0.0])  # of a fall of 3 the bandwidth is 0.03
    found = shelf(loss, loss, lowest=0.0)
    assert ((found.start, found.end) == (1, 2)) is is_found
    assert (found.level is None) is not is_found


@pytest.mark.parametrize(
    ("levels", "drop"),
    [
        ((3.0, 2.0, 1.2, 0.9, 0.6), 0.9),  # half-way from the level to the floor
        ((2.0, 3.0, 1.4, 1.2, 0.9), 0.9),  # half of the whole fall, where the level is above the first loss
    ],
)
def test_the_drop_is_half_way_down(levels, drop):
    first, level, *falling = levels
    loss = losses((first, 1), (level, 20), *((value, 1) for value in falling), (0.0, 20))
    found = shelf(loss, loss, lowest=0.0)
    assert found.level == pytest.approx(level, abs=0.01)
    assert loss[found.drop] == drop


@pytest.mark.parametrize("noise", [0.0, 0.003])
def test_a_short_shoulder_hides_no_long_plateau_above_it(noise):
    """As of a moving-window sum of six numbers: a plateau, a slope, and a bend on the way down."""
    slope = np.linspace(2.6, 2.26, 35)
    loss = np.concatenate([[2.9], np.full(150, 2.629), slope, np.full(25, 2.25), np.full(300, 1.3)])
    raw = loss * (1 + noise * np.random.default_rng(0).standard_normal(len(loss)))
    found = shelf(raw, smoothed(raw, half=2.1), lowest=1.3)
    assert found.level == pytest.approx(2.629, abs=0.01)
    assert found.start <= 2
    assert found.end == pytest.approx(152, abs=4)
    assert found.drop == 211  # where half of the way from the plateau is done


def test_of_two_long_shelves_the_lower_is_meant():
    loss = losses((3.0, 1), (2.5, 100), (1.5, 100), (0.0, 100))
    assert shelf(loss, smoothed(loss, half=1.5), lowest=0.0).level == pytest.approx(1.5, abs=0.01)


@pytest.mark.parametrize("n_before", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("noise", [0.0, 0.005])
def test_a_plateau_starts_where_the_loss_has_come_down_to_it(n_before, noise):
    """The medians of the first rows are those of the rows after them."""
    loss = losses((2.9, n_before), (2.45, 40), noise=noise)
    found = summarise(pd.DataFrame({"step": range(len(loss)), "loss": loss}), task=MovingWindowSum(), batch_size=8)
    assert found.start == n_before
    assert found.has_plateau


def test_a_known_level_starts_where_the_loss_has_come_down_to_it():
    raw = losses((0.3, 2), (LEVEL, 60), (0.01, 40))
    found = known_shelf(raw, smoothed(raw, half=0.02), LEVEL)
    assert (found.start, found.level) == (2, pytest.approx(LEVEL))


def test_a_first_loss_within_the_noise_is_on_the_plateau():
    loss = losses((2.6, 80), (1.3, 80), noise=0.02)
    loss[0] = 2.6 * 1.04  # two deviations above it, and more than 2 % of the fall
    assert shelf(loss, smoothed(loss, half=1.9), lowest=1.3).start == 0
