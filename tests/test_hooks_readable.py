"""Which keys a row may read, and what must be left of them: plateau_interp.hooks.readable."""

import contextlib
from typing import Any

import pytest
import torch
from hook_cases import (
    activation,
    assert_untouched,
    cached_logits,
    gpt_neox,
    gradients,
    local_softmax,
    padded,
    pattern_name,
    tokens_for,
    toy,
)
from torch import Tensor

from plateau_interp.hooks import During, MaskAttention
from plateau_interp.hooks.readable import masks_padding, readable_keys, window_of
from plateau_interp.interventions.attaching import intervening
from plateau_interp.interventions.clock import advance

GLOBAL, LOCAL = "blocks.0.attn.hook_pattern", "blocks.1.attn.hook_pattern"
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (MaskAttention(keys=[0], at="scores"), "row 0 would have no key left"),
        (MaskAttention(keys=range(3), rows=[5, 2], at="scores"), "row 2 would have no key left"),
        (MaskAttention(targets=lambda tokens, layer: torch.eye(8, dtype=torch.bool), at="scores"), "row 0 would"),
    ],
)
def test_a_row_without_keys_is_refused_at_the_scores(mask: MaskAttention, message: str) -> None:
    model = toy(attention="softmax")
    with pytest.raises(ValueError, match=message), intervening(model, mask):
        model(tokens_for(model))
    assert_untouched(model)


FIRST, SECOND = (MaskAttention(keys=[key], rows=[1], at="scores") for key in (0, 1))
OWN = MaskAttention(targets=lambda tokens, layer: torch.eye(8, dtype=torch.bool), rows=[1], at="scores")


@pytest.mark.parametrize("pair", [(FIRST, SECOND), (SECOND, FIRST), (FIRST, OWN), (OWN, FIRST)])
def test_two_masks_that_leave_a_row_no_key_together_are_refused(pair: tuple[MaskAttention, MaskAttention]) -> None:
    """TransformerLens turns such a row into zeros: it would give nothing, and no gradient."""
    model = toy(attention="softmax")
    tokens = tokens_for(model)
    message = "row 1 would have no key left at the scores, together with what stands before"
    with intervening(model, pair[0]):
        model(tokens)
        for again in (False, True):
            with pytest.raises(ValueError, match=message), intervening(model, pair[1]):
                call(model, tokens, twice=again)
        assert activation(model, tokens, GLOBAL)[:, :, 1].sum(dim=-1).allclose(torch.ones(()))
    assert_untouched(model)


def call(model: Any, tokens: Tensor, *, twice: bool) -> None:
    """A forward, or one more behind one that was refused."""
    if twice:
        with contextlib.suppress(ValueError):
            model(tokens)
    model(tokens)


def test_two_masks_that_leave_a_key_or_never_meet_are_none_of_that() -> None:
    model = toy(attention="softmax", n_heads=2)
    tokens = tokens_for(model)
    for pair in (
        (MaskAttention(keys=[0], rows=[2], at="scores"), MaskAttention(keys=[1], rows=[2], at="scores")),
        (FIRST, MaskAttention(keys=[1], rows=[2], at="scores")),
        tuple(MaskAttention(keys=[key], rows=[1], heads=[key], at="scores") for key in (0, 1)),
    ):
        with intervening(model, *pair):
            pattern = activation(model, tokens, GLOBAL)
        torch.testing.assert_close(pattern.sum(dim=-1), torch.ones(pattern.shape[:-1]))
    taking_turns = [During(FIRST, stop=1), During(SECOND, start=1)]
    with intervening(model, *taking_turns):
        for step in (0, 1):
            advance(model, step=step)
            assert activation(model, tokens, GLOBAL)[0, 0, 1, step] == 0


