"""plateau_interp.interventions.measuring: what interventions tell of a model at a measured step."""

import re
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import torch
from hook_cases import TASK, toy

from plateau_interp.hooks import During
from plateau_interp.interventions.attached import Attached
from plateau_interp.interventions.attaching import InterventionWarning, intervening
from plateau_interp.interventions.clock import advance
from plateau_interp.interventions.measuring import Gauge, attached_measures
from plateau_interp.training.loop import train
from plateau_interp.training.meter import Meter


@dataclass(frozen=True, eq=False)
class Thermometer:
    """A third party's: what it measures is the size of an embedding."""

    column: str = "heat"
    name = "thermometer"

    @contextmanager
    def attach(self, model):
        yield Gauge(self, ["embed.W_E"], measure=lambda: {self.column: model.W_E.norm()})


@dataclass(frozen=True, eq=False)
class Broken:
    """It measures what is no number."""

    value: object
    name = "broken"

    @contextmanager
    def attach(self, model):
        yield BrokenAttached(self)


class BrokenAttached(Attached):
    """Its live side."""

    def measures(self):
        return {"heat": self.intervention.value}


def test_what_is_attached_tells_and_nothing_else_does():
    model = toy()
    assert attached_measures(model) == {}
    with intervening(model, Thermometer(), Thermometer("other")) as (receipt, _):
        found = attached_measures(model)
        assert list(found) == ["heat", "other"]
        assert found["heat"].equal(model.W_E.norm())
        assert not found["heat"].requires_grad
        assert receipt.fired == 1
    assert attached_measures(model) == {}
    assert Attached("any").measures() == {}


def test_contexts_may_close_in_any_order():
    model = toy()
    first, second = intervening(model, Thermometer("one")), intervening(model, Thermometer("two"))
    first.__enter__()
    second.__enter__()
    attached_measures(model)
    first.__exit__(None, None, None)
    assert list(attached_measures(model)) == ["two"]
    second.__exit__(None, None, None)
    assert attached_measures(model) == {}


def test_a_name_that_is_taken_gets_a_number():
    model = toy()
    with intervening(model, *[Thermometer("loss")] * 3):
        assert list(attached_measures(model, taken=["loss"])) == ["loss#2", "loss#3", "loss#4"]
        assert list(attached_measures(model)) == ["loss", "loss#2", "loss#3"]


@pytest.mark.parametrize(("value", "came"), [(3.0, "3.0"), (torch.zeros(2), "a tensor [2]")])
def test_what_is_no_scalar_is_refused(value, came):
    model = toy()
    with intervening(model, Broken(value)):
        message = f"must measure scalars, tensors without axes; heat is {came}"
        with pytest.raises(ValueError, match=re.escape(message)):
            attached_measures(model)


def test_it_is_in_the_rows_of_a_training_while_it_is_on():
    model = toy()
    meter = Meter(TASK, every=2)
    plain = [step.metrics.keys() for step in train(toy(), TASK, steps=4, batch_size=2, meter=meter)]
    steps = train(model, TASK, steps=4, batch_size=2, meter=meter, interventions=[During(Thermometer(), start=2)])
    found = [step.metrics.keys() for step in steps]
    assert found == [plain[0], set(), {*plain[2], "heat"}, set()]


def test_who_was_never_asked_says_so():
    model = toy()
    with pytest.warns(InterventionWarning, match="measured nothing: no step was measured while it was on"):
        list(train(model, TASK, steps=1, batch_size=2, interventions=[Thermometer()]))
    with intervening(model, During(Thermometer(), start=5)):  # its time did not come
        advance(model, step=0)
        model(torch.zeros(1, 4, dtype=torch.long))
