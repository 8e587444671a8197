"""Moving-window tasks: each answer combines the last k numbers of the input."""

import math
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from plateau_interp.checks import one_of, whole_number
from plateau_interp.tasks._layouts import Residues, Scored, below_diagonal
from plateau_interp.types import Batch, Defaults

__all__ = ["MovingWindowDifference", "MovingWindowProduct", "MovingWindowQuotient", "MovingWindowSum"]

Edge = Literal["copy", "partial"]
"""The first k - 1 answers: copies of their inputs, or the operation on as many inputs as there are."""

SHORTENING = Defaults(steps=1000, batch_size=128)
"""How "Shortening the Loss Plateau" trains; its 128 sequences a step are known from the counts in its table 1."""


@dataclass(frozen=True)
class _MovingWindow(Residues):
    """``x_1 … x_n SEP y_1 … y_n``: an operation modulo p on the last k inputs; the family differs in the operation."""

    n: int = 16
    k: int = 2
    p: int = 17
    low: int = 1
    high: int | None = None
    edge: Edge = "partial"
    scored: Scored = "answer"

    newest_first: ClassVar[bool] = False
    """Whether the newest number is the operation's first operand; else the oldest."""

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_number("k", self.k)
        if not 1 <= self.k <= self.n:
            raise ValueError(f"k must be between 1 and n={self.n}; got {self.k}")
        one_of(Edge, edge=self.edge)

    def solve(self, numbers: Int[Tensor, "batch input"]) -> Int[Tensor, "batch input"]:
        """The answers to given inputs, in integer arithmetic: exact for any window."""
        oldest, newest = self._window(numbers.device)
        first, way = (newest, -1) if self.newest_first else (oldest, 1)
        answers = numbers[:, first] % self.p
        for offset in range(1, self.k):
            index = first + way * offset
            combined = self._combine(answers, numbers[:, index.clamp(0, self.n - 1)])
            answers = torch.where((oldest <= index) & (index <= newest), combined, answers)
        # A copy is a copy even of a number of p or more.
        return torch.where((newest < self.k - 1) & (self.edge == "copy"), numbers, answers)

    @property
    def partial_solution(self) -> tuple[int, ...]:
        """The answers that are one input: the first, with ``edge="copy"`` the first ``k - 1``; none for k = 1."""
        return tuple(range(self.k - 1 if self.edge == "copy" else min(self.k - 1, 1)))

    @property
    def _plateau_entropy(self) -> float | None:
        if self.k == 1:
            return None  # every answer is a copy: there is no plateau to wait on
        entropies = self._entropies(self.k)
        return sum(entropies[min(i, self.k - 1)] for i in range(self.n) if i not in self.partial_solution)

    def optimal_attention(self, batch: Batch) -> list[Bool[Tensor, "1 query key"] | None]:
        """Row r reads the inputs of its window, up to ``r - k + 1 … r``; other queries nothing."""
        oldest, newest = self._window(batch.tokens.device)
        return [self._map(((newest >= oldest[:, None]) & (newest <= newest[:, None]))[None])]

    def cosine_pairs(self) -> Bool[Tensor, "row row"]:
        """All pairs of answer rows but those with the first, which is right on the plateau (105 pairs for n = 16)."""
        pairs = below_diagonal(self.n)
        pairs[:, 0] = False
        return pairs

    def _window(self, device: torch.device) -> tuple[Int[Tensor, " row"], Int[Tensor, " row"]]:
        """Index of the oldest and of the newest input of each answer's window."""
        newest = torch.arange(self.n, device=device)
        oldest = newest - self.k + 1
        return torch.where(oldest >= 0, oldest, newest if self.edge == "copy" else 0), newest


@dataclass(frozen=True)
class MovingWindowSum(_MovingWindow):
    """Sum of the last k inputs modulo p.

    ``x_1 … x_n SEP y_1 … y_n`` with ``x_i`` uniform in ``low..high``; ``y_i = x_i`` for ``i < k``, afterwards
    ``y_i = (x_{i-k+1} + … + x_i) mod p``. The separator is the id ``max(p, high + 1)``.

    Args:
        n: inputs, and answers.
        k: window length, ``1 <= k <= n``.
        p: modulus.
        low: smallest input.
        high: largest input, by default ``p - 1``.
        edge: the first ``k - 1`` answers: ``"copy"`` of the input, or the sum of a ``"partial"`` window, as in
            "Shortening the Loss Plateau"; the same for ``k <= 2``.
        scored: whether the loss counts the whole ``"sequence"`` or the ``"answer"`` alone.

    Raises:
        ValueError: if a size cannot be; the message names the argument and the bound.

    Source: arXiv 2506.13688, section on the moving-window sum; layout and defaults of the authors' code.

    Example:
        >>> task = MovingWindowSum()
        >>> task.sample(2, generator=torch.Generator().manual_seed(0)).tokens.shape
        torch.Size([2, 33])
    """

    edge: Edge = "copy"
    scored: Scored = "sequence"

    name: ClassVar[str] = "moving-window-sum"
    defaults: ClassVar[Defaults] = Defaults(steps=400)


