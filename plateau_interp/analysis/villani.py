"""The Villani diagnostic ``Psi_s = |grad F|²/s - Lap F`` of a regularised loss F, at a model's weights and along a ray.

A measured quantity. What is proved of it, for one kind of net, is in `plateau_interp.analysis.depth_two`; of
Transformers nothing is proved here, and that Psi is positive at some weights says nothing of others. To have it through
training use the intervention `plateau_interp.hooks.VillaniDiagnostic`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call

from plateau_interp.checks import seed_number, shown, whole_number
from plateau_interp.interventions.derivatives import gradients_as_they_are
from plateau_interp.models.fitting import check_fits, check_task
from plateau_interp.types import Batch, HookedModel, Task, check_model

__all__ = ["VillaniReading", "check_twice_differentiable", "probes_for", "villani_diagnostic"]

EXACT_BELOW = 5000
"""With fewer parameters than this the trace is exact unless probes are asked for."""
HUTCHINSON_PROBES = 64
"""Random vectors that estimate the trace of a larger model."""
HESSIAN_ROWS = 64
"""Of the Hessian, computed at once."""
# fmt: off
TWICE_DIFFERENTIABLE = (
    "gelu", "gelu_fast", "gelu_new", "gelu_pytorch_tanh", "sigmoid", "silu", "softplus", "solu", "solu_ln", "tanh",
)
# fmt: on
"""Names of activations, as in a model's configuration."""


@dataclass(frozen=True)
class VillaniReading:
    """The two parts of Psi at one point of a ray, with the error of the second.

    Attributes:
        radius: r of the point ``r theta``.
        step_size: s.
        gradient_square: ``|grad F|²``.
        laplacian: the trace of F's Hessian, exact or estimated.
        error: the standard error of `laplacian`, and of `psi`; 0 where it is exact.
        n_probes: random vectors behind the estimate; 0 where it is exact.
    """

    radius: float
    step_size: float
    gradient_square: float
    laplacian: float
    error: float
    n_probes: int

    @property
    def psi(self) -> float:
        """``|grad F|²/s - Lap F``."""
        return self.gradient_square / self.step_size - self.laplacian


def villani_diagnostic(
    model: HookedModel,
    task: Task,
    batch: Batch,
    *,
    step_size: float,
    penalty: float = 0.0,
    radii: Sequence[float] = (1.0,),
    probes: int | None = None,
    seed: int = 0,
) -> list[VillaniReading]:
    """Psi of ``F(theta) = task.loss + penalty/2 |theta|²`` on a batch, at ``r theta`` for each radius r.

    theta is all that is trained now. The model, its gradients and random states stay as they are. What is attached acts
    on the forwards: F is the loss as training sees it. Edits of gradients, of parameters and at hook points, are no
    part of any F and do not act (`plateau_interp.interventions.derivatives`). The penalty's share of gradient and trace
    is added exactly. Use float64: a trace is a difference of large numbers.

    Cost a radius: one forward, one backward, and a product with the Hessian for each probe, or for each parameter where
    the trace is exact. A product is the arithmetic of about 3 backward passes; those of an exact trace are made many at
    once, which takes 64 times the memory of one and, of small models, a tenth of the time.

    Args:
        model: any HookedTransformer whose activation is twice differentiable.
        task: has the loss.
        batch: the fixed sequences of F.
        step_size: s, the learning rate of the SGD that is asked about.
        penalty: lambda of the regulariser; 0 for none.
        radii: of the ray through theta.
        probes: random vectors of Hutchinson's estimator ``mean of v^T H v``, entries of v ±1; None for an exact trace
            below 5,000 parameters and 64 probes from there on.
        seed: of the probes, the same ones at each radius.

    Returns:
        A reading a radius.

    Raises:
        ValueError: for an activation without two derivatives, such as relu; if nothing is trained; for a number that
            cannot be.

    Source: Villani functions as in Shi, Su and Jordan, arXiv 2004.06977, as we understand it: f is smooth, grows to
    infinity, ``exp(-2f/s)`` is integrable, and ``Psi_s -> infinity`` as ``|theta| -> infinity`` for all s. The estimate
    by Hutchinson probes: arXiv 2605.06599, a preprint, of which we know the abstract. Its theorem for Transformers is
    not presumed here: of a softmax's cross-entropy the Laplacian can grow as a power of ``|theta|`` where two logits
    tie. Measured: Psi at the radii asked for, on one batch. Not covered: any other direction or radius, the limit, and
    a loss without two derivatives, such as Huber's: it is not looked at.

    Example:
        >>> from plateau_interp import toy_model
        >>> from plateau_interp.tasks import DepthTwoNet
        >>> task = DepthTwoNet(d=3, n=20)
        >>> model = toy_model(task, d_mlp=4, dtype=torch.float64)
        >>> options = {"step_size": 1.0, "penalty": 0.01, "radii": (1.0, 1000.0)}
        >>> near, far = villani_diagnostic(model, task, task.train_set, **options)
        >>> near.psi < 0 < far.psi, far.n_probes
        (True, 0)
    """
    check_model(model)
    check_task(task)
    check_fits(model, task)
    check_twice_differentiable(model)
    for name, number, least in (("step_size", step_size, 0.0), ("penalty", penalty, -1e-300)):
        if not math.isfinite(number) or number <= least:
            expected = "above 0" if not least else "at least 0"
            raise ValueError(f"{name} must be {expected}; got {shown(number)}")
    if not radii or not all(math.isfinite(radius) and radius > 0 for radius in radii):
        raise ValueError(f"radii must be numbers above 0; got {shown(radii)}")
    seed = seed_number(seed)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not trained:
        raise ValueError("nothing of the model is trained: there is no theta")
    probes = probes_for(sum(parameter.numel() for parameter in trained.values()), probes)
    return [
        _reading(
            model, task, batch, trained, radius=radius, step_size=step_size, penalty=penalty, probes=probes, seed=seed
        )
        for radius in radii
    ]


