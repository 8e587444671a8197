import math
from typing import Any

import pytest
import torch
from hook_cases import KINDS, TASK, assert_untouched, gpt_neox, gradients, kind_name, tokens_for, toy
from torch import Tensor

from plateau_interp.hooks import (
    AmplifySlowGradient,
    ClipGradient,
    During,
    FreezeWeights,
    OrthogonalGradient,
    ScaleGradient,
)
from plateau_interp.hooks.gradients import orthogonal_part
from plateau_interp.interventions.attached import Intervention, attached_state, load_attached_state
from plateau_interp.interventions.attaching import InterventionWarning, attaching, intervening
from plateau_interp.interventions.clock import advance
from plateau_interp.training.batches import training_batch
from plateau_interp.training.loop import train
from plateau_interp.training.optimizers import SGD

every_kind = pytest.mark.parametrize("kind", KINDS, ids=kind_name)

RESID = "blocks.0.hook_resid_post"


def gradient_at(model: Any, tokens: Tensor, name: str) -> Tensor:
    """The gradient that arrives below a hook point, that is, after an edit there."""
    found: list[Tensor] = []

    def keep(act: Tensor, hook: Any) -> Tensor:
        act = act.view_as(act)
        act.register_hook(found.append)
        return act

    point = model.hook_dict[name]
    point.add_hook(keep, prepend=True)
    gradients(model, tokens)
    point.fwd_hooks.pop(0).hook.remove()
    return found[0]


@every_kind
def test_scale_multiplies_the_chosen_gradients_and_no_other(kind: dict[str, Any]) -> None:
    model = toy(**kind)
    tokens = tokens_for(model)
    logits, plain = model(tokens), gradients(model, tokens)
    with intervening(model, ScaleGradient(-0.5, where="*.W_in")) as (receipt,):
        assert torch.equal(model(tokens), logits), "a gradient edit does not touch the forward"
        scaled = gradients(model, tokens)
    for name, gradient in plain.items():
        assert torch.equal(scaled[name], -0.5 * gradient if name.endswith("W_in") else gradient), name
    assert receipt.fired == kind["n_layers"]
    squares = sum(float((1.5 * plain[name]).square().sum()) for name in receipt.sites)
    assert receipt.change == pytest.approx(math.sqrt(squares / receipt.entries), rel=1e-5)
    assert_untouched(model)
    again = gradients(model, tokens)
    assert all(torch.equal(again[name], plain[name]) for name in plain)


