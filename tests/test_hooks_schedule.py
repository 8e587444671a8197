import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hook_cases import TASK, activation, assert_untouched, pattern_name, tokens_for, toy
from torch import Tensor

from plateau_interp.hooks import (
    AblateHeads,
    AmplifySlowGradient,
    BiasAttention,
    During,
    FixAttention,
    FreezeWeights,
    FrobeniusPenalty,
    MixAttention,
    ScaleGradient,
    When,
)
from plateau_interp.interventions.attached import Attached, Intervention, Wrapping, attached_state, load_attached_state
from plateau_interp.interventions.attaching import InterventionWarning, attaching, intervening
from plateau_interp.interventions.clock import advance
from plateau_interp.metrics import token_accuracy
from plateau_interp.training.loop import train
from plateau_interp.training.meter import Meter
from plateau_interp.training.optimizers import Adam


def strengths(
    schedule: Intervention, steps: range, metrics: Mapping[int, Mapping[str, float]] | None = None
) -> list[float]:
    """The strength at each step, as the attached edit has it; fires once a step."""
    model, found = toy(), []
    with attaching(model, schedule) as (attached,):
        while isinstance(attached, Wrapping):
            attached = attached.inner
        for step in steps:
            advance(model, step=step, metrics=(metrics or {}).get(step, {}))
            model(tokens_for(model))
            found.append(attached.strength)
    assert_untouched(model)
    return found


def test_during_acts_from_start_until_before_stop() -> None:
    assert strengths(During(BiasAttention(), start=2, stop=5), range(7)) == [0, 0, 1, 1, 1, 0, 0]
    assert strengths(During(BiasAttention(), start=1, every=3), range(8)) == [0, 1, 0, 0, 1, 0, 0, 1]
    assert strengths(During(BiasAttention()), range(2)) == [1, 1]


def test_a_ramp_grows_in_equal_parts() -> None:
    assert strengths(During(FixAttention(), start=1, stop=6, ramp=4), range(7)) == [0, 0.25, 0.5, 0.75, 1, 1, 0]
    assert strengths(During(FixAttention(), ramp=1), range(2)) == [1, 1]


def test_what_a_ramp_does_to_a_pattern() -> None:
    model = toy()
    tokens, name = tokens_for(model), pattern_name(0)
    before = activation(model, tokens, name)
    with intervening(model, FixAttention()):
        fixed = activation(model, tokens, name)
    with intervening(model, During(FixAttention(), ramp=4)):
        for step, share in enumerate((0.25, 0.5, 0.75, 1.0, 1.0)):
            advance(model, step=step, metrics={})
            torch.testing.assert_close(activation(model, tokens, name), before + share * (fixed - before))
    assert_untouched(model)


def test_an_inactive_schedule_changes_no_bit() -> None:
    model = toy()
    tokens = tokens_for(model)
    plain = model(tokens)
    with intervening(model, During(BiasAttention(), start=5), When(FixAttention(), "loss < 1")) as receipts:
        advance(model, step=4, metrics={"loss": 2.0})
        assert torch.equal(model(tokens), plain)
        assert [receipt.fired for receipt in receipts] == [0, 0]


def test_entering_in_the_middle_of_training_takes_the_step_last_told() -> None:
    model = toy()
    schedule = During(BiasAttention(), start=2, stop=4)
    steps = train(model, TASK, steps=6, batch_size=4)
    seen = []
    for _ in steps:
        with intervening(model, schedule) as (receipt,):
            model(tokens_for(model))
        seen.append(receipt.fired)
    assert seen == [0, 0, 1, 1, 0, 0]


def test_figure_43_is_one_line_each() -> None:
    """Until its start a scheduled bias is no bias, from then on it is one."""
    losses = {}
    for start in (None, 2, 4):
        interventions = () if start is None else (During(BiasAttention(factor=10.0), start=start),)
        model = toy(attention="linear")
        records = train(model, TASK, steps=6, batch_size=4, optimizer=Adam(1e-2), interventions=interventions)
        losses[start] = [record.loss for record in records]
    for start in (2, 4):
        same = [loss == plain for loss, plain in zip(losses[start], losses[None], strict=True)]
        assert same == [True] * start + [False] * (6 - start)


