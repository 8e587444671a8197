"""plateau_interp.analysis.depth_two: every proved bound against what is measured, and the constants of the sheet."""

import math

import pytest
import torch

from plateau_interp.activations import SMOOTH_ACTIVATIONS
from plateau_interp.analysis.depth_two import depth_two_bounds
from plateau_interp.analysis.villani import villani_diagnostic
from plateau_interp.models import toy_model
from plateau_interp.tasks import DepthTwoNet

N_GATES = 5
each_objective = pytest.mark.parametrize("objective", ["squared", "logistic"])
each_activation = pytest.mark.parametrize("activation", SMOOTH_ACTIVATIONS)


def bounds_of(task, *, n_gates=N_GATES):
    points, labels = task.points[: task.n], task.train_set.labels[:, 0]
    outer = task.outer_layer(n_gates)
    return depth_two_bounds(task.activation, task.objective, outer=outer, points=points, labels=labels)


def net(task, *, n_gates=N_GATES, **options):
    return toy_model(task, d_mlp=n_gates, dtype=torch.float64, **options)


@each_objective
@each_activation
def test_the_bounds_of_psi_hold_at_every_radius(activation, objective):
    """A proof needs no test; its writing down does."""
    task = DepthTwoNet(d=3, n=20, activation=activation, objective=objective)
    bounds, penalty = bounds_of(task), 0.05
    for seed in range(3):
        model = net(task, seed=seed)
        norm = model.W_in.norm().item()
        # The row of the read-out's axis adds its share of the penalty to the trace, which the bounds know nothing of.
        spare = penalty * N_GATES
        radii = (0.1, 1.0, 10.0, 1000.0)
        for reading in villani_diagnostic(model, task, task.train_set, step_size=0.5, penalty=penalty, radii=radii):
            size = norm * reading.radius
            assert reading.gradient_square >= bounds.gradient_square_least(size, penalty=penalty)
            assert reading.laplacian - spare <= bounds.laplacian_most(size, penalty=penalty)
            assert reading.psi + spare >= bounds.psi_least(size, step_size=0.5, penalty=penalty)
    assert bounds.psi_least(1e6, step_size=0.5, penalty=penalty) == pytest.approx(penalty**2 * 1e12 / 0.5, rel=1e-2)


@each_objective
@each_activation
def test_the_drift_bound_holds(activation, objective):
    task = DepthTwoNet(d=3, n=20, activation=activation, objective=objective)
    bounds = bounds_of(task)
    for std in (0.1, 1.0, 10.0, 100.0):
        model = net(task, init_std=std)
        task.loss(model(task.train_set.inputs), task.train_set).backward()
        weights = model.blocks[0].mlp.W_in
        assert (weights.grad * weights).sum().item() >= -bounds.drift


@each_objective
@each_activation
def test_the_hessian_is_no_larger_than_the_smoothness(activation, objective):
    task = DepthTwoNet(d=3, n=20, activation=activation, objective=objective)
    bounds = bounds_of(task)
    points, labels, outer = task.points[:20], task.train_set.labels[:, 0], task.outer_layer(N_GATES)

    def loss(inner):
        output = SMOOTH_ACTIVATIONS[activation](points @ inner) @ outer
        if objective == "squared":
            return (output - labels).square().mean() / 2
        return torch.nn.functional.softplus(-labels * output).mean()

    most = bounds.smoothness(penalty=0.0)
    for std in (0.3, 1.0, 3.0):
        inner = net(task, init_std=std).W_in[0, :-1].detach()
        hessian = torch.autograd.functional.hessian(loss, inner).reshape(3 * N_GATES, 3 * N_GATES)
        assert torch.linalg.eigvalsh(hessian).abs().max().item() <= most
    is_unknown = objective == "squared" and activation not in ("sigmoid", "tanh")
    assert math.isinf(most) == is_unknown
    assert bounds.safe_step(penalty=0.0) == (0 if is_unknown else pytest.approx(1 / most))


def test_the_smoothness_does_not_depend_on_the_width():
    bounds = [bounds_of(DepthTwoNet(activation="tanh"), n_gates=n_gates) for n_gates in (4, 64)]
    assert bounds[0].smoothness(penalty=0.1) == pytest.approx(bounds[1].smoothness(penalty=0.1), rel=0.3)
    logistic = [bounds_of(DepthTwoNet(objective="logistic"), n_gates=n_gates) for n_gates in (4, 10_000)]
    assert logistic[1].smoothness(penalty=0.0) == pytest.approx(1 / 4, abs=0.01)
    assert logistic[0].smoothness(penalty=0.0) == pytest.approx(1 / 4 + 4 / (3 * math.sqrt(3)) / 2)


@pytest.mark.parametrize(("activation", "threshold"), [("sigmoid", 0.125), ("tanh", 2.0), ("softplus", 2.0)])
def test_the_threshold_as_it_is_recollected(activation, threshold):
    assert bounds_of(DepthTwoNet(activation=activation)).recollected_threshold == pytest.approx(threshold)
    assert bounds_of(DepthTwoNet(activation=activation, objective="logistic")).recollected_threshold is None


