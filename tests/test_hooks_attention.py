"""What holds for every edit of attention.

That is, of what is made by plateau_interp.hooks.targeted_attention, on the base of plateau_interp.hooks.targeted_edit
and by the maps of plateau_interp.hooks.attention_maps, by plateau_interp.hooks.patched_attention, and by
plateau_interp.hooks.ablated_heads.
"""

import math
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hook_cases import (
    BIASED,
    OMEGA,
    Pointer,
    activation,
    assert_untouched,
    cached_logits,
    edited_and_not,
    every_kind,
    gpt_neox,
    gradients,
    pattern_name,
    recheck,
    tokens_for,
    toy,
)
from torch import Tensor
from two_texts import two_texts

from plateau_interp.decoding import continued
from plateau_interp.hooks import (
    AblateHeads,
    BiasAttention,
    FixAttention,
    MaskAttention,
    MixAttention,
    PatchActivation,
    PatchAttention,
)
from plateau_interp.interventions.attached import Intervention
from plateau_interp.interventions.attaching import InterventionWarning, intervening
from plateau_interp.models import toy_model

EVERYWHERE: dict[str, Any] = {
    "bias": lambda model: BiasAttention(factor=10.0),
    "fix": lambda model: FixAttention(total=0.7),
    "mask targets": lambda model: MaskAttention(),
    "mask keys": lambda model: MaskAttention(keys=[1, 2], heads=[0]),
    "patch tensor": lambda model: PatchAttention(torch.rand(8, 8, generator=torch.Generator()).tril()),
    "patch model": lambda model: PatchAttention(
        toy(n_layers=model.cfg.n_layers, n_heads=model.cfg.n_heads, dtype=model.cfg.dtype, seed=8), rows=[2, 6, 7]
    ),
    "mix": lambda model: MixAttention(0.3),
    "ablate zero": lambda model: AblateHeads([0]),
    "ablate uniform": lambda model: AblateHeads([0], by="uniform"),
    "ablate mean": lambda model: AblateHeads([0], by="mean"),
}


@every_kind
@pytest.mark.parametrize("name", EVERYWHERE)
def test_rule_33_holds_for_every_attention_edit(kind: dict[str, Any], name: str) -> None:
    model = toy(**kind)
    tokens = tokens_for(model)
    plain = model(tokens)
    with intervening(model, EVERYWHERE[name](model)) as (receipt,):
        edited = model(tokens)
        assert edited.dtype == plain.dtype
        assert not torch.allclose(edited, plain, atol=1e-4), "the edit has to matter for the rest to mean anything"
        torch.testing.assert_close(cached_logits(model, tokens), edited)
        assert all(gradient.isfinite().all() for gradient in gradients(model, tokens).values())
    assert receipt.fired > 0
    assert_untouched(model)
    assert torch.equal(model(tokens), plain)
    with suppress(KeyError), intervening(model, EVERYWHERE[name](model)):
        model(tokens)
        raise KeyError
    assert_untouched(model)
    assert torch.equal(model(tokens), plain)


def test_order_given_is_order_applied() -> None:
    model = toy(n_heads=4)
    mask = torch.ones(8, 8)
    mask[BIASED] = 3.0
    bias, fix = BiasAttention(factor=3.0), FixAttention()
    fixed_last, before = edited_and_not(model, bias, fix)
    fixed_first, _ = edited_and_not(model, fix, bias)
    fixed, _ = edited_and_not(model, fix)
    assert torch.equal(fixed_last, fixed)
    assert torch.equal(fixed_first, fixed * mask)
    with intervening(model, fix), intervening(model, bias):
        nested = activation(model, tokens_for(model), pattern_name(0))
    assert torch.equal(nested, fixed_first)
    assert not torch.equal(fixed_first, before)


def test_edits_are_pure() -> None:
    """A capture made before the edit keeps the unedited tensor."""
    model, kept = toy(), []
    tokens = tokens_for(model)
    before = activation(model, tokens, pattern_name(0))
    model.blocks[0].attn.hook_pattern.add_hook(lambda act, hook: kept.append(act))
    with intervening(model, BiasAttention(), MaskAttention(keys=[1]), FixAttention(), AblateHeads([0])):
        model(tokens)
    model.reset_hooks()
    assert torch.equal(kept[0], before)


