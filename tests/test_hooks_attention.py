import math
from contextlib import ExitStack, suppress
from typing import Any

import pytest
import torch
from hook_cases import (
    KINDS,
    TASK,
    Pointer,
    activation,
    assert_untouched,
    cached_logits,
    gpt_neox,
    gradients,
    kind_name,
    padded,
    pattern_name,
    recheck,
    tokens_for,
    toy,
)
from torch import Tensor
from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

from plateau_interp.decoding import continued, greedy_answers
from plateau_interp.hooks import (
    AblateHeads,
    BiasAttention,
    During,
    FixAttention,
    MaskAttention,
    MixAttention,
    PatchAttention,
)
from plateau_interp.interventions.attached import Intervention
from plateau_interp.interventions.attaching import InterventionWarning, intervening
from plateau_interp.interventions.clock import advance
from plateau_interp.positions import layer_targets

every_kind = pytest.mark.parametrize("kind", KINDS, ids=kind_name)

OMEGA = torch.zeros(8, 8, dtype=torch.bool)
"""The solution of a moving-window sum with n=4, k=2, written out."""
for query, keys in {4: [0], 5: [0, 1], 6: [1, 2], 7: [2, 3]}.items():
    OMEGA[query, keys] = True

BIASED = OMEGA.clone()
BIASED[4] = False


def last_layer(model: Any) -> int:
    return model.cfg.n_layers - 1


def edited_and_not(model: Any, *interventions: Intervention) -> tuple[Tensor, Tensor]:
    """The last layer's pattern under interventions there, and without."""
    tokens, name = tokens_for(model), pattern_name(last_layer(model))
    before = activation(model, tokens, name)
    with intervening(model, *interventions):
        return activation(model, tokens, name), before


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


@every_kind
@pytest.mark.parametrize(
    "identity",
    [
        BiasAttention(factor=1.0),
        MaskAttention(targets=torch.zeros(8, 8, dtype=torch.bool)),
        FixAttention(targets=torch.zeros(8, 8)),
    ],
    ids=["bias", "mask", "fix"],
)
def test_an_edit_of_nothing_changes_no_bit(kind: dict[str, Any], identity: Intervention) -> None:
    model = toy(**kind)
    tokens = tokens_for(model)
    logits, grads = model(tokens), gradients(model, tokens)
    with intervening(model, identity) as (receipt,):
        assert torch.equal(model(tokens), logits)
        again = gradients(model, tokens)
    assert again.keys() == grads.keys()
    assert all(torch.equal(again[name], grads[name]) for name in grads)
    assert (receipt.entries, receipt.change) == (0, 0.0)
    assert receipt.fired > 0


@every_kind
def test_a_patch_from_the_same_run_changes_no_bit(kind: dict[str, Any]) -> None:
    model = toy(**kind)
    tokens = tokens_for(model)
    logits, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("hook_pattern"))
    with intervening(model, PatchAttention(cache)):
        assert torch.equal(model(tokens), logits)


@every_kind
def test_bias_multiplies_the_targets_but_the_first_answer_row(kind: dict[str, Any]) -> None:
    model = toy(**kind)
    edited, before = edited_and_not(model, BiasAttention(factor=2.5))
    torch.testing.assert_close(edited, torch.where(BIASED, before * 2.5, before), rtol=0, atol=0)
    edited, before = edited_and_not(model, BiasAttention(factor=0.2, rows=range(8), heads=[model.cfg.n_heads - 1]))
    by_hand = before.clone()
    by_hand[:, -1] = torch.where(OMEGA, before[:, -1] * 0.2, before[:, -1])
    torch.testing.assert_close(edited, by_hand, rtol=0, atol=0)


def test_bias_of_the_published_code_step_by_step() -> None:
    """The mask of the authors: ones, and c at M[n + r, r - 1] and M[n + r, r] for r = 1 … n - 1."""
    mask = torch.ones(8, 8)
    for r in range(1, 4):
        mask[4 + r, [r - 1, r]] = 10.0
    model = toy(attention="linear")
    edited, before = edited_and_not(model, BiasAttention(factor=10.0))
    assert torch.equal(edited, before * mask)


def test_bias_at_the_scores_is_the_biased_pattern_renormalised() -> None:
    model = toy(attention="softmax", n_heads=4)
    edited, before = edited_and_not(model, BiasAttention(factor=10.0, at="scores"))
    biased = torch.where(BIASED, before * 10.0, before)
    torch.testing.assert_close(edited, biased / biased.sum(dim=-1, keepdim=True))
    tokens = tokens_for(model)
    with intervening(model, BiasAttention(factor=10.0, at="scores")) as (receipt,):
        logits = model(tokens)
        torch.testing.assert_close(cached_logits(model, tokens), logits)
        assert all(gradient.isfinite().all() for gradient in gradients(model, tokens).values())
    assert receipt.change == pytest.approx(math.log(10.0), rel=1e-5)
    assert receipt.rows == 3