def test_when_acts_while_its_condition_holds() -> None:
    metrics = {step: {"cosine": value} for step, value in enumerate([0.2, 0.9, 0.4, 0.8])}
    assert strengths(When(BiasAttention(), "cosine > 0.5"), range(4), metrics) == [0, 1, 0, 1]
    assert strengths(When(BiasAttention(), lambda now: now["cosine"] < 0.5), range(4), metrics) == [1, 0, 1, 0]


@pytest.mark.parametrize(
    ("sign", "expected"), [("<", [1, 0, 0]), ("<=", [1, 1, 0]), (">", [0, 0, 1]), (">=", [0, 1, 1])]
)
def test_the_four_comparisons(sign: str, expected: list[int]) -> None:
    metrics = {step: {"a_1": value} for step, value in enumerate([-1.5e-1, 2e-1, 0.3])}
    assert strengths(When(BiasAttention(), f"a_1 {sign} 2e-1"), range(3), metrics) == expected


def test_since_and_until_hold_for_good() -> None:
    metrics = {step: {"loss": value} for step, value in enumerate([3.0, 2.0, 3.0, 1.0, 3.0, 2.0])}
    assert strengths(When(BiasAttention(), since="loss < 2.5"), range(6), metrics) == [0, 1, 1, 1, 1, 1]
    assert strengths(When(BiasAttention(), until="loss < 1.5"), range(6), metrics) == [1, 1, 1, 0, 0, 0]
    both = When(BiasAttention(), since="loss < 2.5", until="loss > 2.5")
    assert strengths(both, range(6), metrics) == [0, 1, 0, 0, 0, 0], "what holds before the beginning does not end it"


def test_a_ramp_of_when_counts_from_the_latest_beginning() -> None:
    metrics = {step: {"loss": value} for step, value in enumerate([1, 1, 1, 9, 1, 1])}
    assert strengths(When(BiasAttention(), "loss < 2", ramp=2), range(6), metrics) == [0.5, 1, 1, 0, 0.5, 1]


def test_nothing_holds_before_the_first_measurement_and_verdicts_stay_between_two() -> None:
    metrics = {1: {"loss": 3.0, "cosine": 0.9}, 2: {"loss": 3.0}, 3: {"loss": 3.0, "cosine": 0.1}, 4: {"loss": 3.0}}
    assert strengths(When(BiasAttention(), "cosine > 0.5"), range(5), metrics) == [0, 1, 1, 0, 0]


def test_when_reads_what_a_meter_measured_in_training() -> None:
    model = toy(attention="linear")
    until = When(FixAttention(), until="attention_progress > 0.9")
    meter = Meter(TASK, every=2, n_sequences=2)
    with intervening(model, until) as (receipt,):
        progress = [s.metrics.get("attention_progress") for s in train(model, TASK, steps=6, batch_size=4, meter=meter)]
    assert progress[0] == pytest.approx(1.0), "fixed at first"
    assert progress[2] is not None
    assert progress[2] < 0.9, "and ended by what step 0 measured"
    assert receipt.active_steps == 1


def test_a_condition_on_what_nobody_measures_is_reported() -> None:
    model = toy()
    message = "waited for atention, which nobody measured; measured were attention, loss"
    with pytest.warns(InterventionWarning, match=message), intervening(model, When(BiasAttention(), "atention > 0.5")):
        advance(model, step=1, metrics={"loss": 1.0, "attention": 0.2})


def own_loop(model: Any, **told: Any) -> None:
    """Two forwards of a loop that nobody here wrote."""
    for step in range(2):
        advance(model, step=step, **told)
        model(tokens_for(model))


