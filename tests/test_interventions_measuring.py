"""plateau_interp.interventions.measuring: what interventions tell of a model at a measured step."""

import json
import re
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest
import torch
from hook_cases import TASK, toy
from trained_runs import SHORT

from plateau_interp.hooks import During
from plateau_interp.interventions.attached import Attached
from plateau_interp.interventions.attaching import InterventionWarning, intervening
from plateau_interp.interventions.clock import advance
from plateau_interp.interventions.measuring import Gauge, attached_measures
from plateau_interp.interventions.session import session
from plateau_interp.plugins import register
from plateau_interp.runs.run import Run
from plateau_interp.training.loop import ROW_COLUMNS, LatestMetrics, train
from plateau_interp.training.meter import Meter
from plateau_interp.training.optimizers import LearningRateSchedule


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


@pytest.mark.parametrize("told", [None, 3.0, ["heat"]])
def test_what_is_told_by_no_column_is_refused(told):
    model = toy()
    broken = Broken(0)
    with intervening(model, broken):
        session(model).attached[0].measures = lambda: told
        message = f"{broken!r} must measure scalars by column; got {told!r}"
        with pytest.raises(ValueError, match=re.escape(message)):
            attached_measures(model)


@pytest.mark.usefixtures("_registry")
@pytest.mark.parametrize("column", ROW_COLUMNS)
def test_a_column_of_the_run_itself_stays_the_run_s(column, tmp_path):
    register("hooks", Thermometer)
    plain, gauged = (
        Run.create(tmp_path / name, replace(SHORT, interventions=interventions))
        for name, interventions in (("plain", ()), ("gauged", (Thermometer(column),)))
    )
    list(plain.train())
    steps = gauged.train()
    first, second = next(steps), next(steps)
    assert column not in first.metrics
    assert first.metrics[f"{column}#2"] > 0
    steps.close()
    told = json.loads((gauged.path / "checkpoints" / "2" / "state.json").read_text())["latest"]
    assert told["loss"] == second.loss == LatestMetrics(second)["loss"]
    list(gauged.train())  # it goes on from what it wrote
    table = Run(tmp_path / "gauged").metrics
    assert table.drop(columns=f"{column}#2").equals(Run(tmp_path / "plain").metrics)
    assert gauged.summary.final_loss == plain.summary.final_loss


def test_the_column_of_a_schedule_is_free_where_there_is_none():
    def columns(schedule):
        steps = train(
            *(toy(), TASK), steps=1, meter=Meter(TASK), schedule=schedule, interventions=[Thermometer("learning_rate")]
        )
        return {name for name in next(steps).metrics if "learning_rate" in name}

    assert columns(None) == {"learning_rate"}
    assert columns(LearningRateSchedule(warm_up=3)) == {"learning_rate", "learning_rate#2"}
