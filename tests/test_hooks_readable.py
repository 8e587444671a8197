"""Which keys a row may read, and what must be left of them: plateau_interp.hooks.readable."""

import pytest
import torch
from hook_cases import activation, assert_untouched, gpt_neox, gradients, local_softmax, pattern_name, tokens_for, toy
from torch import Tensor

from plateau_interp.hooks import MaskAttention
from plateau_interp.hooks.readable import masks_padding, readable_keys, window_of
from plateau_interp.interventions.attaching import intervening

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
