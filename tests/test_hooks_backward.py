"""plateau_interp.hooks.backward: in which order edits of gradients act, against plain torch; and what no loss reaches."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hook_cases import TASK, assert_untouched, gradients, tokens_for, toy
from torch import Tensor

from plateau_interp.hooks import ClipGradient, CosinePenalty, During, ScaleActivation, ScaleGradient
from plateau_interp.hooks.cosine_penalty import cosine_slope
from plateau_interp.interventions.attaching import intervening
from plateau_interp.interventions.clock import advance
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
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
