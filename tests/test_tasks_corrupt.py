"""Counterfactual prompts, of every task: as little as possible is another, and the answer is."""

from typing import Any

import pytest
import torch
from test_tasks_suite import each_kind, generator

from plateau_interp.tasks import Copy, Mixture, ModularArithmetic, MovingWindowProduct, MovingWindowSum, PrefixSum, Text
from plateau_interp.types import Batch


def changed(task: Any, batch: Batch, corrupted: Batch) -> torch.Tensor:
    """How many tokens of each prompt are others."""
    prompt = slice(0, task.answer.start)
    return (batch.tokens[:, prompt] != corrupted.tokens[:, prompt]).sum(dim=1)


@each_kind
def test_one_token_of_the_prompt_changes_the_answer(kind: Any) -> None:
    task = kind()
    batch = task.sample(64, generator=generator(3))
    before = batch.tokens.clone()
    corrupted = task.corrupt(batch, generator=generator(4))
    assert (changed(task, batch, corrupted) == 1).all()
    assert (batch.tokens[:, task.answer] != corrupted.tokens[:, task.answer]).any(dim=1).all()
    assert torch.equal(batch.tokens, before)
    # What is scored is scored still, and is what the tokens say.
    assert torch.equal(batch.labels < 0, corrupted.labels < 0)
    scored = corrupted.labels >= 0
    assert torch.equal(corrupted.labels[scored], corrupted.tokens[:, 1:][scored])
    assert torch.equal(corrupted.tokens, task.corrupt(batch, generator=generator(4)).tokens)
    assert not torch.equal(corrupted.tokens, task.corrupt(batch, generator=generator(5)).tokens)


@each_kind
def test_a_corrupted_sequence_is_one_of_the_task(kind: Any) -> None:
    """Corrupting it again can give the first one back only if its answer follows from its prompt as elsewhere."""
    task = kind()
    corrupted = task.corrupt(task.sample(32, generator=generator(3)), generator=generator(4))
    twice = task.corrupt(corrupted, generator=generator(5))
    same = (twice.tokens[:, : task.answer.start] == corrupted.tokens[:, : task.answer.start]).all(dim=1)
    assert not same.any()
    assert int(corrupted.tokens.max()) < task.d_vocab


def test_distinct_inputs_stay_distinct() -> None:
    task = PrefixSum(n=16, inputs="distinct")
    batch = task.sample(32, generator=generator())
    corrupted = task.corrupt(batch, generator=generator(1))
    assert (changed(task, batch, corrupted) == 2).all()
    assert torch.equal(batch.tokens[:, :16].sort().values, corrupted.tokens[:, :16].sort().values)
    batch = task.sample(600, generator=generator())
    places = (batch.tokens != task.corrupt(batch, generator=generator(1)).tokens)[:, :16].sum(dim=0)
    assert (places > 20).all()  # the first and the last have one neighbour, the others two


def test_equations_keep_the_operation_and_one_number() -> None:
    task = ModularArithmetic(p=11, operations=("divide", "multiply"))  # 0 times b is 0 whatever b
    sets = (task.train_set, task.validation_set)
    batch = Batch(torch.cat([part.tokens for part in sets]), torch.cat([part.labels for part in sets]))
    corrupted = task.corrupt(batch, generator=generator(1))
    assert torch.equal(task.operation_index(batch.tokens), task.operation_index(corrupted.tokens))
    operands = list(task.operand_positions)
    both_zero = (batch.tokens[:, operands] == 0).all(dim=1) & (task.operation_index(batch.tokens) == 1)
    assert both_zero.sum() == 1
    assert torch.equal((batch.tokens != corrupted.tokens)[:, operands].sum(dim=1), 1 + both_zero.long())
    assert (batch.tokens[:, -1] != corrupted.tokens[:, -1]).all()


def test_a_mixture_leaves_the_task_as_it_is() -> None:
    task = Mixture((MovingWindowSum(n=4, scored="answer"), MovingWindowProduct(n=4)))
    batch = task.sample(64, generator=generator())
    corrupted = task.corrupt(batch, generator=generator(1))
    assert torch.equal(task.task_index(batch.tokens), task.task_index(corrupted.tokens))
    assert (changed(task, batch, corrupted) == 1).all()


def test_where_no_change_is_to_be_had_it_is_said() -> None:
    task = Copy(n=2, high=1)
    with pytest.raises(ValueError, match="no such change of a prompt changes the answer of Copy"):
        task.corrupt(task.sample(2, generator=generator()), generator=generator())
    text = Text()
    batch = text.sample(2, generator=generator())
    with pytest.raises(ValueError, match="Text does not say how to corrupt its prompts"):
        text.corrupt(batch, generator=generator())
