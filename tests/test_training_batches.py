"""plateau_interp.training.batches: which sequences a step sees, by seed and step alone, endless or in epochs."""

from typing import Any

import numpy as np
import pytest
import torch
from test_training_loop import run, tiny
from typecheck import unchecked

from plateau_interp.models import toy_model
from plateau_interp.models.one_hot import OfFeatures
from plateau_interp.plugins import plugin, plugins
from plateau_interp.tasks import DepthTwoNet, ModularArithmetic, MovingWindowSum, OneHotArithmetic
from plateau_interp.training.batches import samples_before, stream_generator, training_batch
from plateau_interp.training.loop import train

TASK = MovingWindowSum(n=4, p=7)


def test_streams_share_nothing() -> None:
    draws = {
        (stream, seed, step): torch.randint(2**60, (1,), generator=stream_generator(seed, stream, step)).item()
        for stream in ("training", "measuring")
        for seed in range(5)
        for step in range(50)
    }
    assert len(set(draws.values())) == len(draws)


@pytest.mark.parametrize("name", plugins("tasks"))
def test_a_tasks_batch_is_the_one_that_it_is_trained_on(name: str) -> None:
    task, seen = plugin("tasks", name)(), []
    model = toy_model(task, d_model=task.n_features if isinstance(task, OfFeatures) else 12, n_heads=1)
    model.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    list(train(model, task, steps=1, seed=3))
    assert torch.equal(training_batch(task, seed=3, step=0).inputs, seen[0])


@pytest.mark.parametrize("arguments", [{"seed": "x"}, {"step": 0.5}, {"step": -1}, {"batch_size": 0}])
def test_a_batch_that_cannot_be_is_refused(arguments: dict[str, Any]) -> None:
    (name,) = arguments
    with pytest.raises(ValueError, match=f"^{name} must be "):
        unchecked(training_batch)(TASK, **{"seed": 0, "step": 0, **arguments})


@pytest.mark.parametrize("task", [ModularArithmetic(p=7), OneHotArithmetic(p=7), DepthTwoNet(d=3, n=20)], ids=str)
@pytest.mark.parametrize("batch_size", [8, 1000])
def test_what_is_written_into_a_handed_out_set_changes_no_training(task: Any, batch_size: int) -> None:
    def losses(*, writing: bool) -> list[float]:
        model = toy_model(task, d_model=task.n_features if isinstance(task, OfFeatures) else 12, n_heads=1)
        found = []
        for step in train(model, task, steps=4, batch_size=batch_size):
            found.append(step.loss)
            for batch in (task.train_set, training_batch(task, seed=0, step=1, batch_size=batch_size)) * writing:
                batch.tokens.zero_()
                batch.labels.numpy()[:] = 0
        return found

    before = task.train_set, task.validation_set
    clean = losses(writing=False)
    for batch in (task.train_set, task.validation_set):
        batch.tokens.zero_()
        batch.labels.numpy()[:] = 0
    assert losses(writing=True) == clean
    for batch, again in zip(before, (task.train_set, task.validation_set), strict=True):
        assert torch.equal(batch.tokens, again.tokens)
        assert torch.equal(batch.labels, again.labels)


def test_a_hook_that_writes_into_what_the_model_reads_changes_that_step_alone() -> None:
    task, seen = ModularArithmetic(p=5), []
    model = toy_model(task, d_model=12, n_heads=1)

    def zeroed(module: Any, args: Any) -> None:
        seen.append(args[0].clone())
        args[0].zero_()

    model.register_forward_pre_hook(zeroed)
    list(train(model, task, steps=3, batch_size=1000))
    assert all(torch.equal(tokens, task.train_set.inputs) for tokens in seen)


FINITE = ModularArithmetic(p=7, operations=("add", "divide"), train_fraction=0.5)  # 24 + 21 equations to train on


@pytest.mark.parametrize("batch_size", [1, 10, 15, 44])
def test_an_epoch_is_the_training_set_once_in_an_order_of_its_own(batch_size: int) -> None:
    everything = sorted(FINITE.train_set.tokens.tolist())
    n = len(everything)
    per_epoch = -(-n // batch_size)
    orders = []
    for epoch in range(3):
        steps = range(epoch * per_epoch, (epoch + 1) * per_epoch)
        batches = [training_batch(FINITE, seed=4, step=step, batch_size=batch_size) for step in steps]
        assert [len(batch) for batch in batches] == [batch_size] * (n // batch_size) + [n % batch_size] * (
            n % batch_size > 0
        )
        orders.append([row for batch in batches for row in batch.tokens.tolist()])
        assert sorted(orders[-1]) == everything
        for batch in batches:
            assert torch.equal(batch.labels[:, -1], batch.tokens[:, -1])
    assert orders[0] != orders[1] != orders[2] != orders[0]


@pytest.mark.parametrize("batch_size", [45, 46, 10_000])
def test_a_batch_of_the_sets_size_is_the_set(batch_size: int) -> None:
    for step in (0, 1, 7):
        batch = training_batch(FINITE, seed=step, step=step, batch_size=batch_size)
        assert torch.equal(batch.tokens, FINITE.train_set.tokens)
        assert torch.equal(batch.labels, FINITE.train_set.labels)


def test_a_finite_tasks_batches_follow_from_seed_and_step_in_any_order() -> None:
    def tokens(step: int, seed: int = 0) -> list[list[int]]:
        return training_batch(FINITE, seed=seed, step=step, batch_size=10).tokens.tolist()  # type: ignore[no-any-return]

    forwards = [tokens(step) for step in range(20)]
    assert [tokens(step) for step in reversed(range(20))] == forwards[::-1]
    assert tokens(3, seed=1) != forwards[3]


@pytest.mark.parametrize(("batch_size", "epochs"), [(20, [0, 0, 0, 1, 1, 1, 2]), (45, [0, 1, 2, 3, 4, 5, 6])])
def test_steps_count_epochs_and_the_sequences_of_partial_batches(batch_size: int, epochs: list[int]) -> None:
    model = toy_model(FINITE, d_model=16)
    records = list(train(model, FINITE, steps=7, batch_size=batch_size))
    assert [record.epoch for record in records] == epochs
    sizes = [len(training_batch(FINITE, seed=0, step=step, batch_size=batch_size)) for step in range(7)]
    assert [record.samples for record in records] == np.cumsum(sizes).tolist()
    before = [samples_before(FINITE, step=step, batch_size=batch_size) for step in range(7)]
    assert before == [0, *np.cumsum(sizes)[:-1].tolist()]


def test_fresh_batches_have_no_epoch() -> None:
    assert [record.epoch for record in run(tiny())] == [None] * 6