def test_the_largest_of_the_logistic():
    margin = torch.linspace(0, 5, 500_001).double()
    bounds = bounds_of(DepthTwoNet(objective="logistic"))
    assert bounds.drift - math.sqrt(N_GATES) == pytest.approx((margin / (1 + margin.exp())).max().item(), abs=1e-10)


STARTS = (0.1, 1.0, 3.0)
"""Deviations of the initial weights: near 0, usual, and far out."""


def spread(losses):
    return max(losses) - min(losses)


def losses_of_starts(task, *, penalty, n_gates, learning_rate, steps, batch_size):
    """The regularised losses of three starts, trained in a loop of PyTorch's alone, whose decay is the penalty."""
    tokens, labels = task.train_set.tokens, task.train_set.labels[:, 0]
    found = []
    for std in STARTS:
        model = net(task, n_gates=n_gates, init_std=std)
        weights = model.blocks[0].mlp.W_in
        optimizer = torch.optim.SGD([weights], lr=learning_rate, weight_decay=penalty)
        generator = torch.Generator().manual_seed(0)
        for _ in range(steps):
            rows = torch.randperm(task.n, generator=generator)[:batch_size]
            optimizer.zero_grad()
            ((model(tokens[rows])[:, 0, 0] - labels[rows]).square().mean() / 2).backward()
            optimizer.step()
        with torch.no_grad():
            loss = task.loss(model(tokens), task.train_set)
            found.append(loss.item() + penalty / 2 * weights.square().sum().item())
    return found


@pytest.mark.parametrize("penalty", [0.02, 0.0])
def test_three_starts_come_to_one_loss_if_there_is_a_penalty(penalty):
    """In small, with whole gradients; with the sizes of our own check below."""
    task = DepthTwoNet(d=3, n=40)
    losses = losses_of_starts(task, penalty=penalty, n_gates=8, learning_rate=3.0, steps=100, batch_size=40)
    assert spread(losses) < 1e-3 if penalty else spread(losses) > 1e-2


@pytest.mark.slow  # six runs of 6,000 steps
def test_three_starts_in_full():
    """Values of runs, not of a proof."""
    task = DepthTwoNet()
    options = {"n_gates": 32, "learning_rate": 0.1, "steps": 6000, "batch_size": 16}
    met = losses_of_starts(task, penalty=0.01, **options)
    assert spread(met) < 1e-3
    assert max(met) < 0.5 * task.constant_loss
    assert spread(losses_of_starts(task, penalty=0.0, **options)) > 1e-2


BY_HAND = {"sigmoid": (1 / 2, 1 / 4, 1 / (6 * math.sqrt(3)), 3.0), "softplus": (math.log(2), 1.0, 1 / 4, math.inf)}
"""Of an activation: its value at 0, its largest slope and curvature, and the net's largest output by its own bound."""


@pytest.mark.parametrize("norm", [0.5, 100.0])
@pytest.mark.parametrize("activation", BY_HAND)
def test_the_bound_of_the_laplacian_by_hand(activation, norm):
    """With a = (1, 2), and one point (0, 2) labelled 5; the output of a bounded activation is bounded in two ways."""
    points, labels = torch.tensor([[0.0, 2.0]]), torch.tensor([5.0])
    bounds = depth_two_bounds(activation, "squared", outer=torch.tensor([1.0, 2.0]), points=points, labels=labels)
    at_zero, slope, curvature, most = BY_HAND[activation]
    output = min(most, 3 * at_zero + slope * math.sqrt(5) * 2 * norm)
    by_hand = 4 * (5 * slope**2 + (5 + output) * 3 * curvature) + 0.1 * 2 * 2
    assert bounds.laplacian_most(norm, penalty=0.1) == pytest.approx(by_hand, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("norm", {"norm": 0.0, "step_size": 0.1, "penalty": 0.1}),
        ("norm", {"norm": math.inf, "step_size": 0.1, "penalty": 0.1}),
        ("step_size", {"norm": 1.0, "step_size": 0.0, "penalty": 0.1}),
        ("penalty", {"norm": 1.0, "step_size": 0.1, "penalty": -0.1}),
    ],
)
def test_numbers_that_cannot_be_are_refused(name, numbers):
    bounds = bounds_of(DepthTwoNet(d=3, n=5))
    with pytest.raises(ValueError, match=f"^{name} must be a finite number (above|from) 0; got"):
        bounds.psi_least(numbers.pop("norm"), **numbers)


def test_bounds_of_nothing_are_refused():
    given = {"points": torch.zeros(0, 2), "labels": torch.zeros(0)}
    with pytest.raises(ValueError, match="there must be points, and a label of each; got 0 and 0"):
        depth_two_bounds("tanh", "squared", outer=torch.ones(3), **given)
    with pytest.raises(ValueError, match="outer must have an entry other than 0"):
        depth_two_bounds("softplus", "squared", outer=torch.zeros(3), points=torch.ones(1, 2), labels=torch.ones(1))
