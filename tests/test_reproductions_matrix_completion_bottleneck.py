"""plateau_interp.reproductions.matrix_completion.bottleneck: forks that are helped, given something, or frozen."""

import dataclasses
from pathlib import Path

import pandas as pd
import pytest

from plateau_interp.models.settings import ModelOptions
from plateau_interp.reproductions.matrix_completion.bottleneck import (
    BOTTLENECK,
    FORKS,
    FROZEN,
    GIVEN,
    GIVEN_PATTERNS,
    LINES_BIASED,
    forks_figure,
)
from plateau_interp.reproductions.matrix_completion.components import BELOW_PLATEAU
from plateau_interp.reproductions.matrix_completion.drop import SMALL
from plateau_interp.reproductions.pictures import median_move
from plateau_interp.reproductions.running import plan, train_setting
from plateau_interp.reproductions.settings import Outcome, Setting
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.tasks import MatrixCompletion
from plateau_interp.training.settings import MeasuringOptions, TrainingOptions

TINY = Recipe(
    MatrixCompletion(shapes=((2, 2),)),
    model=ModelOptions(d_model=8, n_heads=2),
    training=TrainingOptions(steps=4, batch_size=4),
    measuring=MeasuringOptions(every=1),
    checkpoint_every=2,
)
SOURCE = dataclasses.replace(SMALL, recipe=TINY)


def tiny(setting: Setting) -> Setting:
    """The same, left at step 2 of a run of 4 steps."""
    recipe = dataclasses.replace(TINY, interventions=setting.recipe.interventions)
    takes = None if setting.takes is None else (SOURCE, None, setting.takes[2])
    return dataclasses.replace(setting, recipe=recipe, leaves=(SOURCE, 2), takes=takes)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        train_setting(SOURCE, seed, folder)
    return folder


@pytest.mark.parametrize(
    "setting",
    [LINES_BIASED[1000], GIVEN_PATTERNS[1000], GIVEN["attention layers", 1000], FROZEN["mlp layers", 1000]],
    ids=lambda setting: setting.name,
)
def test_each_fork_trains_on_beside_the_run_of_its_own_seed(setting: Setting, runs: Path) -> None:
    fork = tiny(setting)
    for seed in (0, 1):
        assert fork.needs(seed) == [(SOURCE, seed)]
        outcome = train_setting(fork, seed, runs)
        assert outcome.metrics["step"].iloc[-1] == 3
        interventions = Run(fork.folder(runs, seed)).recipe.interventions
        source = str(SOURCE.folder(runs, seed))
        if setting.takes is not None:
            assert vars(interventions[0])["source"] == f"{source}@4"


def test_what_is_given_is_what_the_run_has_in_the_end(runs: Path) -> None:
    fork = tiny(GIVEN["attention layers", 1000])
    train_setting(fork, 0, runs)
    made, end, other = (Run(one.folder(runs, seed)).model() for one, seed in ((fork, 0), (SOURCE, 0), (SOURCE, 1)))
    assert made.blocks[0].attn.W_Q.equal(end.blocks[0].attn.W_Q)
    assert not made.blocks[0].attn.W_Q.equal(other.blocks[0].attn.W_Q)
    assert not made.blocks[0].mlp.W_in.equal(end.blocks[0].mlp.W_in)


def test_the_whole_run_comes_before_its_forks() -> None:
    ordered = plan([BOTTLENECK, FORKS], n_seeds=1)
    assert ordered[0] == (SMALL, 0)
    assert len(ordered) == len(set(ordered)) == 1 + 6 + 16


def test_forks_are_drawn_by_component_and_moment() -> None:
    def falls(setting: Setting, step: int) -> list[Outcome]:
        losses = [1 / 9] * (step // 10 - 9) + [0.0] * 200
        return [Outcome(setting, 0, pd.DataFrame({"step": range(0, 10 * len(losses), 10), "loss_missing": losses}))]

    outcomes = {SMALL.name: falls(SMALL, 3000)}
    outcomes |= {setting.name: falls(setting, 2000) for setting in GIVEN.values()}
    figure = forks_figure(outcomes)
    first = figure.axes[0]
    assert [label.get_text() for label in first.get_yticklabels()][:2] == [
        "token embedding, given from the end",
        "position embedding, given from the end",
    ]
    assert {text.get_text() for text in first.texts} == {"-1000"}


def test_what_leaves_nothing_moves_nothing() -> None:
    with pytest.raises(ValueError, match="matrix-4x4 leaves no other setting"):
        median_move({}, SMALL, BELOW_PLATEAU)
