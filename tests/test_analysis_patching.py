import math
from typing import Any

import pytest
import torch
from hook_cases import assert_untouched, gpt_neox, tokens_for, toy
from torch import Tensor
from typecheck import unchecked

from plateau_interp.hooks import AblateHeads, patch_by_head, patch_by_position
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
