"""plateau_interp.hooks.cosine_penalty: against the gradient of the mean cosine, in training and alone."""

import pytest
import torch
from every_hook import llama
from hook_cases import TASK, assert_untouched, gradients, tokens_for, toy

from plateau_interp import metrics
from plateau_interp.hooks import CosinePenalty, During
from plateau_interp.hooks.cosine_penalty import cosine_slope
from plateau_interp.interventions.attaching import intervening
from plateau_interp.interventions.clock import advance
from plateau_interp.models import toy_model
from plateau_interp.tasks import ModularArithmetic, OneHotArithmetic, Repeat
from plateau_interp.training.loop import train
from plateau_interp.training.meter import Meter
from plateau_interp.training.optimizers import SGD


def states_of(model, inputs, point):
    """The states at a hook point, in the graph."""
    found = []
    with model.hooks(fwd_hooks=[(point, lambda act, hook: found.append(act))]):
        output = model(inputs)
    return output, found[0]


@pytest.mark.parametrize("point", ["unembed.hook_in", "blocks.0.hook_resid_post"])
def test_a_penalty_on_the_cosine_adds_its_gradient(point):
    """That of loss + 0.7 C, with the pairs that the meter takes."""
    model = toy(n_layers=2, dtype=torch.float64)
    batch = TASK.sample(4, generator=torch.Generator().manual_seed(2))
    output, states = states_of(model, batch.inputs, point)
    rows = slice(TASK.answer.start - 1, TASK.answer.stop - 1)
    cosine = metrics.mean_pairwise_cosine(states[:, rows], TASK.cosine_pairs()).mean()
    (TASK.loss(output, batch) + 0.7 * cosine).backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    with intervening(model, CosinePenalty(0.7, at=point)) as (receipt,):
        loss = TASK.loss(model(batch.inputs), batch)
        loss.backward()
    assert torch.equal(loss, TASK.loss(output, batch))  # the loss that is told is the task's
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12)
    assert receipt.fired == 1
    assert receipt.sites == (point,)
    model.zero_grad()
    assert_untouched(model)


def test_a_coefficient_of_0_changes_no_bit_and_half_of_it_is_half_the_term():
    model = toy(dtype=torch.float64)
    tokens = tokens_for(model)
    plain = gradients(model, tokens)
    with intervening(model, CosinePenalty(0.0)):
        assert all(torch.equal(gradient, plain[name]) for name, gradient in gradients(model, tokens).items())
    with intervening(model, CosinePenalty(1.0)):
        whole = gradients(model, tokens)
    with intervening(model, During(CosinePenalty(1.0), ramp=2)):
        advance(model, step=0)
        half = gradients(model, tokens)
    for name, gradient in half.items():
        torch.testing.assert_close(gradient, (plain[name] + whole[name]) / 2)


def test_a_model_without_a_task_has_all_its_positions_pushed_apart():
    model = llama()
    tokens = torch.arange(8)[None] % model.cfg.d_vocab
    output, states = states_of(model, tokens, "unembed.hook_in")
    (output.square().mean() + 0.4 * metrics.mean_pairwise_cosine(states).mean()).backward()
    expected = model.W_E.grad if model.W_E.grad is not None else model.embed.W_E.grad
    expected = expected.clone()
    model.zero_grad()
    with intervening(model, CosinePenalty(0.4)):
        model(tokens).square().mean().backward()
    torch.testing.assert_close(model.embed.W_E.grad, expected)


def test_states_turn_away_from_each_other():
    states = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 2
    before = metrics.mean_pairwise_cosine(states).mean()
    after = metrics.mean_pairwise_cosine(states - 0.1 * cosine_slope(states, slice(None), None)).mean()
    assert after < before
    # What is not among the rows, or in no pair, is left alone; only directions count.
    pairs = torch.zeros(2, 2, dtype=torch.bool)
    pairs[1, 0] = True
    found = cosine_slope(states, slice(1, 3), pairs)
    assert found[:, 1:3].any(dim=-1).all()
    assert not found[:, [0, 3, 4]].any()
    assert (found * states).sum(dim=-1).abs().max() < 1e-12
    assert cosine_slope(states.bfloat16(), slice(None), None).dtype == torch.bfloat16


def test_training_under_it_collapses_less():
    cosines = {}
    for coefficient in (0.0, 3.0):
        model = toy()
        meter = Meter(TASK, every=29)
        steps = train(
            model,
            TASK,
            steps=30,
            batch_size=16,
            optimizer=SGD(0.3),
            meter=meter,
            interventions=[CosinePenalty(coefficient)],
        )
        cosines[coefficient] = [step.metrics["cosine"] for step in steps if step.metrics][-1]
    assert cosines[3.0] < cosines[0.0] - 0.2


def test_what_a_penalty_on_the_cosine_cannot_be_is_told():
    with pytest.raises(ValueError, match="coefficient must be"):
        CosinePenalty(-1.0)
    with pytest.raises(ValueError, match="hook_resid_pots"):
        CosinePenalty(1.0, at="blocks.0.hook_resid_pots").sites(toy())
    model = toy(attention="softmax")
    with (
        pytest.raises(ValueError, match=r"at: blocks.0.attn.hook_pattern holds \(.*\); expected \[batch, pos, width\]"),
        intervening(model, CosinePenalty(1.0, at="blocks.0.attn.hook_pattern")),
    ):
        model(tokens_for(model))
    assert_untouched(model)


@pytest.mark.parametrize(
    "task", [ModularArithmetic(p=7), OneHotArithmetic(p=5), Repeat(n=4, k=4)], ids=lambda task: task.name
)
def test_an_answer_of_one_row_has_no_two_states_to_push_apart(task):
    """Its mean cosine is that of no pair, NaN, which the gradient carried into every weight; so with a row a block."""
    model = toy_model(task, d_mlp=8)
    with pytest.raises(ValueError, match=f"an answer of {task.name} has no two to compare"):
        next(train(model, task, steps=1, batch_size=4, interventions=(CosinePenalty(0.0),)))
