"""What the edits of attention at targets do, entry by entry: plateau_interp.hooks.targeted_attention."""

import math
from typing import Any

import pytest
import torch
from hook_cases import (
    BIASED,
    OMEGA,
    cached_logits,
    edited_and_not,
    every_kind,
    gradients,
    pattern_name,
    tokens_for,
    toy,
)
from torch import Tensor

from plateau_interp.hooks import BiasAttention, FixAttention, MaskAttention
from plateau_interp.interventions.attached import Intervention
from plateau_interp.interventions.attaching import intervening


@every_kind
@pytest.mark.parametrize(
    "identity",
    [
        BiasAttention(factor=1.0),
        MaskAttention(targets=torch.zeros(8, 8, dtype=torch.bool)),
        FixAttention(targets=torch.zeros(8, 8)),
    ],
    ids=["bias", "mask", "fix"],
)
def test_an_edit_of_nothing_changes_no_bit(kind: dict[str, Any], identity: Intervention) -> None:
    model = toy(**kind)
    tokens = tokens_for(model)
    logits, grads = model(tokens), gradients(model, tokens)
    with intervening(model, identity) as (receipt,):
        assert torch.equal(model(tokens), logits)
        again = gradients(model, tokens)
    assert again.keys() == grads.keys()
    assert all(torch.equal(again[name], grads[name]) for name in grads)
    assert (receipt.entries, receipt.change) == (0, 0.0)
    assert receipt.fired > 0


@every_kind
def test_bias_multiplies_the_targets_but_the_first_answer_row(kind: dict[str, Any]) -> None:
    model = toy(**kind)
    edited, before = edited_and_not(model, BiasAttention(factor=2.5))
    torch.testing.assert_close(edited, torch.where(BIASED, before * 2.5, before), rtol=0, atol=0)
    edited, before = edited_and_not(model, BiasAttention(factor=0.2, rows=range(8), heads=[model.cfg.n_heads - 1]))
    by_hand = before.clone()
    by_hand[:, -1] = torch.where(OMEGA, before[:, -1] * 0.2, before[:, -1])
    torch.testing.assert_close(edited, by_hand, rtol=0, atol=0)


def test_bias_of_the_published_code_step_by_step() -> None:
    """The mask of the authors: ones, and c at M[n + r, r - 1] and M[n + r, r] for r = 1 … n - 1."""
    mask = torch.ones(8, 8)
    for r in range(1, 4):
        mask[4 + r, [r - 1, r]] = 10.0
    model = toy(attention="linear")
    edited, before = edited_and_not(model, BiasAttention(factor=10.0))
    assert torch.equal(edited, before * mask)


def test_bias_at_the_scores_is_the_biased_pattern_renormalised() -> None:
    model = toy(attention="softmax", n_heads=4)
    edited, before = edited_and_not(model, BiasAttention(factor=10.0, at="scores"))
    biased = torch.where(BIASED, before * 10.0, before)
    torch.testing.assert_close(edited, biased / biased.sum(dim=-1, keepdim=True))
    tokens = tokens_for(model)
    with intervening(model, BiasAttention(factor=10.0, at="scores")) as (receipt,):
        logits = model(tokens)
        torch.testing.assert_close(cached_logits(model, tokens), logits)
        assert all(gradient.isfinite().all() for gradient in gradients(model, tokens).values())
    assert receipt.change == pytest.approx(math.log(10.0), rel=1e-5)
    assert receipt.rows == 3


def test_bias_scales_the_gradient_into_queries_and_keys() -> None:
    model, kept = toy(attention="linear"), {}
    tokens = tokens_for(model)

    def keep(act: Tensor, *, hook: Any) -> None:
        act.retain_grad()
        kept[hook.name] = act

    scores, z = "blocks.0.attn.hook_attn_scores", "blocks.0.attn.hook_z"
    found = []
    for interventions in ((), (BiasAttention(factor=4.0),)):
        with intervening(model, *interventions), model.hooks(fwd_hooks=[(scores, keep), (z, keep)]):
            model(tokens)
        kept[z].sum().backward()  # linear in the pattern, so its gradient there does not depend on the edit
        found.append(kept[scores].grad)
    torch.testing.assert_close(found[1], torch.where(BIASED, 4.0 * found[0], found[0]))


@every_kind
def test_fix_sets_the_rows_that_have_targets(kind: dict[str, Any]) -> None:
    model = toy(**kind)
    edited, before = edited_and_not(model, FixAttention())
    by_hand = before.clone()
    by_hand[:, :, 4:] = 0
    by_hand[:, :, 4, 0] = 1.0
    by_hand[:, :, 5, [0, 1]] = 0.5
    by_hand[:, :, 6, [1, 2]] = 0.5
    by_hand[:, :, 7, [2, 3]] = 0.5
    assert torch.equal(edited, by_hand)


def test_fix_with_weights_total_and_places_of_ones_own() -> None:
    model = toy(n_heads=4, n_layers=2)
    weights = torch.zeros(8, 8)
    weights[3, :3] = torch.tensor([1.0, 2.0, 5.0])
    weights[6, 6] = 9.0
    fix = FixAttention(total=-2.0, targets=weights, layers=[1], heads=[2], rows=[3])
    edited, before = edited_and_not(model, fix)
    by_hand = before.clone()
    by_hand[:, 2, 3] = torch.tensor([-0.25, -0.5, -1.25, 0, 0, 0, 0, 0])
    assert torch.equal(edited, by_hand)
    with intervening(model, fix) as (receipt,):
        model(tokens_for(model))
    assert receipt.sites == (pattern_name(1),)
    assert (receipt.rows, receipt.heads) == (1, 1)


def test_fixed_rows_stop_the_gradient_into_queries_and_not_into_values() -> None:
    model = toy(attention="softmax")
    tokens, every_row = tokens_for(model), torch.ones(8, 8, dtype=torch.bool).tril()
    with intervening(model, FixAttention(targets=every_row)):
        found = gradients(model, tokens)
    assert not found["blocks.0.attn.W_Q"].any()
    assert not found["blocks.0.attn.W_K"].any()
    assert found["blocks.0.attn.W_V"].abs().max() > 0
    with intervening(model, FixAttention(targets=every_row, rows=[5, 6])):
        found = gradients(model, tokens)
    assert found["blocks.0.attn.W_Q"].abs().max() > 0


def test_mask_takes_keys_away() -> None:
    model = toy(n_heads=4)
    edited, before = edited_and_not(model, MaskAttention(keys=[1], heads=[2, 3], rows=[4, 6]))
    by_hand = before.clone()
    by_hand[:, 2:, 4, 1] = by_hand[:, 2:, 6, 1] = 0
    assert torch.equal(edited, by_hand)
    edited, before = edited_and_not(model, MaskAttention())
    assert torch.equal(edited, torch.where(OMEGA, 0.0, before))


def test_mask_at_the_scores_renormalises_and_keeps_gradients_finite() -> None:
    model = toy(attention="softmax", n_heads=4)
    mask = MaskAttention(keys=[0, 2], rows=range(1, 8), at="scores")
    edited, before = edited_and_not(model, mask)
    by_hand = before.clone()
    by_hand[:, :, 1:, [0, 2]] = 0
    torch.testing.assert_close(edited, by_hand / by_hand.sum(dim=-1, keepdim=True))
    tokens = tokens_for(model)
    with intervening(model, mask) as (receipt,):
        assert all(gradient.isfinite().all() for gradient in gradients(model, tokens).values())
        torch.testing.assert_close(cached_logits(model, tokens), model(tokens))
    assert math.isfinite(receipt.change)
    assert receipt.rows == 7