def test_bias_scales_the_gradient_into_queries_and_keys() -> None:
    model, kept = toy(attention="linear"), {}
    tokens = tokens_for(model)

    def keep(act: Tensor, *, hook: Any) -> None:
        act.retain_grad()
        kept[hook.name] = act

    scores, z = "blocks.0.attn.hook_attn_scores", "blocks.0.attn.hook_z"
    found = []
    for interventions in ((), (BiasAttention(factor=4.0),)):
        with intervening(model, *interventions), model.hooks(fwd_hooks=[(scores, keep), (z, keep)]):
            model(tokens)
        kept[z].sum().backward()  # linear in the pattern, so its gradient there does not depend on the edit
        found.append(kept[scores].grad)
    torch.testing.assert_close(found[1], torch.where(BIASED, 4.0 * found[0], found[0]))


@every_kind
def test_fix_sets_the_rows_that_have_targets(kind: dict[str, Any]) -> None:
    model = toy(**kind)
    edited, before = edited_and_not(model, FixAttention())
    by_hand = before.clone()
    by_hand[:, :, 4:] = 0
    by_hand[:, :, 4, 0] = 1.0
    by_hand[:, :, 5, [0, 1]] = 0.5
    by_hand[:, :, 6, [1, 2]] = 0.5
    by_hand[:, :, 7, [2, 3]] = 0.5
    assert torch.equal(edited, by_hand)


def test_fix_with_weights_total_and_places_of_ones_own() -> None:
    model = toy(n_heads=4, n_layers=2)
    weights = torch.zeros(8, 8)
    weights[3, :3] = torch.tensor([1.0, 2.0, 5.0])
    weights[6, 6] = 9.0
    fix = FixAttention(total=-2.0, targets=weights, layers=[1], heads=[2], rows=[3])
    edited, before = edited_and_not(model, fix)
    by_hand = before.clone()
    by_hand[:, 2, 3] = torch.tensor([-0.25, -0.5, -1.25, 0, 0, 0, 0, 0])
    assert torch.equal(edited, by_hand)
    with intervening(model, fix) as (receipt,):
        model(tokens_for(model))
    assert receipt.sites == (pattern_name(1),)
    assert (receipt.rows, receipt.heads) == (1, 1)


def test_fixed_rows_stop_the_gradient_into_queries_and_not_into_values() -> None:
    model = toy(attention="softmax")
    tokens, every_row = tokens_for(model), torch.ones(8, 8, dtype=torch.bool).tril()
    with intervening(model, FixAttention(targets=every_row)):
        found = gradients(model, tokens)
    assert not found["blocks.0.attn.W_Q"].any()
    assert not found["blocks.0.attn.W_K"].any()
    assert found["blocks.0.attn.W_V"].abs().max() > 0
    with intervening(model, FixAttention(targets=every_row, rows=[5, 6])):
        found = gradients(model, tokens)
    assert found["blocks.0.attn.W_Q"].abs().max() > 0


def test_mask_takes_keys_away() -> None:
    model = toy(n_heads=4)
    edited, before = edited_and_not(model, MaskAttention(keys=[1], heads=[2, 3], rows=[4, 6]))
    by_hand = before.clone()
    by_hand[:, 2:, 4, 1] = by_hand[:, 2:, 6, 1] = 0
    assert torch.equal(edited, by_hand)
    edited, before = edited_and_not(model, MaskAttention())
    assert torch.equal(edited, torch.where(OMEGA, 0.0, before))


def test_mask_at_the_scores_renormalises_and_keeps_gradients_finite() -> None:
    model = toy(attention="softmax", n_heads=4)
    mask = MaskAttention(keys=[0, 2], rows=range(1, 8), at="scores")
    edited, before = edited_and_not(model, mask)
    by_hand = before.clone()
    by_hand[:, :, 1:, [0, 2]] = 0
    torch.testing.assert_close(edited, by_hand / by_hand.sum(dim=-1, keepdim=True))
    tokens = tokens_for(model)
    with intervening(model, mask) as (receipt,):
        assert all(gradient.isfinite().all() for gradient in gradients(model, tokens).values())
        torch.testing.assert_close(cached_logits(model, tokens), model(tokens))
    assert math.isfinite(receipt.change)
    assert receipt.rows == 7


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


