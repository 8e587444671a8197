"""Prefix sum: each answer adds one more input to the answer before it."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from plateau_interp.checks import one_of
from plateau_interp.tasks._layouts import Residues, Scored, below_diagonal, distinct
from plateau_interp.types import Batch, Defaults

__all__ = ["PrefixSum"]

Inputs = Literal["independent", "distinct"]


@dataclass(frozen=True)
class PrefixSum(Residues):
    """Sum of all inputs so far modulo p.

    ``x_1 … x_n SEP y_1 … y_n`` with ``x_i`` uniform in ``low..high`` and ``y_i = (x_1 + … + x_i) mod p``. The separator
    is the id ``max(p, high + 1)``.

    Args:
        n: inputs, and answers.
        p: modulus.
        low: smallest input.
        high: largest input, by default ``p - 1``.
        inputs: drawn ``"independent"``ly, or ``"distinct"``: no number twice, which needs ``n <= high - low + 1``.
        scored: whether the loss counts the whole ``"sequence"`` or the ``"answer"`` alone.

    Raises:
        ValueError: if a size cannot be; the message names the argument and the bound.

    Source: arXiv 2506.13688, prefix sum; layout and defaults of the authors' code.

    Example:
        >>> PrefixSum(n=4).solve(torch.tensor([[3, 16, 5, 9]]))
        tensor([[ 3,  2,  7, 16]])
    """

    n: int = 16
    p: int = 17
    low: int = 1
    high: int | None = None
    inputs: Inputs = "independent"
    scored: Scored = "sequence"

    name: ClassVar[str] = "prefix-sum"
    defaults: ClassVar[Defaults] = Defaults(steps=1000)

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(Inputs, inputs=self.inputs)
        if self.inputs == "distinct" and self.n > self.n_numbers:
            numbers = f"{self.n_numbers}, as many as there are distinct numbers {self.low}..{self.largest}"
            raise ValueError(f"n must be at most {numbers}; got {self.n}")

    def _inputs(self, n: int, generator: torch.Generator) -> Int[Tensor, "batch input"]:
        if self.inputs == "independent":
            return super()._inputs(n, generator)
        return self.low + distinct(n, self.n_numbers, generator=generator)[:, : self.n]

    def _nudged(self, prompts: Int[Tensor, "batch prompt"], generator: torch.Generator) -> Int[Tensor, "batch prompt"]:
        """One input as another prompt has it; distinct inputs stay distinct, so two neighbours change places."""
        if self.inputs == "independent" or self.n < 2:
            return super()._nudged(prompts, generator)
        first = torch.randint(self.n - 1, (len(prompts), 1), generator=generator, device=prompts.device)
        both = torch.cat([first, first + 1], dim=1)
        return prompts.scatter(1, both, prompts.gather(1, both.flip(1)))

    def solve(self, numbers: Int[Tensor, "batch input"]) -> Int[Tensor, "batch input"]:
        """The answers to given inputs."""
        return numbers.cumsum(dim=1) % self.p

    @property
    def _prompt_entropy(self) -> float:
        if self.inputs == "independent":
            return super()._prompt_entropy
        return sum(math.log(self.n_numbers - used) for used in range(1, self.n))

    @property
    def _plateau_entropy(self) -> float | None:
        # Of distinct inputs no source gives a plateau; a single answer has none to wait on.
        return None if self.inputs == "distinct" or self.n == 1 else sum(self._entropies(self.n)[1:])

    @property
    def partial_solution(self) -> tuple[int, ...]:
        """The first answer, a copy of the first input; of distinct inputs nothing is published."""
        return (0,) if self.inputs == "independent" else ()

    def optimal_attention(self, batch: Batch) -> list[Bool[Tensor, "1 query key"] | None]:
        """Row r reads input r and, from r = 1 on, its own position, where the answer before stands."""
        rows = torch.arange(self.n, device=batch.tokens.device)[:, None]
        keys = torch.arange(2 * self.n, device=batch.tokens.device)
        return [self._map(((keys == rows) | (keys == self.n + rows) & (rows > 0))[None])]

    def cosine_pairs(self) -> Bool[Tensor, "row row"]:
        """All pairs of answer rows but those with the first, which is right on the plateau (105 pairs for n = 16)."""
        pairs = below_diagonal(self.n)
        pairs[:, 0] = False
        return pairs
