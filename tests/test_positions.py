"""What a task means position by position, for sequences that go on and for those that are filled in."""

import pytest
import torch
from filled import FilledNumbers, FilledTokens

from plateau_interp.models import toy_model
from plateau_interp.positions import answers_in, input_length, layer_targets, read_length, true_answers
from plateau_interp.tasks import MovingWindowSum, Text
from plateau_interp.training.loop import train
from plateau_interp.types import IGNORE, Batch, answer_rows

GOES_ON = MovingWindowSum(n=4)


def batch_of(task, n: int = 5) -> Batch:
    return task.sample(n, generator=torch.Generator().manual_seed(0))


def test_what_goes_on_is_read_without_its_last_token_and_what_is_filled_in_whole():
    assert (input_length(GOES_ON), batch_of(GOES_ON).inputs.shape[1]) == (8, 8)
    assert (input_length(FilledNumbers()), batch_of(FilledNumbers()).inputs.shape[1]) == (6, 6)


@pytest.mark.parametrize("task", [GOES_ON, Text(n=6)])
def test_the_position_that_is_only_predicted_is_never_trained(task):
    model = toy_model(task, d_model=8, n_heads=1, n_layers=1)
    before = model.pos_embed.W_pos.detach().clone()
    for _ in train(model, task, steps=2, batch_size=4):
        pass
    is_trained = (model.pos_embed.W_pos != before).any(dim=1)
    assert is_trained.tolist() == [True] * read_length(model) + [False]
    assert read_length(model) == input_length(task) == model.cfg.n_ctx - 1


def test_all_of_a_context_that_somebody_asked_for_may_be_read():
    assert read_length(toy_model(Text(n=6), d_model=8, n_ctx=6)) == 6
    assert read_length(toy_model(Text(n=6), d_model=8, n_ctx=32)) == 32
    assert read_length(toy_model(FilledTokens(n=6), d_model=8)) == 6
    turned = toy_model(Text(n=6), d_model=8)
    turned.cfg.positional_embedding_type = "rotary"
    assert read_length(turned) == 7
    others = toy_model(Text(n=6), d_model=8)
    others.task = None
    assert read_length(others) == 7


def test_answers_stand_where_they_are_predicted():
    assert answer_rows(GOES_ON) == slice(4, 8)
    assert answer_rows(FilledNumbers()) == slice(0, 6)
    output = torch.nn.functional.one_hot(torch.arange(8), 18).float()[None]
    assert answers_in(GOES_ON, output).tolist() == [[4, 5, 6, 7]]
    assert answers_in(FilledTokens(n=8), output).tolist() == [[*range(8)]]


def test_what_is_right_follows_in_the_tokens_or_stands_in_the_labels():
    batch = batch_of(GOES_ON)
    assert torch.equal(true_answers(GOES_ON, batch), batch.tokens[:, 5:])
    batch = batch_of(FilledTokens())
    assert torch.equal(true_answers(FilledTokens(), batch), batch.labels)


def test_nothing_is_right_where_there_is_no_label():
    batch = batch_of(GOES_ON)
    labels = batch.labels.clone()
    labels[:, 6:] = IGNORE
    found = true_answers(GOES_ON, Batch(batch.tokens, labels))
    assert torch.equal(found[:, :2], batch.tokens[:, 5:7])
    assert (found[:, 2:] == IGNORE).all()
    numbers = labels.double().masked_fill(labels == IGNORE, torch.nan)
    assert torch.equal(true_answers(GOES_ON, Batch(batch.tokens, numbers)), found)


def test_a_batch_scores_some_of_its_sequences():
    which = torch.tensor([True, False, True, False, False])
    for task in (GOES_ON, FilledTokens()):
        batch = batch_of(task)
        hidden = batch.scoring(which)
        assert torch.equal(hidden.labels[which], batch.labels[which])
        assert (hidden.labels[~which] == -100).all()
        assert torch.equal(hidden.inputs, batch.inputs)
    batch = batch_of(FilledNumbers())
    hidden = batch.scoring(which)
    assert torch.equal(hidden.labels[which], batch.labels[which])
    assert hidden.labels[~which].isnan().all()


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_maps_belong_to_the_last_layers(n_layers):
    task = FilledNumbers()
    batch = batch_of(task)
    maps = layer_targets(task, batch, n_layers=n_layers)
    assert [square is None for square in maps] == [True] * (n_layers - 1) + [False]
    assert torch.equal(maps[-1][:, 3], batch.inputs != 0)
