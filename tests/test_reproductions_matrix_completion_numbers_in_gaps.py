"""plateau_interp.reproductions.matrix_completion.numbers_in_gaps, on a model that copies by hand-set weights."""

import pytest
import torch
from planted_encoders import TASK, Checkpoints, copier
from tiny_paper import TASK as OTHER

from plateau_interp.reproductions.matrix_completion import copy_check
from plateau_interp.reproductions.matrix_completion.numbers_in_gaps import LOSS_OF_COPYING
from plateau_interp.reproductions.matrix_completion.studies import fresh_matrices


def test_a_model_that_copies_says_what_stands_in_the_gaps() -> None:
    table = copy_check(Checkpoints({7: copier()}), values=(0.4, -0.2), n=64).set_index("case")
    assert list(table.index) == ["MASK", "0.4", "-0.2", "MASK, full rank"]
    assert (table["step"] == 7).all()
    assert table["to_value"].max() < 1e-10
    assert table["loss_observed"].max() < 1e-10
    batch = fresh_matrices(TASK, 64)
    missing = batch.tokens == 0
    for case, value in (("MASK", 0.0), ("0.4", 0.4), ("-0.2", -0.2)):
        wrong = (batch.labels[missing] - value).square().sum() / batch.labels.numel()
        assert table.loc[case, "loss"] == pytest.approx(float(wrong), rel=1e-4)


def test_a_number_is_held_against_what_the_grid_makes_of_it() -> None:
    table = copy_check(Checkpoints({7: copier()}), values=(0.44, -0.16, 1.04, 0.41), n=64).set_index("case")
    assert list(table.index) == ["MASK", "0.4", "-0.2", "1", "MASK, full rank"]
    assert table["to_value"].max() < 1e-10
    assert table.loc[["0.4", "-0.2"]].equals(copy_check(Checkpoints({7: copier()}), n=64).set_index("case").iloc[1:3])


@pytest.mark.parametrize("value", [3.0, -1.1, float("nan"), float("inf")])
def test_a_number_beyond_the_grid_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"^value must be on the task's grid, from -1 to 1; got -?(3|1\.1|nan|inf)"):
        copy_check(Checkpoints({7: copier()}), values=(0.4, value), n=2)


def test_the_closed_forms_are_those_of_the_sheet() -> None:
    assert [round(level, 4) for level in LOSS_OF_COPYING.values()] == [0.0333, 0.0813, 0.0453]


def test_another_task_s_run_is_refused() -> None:
    with pytest.raises(ValueError, match="is of runs of matrix completion; this one is of MovingWindowSum"):
        copy_check(Checkpoints({0: copier()}, task=OTHER))
    with pytest.raises(ValueError, match="no checkpoint 3; the nearest is 0"):
        copy_check(Checkpoints({0: copier()}), steps=[3], n=2)
    assert torch.is_grad_enabled()
