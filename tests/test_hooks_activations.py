import math
from contextlib import suppress
from typing import Any

import pytest
import torch
from hook_cases import (
    KINDS,
    activation,
    assert_untouched,
    cached_logits,
    gpt_neox,
    gradients,
    kind_name,
    recheck,
    tokens_for,
    toy,
)
from torch import Tensor

from plateau_interp.hooks import (
    AblateActivation,
    AblateHeads,
    AddDirection,
    BiasAttention,
    FixAttention,
    MaskAttention,
    MixAttention,
    PatchActivation,
    PatchAttention,
    ScaleActivation,
)
from plateau_interp.interventions.attached import Intervention
from plateau_interp.interventions.attaching import intervening, quietly

every_kind = pytest.mark.parametrize("kind", [*KINDS, None], ids=lambda kind: kind_name(kind) if kind else "rotary")

POST, PRE, Z, MLP = (
    "blocks.0.hook_resid_post",
    "blocks.0.hook_resid_pre",
    "blocks.0.attn.hook_z",
    "blocks.0.hook_mlp_out",
)


def model_of(kind: dict[str, Any] | None) -> Any:
    return gpt_neox() if kind is None else toy(**kind)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def with_heads_zeroed(act: Tensor) -> Tensor:
    """Heads 0 and the last at positions 2 and 5."""
    by_hand = act.clone()
    for position in (2, 5):
        by_hand[:, position, 0] = 0
        by_hand[:, position, -1] = 0
    return by_hand


def with_rows(act: Tensor, rows: list[int], new: Tensor) -> Tensor:
    by_hand = act.clone()
    by_hand[:, rows] = new[:, rows].to(act)
    return by_hand


CASES: dict[str, tuple[Any, Any]] = {
    # name: (the intervention for a model, its formula by hand)
    "zero": (lambda m: AblateActivation(MLP), torch.zeros_like),
    "zero at positions": (lambda m: AblateActivation(PRE, positions=[1, 6]), lambda a: with_rows(a, [1, 6], 0 * a)),
    "zero heads": (
        lambda m: AblateActivation(Z, positions=(2, 5), heads=sorted({0, m.cfg.n_heads - 1})),
        with_heads_zeroed,
    ),
    "mean": (
        lambda m: AblateActivation(POST, "mean", positions=[3]),
        lambda a: with_rows(a, [3], a.mean(0, keepdim=True).expand_as(a)),
    ),
    "common": (
        lambda m: AblateActivation(POST, "common", positions=[3, 4]),
        lambda a: with_rows(a, [3, 4], a - a.mean(0, keepdim=True)),
    ),
    "resample": (
        lambda m: AblateActivation(POST, "resample", seed=2, positions=range(2, 8)),
        lambda a: with_rows(a, list(range(2, 8)), a[[3, 4, 0, 1, 2]]),
    ),
    "scale": (lambda m: ScaleActivation(MLP, -2.5), lambda a: -2.5 * a),
    "scale embeddings": (
        lambda m: ScaleActivation("hook_embed", 3.0, positions=[0, 4]),
        lambda a: with_rows(a, [0, 4], 3 * a),
    ),
    "add": (
        lambda m: AddDirection(PRE, noise(16), 2.0, positions=[7]),
        lambda a: with_rows(a, [7], a + 2 * noise(16).to(a)),
    ),
    "add by head": (
        lambda m: AddDirection(Z, noise(m.cfg.n_heads, m.cfg.d_head)),
        lambda a: a + noise(*a.shape[2:]).to(a),
    ),
    "patch": (
        lambda m: PatchActivation(POST, noise(5, 8, 16), positions=[1, 2]),
        lambda a: with_rows(a, [1, 2], noise(5, 8, 16)),
    ),
    "patch without batch": (
        lambda m: PatchActivation(MLP, noise(9, 16)),
        lambda a: noise(9, 16)[:8].to(a).expand_as(a),
    ),
    "patch keys": (
        lambda m: PatchActivation("blocks.0.attn.hook_k", noise(8, m.cfg.n_heads, m.cfg.d_head), positions=[2]),
        lambda a: with_rows(a, [2], noise(*a.shape[1:]).expand_as(a)),
    ),
}


