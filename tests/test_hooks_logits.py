"""Temperature and StableMax: against losses and steps written by hand, their gradients, their schedules."""

import math

import pytest
import torch
import torch.nn.functional as F
from hook_cases import TASK, assert_untouched, gradients, tokens_for, toy
from torch import Tensor

from plateau_interp import advance
from plateau_interp.hooks import During, OutputTemperature, StableMax
from plateau_interp.hooks.logits import log_stable
from plateau_interp.interventions.attaching import intervening
from plateau_interp.models import toy_model
from plateau_interp.tasks import DepthTwoNet, MatrixCompletion
from plateau_interp.training.batches import training_batch
from plateau_interp.training.loop import train
from plateau_interp.training.optimizers import SGD


def stable_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """As the paper writes it: probabilities s(x_i) / sum s(x_j), one by one, their logarithm in float64."""
    losses = []
    for row, label in zip(logits.flatten(0, 1).double(), labels.flatten().tolist(), strict=True):
        if label == -100:
            continue
        s = torch.stack([x + 1 if x >= 0 else 1 / (1 - x) for x in row])
        losses.append(-torch.log(s[label] / s.sum()))
    return torch.stack(losses).mean()


def tempered_loss(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1).double() / 2.5, labels.flatten(), ignore_index=-100)


@pytest.mark.parametrize(
    ("intervention", "loss"),
    [(StableMax(), stable_loss), (OutputTemperature(2.5), tempered_loss)],
    ids=["StableMax", "OutputTemperature"],
)
def test_a_step_of_training_is_that_written_by_hand(intervention, loss):
    by_hand, model = toy(dtype=torch.float64), toy(dtype=torch.float64)
    batch = training_batch(TASK, seed=0, step=0, batch_size=8)
    expected = loss(by_hand(batch.inputs), batch.labels)
    expected.backward()
    with torch.no_grad():
        for parameter in by_hand.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    (step,) = train(model, TASK, steps=1, batch_size=8, optimizer=SGD(0.1), interventions=[intervention])
    assert step.loss == pytest.approx(expected.item(), rel=1e-12)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, dict(by_hand.named_parameters())[name], rtol=1e-9, atol=1e-12)
    assert_untouched(model)


def test_stable_max_by_number_and_its_slope():
    x = torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0], dtype=torch.float64, requires_grad=True)
    log_s = log_stable(x)
    assert log_s.exp().tolist() == pytest.approx([1 / 4, 1 / 2, 1, 2, 4])
    log_s.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == pytest.approx([1 / 4, 1 / 2, 1, 1 / 2, 1 / 4])  # s' / s; 1 at 0 from both sides
    uniform = log_stable(torch.zeros(1, 5)).softmax(dim=-1)
    assert uniform[0].tolist() == pytest.approx([0.2] * 5)


def test_stable_max_keeps_a_gradient_where_softmax_has_none_left():
    """The reason for it: in float32, a right answer with a logit of 200 has loss 0 and no gradient under softmax."""
    gradients = []
    for formula in (lambda x: x, log_stable):
        logits = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
        F.cross_entropy(formula(logits), torch.tensor([0])).backward()
        assert logits.grad is not None
        gradients.append(logits.grad.abs().max().item())
    assert gradients[0] == 0
    assert gradients[1] > 1e-5


@pytest.mark.parametrize("intervention", [StableMax(), OutputTemperature(3.0), OutputTemperature(0.2)], ids=repr)
def test_answers_stay_and_gradients_are_finite(intervention):
    model = toy()
    tokens = tokens_for(model)
    plain = model(tokens)
    with intervening(model, intervention) as (receipt,):
        assert torch.equal(model(tokens).argsort(dim=-1, stable=True), plain.argsort(dim=-1, stable=True))
        assert all(gradient.isfinite().all() for gradient in gradients(model, tokens).values())
    assert receipt.fired == 2
    assert receipt.sites == ("unembed.hook_out",)
    assert torch.equal(model(tokens), plain)


def test_a_temperature_of_1_changes_no_bit_and_a_half_of_it_is_the_mean():
    model = toy()
    tokens = tokens_for(model)
    plain = model(tokens)
    with intervening(model, OutputTemperature(1.0)):
        assert torch.equal(model(tokens), plain)
    with intervening(model, During(OutputTemperature(2.0), ramp=2)):
        advance(model, step=0)
        torch.testing.assert_close(model(tokens), 0.75 * plain)


@pytest.mark.parametrize("tau", [0.0, -1.0, math.inf, math.nan])
def test_a_temperature_is_above_0(tau):
    with pytest.raises(ValueError, match=r"^tau must be a positive number; got "):
        OutputTemperature(tau)


@pytest.mark.parametrize(
    ("task", "options"),
    [
        (MatrixCompletion(), {"architecture": "encoder"}),
        (DepthTwoNet(d=3, n=8), {}),
        (DepthTwoNet(d=3, n=8, objective="logistic"), {}),
    ],
    ids=["matrices", "regression", "two classes"],
)
@pytest.mark.parametrize("intervention", [StableMax(), OutputTemperature(2.0)], ids=lambda one: one.name)
def test_outputs_that_are_no_logits_are_refused(task, options, intervention):
    """A temperature is of a single logit, too; StableMax is of several."""
    model = toy_model(task, d_mlp=8, **options)
    if task.unit == "nats" and intervention.name == "output-temperature":
        with intervening(model, intervention):
            model(task.sample(2, generator=torch.Generator()).inputs)
        return
    with pytest.raises(ValueError, match=f"{task.name} has none"), intervening(model, intervention):
        pass


@pytest.mark.parametrize("intervention", [StableMax(), OutputTemperature(2.0)], ids=lambda one: one.name)
def test_logits_that_are_capped_afterwards_are_refused(intervention):
    model = toy()
    model.cfg.output_logits_soft_cap = 30.0
    with (
        pytest.raises(ValueError, match=r"gives 30 \* tanh\(logits / 30\): it would act before that cap"),
        intervening(model, intervention),
    ):
        pass