@every_kind
def test_clip_shortens_what_is_too_long(kind: dict[str, Any]) -> None:
    model = toy(**kind)
    tokens = tokens_for(model)
    plain = gradients(model, tokens)
    middle = sorted(gradient.norm().item() for gradient in plain.values())[len(plain) // 2]
    with intervening(model, ClipGradient(middle)):
        clipped = gradients(model, tokens)
    for name, gradient in plain.items():
        norm = gradient.norm().item()
        torch.testing.assert_close(clipped[name], gradient * min(1.0, middle / norm) if norm else gradient)
    assert_untouched(model)


@pytest.mark.parametrize(
    "identity", [ScaleGradient(1.0), ClipGradient(1e9), AmplifySlowGradient(gain=0.0), ScaleGradient(1.0, at=RESID)]
)
def test_an_edit_of_nothing_changes_no_bit(identity: Intervention) -> None:
    losses = []
    for interventions in ((), (identity,)):
        model = toy()
        records = train(model, TASK, steps=20, batch_size=4, optimizer=SGD(0.1), interventions=interventions)
        losses.append([record.loss for record in records])
    assert losses[0] == losses[1]


def test_clipping_a_zero_gradient_leaves_zero() -> None:
    model = toy()
    tokens = tokens_for(model)
    with intervening(model, ScaleGradient(0.0), ClipGradient(1.0)):
        assert all(not gradient.any() for gradient in gradients(model, tokens).values())


def test_order_given_is_order_applied() -> None:
    model = toy()
    tokens = tokens_for(model)
    plain = gradients(model, tokens)["unembed.W_U"]
    norm = plain.norm()
    scale, clip = ScaleGradient(4.0, where="unembed.W_U"), ClipGradient(norm.item(), where="unembed.W_U")
    with intervening(model, scale, clip):
        torch.testing.assert_close(gradients(model, tokens)["unembed.W_U"], plain)
    with intervening(model, clip, scale):
        torch.testing.assert_close(gradients(model, tokens)["unembed.W_U"], 4.0 * plain)


@pytest.mark.parametrize("model", [toy(), gpt_neox()], ids=["toy", "rotary"])
def test_gradients_of_activations(model: Any) -> None:
    tokens = tokens_for(model)
    logits, plain = model(tokens), gradient_at(model, tokens, RESID)
    with intervening(model, ScaleGradient(3.0, at=RESID)) as (receipt,):
        assert torch.equal(model(tokens), logits)
        torch.testing.assert_close(gradient_at(model, tokens, RESID), 3.0 * plain, rtol=0, atol=0)
        with torch.no_grad():
            model(tokens)
    assert receipt.fired == 1
    assert receipt.change == pytest.approx(2.0 * plain.square().mean().sqrt().item(), rel=1e-5)
    with intervening(model, ClipGradient(plain.norm().item() / 2, at="blocks.0.hook_resid_po*")):
        torch.testing.assert_close(gradient_at(model, tokens, RESID), plain / 2)
    assert_untouched(model)
    with intervening(model, ScaleGradient(0.0, at="blocks.0.hook_resid_pre")):
        stopped = gradients(model, tokens)
    assert not stopped["embed.W_E"].any()
    assert stopped["blocks.0.attn.W_V"].any()


def test_an_activation_s_gradient_belongs_to_its_forward() -> None:
    model = toy()
    tokens = tokens_for(model)
    plain = gradients(model, tokens)["embed.W_E"]
    with intervening(model, ScaleGradient(2.0, at="hook_embed")) as (receipt,):
        loss = torch.nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())
        (inside,) = torch.autograd.grad(loss, model.embed.W_E, retain_graph=True)
    (outside,) = torch.autograd.grad(loss, model.embed.W_E)
    assert torch.equal(inside, 2.0 * plain)
    assert torch.equal(outside, inside)
    assert receipt.fired == 2


