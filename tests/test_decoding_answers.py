"""Answers of toy models; texts are continued in test_decoding_continuing.py."""

import re
from typing import Any

import pytest
import torch
from filled import FilledNumbers, FilledTokens
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from typecheck import unchecked

from plateau_interp.decoding.answers import greedy_answers, known_answers
from plateau_interp.models import ToyTransformer, toy_model
from plateau_interp.tasks import MovingWindowSum

TASK = MovingWindowSum(n=6, p=11)


def lively_model(*, seed: int = 0, **options: Any) -> ToyTransformer:
    """A model whose answers depend on the whole prompt: larger weights than a fresh one's."""
    model = toy_model(TASK, d_model=16, seed=seed, dtype=torch.float64, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8)
    return model


def argmax_loop(model: ToyTransformer, prompts: Tensor, n_new: int) -> Tensor:
    """The slow reference: a forward over the whole prefix a token."""
    tokens = prompts.tolist()
    for row in tokens:
        for _ in range(n_new):
            with torch.no_grad():
                row.append(int(model(torch.tensor([row]))[0, -1].argmax()))
    return torch.tensor(tokens)[:, prompts.shape[1] :]


@pytest.mark.parametrize("attention", ["linear", "softmax"])
@pytest.mark.parametrize("shape", [(1, 1), (2, 4)])
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1000))
def test_cached_uncached_and_the_slow_loop_agree(attention: Any, shape: tuple[int, int], seed: int) -> None:
    model = lively_model(attention=attention, n_layers=shape[0], n_heads=shape[1], seed=seed)
    tokens = TASK.sample(5, generator=torch.Generator().manual_seed(seed)).tokens
    expected = argmax_loop(model, tokens[:, :7], 6)
    assert torch.equal(greedy_answers(model, TASK, tokens), expected)
    assert torch.equal(greedy_answers(model, TASK, tokens, cached=False), expected)
    assert len(expected.unique()) > 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "m"}, "expected a model; got 'm'"),
        ({"task": 5}, "task must be a task such as MovingWindowSum(); got 5"),
        ({"tokens": 5}, "tokens must be token ids, a tensor of torch.int64 [batch, pos]; got 5"),
        (
            {"tokens": torch.zeros(2, 13)},
            "tokens must be token ids, a tensor of torch.int64 [batch, pos]; got torch.fl",
        ),
        ({"tokens": torch.zeros(2, 6).long()}, "tokens must hold the prompt's 7 positions; got [2, 6]"),
    ],
)
def test_what_cannot_be_answered_is_refused(changes: dict[str, Any], message: str) -> None:
    given = {"model": lively_model(), "task": TASK, "tokens": torch.zeros(2, 13).long(), **changes}
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        unchecked(greedy_answers)(*given.values())


def test_attached_hooks_act_at_every_token() -> None:
    model = lively_model()
    tokens = TASK.sample(4, generator=torch.Generator()).tokens
    queries: list[int] = []

    def silence(pattern: Tensor, *, hook: Any) -> Tensor:
        queries.append(pattern.shape[-2])
        return pattern * 0

    with model.hooks(fwd_hooks=[("blocks.0.attn.hook_pattern", silence)]):
        cached = greedy_answers(model, TASK, tokens)
        assert queries == [7, 1, 1, 1, 1, 1]
        assert torch.equal(cached, greedy_answers(model, TASK, tokens, cached=False))
    assert not torch.equal(cached, greedy_answers(model, TASK, tokens))


def test_known_answers_are_as_many_as_there_are() -> None:
    model, tokens = lively_model(), TASK.sample(4, generator=torch.Generator()).tokens
    known = known_answers(model, TASK, tokens)
    assert known.shape == tokens[:, TASK.answer].shape
    assert torch.equal(known, greedy_answers(model, TASK, tokens))


def test_the_answer_itself_is_not_looked_at() -> None:
    model, tokens = lively_model(), TASK.sample(4, generator=torch.Generator()).tokens
    spoiled = tokens.clone()
    spoiled[:, TASK.answer] = 0
    assert torch.equal(greedy_answers(model, TASK, tokens), greedy_answers(model, TASK, spoiled))


@pytest.mark.parametrize("mode", [True, False])
def test_training_mode_and_gradients_are_as_found(mode: bool) -> None:
    model = lively_model().train(mode)
    greedy_answers(model, TASK, TASK.sample(1, generator=torch.Generator()).tokens)
    assert model.training is mode
    assert torch.is_grad_enabled()


def test_what_is_filled_in_is_read_off_one_forward():
    task = FilledTokens()
    model, tokens = toy_model(task), task.sample(5, generator=torch.Generator().manual_seed(0)).tokens
    assert torch.equal(greedy_answers(model, task, tokens), model(tokens).argmax(dim=-1))


def test_numbers_are_no_answers():
    task = FilledNumbers()
    tokens = task.sample(5, generator=torch.Generator()).tokens
    with pytest.raises(ValueError, match="the answers of filled-numbers are no tokens: they stand in the output"):
        greedy_answers(toy_model(task), task, tokens)
