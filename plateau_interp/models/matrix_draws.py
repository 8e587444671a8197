"""Draws of weight matrices one by one: dense, sparse, small, of low rank, as "Shortening the Loss Plateau" has them.

They are `plateau_interp.models.initializers.Initializer`s. Tensors have streams of their own: the same seed gives a
tensor the same normal numbers whatever else is drawn, so that `Sparse`, `Small` and `Dense` of one seed differ in mask
and scale alone. The global random state is not touched.
"""

import hashlib
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from einops import rearrange
from torch import Tensor

from plateau_interp.checks import check_fraction, check_positive, shown
from plateau_interp.models.parameters import Where, check_where, fans, parameter_kind, row_axes, trained_where
from plateau_interp.types import HookedModel

__all__ = ["Dense", "LowRank", "Small", "Sparse", "normal_numbers", "stream_of"]


@dataclass(frozen=True)
class _Drawn(ABC):
    """Weight matrices drawn one by one, with the biases of what is meant set to 0; gains of norms stay."""

    where: Where = field(default="linear layers", kw_only=True)

    def __post_init__(self) -> None:
        check_where(self.where)

    @torch.no_grad()
    def initialise_(self, model: HookedModel, *, seed: int) -> None:
        """Draw the weight matrices anew, and set the biases to 0."""
        chosen = trained_where(model, self.where)
        weights = [name for name in chosen if parameter_kind(name).startswith("W_")]
        if not weights:
            raise ValueError(
                f"{shown(self.where)} means no weight matrix that is trained; it means {', '.join(chosen)}"
            )
        for name, parameter in chosen.items():
            if name in weights:
                parameter.copy_(self.draw(name, parameter, seed=seed))
            elif parameter_kind(name).startswith("b_"):
                parameter.zero_()

    @abstractmethod
    def draw(self, name: str, weight: Tensor, *, seed: int) -> Tensor:
        """The formula: float32 values in the shape of a weight, on the processor."""


@dataclass(frozen=True)
class Dense(_Drawn):
    """Xavier's normal draw, N(0, s²) with s = sqrt(2 / (inputs + outputs)); biases are 0.

    The control of `Sparse`, `Small` and `LowRank`, which differ from it in mask, scale and rank alone.

    Args:
        where: see `plateau_interp.models.parameters`; by default the layers that the source draws: output projections,
            both layers of each MLP, the unembedding. Embeddings, queries, keys, values and norms stay as they are.

    Raises:
        ValueError: when it acts, if ``where`` means no weight matrix that is trained.

    Example:
        >>> round(Dense().draw("unembed.W_U", torch.empty(128, 99), seed=1).std().item(), 3)
        0.094
    """

    name: ClassVar[str] = "dense"

    def draw(self, name: str, weight: Tensor, *, seed: int) -> Tensor:
        """``s n`` with standard normal numbers n."""
        return _xavier(name, weight) * normal_numbers(name, weight, seed)


@dataclass(frozen=True)
class Sparse(_Drawn):
    """Most initial weights 0, the others larger: m s n / sqrt(1 - sparsity), with m 0 in a share of ``sparsity``.

    n is standard normal, s as of `Dense`, and m Bernoulli of 1 - sparsity: the variance s² is kept, so the weights are
    not small. The mask is of the beginning alone: all weights train. Biases are 0.

    Args:
        sparsity: share of the weights that are 0, from 0 to below 1.
        where: as of `Dense`.

    Raises:
        ValueError: for a share that cannot be; when it acts, if ``where`` means no weight matrix that is trained.

    Source: "Shortening the Loss Plateau", an earlier version of its code, ``sparse(0.9)``.

    Example:
        >>> round((Sparse(0.9).draw("unembed.W_U", torch.empty(128, 99), seed=0) == 0).double().mean().item(), 2)
        0.9
    """

    sparsity: float = 0.9

    name: ClassVar[str] = "sparse"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fraction(self, "sparsity")

    def draw(self, name: str, weight: Tensor, *, seed: int) -> Tensor:
        """``m s n / sqrt(1 - sparsity)``."""
        kept = torch.rand(weight.shape, generator=stream_of(f"{name} mask", seed), dtype=torch.float32) >= self.sparsity
        return kept * normal_numbers(name, weight, seed) * (_xavier(name, weight) / math.sqrt(1 - self.sparsity))


