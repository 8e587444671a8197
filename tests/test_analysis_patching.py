import math
import re
from typing import Any

import pytest
import torch
from every_hook import llama
from hook_cases import Pointer, assert_untouched, gpt_neox, tokens_for, toy
from torch import Tensor
from typecheck import unchecked

from plateau_interp.analysis import patching
from plateau_interp.hooks import (
    AblateActivation,
    AblateHeads,
    FixAttention,
    MaskAttention,
    PatchActivation,
    PatchAttention,
    ScaleActivation,
    patch_by_head,
    patch_by_position,
)
from plateau_interp.interventions.attaching import intervening


def last_difference(logits: Tensor) -> Tensor:
    return (logits[:, -1, 3] - logits[:, -1, 1]).mean()


@pytest.mark.parametrize("model", [toy(n_layers=2, n_heads=4), gpt_neox()], ids=["toy", "rotary"])
def test_activation_patching_against_a_slow_loop(model: Any) -> None:
    clean, corrupted = tokens_for(model), tokens_for(model, seed=1)
    best, worst = last_difference(model(clean)), last_difference(model(corrupted))
    cache = model.run_with_cache(clean)[1]
    for by, at, expected_shape in (
        (patch_by_position, "hook_resid_pre", (2, 8)),
        (patch_by_position, "hook_mlp_out", (2, 8)),
        (patch_by_head, "attn.hook_z", (2, 4)),
    ):
        values = by(model, last_difference, clean=clean, corrupted=corrupted, at=at)
        assert values.shape == expected_shape
        for layer in range(expected_shape[0]):
            for place in range(expected_shape[1]):

                def patch(act: Tensor, hook: Any, place: int = place, by: Any = by) -> Tensor:
                    act = act.clone()
                    where = (slice(None), place) if by is patch_by_position else (slice(None), slice(None), place)
                    act[where] = cache[hook.name][where]
                    return act

                patched = model.run_with_hooks(corrupted, fwd_hooks=[(f"blocks.{layer}.{at}", patch)])
                by_hand = (last_difference(patched) - worst) / (best - worst)
                torch.testing.assert_close(values[layer, place], by_hand, atol=1e-3, rtol=1e-3)
    assert not values.requires_grad
    assert_untouched(model)


def slowly(model: Any, clean: Tensor, corrupted: Tensor, *, at: str, places: list[Any]) -> Tensor:
    """A whole forward for each place, after all that is attached."""
    kept: dict[str, Tensor] = {}

    def keep(act: Tensor, hook: Any) -> None:
        kept[hook.name] = act.detach()

    names = [f"blocks.{layer}.{at}" for layer in range(model.cfg.n_layers)]
    best = last_difference(model.run_with_hooks(clean, fwd_hooks=[(name, keep) for name in names]))
    worst = last_difference(model(corrupted))
    values = []
    for name in names:
        for place in places:

            def patch(act: Tensor, hook: Any, place: Any = place) -> Tensor:
                act = act.clone()
                act[place] = kept[hook.name][place]
                return act

            with model.hooks(fwd_hooks=[(name, patch)]):
                values.append((last_difference(model(corrupted)) - worst) / (best - worst))
    return torch.stack(values).detach().reshape(len(names), len(places))


POINTER = {"task": Pointer(), "n_layers": 3, "n_heads": 4}


