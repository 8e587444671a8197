"""Interventions on a model that reads in both directions, with padding and without."""

import pytest
import torch
from einops import rearrange
from filled import FilledNumbers

from plateau_interp.hooks import (
    AblateHeads,
    BiasAttention,
    FixAttention,
    FreezeWeights,
    MaskAttention,
    MixAttention,
    PatchAttention,
    transplant_weights_,
)
from plateau_interp.interventions.attaching import intervening
from plateau_interp.models import ToyTransformer, toy_model
from plateau_interp.training.loop import train

TASK = FilledNumbers()
UPPER = torch.ones(6, 6, dtype=torch.bool).triu(1)
"""Every position reads what comes after it: what no causal model may."""


def model_of(seed: int = 0) -> ToyTransformer:
    return toy_model(TASK, init_std=0.4, seed=seed)


def tokens_of(n: int = 5, seed: int = 1) -> torch.Tensor:
    return TASK.sample(n, generator=torch.Generator().manual_seed(seed)).inputs


def patterns(model, tokens, *interventions, layer=1, **options):
    with intervening(model, *interventions):
        return model.run_with_cache(tokens, **options)[1]["pattern", layer]


def test_the_task_s_targets_are_all_rows_and_follow_the_data():
    model, tokens = model_of(), tokens_of()
    before, after = patterns(model, tokens), patterns(model, tokens, BiasAttention(factor=3.0))
    seen = rearrange(tokens != 0, "batch key -> batch 1 1 key")
    torch.testing.assert_close(after, torch.where(seen, 3 * before, before))


def test_at_the_scores_a_bias_is_renormalised():
    model, tokens = model_of(), tokens_of()
    before = patterns(model, tokens)
    after = patterns(model, tokens, BiasAttention(factor=3.0, at="scores"))
    seen = rearrange(tokens != 0, "batch key -> batch 1 1 key")
    weighted = torch.where(seen, 3 * before, before)
    torch.testing.assert_close(after, weighted / weighted.sum(dim=-1, keepdim=True))


def test_targets_may_come_after_the_query():
    model, tokens = model_of(), tokens_of()
    fixed = patterns(model, tokens, FixAttention(targets=UPPER))
    before = patterns(model, tokens, FixAttention(targets=UPPER, layers=[0]))
    expected = UPPER.float() / UPPER.sum(dim=-1, keepdim=True).clamp(min=1)
    torch.testing.assert_close(fixed[0, 0, :-1], expected[:-1])
    torch.testing.assert_close(fixed[:, :, -1].sum(dim=-1), torch.ones(5, 4))  # the last reads nothing later
    assert not torch.allclose(before[0, 0, :-1], expected[:-1])


def test_masked_keys_are_read_by_nobody_before_or_after_them():
    model, tokens = model_of(), tokens_of()
    masked = patterns(model, tokens, MaskAttention(keys=[4], at="scores"))
    assert masked[..., 4].abs().max() == 0
    torch.testing.assert_close(masked.sum(dim=-1), torch.ones(5, 4, 6))
    with intervening(model, MaskAttention(keys=[4], at="scores")):
        model(tokens).square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    with pytest.raises(ValueError, match="row 0 would have no key left at the scores"):
        patterns(model, tokens, MaskAttention(keys=range(6), at="scores"))


def test_the_last_position_is_a_row_like_any_other():
    model, tokens = model_of(), tokens_of()
    mask = MaskAttention(targets=UPPER, rows=[0, -2])
    before, after = patterns(model, tokens, layer=0), patterns(model, tokens, mask, layer=0)
    for row in range(6):
        changed = not torch.equal(before[:, :, row], after[:, :, row])
        assert changed == (row in (0, 4))
    assert after[:, :, 0, 1:].abs().max() == 0


def test_patterns_of_another_model_read_both_ways():
    model, other, tokens = model_of(), model_of(seed=1), tokens_of()
    patched = patterns(model, tokens, PatchAttention(other), layer=0)
    expected = other.run_with_cache(tokens)[1]["pattern", 0]
    torch.testing.assert_close(patched, expected)
    assert (expected[..., 0, 1:] > 0).all()
    half = patterns(model, tokens, MixAttention(0.5, PatchAttention(other)), layer=0)
    torch.testing.assert_close(half, (patterns(model, tokens, layer=0) + expected) / 2)


def test_uniform_attention_is_over_all_positions():
    model, tokens = model_of(), tokens_of()
    before, after = patterns(model, tokens, layer=0), patterns(model, tokens, AblateHeads([1], by="uniform"), layer=0)
    torch.testing.assert_close(after[:, 1], torch.full((5, 6, 6), 1 / 6))
    torch.testing.assert_close(after[:, 0], before[:, 0])


def test_a_batch_s_mean_keeps_positions_and_loses_the_data():
    model, tokens = model_of(), tokens_of()
    ablate = AblateHeads([0, 1, 2, 3], by="mean")
    before, after = patterns(model, tokens, layer=0), patterns(model, tokens, ablate, layer=0)
    torch.testing.assert_close(after, before.mean(dim=0, keepdim=True).expand_as(before))
    alike = tokens[:1].expand(5, -1)
    with intervening(model, ablate):
        torch.testing.assert_close(model(alike), model_of()(alike))


PADDED = {
    "bias": BiasAttention(factor=3.0),
    "bias at the scores": BiasAttention(factor=3.0, at="scores"),
    "fix": FixAttention(),
    "mask": MaskAttention(keys=[1, -1], at="scores"),
    "mask rows": MaskAttention(keys=[0], rows=[-1]),
    "uniform": AblateHeads([0, 2], by="uniform"),
    "patch": PatchAttention(model_of(seed=1)),
}


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", PADDED)
def test_a_padded_batch_comes_out_as_its_sequences_alone(name, side):
    """Only what the mask shows is a row or a key, as with causal models."""
    model, edit = model_of(), PADDED[name]
    whole = tokens_of(2)
    short = whole[:1, :4]
    filler = torch.full((1, 2), 7)
    first = torch.cat([filler, short] if side == "left" else [short, filler], dim=1)
    padded = torch.cat([first, whole[1:]])
    real = slice(2, 6) if side == "left" else slice(0, 4)
    mask = torch.zeros(2, 6, dtype=torch.long)
    mask[0, real] = mask[1] = 1
    with intervening(model, edit):
        together = model(padded, attention_mask=mask)
        torch.testing.assert_close(together[:1, real], model(short), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(together[1:], model(whole[1:]), rtol=1e-4, atol=1e-5)


def test_a_component_is_trained_alone_and_another_taken_over():
    """Figure 8 of the paper: one component starts anew, all others come from the end, and stay."""
    model, final = model_of(), model_of(seed=1)
    others = ["position embedding", "attention layers", "mlp layers", "norms", "read-out"]
    for group in others:
        transplant_weights_(model, final, where=group)
    start = model.embed.W_E.clone()
    list(train(model, TASK, interventions=[FreezeWeights(group) for group in others]))
    ours, theirs = dict(model.named_parameters()), dict(final.named_parameters())
    assert {name for name in ours if not torch.equal(ours[name], theirs[name])} == {"embed.W_E"}
    assert not torch.equal(ours["embed.W_E"], start)
