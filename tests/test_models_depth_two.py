"""plateau_interp.models.depth_two: a HookedTransformer that is ``a^T sigma(W x)``."""

import math
import re
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from plateau_interp.models import toy_model
from plateau_interp.models.initializers import PyTorchDefault
from plateau_interp.models.settings import ModelOptions
from plateau_interp.tasks import DepthTwoNet, MovingWindowSum
from plateau_interp.training.loop import train
from plateau_interp.training.optimizers import SGD
from plateau_interp.types import Batch, Defaults, Task

SIGMA = {
    "gelu": lambda z: z / 2 * (1 + torch.erf(z / math.sqrt(2))),
    "sigmoid": lambda z: 1 / (1 + torch.exp(-z)),
    "silu": lambda z: z / (1 + torch.exp(-z)),
    "softplus": lambda z: torch.log1p(torch.exp(z)),
    "tanh": lambda z: 1 - 2 / (torch.exp(2 * z) + 1),
}
W_IN = "blocks.0.mlp.W_in"


def net(task, *, n_gates=6, **options):
    return toy_model(task, d_mlp=n_gates, dtype=torch.float64, **options)


@pytest.mark.parametrize("activation", SIGMA)
def test_it_is_the_closed_form(activation):
    task = DepthTwoNet(d=5, n=20, n_validation=10, activation=activation)
    model = net(task, init_std=2.0)
    inner = model.W_in[0, :-1].T
    outer = torch.tensor([1, -1, 1, -1, 1, -1], dtype=torch.float64) / math.sqrt(6)
    expected = SIGMA[activation](task.points @ inner.T) @ outer
    tokens = torch.arange(30)[:, None]
    assert (model(tokens)[:, 0, 0] - expected).abs().max() < 1e-12
    # The residual stream of a point does as well as its token: this is how a point that has none is put in.
    resid = torch.cat([task.points, torch.zeros(30, 1)], dim=1)[:, None]
    assert (model(resid, start_at_layer=0)[:, 0, 0] - expected).abs().max() < 1e-12
    assert inner.std().item() == pytest.approx(2.0, rel=0.3)


def test_the_gradient_is_that_of_the_closed_form_and_nothing_else_is_trained():
    task = DepthTwoNet(d=4, n=8)
    model = net(task)
    task.loss(model(task.train_set.inputs), task.train_set).backward()
    inner = model.W_in[0, :-1].detach().clone().requires_grad_()
    labels = task.train_set.labels[:, 0]
    output = torch.tanh(task.points[:8] @ inner) @ task.outer_layer(6)
    ((output - labels).square().mean() / 2).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is not None] == [W_IN]
    gradient = model.blocks[0].mlp.W_in.grad
    assert (gradient[:-1] - inner.grad).abs().max() < 1e-12
    assert not gradient[-1].any()


def test_what_is_fixed_stays_while_the_rest_learns():
    task = DepthTwoNet(d=4, n=32)
    model = net(task)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    losses = [step.loss for step in train(model, task, steps=60, batch_size=32, optimizer=SGD(1.0))]
    assert losses[-1] < 0.9 * losses[0]
    changed = [name for name, parameter in model.named_parameters() if not parameter.equal(before[name])]
    assert changed == [W_IN]
    assert not model.W_in[0, -1].any()


def test_room_to_spare_changes_nothing():
    task = DepthTwoNet(d=4, n=8)
    wide = net(task, d_model=9)
    assert wide.W_in[0, :4].equal(net(task).W_in[0, :4])
    assert wide(torch.arange(8)[:, None]).allclose(net(task)(torch.arange(8)[:, None]), atol=1e-14)
    assert not wide.W_in[0, 4:].any()


