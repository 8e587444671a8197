"""plateau_interp.reproductions.matrix_completion.components: what is its own."""

import dataclasses
import re
from pathlib import Path

import pandas as pd
import pytest

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


TINY = Recipe(
    MatrixCompletion(shapes=((2, 2),)),
    model=ModelOptions(d_model=8, n_heads=2),
    training=TrainingOptions(steps=2, batch_size=4),
    measuring=MeasuringOptions(every=1),
    checkpoint_every=2,
)
SOURCE = dataclasses.replace(SMALL, recipe=TINY)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the run that the others take from."""
    folder = tmp_path_factory.mktemp("runs")
    for _ in SOURCE.open(folder, 4).train():
        pass
    return folder


@pytest.mark.parametrize(
    ("group", "part"),
    [
        ("token embedding", r"embed\."),
        ("mlp layers", r"blocks\..\.(mlp|ln2)\."),
        ("position embedding", r"pos_embed\."),
        ("attention layers", r"blocks\..\.(attn|ln1)\."),
    ],
)
def test_one_component_is_trained_and_the_others_are_those_of_the_other_run(group: str, part: str, runs: Path) -> None:
    assert ALONE[group].takes == (SMALL, 4, f"all but {group}")
    alone = dataclasses.replace(ALONE[group], recipe=TINY, takes=(SOURCE, 4, f"all but {group}"))
    for _ in alone.open(runs, 0).train():
        pass
    given = SOURCE.open(runs, 4).model().state_dict()
    trained = alone.open(runs, 0).model()
    moved = {name for name, weight in trained.state_dict().items() if not weight.equal(given[name])}
    assert moved == {name for name, _ in trained.named_parameters() if re.match(part, name)}