# Targets


def embedded(model: Any, tokens: Tensor) -> Tensor:
    return model.W_E[tokens] + model.W_pos[: tokens.shape[1]]


@pytest.mark.parametrize("start", [0, 1])
def test_a_forward_from_embeddings_is_refused_where_the_tokens_matter(start: int) -> None:
    """It has no tokens of its own, and those of an earlier forward are others."""
    model = toy(task=Pointer(), n_layers=2)
    tokens = tokens_for(model)
    other = toy(task=Pointer(), n_layers=2, seed=8)
    for edit in (FixAttention(), PatchAttention(other)):
        with intervening(model, edit):
            logits = model(tokens)
            with pytest.raises(ValueError, match="not all seen"):
                model(embedded(model, tokens_for(model, seed=1)), start_at_layer=start)
            assert torch.equal(model(tokens), logits)
            model.embed(tokens)  # as `generate` does: then they are seen
            assert torch.equal(model(embedded(model, tokens), start_at_layer=0), logits)
            halfway = model(tokens, stop_at_layer=1)
            assert torch.equal(model(halfway, start_at_layer=1), logits)
        assert_untouched(model)


def test_works_inside_run_with_cache_and_run_with_hooks() -> None:
    model = toy(task=Pointer(), n_layers=2)
    tokens = tokens_for(model)
    with intervening(model, FixAttention()):
        logits = model(tokens)
        assert torch.equal(model.run_with_cache(tokens)[0], logits)
        assert torch.equal(model.run_with_hooks(tokens, fwd_hooks=[(pattern_name(0), lambda act, hook: act)]), logits)
        assert torch.equal(model(tokens), logits)


def test_on_a_rotary_model_with_targets_of_ones_own() -> None:
    model = gpt_neox()
    tokens = tokens_for(model)
    previous = torch.diag(torch.ones(15), -1).bool()
    for edit in (
        BiasAttention(factor=4.0, targets=previous),
        BiasAttention(factor=4.0, targets=previous, at="scores"),
        FixAttention(targets=previous),
        MaskAttention(targets=previous),
        MaskAttention(targets=previous, at="scores"),
        MaskAttention(keys=[1, 3]),
        AblateHeads([0]),
        MixAttention(0.5, FixAttention(targets=previous)),
        AblateHeads([1], by="uniform"),
        AblateHeads([2], by="mean"),
        PatchAttention(gpt_neox(seed=5)),
    ):
        plain = model(tokens)
        with intervening(model, edit):
            edited = model(tokens)
            assert not torch.allclose(edited, plain, atol=1e-4)
            torch.testing.assert_close(cached_logits(model, tokens), edited, atol=1e-5, rtol=1e-4)
            assert all(gradient.isfinite().all() for gradient in gradients(model, tokens).values())
        assert_untouched(model)
        assert torch.equal(model(tokens), plain)


@pytest.mark.parametrize("cached", [True, False])
def test_works_inside_generate(cached: bool) -> None:
    """TransformerLens's generate embeds the whole prefix at each step and starts its forwards at the first block."""
    model = gpt_neox()
    tokens = tokens_for(model)
    options = {"do_sample": False, "stop_at_eos": False, "prepend_bos": False, "verbose": False}
    plain = continued(model, tokens, 4).tokens
    for edit in (PatchAttention(gpt_neox(seed=5)), AblateHeads([1], by="uniform"), AblateHeads([0, 1, 2])):
        with intervening(model, edit):
            mine = continued(model, tokens, 4).tokens
            theirs = model.generate(tokens, max_new_tokens=4, use_past_kv_cache=cached, **options)
        assert torch.equal(theirs[:, 8:], mine)
        assert not torch.equal(mine, plain)


def test_nothing_leaks_from_the_future() -> None:
    model = toy(n_layers=2, n_heads=4, attention="softmax")
    tokens, changed = tokens_for(model), tokens_for(model)
    changed[:, 6:] = (changed[:, 6:] + 1) % 7
    for name, edit in EVERYWHERE.items():
        with intervening(model, edit(model)):
            assert torch.equal(model(tokens)[:, :6], model(changed)[:, :6]), name