def test_slow_gradients_are_amplified_as_in_grokfast() -> None:
    """The authors' gradfilter_ema, written out: m <- a m + (1 - a) g, first m = g; the optimiser gets g + l m."""
    decay, gain, name = 0.9, 3.0, "blocks.0.mlp.W_in"
    by_hand, model, slow = toy(), toy(), {}
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.1)
    for step in range(5):
        batch = TASK.sample(4, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        TASK.loss(by_hand(batch.inputs), batch).backward()
        gradient = by_hand.blocks[0].mlp.W_in.grad
        slow = decay * slow + (1 - decay) * gradient if step else gradient.clone()
        by_hand.blocks[0].mlp.W_in.grad = gradient + gain * slow
        optimizer.step()
    live = torch.optim.SGD(model.parameters(), lr=0.1)
    with attaching(model, AmplifySlowGradient(decay=decay, gain=gain, where=name)) as (attached,):
        for step in range(5):
            batch = TASK.sample(4, generator=torch.Generator().manual_seed(step))
            live.zero_grad()
            TASK.loss(model(batch.inputs), batch).backward()
            live.step()
    torch.testing.assert_close(attached.averages[name], slow)
    torch.testing.assert_close(dict(model.named_parameters()), dict(by_hand.named_parameters()), rtol=1e-5, atol=1e-6)
    assert attached.receipt.fired == 5
    assert_untouched(model)


def test_the_slow_average_stands_still_while_off_and_the_ramp_multiplies_the_gain() -> None:
    model = toy()
    tokens = tokens_for(model)
    plain = gradients(model, tokens)["unembed.W_U"]
    amplify = AmplifySlowGradient(decay=0.5, gain=2.0, where="unembed.W_U")
    with attaching(model, During(amplify, start=1, stop=3, ramp=2)) as (schedule,):
        for step, expected in enumerate((plain, 2 * plain, 3 * plain, plain)):
            advance(model, step=step, metrics={})
            torch.testing.assert_close(gradients(model, tokens)["unembed.W_U"], expected)
            assert set(schedule.inner.averages) == ({"unembed.W_U"} if step else set())
    assert schedule.receipt.fired == 2


def test_a_frozen_parameter_has_no_gradient_to_edit_until_it_is_released() -> None:
    for amplified_first in (True, False):
        model = toy()
        freeze = During(FreezeWeights("unembed.W_U"), stop=2)
        pair = (ScaleGradient(0.0, where="unembed.W_U"), freeze)
        with intervening(model, *(pair if amplified_first else pair[::-1])) as receipts:
            receipt = receipts[0 if amplified_first else 1]
            fired = []
            for step in range(4):
                advance(model, step=step, metrics={})
                found = gradients(model, tokens_for(model))
                assert ("unembed.W_U" in found) == (step >= 2)
                fired.append(receipt.fired)
            assert not found["unembed.W_U"].any()
        assert fired == [0, 0, 1, 2]
        assert_untouched(model)


@pytest.mark.parametrize("edit", [AmplifySlowGradient(), ScaleGradient(0.5), ClipGradient(1e-3)])
def test_what_a_freeze_holds_on_entry_is_edited_after_its_release(edit: Intervention) -> None:
    found = []
    for order in (slice(None), slice(None, None, -1)):
        model = toy()
        plan = (During(FreezeWeights("mlp"), stop=2), edit)[order]
        with intervening(model, *plan) as receipts:
            for step in range(4):
                advance(model, step=step, metrics={})
                last = gradients(model, tokens_for(model, seed=step))
            found.append((receipts[order][1].sites, last))
    assert found[0][0] == found[1][0] == tuple(name for name, p in toy().named_parameters() if p.requires_grad)
    assert found[0][1].keys() == found[1][1].keys()
    assert all(torch.equal(gradient, found[1][1][name]) for name, gradient in found[0][1].items())


def test_slow_averages_come_back_to_where_the_parameters_are() -> None:
    model = toy()
    with attaching(model, AmplifySlowGradient()) as attached:
        gradients(model, tokens_for(model))
        memory = attached_state(attached)
    elsewhere = toy().to("meta")
    with pytest.warns(InterventionWarning, match="never fired"), attaching(elsewhere, AmplifySlowGradient()) as again:
        load_attached_state(again, memory)
    assert again[0].averages.keys() == {name.removeprefix("0.") for name in memory}
    assert {average.device.type for average in again[0].averages.values()} == {"meta"}
    with attaching(model, AmplifySlowGradient(where="mlp")) as again:
        gradients(model, tokens_for(model))
        with pytest.raises(ValueError, match=r"does not fit: 'blocks\.0\.attn"):
            load_attached_state(again, memory)


def test_the_change_in_half_precision_goes_on_growing() -> None:
    model = toy(dtype=torch.bfloat16)
    gradient = torch.ones(4, dtype=torch.bfloat16)
    with attaching(model, ScaleGradient(2.0, where="embed.W_E")) as (attached,):
        edit = attached.wrap(lambda gradient, name: 2.0 * gradient)
        for _ in range(1000):
            edit(gradient, "embed.W_E")
    assert attached.receipt.change == pytest.approx(1.0)


def test_the_change_of_one_entry_is_its_size() -> None:
    with attaching(toy(), ScaleGradient(2.0, where="embed.W_E")) as (attached,):
        assert attached.receipt.change == 0
        attached.wrap(lambda gradient, name: 3.0 * gradient)(torch.tensor([1.5]), "embed.W_E")
    assert attached.receipt.change == 3.0


def test_an_exception_leaves_nothing() -> None:
    model = toy()
    try:
        with intervening(model, ScaleGradient(2.0), AmplifySlowGradient(), ScaleGradient(2.0, at=RESID)):
            gradients(model, tokens_for(model))
            raise KeyError
    except KeyError:
        pass
    assert_untouched(model)


def test_no_backward_pass_is_reported() -> None:
    model = toy()
    with pytest.warns(InterventionWarning, match="ScaleGradient.* never fired"), intervening(model, ScaleGradient(2.0)):
        model(tokens_for(model))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ScaleGradient(math.nan), "factor must be finite; got nan"),
        (lambda: ClipGradient(0.0), "max_norm must be a positive number; got 0.0"),
        (lambda: ClipGradient(math.nan), "max_norm must be a positive number; got nan"),
        (lambda: AmplifySlowGradient(decay=1.0), "decay must be from 0 to below 1; got 1.0"),
        (lambda: AmplifySlowGradient(gain=math.inf), "gain must be finite; got inf"),
        (lambda: ScaleGradient(1.0, where="mlp", at=RESID), r"where \(parameters\) or at \(hook points\), not both"),
    ],
)
def test_bad_values_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (ScaleGradient(1.0, where="mpl"), "'mpl' means no parameter of the model; the nearest is mlp"),
        (ScaleGradient(1.0, at="blocks.0.hook_resid_pos"), "no hook point 'blocks.0.hook_resid_pos'; the nearest are "),
        (ScaleGradient(1.0, at="blocks.0.attn.hook_result"), "does not fire while cfg.use_attn_result is off"),
        (AmplifySlowGradient(where="nothing"), "'nothing' means no parameter"),
    ],
)
def test_what_does_not_exist_is_refused_on_entry(edit: Intervention, message: str) -> None:
    model = toy()
    with pytest.raises(ValueError, match=message), intervening(model, edit):
        pass
    assert_untouched(model)


