"""plateau_interp.reproductions.matrix_completion.trained_on: what is its own."""

import pandas as pd
import pytest

from plateau_interp.reproductions.matrix_completion.trained_on import FALLS_OF_SIZE, OTHER_LAWS, SIZES_MIXED
from plateau_interp.reproductions.quantities import NEVER
from plateau_interp.reproductions.settings import Outcome, Setting


@pytest.mark.parametrize("setting", OTHER_LAWS.settings, ids=lambda setting: setting.name)
def test_an_entry_has_one_variance_whatever_the_law(setting: Setting) -> None:
    task = setting.recipe.task
    assert task.variance == pytest.approx(1 / 9)
    assert task.levels.plateau == pytest.approx(0.3 * task.clipped_variance)
    # Ten deviations of Laplace factors' products leave 3.4 % of the variance out: the rows of fig18 are within 5 %.
    assert 0.96 / 9 < task.clipped_variance <= task.variance


def test_each_size_falls_by_itself() -> None:
    low, high = [0.01] * 20, [1 / 9] * 20
    curves = {"loss_missing": low, "loss_missing_3x3": high[:5] + low[5:], "loss_missing_4x4": high}
    outcome = Outcome(SIZES_MIXED, 0, pd.DataFrame({"step": range(0, 200, 10), **curves}))
    # (4 + 6 * 0.09) / 10 is the first mean of ten values that is below three quarters: after three low values.
    assert FALLS_OF_SIZE[3].of(outcome) == 90
    assert FALLS_OF_SIZE[4].of(outcome) == NEVER
    assert FALLS_OF_SIZE[5].of(outcome) is None
    assert "of 3x3" in FALLS_OF_SIZE[3].name