@pytest.mark.parametrize("places", [{"condition": "los < 2"}, {"since": "los < 2"}, {"until": "los < 2"}])
def test_a_misspelt_condition_is_reported_where_the_loss_is_all_that_is_told(places: dict[str, str]) -> None:
    model, message = toy(), "waited for los, which nobody measured; measured were loss"
    with pytest.warns(InterventionWarning, match=message), intervening(model, When(BiasAttention(), **places)):
        own_loop(model, metrics={"loss": 1.0})


def test_a_condition_on_what_training_without_a_meter_never_measures_is_reported() -> None:
    plan = (When(BiasAttention(), "accuracy > 0.5"),)
    with pytest.warns(InterventionWarning, match="waited for accuracy, which nobody measured; measured were loss"):
        list(train(toy(), TASK, steps=2, batch_size=4, interventions=plan))


def test_a_loop_that_tells_steps_without_metrics_is_reported() -> None:
    model, message = toy(), r"waited in vain: nobody told a metric; call advance\(model, step=..., metrics=...\)"
    with pytest.warns(InterventionWarning, match=message), intervening(model, When(BiasAttention(), "loss < 2")):
        own_loop(model)


@pytest.mark.parametrize("latest", [None, {}, {"loss": 3.0}])
def test_a_condition_on_what_was_not_due_yet_is_not_reported(latest: dict[str, float] | None) -> None:
    """The step before the first may be one that was not measured either, as where a run goes on."""
    model, meter = toy(attention="linear"), Meter(TASK, every=20, n_sequences=2)
    steps = {"start": 5, "steps": 8, "latest": latest}
    plan = (When(BiasAttention(), "accuracy > 0.5"),)
    assert len(list(train(model, TASK, **steps, batch_size=4, meter=meter, interventions=plan))) == 3


def test_a_condition_on_what_a_meter_does_not_measure_is_reported_from_its_first_turn_on() -> None:
    model, meter = toy(attention="linear"), Meter(TASK, every=20, n_sequences=2)
    plan = (When(BiasAttention(), "acuracy > 0.5"),)
    with pytest.warns(InterventionWarning, match="waited for acuracy, which nobody measured; measured were accuracy"):
        list(train(model, TASK, steps=2, batch_size=4, meter=meter, interventions=plan))


def test_a_condition_may_be_on_a_metric_of_a_hook_point() -> None:
    name = "cosine@blocks.0.hook_attn_out"
    metrics = {1: {name: 0.9}, 2: {name: 0.1}}
    assert strengths(When(BiasAttention(), f"{name} > 0.5"), range(3), metrics) == [0, 1, 0]


def test_a_schedule_that_never_began_is_not_reported_and_one_that_met_nothing_is() -> None:
    model = toy()
    with intervening(model, During(BiasAttention(), start=5)):
        advance(model, step=0, metrics={})
        model(tokens_for(model))
    with pytest.warns(InterventionWarning, match="never fired"), intervening(model, During(BiasAttention(), start=5)):
        advance(model, step=5, metrics={})


def test_schedules_and_mixes_wrap_each_other() -> None:
    inner = When(MixAttention(0.5, FixAttention()), "loss < 2", ramp=2)
    metrics = {step: {"loss": value} for step, value in enumerate([1, 1, 1, 1, 9])}
    assert strengths(During(inner, start=1), range(5), metrics) == [0, 0.5, 0.5, 0.5, 0]
    assert strengths(During(During(BiasAttention(), start=1), stop=3), range(5)) == [0, 1, 1, 0, 0]


def test_an_outer_schedule_speaks_first() -> None:
    """The inner one starts as the outer stops: it must not act in between, not even for a moment."""
    model = toy()
    schedule = During(During(FreezeWeights("mlp"), start=3), stop=3)
    with intervening(model, schedule) as (receipt,):
        for step in range(5):
            advance(model, step=step, metrics={})
        assert receipt.fired == 0
        assert receipt.active_steps == 0