@every_kind
def test_ablations_by_hand(kind: dict[str, Any]) -> None:
    model = toy(**kind)
    head, layer = model.cfg.n_heads - 1, last_layer(model)
    uniform = torch.tensor([[1 / (row + 1)] * (row + 1) + [0.0] * (7 - row) for row in range(8)], dtype=torch.float64)
    for by, expected in {
        "zero": lambda before: torch.zeros_like(before),
        "uniform": lambda before: uniform.to(before).expand_as(before),
        "mean": lambda before: before.mean(dim=0, keepdim=True).expand_as(before),
    }.items():
        edited, before = edited_and_not(model, AblateHeads([head], layers=[layer], by=by))  # type: ignore[arg-type]
        by_hand = before.clone()
        by_hand[:, head] = expected(before[:, head])
        assert torch.equal(edited, by_hand), by


def test_a_zeroed_head_writes_nothing() -> None:
    model = toy(n_heads=4)
    with intervening(model, AblateHeads([1, 3])):
        z = activation(model, tokens_for(model), "blocks.0.attn.hook_z")
    assert (z != 0).any(dim=-1).flatten(0, 1).any(dim=0).tolist() == [True, False, True, False]


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
    assert asked == ["runs/a", None, "runs/a", 20]
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


def test_a_map_that_depends_on_the_data_follows_each_forward() -> None:
    model = toy(task=Pointer(), n_heads=2, n_layers=2)
    task = Pointer()
    with intervening(model, FixAttention()) as (receipt,):
        assert receipt.sites == (pattern_name(1),)
        for seed, n in ((0, 5), (1, 5), (2, 1)):
            batch = task.sample(n, generator=torch.Generator().manual_seed(seed))
            pattern = activation(model, batch.inputs, pattern_name(1))
            for sequence in range(n):
                pointer = int(batch.tokens[sequence, 0])
                for row in (5, 6):
                    assert pattern[sequence, :, row].argmax(dim=-1).tolist() == [1 + pointer] * 2
                    assert pattern[sequence, :, row].sum(dim=-1).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("edit", [FixAttention(), BiasAttention(factor=9.0), MaskAttention(), MixAttention(0.5)])
def test_a_map_that_depends_on_the_data_is_right_under_a_cache(edit: Intervention) -> None:
    model = toy(task=Pointer(), n_heads=2, n_layers=2)
    tokens = tokens_for(model)
    with intervening(model, edit):
        torch.testing.assert_close(cached_logits(model, tokens, prompt=6), model(tokens))
        torch.testing.assert_close(cached_logits(model, tokens, prompt=2), model(tokens))
        cached = greedy_answers(model, Pointer(), tokens)
        assert torch.equal(cached, greedy_answers(model, Pointer(), tokens, cached=False))


def test_a_cache_filled_elsewhere_is_refused_where_the_tokens_matter() -> None:
    model = toy(task=Pointer(), n_layers=2)
    tokens = tokens_for(model)
    cache = TransformerLensKeyValueCache.init_cache(model.cfg, "cpu", len(tokens))
    model(tokens[:, :6], past_kv_cache=cache, attention_mask=torch.ones_like(tokens[:, :6]))
    one = tokens[:, 6:7]
    with pytest.raises(ValueError, match="not all seen"), intervening(model, FixAttention()):
        model(one, past_kv_cache=cache, attention_mask=torch.ones_like(one))
    assert_untouched(model)


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


def test_targets_by_function_are_the_task_s_own_when_it_says_the_same() -> None:
    model = toy(task=Pointer(), n_layers=2)
    tokens = tokens_for(model)

    def function(seen: Tensor, layer: int) -> Tensor:
        target = torch.zeros(len(seen), 8, 8, dtype=torch.bool)
        for sequence, pointer in enumerate(seen[:, 0].tolist()):
            target[sequence, 5:7, 1 + pointer] = True
        return target

    with intervening(model, FixAttention()):
        own = model(tokens)
    with intervening(model, FixAttention(targets=function, layers=[1])):
        assert torch.equal(model(tokens), own)
        torch.testing.assert_close(cached_logits(model, tokens), own)


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


def test_a_uniform_head_reads_no_padding() -> None:
    model = toy(attention="softmax")
    tokens = tokens_for(model)
    with intervening(model, AblateHeads([0], by="uniform")):
        pattern = model.run_with_cache(tokens, attention_mask=padded(tokens))[1]["pattern", 0]
        assert torch.equal(activation(model, tokens, pattern_name(0))[0, 0, 5, :6], torch.full((6,), 1 / 6))
    assert pattern[0, 0, 5, :6].tolist() == pytest.approx([0, 0, 0, 1 / 3, 1 / 3, 1 / 3])
    assert pattern[1, 0, 5, :6].tolist() == pytest.approx([1 / 6] * 6)
    assert not pattern[0, 0, :3].any()


