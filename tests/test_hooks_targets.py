"""Where attention edits act: resolved once, at the size of the running forward, counted from either end.

By plateau_interp.hooks.targets, and by plateau_interp.hooks.targeted_edit and plateau_interp.hooks.patched_attention.
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hook_cases import KINDS, assert_untouched, cached_logits, gpt_neox, kind_name, tokens_for, toy
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

from plateau_interp.hooks import (
    AblateActivation,
    AddDirection,
    BiasAttention,
    FixAttention,
    MaskAttention,
    PatchActivation,
    PatchAttention,
)
from plateau_interp.hooks.targets import Selection
from plateau_interp.interventions.attached import Intervention
from plateau_interp.interventions.attaching import intervening, quietly
from plateau_interp.interventions.hook_points import AttentionSite
from plateau_interp.interventions.padding import layout_of
from plateau_interp.models import toy_model
from plateau_interp.tasks import MovingWindowSum, Text

every_kind = pytest.mark.parametrize("kind", KINDS[:8], ids=kind_name)


@contextmanager
def allocated() -> Iterator[list[int]]:
    """Bytes of tensors made inside that are alive: now, and at most."""
    count = [0, 0]
    known: set[int] = set()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple | list) else (out,):
                if isinstance(tensor, Tensor) and (storage := tensor.untyped_storage()).data_ptr() not in known:
                    address, size = storage.data_ptr(), storage.nbytes()
                    known.add(address)
                    count[0] += size
                    count[1] = max(count)

                    def gone(address: int = address, size: int = size) -> None:
                        known.discard(address)
                        count[0] -= size

                    weakref.finalize(storage, gone)
            return out

    with Watch():
        yield count


@pytest.mark.parametrize(
    "edit",
    [
        MaskAttention(keys=[0]),
        MaskAttention(keys=[0, -2], heads=[3], rows=range(1, 8000)),
        MaskAttention(keys=range(1, 8192), at="scores"),
        BiasAttention(factor=2.0, heads=[1, 2]),
        FixAttention(rows=[-1]),
        PatchAttention(torch.eye(8), heads=[0], rows=[1]),
    ],
)
def test_memory_is_that_of_the_forward_and_not_of_the_longest_context(edit: Any) -> None:
    """A map of 8192 by 8192 truth values alone takes 64 MB, one for each of nine heads 576."""
    # TransformerLens keeps no causal map, it makes one of the size of the forward: only W_pos has 8192 rows here.
    model = toy_model(MovingWindowSum(n=4, p=7), n_layers=30, n_heads=9, d_model=36, attention="softmax", n_ctx=8192)
    assert sum(buffer.nbytes for buffer in model.buffers()) < 1e3
    tokens = tokens_for(model)
    with torch.no_grad():
        with allocated() as plain:
            model(tokens)
        with allocated() as used, intervening(model, edit) as (receipt,):
            model(tokens)
    assert receipt.fired > 0
    assert plain[1] > 0
    assert used[1] - plain[1] < 1e6, f"{used[1] / 1e6:.0f} MB at most, {plain[1] / 1e6:.0f} without the edit"


@pytest.mark.parametrize("at", ["pattern", "scores"])
def test_memory_of_targets_made_from_a_text_is_that_of_the_forward(at: AttentionSite) -> None:
    """Of what tensors take, as above: what the process holds of it hangs on the C library.

    A map of 200 by 200 truth values for each of nine heads, kept by every layer, would be 11 MB.
    """
    model = toy_model(Text(), n_layers=30, n_heads=9, d_model=36, attention="softmax", n_ctx=8192)
    tokens = torch.randint(0, 1000, (1, 200), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        with allocated() as plain:
            model(tokens)
        for edit in (
            MaskAttention(targets="last occurrence", at=at, rows=range(1, 200)),
            MaskAttention(keys=[1, 5], at=at),
        ):
            with allocated() as used, intervening(model, edit) as (receipt,):
                model(tokens)
            assert receipt.fired == 30
            assert used[1] - plain[1] < 1e6, f"{used[1] / 1e6:.0f} MB at most, {plain[1] / 1e6:.0f} without the edit"


# Counted from the end


@every_kind
def test_negative_rows_and_keys_are_those_counted_from_the_end(kind: dict[str, Any]) -> None:
    model = toy(**kind)
    tokens = tokens_for(model)
    source = torch.rand(8, 8, generator=torch.Generator().manual_seed(0)).tril()
    for negative, positive in (
        (BiasAttention(factor=3.0, rows=[-1, -3]), BiasAttention(factor=3.0, rows=[7, 5])),
        (FixAttention(rows=[6, -1]), FixAttention(rows=[6, 7])),
        (MaskAttention(keys=[-4, 1]), MaskAttention(keys=[4, 1])),
        (MaskAttention(keys=[2], rows=[-2]), MaskAttention(keys=[2], rows=[6])),
        (PatchAttention(source, rows=[-1]), PatchAttention(source, rows=[7])),
        (
            AblateActivation("blocks.0.hook_mlp_out", positions=[-2]),
            AblateActivation("blocks.0.hook_mlp_out", positions=[6]),
        ),
        (AblateActivation("hook_embed", positions=[-8]), AblateActivation("hook_embed", positions=[0])),
    ):
        plain = model(tokens)
        with intervening(model, positive):
            expected = model(tokens)
        with intervening(model, negative):
            assert torch.equal(model(tokens), expected), negative
        assert not torch.equal(expected, plain)
    assert_untouched(model)


LAST_LAYER: list[Intervention] = [
    BiasAttention(factor=4.0, targets=torch.eye(16, dtype=torch.bool), layers=[1], rows=[-1]),
    FixAttention(targets=torch.eye(16), layers=[1], rows=[-1], heads=[0]),
    FixAttention(targets=lambda tokens, layer: torch.eye(tokens.shape[1]), layers=[1], rows=[-1]),
    MaskAttention(keys=[-2], layers=[1], heads=[1]),
    MaskAttention(keys=[-2], layers=[1], at="scores", rows=[-1]),
    PatchAttention(gpt_neox(seed=5), layers=[1], rows=[-1]),
    AblateActivation("blocks.1.hook_mlp_out", positions=[-1]),
    AddDirection("unembed.hook_in", torch.ones(16), positions=[-1, 0]),
    PatchActivation("blocks.1.hook_resid_post", gpt_neox(seed=5), positions=[-1]),
]
"""Edits of the last layer: what one does at the end so far, later positions do not read."""


@pytest.mark.parametrize("edit", LAST_LAYER, ids=lambda edit: type(edit).__name__)
def test_the_end_is_that_of_the_tokens_so_far_with_a_cache_and_without(edit: Intervention) -> None:
    model = gpt_neox()
    tokens = tokens_for(model)
    plain = model(tokens)
    with intervening(model, edit):
        cached = cached_logits(model, tokens)  # a prompt of three, then token by token
        for length in range(3, 9):
            uncached = model(tokens[:, :length])[:, -1]
            torch.testing.assert_close(cached[:, length - 1], uncached, atol=1e-5, rtol=1e-4)
            assert not torch.allclose(uncached, plain[:, length - 1], atol=1e-4)
    assert_untouched(model)


@pytest.mark.parametrize("at", ["blocks.0.hook_resid_pre", "hook_embed"])
def test_one_forward_after_a_cache_edits_what_a_whole_one_does(at: str) -> None:
    """In any layer, if the cache was filled before: a position that was the last in an earlier forward stays edited."""
    model = toy(n_layers=2)
    tokens = tokens_for(model)
    cache = TransformerLensKeyValueCache.init_cache(model.cfg, "cpu", len(tokens))
    model(tokens[:, :5], past_kv_cache=cache, attention_mask=torch.ones_like(tokens[:, :5]))
    rest = tokens[:, 5:]
    with intervening(model, AblateActivation(at, positions=[-2, -5])) as (receipt,):
        found = model(rest, past_kv_cache=cache, attention_mask=torch.ones_like(rest))
    assert receipt.rows == 1  # the fifth from the end is in the cache, where no edit reaches it any more
    with intervening(model, AblateActivation(at, positions=[-2])):
        torch.testing.assert_close(found, model(tokens)[:, 5:])


def test_a_sequence_that_is_too_short_has_no_such_position() -> None:
    model = toy()
    tokens = tokens_for(model)[:, :3]
    plain = model(tokens)
    for edit in (
        AblateActivation("blocks.0.hook_mlp_out", positions=[-4]),
        MaskAttention(keys=[-4]),
        BiasAttention(rows=[-4]),
    ):
        with quietly(), intervening(model, edit) as (receipt,):
            assert torch.equal(model(tokens), plain)
        assert receipt.change == 0


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (BiasAttention(rows=[-10]), "there is no row -10: from the end the model has -1 to -9; the nearest is -9"),
        (MaskAttention(keys=[0, -10]), "there is no key -10"),
        (PatchAttention(torch.eye(8), rows=[-10]), "there is no row -10"),
        (AblateActivation("hook_embed", positions=[-10]), "there is no position -10"),
        (FixAttention(heads=[-1]), "there is no head -1: the model has 0 to 0; the nearest is 0"),
        (FixAttention(layers=[-1]), "there is no layer -1"),
    ],
)
def test_what_no_sequence_has_is_refused_on_entry(edit: Intervention, message: str) -> None:
    model = toy()
    with pytest.raises(ValueError, match=message), intervening(model, edit):
        pytest.fail("entered")
    assert_untouched(model)


def test_with_a_cache_a_padded_batch_s_rows_are_those_of_the_running_forward() -> None:
    layout = layout_of(torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]]))
    selection = Selection(None, 1, rows=(0, -1))
    whole = selection.mask(query=4, key=4, layout=layout)
    assert whole[:, 0, :, 0].int().tolist() == [[0, 1, 0, 1], [1, 0, 0, 1]]
    assert torch.equal(selection.mask(query=3, key=4, layout=layout), whole[:, :, 1:])
