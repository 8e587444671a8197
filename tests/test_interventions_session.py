import copy
import io
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from hook_cases import toy
from typecheck import unchecked

from plateau_interp.hooks import FreezeWeights, TransplantWeights
from plateau_interp.hooks.weights import trained_parameters
from plateau_interp.interventions.attaching import intervening
from plateau_interp.interventions.clock import advance, listening
from plateau_interp.interventions.session import Session, session
from plateau_interp.tasks import MovingWindowSum


def test_a_model_has_one_session_and_others_have_theirs() -> None:
    one, other = toy(), toy()
    assert session(one) is session(one)
    assert session(one) is not session(other)
    assert (session(one).step, session(one).was_told) == (0, False)
    advance(one, step=3)
    assert (session(one).step, session(one).was_told) == (3, True)
    assert not session(other).was_told


@pytest.mark.parametrize("wrong", [None, MovingWindowSum(), "model"])
def test_what_is_no_model_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="expected a model; got "):
        unchecked(session)(wrong)


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (5, r"metrics must be numbers by name, such as \{'loss': 2.5\}; got 5"),
        ("loss", r"metrics must be numbers by name, such as \{'loss': 2.5\}; got 'loss'"),
        ({"loss": "x"}, r"metrics\['loss'\] must be a number; got 'x'"),
        ({"loss": None}, r"metrics\['loss'\] must be a number; got None"),
        ({"loss": torch.zeros(2)}, r"metrics\['loss'\] must be a number; got tensor"),
    ],
)
def test_metrics_that_are_no_numbers_are_refused_and_no_step_is_told(metrics: Any, message: str) -> None:
    model = toy()
    with pytest.raises(ValueError, match=f"^{message}"):
        unchecked(advance)(model, step=3, metrics=metrics)
    assert not session(model).was_told


@pytest.mark.parametrize("loss", [2, 2.5, np.float32(2.5), torch.tensor(2.5)])
def test_numbers_of_every_kind_are_metrics(loss: Any) -> None:
    model = toy()
    unchecked(advance)(model, step=3, metrics={"loss": loss})
    assert session(model).step == 3


def test_a_slot_holds_one_object_of_a_class() -> None:
    class Shared(list[int]):
        pass

    begun = Session()
    begun.slot(Shared).append(1)
    assert begun.slot(Shared) == [1]
    assert isinstance(begun.slot(Shared), Shared)
    assert begun.slot(list) == []
    assert Session().slot(Shared) == []


def test_copies_of_a_model_begin_their_own() -> None:
    model, heard = toy(), []
    with (
        listening(model, lambda step, metrics: heard.append(step)),
        intervening(model, FreezeWeights("mlp"), TransplantWeights(toy(seed=8), "embed.*")),
    ):
        advance(model, step=4)
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        for again in (copy.deepcopy(model), torch.load(file, weights_only=False)):
            assert not session(again).was_told
            advance(again, step=9)
            # The copy's parameters are frozen by nobody who could release them.
            assert "blocks.0.mlp.W_in" not in trained_parameters(again)
        assert session(model).step == 4
    assert heard == [4]
    assert "blocks.0.mlp.W_in" in trained_parameters(model)


def test_a_session_goes_with_its_model_and_is_in_no_state_dict() -> None:
    model = toy()
    plain = set(model.state_dict())
    ghost = weakref.ref(session(model))
    assert set(model.state_dict()) == plain
    del model
    assert ghost() is None


def test_a_compiled_model_has_the_session_of_the_one_it_wraps() -> None:
    model = toy()
    assert unchecked(session)(torch.compile(model, backend="eager")) is session(model)
    other = toy()
    begun = unchecked(session)(torch.compile(other, backend="eager"))
    assert session(other) is begun
