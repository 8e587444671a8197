"""plateau_interp.reproductions.matrix_completion.studies: what the studies of completion share."""

import pytest
import torch
from planted_encoders import TASK, Checkpoints, copier, untrained
from tiny_paper import TASK as OTHER

from plateau_interp.reproductions.matrix_completion.studies import (
    completion_task,
    entry_losses,
    fresh_matrices,
    models_at,
)


def test_every_run_is_read_on_the_same_matrices() -> None:
    assert torch.equal(fresh_matrices(TASK, 8).tokens, fresh_matrices(TASK, 8).tokens)
    assert not torch.equal(fresh_matrices(TASK, 8).tokens, fresh_matrices(TASK, 8, number=1).tokens)


def test_models_are_those_of_the_steps_in_the_order_asked_for() -> None:
    run = Checkpoints({0: copier(), 5: untrained()})
    assert [step for step, _ in models_at(run, None)] == [0, 5]
    assert [(step, model is run.models[step]) for step, model in models_at(run, [5, 0])] == [(5, True), (0, True)]
    with pytest.raises(ValueError, match="no checkpoint 4; the nearest is 5"):
        list(models_at(run, [4]))
    with pytest.raises(ValueError, match="this one is of MovingWindowSum"):
        completion_task(Checkpoints({}, task=OTHER))


def test_gaps_and_labels_may_be_of_other_sequences_than_are_read() -> None:
    """A copier that reads negated matrices is wrong by twice what is seen, and by the whole of what is missing."""
    batch = fresh_matrices(TASK, 8)
    missing = batch.tokens == 0
    losses, output = entry_losses(copier(), TASK, TASK.negated(batch), batch)
    assert not output.requires_grad
    assert losses["loss_observed"] == pytest.approx(float(4 * batch.labels[~missing].square().mean()), rel=1e-4)
    assert losses["loss_missing"] == pytest.approx(float(batch.labels[missing].square().mean()), rel=1e-4)
    assert entry_losses(copier(), TASK, batch)[0]["loss_observed"] < 1e-10