@every_kind
@pytest.mark.parametrize("name", CASES)
def test_rule_33_holds_for_every_activation_edit(kind: dict[str, Any] | None, name: str) -> None:
    model = model_of(kind)
    make, by_hand = CASES[name]
    intervention = make(model)
    tokens, plain = tokens_for(model), model_of(kind)(tokens_for(model))
    before = activation(model, tokens, intervention.at)
    with intervening(model, intervention) as (receipt,):
        assert torch.equal(activation(model, tokens, intervention.at), by_hand(before))
        edited = model(tokens)
        assert edited.dtype == plain.dtype
        assert not torch.allclose(edited, plain, atol=1e-5)
        torch.testing.assert_close(cached_logits(model, tokens), edited, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(cached_logits(model, tokens, prompt=6), edited, atol=1e-5, rtol=1e-4)
        assert all(gradient.isfinite().all() for gradient in gradients(model, tokens).values())
    assert receipt.fired > 0
    changed = by_hand(before) != before
    assert receipt.rows == changed.any(dim=0).flatten(1).any(dim=1).sum()
    assert receipt.heads == (changed.any(dim=3).any(dim=0).any(dim=0).sum() if before.ndim == 4 else 0)
    assert_untouched(model)
    assert torch.equal(model(tokens), plain)
    with suppress(KeyError), intervening(model, intervention):
        model(tokens)
        raise KeyError
    assert_untouched(model)


@every_kind
def test_an_edit_of_nothing_changes_no_bit(kind: dict[str, Any] | None) -> None:
    model = model_of(kind)
    tokens = tokens_for(model)
    logits, plain = model(tokens), gradients(model, tokens)
    for identity in (ScaleActivation(POST, 1.0), AddDirection(PRE, noise(16), 0.0), AblateActivation(Z, positions=[8])):
        with quietly(), intervening(model, identity) as (receipt,):  # of position 8 it is said that nothing has it
            assert torch.equal(model(tokens), logits)
            again = gradients(model, tokens)
        assert all(torch.equal(again[name], plain[name]) for name in plain)
        assert receipt.change == 0


def test_size_of_the_change_by_hand() -> None:
    model = toy()
    tokens = tokens_for(model)
    direction = noise(16)
    with intervening(model, AddDirection(PRE, direction, 3.0, positions=[2, 4])) as (receipt,):
        model(tokens)
        model(tokens)
    assert (receipt.fired, receipt.rows, receipt.entries) == (2, 2, 2 * 5 * 2 * 16)
    assert receipt.change == pytest.approx((3.0 * direction).square().mean().sqrt().item(), rel=1e-5)


def test_a_patch_from_the_same_run_changes_no_bit() -> None:
    for model in (toy(n_layers=2, n_heads=4), gpt_neox()):
        tokens = tokens_for(model)
        logits, cache = model.run_with_cache(
            tokens, names_filter=lambda name: "hook_resid_pre" in name or "hook_z" in name
        )
        for at in ("blocks.*.hook_resid_pre", "blocks.*.attn.hook_z"):
            with intervening(model, PatchActivation(at, cache)):
                assert torch.equal(model(tokens), logits)


def test_a_patch_of_the_whole_stream_is_the_other_run() -> None:
    """From a cache, from a model, on a part of the positions with everything before them."""
    model, other = toy(n_layers=2), toy(n_layers=2, seed=8)
    clean, corrupted = tokens_for(model), tokens_for(model, seed=1)
    logits, cache = model.run_with_cache(clean)
    with intervening(model, PatchActivation("blocks.1.hook_resid_post", cache)):
        torch.testing.assert_close(model(corrupted), logits)
    with intervening(model, PatchActivation("unembed.hook_in", other)):
        expected = (
            other.run_with_cache(clean, names_filter="unembed.hook_in")[1]["unembed.hook_in"] @ model.W_U + model.b_U
        )
        torch.testing.assert_close(model(clean), expected)
        torch.testing.assert_close(cached_logits(model, clean), expected, atol=1e-5, rtol=1e-4)
    assert_untouched(other)


def test_hook_points_under_a_cache_that_hold_all_keys() -> None:
    """Rotated keys are made for the whole prefix at every step: positions count from 0 there."""
    model = gpt_neox()
    tokens = tokens_for(model)
    for edit in (
        ScaleActivation("blocks.0.attn.hook_rot_k", 3.0, positions=[1, 5]),
        ScaleActivation("blocks.0.attn.hook_rot_q", 3.0, positions=[1, 5], heads=[2]),
        PatchActivation("blocks.1.attn.hook_rot_k", noise(8, 4, 4), positions=[1, 5]),
    ):
        with intervening(model, edit):
            edited = model(tokens)
            torch.testing.assert_close(cached_logits(model, tokens), edited, atol=1e-5, rtol=1e-4)
        assert not torch.allclose(edited, model(tokens), atol=1e-5)


def test_positions_count_anew_in_a_forward_without_cache() -> None:
    model = toy()
    tokens = tokens_for(model)
    for at in ("hook_embed", PRE, "unembed.hook_in"):
        with intervening(model, AblateActivation(at, positions=[1])):
            first = model(tokens)
            cached_logits(model, tokens)
            assert torch.equal(model(tokens), first)
            cached_logits(model, tokens)
            assert torch.equal(model.run_with_hooks(tokens), first)


def test_gradients_go_where_the_docstrings_say() -> None:
    model = toy(attention="softmax")
    tokens = tokens_for(model)

    def reaching(intervention: Intervention) -> Tensor:
        """The gradient below the hook point, by sequence, of the loss of the first sequence alone."""
        found: list[Tensor] = []
        below = (PRE, lambda act, hook: act.register_hook(found.append) and None)
        with model.hooks(fwd_hooks=[below]), intervening(model, intervention):
            model(tokens)[0].square().sum().backward()
        model.zero_grad()
        return found[0].abs().sum(dim=(1, 2)) > 0

    assert reaching(ScaleActivation(PRE, 2.0)).tolist() == [True] + [False] * 4
    assert reaching(AblateActivation(PRE, "mean")).tolist() == [True] * 5
    assert reaching(AblateActivation(PRE, "common")).tolist() == [True] * 5
    assert reaching(AblateActivation(PRE, "resample")).tolist() == [False, True, False, False, False]
    with pytest.raises(IndexError):
        reaching(AblateActivation(PRE))  # nothing below is in the graph at all
    plain = gradients(model, tokens)["embed.W_E"]
    with intervening(model, AddDirection(PRE, torch.zeros(16))):
        assert torch.equal(gradients(model, tokens)["embed.W_E"], plain)


def test_two_compose_in_order() -> None:
    model = toy()
    tokens = tokens_for(model)
    before = activation(model, tokens, PRE)
    add, scale = AddDirection(PRE, noise(16)), ScaleActivation(PRE, 2.0)
    with intervening(model, add, scale):
        assert torch.equal(activation(model, tokens, PRE), 2.0 * (before + noise(16)))
    with intervening(model, scale), intervening(model, add):
        assert torch.equal(activation(model, tokens, PRE), 2.0 * before + noise(16))


def test_a_capture_before_the_edit_keeps_what_was() -> None:
    model, kept = toy(), []
    tokens = tokens_for(model)
    before = activation(model, tokens, PRE)
    edits = AblateActivation(PRE, positions=[0]), AddDirection(PRE, noise(16))
    with model.hooks(fwd_hooks=[(PRE, lambda act, hook: kept.append(act))]), intervening(model, *edits):
        model(tokens)
    assert torch.equal(kept[0], before)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ScaleActivation(PRE, math.nan), "factor must be finite; got nan"),
        (lambda: AddDirection(PRE, torch.tensor([1.0, math.inf])), "holds NaN or infinite"),
        (lambda: AddDirection(PRE, torch.ones(16), math.nan), "scale must be finite"),
        (
            lambda: recheck(AblateActivation(PRE), by="median"),
            "by must be one of zero, mean, common, resample; got 'median'",
        ),
    ],
)
def test_bad_values_are_refused_at_construction(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            AblateActivation("blocks.0.hook_resid_pots"),
            "no hook point 'blocks.0.hook_resid_pots'; the nearest are blocks.",
        ),
        (AblateActivation("blocks.7.*"), "no hook point 'blocks.7.*'"),
        (
            AblateActivation([PRE, "blocks.0.attn.hook_result"]),
            r"cfg.use_attn_result is off; call model.set_use_attn_result",
        ),
        (AblateActivation("blocks.0.hook_mlp_in"), r"call model.set_use_hook_mlp_in\(True\) first"),
        (
            AblateActivation("blocks.0.attn.hook_pattern"),
            "holds attention: use an edit of attention there, such as BiasAttention",
        ),
        (AblateActivation("blocks.0.attn.*_scores"), "holds attention"),
        (AblateActivation(PRE, positions=[9]), "there is no position 9: the model has 0 to 8"),
        (AblateActivation(PRE, positions=[]), "no position is given"),
        (AblateActivation(Z, heads=[1]), "there is no head 1"),
        (AblateActivation(PRE, heads=[0]), "blocks.0.hook_resid_pre has no head axis; those with one end in hook_q"),
        (
            PatchActivation(PRE, {POST: noise(8, 16)}),
            "the source has no blocks.0.hook_resid_pre; the nearest is blocks.0",
        ),
        (PatchActivation(PRE, {PRE: [[1.0]]}), "the source's blocks.0.hook_resid_pre must be a tensor; got \\[\\[1.0"),  # type: ignore[dict-item]
        (PatchActivation(PRE, torch.full((8, 16), math.nan)), "holds NaN"),
        (PatchActivation(PRE, toy(n_heads=4)), "layers, heads and vocabulary must fit"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_on_entry(edit: Intervention, message: str) -> None:
    model = toy()
    with pytest.raises(ValueError, match=message), intervening(model, edit):
        pytest.fail("entered")
    assert_untouched(model)


def test_what_does_not_fit_a_forward_is_refused_there() -> None:
    model = toy()
    tokens = tokens_for(model)
    for edit, message in (
        (PatchActivation(PRE, noise(4, 16)), r"the source is \(1, 4, 16\), the forward \(5, 8, 16\)"),
        (PatchActivation(PRE, noise(3, 8, 16)), "the source has 3 sequences, but the forward has 5"),
        (AddDirection(PRE, noise(15)), r"a direction of \(15,\) does not fit \(5, 8, 16\)"),
        (AddDirection(PRE, noise(8, 16)), "does not fit"),
    ):
        with pytest.raises(ValueError, match=message), intervening(model, edit):
            model(tokens)
    resample = AblateActivation(PRE, "resample")
    with pytest.raises(ValueError, match="at least 2 sequences"), intervening(model, resample):
        model(tokens[:1])
    with model.hooks(fwd_hooks=[(PRE, lambda act, hook: act.flip(0))]):
        swapped = model(tokens[:2])
    with intervening(model, resample):
        assert torch.equal(model(tokens[:2]), swapped)  # of two each has the other's
    assert_untouched(model)


def test_gated_hook_points_work_once_they_are_on() -> None:
    model = toy(n_heads=4)
    model.set_use_attn_result(True)
    tokens = tokens_for(model)
    with intervening(model, AblateActivation("blocks.0.attn.hook_result", heads=[2])) as (receipt,):
        result = model(tokens)
    with intervening(model, AblateActivation(Z, heads=[2])):
        torch.testing.assert_close(model(tokens), result)
    assert (receipt.fired, receipt.heads) == (1, 1)


@pytest.mark.parametrize("shape", [(), (16,)])
def test_a_tensor_that_cannot_be_an_activation_is_refused_where_it_is_given(shape):
    with pytest.raises(ValueError, match=r"a source must be \[pos, ...\] or \[batch, pos, ...\], as activations are"):
        PatchActivation("hook_embed", torch.zeros(shape))


def test_a_single_number_is_no_direction():
    with pytest.raises(ValueError, match=r"direction must be \[width\] or \[head, width\]; got a single number"):
        AddDirection("hook_embed", torch.tensor(1.0))


def test_a_tensor_is_taken_as_it_is_when_the_context_begins() -> None:
    model, given = toy(), noise(16)
    tokens = tokens_for(model)
    patch = noise(*activation(model, tokens, PRE).shape)
    for tensor, edit in (
        (given, AddDirection(PRE, given)),
        (patch, PatchActivation(PRE, patch)),
        (patch, PatchActivation(PRE, {PRE: patch})),
    ):
        with intervening(model, edit):
            expected = model(tokens)
            kept = tensor.clone()
            tensor.mul_(-2)
            assert torch.equal(model(tokens), expected)
        with intervening(model, edit):  # another context takes it as it is then
            assert not torch.allclose(model(tokens), expected)
        tensor.copy_(kept)


HIDDEN = "blocks.0.mlp.hook_post"


@pytest.mark.parametrize(
    "make",
    [
        *(lambda by=by: AblateActivation([PRE, HIDDEN], by) for by in ("zero", "mean", "common", "resample")),
        lambda: PatchActivation(PRE, noise(5, 8, 16)),
        lambda: PatchActivation(PRE, noise(8, 16)),
        lambda: PatchActivation(PRE, noise(5, 8, 16), positions=[1, 2]),
        lambda: PatchActivation(PRE, toy(seed=3)),
        lambda: PatchActivation(HIDDEN, toy(seed=3).run_with_cache(tokens_for(toy())[:1])[1]),
        lambda: AddDirection(PRE, noise(16)),
        lambda: ScaleActivation(PRE, 1.0),
        FixAttention,
        lambda: FixAttention(targets=torch.eye(8)),
        lambda: BiasAttention(targets=torch.eye(8, dtype=torch.bool)),
        lambda: MaskAttention(targets=torch.ones(8, 8, dtype=torch.bool).tril()),
        lambda: MixAttention(1.0),
        lambda: MixAttention(0.5),
        lambda: PatchAttention(toy(seed=3)),
        lambda: AblateHeads([0]),
    ],
)
def test_who_writes_into_what_a_forward_gives_out_changes_nothing_else(make: Any) -> None:
    model, intervention = toy(attention="softmax"), make()
    tokens = tokens_for(model)
    with torch.no_grad(), intervening(model, intervention):
        before = model(tokens)
        _, cache = model.run_with_cache(tokens)
        whole = {name: cache[name].clone() for name in cache}
        for name in cache:
            if name.startswith("blocks.0") and cache[name].shape[:1] == (5,):
                cache[name][0] = 7.0
                assert torch.equal(cache[name][1:], whole[name][1:]), name
        assert torch.equal(model(tokens), before)
    assert_untouched(model)
