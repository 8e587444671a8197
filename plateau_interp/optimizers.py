"""Optimisers and learning-rate schedules as plain data, so that a recipe can hold them; `build` makes the live one.

A third party adds an optimiser under the entry-point group ``plateau_interp.optimizers``.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.nn import Parameter

__all__ = ["SGD", "Adam", "AdamW", "LearningRateSchedule"]


@dataclass(frozen=True)
class LearningRateSchedule:
    """Linear warm-up of the learning rate, then constant or a cosine down to 0.

    Update t is made with each parameter group's own rate times `factor(t)`: t / warm_up before step ``warm_up``, so
    that the very first update has rate 0; then 1, or, with ``cosine_until``,
    (1 + cos(pi (t - warm_up) / (cosine_until - warm_up))) / 2, and 0 from ``cosine_until`` on. The factor follows from
    the step alone, so a run that is resumed, forked or lengthened has the rates of one that never stopped.

    Args:
        warm_up: updates before the rate is the optimiser's.
        cosine_until: the step from which the rate is 0; None keeps it constant after the warm-up.

    Raises:
        ValueError: for a negative ``warm_up``, and a ``cosine_until`` that is not after it.

    Source: arXiv 2506.13688, authors' code: ``LearningRateSchedule(200)`` and ``LearningRateSchedule(200, 400)`` over
    400 steps.

    Example:
        >>> schedule = LearningRateSchedule(warm_up=200, cosine_until=400)
        >>> [round(schedule.factor(step), 3) for step in (0, 100, 200, 300, 400)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
    """

    warm_up: int = 0
    cosine_until: int | None = None

    def __post_init__(self) -> None:
        if self.warm_up < 0:
            raise ValueError(f"warm_up must be at least 0; got {self.warm_up}")
        if self.cosine_until is not None and self.cosine_until <= self.warm_up:
            raise ValueError(f"cosine_until must be above warm_up={self.warm_up}; got {self.cosine_until}")

    @property
    def constant(self) -> bool:
        """Whether the factor is 1 at every step."""
        return self == LearningRateSchedule()

    def factor(self, step: int) -> float:
        """What the learning rate of update ``step`` is multiplied by, from 0 to 1."""
        if step < self.warm_up:
            return step / self.warm_up
        if self.cosine_until is None:
            return 1.0
        if step >= self.cosine_until:
            return 0.0
        return (1 + math.cos(math.pi * (step - self.warm_up) / (self.cosine_until - self.warm_up))) / 2

    @contextmanager
    def applied(self, optimizer: torch.optim.Optimizer, *, step: int) -> Iterator[None]:
        """Give each parameter group the rate of a step; on exit it has its own again."""
        # Put back after each update, so that no rate that was scaled is ever taken for a base rate.
        rates = [group["lr"] for group in optimizer.param_groups]
        try:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * self.factor(step)
            yield
        finally:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate


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
