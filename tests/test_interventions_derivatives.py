"""plateau_interp.interventions.derivatives: where edits of gradients stand aside, and that they come back."""

import threading

import pytest
from hook_cases import gradients, tokens_for, toy

from plateau_interp.hooks import CosinePenalty, FrobeniusPenalty, ScaleGradient
from plateau_interp.interventions.attaching import intervening
from plateau_interp.interventions.derivatives import are_gradients_edited, gradients_as_they_are

STOP = ScaleGradient(0.0, at="blocks.0.hook_resid_post")


def reaches_the_embedding(model):
    return bool(gradients(model, tokens_for(model))["embed.W_E"].any())


def test_within_it_a_forward_gets_its_gradients_as_they_are_and_afterwards_edited():
    model = toy()
    with intervening(model, STOP) as (receipt,):
        assert not reaches_the_embedding(model)
        with gradients_as_they_are():
            assert reaches_the_embedding(model)
            with gradients_as_they_are():
                assert reaches_the_embedding(model)
            assert reaches_the_embedding(model)
        assert not reaches_the_embedding(model)
        assert receipt.fired == 2


def test_an_error_ends_it_too():
    def fail():
        with gradients_as_they_are():
            raise RuntimeError(f"edited: {are_gradients_edited()}")

    with pytest.raises(RuntimeError, match="edited: False"):
        fail()
    assert are_gradients_edited()


def test_a_graph_that_was_made_outside_keeps_its_edits():
    """A training step in the middle of which somebody measures is the step that it was."""
    model = toy()
    with intervening(model, STOP) as (receipt,):
        training = model(tokens_for(model)).sum()
        with gradients_as_they_are():
            measured = model(tokens_for(model)).sum()
            training.backward()
        assert not model.embed.W_E.grad.any()
        measured.backward()
        assert model.embed.W_E.grad.any()
        assert receipt.fired == 1


def test_what_another_thread_trains_is_edited():
    model, found = toy(), []
    with intervening(model, STOP), gradients_as_they_are():
        thread = threading.Thread(target=lambda: found.append(reaches_the_embedding(model)))
        thread.start()
        thread.join()
    assert found == [False]


def test_a_forward_within_it_is_that_of_the_model_alone():
    """Neither a view where a gradient would be edited, nor a tie to what the output does not depend on."""
    model = toy()

    def cut_logits():
        with model.hooks(fwd_hooks=[("unembed.hook_in", lambda act, hook: act.detach())]):
            return model(tokens_for(model)).grad_fn

    with intervening(model, CosinePenalty(1.0), FrobeniusPenalty(0.1)):
        with gradients_as_they_are():
            assert cut_logits().name() != "WhereBackward0"
        assert cut_logits().name() == "WhereBackward0"
        gradients(model, tokens_for(model))
