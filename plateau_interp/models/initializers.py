"""How initial weights are drawn, as plain data: each of a group of parameters, in the place of the paper's draw.

A model is drawn as `plateau_interp.models.toy.toy_model` says; then the initializers of a recipe act, in order, each on
the parameters that its ``where`` means (`plateau_interp.models.parameters`). Here are the draws of whole models;
`plateau_interp.models.matrix_draws` has those of weight matrices.

A third party adds an initializer under the entry-point group ``plateau_interp.initializers``. To begin with the weights
of another run see `plateau_interp.runs.donors`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from plateau_interp.checks import check_not_negative, shown
from plateau_interp.models.base import ToyTransformer
from plateau_interp.models.matrix_draws import normal_numbers, stream_of
from plateau_interp.models.parameters import Where, check_where, fans, parameter_kind, trained_where
from plateau_interp.plugins import protocol_of
from plateau_interp.types import HookedModel

__all__ = [
    "Initializer",
    "PaperDraw",
    "PyTorchDefault",
    "Scaled",
    "check_initializers",
    "initialise_",
    "pytorch_values",
]


@protocol_of("initializers")
@runtime_checkable
class Initializer(Protocol):
    """The plain data of a draw of initial weights."""

    def initialise_(self, model: HookedModel, *, seed: int) -> None:
        """Draw parameters anew, in place, from nothing but the seed."""
        ...


def check_initializers(value: object) -> None:
    """Refuse what is no list of initializers.

    Raises:
        ValueError: with an example of one.
    """
    if not isinstance(value, list | tuple):
        raise ValueError(f"init must be a list of initializers, such as [Sparse(0.9)]; got {shown(value)}")
    for item in value:
        if isinstance(item, type) or not isinstance(item, Initializer):
            raise ValueError(f"init must hold initializers such as Sparse(0.9); got {shown(item)}")


@torch.no_grad()
def initialise_(model: HookedModel, *initializers: Initializer, seed: int = 0) -> None:
    """Let initializers draw parameters of a model anew, in order; those that are never trained stay.

    Args:
        model: changed in place.
        initializers: one after the other.
        seed: of their draws.

    Raises:
        ValueError: for what is no initializer, and a ``where`` that means no parameter it can draw.

    Example:
        >>> from plateau_interp.models import toy_model
        >>> from plateau_interp.models.matrix_draws import Sparse
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> model = toy_model(MovingWindowSum(), d_model=32)
        >>> initialise_(model, Sparse(0.9), Scaled(0.5, where="embedding tables"))
        >>> round((model.W_in == 0).double().mean().item(), 1)
        0.9
    """
    check_initializers(initializers)
    for initializer in initializers:
        initializer.initialise_(model, seed=seed)
    if isinstance(model, ToyTransformer):
        model.clear_untrained_()


@dataclass(frozen=True)
class PaperDraw:
    """The draw of the task's paper, which a toy model has anyway: this brings it back after others, bit for bit.

    Args:
        where: see `plateau_interp.models.parameters`; by default all that are trained.

    Raises:
        ValueError: when it acts, if ``where`` means no parameter that is trained, or the model is no toy model.

    Source: see `plateau_interp.models.toy.toy_model`.

    Example:
        >>> from plateau_interp.models import toy_model
        >>> from plateau_interp.models.matrix_draws import Sparse
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> one, other = (toy_model(MovingWindowSum(), d_model=32, seed=1) for _ in range(2))
        >>> initialise_(one, Sparse(0.9), PaperDraw(where="mlp"), seed=1)
        >>> torch.equal(one.W_in, other.W_in), torch.equal(one.W_O, other.W_O)
        (True, False)
    """

    where: Where = field(default="*", kw_only=True)

    name: ClassVar[str] = "paper"

    def __post_init__(self) -> None:
        check_where(self.where)

    @torch.no_grad()
    def initialise_(self, model: HookedModel, *, seed: int) -> None:
        """Draw all parameters as `toy_model` does, and keep those that are meant."""
        if not isinstance(model, ToyTransformer):
            raise ValueError(
                f"PaperDraw() draws as toy_model does; got {shown(type(model).__name__)}, which is none of its"
            )
        chosen = trained_where(model, self.where)
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in model.named_parameters():
            drawn = torch.full_like(parameter, 1.0 if parameter_kind(name) == "w" else 0.0)
            model.draw_(name, drawn, std=model.init_std, generator=generator)
            if name in chosen:
                parameter.copy_(drawn)


@dataclass(frozen=True)
class PyTorchDefault:
    """What PyTorch's own layers begin with: ``nn.Embedding``, ``nn.TransformerEncoderLayer`` and ``nn.Linear``.

    Embeddings N(0, 1). Queries, keys and values uniform up to sqrt(6 / (inputs + 3 outputs)), since PyTorch packs the
    three into one matrix, with biases 0. Output projections uniform up to 1 / sqrt(inputs), with biases 0. MLPs and the
    unembedding uniform up to 1 / sqrt(inputs), biases too. Norms have gain 1 and bias 0.

    Args:
        where: see `plateau_interp.models.parameters`; by default all that are trained.

    Raises:
        ValueError: when it acts, if ``where`` means no parameter that is trained.

    Source: "Shortening the Loss Plateau", the grokking baseline. There both layers begin with the very same weights,
    because PyTorch copies its layer, as in `plateau_interp.models.post_norm`; here each is drawn.

    Example:
        >>> from plateau_interp.models import toy_model
        >>> from plateau_interp.tasks import ModularArithmetic
        >>> model = toy_model(ModularArithmetic(), d_model=128)
        >>> initialise_(model, PyTorchDefault())
        >>> round(model.W_Q.abs().max().item(), 3), round(model.W_O.abs().max().item(), 3)
        (0.108, 0.088)
    """

    where: Where = field(default="*", kw_only=True)

    name: ClassVar[str] = "pytorch"

    def __post_init__(self) -> None:
        check_where(self.where)

    @torch.no_grad()
    def initialise_(self, model: HookedModel, *, seed: int) -> None:
        """Draw every parameter anew."""
        parameters = dict(model.named_parameters())
        for name, parameter in trained_where(model, self.where).items():
            parameter.copy_(pytorch_values(name, parameters, seed=seed))


@dataclass(frozen=True)
class Scaled:
    """The initial values that are there times a number: ``factor * w``.

    Args:
        factor: 1 changes nothing, 0 leaves nothing: ``Scaled(0.0, where="*.b_*")`` sets the biases to 0 alone.
        where: see `plateau_interp.models.parameters`; by default all that are trained, norms among them.

    Raises:
        ValueError: for a factor below 0; when it acts, if ``where`` means no parameter that is trained.

    Source: Liu et al., Omnigrok, arXiv 2210.01117 (0.8, before the norm is kept; see `plateau_interp.hooks.KeepNorm`).

    Example:
        >>> from plateau_interp.models import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> one, other = (toy_model(MovingWindowSum(), d_model=32) for _ in range(2))
        >>> initialise_(one, Scaled(0.5))
        >>> torch.equal(one.W_E, 0.5 * other.W_E)
        True
    """

    factor: float
    where: Where = field(default="*", kw_only=True)

    name: ClassVar[str] = "scaled"

    def __post_init__(self) -> None:
        check_not_negative(self, "factor")
        check_where(self.where)

    @torch.no_grad()
    def initialise_(self, model: HookedModel, *, seed: int) -> None:
        """Multiply what is there."""
        for parameter in trained_where(model, self.where).values():
            parameter.mul_(self.factor)


def pytorch_values(name: str, parameters: Mapping[str, Tensor], *, seed: int) -> Tensor:
    """What `PyTorchDefault` gives one of a model's parameters: float32 values, on the processor.

    Args:
        name: of the parameter, which is also that of its stream.
        parameters: of the model, by name, for their shapes: the bound of a bias is that of its weight.
        seed: of the draws.
    """
    parent, kind, parameter = name.rpartition(".")[0], parameter_kind(name), parameters[name]
    if kind in ("W_E", "W_pos"):
        return normal_numbers(name, parameter, seed)
    if kind in ("W_Q", "W_K", "W_V"):
        fan_in, fan_out = fans(name, parameter.shape)
        return _uniform(name, parameter, seed, bound=math.sqrt(6 / (fan_in + 3 * fan_out)))
    if kind.startswith("W_") or kind in ("b_in", "b_out", "b_U"):
        weight = name if kind.startswith("W_") else f"{parent}.{kind.replace('b_', 'W_')}"
        fan_in, _ = fans(weight, parameters[weight].shape)
        return _uniform(name, parameter, seed, bound=1 / math.sqrt(fan_in))
    return torch.full(parameter.shape, 1.0 if kind == "w" else 0.0, dtype=torch.float32)


def _uniform(name: str, like: Tensor, seed: int, *, bound: float) -> Tensor:
    drawn = torch.rand(like.shape, generator=stream_of(name, seed), dtype=torch.float32)
    return (drawn * 2 - 1) * bound
