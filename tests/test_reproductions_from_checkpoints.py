"""plateau_interp.reproductions.from_checkpoints: tables of models whose attention and answers are known."""

import pandas as pd
import pytest
import torch

from plateau_interp.analysis.observing import captured_at
from plateau_interp.hooks import FixAttention
from plateau_interp.interventions.attaching import intervening
from plateau_interp.interventions.hook_points import FINAL_STATE
from plateau_interp.models import toy_model
from plateau_interp.models.settings import ModelOptions
from plateau_interp.reproductions import from_checkpoints
from plateau_interp.reproductions.from_checkpoints import (
    permutation_strategies,
    segment_cosines,
)
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.tasks import ConcatenatedWindows, MovingWindowSum, Permutation, Repeat
from plateau_interp.training.settings import MeasuringOptions, TrainingOptions
from plateau_interp.types import answer_rows
from plateau_interp.views.panels import panel


def trained(task, folder, *, steps=4, every=1, n_layers=1):
    recipe = Recipe(
        task,
        model=ModelOptions(d_model=16, n_layers=n_layers),
        training=TrainingOptions(steps=steps, batch_size=4),
        measuring=MeasuringOptions(every=every),
        checkpoint_every=2,
    )
    run = Run.create(folder, recipe)
    for _ in run.train():
        pass
    return run


@pytest.mark.parametrize(
    ("added", "task", "n_layers"),
    [
        (from_checkpoints.SEGMENT_COLUMNS, ConcatenatedWindows(n=6, windows=(1, 2), lengths=(2, 2), p=5), 1),
        (from_checkpoints.STRATEGY_COLUMNS, Permutation(n=3, n_symbols=4), 2),
        (from_checkpoints.HALF_COLUMNS, Repeat(n=4, k=4, p=5), 1),
        (from_checkpoints.PROBE_COLUMNS, MovingWindowSum(n=2, p=5), 1),
    ],
)
def test_there_is_a_row_for_each_checkpoint_that_was_measured(added, task, n_layers, tmp_path):
    run = trained(task, tmp_path / "run", n_layers=n_layers, every=2)
    table = added.measure(run)
    assert run.checkpoints == [0, 2, 4]  # step 4 is the end: it has no row of metrics
    assert table["step"].tolist() == [0, 2]
    assert table.notna().iloc[0].all()
    assert table.drop(columns="step").stack().dropna().between(-1, 1).all()
    for column in table.drop(columns="step"):
        look = panel(column, added.panels)
        assert look != panel(column)
        assert look.unit


def test_segment_cosines_are_of_the_pairs_whose_earlier_row_is_in_the_segment(tmp_path):
    run = trained(ConcatenatedWindows(), tmp_path / "run")
    ours = segment_cosines(run).iloc[1]
    batch = from_checkpoints.common_sequences(run.task)
    states = captured_at(run.model(2), batch.inputs, FINAL_STATE)[:, answer_rows(run.task)]
    for index, (segment, n_pairs) in enumerate(((range(4), 42), (range(4, 9), 30), (range(9, 13), 6))):
        pairs = [(i, j) for j in segment for i in range(j + 1, 13)]
        assert len(pairs) == n_pairs  # the divisors of the authors' code
        cosines = [torch.cosine_similarity(states[:, i], states[:, j], dim=-1).mean() for i, j in pairs]
        assert ours[f"cosine_segment_{index}"] == pytest.approx(float(torch.stack(cosines).mean()), abs=1e-5)


class OneModel:
    """As much of a run as is read: one checkpoint, whose model may have interventions attached."""

    def __init__(self, task, model):
        self.task, self.checkpoints = task, [0]
        self.metrics = pd.DataFrame({"step": [0]})
        self._model = model

    def model(self, step):
        return self._model


@pytest.mark.parametrize(("follows", "expected"), [("alternative_attention", 1.0), ("optimal_attention", 0.0)])
def test_progress_of_the_alternative_is_whole_for_a_model_that_follows_it(follows, expected):
    task = Permutation(n=4)
    run = OneModel(task, toy_model(task, d_model=16, n_layers=2))
    maps = getattr(task, follows)(from_checkpoints.common_sequences(run.task))
    edits = [FixAttention(targets=one.expand(256, -1, -1), layers=[layer]) for layer, one in enumerate(maps)]
    with intervening(run.model(0), *edits):
        table = permutation_strategies(run)
    assert table["alternative_1"].item() == pytest.approx(expected)
    if follows == "alternative_attention":
        assert table["alternative_0"].item() == pytest.approx(1.0)


def test_right_counts_do_not_care_where_the_tokens_stand():
    symbols = torch.tensor([4, 5, 6])
    counts = from_checkpoints.symbol_counts(torch.tensor([[4, 4, 6], [5, 1, 5]]), symbols)
    assert counts.tolist() == [[2, 0, 1], [0, 2, 0]]
