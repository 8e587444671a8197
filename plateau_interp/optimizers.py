"""Optimisers as plain data, so that a recipe can hold them; `build` makes the live one.

A third party adds one under the entry-point group ``plateau_interp.optimizers``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.nn import Parameter

__all__ = ["SGD", "Adam", "AdamW"]


@dataclass(frozen=True)
class Adam:
    """Adam without weight decay (the paper's optimiser and settings).

    Example:
        >>> Adam(learning_rate=1e-3).build(torch.nn.Linear(1, 1).named_parameters()).defaults["lr"]
        0.001
    """

    learning_rate: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    name: ClassVar[str] = "adam"

    def __post_init__(self) -> None:
        _check(self.learning_rate, fractions={"beta1": self.beta1, "beta2": self.beta2}, sizes={"eps": self.eps})

    def build(self, parameters: Iterable[tuple[str, Parameter]]) -> torch.optim.Optimizer:
        """A `torch.optim.Adam`."""
        betas = (self.beta1, self.beta2)
        return torch.optim.Adam(parameters, lr=self.learning_rate, betas=betas, eps=self.eps, fused=True)


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay on weight matrices alone: not on biases, LayerNorm or embeddings.

    Source of the grouping: arXiv 2506.13688, authors' code (its decay value is not known; 0.1 is ours).
    """

    learning_rate: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.1

    name: ClassVar[str] = "adamw"

    def __post_init__(self) -> None:
        sizes = {"eps": self.eps, "weight_decay": self.weight_decay}
        _check(self.learning_rate, fractions={"beta1": self.beta1, "beta2": self.beta2}, sizes=sizes)

    def build(self, parameters: Iterable[tuple[str, Parameter]]) -> torch.optim.Optimizer:
        """A `torch.optim.AdamW` with two parameter groups: decayed and not."""
        decayed: list[tuple[str, Parameter]] = []
        plain: list[tuple[str, Parameter]] = []
        for name, parameter in parameters:
            kind = name.rsplit(".", 1)[-1]
            (decayed if kind.startswith("W_") and kind not in ("W_E", "W_pos") else plain).append((name, parameter))
        groups: list[dict[str, Any]] = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
        betas = (self.beta1, self.beta2)
        return torch.optim.AdamW(
            groups,
            lr=self.learning_rate,
            betas=betas,
            eps=self.eps,
            weight_decay=self.weight_decay,
            fused=True,
        )


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent, with momentum if asked."""

    learning_rate: float = 0.1
    momentum: float = 0.0

    name: ClassVar[str] = "sgd"

    def __post_init__(self) -> None:
        _check(self.learning_rate, fractions={"momentum": self.momentum}, sizes={})

    def build(self, parameters: Iterable[tuple[str, Parameter]]) -> torch.optim.Optimizer:
        """A `torch.optim.SGD`."""
        return torch.optim.SGD(parameters, lr=self.learning_rate, momentum=self.momentum, fused=True)


def _check(learning_rate: float, *, fractions: Mapping[str, float], sizes: Mapping[str, float]) -> None:
    if not 0 < learning_rate < float("inf"):
        raise ValueError(f"learning_rate must be a positive number; got {learning_rate}")
    for name, value in fractions.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} must be from 0 to below 1; got {value}")
    for name, value in sizes.items():
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name} must be at least 0; got {value}")
