"""Patterns from elsewhere, and mixtures: plateau_interp.hooks.patched_attention."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from hook_cases import (
    activation,
    assert_untouched,
    edited_and_not,
    every_kind,
    gpt_neox,
    gradients,
    pattern_name,
    tokens_for,
    toy,
)
from torch import Tensor

from plateau_interp.hooks import During, FixAttention, MixAttention, PatchActivation, PatchAttention
from plateau_interp.interventions.attaching import intervening
from plateau_interp.interventions.clock import advance


@every_kind
def test_a_patch_from_the_same_run_changes_no_bit(kind: dict[str, Any]) -> None:
    model = toy(**kind)
    tokens = tokens_for(model)
    logits, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("hook_pattern"))
    with intervening(model, PatchAttention(cache)):
        assert torch.equal(model(tokens), logits)


@pytest.mark.parametrize("batched", [False, True])
def test_patch_by_a_tensor_by_hand(batched: bool) -> None:
    model = toy(n_heads=4, n_layers=2)
    shape = (5, 4, 8, 8) if batched else (4, 8, 8)
    source = torch.randn(shape, generator=torch.Generator().manual_seed(1)).tril()
    edited, before = edited_and_not(model, PatchAttention(source, layers=[1], heads=[0, 2], rows=[3, 7]))
    by_hand = before.clone()
    for head in (0, 2):
        by_hand[:, head, [3, 7]] = source[..., head, [3, 7], :]
    assert torch.equal(edited, by_hand)


def test_patch_from_another_model_sees_the_same_tokens() -> None:
    model, other = toy(n_layers=2, n_heads=4), toy(n_layers=2, n_heads=4, seed=8)
    with intervening(model, PatchAttention(other)):
        for seed in (0, 1):
            tokens = tokens_for(model, seed=seed)
            for layer in (0, 1):
                patched = activation(model, tokens, pattern_name(layer))
                assert torch.equal(patched, activation(other, tokens, pattern_name(layer)))
    assert_untouched(other)
    tokens = tokens_for(model)
    with intervening(model, PatchAttention(other)):
        found = gradients(model, tokens)
    assert not found["blocks.0.attn.W_Q"].any()
    assert found["blocks.0.attn.W_V"].any()
    assert all(parameter.grad is None for parameter in other.parameters())


def test_patch_from_a_run_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    other, asked = toy(seed=8), []

    class Run:
        def __init__(self, path: str) -> None:
            asked.append(path)

        def model(self, step: int | None = None) -> Any:
            asked.append(step)
            return other

    monkeypatch.setattr("plateau_interp.runs.run.Run", Run)
    model = toy()
    for source in ("runs/a", "runs/a@20"):
        with intervening(model, PatchAttention(source)):
            patched = activation(model, tokens_for(model), pattern_name(0))
        assert torch.equal(patched, activation(other, tokens_for(model), pattern_name(0)))
    assert asked == [Path("runs/a"), None, Path("runs/a"), 20]
    with pytest.raises(ValueError, match="RUN@STEP"), intervening(model, PatchAttention("runs/a@last")):
        pass


@every_kind
def test_mix_is_the_weighted_mean(kind: dict[str, Any]) -> None:
    model = toy(**kind)
    fixed, before = edited_and_not(model, FixAttention())
    mixed, _ = edited_and_not(model, MixAttention(0.25))
    torch.testing.assert_close(mixed, 0.75 * before + 0.25 * fixed)
    tokens = tokens_for(model)
    with intervening(model, FixAttention()):
        whole = model(tokens)
    with intervening(model, MixAttention(1.0)):
        assert torch.equal(model(tokens), whole)
    plain = model(tokens)
    with intervening(model, MixAttention(0.0)) as (receipt,):  # without a warning that it never fired
        assert torch.equal(model(tokens), plain)
    assert receipt.fired == 0


def test_patterns_of_a_bidirectional_model_are_refused_for_a_causal_one() -> None:
    model, other = gpt_neox(), gpt_neox(seed=5)
    other.cfg.attention_dir = "bidirectional"
    with pytest.raises(ValueError, match="the source is bidirectional"), intervening(model, PatchAttention(other)):
        pass
    with intervening(other, PatchAttention(model)):
        other(tokens_for(other))


def test_a_mix_towards_a_schedule_whose_time_did_not_come_is_not_reported() -> None:
    model = toy()
    with intervening(model, MixAttention(0.5, towards=During(FixAttention(), start=50))):
        advance(model, step=3)
        model(tokens_for(model))


def test_a_model_is_not_its_own_source() -> None:
    model = toy()
    with pytest.raises(ValueError, match="the model itself"), intervening(model, PatchAttention(model)):
        pass


def from_attention(source: Any) -> PatchAttention:
    return PatchAttention(source)


def from_state(source: Any) -> PatchActivation:
    return PatchActivation("blocks.0.hook_resid_pre", source)


def logits_in_a_circle(models: Sequence[Any], patch: Any, asked: Any, tokens: Tensor) -> Tensor:
    """Of one of several models, each of which takes from the next, and the last from the first."""
    with ExitStack() as stack:
        for model, source in zip(models, [*models[1:], models[0]], strict=True):
            stack.enter_context(intervening(model, patch(source)))
        return asked(tokens)


@pytest.mark.parametrize("patch", [from_attention, from_state])
@pytest.mark.parametrize("n_models", [2, 3])
def test_models_that_take_from_each_other_are_refused(patch: Any, n_models: int) -> None:
    models = [toy(seed=seed) for seed in range(n_models)]
    tokens = tokens_for(models[0])
    before = [model(tokens) for model in models]
    for asked in models:
        with pytest.raises(ValueError, match=r"^models take from each other in a circle: .* give a cache of one, as"):
            logits_in_a_circle(models, patch, asked, tokens)
    for model, logits in zip(models, before, strict=True):
        assert torch.equal(model(tokens), logits)


def test_a_model_may_take_from_one_that_is_patched_itself() -> None:
    one, other, third = (toy(seed=seed) for seed in range(3))
    tokens = tokens_for(one)
    with intervening(other, PatchAttention(third)), intervening(one, PatchAttention(other)):
        one(tokens)
        patched = activation(one, tokens, pattern_name(0))
    assert torch.allclose(patched, activation(third, tokens, pattern_name(0)))
