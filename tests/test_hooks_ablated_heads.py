"""Which keys a row may read: what a uniform head spreads its weight over, and what a mask must leave."""

import pytest
import torch
from hook_cases import activation, assert_untouched, cached_logits, gradients, local_softmax, padded, tokens_for, toy
from torch import Tensor

from plateau_interp.hooks import AblateHeads, MaskAttention
from plateau_interp.hooks.readable import readable_keys, window_of
from plateau_interp.interventions.attaching import intervening

GLOBAL, LOCAL = "blocks.0.attn.hook_pattern", "blocks.1.attn.hook_pattern"
CPU = torch.device("cpu")


def test_what_is_readable_is_what_a_softmax_gives_weight() -> None:
    model = local_softmax()
    tokens = tokens_for(model)
    for layer, name in enumerate((GLOBAL, LOCAL)):
        for query in (8, 1):
            read = activation(model, tokens, name)[0, 0, 8 - query :] > 0
            assert torch.equal(readable_keys(model, layer, query=query, key=8, device=CPU), read)
    assert (window_of(model, 0), window_of(model, 1)) == (None, 3)


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