@dataclass(frozen=True)
class Small(_Drawn):
    """Xavier's normal draw times a small number: N(0, (scale s)²), s as of `Dense`; biases are 0.

    Args:
        scale: what the weights of `Dense` are multiplied by.
        where: as of `Dense`.

    Raises:
        ValueError: for a scale that is not positive; when it acts, if ``where`` means no weight matrix that is trained.

    Source: "Shortening the Loss Plateau", an earlier version of its code, ``small(0.01)``; its page says "uniform".

    Example:
        >>> f'{Small(0.01).draw("unembed.W_U", torch.empty(128, 99), seed=1).std().item():.1e}'
        '9.4e-04'
    """

    scale: float = 0.01

    name: ClassVar[str] = "small"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "scale")

    def draw(self, name: str, weight: Tensor, *, seed: int) -> Tensor:
        """``scale s n``."""
        return (self.scale * _xavier(name, weight)) * normal_numbers(name, weight, seed)


@dataclass(frozen=True)
class LowRank(_Drawn):
    """A product of two thin matrices, U Vᵀ, of a share of the full rank; biases are 0.

    The entries of both are N(0, s²), s as of `Dense`, so an entry of the product has variance rank * s⁴, which is not
    that of `Dense`. The heads of an output projection are one matrix, and so are those of queries, keys or values.

    Args:
        share: of the smaller side, rounded down, at least 1: the rank.
        where: as of `Dense`.

    Raises:
        ValueError: for a share not above 0 and up to 1; when it acts, if ``where`` means no weight matrix that is
            trained.

    Source: "Shortening the Loss Plateau", an earlier version of its code, ``low_rank(0.5)``; it shows no result.

    Example:
        >>> int(torch.linalg.matrix_rank(LowRank(0.5).draw("unembed.W_U", torch.empty(64, 20), seed=0)))
        10
    """

    share: float = 0.5

    name: ClassVar[str] = "low-rank"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "share")
        if self.share > 1:
            raise ValueError(f"share must be above 0 and at most 1; got {shown(self.share)}")

    def draw(self, name: str, weight: Tensor, *, seed: int) -> Tensor:
        """``U Vᵀ``."""
        fan_in, fan_out = fans(name, weight.shape)
        rank = max(1, math.floor(self.share * min(fan_in, fan_out)))
        deviation = _xavier(name, weight)
        left, right = (
            deviation * torch.randn(side, rank, generator=stream_of(f"{name} {which}", seed), dtype=torch.float32)
            for which, side in (("inputs", fan_in), ("outputs", fan_out))
        )
        return _from_matrix(left @ right.mT, name, weight)


def normal_numbers(name: str, like: Tensor, seed: int) -> Tensor:
    """Standard normal numbers for a parameter, in its shape, on the processor; the same whenever somebody asks."""
    return torch.randn(like.shape, generator=stream_of(name, seed), dtype=torch.float32)


def stream_of(what: str, seed: int) -> torch.Generator:
    """A generator of initial values for one purpose; different purposes share nothing."""
    digest = hashlib.blake2b(f"{seed}/initial/{what}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def _xavier(name: str, weight: Tensor) -> float:
    return math.sqrt(2 / sum(fans(name, weight.shape)))


def _from_matrix(matrix: Tensor, name: str, weight: Tensor) -> Tensor:
    """A matrix ``[in, out]`` in the shape that TransformerLens keeps the weight in."""
    axes = row_axes(name)
    if axes == (0, 1):
        return rearrange(matrix, "(head d_head) d_model -> head d_head d_model", head=weight.shape[0])
    if weight.ndim == 3:
        return rearrange(matrix, "d_model (head d_head) -> head d_model d_head", head=weight.shape[0])
    return matrix if axes == (0,) else matrix.mT
