"""Where an edit at targets acts, resolved once on entry: plateau_interp.hooks.targeted_edit."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hook_cases import (
    OMEGA,
    TASK,
    Pointer,
    activation,
    assert_untouched,
    cached_logits,
    gpt_neox,
    pattern_name,
    tokens_for,
    toy,
)
from torch import Tensor
from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

from plateau_interp.decoding import greedy_answers
from plateau_interp.hooks import BiasAttention, FixAttention, MaskAttention, MixAttention
from plateau_interp.hooks.targeted_edit import TargetedEdit
from plateau_interp.interventions.attached import Intervention
from plateau_interp.interventions.attaching import intervening, quietly
from plateau_interp.positions import layer_targets
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.types import Batch


def test_a_map_that_depends_on_the_data_follows_each_forward() -> None:
    model = toy(task=Pointer(), n_heads=2, n_layers=2)
    task = Pointer()
    with intervening(model, FixAttention()) as (receipt,):
        assert receipt.sites == (pattern_name(1),)
        for seed, n in ((0, 5), (1, 5), (2, 1)):
            batch = task.sample(n, generator=torch.Generator().manual_seed(seed))
            pattern = activation(model, batch.inputs, pattern_name(1))
            for sequence in range(n):
                pointer = int(batch.tokens[sequence, 0])
                for row in (5, 6):
                    assert pattern[sequence, :, row].argmax(dim=-1).tolist() == [1 + pointer] * 2
                    assert pattern[sequence, :, row].sum(dim=-1).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("edit", [FixAttention(), BiasAttention(factor=9.0), MaskAttention(), MixAttention(0.5)])
def test_a_map_that_depends_on_the_data_is_right_under_a_cache(edit: Intervention) -> None:
    model = toy(task=Pointer(), n_heads=2, n_layers=2)
    tokens = tokens_for(model)
    with intervening(model, edit):
        torch.testing.assert_close(cached_logits(model, tokens, prompt=6), model(tokens))
        torch.testing.assert_close(cached_logits(model, tokens, prompt=2), model(tokens))
        cached = greedy_answers(model, Pointer(), tokens)
        assert torch.equal(cached, greedy_answers(model, Pointer(), tokens, cached=False))


def test_a_cache_filled_elsewhere_is_refused_where_the_tokens_matter() -> None:
    model = toy(task=Pointer(), n_layers=2)
    tokens = tokens_for(model)
    cache = TransformerLensKeyValueCache.init_cache(model.cfg, "cpu", len(tokens))
    model(tokens[:, :6], past_kv_cache=cache, attention_mask=torch.ones_like(tokens[:, :6]))
    one = tokens[:, 6:7]
    with pytest.raises(ValueError, match="not all seen"), intervening(model, FixAttention()):
        model(one, past_kv_cache=cache, attention_mask=torch.ones_like(one))
    assert_untouched(model)


def test_targets_by_function_are_the_task_s_own_when_it_says_the_same() -> None:
    model = toy(task=Pointer(), n_layers=2)
    tokens = tokens_for(model)

    def function(seen: Tensor, layer: int) -> Tensor:
        target = torch.zeros(len(seen), 8, 8, dtype=torch.bool)
        for sequence, pointer in enumerate(seen[:, 0].tolist()):
            target[sequence, 5:7, 1 + pointer] = True
        return target

    with intervening(model, FixAttention()):
        own = model(tokens)
    with intervening(model, FixAttention(targets=function, layers=[1])):
        assert torch.equal(model(tokens), own)
        torch.testing.assert_close(cached_logits(model, tokens), own)


@pytest.mark.parametrize(
    "edit",
    [
        FixAttention(rows=[1]),
        BiasAttention(rows=[1, 2]),
        MaskAttention(rows=[0]),
        MaskAttention(keys=[5], rows=[3]),
        BiasAttention(targets=OMEGA, rows=[3]),
    ],
)
def test_rows_without_a_target_are_refused(edit: Intervention) -> None:
    model = toy(n_layers=2)
    with (
        pytest.raises(ValueError, match=r"rows \[.*\] have no target; those that do are \[.*[457]"),
        intervening(model, edit),
    ):
        pass
    assert_untouched(model)


def test_a_model_without_a_task_needs_targets() -> None:
    model = gpt_neox()
    for edit in (BiasAttention(), FixAttention(), MaskAttention()):
        with pytest.raises(ValueError, match="no task to take target positions"), intervening(model, edit):
            pass


def test_the_map_is_that_of_the_task() -> None:
    batch = TASK.sample(2, generator=torch.Generator())
    (target,) = layer_targets(TASK, batch, n_layers=1)
    assert target is not None
    assert torch.equal(target[0], OMEGA)


@pytest.mark.parametrize("edit", [BiasAttention(), FixAttention(), MaskAttention()])
@pytest.mark.parametrize("task", [TASK, Pointer()])
def test_attaching_draws_one_sample(edit: Intervention, task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, sample = Counter[str](), type(task).sample

    def counted(self: Any, n: int, *, generator: torch.Generator) -> Batch:
        drawn[self.name] += 1
        return sample(self, n, generator=generator)

    model = toy(task=task, n_layers=2)
    tokens = tokens_for(model)
    monkeypatch.setattr(type(task), "sample", counted)
    with intervening(model, edit):
        assert drawn == {task.name: 1}
        model(tokens)
    assert drawn == {task.name: 1}


def test_layers_that_share_a_map_are_given_one_tensor_and_forwards_of_one_size_too() -> None:
    seen: list[Tensor] = []

    @dataclass(frozen=True, eq=False)
    class Look(TargetedEdit):
        def edit(self, act: Tensor, target: Tensor) -> Tensor:
            seen.append(target)
            return act

    model = toy(n_layers=3, n_heads=4)
    tokens = tokens_for(model)
    with quietly(), intervening(model, Look(targets=torch.eye(8, dtype=torch.bool), heads=[1], rows=[2, -1])):
        model(tokens)
        model(tokens)
        assert len(seen) == 6
        assert len({id(target) for target in seen}) == 1
        by_hand = torch.zeros(1, 4, 8, 8, dtype=torch.bool)
        by_hand[0, 1, [2, 7], [2, 7]] = True
        assert torch.equal(seen[0], by_hand)
        model(tokens[:, :5])
    shorter = torch.zeros(1, 4, 5, 5, dtype=torch.bool)
    shorter[0, 1, [2, 4], [2, 4]] = True
    assert torch.equal(seen[-1], shorter)


def test_a_task_with_one_answer_row_needs_rows_for_a_bias() -> None:
    model = toy(task=MovingWindowSum(n=1, k=1, p=7))
    with (
        pytest.raises(ValueError, match="the only one with targets and is left alone"),
        intervening(model, BiasAttention()),
    ):
        pass
    with intervening(model, BiasAttention(rows=[-1])) as (receipt,):
        model(tokens_for(model))
    assert receipt.rows == 1


def test_a_map_is_taken_as_it_is_when_the_context_begins() -> None:
    model = toy()
    tokens = tokens_for(model)
    targets = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool).tril(-1).triu(-1)
    edit = BiasAttention(5.0, targets=targets)
    with intervening(model, edit):
        expected = model(tokens)
        targets.copy_(torch.eye(len(targets), dtype=torch.bool))
        model(tokens[:, :3])  # a size between: the map is laid out anew
        assert torch.equal(model(tokens), expected)
    with intervening(model, edit):
        assert not torch.allclose(model(tokens), expected)
