"""plateau_interp.reproductions.matrix_completion.components: what is its own."""

import dataclasses
import re

import pandas as pd
import pytest

from plateau_interp.models import toy_model
from plateau_interp.models.settings import ModelOptions
from plateau_interp.reproductions.matrix_completion.components import ALONE, mean_falls_below
from plateau_interp.reproductions.matrix_completion.drop import SMALL
from plateau_interp.reproductions.quantities import NEVER
from plateau_interp.reproductions.settings import Outcome
from plateau_interp.runs.recipe import Recipe
from plateau_interp.tasks import MatrixCompletion
from plateau_interp.training.settings import MeasuringOptions, TrainingOptions


def test_the_mean_over_a_hundred_steps_falls_below_a_share_of_an_entry_s_variance() -> None:
    variance = 1 / 9
    losses = [variance] * 20 + [0.4 * variance] + [variance] * 9 + [0.5 * variance] * 10
    outcome = Outcome(SMALL, 0, pd.DataFrame({"step": range(0, 10 * len(losses), 10), "loss_missing": losses}))
    # After 6 of the lower values the mean is (4 + 6 / 2) / 10 = 0.7; after 5 it is 0.75, which is not below; one low
    # batch among ten leaves 0.94.
    assert mean_falls_below(0.75).of(outcome) == 350
    assert mean_falls_below(0.4).of(outcome) == NEVER
    assert mean_falls_below(0.4).of(Outcome(SMALL, 0, pd.DataFrame({"step": [0]}))) is None


@pytest.mark.parametrize("group", ALONE)
def test_one_component_is_trained_and_the_others_are_those_of_the_other_run(group: str, tmp_path) -> None:
    tiny = Recipe(
        MatrixCompletion(shapes=((2, 2),)),
        model=ModelOptions(d_model=8, n_heads=2),
        training=TrainingOptions(steps=2, batch_size=4),
        measuring=MeasuringOptions(every=1),
        checkpoint_every=2,
    )
    source = dataclasses.replace(SMALL, recipe=tiny)
    alone = dataclasses.replace(ALONE[group], recipe=tiny, takes=(source, 4, ALONE[group].takes[2]))
    for setting, seed in [*alone.needs(0), (alone, 0)]:
        for _ in setting.open(tmp_path, seed).train():
            pass
    given = source.open(tmp_path, 4).model().state_dict()
    trained = alone.open(tmp_path, 0)
    moved = {name for name, weight in trained.model().state_dict().items() if not weight.equal(given[name])}
    part = {
        "token embedding": r"embed\.",
        "mlp layers": r"blocks\..\.(mlp|ln2)\.",
        "position embedding": r"pos_embed\.",
        "attention layers": r"blocks\..\.(attn|ln1)\.",
    }[group]
    names = [name for name, _ in toy_model(tiny.task, d_model=8, n_heads=2).named_parameters()]
    assert moved == {name for name in names if re.match(part, name)}
