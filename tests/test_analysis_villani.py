"""plateau_interp.analysis.villani: Psi by its definition, its estimate, what it leaves alone and what it refuses."""

import re

import pytest
import torch
from hook_cases import gpt_neox, local_softmax
from transformer_lens import HookedTransformer, HookedTransformerConfig

from plateau_interp.analysis.villani import probes_for, villani_diagnostic
from plateau_interp.hooks import AmplifySlowGradient, ClipGradient, CosinePenalty, ScaleGradient
from plateau_interp.interventions.attached import attached_state
from plateau_interp.interventions.attaching import attaching, intervening
from plateau_interp.models import toy_model
from plateau_interp.tasks import DepthTwoNet, MovingWindowSum


def net(task, *, n_gates=6, **options):
    return toy_model(task, d_mlp=n_gates, dtype=torch.float64, **options)


def direction_(model, *, seed, cancelling=False):
    """A direction drawn at random, as the model's weights; a cancelling one has pairs of gates that undo each other."""
    with torch.no_grad():
        inner = torch.randn(model.W_in[0, :-1].shape, generator=torch.Generator().manual_seed(seed)).double()
        if cancelling:
            inner[:, 1::2] = inner[:, ::2]
        model.blocks[0].mlp.W_in[:-1] = inner / inner.norm()


@pytest.mark.parametrize("objective", ["squared", "logistic"])
def test_both_parts_are_those_of_the_closed_form(objective):
    """Against PyTorch's whole Hessian of the closed form, at two points of the ray."""
    task = DepthTwoNet(d=3, n=12, activation="softplus", objective=objective)
    model = net(task, n_gates=4)
    points, labels, outer = task.points[:12], task.train_set.labels[:, 0], task.outer_layer(4)

    def loss(inner):
        output = torch.nn.functional.softplus(points @ inner) @ outer
        losses = (output - labels).square() / 2 if objective == "squared" else torch.log1p(torch.exp(-labels * output))
        return losses.mean() + 0.2 / 2 * inner.square().sum()

    readings = villani_diagnostic(model, task, task.train_set, step_size=0.5, penalty=0.2, radii=(1.0, 3.0))
    for reading in readings:
        inner = reading.radius * model.W_in[0, :-1].detach()
        gradient = torch.func.grad(loss)(inner)
        trace = torch.autograd.functional.hessian(loss, inner).reshape(12, 12).trace()
        assert reading.gradient_square == pytest.approx(gradient.square().sum().item(), rel=1e-10)
        # The row of the read-out's axis is trained, too, and only the penalty curves there.
        assert reading.laplacian - 4 * 0.2 == pytest.approx(trace.item(), rel=1e-10)
        assert reading.psi == pytest.approx(reading.gradient_square / 0.5 - reading.laplacian)
        assert (reading.error, reading.n_probes) == (0, 0)


@pytest.mark.parametrize("objective", ["squared", "logistic"])
@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "softplus"])
def test_far_out_the_penalty_decides(activation, objective):
    """With one Psi is about lambda² r²/s or more, in a sample of directions.

    Without one it is at most 0 in some of them or, of a net that is not bounded, stays where it is along the rays
    where gates cancel: there f is 0 at every radius.
    """
    task = DepthTwoNet(d=4, n=40, activation=activation, objective=objective)
    model, far = net(task, n_gates=8), 1e3
    options = {"step_size": 1.0, "radii": (far,)}
    penalised, free = [], []
    for seed in range(8):
        direction_(model, seed=seed)
        penalised += villani_diagnostic(model, task, task.train_set, penalty=0.01, **options)
        free += villani_diagnostic(model, task, task.train_set, **options)
    expected = 0.01**2 * far**2
    assert min(reading.psi for reading in penalised) > 0.95 * expected
    if activation != "softplus":
        assert max(reading.psi for reading in penalised) < 1.05 * expected
        assert min(reading.psi for reading in free) <= 0
    direction_(model, seed=0, cancelling=True)
    readings = villani_diagnostic(model, task, task.train_set, step_size=1.0, radii=(10.0, far, 1e6))
    assert all(abs(reading.psi) < 0.5 for reading in readings)


def test_probes_come_near_the_exact_trace():
    """Of a Transformer; within 4 standard errors."""
    task = MovingWindowSum(n=3, p=3)
    model = toy_model(task, d_model=8, attention="softmax", dtype=torch.float64)
    batch = task.sample(6, generator=torch.Generator().manual_seed(0))
    (exact,) = villani_diagnostic(model, task, batch, step_size=0.1)
    assert exact.n_probes == 0
    (estimate,) = villani_diagnostic(model, task, batch, step_size=0.1, probes=16, seed=1)
    assert estimate.n_probes == 16
    assert estimate.error > 0 == exact.error
    assert abs(estimate.laplacian - exact.laplacian) < 4 * estimate.error
    assert estimate.gradient_square == exact.gradient_square
    (again,) = villani_diagnostic(model, task, batch, step_size=0.1, probes=16, seed=1)
    (other,) = villani_diagnostic(model, task, batch, step_size=0.1, probes=16, seed=2)
    assert again == estimate != other
    (penalised,) = villani_diagnostic(model, task, batch, step_size=0.1, probes=16, seed=1, penalty=0.5)
    n_parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert penalised.laplacian == pytest.approx(estimate.laplacian + 0.5 * n_parameters)
    assert penalised.error == estimate.error


