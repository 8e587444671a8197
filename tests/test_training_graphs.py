"""When a step may be repeated as a graph: what a graph would miss is a step made as always.

A processor records nothing, so a stand-in records here: it keeps the operations, writes what they give to where it
wrote before, and asks no Python when it repeats them. A machine with CUDA is asked by ``tests/gpu/check.py graphs``.
"""

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from every_hook import CASES, acting, llama
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils.parametrize import register_parametrization
from torch.overrides import TorchFunctionMode
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
    """In the place of a CUDA device's: says at which steps it recorded, and how often it repeated."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.recorded: list[int] = []
        self.repeated = 0
        monkeypatch.setattr(graphs, "record_gradients", self.record)

    def record(self, model: Any, loss_of: Callable[[Batch], torch.Tensor], batch: Batch, *, step: int) -> Recorded:
        self.recorded.append(step)
        fed = Batch(batch.tokens.clone(), batch.labels.clone())
        trained = [weight for weight in model.parameters() if weight.requires_grad]

        def gradients(tokens: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
            loss = loss_of(Batch(tokens, labels))
            return loss.detach(), *torch.autograd.grad(loss, trained)

        operations = make_fx(gradients)(fed.tokens, fed.labels)
        loss, *made = (torch.zeros(()), *map(torch.zeros_like, trained))

        def repeat() -> None:
            self.repeated += 1
            with torch.enable_grad():
                for old, new in zip((loss, *made), operations(fed.tokens, fed.labels), strict=True):
                    old.copy_(new.detach())

        # Of the same memory, but not the tensors that are written to.
        given = tuple(zip(trained, (gradient.detach() for gradient in made), strict=True))
        return Recorded(fed, loss, given, repeat)


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
    model = small()
    steps = train(model, TASK, steps=12, batch_size=4)
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


class Twice(torch.nn.Module):
    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * self.inner(x)


class Half(torch.nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight / 2


def wrap(model: Any) -> None:
    model.blocks[0].mlp = Twice(model.blocks[0].mlp)


def patch(model: Any) -> None:
    attention = model.blocks[0].attn
    scores = attention.calculate_z_scores
    attention.calculate_z_scores = lambda *args, **options: 2 * scores(*args, **options)


def lay_elsewhere(model: Any) -> None:
    model.blocks[0].mlp.W_in.data = 2 * model.blocks[0].mlp.W_in.data


def turn(model: Any) -> None:
    weight = model.blocks[0].attn.W_O
    weight.data = weight.data.transpose(1, 2)


def make_anew(model: Any) -> None:
    model.blocks[0].mlp.W_in = torch.nn.Parameter(model.blocks[0].mlp.W_in.data)


CHANGES: dict[str, Callable[[Any], Any]] = {
    "weights elsewhere": lay_elsewhere,
    "weights turned where they lie": turn,
    "a parameter in the place of another": make_anew,
    "frozen": lambda model: model.blocks[0].mlp.W_in.requires_grad_(False),
    "configuration": lambda model: setattr(model.cfg, "use_attn_result", True),
    "mode": lambda model: model.eval(),
    "activation function": lambda model: setattr(model.blocks[0].mlp, "act_fn", torch.relu),
    "epsilon": lambda model: setattr(model.ln_final, "eps", 1.0),
    "a module in the place of another": lambda model: setattr(model, "ln_final", torch.nn.Identity()),
    "a module around another": wrap,
    "a method of a module": patch,
    "a parametrisation": lambda model: register_parametrization(model.embed, "W_E", Half()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_graph_would_not_notice_throws_it_away(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    def losses() -> list[float]:
        model = small()
        steps = train(model, TASK, steps=8, batch_size=4)
        before = [next(steps).loss for _ in range(3)]
        CHANGES[change](model)
        return before + [step.loss for step in steps]

    repeated = losses()
    assert recorder.recorded == [1, 4]
    monkeypatch.setattr(graphs, "runs_python", lambda model: True)
    assert losses() == repeated


class Doubling(TorchFunctionMode):
    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        return 2 * made if function is torch.nn.functional.layer_norm else made


@pytest.mark.parametrize("mode", [Doubling, FlopCounterMode, torch.autograd.detect_anomaly])
@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_in_a_mode_that_calls_python_steps_are_made_as_always(recorder: Recorder, mode: Any) -> None:
    steps = train(small(), TASK, steps=8, batch_size=4)
    for _ in range(3):
        next(steps)
    before = recorder.repeated
    with mode() if mode is not FlopCounterMode else mode(display=False):
        for _ in range(3):
            next(steps)
    assert recorder.repeated == before
    next(steps)
    assert recorder.repeated == before + 1


def test_without_gradients_nothing_is_trained_in_silence(recorder: Recorder) -> None:
    steps = train(small(), TASK, steps=8, batch_size=4)
    for _ in range(3):
        next(steps)
    with torch.no_grad(), pytest.raises(ValueError, match="nothing is trained at step 3"):
        next(steps)


def test_gradients_that_somebody_keeps_or_replaces_are_theirs(recorder: Recorder) -> None:
    model = small()
    kept = []
    for _ in train(model, TASK, steps=6, batch_size=4):
        weight = model.unembed.W_U
        kept.append((weight.grad, weight.grad.clone()))
        weight.grad.data = torch.zeros_like(weight)  # as Grokfast's authors do
    assert recorder.repeated == 5
    assert all(then.count_nonzero() for _, then in kept)
    assert len({float(then.sum()) for _, then in kept}) == 6
    assert all(not now.count_nonzero() for now, _ in kept)


@dataclasses.dataclass(frozen=True)
class Weighted(Batch):
    weight: float = 1.0


class WeightedWindows(MovingWindowSum):
    def sample(self, n: int, *, generator: torch.Generator) -> Weighted:
        batch = super().sample(n, generator=generator)
        return Weighted(batch.tokens, batch.labels, float(torch.rand((), generator=generator)))

    def loss(self, output: torch.Tensor, batch: Any) -> torch.Tensor:
        return batch.weight * super().loss(output, batch)


def test_a_batch_that_holds_more_is_not_fed_to_a_graph(recorder: Recorder) -> None:
    task = WeightedWindows(n=4, p=5)
    list(train(toy_model(task, d_model=16), task, steps=5, batch_size=4))
    assert recorder.recorded == []


def test_what_a_failed_recording_left_is_no_gradient(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory may run out in the backward, when some weights have gradients that were never computed."""
    expected = trained(small())

    def fail(model: Any, loss_of: Any, batch: Batch, *, step: int) -> Recorded:
        for weight in list(model.parameters())[3:]:
            weight.grad = torch.ones_like(weight)
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(graphs, "record_gradients", fail)
    assert trained(small()) == expected


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
