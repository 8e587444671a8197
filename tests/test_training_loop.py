import contextlib
import random
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from reading import Reads
from typecheck import unchecked

from plateau_interp.analysis.probing import probe
from plateau_interp.hooks import BiasAttention, ScaleGradient, When
from plateau_interp.models import ToyTransformer, toy_model
from plateau_interp.tasks import Histogram, MatrixCompletion, ModularArithmetic, MovingWindowSum, Permutation
from plateau_interp.training.batches import training_batch
from plateau_interp.training.loop import Step, train
from plateau_interp.training.meter import Meter
from plateau_interp.training.optimizers import SGD, Adam
from plateau_interp.types import Task

TASK = MovingWindowSum(n=4, p=7)


def tiny(**options: Any) -> ToyTransformer:
    return toy_model(TASK, d_model=16, **options)


def run(model: ToyTransformer, **options: Any) -> list[Step]:
    return list(train(model, TASK, **{"steps": 6, "batch_size": 8, **options}))


def same_weights(one: ToyTransformer, other: ToyTransformer) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_it_is_the_plain_loop() -> None:
    by_hand, losses = tiny(), []
    optimizer = torch.optim.Adam(by_hand.parameters(), lr=1e-3, fused=True)
    for step in range(6):
        batch = training_batch(TASK, seed=5, step=step, batch_size=8)
        loss = TASK.loss(by_hand(batch.tokens[:, :-1]), batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    model = tiny()
    records = run(model, seed=5, optimizer=Adam(learning_rate=1e-3))
    assert [record.loss for record in records] == losses
    assert [record.step for record in records] == list(range(6))
    assert [record.samples for record in records] == [8 * (step + 1) for step in range(6)]
    assert same_weights(model, by_hand)


@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize(
    "task",
    [TASK, Histogram(n=4), MatrixCompletion(shapes=((2, 2),)), ModularArithmetic(p=7), Permutation(n=4)],
    ids=lambda task: task.name,
)
def test_a_step_asks_the_device_for_no_number(task: Task, measured: bool) -> None:
    model = toy_model(task, d_model=16, n_heads=1)
    meter = Meter(task, every=1) if measured else None
    # While answers are decoded, what edits attention by position looks whether there is padding.
    several = task.answer.stop - task.answer.start > 1
    acting = [ScaleGradient(0.5), *([BiasAttention(2.0)] if several and not measured else [])]
    steps = train(model, task, steps=4, batch_size=8, meter=meter, interventions=acting, grad_clip=1.0)
    next(steps)  # what holds of all steps is found out in the first
    with Reads() as reads:
        record = next(steps)
    assert reads.places == []
    with Reads() as reads:
        assert record.loss > 0
    assert reads.places


def test_a_record_describes_the_model_before_its_update_and_the_model_is_one_step_on() -> None:
    model = tiny()
    for record in train(model, TASK, steps=3, batch_size=8, optimizer=SGD(learning_rate=0.5)):
        earlier = tiny()
        run(earlier, steps=record.step, optimizer=SGD(learning_rate=0.5))
        batch = training_batch(TASK, seed=0, step=record.step, batch_size=8)
        assert TASK.loss(earlier(batch.inputs), batch).item() == record.loss
        run_on = tiny()
        run(run_on, steps=record.step + 1, optimizer=SGD(learning_rate=0.5))
        assert same_weights(model, run_on)


@pytest.mark.parametrize("every", [1, 2])
def test_measuring_changes_no_weight(every: int) -> None:
    measured, unmeasured = tiny(), tiny()
    records = run(measured, meter=Meter(TASK, every=every, n_sequences=4))
    assert [record.loss for record in records] == [record.loss for record in run(unmeasured)]
    assert same_weights(measured, unmeasured)
    assert [bool(record.metrics) for record in records] == [step % every == 0 for step in range(6)]


def test_going_on_with_the_live_optimizer_equals_never_stopping() -> None:
    whole, halves = tiny(), tiny()
    run(whole)
    optimizer = Adam().build(halves.named_parameters())
    run(halves, steps=4, optimizer=optimizer)
    run(halves, start=4, optimizer=optimizer)
    assert same_weights(whole, halves)


def test_the_caller_may_stop_and_go_on() -> None:
    model, whole = tiny(), tiny()
    run(whole)
    steps = train(model, TASK, steps=6, batch_size=8)
    assert len(list(islice(steps, 3))) == 3
    assert [record.step for record in steps] == [3, 4, 5]
    assert same_weights(model, whole)


def test_seeds_give_other_batches_and_steps_too() -> None:
    first = training_batch(TASK, seed=0, step=0).tokens
    assert torch.equal(first, training_batch(TASK, seed=0, step=0).tokens)
    assert not torch.equal(first, training_batch(TASK, seed=1, step=0).tokens)
    assert not torch.equal(first, training_batch(TASK, seed=0, step=1).tokens)


def test_global_randomness_is_left_alone() -> None:
    before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state())
    run(tiny(), meter=Meter(TASK, n_sequences=4))
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_a_parameter_without_gradient_receives_no_update_at_all() -> None:
    model = tiny()
    optimizer = SGD(learning_rate=0.1, momentum=0.9).build(model.named_parameters())
    run(model, steps=2, optimizer=optimizer)
    frozen = model.blocks[0].attn.W_Q.detach().clone()
    model.blocks[0].attn.W_Q.requires_grad_(False)
    model.blocks[0].attn.W_Q.grad = None
    run(model, start=2, optimizer=optimizer)
    assert torch.equal(model.blocks[0].attn.W_Q, frozen)