@dataclass(frozen=True)
class MovingWindowDifference(_MovingWindow):
    """Oldest of the last k inputs minus the others, modulo p.

    ``y_i = (x_{i-k+1} - x_{i-k+2} - … - x_i) mod p``; see `MovingWindowSum` for the layout. The loss counts the answers
    alone.

    Args:
        n: inputs, and answers.
        k: window length, ``1 <= k <= n``.
        p: modulus.
        low: smallest input.
        high: largest input, by default ``p - 1``.
        edge: the first ``k - 1`` answers: the difference of a ``"partial"`` window, or a ``"copy"`` of the input.
        scored: whether the loss counts the whole ``"sequence"`` or the ``"answer"`` alone.

    Raises:
        ValueError: if a size cannot be; the message names the argument and the bound.

    Source: "Shortening the Loss Plateau", moving-window difference; defaults of its repository.

    Example:
        >>> MovingWindowDifference(n=4, k=3).solve(torch.tensor([[1, 9, 14, 11]]))
        tensor([[ 1,  9, 12,  1]])
    """

    name: ClassVar[str] = "moving-window-difference"
    defaults: ClassVar[Defaults] = SHORTENING

    def _combine(self, total: Int[Tensor, "*#shape"], number: Int[Tensor, "*#shape"]) -> Int[Tensor, "*#shape"]:
        return (total - number) % self.p


@dataclass(frozen=True)
class MovingWindowProduct(_MovingWindow):
    """Product of the last k inputs modulo p.

    ``y_i = (x_{i-k+1} · … · x_i) mod p``; see `MovingWindowSum` for the layout. The loss counts the answers alone.

    Args:
        n: inputs, and answers.
        k: window length, ``1 <= k <= n``.
        p: modulus.
        low: smallest input.
        high: largest input, by default ``p - 1``.
        edge: the first ``k - 1`` answers: the product of a ``"partial"`` window, or a ``"copy"`` of the input.
        scored: whether the loss counts the whole ``"sequence"`` or the ``"answer"`` alone.

    Raises:
        ValueError: if a size cannot be; the message names the argument and the bound.

    Source: "Shortening the Loss Plateau", moving-window product; defaults of its repository.

    Example:
        >>> MovingWindowProduct(n=4, k=3).solve(torch.tensor([[13, 6, 8, 2]]))
        tensor([[13, 10, 12, 11]])
    """

    name: ClassVar[str] = "moving-window-product"
    defaults: ClassVar[Defaults] = SHORTENING

    # Differs from the published sampler, which multiplies in float32 and is exact only up to k = 6.
    def _combine(self, total: Int[Tensor, "*#shape"], number: Int[Tensor, "*#shape"]) -> Int[Tensor, "*#shape"]:
        return total * (number % self.p) % self.p


@dataclass(frozen=True)
class MovingWindowQuotient(_MovingWindow):
    """Newest of the last k inputs divided by the product of the others, modulo p.

    ``y_i = x_i · (x_{i-k+1} · … · x_{i-1})⁻¹ mod p``; see `MovingWindowSum` for the layout. The loss counts the answers
    alone.

    Args:
        n: inputs, and answers.
        k: window length, ``1 <= k <= n``.
        p: modulus; shares no factor with any input, so that every input has an inverse.
        low: smallest input.
        high: largest input, by default ``p - 1``.
        edge: the first ``k - 1`` answers: the quotient of a ``"partial"`` window, or a ``"copy"`` of the input.
        scored: whether the loss counts the whole ``"sequence"`` or the ``"answer"`` alone.

    Raises:
        ValueError: if a size cannot be; the message names the argument and the bound.

    Source: "Shortening the Loss Plateau", moving-window quotient; defaults of its repository.

    Example:
        >>> MovingWindowQuotient(n=4, k=3).solve(torch.tensor([[10, 2, 9, 2]]))
        tensor([[10,  7,  3,  2]])
    """

    name: ClassVar[str] = "moving-window-quotient"
    defaults: ClassVar[Defaults] = SHORTENING
    newest_first: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for number in range(self.low, self.largest + 1):
            if math.gcd(number, self.p) > 1:
                raise ValueError(
                    f"p must share no factor with the inputs {self.low}..{self.largest}; got {self.p}, which has no "
                    f"inverse of {number}"
                )

    def _combine(self, total: Int[Tensor, "*#shape"], number: Int[Tensor, "*#shape"]) -> Int[Tensor, "*#shape"]:
        inverses = torch.tensor(_inverses(self.p), device=number.device)
        return total * inverses[number % self.p] % self.p


@cache
def _inverses(p: int) -> tuple[int, ...]:
    """The inverse mod p of each residue; 0 where there is none."""
    return tuple(pow(residue, -1, p) if math.gcd(residue, p) == 1 else 0 for residue in range(p))