def test_nested_schedules_count_a_step_once() -> None:
    model = toy()
    inner = When(BiasAttention(), "loss < 2")
    for schedule in (During(inner), When(inner, until="loss < 0"), During(During(inner))):
        with intervening(model, schedule) as (receipt,):
            counts = []
            for step, loss in enumerate([3.0, 3.0, 1.0, 1.0, 1.0, 3.0]):
                advance(model, step=step, metrics={"loss": loss})
                model(tokens_for(model))
                counts.append(receipt.active_steps)
        assert counts == [0, 0, 1, 2, 3, 3]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: During(BiasAttention(), start=-1), "start must be at least 0; got -1"),
        (lambda: During(BiasAttention(), start=5, stop=5), "stop must be after start=5; got 5"),
        (lambda: During(BiasAttention(), every=0), "every must be at least 1; got 0"),
        (lambda: During(BiasAttention(), ramp=-2), "ramp must be at least 0; got -2"),
        (lambda: When(BiasAttention()), "at least one of condition, since and until"),
        (lambda: When(BiasAttention(), "loss"), "expected a condition such as 'attention_progress > 0.5'; got 'loss'"),
        (lambda: When(BiasAttention(), since="loss == 2"), "expected a condition"),
        (lambda: When(BiasAttention(), until="loss > 1.2.3"), "expected a condition"),
    ],
)
def test_bad_schedules_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("intervention", "message"),
    [
        (During(FreezeWeights("mlp"), ramp=4), r"FreezeWeights\(where='mlp'\) is on or off"),
        (MixAttention(0.5, FreezeWeights("mlp")), "is on or off"),
        (During(BiasAttention(at="scores"), ramp=4), "is on or off"),
        (During(When(BiasAttention(layers=[4]), "loss < 1")), "there is no layer 4"),
    ],
)
def test_what_cannot_be_scheduled_is_refused_on_entry(intervention: Intervention, message: str) -> None:
    model = toy(attention="softmax")
    with pytest.raises(ValueError, match=message), intervening(model, intervention):
        pass
    assert_untouched(model)
    advance(model, step=0, metrics={})  # no listener is left that would act on a detached receipt


@dataclass(frozen=True, eq=False)
class Own:
    """A third party's intervention with hooks of its own: adds to the logits, and heeds its strength if it may."""

    heeds: bool = True
    gradual: bool = False

    @contextmanager
    def attach(self, model: Any) -> Iterator[Attached]:
        attached = Attached(self, gradual=self.gradual)

        def hook(module: Any, args: Any, output: Tensor) -> Tensor:
            strength = attached.strength if self.heeds else 1.0
            attached.receipt.fired += strength > 0
            return output + strength

        handle = model.unembed.register_forward_hook(hook)
        try:
            yield attached
        finally:
            handle.remove()


def test_hooks_of_one_s_own_that_heed_their_strength_can_be_scheduled() -> None:
    model = toy()
    tokens = tokens_for(model)
    plain = model(tokens)
    for schedule, expected in (
        (During(Own(), start=1, stop=3), [0, 1, 1, 0]),
        (When(Own(), "loss < 2"), [0, 1, 0, 1]),
        (During(Own(gradual=True), ramp=4), [0.25, 0.5, 0.75, 1.0]),
        (MixAttention(0.5, Own(gradual=True)), [0.5] * 4),
    ):
        with intervening(model, schedule) as (receipt,):
            for step, strength in enumerate(expected):
                advance(model, step=step, metrics={"loss": [9, 1, 9, 1][step]})
                torch.testing.assert_close(model(tokens), plain + strength)
        assert receipt.fired == sum(strength > 0 for strength in expected)
        assert receipt.active_steps == (None if isinstance(schedule, MixAttention) else receipt.fired)
        assert_untouched(model)
    with pytest.raises(ValueError, match=r"Own\(.*\) is on or off"), intervening(model, During(Own(), ramp=4)):
        pass