def test_with_a_cache_and_under_padding_two_masks_are_refused_where_their_row_comes() -> None:
    model = toy(attention="softmax")
    tokens = tokens_for(model)
    late = [MaskAttention(keys=keys, rows=[5], at="scores") for keys in ([0, 1, 2], [3, 4, 5])]
    with pytest.raises(ValueError, match="row 5 would have no key left"), intervening(model, *late):
        cached_logits(model, tokens)
    with pytest.raises(ValueError, match="row 1 would have no key left"), intervening(model, FIRST, SECOND):
        model(tokens, attention_mask=padded(tokens))
    model.reset_hooks()
    by_padding = [MaskAttention(keys=[key], rows=[2], at="scores") for key in (1, 2)]
    with intervening(model, *by_padding):  # the third row of what is no padding reads its first token, too
        pattern = model.run_with_cache(tokens, attention_mask=padded(tokens))[1][GLOBAL]
    assert pattern[0, 0, 5, 3] == 1


def test_a_bidirectional_row_has_keys_left_on_both_sides() -> None:
    model = gpt_neox()
    model.cfg.attention_dir = "bidirectional"
    tokens = tokens_for(model)
    with intervening(model, MaskAttention(keys=[0], at="scores")):
        pattern = activation(model, tokens, pattern_name(0))
    assert not pattern[..., 0].any()
    torch.testing.assert_close(pattern.sum(dim=-1), torch.ones(5, 4, 8))
    everything = MaskAttention(keys=range(16), at="scores")
    with pytest.raises(ValueError, match="row 0 would have no key left"), intervening(model, everything):
        pass


def test_what_is_readable_is_what_a_softmax_gives_weight() -> None:
    model = local_softmax()
    tokens = tokens_for(model)
    for layer, name in enumerate((GLOBAL, LOCAL)):
        for query in (8, 1):
            read = activation(model, tokens, name)[0, 0, 8 - query :] > 0
            assert torch.equal(readable_keys(model, layer, query=query, key=8, device=CPU), read)
    assert (window_of(model, 0), window_of(model, 1)) == (None, 3)


def band(rows: range, keys: range) -> Tensor:
    forbidden = torch.zeros(12, 12, dtype=torch.bool)
    forbidden[rows.start : rows.stop, keys.start : keys.stop] = True
    return forbidden.tril()


@pytest.mark.parametrize(
    "mask",
    [
        MaskAttention(keys=[4, 5, 6], at="scores", layers=[1]),
        MaskAttention(keys=[6, 5, 4], rows=[6], at="scores"),
        MaskAttention(targets=band(range(6, 7), range(3, 7)), at="scores"),
        MaskAttention(targets=lambda tokens, layer: band(range(6, 7), range(3, 7)), at="scores"),
    ],
)
def test_a_mask_over_the_whole_window_of_a_row_is_refused(mask: MaskAttention) -> None:
    """Elsewhere the row reads on, but the local layer's softmax would have nothing left."""
    model = local_softmax()
    with pytest.raises(ValueError, match="row 6 would have no key left"), intervening(model, mask):
        model(tokens_for(model))
    assert_untouched(model)


def test_a_mask_over_a_part_of_every_window_is_none_of_that() -> None:
    model = local_softmax()
    for mask in (MaskAttention(keys=[4, 6], at="scores"), MaskAttention(keys=[4, 5, 6], at="scores", layers=[0])):
        with intervening(model, mask):
            assert all(gradient.isfinite().all() for gradient in gradients(model, tokens_for(model)).values())


def test_the_last_key_of_a_lone_token_is_all_it_has() -> None:
    model = toy(attention="softmax")
    tokens = tokens_for(model)
    last = MaskAttention(keys=[-1], at="scores")
    with intervening(model, last):
        assert model(tokens).isfinite().all()
        with pytest.raises(ValueError, match="row 0 would have no key left"):
            model(tokens[:, :1])
    assert_untouched(model)


def test_a_model_of_the_host_library_that_reads_both_ways_masks_no_padding() -> None:
    model = gpt_neox()
    assert masks_padding(model)
    model.cfg.attention_dir = "bidirectional"
    assert not masks_padding(model)
