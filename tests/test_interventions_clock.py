"""plateau_interp.interventions.clock: who hears which step, and what is no step."""

from typing import Any

import numpy
import pytest
from hook_cases import (
    TASK,
    toy,
)
from typecheck import unchecked

from plateau_interp.interventions.attached import Receipt
from plateau_interp.interventions.clock import advance, listening
from plateau_interp.training.loop import train


def test_listeners_hear_every_step_in_order_of_entry() -> None:
    model, other, heard = toy(), toy(), []
    with listening(model, lambda step, metrics: heard.append(("a", step, dict(metrics)))) as step:
        assert step == 0
        advance(model, step=7, metrics={"loss": 1.0})
        with listening(model, lambda step, metrics: heard.append(("b", step, dict(metrics)))) as step:
            assert step == 7
            advance(model, step=8, metrics={})
        advance(other, step=1, metrics={})
        advance(model, step=9, metrics={})
    advance(model, step=10, metrics={})
    assert heard == [("a", 7, {"loss": 1.0}), ("a", 8, {}), ("b", 8, {}), ("a", 9, {})]


def test_training_tells_every_step_before_its_forward() -> None:
    model, heard = toy(), []
    with listening(model, lambda step, metrics: heard.append((step, sorted(metrics)))):
        for step in train(model, TASK, steps=3, batch_size=4):
            assert heard[-1][0] == step.step
    assert heard == [(0, []), (1, ["loss"]), (2, ["loss"])]


@pytest.mark.parametrize("step", [-1, 1.0, "3", True, None])
def test_a_step_that_is_no_number_of_updates_is_refused(step: Any) -> None:
    with pytest.raises(ValueError, match=r"step must be (a whole number|at least 0); got"):
        unchecked(advance)(toy(), step=step)


def test_a_loop_of_one_s_own_tells_the_step_alone() -> None:
    model, heard = toy(), []
    with listening(model, lambda step, metrics: heard.append((step, dict(metrics)))):
        unchecked(advance)(model, step=numpy.int64(2))
    assert heard == [(2, {})]
    assert type(heard[0][0]) is int


def test_a_step_counts_once_however_many_schedules_say_so() -> None:
    receipt = Receipt("any")
    for step in (3, 3, 4, 3):
        receipt.count_step(step)
    assert receipt.active_steps == 3