def test_one_that_does_not_heed_its_strength_is_reported_by_the_outermost_schedule_alone() -> None:
    model = toy()
    message = r"^During\(.*acted all the time: what it wraps does not read the strength of its Attached"
    advance(model, step=0)
    with (
        pytest.warns(InterventionWarning, match=message) as warned,
        intervening(model, During(During(Own(heeds=False)), start=5)),
    ):
        model(tokens_for(model))
    assert len(warned) == 1
    with intervening(model, Own(heeds=False)), intervening(model, During(Own(heeds=False))):
        model(tokens_for(model))  # nothing to heed


def test_what_nothing_reached_is_not_said_to_have_acted_all_the_time() -> None:
    model = toy()

    def forwards_before_attention() -> None:
        for step in range(4):
            advance(model, step=step)
            model(tokens_for(model), stop_at_layer=0)

    with (
        pytest.warns(InterventionWarning, match="never fired: nothing reached") as warned,
        intervening(model, During(AblateHeads([0]), start=0, stop=2)),
    ):
        forwards_before_attention()
    assert "acted all the time" not in str(warned[0].message)
    assert len(warned) == 1


def test_a_bare_attached_does_nothing_and_complains_of_nothing() -> None:
    class Bare:
        @contextmanager
        def attach(self, model: Any) -> Iterator[Attached]:
            yield Attached(self)

    model = toy()
    with attaching(model, Bare(), During(Bare()), MixAttention(1.0, During(Own(gradual=True)))) as attached:
        advance(model, step=0)
        assert attached_state(attached) == {}
        load_attached_state(attached, {})
        for one in attached:
            one.keep()
    assert [one.receipt.describe().rpartition(" fired ")[2] for one in attached] == ["0 times"] * 3


# Steps that nobody tells


@pytest.mark.parametrize(
    ("schedule", "waits"),
    [
        (During(BiasAttention(), start=5), True),
        (During(BiasAttention(), stop=5), True),
        (During(BiasAttention(), every=2), True),
        (During(BiasAttention(), ramp=5), True),
        (When(BiasAttention(), "loss < 2"), True),
        (During(When(BiasAttention(), "loss < 2"), start=3), True),
        (During(BiasAttention()), False),
        (During(BiasAttention(), ramp=1), False),
    ],
)
def test_a_schedule_that_waits_for_a_step_nobody_tells_says_so_once(schedule: Intervention, waits: bool) -> None:
    """In a loop of one's own, without advance: it would never act, or never end."""
    model = toy()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with intervening(model, schedule):
            model(tokens_for(model))
            model(tokens_for(model))
        with intervening(model, schedule):
            pass  # no forward: nothing was missed
    text = "waited in vain: nobody told this model a step; call advance(model, step=...)"
    assert [str(warning.message).partition(") ")[2].rpartition(") ")[2] or text for warning in caught] == [text] * waits
    assert all(text in str(warning.message) for warning in caught)
    assert_untouched(model)
    advance(model, step=7)
    with intervening(model, schedule):
        model(tokens_for(model))  # told before


def test_nothing_is_said_of_steps_while_an_exception_is_on_its_way() -> None:
    model = toy()
    with suppress(KeyError), intervening(model, During(BiasAttention(), start=5)):
        model(tokens_for(model))
        raise KeyError