@pytest.mark.parametrize("n_entries", [1, 20_000, 10**9])
@pytest.mark.parametrize(
    "edit",
    [
        None,
        FixAttention(),
        PatchAttention(toy(**POINTER, seed=8)),
        PatchActivation("blocks.1.hook_mlp_out", toy(**POINTER, seed=8)),
        AblateHeads([1], by="mean"),
        AblateActivation("blocks.*.hook_mlp_out", "resample", positions=[-1, 2]),
        AblateActivation("hook_embed", "mean", positions=[0]),
    ],
    ids=str,
)
def test_batched_copies_from_the_patched_layer_on_measure_as_whole_forwards(
    edit: Any, n_entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patching, "ENTRIES", n_entries)
    model = toy(**POINTER)
    clean, corrupted = tokens_for(model), tokens_for(model, seed=1)
    with intervening(model, *([edit] if edit else [])):
        by_position = patch_by_position(model, last_difference, clean=clean, corrupted=corrupted, at="hook_attn_out")
        by_head = patch_by_head(model, last_difference, clean=clean, corrupted=corrupted)
        positions = slowly(
            model, clean, corrupted, at="hook_attn_out", places=[(slice(None), place) for place in range(7)]
        )
        heads = slowly(
            model, clean, corrupted, at="attn.hook_z", places=[(slice(None), slice(None), head) for head in range(4)]
        )
    torch.testing.assert_close(by_position, positions, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(by_head, heads, atol=1e-4, rtol=1e-4)
    assert_untouched(model)


def padded(rows: list[Tensor], side: str) -> tuple[Tensor, Tensor]:
    longest = max(map(len, rows))
    tokens, mask = torch.full((len(rows), longest), 2), torch.zeros(len(rows), longest, dtype=torch.long)
    for index, row in enumerate(rows):
        part = slice(longest - len(row), None) if side == "left" else slice(len(row))
        tokens[index, part], mask[index, part] = row, 1
    return tokens, mask


@pytest.mark.parametrize(
    ("make", "side", "edit"),
    [
        (llama, "left", None),
        (gpt_neox, "right", None),
        (lambda: toy(n_layers=2, n_heads=4, n_ctx=12), "left", None),
        (llama, "left", MaskAttention(keys=[0], rows=[-1], at="pattern")),
        (gpt_neox, "left", AblateHeads([1], layers=[1])),
    ],
)
def test_a_padded_batch_is_patched_as_its_sequences_alone(make: Any, side: str, edit: Any) -> None:
    model = make()
    lengths = (6, 3, 5)
    cleans, corrupteds = ([tokens_for(model, seed=seed)[i, :n] for i, n in enumerate(lengths)] for seed in (0, 1))
    clean, mask = padded(cleans, side)
    corrupted, _ = padded(corrupteds, side)
    given = {"clean": clean, "corrupted": corrupted, "attention_mask": mask}
    with intervening(model, *([edit] if edit else [])):
        for index, length in enumerate(lengths):
            last = int(mask[index].nonzero().max())

            def of_this(logits: Tensor, index: int = index, last: int = last) -> Tensor:
                return logits[index, last, 3] - logits[index, last, 1]

            alone = {"clean": cleans[index][None], "corrupted": corrupteds[index][None]}
            heads = patch_by_head(model, of_this, **given)
            close = {"atol": 1e-5, "rtol": 1e-5}
            torch.testing.assert_close(heads, patch_by_head(model, last_difference, **alone), **close)
            positions = patch_by_position(model, of_this, **given)
            assert positions.shape == (2, max(lengths))
            torch.testing.assert_close(
                positions[:, :length], patch_by_position(model, last_difference, **alone), **close
            )
            assert not positions[:, length:].any()
    assert_untouched(model)


def test_a_mask_of_ones_is_none() -> None:
    model = toy(n_layers=2)
    clean, corrupted = tokens_for(model), tokens_for(model, seed=1)
    for by in (patch_by_position, patch_by_head):
        plain = by(model, last_difference, clean=clean, corrupted=corrupted)
        ones = torch.ones_like(clean).bool()
        assert torch.equal(by(model, last_difference, clean=clean, corrupted=corrupted, attention_mask=ones), plain)


def test_a_patched_forward_begins_at_the_patched_layer() -> None:
    model = toy(n_layers=3)
    clean, corrupted = tokens_for(model), tokens_for(model, seed=1)
    edits = [ScaleActivation(f"blocks.{layer}.hook_mlp_out", 1.5) for layer in range(3)]
    with intervening(model, *edits) as receipts:
        patch_by_position(model, last_difference, clean=clean, corrupted=corrupted)
    assert [receipt.fired for receipt in receipts] == [2 + 8, 2 + 16, 2 + 24]
    forwards = []
    with model.hooks(fwd_hooks=[("unembed.hook_in", lambda act, hook: forwards.append(len(act)))]):
        patch_by_position(model, last_difference, clean=clean, corrupted=corrupted)
    assert forwards == [5] * 26
    calls = []
    handle = model.unembed.register_forward_hook(lambda module, args, output: calls.append(len(output)))
    patch_by_position(model, last_difference, clean=clean, corrupted=corrupted)
    handle.remove()
    assert calls == [5, 5, 24 * 5]


def test_patching_restores_nothing_before_what_differs_and_everything_at_the_only_place() -> None:
    model = toy(n_layers=1)
    clean = tokens_for(model)
    corrupted = clean.clone()
    corrupted[:, 5] = (corrupted[:, 5] + 1) % 7
    values = patch_by_position(model, last_difference, clean=clean, corrupted=corrupted)
    torch.testing.assert_close(values, torch.eye(8)[None, 5], atol=1e-5, rtol=0)


def test_patching_inputs_that_cannot_be_compared_is_refused() -> None:
    model = toy()
    tokens = tokens_for(model)
    with pytest.raises(ValueError, match="on both inputs: there is nothing to restore"):
        patch_by_position(model, last_difference, clean=tokens, corrupted=tokens)
    with pytest.raises(ValueError, match=r"must have one shape; got \(5, 8\), \(4, 8\)"):
        unchecked(patch_by_position)(model, last_difference, clean=tokens, corrupted=tokens[:4])
    with pytest.raises(ValueError, match=r"no hook point 'blocks\.0\.resid_pre'"):
        patch_by_position(model, last_difference, clean=tokens, corrupted=tokens.flip(0), at="resid_pre")
    with pytest.raises(ValueError, match="has no head axis"):
        patch_by_head(model, last_difference, clean=tokens, corrupted=tokens.flip(0), at="hook_mlp_out")


def test_a_name_that_stands_for_several_hook_points_is_refused() -> None:
    given = {"clean": TOKENS, "corrupted": TOKENS.flip(1)}
    with pytest.raises(
        ValueError, match=r"^at must be one hook point of a block; 'hook_resid_p\*' stands for several$"
    ):
        patch_by_position(toy(), last_difference, **given, at="hook_resid_p*")
    one = patch_by_position(toy(), last_difference, **given, at="hook_resid_pr*")
    assert torch.equal(one, patch_by_position(toy(), last_difference, **given, at="hook_resid_pre"))


TOKENS = torch.arange(40).reshape(5, 8) % 7


@pytest.mark.parametrize("by", [patch_by_position, patch_by_head])
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model": "toy"}, "expected a model; got 'toy'"),
        ({"metric": 5}, "metric must be a function of (logits); got 5"),
        ({"metric": lambda: 5.0}, "metric must take (logits); it takes ()"),
        ({"metric": lambda logits: "x"}, "the metric must be one number; got 'x'"),
        ({"metric": lambda logits: None}, "the metric must be one number; got None"),
        ({"clean": TOKENS.tolist()}, "clean must be token ids, a tensor of torch.int64 [batch, pos]; got [[0, 1, 2, "),
        ({"clean": "a text"}, "clean must be token ids, a tensor of torch.int64 [batch, pos]; got 'a text'"),
        ({"clean": TOKENS[0]}, "clean must be token ids, a tensor of torch.int64 [batch, pos]; got torch.int64 [8]"),
        ({"clean": TOKENS.float()}, "clean must be token ids, a tensor of torch.int64 [batch, pos]; got torch.float32"),
        ({"clean": TOKENS[:0]}, "clean must hold a token at least; got the shape [0, 8]"),
        ({"clean": TOKENS + 100}, "clean must be from 0 to d_vocab - 1 = 7; got 100 to 106"),
        ({"corrupted": TOKENS - 1}, "corrupted must be from 0 to d_vocab - 1 = 7; got -1 to 5"),
        ({"attention_mask": TOKENS[0]}, "attention_mask must have the shape of the tokens, (5, 8); got (8,)"),
        ({"attention_mask": [1, 1]}, "attention_mask must have the shape of the tokens, (5, 8); got [1, 1]"),
        ({"attention_mask": TOKENS}, "attention_mask must be 1 where a token is real and 0 elsewhere; got "),
        ({"attention_mask": TOKENS * 0}, "sequence 0 has no token that attention_mask calls real"),
    ],
)
def test_what_cannot_be_patched_is_refused(by: Any, changes: dict[str, Any], told: str) -> None:
    given = {"model": toy(), "metric": last_difference, "clean": TOKENS, "corrupted": TOKENS.flip(0), **changes}
    with pytest.raises(ValueError, match=f"^{re.escape(told)}"):
        unchecked(by)(given.pop("model"), given.pop("metric"), **given)


