"""Optimisers and learning-rate schedules as plain data, so that a recipe can hold them; `build` makes the live one.

A third party adds an optimiser under the entry-point group ``plateau_interp.optimizers``.
"""

import inspect
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch.nn import Parameter

from plateau_interp.checks import check_fraction, check_not_negative, check_positive, check_whole, one_of
from plateau_interp.training.muon import MuonWithAdam, NewtonSchulzDType

__all__ = ["SGD", "Adam", "AdamW", "LearningRateSchedule", "Muon", "check_takes_no_closure"]


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
        check_whole(self, "warm_up")
        if self.cosine_until is not None:
            check_whole(self, "cosine_until")
            if self.cosine_until <= self.warm_up:
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
        """Give each parameter group the rate of a step; on exit it has its own again. A constant schedule does nothing.

        Raises:
            ValueError: for an optimiser without rates, or that has changed them itself while the context was open: what
                it made of a scaled rate is nothing that could be put back.
        """
        if self.constant:
            yield
            return
        kind, groups = type(optimizer).__name__, list(optimizer.param_groups)
        if any("lr" not in group for group in groups):
            raise ValueError(f"{kind} has a parameter group without a learning rate (lr), which a schedule would scale")
        # Put back after each update, so that no rate that was scaled is ever taken for a base rate.
        rates = [group["lr"] for group in groups]
        given = [rate * self.factor(step) for rate in rates]
        try:
            for group, rate in zip(groups, given, strict=True):
                group["lr"] = rate.clone() if isinstance(rate, torch.Tensor) else rate  # that may be changed in place
            yield
            now = [group.get("lr") for group in optimizer.param_groups]
            if now != given:
                raise ValueError(
                    f"{kind} changes its learning rate (lr) itself, and the schedule scales it, too: keep the schedule "
                    "constant, or take an optimiser that leaves lr alone"
                )
        finally:
            for group, rate in zip(groups, rates, strict=True):
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
        check_positive(self, "learning_rate")
        check_fraction(self, "beta1", "beta2")
        check_not_negative(self, "eps")

    def build(self, parameters: Iterable[tuple[str, Parameter]]) -> torch.optim.Optimizer:
        """A `torch.optim.Adam`."""
        betas = (self.beta1, self.beta2)
        return torch.optim.Adam(parameters, lr=self.learning_rate, betas=betas, eps=self.eps, fused=True)


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay on weight matrices alone: not on biases, LayerNorm or embeddings.

    Args:
        learning_rate: of Adam, as are the next three.
        beta1: decay of the mean.
        beta2: decay of the squares.
        eps: what keeps the denominator from 0.
        weight_decay: share of a weight, times the learning rate, that each update takes away.
        decays: "all" has it on every parameter, as a `torch.optim.AdamW` without groups.

    Raises:
        ValueError: for a number that cannot be.

    Source of the grouping: arXiv 2506.13688, authors' code (its decay value is not known; 0.1 is ours). All decay in
    "Shortening the Loss Plateau", part 2.
    """

    learning_rate: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.1
    decays: Literal["matrices", "all"] = "matrices"

    name: ClassVar[str] = "adamw"

    def __post_init__(self) -> None:
        check_positive(self, "learning_rate")
        check_fraction(self, "beta1", "beta2")
        check_not_negative(self, "eps", "weight_decay")
        one_of(Literal["matrices", "all"], decays=self.decays)

    def build(self, parameters: Iterable[tuple[str, Parameter]]) -> torch.optim.Optimizer:
        """A `torch.optim.AdamW` with two parameter groups, decayed and not; with one if all decay."""
        decayed: list[tuple[str, Parameter]] = []
        plain: list[tuple[str, Parameter]] = []
        for name, parameter in parameters:
            kind = name.rsplit(".", 1)[-1].lstrip("_")  # with fewer key-value heads: _W_K
            is_matrix = kind.startswith("W_") and kind not in ("W_E", "W_pos")
            (decayed if is_matrix or self.decays == "all" else plain).append((name, parameter))
        groups: list[dict[str, Any]] = [{"params": decayed}]
        if self.decays == "matrices":
            groups.append({"params": plain, "weight_decay": 0.0})
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
        check_positive(self, "learning_rate")
        check_fraction(self, "momentum")

    def build(self, parameters: Iterable[tuple[str, Parameter]]) -> torch.optim.Optimizer:
        """A `torch.optim.SGD`."""
        optimizer = torch.optim.SGD(parameters, lr=self.learning_rate, momentum=self.momentum, fused=True)
        optimizer.register_step_pre_hook(_complete_momenta)
        return optimizer


@dataclass(frozen=True)
class Muon:
    """Muon for the weight matrices of the blocks, one head at a time, and Adam for everything else.

    The matrices are ``W_Q``, ``W_K``, ``W_V``, ``W_O``, ``W_in``, ``W_out`` (and ``W_gate``) of every block; see
    `plateau_interp.training.muon.MuonWithAdam` for their update. Biases, LayerNorms, embeddings and the unembedding are
    Adam's. With one head this is the authors' optimiser; with more, each head's matrix is orthogonalised by itself, and
    ``out`` and ``in`` in the factor sqrt(max(1, out / in)) are those of one head.

    Args:
        learning_rate: of Muon.
        momentum: of Muon.
        iterations: of Newton-Schulz.
        precision: of Newton-Schulz; "bfloat16" is the published one, "float32" more exact.
        adam_learning_rate: of Adam, as are the next three.
        beta1: decay of the mean.
        beta2: decay of the squares.
        eps: what keeps the denominator from 0.
        final_norm: "untrained" leaves the LayerNorm before the unembedding as it was initialised: the authors have it
            in no parameter group, which we take for an oversight.

    Raises:
        ValueError: for a number that cannot be.

    Source: arXiv 2506.13688, authors' code (their model is also initialised with larger weights by a file that was not
    published).

    Example:
        >>> from plateau_interp.models import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> model = toy_model(MovingWindowSum(n=4), d_model=16)
        >>> [group["lr"] for group in Muon().build(model.named_parameters()).param_groups]
        [0.02, 0.0001]
    """

    learning_rate: float = 0.02
    momentum: float = 0.95
    iterations: int = 5
    precision: NewtonSchulzDType = "bfloat16"
    adam_learning_rate: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-10
    final_norm: Literal["trained", "untrained"] = "trained"

    name: ClassVar[str] = "muon"

    def __post_init__(self) -> None:
        check_positive(self, "learning_rate", "adam_learning_rate")
        check_fraction(self, "momentum", "beta1", "beta2")
        check_not_negative(self, "eps")
        check_whole(self, "iterations", least=1)
        one_of(NewtonSchulzDType, precision=self.precision)
        one_of(Literal["trained", "untrained"], final_norm=self.final_norm)

    def build(self, parameters: Iterable[tuple[str, Parameter]]) -> torch.optim.Optimizer:
        """A `plateau_interp.training.muon.MuonWithAdam`.

        Raises:
            ValueError: if none of the parameters is a weight matrix of a block.
        """
        sorted_: dict[str, list[tuple[str, Parameter]]] = {"matrices": [], "others": [], "untrained": []}
        for name, parameter in parameters:
            if _is_block_matrix(name):
                kind = "matrices"
            else:
                kind = "untrained" if self.final_norm == "untrained" and name.startswith("ln_final.") else "others"
            sorted_[kind].append((name, parameter))
        if not sorted_["matrices"]:
            raise ValueError("Muon is for the weight matrices of a model's blocks (blocks.*.W_*), and there is none")
        muon = {"kind": "muon", "momentum": self.momentum, "iterations": self.iterations, "precision": self.precision}
        adam = {"kind": "adam", "betas": (self.beta1, self.beta2), "eps": self.eps, "fused": True}
        groups: list[dict[str, Any]] = [
            {"params": sorted_["matrices"], "lr": self.learning_rate, **muon},
            {"params": sorted_["others"], "lr": self.adam_learning_rate, **adam},
        ]
        if sorted_["untrained"]:
            # Rate 0 rather than no group: its gradients are cleared like all others.
            groups.append({"params": sorted_["untrained"], "lr": 0.0, **adam})
        return MuonWithAdam(groups)


def check_takes_no_closure(optimizer: torch.optim.Optimizer) -> None:
    """Refuse an optimiser that would evaluate the loss itself, as LBFGS does.

    Raises:
        ValueError: naming what its ``step()`` asks for.

    Example:
        >>> check_takes_no_closure(torch.optim.LBFGS([Parameter(torch.ones(2))]))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: LBFGS asks for closure at each step(): training makes one loss and gradient an update, and gives ...
    """
    parameters = inspect.signature(optimizer.step).parameters.values()
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    asked = [each.name for each in parameters if each.default is each.empty and each.kind not in variadic]
    if asked:
        raise ValueError(
            f"{type(optimizer).__name__} asks for {', '.join(asked)} at each step(): training makes one loss and "
            "gradient an update, and gives the optimiser nothing more; take one whose step() asks for nothing"
        )


def _complete_momenta(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Give what has no momentum yet, beside others that have, one of 0: from there the update is that of a first step.

    PyTorch's fused update takes all or none. Some are missing where a weight was frozen at first, or the momenta of
    others were taken from another run.
    """
    for group in optimizer.param_groups:
        states = [(each, optimizer.state[each]) for each in group["params"] if each.grad is not None]
        if any("momentum_buffer" in state for _, state in states):
            for parameter, state in states:
                if state.get("momentum_buffer") is None:
                    state["momentum_buffer"] = torch.zeros_like(parameter)


def _is_block_matrix(name: str) -> bool:
    # By name, because the biases of heads are 2-D too; shared keys and values are called _W_K and _W_V.
    return name.startswith("blocks.") and name.rsplit(".", 1)[-1].lstrip("_").startswith("W_")
