"""Muon for weight matrices and Adam for the rest, as one PyTorch optimiser; each head's matrix is one of its own.

`torch.optim.Muon` takes 2-D parameters alone, and TransformerLens keeps queries, keys, values and outputs as
``[head, in, out]``. Use it through `plateau_interp.training.optimizers.Muon`, which sorts a model's parameters.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Parameter
from torch.optim.adam import adam

__all__ = ["MuonWithAdam", "NewtonSchulzDType", "orthogonalise"]

NewtonSchulzDType = Literal["bfloat16", "float32"]

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic a s + b s³ + c s⁵ that drives singular values towards 1, steep at 0 rather than exact at 1."""
EPS = 1e-7


def orthogonalise(
    matrices: Float[Tensor, "*batch rows columns"], *, iterations: int = 5, precision: NewtonSchulzDType = "bfloat16"
) -> Float[Tensor, "*batch rows columns"]:
    """Bring the singular values of each matrix close to 1 and keep its singular vectors, by Newton-Schulz iterations.

    Each matrix is divided by its Frobenius norm + 1e-7; then, ``iterations`` times,
    X <- a X + b (X Xᵀ) X + c (X Xᵀ)² X. Singular values of at least a hundredth of that norm come out between 0.68 and
    1.14, not at 1 exactly; those far below it stay small.

    Args:
        matrices: the last two axes are the matrix; those before it are a batch of independent matrices.
        iterations: of Newton-Schulz.
        precision: of the iterations; the result has the dtype of ``matrices``.

    Source: K. Jordan and others, "Muon: an optimizer for hidden layers in neural networks" (2024).

    Example:
        >>> heads = torch.randn(4, 16, 8, generator=torch.Generator().manual_seed(0))
        >>> orthogonalise(heads).shape
        torch.Size([4, 16, 8])
        >>> bool((torch.linalg.svdvals(orthogonalise(heads)) > 0.5).all())
        True
    """
    a, b, c = COEFFICIENTS
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x: Tensor = (matrices if wide else matrices.mT).to(getattr(torch, precision))  # the smaller Gram matrix of the two
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + EPS)
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x if wide else x.mT).to(matrices.dtype)


class MuonWithAdam(torch.optim.Optimizer):
    """Parameter groups of two kinds: ``"muon"`` (weights ``[..., in, out]``) and ``"adam"`` (any shape).

    For a weight with gradient g and momentum m the buffer is B <- m B + (1 - m) g, and the update
    W <- W - lr sqrt(max(1, out / in)) orthogonalise((1 - m) g + m B), which is Nesterov's momentum. The root has the
    rows over the columns of PyTorch's own orientation ``[out, in]``; TransformerLens stores the transpose, which is as
    good for the rest of it. Adam is PyTorch's. Parameters without gradient are passed over.

    Args:
        groups: dicts with ``params``, ``kind`` and ``lr``; for Muon also ``momentum``, ``iterations`` and
            ``precision``, for Adam ``betas``, ``eps`` and ``fused=True``, which keeps its state on the device.

    Example:
        >>> weight = Parameter(torch.zeros(2, 3))
        >>> group = {"kind": "muon", "lr": 0.02, "momentum": 0.95, "iterations": 5, "precision": "float32"}
        >>> optimizer = MuonWithAdam([{"params": [("W", weight)], **group}])
        >>> weight.grad = torch.ones(2, 3)
        >>> optimizer.step()
        >>> weight.shape
        torch.Size([2, 3])
    """

    def __init__(self, groups: Iterable[dict[str, Any]]) -> None:
        super().__init__(groups, defaults={})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # as torch's own
        """Update every parameter that has a gradient; returns the closure's loss, if one is given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if group["kind"] == "adam":
                self._adam(parameters, group)
                continue
            for parameter in parameters:
                self._muon(parameter, group)
        return loss

    def _muon(self, weight: Parameter, group: dict[str, Any]) -> None:
        assert weight.grad is not None
        if not self.state[weight]:
            self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
        buffer = self.state[weight]["momentum_buffer"]
        buffer.lerp_(weight.grad, 1 - group["momentum"])
        update = orthogonalise(
            weight.grad.lerp(buffer, group["momentum"]), iterations=group["iterations"], precision=group["precision"]
        )
        d_in, d_out = weight.shape[-2:]
        weight.add_(update, alpha=-group["lr"] * math.sqrt(max(1, d_out / d_in)))

    def _adam(self, parameters: list[Parameter], group: dict[str, Any]) -> None:
        if not parameters:
            return
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] = {
                    "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        states = [self.state[parameter] for parameter in parameters]
        beta1, beta2 = group["betas"]
        adam(
            list(parameters),
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=group["fused"],
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=0.0,
            eps=group["eps"],
            maximize=False,
        )