def probes_for(n_parameters: int, probes: int | None) -> int | None:
    """How many probes estimate a trace when so many are asked for; None where it is exact.

    Raises:
        ValueError: for a single probe, which tells nothing of its error.

    Example:
        >>> probes_for(4999, None), probes_for(5000, None), probes_for(10, 8)
        (None, 64, 8)
    """
    if probes is not None:
        return whole_number("probes", probes, least=2)
    return None if n_parameters < EXACT_BELOW else HUTCHINSON_PROBES


def check_twice_differentiable(model: HookedModel) -> None:
    """Refuse a model whose activation is not known to have two derivatives everywhere.

    Asked is the name in the model's configuration. A model without MLPs has no activation to ask for.

    Raises:
        ValueError: naming the activation, and those that have.
    """
    name = model.cfg.act_fn
    if not model.cfg.attn_only and name not in TWICE_DIFFERENTIABLE:
        raise ValueError(
            f"the Hessian needs an activation that is twice differentiable everywhere; the model's is {shown(name)}, "
            f"and those known to be are {', '.join(TWICE_DIFFERENTIABLE)}"
        )


def _reading(
    model: HookedModel,
    task: Task,
    batch: Batch,
    trained: dict[str, torch.nn.Parameter],
    *,
    radius: float,
    step_size: float,
    penalty: float,
    probes: int | None,
    seed: int,
) -> VillaniReading:
    # New leaves, not the parameters: hooks on the parameters' gradients, which remember and count, hear nothing of it.
    theta = {name: (radius * parameter.detach()).requires_grad_() for name, parameter in trained.items()}
    leaves = list(theta.values())
    with torch.enable_grad(), gradients_as_they_are():
        module: torch.nn.Module = model  # type: ignore[assignment]  # `check_model` has asked
        value = task.loss(functional_call(module, theta, (batch.inputs,)), batch)
        slopes = torch.autograd.grad(value, leaves, create_graph=True, materialize_grads=True)
        square = sum(
            float((slope.detach() + penalty * leaf.detach()).double().square().sum())
            for slope, leaf in zip(slopes, leaves, strict=True)
        )
        samples = _exact_trace(slopes, leaves) if probes is None else _probed(slopes, leaves, probes, seed)
    trace = samples.sum() if probes is None else samples.mean()
    error = 0.0 if probes is None else float(samples.std() / math.sqrt(probes))
    laplacian = float(trace) + penalty * sum(leaf.numel() for leaf in leaves)
    return VillaniReading(radius, step_size, square, laplacian, error, probes or 0)


def _exact_trace(slopes: Sequence[Tensor], leaves: Sequence[Tensor]) -> Float[Tensor, " parameter"]:
    """The diagonal of the Hessian, some rows at a time."""
    diagonals = [torch.zeros(1, dtype=torch.float64)]
    for slope, leaf in zip(slopes, leaves, strict=True):
        if not slope.requires_grad:  # the loss is linear in it
            continue
        for entries in torch.split(torch.arange(leaf.numel(), device=leaf.device), HESSIAN_ROWS):
            units = torch.zeros(len(entries), leaf.numel(), dtype=leaf.dtype, device=leaf.device)
            units.scatter_(1, rearrange(entries, "row -> row 1"), 1.0)
            (rows,) = torch.autograd.grad(
                slope,
                [leaf],
                units.reshape(len(entries), *leaf.shape),
                retain_graph=True,
                materialize_grads=True,
                is_grads_batched=True,
            )
            diagonals.append((rows.reshape(len(entries), -1) * units).sum(dim=1).double().cpu())
    return torch.cat(diagonals)


def _probed(slopes: Sequence[Tensor], leaves: Sequence[Tensor], probes: int, seed: int) -> Float[Tensor, " probe"]:
    """``v^T H v`` of random v."""
    generator = torch.Generator().manual_seed(seed)
    curved = [slope.requires_grad for slope in slopes]
    outputs = [slope for slope, is_curved in zip(slopes, curved, strict=True) if is_curved]
    samples = []
    for _ in range(probes):
        signs = [torch.randint(2, leaf.shape, generator=generator).to(leaf) * 2 - 1 for leaf in leaves]
        if not outputs:
            samples.append(torch.zeros((), dtype=torch.float64))
            continue
        given = [sign for sign, is_curved in zip(signs, curved, strict=True) if is_curved]
        products = torch.autograd.grad(outputs, leaves, given, retain_graph=True, materialize_grads=True)
        samples.append(
            torch.stack([(product * sign).double().sum() for product, sign in zip(products, signs, strict=True)]).sum()
        )
    return torch.stack(samples)