def orthogonal_by_hand(weight: Tensor, gradient: Tensor) -> Tensor:
    """Entry by entry, in Python's own numbers."""
    w, g = weight.flatten().tolist(), gradient.flatten().tolist()
    along = sum(a * b for a, b in zip(w, g, strict=True)) / (sum(a * a for a in w) + 1e-30)
    rest = [b - along * a for a, b in zip(w, g, strict=True)]
    length, left = math.sqrt(sum(b * b for b in g)), math.sqrt(sum(b * b for b in rest))
    return torch.tensor([b * length / (left + 1e-30) for b in rest], dtype=gradient.dtype).reshape(gradient.shape)


@pytest.mark.parametrize("attention", ["linear", "softmax"])
def test_a_step_along_the_orthogonal_gradient_is_that_written_by_hand(attention: str) -> None:
    by_hand, model = (toy(attention=attention, dtype=torch.float64) for _ in range(2))
    batch = training_batch(TASK, seed=0, step=0, batch_size=4)
    TASK.loss(by_hand(batch.inputs), batch).backward()
    (record,) = train(model, TASK, steps=1, batch_size=4, optimizer=SGD(0.1), interventions=[OrthogonalGradient()])
    assert math.isfinite(record.loss)
    moved = 0
    for name, parameter in model.named_parameters():
        before = dict(by_hand.named_parameters())[name]
        if before.grad is None:
            continue
        expected = before.detach() - 0.1 * orthogonal_by_hand(before.detach(), before.grad)
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-7, atol=1e-10)
        moved += not torch.allclose(expected, before - 0.1 * before.grad, rtol=1e-7, atol=1e-10)
    assert moved > 5
    assert_untouched(model)


def test_the_orthogonal_gradient_is_as_long_and_leaves_what_is_at_0_alone() -> None:
    model = toy()
    with torch.no_grad():
        model.blocks[0].mlp.b_in.zero_()
    tokens = tokens_for(model)
    plain = gradients(model, tokens)
    with intervening(model, OrthogonalGradient(where="mlp")) as (receipt,):
        turned = gradients(model, tokens)
    for name, gradient in plain.items():
        if name not in receipt.sites or name == "blocks.0.mlp.b_in":
            torch.testing.assert_close(turned[name], gradient)
        elif gradient.any():
            weight = dict(model.named_parameters())[name].detach()
            torch.testing.assert_close(turned[name].norm(), gradient.norm())
            assert abs((turned[name] * weight).sum()) < 1e-4 * gradient.norm() * weight.norm(), name
    with attaching(model, OrthogonalGradient()) as (attached,):
        attached.dial(0.5)
        half = gradients(model, tokens)
    with intervening(model, OrthogonalGradient()):
        whole = gradients(model, tokens)
    for name, gradient in plain.items():
        torch.testing.assert_close(half[name], (gradient + whole[name]) / 2)


def test_the_orthogonal_part_of_small_halves_is_a_number_as_in_float32():
    """Squares of what is below 0.0002 are 0 in float16, and so is what keeps the denominators from being 0."""
    gradient, weight = torch.tensor([3e-5, 4e-5]), torch.tensor([1e-5, 0.0])
    half = orthogonal_part(gradient.half(), weight.half())
    assert half.dtype == torch.float16
    expected = orthogonal_part(gradient.half().float(), weight.half().float())
    torch.testing.assert_close(half.float(), expected, rtol=1e-2, atol=1e-7)