def test_clipping_counts_the_gradients_of_what_the_optimiser_has_alone() -> None:
    trained, loop = tiny(), tiny()
    run(trained, optimizer=torch.optim.SGD(trained.blocks[0].mlp.parameters(), lr=0.1), grad_clip=0.5)
    optimizer = torch.optim.SGD(loop.blocks[0].mlp.parameters(), lr=0.1)
    for step in range(6):
        batch = training_batch(TASK, seed=0, step=step, batch_size=8)
        loop.zero_grad()
        torch.autograd.backward(TASK.loss(loop(batch.inputs), batch))
        torch.nn.utils.clip_grad_norm_(loop.blocks[0].mlp.parameters(), 0.5)
        optimizer.step()
    assert same_weights(trained, loop)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (MovingWindowSum(n=5, p=7), "the model reads n_ctx=9 tokens; moving-window-sum's inputs have 10"),
        (MovingWindowSum(n=4, p=11), "the model knows d_vocab=8 tokens; moving-window-sum has 12"),
    ],
)
def test_a_model_that_is_too_small_for_the_task_is_refused(task: MovingWindowSum, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        next(train(tiny(), task, steps=1))
    with pytest.raises(ValueError, match=message):
        probe(tiny(), task, n_sequences=4, n_train_sequences=2)


@pytest.mark.parametrize("foreign", ["all", "one"])
def test_an_optimiser_of_another_model_is_refused(foreign: str) -> None:
    first, model = tiny(), tiny()
    held = [*first.parameters()] if foreign == "all" else [*model.parameters(), first.embed.W_E]
    told = rf"^optimizer has {1 if foreign == 'one' else len(held)} parameters, of its {len(held)}, that are none of"
    with pytest.raises(ValueError, match=told):
        run(model, optimizer=torch.optim.SGD(held, lr=0.1))
    assert same_weights(first, model)
    assert run(model, optimizer=torch.optim.SGD([model.embed.W_E], lr=0.1))


def test_numbers_that_the_caller_changes_are_the_callers_alone() -> None:
    """Conditions look at what was measured, whatever is made of it for printing."""
    ends = []
    for is_changed in (False, True):
        model = tiny()
        late = When(BiasAttention(factor=10.0), since="accuracy > 2")
        for step in train(model, TASK, steps=4, batch_size=8, interventions=[late], meter=Meter(TASK, every=1)):
            if is_changed:
                step.metrics["accuracy"] *= 1000
                assert step.metrics["accuracy"] == 1000 * step.measured["accuracy"]
        ends.append(model)
    assert same_weights(*ends)


def test_an_optimiser_by_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"optimizer must be plain data such as Adam\(\), or .*; got 'adam'"):
        next(unchecked(train)(tiny(), TASK, steps=1, optimizer="adam"))


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^expected a model; got 'model'$"):
        next(unchecked(train)("model", TASK, steps=1))


