"""plateau_interp.decoding.cache: the numbers of TransformerLens's own cache, without a copy a token."""

import pytest
import torch
from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

from plateau_interp import toy_model
from plateau_interp.decoding.cache import roomy_cache
from plateau_interp.tasks import MovingWindowSum

MODEL = toy_model(MovingWindowSum(n=4), n_layers=2, d_model=16)
TOKENS = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])


@torch.no_grad()
def logits(cache, parts, tokens=TOKENS):
    return torch.cat(
        [
            MODEL(part, past_kv_cache=cache, attention_mask=torch.ones_like(part))
            for part in torch.split(tokens, parts, dim=1)
        ],
        dim=1,
    )


@pytest.mark.parametrize("parts", [[5], [3, 1, 1], [1, 1, 1, 1, 1], [2, 3]])
def test_the_logits_are_those_of_transformer_lens_bit_for_bit(parts):
    theirs = TransformerLensKeyValueCache.init_cache(MODEL.cfg, "cpu", 2)
    ours = roomy_cache(MODEL, batch=2, n_pos=5, device="cpu")
    assert torch.equal(logits(ours, parts), logits(theirs, parts))
    for one, other in zip(ours.entries, theirs.entries, strict=True):
        assert torch.equal(one.past_keys, other.past_keys)
        assert torch.equal(one.past_values, other.past_values)


def test_a_token_moves_nothing_that_was_there():
    cache = roomy_cache(MODEL, batch=2, n_pos=9, device="cpu")
    logits(cache, [3, 1, 1])
    entry = cache.entries[0]
    places = entry.past_keys.data_ptr(), entry.past_values.data_ptr()
    logits(cache, [1], TOKENS[:, :1])
    assert (entry.past_keys.data_ptr(), entry.past_values.data_ptr()) == places
    assert entry.past_keys.shape[1] == 6
