"""plateau_interp.hooks.ablated_heads: what ablated heads read; a uniform one, all that is readable."""

from typing import Any

import pytest
import torch
from hook_cases import (
    activation,
    assert_untouched,
    cached_logits,
    edited_and_not,
    every_kind,
    last_layer,
    local_softmax,
    padded,
    pattern_name,
    tokens_for,
    toy,
)

from plateau_interp.hooks import AblateHeads
from plateau_interp.interventions.attaching import intervening

GLOBAL, LOCAL = "blocks.0.attn.hook_pattern", "blocks.1.attn.hook_pattern"


def test_a_uniform_head_keeps_to_its_window() -> None:
    model = local_softmax()
    tokens = tokens_for(model)
    by_hand = torch.zeros(8, 8)
    for row in range(8):
        read = range(max(row - 2, 0), row + 1)
        by_hand[row, read] = 1 / len(read)
    with intervening(model, AblateHeads([1], by="uniform")):
        assert torch.equal(activation(model, tokens, LOCAL)[:, 1], by_hand.expand(5, 8, 8))
        everything = activation(model, tokens, GLOBAL)[0, 1]
        assert torch.equal(everything, torch.ones(8, 8).tril() / torch.arange(1, 9)[:, None])
        torch.testing.assert_close(cached_logits(model, tokens), model(tokens))
        padded_row = model.run_with_cache(tokens, attention_mask=padded(tokens))[1]["pattern", 1][0, 1, 4]
    assert padded_row.tolist() == [0, 0, 0, 0.5, 0.5, 0, 0, 0]  # of its window of three, the first is padding
    assert_untouched(model)


def test_a_bidirectional_model_has_no_window() -> None:
    model = local_softmax()
    model.cfg.attention_dir = "bidirectional"
    tokens = tokens_for(model)
    assert (activation(model, tokens, LOCAL) > 0).all()
    with intervening(model, AblateHeads([0], by="uniform")):
        assert torch.equal(activation(model, tokens, LOCAL)[:, 0], torch.full((5, 8, 8), 1 / 8))


@every_kind
def test_ablations_by_hand(kind: dict[str, Any]) -> None:
    model = toy(**kind)
    head, layer = model.cfg.n_heads - 1, last_layer(model)
    uniform = torch.tensor([[1 / (row + 1)] * (row + 1) + [0.0] * (7 - row) for row in range(8)], dtype=torch.float64)
    for by, expected in {
        "zero": lambda before: torch.zeros_like(before),
        "uniform": lambda before: uniform.to(before).expand_as(before),
        "mean": lambda before: before.mean(dim=0, keepdim=True).expand_as(before),
    }.items():
        edited, before = edited_and_not(model, AblateHeads([head], layers=[layer], by=by))  # type: ignore[arg-type]
        by_hand = before.clone()
        by_hand[:, head] = expected(before[:, head])
        assert torch.equal(edited, by_hand), by


def test_a_zeroed_head_writes_nothing() -> None:
    model = toy(n_heads=4)
    with intervening(model, AblateHeads([1, 3])):
        z = activation(model, tokens_for(model), "blocks.0.attn.hook_z")
    assert (z != 0).any(dim=-1).flatten(0, 1).any(dim=0).tolist() == [True, False, True, False]


def test_a_uniform_head_reads_no_padding() -> None:
    model = toy(attention="softmax")
    tokens = tokens_for(model)
    with intervening(model, AblateHeads([0], by="uniform")):
        pattern = model.run_with_cache(tokens, attention_mask=padded(tokens))[1]["pattern", 0]
        assert torch.equal(activation(model, tokens, pattern_name(0))[0, 0, 5, :6], torch.full((6,), 1 / 6))
    assert pattern[0, 0, 5, :6].tolist() == pytest.approx([0, 0, 0, 1 / 3, 1 / 3, 1 / 3])
    assert pattern[1, 0, 5, :6].tolist() == pytest.approx([1 / 6] * 6)
    assert not pattern[0, 0, :3].any()