@pytest.mark.parametrize("n_heads", [1, 8])  # as many heads as positions would be taken for them
def test_attention_maps_have_no_positions_to_patch(n_heads: int) -> None:
    model = toy(n_heads=n_heads)
    with pytest.raises(
        ValueError, match=r"hook_pattern holds \(5, \d, 8, 8\); to be patched it must hold \[batch, pos,"
    ):
        patch_by_position(model, last_difference, clean=TOKENS, corrupted=TOKENS.flip(0), at="attn.hook_pattern")
    assert_untouched(model)


@pytest.mark.parametrize(
    ("metric", "told"),
    [
        (lambda logits: logits[:, 0, 0], r"must be one number; got \(5,\)"),
        (lambda logits: logits.sum() * math.nan, "must be finite; got nan"),
    ],
)
def test_a_metric_that_is_no_finite_number_is_refused(metric: Any, told: str) -> None:
    model = toy()
    tokens = tokens_for(model)
    with pytest.raises(ValueError, match=f"the metric {told}"):
        patch_by_position(model, metric, clean=tokens, corrupted=tokens.flip(0))


def test_under_an_intervention_the_patch_comes_after_it() -> None:
    model = toy(n_heads=4)
    clean, corrupted = tokens_for(model), tokens_for(model, seed=1)
    with intervening(model, AblateHeads([1])):
        under = patch_by_head(model, last_difference, clean=clean, corrupted=corrupted)
    assert under[0, 1] == 0  # an ablated head is the same in both runs
    assert under[0, [0, 2, 3]].all()
    assert_untouched(model)