def test_clipping_bounds_the_first_sgd_update() -> None:
    model, before = tiny(), tiny()
    run(model, steps=1, optimizer=SGD(learning_rate=1.0), grad_clip=1e-3)
    moved = torch.cat([(a - b).flatten() for a, b in zip(model.parameters(), before.parameters(), strict=True)])
    assert moved.norm().item() == pytest.approx(1e-3, rel=1e-3)


def test_a_step_is_read_when_asked() -> None:
    record = Step(0, 8, torch.tensor(1.5), {"accuracy": torch.tensor(0.25), "cosine": torch.tensor(0.5)})
    assert (record.loss, record.metrics) == (1.5, {"accuracy": 0.25, "cosine": 0.5})
    assert Step(0, 8, torch.tensor(1.5)).metrics == {}


def drain(steps: Iterator[Step]) -> None:
    for _ in steps:
        pass


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": 3, "steps": 2}, "start must be between 0 and steps=2; got 3"),
        ({"steps": -1}, "start must be between 0 and steps=-1; got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1; got 0"),
        ({"grad_clip": 0.0}, "grad_clip must be positive; got 0.0"),
        ({"meter": Meter(MovingWindowSum(n=5))}, "the meter is for another task"),
        ({"meter": 3}, r"meter must be a Meter\(task\); got 3"),
        ({"steps": 2.5}, "steps must be a whole number; got 2.5"),
        ({"steps": "x"}, "steps must be a whole number; got 'x'"),
        ({"start": 1.5}, "start must be a whole number; got 1.5"),
        ({"seed": "x"}, "seed must be a whole number; got 'x'"),
        ({"seed": True}, "seed must be a whole number; got True"),
        ({"seed": -1}, "seed must be at least 0; got -1"),
        ({"seed": 2**63}, r"seed must be from 0 to 2\*\*63 - 1; got 9223372036854775808"),
        ({"interventions": BiasAttention()}, r"interventions must be a list, such as \[FixAttention\(\)\]; got Bias"),
        ({"interventions": (BiasAttention,)}, "expected interventions such as"),
        ({"latest": 5}, r"latest must be numbers by name, such as \{'loss': 2.5\}; got 5"),
        ({"latest": {"loss": "x"}}, r"latest\['loss'\] must be a number; got 'x'"),
        ({"optimizer": Adam}, r"optimizer must be plain data such as Adam\(\), or a PyTorch optimiser; got <class"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        next(unchecked(train)(tiny(), TASK, **{"steps": 6, "batch_size": 8, **options}))


FINITE = ModularArithmetic(p=7, operations=("add", "divide"), train_fraction=0.5)  # 24 + 21 equations to train on


def test_going_on_in_the_middle_of_an_epoch_equals_never_stopping() -> None:
    def trained(*legs: tuple[int, int]) -> ToyTransformer:
        model = toy_model(FINITE, d_model=16)
        optimizer = Adam().build(model.named_parameters())
        for start, stop in legs:
            drain(train(model, FINITE, start=start, steps=stop, batch_size=10, optimizer=optimizer))
        return model

    assert same_weights(trained((0, 12)), trained((0, 3), (3, 7), (7, 12)))


@pytest.mark.parametrize(("device", "times"), [("cpu", 1), ("meta", 0)])
def test_training_on_the_processor_keeps_the_memory_that_it_frees(
    monkeypatch: pytest.MonkeyPatch, device: str, times: int
) -> None:
    kept: list[bool] = []
    monkeypatch.setattr("plateau_interp.training.loop.keep_freed_memory", lambda: kept.append(True))
    with contextlib.suppress(RuntimeError):  # a device that has no numbers
        next(train(tiny().to(device), TASK, steps=1, batch_size=2))
    assert len(kept) == times
