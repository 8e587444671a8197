"""plateau_interp.reproductions.shortening.grokking_tasks: each operation's own criteria, alone and in company."""

import numpy as np
import pandas as pd

from plateau_interp.reproductions.settings import Outcome
from plateau_interp.reproductions.shortening.ends import taken_to
from plateau_interp.reproductions.shortening.grokking_tasks import GROKKING_TASKS


def grokked(setting, step, ending=""):
    """An operation whose validation set is right from a step on."""
    steps = np.arange(0, setting.recipe.steps, 25)
    rows = {"step": steps, "loss": 1.0, f"validation_accuracy{ending}": np.where(steps < step, 0.1, 1.0)}
    return Outcome(setting, 0, pd.DataFrame(rows))


def test_own_equations_are_half_of_all_beside_another_operation() -> None:
    alone, beside, _ = GROKKING_TASKS.settings
    n_alone, n_beside = len(alone.recipe.task.train_set), len(beside.recipe.task.train_set)
    own, steps = taken_to("grokked", "own_sequences", "divide"), taken_to("grokked", "steps", "divide")
    assert (alone.recipe.steps, beside.recipe.steps) == (6000, 6000)
    one, two = grokked(alone, 1000), grokked(beside, 1000, "_divide")
    assert steps.of(one) == steps.of(two) == 1000
    # Epochs of 4 and of 7 batches, the last of each smaller.
    assert own.of(one) == 1000 / 4 * n_alone
    assert abs(own.of(two) - 1000 / 7 * n_alone) < n_alone
    assert n_beside == n_alone + int(53 * 53 * 0.6)
    assert taken_to("grokked", "steps", "multiply").of(two) is None
    verdicts = {
        one.claim.text: one.finding.verdict
        for one in GROKKING_TASKS.statements({"divide": [one], "divide-multiply": [two]})
    }
    assert verdicts["Alone it groks within its steps"] == "holds"
    assert verdicts["and after fewer steps"] == "does not hold"
