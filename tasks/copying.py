"""Tasks that only move tokens: copy, reverse, and repeat-k, which copies one token many times."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from plateau_interp.checks import whole_number
from plateau_interp.tasks._layouts import Residues, Scored, Separated, at_least
from plateau_interp.types import Batch, Defaults

__all__ = ["Copy", "Repeat", "Reverse"]


@dataclass(frozen=True)
class _Permuted(Separated):
    """``x_1 … x_n SEP y_1 … y_n`` where each answer is one input, whatever the inputs are."""

    n: int = 16
    high: int = 16
    scored: Scored = "sequence"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, high=self.high)

    @property
    def separator(self) -> int:
        """The separator's token id: 0, which no number uses."""
        return 0

    @property
    def d_vocab(self) -> int:
        """Separator and numbers."""
        return self.high + 1

    def _inputs(self, n: int, generator: torch.Generator) -> Int[Tensor, "batch input"]:
        return torch.randint(1, self.high + 1, (n, self.n), generator=generator, device=generator.device)

    @property
    def _prompt_entropy(self) -> float:
        return (self.n - 1) * math.log(self.high)

    def solve(self, numbers: Int[Tensor, "batch input"]) -> Int[Tensor, "batch input"]:
        """The answers to given inputs."""
        return numbers[:, self._sources(numbers.device)]

    def optimal_attention(self, batch: Batch) -> list[Bool[Tensor, "1 query key"] | None]:
        """Each row reads the input it copies."""
        keys = torch.arange(self.n, device=batch.tokens.device)
        return [self._map((keys == self._sources(batch.tokens.device)[:, None])[None])]

    def _sources(self, device: torch.device) -> Int[Tensor, " row"]:
        """Index of the input that each row copies."""
        return torch.arange(self.n, device=device)


@dataclass(frozen=True)
class Copy(_Permuted):
    """The inputs again.

    ``x_1 … x_n SEP x_1 … x_n`` with ``x_i`` uniform in ``1..high``; the separator is the id 0. What a model on the
    plateau knows, and so the plateau's level, is not published.

    Args:
        n: inputs, and answers.
        high: largest input; the smallest is 1.
        scored: whether the loss counts the whole ``"sequence"`` or the ``"answer"`` alone.

    Raises:
        ValueError: if a size cannot be; the message names the argument and the bound.

    Source: arXiv 2506.13688, copy; layout and defaults of the authors' code.

    Example:
        >>> Copy(n=3).solve(torch.tensor([[5, 1, 2]]))
        tensor([[5, 1, 2]])
    """

    name: ClassVar[str] = "copy"
    defaults: ClassVar[Defaults] = Defaults(steps=100)


@dataclass(frozen=True)
class Reverse(_Permuted):
    """The inputs from last to first.

    ``x_1 … x_n SEP x_n … x_1`` with ``x_i`` uniform in ``1..high``; the separator is the id 0. What a model on the
    plateau knows, and so the plateau's level, is not published.

    Args:
        n: inputs, and answers.
        high: largest input; the smallest is 1.
        scored: whether the loss counts the whole ``"sequence"`` or the ``"answer"`` alone.

    Raises:
        ValueError: if a size cannot be; the message names the argument and the bound.

    Source: arXiv 2506.13688, reverse; layout and defaults of the authors' code.

    Example:
        >>> Reverse(n=3).solve(torch.tensor([[5, 1, 2]]))
        tensor([[2, 1, 5]])
    """

    name: ClassVar[str] = "reverse"
    defaults: ClassVar[Defaults] = Defaults(steps=100)

    def _sources(self, device: torch.device) -> Int[Tensor, " row"]:
        return torch.arange(self.n - 1, -1, -1, device=device)


@dataclass(frozen=True)
class Repeat(Residues):
    """One input n times, one more (modulo p) in each of k blocks.

    ``x_1 … x_n SEP y_1 … y_n`` with ``x_i`` uniform in ``low..high``; block b of the answer is ``n / k`` times
    ``(x_source + b) mod p``, ``b = 0 … k - 1``. The separator is the id ``max(p, high + 1)``. Hardly any plateau is
    reported for k = 1; for others its level is not published.

    Args:
        n: inputs, and answers.
        k: blocks; divides n.
        source: index of the input to repeat, ``0 <= source < n``.
        p: modulus.
        low: smallest input.
        high: largest input, by default ``p - 1``.
        scored: whether the loss counts the whole ``"sequence"`` or the ``"answer"`` alone.

    Raises:
        ValueError: if a size cannot be; the message names the argument and the bound.

    Source: arXiv 2506.13688, repeat; layout and defaults of the authors' code. The authors measure no attention here:
    the map is the natural one.

    Example:
        >>> Repeat(n=4, k=2).solve(torch.tensor([[16, 3, 3, 5]]))
        tensor([[16, 16,  0,  0]])
    """

    n: int = 16
    k: int = 1
    source: int = 0
    p: int = 17
    low: int = 1
    high: int | None = None
    scored: Scored = "sequence"

    name: ClassVar[str] = "repeat"
    defaults: ClassVar[Defaults] = Defaults(steps=200)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, k=self.k)
        if self.n % self.k:
            raise ValueError(f"k must divide n={self.n}; got {self.k}")
        whole_number("source", self.source)
        if not 0 <= self.source < self.n:
            raise ValueError(f"source must be between 0 and n - 1 = {self.n - 1}; got {self.source}")

    def solve(self, numbers: Int[Tensor, "batch input"]) -> Int[Tensor, "batch input"]:
        """The answers to given inputs."""
        return (numbers[:, self.source, None] + self._blocks().to(numbers.device)) % self.p

    def optimal_attention(self, batch: Batch) -> list[Bool[Tensor, "1 query key"] | None]:
        """Every row reads the input to repeat."""
        keys = torch.arange(self.n, device=batch.tokens.device)
        return [self._map((keys == self.source).expand(1, self.n, self.n))]

    def cosine_pairs(self) -> Bool[Tensor, "row row"]:
        """Pairs of rows in one block, without the block's first row (105, 42, 12 pairs for k = 1, 2, 4 and n = 16)."""
        block = self._blocks()
        inside = torch.arange(self.n) % (self.n // self.k) > 0
        return ((block[:, None] == block) & inside[:, None] & inside).tril(-1)

    def _blocks(self) -> Int[Tensor, " row"]:
        """The block that each row is in."""
        return torch.arange(self.n) // (self.n // self.k)
