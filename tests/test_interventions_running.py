"""Positions, targets and sources under padding and key/value caches: which tokens the running forward goes on from."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hook_cases import (
    TASK,
    Pointer,
    assert_untouched,
    gpt_neox,
    padded,
    tokens_for,
    toy,
)
from torch import Tensor
from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

from plateau_interp.hooks import AblateActivation, FixAttention, PatchActivation, PatchAttention
from plateau_interp.hooks.sources import open_source
from plateau_interp.interventions.attaching import intervening
from plateau_interp.models.settings import ModelOptions
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.training.settings import TrainingOptions

MLP = "blocks.0.hook_mlp_out"


@pytest.mark.parametrize("model", [toy(attention="softmax", n_layers=2), toy(), gpt_neox()], ids=["soft", "lin", "rot"])
def test_a_source_sees_the_mask_of_the_forward_it_patches(model: Any) -> None:
    tokens, twin = tokens_for(model), copy.deepcopy(model)
    mask = padded(tokens)
    plain = model(tokens, attention_mask=mask)
    assert not torch.allclose(plain, model(tokens), atol=1e-3)
    for patch in (PatchAttention(twin), PatchActivation("blocks.1.*attn_out" if model.cfg.n_layers > 1 else MLP, twin)):
        with intervening(model, patch):
            assert torch.equal(model(tokens, attention_mask=mask), plain)
            assert torch.equal(model.run_with_hooks(tokens, attention_mask=mask), plain)
            cache = TransformerLensKeyValueCache.init_cache(model.cfg, "cpu", len(tokens))
            pieces = [
                model(tokens[:, part], past_kv_cache=cache, attention_mask=mask[:, part])
                for part in (slice(5), slice(5, 6), slice(6, 8))
            ]
            torch.testing.assert_close(torch.cat(pieces, dim=1)[:, 3:], plain[:, 3:], atol=1e-5, rtol=1e-4)


def continued(model: Any, cache: Any, tokens: Tensor) -> Tensor:
    return model(tokens, past_kv_cache=cache, attention_mask=torch.ones_like(tokens))


@pytest.mark.parametrize("edit", ["map", "source"])
def test_every_cache_has_tokens_of_its_own(edit: str) -> None:
    model = toy(task=Pointer(), n_layers=2)
    other = toy(task=Pointer(), n_layers=2, seed=8)
    one, two = tokens_for(model), tokens_for(model, seed=1)
    with intervening(model, FixAttention() if edit == "map" else PatchAttention(other)):
        expected = model(one)[:, 5:], model(two)[:, 5:]
        mine, theirs = (TransformerLensKeyValueCache.init_cache(model.cfg, "cpu", 5) for _ in range(2))
        continued(model, mine, one[:, :5])
        continued(model, theirs, two[:, :5])
        steps = [
            torch.cat([continued(model, cache, tokens[:, i : i + 1]) for i in (5, 6)], dim=1)
            for cache, tokens in ((mine, one), (theirs, two))
        ]
    torch.testing.assert_close(steps[0], expected[0])
    torch.testing.assert_close(steps[1], expected[1])


@pytest.mark.parametrize("edit", ["map", "source", "activation"])
def test_the_next_token_may_be_written_over_the_last(edit: str) -> None:
    model, other = (toy(task=Pointer(), n_layers=2, seed=seed) for seed in (0, 8))
    edits = {"map": FixAttention(), "source": PatchAttention(other), "activation": PatchActivation(MLP, other)}
    tokens = tokens_for(model)
    with intervening(model, edits[edit]):
        expected = model(tokens)
        cache = TransformerLensKeyValueCache.init_cache(model.cfg, "cpu", 5)
        buffer, pieces = torch.empty_like(tokens[:, :1]), []
        for token in tokens.split(1, dim=1):
            pieces.append(continued(model, cache, buffer.copy_(token)))
    torch.testing.assert_close(torch.cat(pieces, dim=1), expected)


@pytest.mark.parametrize(
    "edit",
    [
        AblateActivation(MLP, positions=[0]),
        FixAttention(targets=torch.eye(8, dtype=torch.bool).roll(-1, dims=1).tril()),
        FixAttention(targets="previous token"),
        FixAttention(),
        PatchAttention(toy(task=Pointer(), n_layers=2, seed=8)),
    ],
    ids=["positions", "map", "named map", "task", "source"],
)
@pytest.mark.parametrize("inference", [False, True])
def test_the_next_mask_may_be_written_over_the_last(edit: Any, inference: bool) -> None:
    model = toy(task=Pointer(), n_layers=2)
    tokens = tokens_for(model)
    first, second = padded(tokens), torch.ones_like(padded(tokens))
    with torch.inference_mode(inference), intervening(model, edit):
        mask = first.clone()
        assert torch.equal(model(tokens, attention_mask=mask), model(tokens, attention_mask=first))
        outs = [model(tokens, attention_mask=mask.copy_(each)) for each in (first, second, first)]
        for each, out in zip((first, second, first), outs, strict=True):
            assert torch.equal(out, model(tokens, attention_mask=each.clone()))
    assert not torch.equal(outs[0], outs[1])


def test_a_frozen_cache_can_be_continued_again_and_again() -> None:
    model = toy(task=Pointer(), n_layers=2)
    tokens = tokens_for(model)
    with intervening(model, FixAttention()):
        expected = model(tokens)[:, 6]
        cache = TransformerLensKeyValueCache.init_cache(model.cfg, "cpu", 5)
        continued(model, cache, tokens[:, :6])
        cache.freeze()
        for last in (tokens[:, 6:], 3 - tokens[:, 6:], tokens[:, 6:]):
            out = continued(model, cache, last)[:, 0]
    torch.testing.assert_close(out, expected)


def test_a_cache_filled_elsewhere_is_refused_whatever_was_seen_meanwhile() -> None:
    model = toy(task=Pointer(), n_layers=2)
    tokens = tokens_for(model)
    cache = TransformerLensKeyValueCache.init_cache(model.cfg, "cpu", 5)
    continued(model, cache, tokens[:, :6])
    with intervening(model, FixAttention()):
        model(tokens[:, :6])
        with pytest.raises(ValueError, match="not all seen"):
            continued(model, cache, tokens[:, 6:7])
        model(tokens)


def test_a_source_with_a_shorter_context_is_refused_in_the_forward() -> None:
    model, short = toy(n_ctx=12), toy(n_ctx=8)
    for patch in (PatchAttention(short), PatchActivation(MLP, short)):
        with intervening(model, patch):
            model(tokens_for(model))
            with pytest.raises(ValueError, match="the source reads 8 tokens at most, but the forward has 9"):
                model(torch.zeros(5, 9, dtype=torch.long))


def test_a_run_may_lie_under_a_folder_with_an_at_sign(tmp_path: Path) -> None:
    run = Run.create(
        tmp_path / "me@home" / "run",
        Recipe(TASK, model=ModelOptions(d_model=8), training=TrainingOptions(steps=1, batch_size=2)),
    )
    list(run.train())
    for source in (str(run.path), f"{run.path}@1"):
        assert open_source(source).task == TASK


# Positions before the first block, where the cache has not been seen yet


def empty_cache(model: Any, n: int) -> Any:
    return TransformerLensKeyValueCache.init_cache(model.cfg, "cpu", n)


@pytest.mark.parametrize(
    "edit", [AblateActivation("hook_embed", positions=[0]), PatchActivation("hook_embed", toy(seed=8))]
)
def test_the_embedding_of_a_cached_forward_is_edited_in_its_place_or_not_at_all(edit: Any) -> None:
    model = toy()
    tokens = tokens_for(model)
    with intervening(model, edit):
        expected = model(tokens)
        assert torch.equal(model.run_with_hooks(tokens), expected)
        cache = empty_cache(model, 5)
        continued(model, cache, tokens[:, :5])
        one = tokens[:, 5:6]
        cache.freeze()
        torch.testing.assert_close(continued(model, cache, one), expected[:, 5:6])
        options = {"past_kv_cache": cache, "attention_mask": torch.ones_like(one)}
        assert torch.equal(model.run_with_cache(one, **options)[0], continued(model, cache, one))
        with pytest.raises(ValueError, match="call the model itself"):
            model.run_with_hooks(one, **options)
        assert torch.equal(model(tokens), expected)
    everywhere = AblateActivation("hook_embed")
    with intervening(model, everywhere):
        model.run_with_hooks(one, **options)
    assert_untouched(model)


def test_a_forward_from_embeddings_says_nothing_of_the_next_forward() -> None:
    model = toy()
    tokens = tokens_for(model)
    with intervening(model, AblateActivation("hook_embed", positions=[0])):
        expected = model.run_with_hooks(tokens)
        cache = empty_cache(model, 5)
        continued(model, cache, tokens[:, :4])
        mask = torch.ones(5, 5, dtype=torch.long)
        model(torch.randn(5, 1, 16), start_at_layer=0, past_kv_cache=cache, attention_mask=mask)
        assert torch.equal(model.run_with_hooks(tokens), expected)


def test_an_edit_before_the_first_block_needs_to_know_of_padding() -> None:
    """`run_with_hooks` tells the mask to the blocks alone."""
    model = toy(attention="softmax")
    tokens = tokens_for(model)
    mask = padded(tokens)
    with intervening(model, AblateActivation("hook_embed", positions=[1])):
        expected = model(tokens, attention_mask=mask)
        with pytest.raises(ValueError, match="which tokens are padding, which it does not know: call the model itself"):
            model.run_with_hooks(tokens, attention_mask=mask)
        assert torch.equal(model(tokens, attention_mask=mask), expected)
        assert torch.equal(model.run_with_hooks(tokens), model(tokens))
    assert_untouched(model)
