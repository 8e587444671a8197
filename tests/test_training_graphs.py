"""When a step may be repeated as a graph: what a graph would miss is a step made as always.

A processor records nothing, so a stand-in records here: it keeps the computation, and refuses to repeat it while
anything is hooked. That graphs give the same numbers a machine with CUDA is asked: ``tests/gpu/check.py graphs``.
"""

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from every_hook import CASES, acting, llama
from torch.utils.flop_counter import FlopCounterMode

from plateau_interp.hooks import BiasAttention, During
from plateau_interp.interventions.attaching import intervening, quietly
from plateau_interp.models import toy_model
from plateau_interp.tasks import ModularArithmetic, MovingWindowSum
from plateau_interp.training import graphs
from plateau_interp.training.graphs import GradientGraphs, Recorded, runs_python, with_gradients
from plateau_interp.training.loop import train
from plateau_interp.training.meter import Meter
from plateau_interp.types import Batch

TASK = MovingWindowSum(n=4, p=5)
CHANGES_WEIGHTS = {"transplant", "keep norm", "clip rows"}
"""Between steps, and in place: a graph reads them where they lie."""


class Recorder:
    """In the place of a CUDA device's: says at which steps it recorded and repeated."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.recorded: list[int] = []
        self.repeated = 0
        monkeypatch.setattr(graphs, "record_gradients", self.record)

    def record(self, model: Any, loss_of: Callable[[Batch], torch.Tensor], batch: Batch, *, step: int) -> Recorded:
        self.recorded.append(step)
        fed = Batch(batch.tokens.clone(), batch.labels.clone())
        loss = torch.zeros(())
        gradients = tuple((weight, torch.zeros_like(weight)) for weight in model.parameters() if weight.requires_grad)

        def repeat() -> None:
            assert not runs_python(model)
            self.repeated += 1
            for weight, _ in gradients:
                weight.grad = None
            loss.copy_(with_gradients(loss_of(fed), step=step))
            for weight, gradient in gradients:
                gradient.copy_(weight.grad)

        return Recorded(fed, loss, gradients, repeat)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    first = GradientGraphs.__init__

    def allowed(self: GradientGraphs, *args: Any) -> None:
        first(self, *args)
        self._may_record = True

    monkeypatch.setattr(GradientGraphs, "__init__", allowed)
    return Recorder(monkeypatch)


def small() -> Any:
    return toy_model(TASK, d_model=16)


def trained(model: Any, *, steps: int = 8, **options: Any) -> list[float]:
    return [step.loss for step in train(model, TASK, steps=steps, batch_size=4, **options)]


def test_nothing_is_recorded_on_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(monkeypatch)
    trained(small())
    assert recorder.recorded == []


def test_repeated_steps_are_those_that_were_made(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    model, other = small(), small()
    losses = trained(model, grad_clip=0.1)
    assert (recorder.recorded, recorder.repeated) == ([1], 7)
    monkeypatch.setattr(graphs, "runs_python", lambda model: True)
    assert trained(other, grad_clip=0.1) == losses
    assert recorder.repeated == 7
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_a_loss_that_is_read_late_is_that_of_its_step(recorder: Recorder) -> None:
    steps = list(train(small(), TASK, steps=6, batch_size=4))
    assert [step.loss for step in steps] == trained(small(), steps=6)
    assert len({step.loss for step in steps}) == 6


def test_measured_steps_are_made_as_always(recorder: Recorder) -> None:
    steps = list(train(small(), TASK, steps=9, batch_size=4, meter=Meter(TASK, every=2, n_sequences=4)))
    assert [bool(step.metrics) for step in steps] == [True, False] * 4 + [True]
    assert (recorder.recorded, recorder.repeated) == ([3], 3)


@pytest.mark.parametrize("case", sorted(CASES))
def test_no_intervention_passes_by(case: str) -> None:
    model = llama()
    assert not runs_python(model)
    with quietly(), acting(model, case):
        freezes = not all(weight.requires_grad for weight in model.parameters())
        assert (runs_python(model) or freezes) == (case not in CHANGES_WEIGHTS)
    assert not runs_python(model)


def test_an_intervention_that_comes_and_goes_acts_at_each_step_between(recorder: Recorder) -> None:
    steps = train(small(), TASK, steps=12, batch_size=4)
    model = steps.gi_frame.f_locals["model"]  # type: ignore[attr-defined]
    for _ in range(4):
        next(steps)
    before = recorder.repeated
    with intervening(model, BiasAttention(3.0)) as (receipt,):
        for _ in range(3):
            next(steps)
        assert recorder.repeated == before
    assert receipt.fired == 3
    for _ in steps:
        pass
    assert (recorder.recorded, recorder.repeated) == ([1], before + 5)


def test_a_schedule_is_asked_at_every_step(recorder: Recorder) -> None:
    trained(small(), interventions=[During(BiasAttention(3.0), start=4, stop=6)])
    assert recorder.recorded == []


@pytest.mark.parametrize("change", ["weight", "frozen", "configuration", "mode"])
def test_what_a_graph_would_not_notice_throws_it_away(recorder: Recorder, change: str) -> None:
    model = small()
    steps = train(model, TASK, steps=8, batch_size=4)
    for _ in range(3):
        next(steps)
    weight = model.blocks[0].mlp.W_in
    if change == "weight":
        weight.data = weight.data.clone()
    elif change == "frozen":
        weight.requires_grad_(False)
    elif change == "configuration":
        model.cfg.use_attn_result = True
    else:
        model.eval()
    for _ in steps:
        pass
    assert recorder.recorded == [1, 4]
    assert (weight.grad is None) == (change == "frozen")


def test_each_shape_of_a_batch_has_its_graph(recorder: Recorder) -> None:
    """Of ten equations in batches of four every third batch has two."""
    task = ModularArithmetic(p=5, train_fraction=0.5)
    assert len(task.train_set) == 10
    list(train(toy_model(task, d_model=16, n_layers=1), task, steps=9, batch_size=4))
    assert recorder.recorded == [1, 5]
    assert recorder.repeated == 9 - 2


def test_what_cannot_be_recorded_is_made_as_always(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = trained(small())

    def refused(*args: Any, **options: Any) -> Recorded:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(graphs, "record_gradients", refused)
    with caplog.at_level(logging.INFO, logger="plateau_interp"):
        assert trained(small()) == expected
    told = [record.getMessage() for record in caplog.records]
    assert told == ["steps are not recorded as a CUDA graph: operation not permitted when stream is capturing"]


def test_python_that_is_attached_in_any_way_is_seen() -> None:
    model = small()
    block = model.blocks[0].mlp
    for attach in (
        lambda: model.hook_embed.register_forward_hook(lambda *_: None),
        lambda: block.register_forward_pre_hook(lambda *_: None),
        lambda: block.register_full_backward_hook(lambda *_: None),
        lambda: block.register_full_backward_pre_hook(lambda *_: None),
        lambda: block.W_in.register_hook(lambda gradient: gradient),
        lambda: block.W_in.register_post_accumulate_grad_hook(lambda weight: None),
        lambda: torch.nn.modules.module.register_module_forward_hook(lambda *_: None),
    ):
        handle = attach()
        assert runs_python(model)
        handle.remove()
        assert not runs_python(model)
    with FlopCounterMode(display=False):
        assert runs_python(model)
    block.forward = block.forward
    assert runs_python(model)


def test_a_loss_of_nothing_trained_names_the_step() -> None:
    with pytest.raises(ValueError, match="nothing is trained at step 3"):
        with_gradients(torch.zeros(()), step=3)