def test_patterns_of_a_bidirectional_model_are_refused_for_a_causal_one() -> None:
    model, other = gpt_neox(), gpt_neox(seed=5)
    other.cfg.attention_dir = "bidirectional"
    with pytest.raises(ValueError, match="the source is bidirectional"), intervening(model, PatchAttention(other)):
        pass
    with intervening(other, PatchAttention(model)):
        other(tokens_for(other))


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


def test_a_mix_towards_a_schedule_whose_time_did_not_come_is_not_reported() -> None:
    model = toy()
    with intervening(model, MixAttention(0.5, towards=During(FixAttention(), start=50))):
        advance(model, step=3)
        model(tokens_for(model))


@pytest.mark.parametrize(
    "edit",
    [
        FixAttention(rows=[1]),
        BiasAttention(rows=[1, 2]),
        MaskAttention(rows=[0]),
        MaskAttention(keys=[5], rows=[3]),
        BiasAttention(targets=OMEGA, rows=[3]),
    ],
)
def test_rows_without_a_target_are_refused(edit: Intervention) -> None:
    model = toy(n_layers=2)
    with (
        pytest.raises(ValueError, match=r"rows \[.*\] have no target; those that do are \[.*[457]"),
        intervening(model, edit),
    ):
        pass
    assert_untouched(model)


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
        (lambda: FixAttention(targets=-torch.eye(8)), "must not be negative"),
        (lambda: FixAttention(targets=torch.ones(8)), r"must be \[query, key\] or \[batch, query, key\]; got \(8,\)"),
        (lambda: MaskAttention(keys=[0], targets=OMEGA), "not both"),
        (lambda: MixAttention(1.5), "weight must be between 0 and 1; got 1.5"),
        (lambda: MixAttention(math.nan), "weight must be between 0 and 1; got nan"),
        (lambda: recheck(AblateHeads([0]), by="noise"), "by must be one of zero, uniform, mean"),
    ],
)
def test_bad_values_are_refused_at_construction(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


FUTURE = torch.zeros(8, 8)
FUTURE[2, 5] = 1.0
BROKEN = torch.eye(8)
BROKEN[3, 1] = math.nan


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
        (FixAttention(targets=FUTURE), "targets looks into the future: query 2 reads key 5 of a causal model"),
        (PatchAttention(FUTURE), "the source looks into the future: query 2 reads key 5"),
        (PatchAttention(BROKEN), "the source holds NaN or infinite entries"),
        (FixAttention(targets=BROKEN), "targets holds NaN"),
        (FixAttention(targets=torch.ones(7, 8).tril()), "as many queries as keys"),
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


def test_the_future_is_refused_from_a_function_too() -> None:
    model = toy()
    future = FixAttention(targets=lambda tokens, layer: FUTURE)
    with (
        pytest.raises(ValueError, match=r"targets\(tokens, layer=0\) looks into the future"),
        intervening(model, future),
    ):
        model(tokens_for(model))


def test_a_model_without_a_task_needs_targets() -> None:
    model = gpt_neox()
    for edit in (BiasAttention(), FixAttention(), MaskAttention()):
        with pytest.raises(ValueError, match="no task to take target positions"), intervening(model, edit):
            pass


def test_a_model_is_not_its_own_source() -> None:
    model = toy()
    with pytest.raises(ValueError, match="the model itself"), intervening(model, PatchAttention(model)):
        pass


def test_what_does_not_fit_a_forward_is_refused_there() -> None:
    model = toy()
    tokens = tokens_for(model)
    for edit, message in (
        (PatchAttention(torch.eye(4)), "covers 4 positions, but the forward has 8"),
        (FixAttention(targets=torch.eye(4)), "covers 4 positions, but the forward has 8"),
        (PatchAttention(torch.eye(8).expand(3, 1, 8, 8)), "the source has 3 sequences, but the forward has 5"),
        (FixAttention(targets=torch.eye(8).expand(3, 8, 8)), "targets are for 3 sequences, but the forward has 5"),
    ):
        with pytest.raises(ValueError, match=message), intervening(model, edit):
            model(tokens)
    assert_untouched(model)


def test_one_that_never_fires_is_reported() -> None:
    model = toy()
    with (
        pytest.warns(InterventionWarning, match=r"BiasAttention\(.*\) never fired"),
        intervening(model, BiasAttention()),
    ):
        pass


def test_the_map_is_that_of_the_task() -> None:
    batch = TASK.sample(2, generator=torch.Generator())
    (target,) = layer_targets(TASK, batch, n_layers=1)
    assert target is not None
    assert torch.equal(target[0], OMEGA)
