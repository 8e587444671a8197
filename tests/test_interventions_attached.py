"""plateau_interp.interventions.attached: what an intervention is, and what it must yield."""

import re
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from hook_cases import (
    activation,
    assert_untouched,
    tokens_for,
    toy,
)
from test_interventions_attaching import Plus, unchecked_intervening

from plateau_interp import hooks
from plateau_interp.interventions.attached import Attached, attached_state
from plateau_interp.interventions.attaching import (
    attaching,
    intervening,
)
from plateau_interp.interventions.receipts import EditReceipt

RESID = "blocks.0.hook_resid_pre"


@pytest.mark.parametrize("wrong", [hooks.BiasAttention, None, "bias", torch.zeros(1)])
def test_what_is_no_intervention_is_refused(wrong: Any) -> None:
    model = toy()
    with pytest.raises(ValueError, match=r"expected interventions such as BiasAttention\(factor=10.0\)"):
        unchecked_intervening(model, wrong).__enter__()


def yielding(what: Any) -> Any:
    """An intervention that breaks the contract."""

    class Foreign:
        def attach(self, model: Any) -> Any:
            return nullcontext(what)

        def __repr__(self) -> str:
            return "Foreign()"

    return Foreign()


@pytest.mark.parametrize(
    "wrap", [lambda foreign: foreign, hooks.During, lambda foreign: hooks.MixAttention(0.5, foreign)]
)
@pytest.mark.parametrize("what", [None, 3, EditReceipt("Foreign()", (RESID,))])
def test_what_yields_no_attached_is_refused_in_one_line(wrap: Any, what: Any) -> None:
    model = toy()
    with pytest.raises(ValueError, match=r"^Foreign\(\).attach\(model\) must yield an Attached; it yields [^\n]*$"):
        unchecked_intervening(model, Plus(1.0), wrap(yielding(what))).__enter__()
    assert_untouched(model)


def test_an_attach_that_is_no_context_manager_is_refused() -> None:
    class Forgotten:
        def attach(self, model: Any) -> Any:
            yield Attached(self)

    message = r"Forgotten.*attach\(model\) must be a context manager \(is @contextmanager missing\?\)"
    with pytest.raises(ValueError, match=message):
        intervening(toy(), Forgotten()).__enter__()


def test_a_dialled_edit_is_interpolated() -> None:
    model = toy()
    tokens = tokens_for(model)
    before = activation(model, tokens, RESID)
    with attaching(model, Plus(4.0)) as (attached,):
        for strength in (0.0, 0.25, 1.0):
            attached.dial(strength)
            torch.testing.assert_close(activation(model, tokens, RESID), before + 4.0 * strength)
    assert attached.receipt.fired == 2


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ({"n": 3.0}, "'n' is 3.0"),
        ({"n": None}, "'n' is None"),
        ({5: torch.ones(1)}, "5 is tensor"),
        (None, "got None"),
        ([torch.ones(1)], "got [tensor"),
    ],
)
def test_a_state_of_anything_but_named_tensors_is_refused(state: Any, told: str) -> None:
    attached = Attached("a plug-in")
    attached.state = lambda: state  # type: ignore[method-assign]
    message = f"the state of 'a plug-in' must be named tensors; {told}"
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        attached_state([attached])
    assert "\n" not in str(raised.value)