@pytest.mark.parametrize("name", EVERYWHERE)
def test_a_context_entered_in_inference_mode_serves_training(name: str) -> None:
    model = toy(attention="softmax")
    edit = EVERYWHERE[name](model)
    with intervening(model, edit):
        expected = gradients(model, tokens_for(model))
    with ExitStack() as stack:
        with torch.inference_mode():
            stack.enter_context(intervening(model, edit))
        found = gradients(model, tokens_for(model))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


# Bad input


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BiasAttention(factor=math.nan), "factor must be finite; got nan"),
        (lambda: BiasAttention(factor=math.inf), "factor must be finite; got inf"),
        (lambda: BiasAttention(factor=0.0, at="scores"), "factor must be positive at the scores; got 0.0"),
        (lambda: recheck(BiasAttention(), at="z"), "at must be one of pattern, scores; got 'z'"),
        (lambda: FixAttention(total=math.inf), "total must be finite"),
        (lambda: MaskAttention(keys=[0], targets=OMEGA), "not both"),
        (lambda: MixAttention(1.5), "weight must be between 0 and 1; got 1.5"),
        (lambda: MixAttention(math.nan), "weight must be between 0 and 1; got nan"),
        (lambda: recheck(AblateHeads([0]), by="noise"), "by must be one of zero, uniform, mean"),
    ],
)
def test_bad_values_are_refused_at_construction(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (BiasAttention(layers=[2]), "there is no layer 2: the model has 0 to 1; the nearest is 1"),
        (BiasAttention(layers=[0]), r"target positions in layers \[1\], not in \[0\]"),
        (BiasAttention(heads=[-1]), "there is no head -1: the model has 0 to 3; the nearest is 0"),
        (BiasAttention(rows=[99]), "there is no row 99: the model has 0 to 8; the nearest is 8"),
        (AblateHeads([4]), "there is no head 4"),
        (AblateHeads([]), "no head is given"),
        (AblateHeads([0], layers=[7]), "there is no layer 7"),
        (MaskAttention(keys=[9]), "there is no key 9"),
        (BiasAttention(at="scores"), "linear attention has no softmax to renormalise"),
        (MaskAttention(keys=[3], at="scores"), "linear attention has no softmax to renormalise"),
        (PatchAttention(torch.zeros(3, 8, 8)), "with 4 heads; got"),
        (PatchAttention({"blocks.0.attn.hook_pattern": torch.eye(8)}), "the source has no blocks.1.attn.hook_pattern"),
        (PatchAttention(toy(n_heads=2)), "layers, heads and vocabulary must fit"),
        (MixAttention(0.5, BiasAttention(layers=[5])), "there is no layer 5"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_on_entry(edit: Intervention, message: str) -> None:
    model = toy(n_layers=2, n_heads=4)
    with pytest.raises(ValueError, match=message), intervening(model, edit):
        pytest.fail("entered")
    assert_untouched(model)


def test_a_source_that_reads_other_tokens_is_refused_on_entry(tmp_path: Path) -> None:
    sea, sky = two_texts(tmp_path)
    sizes = {"d_model": 8, "n_heads": 1, "n_layers": 1}
    model, source = toy_model(sea, **sizes), toy_model(sky, **sizes)
    other = "^the vocabularies of the model and of the source differ: token 256 is '.*' and '.*'$"
    for edit in (
        PatchAttention(source),
        MixAttention(0.5, PatchAttention(source)),
        PatchActivation("*resid_pre", source),
    ):
        with pytest.raises(ValueError, match=other), intervening(model, edit):
            pytest.fail("entered")
        assert_untouched(model)
    tokens = sea.held_out(2).inputs[:, :4]
    same = toy_model(replace(sea, n=4), **sizes, seed=1)
    with intervening(model, PatchAttention(same)):
        model(tokens)


def test_one_that_never_fires_is_reported() -> None:
    model = toy()
    with (
        pytest.warns(InterventionWarning, match=r"BiasAttention\(.*\) never fired"),
        intervening(model, BiasAttention()),
    ):
        pass
