"""plateau_interp.reproductions.circuits.text_model: read and judged without the corpus, by what was measured."""

import pandas as pd
import pytest

from plateau_interp.reproductions.circuits.text_model import TEXTS
from plateau_interp.reproductions.settings import Outcome


def verdicts(*last: float) -> dict[str, str]:
    """Of the claims, for runs whose differences end so."""
    (setting,) = TEXTS.settings
    shared = {"step": [0, 400], "loss": [6.2, 5.1], "validation_loss": [6.2, 5.2]}
    found = [
        Outcome(setting, seed, pd.DataFrame({**shared, "answer_difference": [0.0, one]}))
        for seed, one in enumerate(last)
    ]
    return {one.claim.text: one.finding.verdict for one in TEXTS.statements({setting.name: found})}


@pytest.mark.parametrize(
    ("last", "verdict"),
    [
        ((0.05, -0.1, 0.29), "holds"),
        ((2.0, 2.5, 3.0), "does not hold"),
        ((-2.0, -2.5, -3.0), "does not hold"),
        ((0.0, 0.1, 2.0), "does not hold"),  # the median would do, but it is said of most seeds
    ],
)
def test_what_an_induction_head_would_make_is_told(last: tuple[float, ...], verdict: str) -> None:
    assert verdicts(*last)["After 400 steps of text nothing tells the two orders of repeated random tokens apart"] == (
        verdict
    )


def test_it_is_trained_for_the_steps_that_it_speaks_of_and_scores_are_taken_where_rows_are() -> None:
    (setting,) = TEXTS.settings
    recipe = setting.recipe
    assert TEXTS.key[1] is setting
    assert recipe.steps > 400
    assert 400 % recipe.checkpoint_every == 400 % recipe.measure_every == 0
    assert recipe.checkpoint_every % recipe.measure_every == 0
