"""plateau_interp.reproductions.shortening.moves: cosines and changes by hand."""

import copy
import math

import pandas as pd
import pytest
import torch

from plateau_interp.models import toy_model
from plateau_interp.reproductions.settings import Outcome
from plateau_interp.reproductions.shortening.moves import mean_of_cases, moved_weights
from plateau_interp.reproductions.shortening.transfer import TO_SUM_MOVES
from plateau_interp.tasks import MovingWindowSum

TASK = MovingWindowSum(n=4)


class Moved:
    """A run of two checkpoints: a bias that was 0 is 0.5, a row of ones is turned, all else is as it was."""

    task = TASK
    checkpoints = (0, 200)
    metrics = pd.DataFrame({"step": [0, 200]})

    def __init__(self):
        first = toy_model(TASK, d_model=8)
        with torch.no_grad():
            first.blocks[0].mlp.W_in.fill_(1.0)
            last = copy.deepcopy(first)
            last.blocks[0].mlp.b_in.fill_(0.5)
            last.blocks[0].mlp.W_in[:4] = -1.0
            last.blocks[0].mlp.W_in[4:6] = 3.0
        self.models = {0: first, 200: last}

    def model(self, step):
        return self.models[step]


def test_what_moved_is_told_by_cosine_and_by_absolute_change():
    table = moved_weights(Moved())
    rows = table.set_index("case")
    assert set(rows.index) == {"mlp.W_in", "mlp.b_in"}  # nothing else moved
    assert set(table["step"]) == {200}
    weight, bias = rows.loc["mlp.W_in"], rows.loc["mlp.b_in"]
    # Of 8 rows of ones 4 become -1, 2 become 3: (-4 + 6 + 2) / sqrt(8 (4 + 18 + 2)).
    assert weight["cosine"] == pytest.approx(4 / math.sqrt(8 * 24))
    assert weight["mean_change"] == pytest.approx((4 * 2 + 2 * 2) / 8)
    assert (bias["mean_change"], bias["mean_before"]) == (0.5, 0.0)
    assert math.isnan(bias["cosine"])  # what was 0 has no direction


def test_a_mean_over_parameters_wants_all_of_them():
    outcome = Outcome(TO_SUM_MOVES, 0, moved_weights(Moved()))
    both = ("mlp.W_in", "mlp.b_in")
    assert mean_of_cases("mean_change", "both", both).of(outcome) == pytest.approx(1.0)
    assert mean_of_cases("cosine", "both", both).of(outcome) is None
    assert mean_of_cases("mean_change", "one", ("mlp.W_in",), step=400).of(outcome) is None
    assert mean_of_cases("mean_change", "x", both).of(Outcome(TO_SUM_MOVES, 0, pd.DataFrame({"step": [0]}))) is None
    with pytest.raises(ValueError, match="checkpoint"):
        moved_weights(Moved(), [100])