def test_an_initializer_draws_what_is_trained_and_reached_alone():
    task = DepthTwoNet(d=4, n=8)
    plain, drawn = net(task), net(task, d_model=7, init=[PyTorchDefault()])
    assert drawn.W_in[0, :4].abs().max() <= 1 / math.sqrt(7)
    assert not drawn.W_in[0, :4].equal(plain.W_in[0, :4])
    assert not drawn.W_in[0, 4:].any()
    assert drawn.W_E[:, :4].equal(plain.W_E[:, :4])


def test_one_seed_one_net():
    task = DepthTwoNet(d=3)
    weights = [net(task, seed=seed).W_in for seed in (1, 1, 2)]
    assert weights[0].equal(weights[1])
    assert not weights[0].equal(weights[2])
    assert net(task, init_std=0.5, seed=1).W_in.allclose(weights[0] / 2)
    assert toy_model(task, seed=1).W_in.double().shape == (1, 4, 16)


@dataclass(frozen=True)
class TwoPoints(Task):
    """A third party's task of points: it knows nothing of ours."""

    name: ClassVar[str] = "two-points"
    lookahead, d_output, n_pos, d_vocab, answer = 0, 1, 1, 2, slice(0, 1)
    activation = "softplus"
    defaults = Defaults(architecture="depth-2", d_model=3, steps=3, batch_size=4, init_std=1.0)
    points = property(lambda self: torch.eye(2, dtype=torch.float64))

    def outer_layer(self, n_gates):
        return torch.ones(n_gates, dtype=torch.float64)

    def sample(self, n, *, generator):
        tokens = torch.randint(2, (n, 1), generator=generator)
        return Batch(tokens, tokens.double())

    def loss(self, output, batch):
        return (output[..., 0] - batch.labels).square().mean()


def test_a_task_of_a_third_party_asks_for_it():
    task = TwoPoints()
    model = toy_model(task, dtype=torch.float64)
    by_hand = torch.nn.functional.softplus(model.W_in[0, :-1]).sum(dim=1)
    assert model(torch.arange(2)[:, None]).flatten().allclose(by_hand, atol=1e-12)
    assert len(list(train(model, task))) == 3


@dataclass(frozen=True)
class Ragged(TwoPoints):
    """Its points are not as wide as its model."""

    points = property(lambda self: torch.eye(2, 3, dtype=torch.float64))


@dataclass(frozen=True)
class Single(TwoPoints):
    """It has fewer points than tokens."""

    points = property(lambda self: torch.eye(1, 2, dtype=torch.float64))


@dataclass(frozen=True)
class Kinked(TwoPoints):
    """Its activation has no second derivative."""

    activation = "relu"


@dataclass(frozen=True)
class Pair(TwoPoints):
    """It reads two points at once."""

    n_pos, answer = 2, slice(0, 2)


@pytest.mark.parametrize(
    ("task", "text"),
    [
        (MovingWindowSum(), "a depth-2 net reads points: MovingWindowSum(.*) must say its points, activation and"),
        (Ragged(), "d_model must be at least 4, an axis for each coordinate of a point and one to read out; got 3"),
        (Single(), "there must be a point for each token, d_vocab=2; got 1"),
        (Kinked(), "activation must be one of gelu, sigmoid, silu, softplus, tanh; got 'relu'"),
        (Pair(), r"a depth-2 net gives one number for one point .*; got n_pos=2, d_output=1, lookahead=0"),
    ],
    ids=lambda value: getattr(value, "name", "") or "",
)
def test_tasks_that_it_cannot_read_are_refused(task, text):
    with pytest.raises(ValueError, match=text):
        toy_model(task, architecture="depth-2", n_layers=1, n_heads=1)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"n_layers": 2}, "n_layers of a depth-2 net must be 1; got 2"),
        ({"n_heads": 2}, "n_heads of a depth-2 net must be 1; got 2"),
        ({"attention": "linear"}, "attention of a depth-2 net must be softmax; got linear"),
    ],
)
def test_sizes_that_it_has_not_are_refused(options, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        ModelOptions(architecture="depth-2", **options)