def test_it_leaves_everything_alone():
    """Neither gradients, nor random states, nor what remembers and counts gradients."""
    task = DepthTwoNet(d=3, n=8)
    model = net(task)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    state = torch.get_rng_state()
    with attaching(model, AmplifySlowGradient()) as (attached,):
        task.loss(model(task.train_set.inputs), task.train_set).backward()
        memory, gradient = (
            attached_state([attached])[next(iter(attached_state([attached])))].clone(),
            model.blocks[0].mlp.W_in.grad,
        )
        villani_diagnostic(model, task, task.train_set, step_size=0.1, probes=4)
        assert attached.receipt.fired == 1
        assert attached_state([attached]).popitem()[1].equal(memory)
    assert model.blocks[0].mlp.W_in.grad is gradient
    assert torch.get_rng_state().equal(state)
    assert all(parameter.equal(before[name]) for name, parameter in model.named_parameters())


@pytest.mark.parametrize("probes", [None, 4])
@pytest.mark.parametrize("activation", ["tanh", "softplus"])
def test_edits_of_the_gradient_at_hook_points_are_no_part_of_it(activation, probes):
    task = DepthTwoNet(d=3, n=8, activation=activation)
    model = net(task)
    point = "blocks.0.mlp.hook_post"
    asked = {"step_size": 0.1, "radii": (1.0, 2.0), "probes": probes}
    plain = villani_diagnostic(model, task, task.train_set, **asked)
    with intervening(model, ScaleGradient(3.0, at=point), ClipGradient(1e-3, at=point)) as receipts:
        task.loss(model(task.train_set.inputs), task.train_set).backward()
        assert villani_diagnostic(model, task, task.train_set, **asked) == plain
        assert [receipt.fired for receipt in receipts] == [1, 1]


def test_nor_is_a_penalty_on_states():
    task = MovingWindowSum(n=4)
    sizes = {"n_layers": 1, "n_heads": 1, "d_model": 8, "d_head": 8, "d_mlp": 8, "n_ctx": 16, "d_vocab": task.d_vocab}
    model = HookedTransformer(HookedTransformerConfig(**sizes, act_fn="gelu", device="cpu", dtype=torch.float64))
    batch = task.sample(4, generator=torch.Generator().manual_seed(0))
    plain = villani_diagnostic(model, task, batch, step_size=0.1, probes=2)
    with intervening(model, CosinePenalty(1.0)) as (receipt,):
        task.loss(model(batch.inputs), batch).backward()
        assert villani_diagnostic(model, task, batch, step_size=0.1, probes=2) == plain
        assert receipt.fired == 1


def relu_model():
    cfg = HookedTransformerConfig(
        n_layers=1, n_heads=1, d_model=8, d_head=8, d_mlp=8, n_ctx=16, d_vocab=18, act_fn="relu", device="cpu"
    )
    return HookedTransformer(cfg)


def test_relu_is_refused_and_what_has_no_activation_is_not():
    task = MovingWindowSum(n=4, p=7)
    batch = task.sample(2, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="twice differentiable everywhere; the model's is 'relu'"):
        villani_diagnostic(relu_model(), task, batch, step_size=0.1)
    for model in (gpt_neox(), local_softmax()):
        (reading,) = villani_diagnostic(model, task, batch, step_size=0.1, probes=2)
        assert reading.gradient_square > 0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"step_size": 0.0}, "step_size must be above 0; got 0.0"),
        ({"penalty": -1.0}, "penalty must be at least 0; got -1.0"),
        ({"radii": (1.0, 0.0)}, "radii must be numbers above 0; got (1.0, 0.0)"),
        ({"probes": 1}, "probes must be at least 2; got 1"),
    ],
)
def test_numbers_that_cannot_be_are_refused(options, text):
    task = DepthTwoNet(d=3, n=8)
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        villani_diagnostic(net(task), task, task.train_set, **{"step_size": 0.1, **options})


def test_without_anything_trained_there_is_nothing_to_ask():
    task = DepthTwoNet(d=3, n=8)
    model = net(task).requires_grad_(False)
    with pytest.raises(ValueError, match="nothing of the model is trained"):
        villani_diagnostic(model, task, task.train_set, step_size=0.1)
    assert probes_for(4999, None) is None


def test_signs_are_exact_where_only_the_diagonal_is_not_zero():
    """Every product of a sign with itself is 1; that of a number of another size would not be."""
    task = DepthTwoNet(d=1, n=5, activation="softplus")
    model = net(task, n_gates=1)
    (exact,) = villani_diagnostic(model, task, task.train_set, step_size=0.1)
    (estimate,) = villani_diagnostic(model, task, task.train_set, step_size=0.1, probes=8)
    assert exact.laplacian > 0
    assert estimate.laplacian == pytest.approx(exact.laplacian, rel=1e-12)
    assert estimate.error == pytest.approx(0, abs=1e-12)