def test_state_lets_a_schedule_go_on_where_it_was() -> None:
    schedules = (
        When(BiasAttention(), "loss < 2", since="loss < 1", until="loss > 8", ramp=4),
        During(AmplifySlowGradient(where="mlp"), start=1),
    )
    values = [3.0, 0.5, 1.5, 1.5, 1.5, 1.5, 9.0, 0.5]

    def step_on(model: Any, attached: Any, step: int) -> float:
        advance(model, step=step, metrics={"loss": values[step]})
        model(tokens_for(model, seed=step)).square().mean().backward()
        return attached[0].inner.strength

    model = toy()
    with attaching(model, *schedules) as attached:
        whole = [step_on(model, attached, step) for step in range(8)]
        averages = attached_state(attached)
    assert whole == [0, 0.25, 0.5, 0.75, 1, 1, 0, 0]
    for stop in range(1, 8):
        model = toy()
        with attaching(model, *schedules) as attached:
            first = [step_on(model, attached, step) for step in range(stop)]
            state = {name: value.clone() for name, value in attached_state(attached).items()}
        again = toy()
        for parameter, earlier in zip(again.parameters(), model.parameters(), strict=True):
            parameter.grad = None if earlier.grad is None else earlier.grad.clone()
        with attaching(again, *schedules) as attached:
            load_attached_state(attached, state)
            assert first + [step_on(again, attached, step) for step in range(stop, 8)] == whole
            resumed = attached_state(attached)
        assert resumed.keys() == averages.keys()
        assert all(torch.equal(resumed[name], averages[name]) for name in averages)


def test_state_of_other_interventions_is_refused() -> None:
    model = toy()
    with attaching(model, When(BiasAttention(), "loss < 2")) as attached:
        state = attached_state(attached)
        advance(model, step=0, metrics={"loss": 1.0})
        model(tokens_for(model))
    with attaching(model, BiasAttention()) as attached:
        model(tokens_for(model))
        with pytest.raises(ValueError, match=r"BiasAttention.* has no memory, but is to remember when"):
            load_attached_state(attached, state)
    with (
        attaching(model, When(ScaleGradient(2.0), "loss < 2")) as attached,
        pytest.raises(ValueError, match="does not fit: 'when'"),
    ):
        load_attached_state(attached, {})
    with attaching(model, BiasAttention()) as attached:
        model(tokens_for(model))
        for key in ("1.when", "when"):
            with pytest.raises(ValueError, match=f"the state remembers '{key}', of another than these interventions"):
                load_attached_state(attached, {key: state["0.when"]})


@pytest.mark.parametrize(("sign", "holds"), [(">=", True), ("<=", True), ("<", False), (">", False)])
def test_an_accuracy_of_exactly_the_bound_is_the_bound(sign: str, holds: bool) -> None:
    accuracy = token_accuracy(torch.tensor([[0] + [1] * 19]), torch.ones(1, 20, dtype=torch.long)).item()
    assert accuracy < 0.95
    assert strengths(When(BiasAttention(), f"accuracy {sign} 0.95"), range(1), {0: {"accuracy": accuracy}}) == [holds]


def test_a_condition_may_be_on_a_column_whose_name_was_taken() -> None:
    assert strengths(When(BiasAttention(), "loss#2 > 7"), range(1), {0: {"loss": 2.0, "loss#2": 7.5}}) == [1]


@pytest.mark.parametrize("where", ["blocks.*.mlp.W_in", "attention map", "all but mlp layers", "blocks.0.*"])
def test_a_condition_can_name_the_column_of_any_choice_of_weights(where: str) -> None:
    model = toy()
    column = f"frobenius_penalty@{where}"
    late = When(BiasAttention(), since=f"{column} > 0")
    meter = Meter(TASK, every=1)
    plan = [FrobeniusPenalty(0.1, where=where), late]
    with intervening(model, *plan) as (_, receipt):
        for step in train(model, TASK, steps=3, batch_size=4, meter=meter):
            assert step.metrics[column] > 0
    assert receipt.active_steps == 2


def test_what_stands_behind_a_condition_s_name_is_still_read() -> None:
    for condition in ("a@b <", "a@ < 1", "a@b < c < 1", "a b < 1", "*@b < 1", "a@b == 1"):
        with pytest.raises(ValueError, match="expected a condition"):
            When(BiasAttention(), condition)
    assert When(BiasAttention(), " accuracy@copy#2 <= -1e-3 ").condition
