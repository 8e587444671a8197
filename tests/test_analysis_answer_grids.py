"""plateau_interp.analysis.answer_grids: what a run's models say of grids of numbers."""

import pytest
import torch

from plateau_interp.analysis.answer_grids import OfGrids, grids_through_training
from plateau_interp.analysis.observing import fixed_batch
from plateau_interp.models.settings import ModelOptions
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.tasks import MatrixCompletion, MovingWindowSum
from plateau_interp.training.settings import MeasuringOptions, TrainingOptions

TASK = MatrixCompletion(shapes=((2, 3),))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    recipe = Recipe(
        TASK,
        ModelOptions(d_model=8, n_heads=2),
        TrainingOptions(steps=4, batch_size=4),
        measuring=MeasuringOptions(every=2),
        checkpoint_every=2,
    )
    run = Run.create(tmp_path_factory.mktemp("runs") / "tiny", recipe)
    for _ in run.train():
        pass
    return run


def test_matrices_are_grids_and_sequences_to_be_continued_are_not():
    assert isinstance(TASK, OfGrids)
    assert not isinstance(MovingWindowSum(), OfGrids)
    batch = TASK.sample(5, generator=torch.Generator().manual_seed(1))
    output = torch.arange(30.0).reshape(5, 6, 1)
    grids = TASK.answer_grids(output, batch)
    assert grids.said[1].tolist() == [[6.0, 7.0, 8.0], [9.0, 10.0, 11.0]]
    assert torch.equal(grids.truth.flatten(start_dim=1), batch.labels)
    assert torch.equal(grids.asked.flatten(start_dim=1), batch.tokens == TASK.mask_token)


def test_every_checkpoint_is_asked_for_the_same_grids(run):
    found = grids_through_training(run, n=3)
    assert found.steps == (0, 2, 4)
    assert found.said.shape == (3, 3, 2, 3)
    batch = fixed_batch(TASK).take(torch.arange(3))
    assert torch.equal(found.truth.flatten(start_dim=1), batch.labels)
    for place, step in enumerate(found.steps):
        with torch.no_grad():
            expected = run.model(step)(batch.inputs)[..., 0]
        assert torch.equal(found.said[place].flatten(start_dim=1), expected)
    assert not torch.equal(found.said[0], found.said[2])
    own = TASK.sample(1, generator=torch.Generator().manual_seed(7))
    assert torch.equal(grids_through_training(run, steps=[4], batch=own).truth.flatten(), own.labels.flatten())


def test_what_is_no_grid_is_refused(run, tmp_path):
    with pytest.raises(ValueError, match="there is no checkpoint 3; the nearest is"):
        grids_through_training(run, steps=[3])
    other = Run.create(tmp_path / "other", Recipe(MovingWindowSum(n=4, p=5), ModelOptions(d_model=8)))
    with pytest.raises(ValueError, match=r"answers of MovingWindowSum.* are no grids"):
        grids_through_training(other)


def test_answers_that_are_no_numbers_are_named_by_their_step(run, monkeypatch):
    there = Run.model

    def model(self, step, **options):
        found = there(self, step, **options)
        if step == 2:
            found.unembed.b_U.data.fill_(torch.inf)
        return found

    monkeypatch.setattr(Run, "model", model)
    with pytest.raises(ValueError, match="at step 2 not all answers are numbers"):
        grids_through_training(run)
