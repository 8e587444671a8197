"""plateau_interp.hooks.backward: in what order edits of gradients act, against plain torch; what no loss reaches."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hook_cases import TASK, assert_untouched, gradients, tokens_for, toy
from torch import Tensor

from plateau_interp import metrics
from plateau_interp.hooks import (
    AblateActivation,
    CapacityRegulariser,
    ClipGradient,
    CosinePenalty,
    During,
    FrobeniusPenalty,
    PatchActivation,
    ScaleActivation,
    ScaleGradient,
)
from plateau_interp.hooks.backward import unreached
from plateau_interp.hooks.cosine_penalty import cosine_slope
from plateau_interp.interventions.attaching import intervening
from plateau_interp.interventions.clock import advance
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.training.batches import training_batch
from plateau_interp.training.loop import train
from plateau_interp.training.optimizers import SGD
from plateau_interp.training.settings import TrainingOptions
from plateau_interp.types import answer_rows

POINT = "blocks.0.hook_resid_post"
MOST = 1e-3

SCALE, CLIP = ScaleGradient(10.0, at=POINT), ClipGradient(MOST, at=POINT)

Formula = Callable[[Tensor, Tensor], Tensor]
"""``formula(gradient, states)``."""


def scaled(gradient: Tensor, states: Tensor) -> Tensor:
    return 10.0 * gradient


def stopped(gradient: Tensor, states: Tensor) -> Tensor:
    return 0.0 * gradient


def clipped(gradient: Tensor, states: Tensor) -> Tensor:
    return gradient * (MOST / gradient.norm()).clamp(max=1.0)


def pushed(gradient: Tensor, states: Tensor) -> Tensor:
    return gradient + cosine_slope(states, answer_rows(TASK), TASK.cosine_pairs())


def by_hand(tokens: Tensor, point: str, *formulas: Formula) -> dict[str, Tensor]:
    """Gradients where the one hook on the states applies the formulas in the order given."""
    model = toy()

    def watch(act: Tensor, hook: Any) -> Tensor:
        states, seen = act.detach(), act.view_as(act)

        def edit(gradient: Tensor) -> Tensor:
            for formula in formulas:
                gradient = formula(gradient, states)
            return gradient

        seen.register_hook(edit)
        return seen

    with model.hooks(fwd_hooks=[(point, watch)]):
        return gradients(model, tokens)


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], gradient) for name, gradient in expected.items())


@pytest.mark.parametrize(
    ("edits", "formulas"),
    [
        ((SCALE,), (scaled,)),
        ((CosinePenalty(1.0, at=POINT),), (pushed,)),
        ((SCALE, CLIP), (scaled, clipped)),
        ((CLIP, SCALE), (clipped, scaled)),
        ((ScaleGradient(0.0, at=POINT), CosinePenalty(1.0, at=POINT)), (stopped, pushed)),
        ((CosinePenalty(1.0, at=POINT), ScaleGradient(0.0, at=POINT)), (pushed, stopped)),
        ((SCALE, CosinePenalty(1.0, at=POINT), CLIP), (scaled, pushed, clipped)),
    ],
    ids=lambda value: "-".join(getattr(one, "name", "") or one.__name__ for one in value),
)
def test_edits_of_the_gradient_at_one_hook_point_act_in_the_order_given(edits: Any, formulas: Any) -> None:
    tokens = tokens_for(toy())
    model = toy()
    with intervening(model, *edits):
        found = gradients(model, tokens)
    assert_same(found, by_hand(tokens, POINT, *formulas))
    assert_untouched(model)


def test_those_of_an_outer_context_act_before_those_of_an_inner_one() -> None:
    tokens = tokens_for(toy())
    for outer, inner, formulas in ((SCALE, CLIP, (scaled, clipped)), (CLIP, SCALE, (clipped, scaled))):
        model = toy()
        with intervening(model, outer), intervening(model, inner):
            assert_same(gradients(model, tokens), by_hand(tokens, POINT, *formulas))


def test_a_run_that_is_resumed_has_the_same_order(tmp_path: Any) -> None:
    """Clipping last holds the whole step down; scaling last would not."""
    recipe = Recipe(TASK, training=TrainingOptions(steps=4, batch_size=4), interventions=(SCALE, CLIP))
    whole, parts = (Run.create(tmp_path / name, recipe) for name in ("whole", "parts"))
    losses = [step.loss for step in whole.train()]
    for _, _ in zip(range(2), steps := parts.train(), strict=False):
        pass
    steps.close()
    again = {step.step: step.loss for step in Run(tmp_path / "parts").train()}
    assert again
    assert all(losses[step] == loss for step, loss in again.items())


def test_an_edit_of_the_activation_between_two_parts_them() -> None:
    """Each has the gradient with regard to the value at its place: it comes to what stands behind the edit first."""
    tokens = tokens_for(toy())
    model = toy()
    with intervening(model, SCALE, ScaleActivation(POINT, 0.5), CLIP):
        found = gradients(model, tokens)
    model = toy()
    with intervening(model, CLIP, ScaleActivation(POINT, 0.5), SCALE):
        other_way_round = gradients(model, tokens)

    for first, last, edited in ((scaled, clipped, found), (clipped, scaled, other_way_round)):
        model = toy()
        with model.hooks(fwd_hooks=[(POINT, halved(first, last))]):
            assert_same(gradients(model, tokens), edited)


def halved(first: Formula, last: Formula) -> Callable[..., Tensor]:
    """A hook that halves states, with the gradient edited before and behind that."""

    def halve(act: Tensor, hook: Any) -> Tensor:
        seen = act.view_as(act)
        seen.register_hook(lambda gradient: first(gradient, act))
        half = 0.5 * seen
        half.register_hook(lambda gradient: last(gradient, act))
        return half

    return halve


def test_across_hook_points_the_model_s_own_order_holds() -> None:
    """The next block begins with the very tensor that the last one ends with; its gradient is there first."""
    model = toy(n_layers=2)
    tokens = tokens_for(model)
    scale, clip = ScaleGradient(10.0, at="blocks.0.hook_resid_post"), ClipGradient(MOST, at="blocks.1.hook_resid_pre")
    found = []
    for edits in ((scale, clip), (clip, scale)):
        with intervening(model, *edits) as receipts:
            found.append(gradients(model, tokens))
        amplified = receipts[edits.index(scale)]
        # It comes after the clipping.
        assert amplified.change * amplified.entries**0.5 == pytest.approx(9.0 * MOST, rel=1e-5)
    assert_same(*found)


def test_a_schedule_between_two_leaves_their_order() -> None:
    tokens = tokens_for(toy())
    model = toy()
    with intervening(model, SCALE, During(ScaleGradient(0.0, at=POINT), start=1), CLIP):
        advance(model, step=0)
        assert_same(gradients(model, tokens), by_hand(tokens, POINT, scaled, clipped))
        advance(model, step=1)
        assert_same(gradients(model, tokens), by_hand(tokens, POINT, scaled, stopped, clipped))


MLP_OUT = "blocks.0.hook_mlp_out"
W_IN = "blocks.0.mlp.W_in"


@pytest.mark.parametrize(
    "cut",
    [
        AblateActivation(MLP_OUT),
        ScaleActivation(MLP_OUT, 0.0),
        AblateActivation(MLP_OUT, positions=range(-8, 0)),
        PatchActivation(MLP_OUT, torch.zeros(8, 16, dtype=torch.float64)),
    ],
    ids=["zero", "times 0", "zero at each position", "zeros of another"],
)
def test_however_a_graph_is_cut_above_it_a_penalty_on_weights_goes_on(cut: Any) -> None:
    """Eight steps of SGD, in the last five of which no loss reaches the MLP, against the term in the loss."""
    ours, by_hand = toy(dtype=torch.float64), toy(dtype=torch.float64)
    options: dict[str, Any] = {"steps": 8, "batch_size": 4, "grad_clip": float("inf")}
    plan = [FrobeniusPenalty(0.5), During(cut, start=3)]
    told = [step.loss for step in train(ours, TASK, optimizer=SGD(0.1), interventions=plan, **options)]
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.1)
    for step in range(8):
        batch = training_batch(TASK, seed=0, step=step, batch_size=4, device="cpu")
        hooks = [(MLP_OUT, lambda act, hook: torch.zeros_like(act))] if step >= 3 else []
        with by_hand.hooks(fwd_hooks=hooks):
            loss = TASK.loss(by_hand(batch.inputs), batch)
        assert told[step] == pytest.approx(loss.item(), rel=1e-9)
        optimizer.zero_grad()
        (loss + 0.25 * by_hand.blocks[0].mlp.W_in.square().sum()).backward()
        optimizer.step()
    torch.testing.assert_close(ours.blocks[0].mlp.W_in, by_hand.blocks[0].mlp.W_in, rtol=1e-12, atol=1e-14)


def test_what_is_given_to_a_weight_that_no_loss_reaches_passes_the_edits_behind_it() -> None:
    model = toy()
    tokens = tokens_for(model)
    weight = model.blocks[0].mlp.W_in
    for plan, expected in (
        ((FrobeniusPenalty(0.5), ScaleGradient(3.0, where=W_IN)), 1.5 * weight),
        ((ScaleGradient(3.0, where=W_IN), FrobeniusPenalty(0.5)), 0.5 * weight),
    ):
        with intervening(model, AblateActivation(MLP_OUT), *plan):
            found = gradients(model, tokens)
        torch.testing.assert_close(found[W_IN], expected)
        assert "blocks.0.mlp.W_out" not in found, "what nothing is added to stays without a gradient"
    assert_untouched(model)


def test_a_penalty_that_is_off_gives_no_gradient_where_there_is_none() -> None:
    model = toy()
    tokens = tokens_for(model)
    with intervening(model, AblateActivation(MLP_OUT), During(FrobeniusPenalty(0.5), start=2)):
        advance(model, step=0)
        assert W_IN not in gradients(model, tokens)
        advance(model, step=2)
        assert W_IN in gradients(model, tokens)


def test_queries_and_keys_of_heads_that_give_nothing_are_pulled_at() -> None:
    model = toy(dtype=torch.float64, n_heads=2)
    tokens = tokens_for(model)
    expected = {}
    with intervening(model, CapacityRegulariser(0.3)):
        (0.0 * model(tokens).sum()).backward()
    for side in "QK":
        expected[side] = model.get_parameter(f"blocks.0.attn.W_{side}").grad.clone()
    with intervening(model, CapacityRegulariser(0.3), AblateActivation("blocks.0.hook_attn_out")):
        found = gradients(model, tokens)
    for side, slope in expected.items():
        torch.testing.assert_close(found[f"blocks.0.attn.W_{side}"], slope)


@pytest.mark.parametrize("cut", ["blocks.1.hook_resid_pre", "unembed.hook_in", "unembed.hook_out"])
def test_states_that_no_loss_reaches_are_pushed_apart(cut: str) -> None:
    """Their term is of what they are, not of what is made of them."""
    model = toy(n_layers=2, dtype=torch.float64)
    batch = TASK.sample(4, generator=torch.Generator().manual_seed(2))
    found: list[Tensor] = []
    with model.hooks(fwd_hooks=[(POINT, lambda act, hook: found.append(act))]):
        model(batch.inputs)
    (0.7 * metrics.mean_pairwise_cosine(found[0][:, answer_rows(TASK)], TASK.cosine_pairs()).mean()).backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    with intervening(model, CosinePenalty(0.7, at=POINT), AblateActivation(cut)) as (receipt, _):
        logits = model(batch.inputs)
        TASK.loss(logits, batch).backward()
    with intervening(model, AblateActivation(cut)):
        assert torch.equal(logits, model(batch.inputs))
    assert receipt.fired == 1
    for name, gradient in expected.items():
        torch.testing.assert_close(model.get_parameter(name).grad, gradient, rtol=1e-9, atol=1e-12)


def test_where_the_loss_reaches_all_the_output_is_the_very_tensor() -> None:
    """So nothing of a training changes in which nothing is cut off, not the sign of a zero."""
    model = toy()
    with intervening(model, FrobeniusPenalty(0.1), CosinePenalty(0.1), CapacityRegulariser(0.1)):
        logits = model(tokens_for(model))
        assert logits.grad_fn.name() == toy()(tokens_for(model)).grad_fn.name() != "WhereBackward0"
        logits.sum().backward()
        with torch.no_grad():
            model(tokens_for(model))


def test_a_copy_s_training_gives_the_model_nothing() -> None:
    model = toy()
    with intervening(model, FrobeniusPenalty(0.1)):
        model(tokens_for(model)).sum().backward()
        model.zero_grad()
        again = copy.deepcopy(model)
        again(tokens_for(model)).sum().backward()
        assert all(parameter.grad is None for parameter in model.parameters())


def test_what_an_output_does_not_depend_on() -> None:
    first, second, fixed = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True), torch.ones(2)
    middle = first * 2
    assert unreached(middle.sum(), [first, middle, second, fixed]) == [second]
    assert unreached(middle.detach(), [first]) == [first]
