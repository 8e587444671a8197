"""Multi-digit addition, the answer's last digit first."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from plateau_interp.tasks._layouts import PromptTask, Scored, at_least, below_diagonal
from plateau_interp.types import Batch, Defaults

__all__ = ["MultiDigitAddition"]

LARGEST = 2**62
"""Two summands below this have a sum that a 64-bit integer holds."""


@dataclass(frozen=True)
class MultiDigitAddition(PromptTask):
    """Sum of two numbers of n digits, last digit first.

    ``a_1 … a_n + b_1 … b_n = s_0 … s_n``: a and b uniform in ``1 … base^n - 1``, written with leading zeros and the
    first digit first; the n + 1 digits of a + b the other way round, so that the final carry comes last. Token ids: the
    digits, then ``+`` = base and ``=`` = base + 1.

    Args:
        n: digits of a summand, ``base^n <= 2^62``.
        base: of the number system.
        scored: whether the loss counts the whole ``"sequence"`` or the ``"answer"`` alone.

    Raises:
        ValueError: if a size cannot be; the message names the argument and the bound.

    Source: arXiv 2506.13688, multi-digit addition; layout and defaults of the authors' code.

    Example:
        >>> MultiDigitAddition(n=2).solve(torch.tensor([[9, 5]]), torch.tensor([[0, 7]]))
        tensor([[2, 0, 1]])
    """

    n: int = 4
    base: int = 10
    scored: Scored = "sequence"

    name: ClassVar[str] = "multi-digit-addition"
    defaults: ClassVar[Defaults] = Defaults(steps=10_000)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, n=self.n)
        at_least(2, base=self.base)
        if self.base**self.n > LARGEST:
            most = max(n for n in range(1, 63) if self.base**n <= LARGEST)
            raise ValueError(f"n must be at most {most} in base {self.base}, so that sums fit 64 bits; got {self.n}")

    @property
    def plus(self) -> int:
        """Token id of ``+``."""
        return self.base

    @property
    def separator(self) -> int:
        """Token id of ``=``."""
        return self.base + 1

    @property
    def d_vocab(self) -> int:
        """Digits, ``+`` and ``=``."""
        return self.base + 2

    @property
    def n_prompt(self) -> int:
        """``a + b =``."""
        return 2 * self.n + 2

    @property
    def n_answers(self) -> int:
        """One digit more than a summand has."""
        return self.n + 1

    def _draw(self, n: int, generator: torch.Generator) -> Int[Tensor, "batch pos"]:
        summands = torch.randint(1, self.base**self.n, (n, 2), generator=generator, device=generator.device)
        digits = (summands[:, :, None] // self._powers(self.n - 1, generator.device).flip(0)) % self.base
        a, b = digits.unbind(dim=1)
        plus, equals = a.new_full((n, 1), self.plus), a.new_full((n, 1), self.separator)
        return torch.cat([a, plus, b, equals, self.solve(a, b)], dim=1)

    def _answers(self, prompts: Int[Tensor, "batch prompt"]) -> Int[Tensor, "batch answer"]:
        return self.solve(prompts[:, : self.n], prompts[:, self.n + 1 : -1])

    def _nudged(self, prompts: Int[Tensor, "batch prompt"], generator: torch.Generator) -> Int[Tensor, "batch prompt"]:
        """As elsewhere, unless ``+`` was drawn to change, which stays, or a summand would become 0."""
        changed = super()._nudged(prompts, generator)
        are_numbers = changed[:, : self.n].any(dim=1) & changed[:, self.n + 1 : -1].any(dim=1)
        return torch.where(are_numbers[:, None], changed, prompts)

    def solve(self, a: Int[Tensor, "batch digit"], b: Int[Tensor, "batch digit"]) -> Int[Tensor, "batch answer"]:
        """The digits of the sum, last first, from the summands' digits, first first."""
        powers = self._powers(self.n, a.device)
        total = ((a + b) * powers[:-1].flip(0)).sum(dim=1, keepdim=True)
        return total // powers % self.base

    @property
    def _prompt_entropy(self) -> float:
        largest = self.base**self.n - 1
        first_digit = [self.base ** (self.n - 1) - (digit == 0) for digit in range(self.base)]  # a = 0 is never drawn
        return 2 * math.log(largest) - _entropy(first_digit)

    @property
    def _plateau_entropy(self) -> float | None:
        # Of all (base^n)^2 pairs each digit below the carry comes equally often; those with a = 0 or b = 0 are not
        # drawn: base^(n-1) each for every digit, the pair 0 + 0 counted twice.
        common = self.base ** (2 * self.n - 1) - 2 * self.base ** (self.n - 1)
        return self.n * _entropy([common + (digit == 0) for digit in range(self.base)])

    @property
    def partial_solution(self) -> tuple[int, ...]:
        """The last answer: the final carry, 0 or 1."""
        return (self.n,)

    def optimal_attention(self, batch: Batch) -> list[Bool[Tensor, "1 query key"] | None]:
        """Row r reads both summands' digits r and r - 1, counted from the last and as far as there are such.

        The carry into digit r is in neither: it follows from digit r - 1 of the summands and of the answer, which
        stands at the row's own position and needs no attention.
        """
        device = batch.tokens.device
        rows = torch.arange(self.n_answers, device=device)[:, None]
        keys = torch.arange(2 * self.n + 1, device=device)
        digit = torch.where(keys < self.n, self.n - 1 - keys, 2 * self.n - keys)
        reads = ((digit == rows) | (digit == rows - 1)) & (keys != self.n)
        return [self._map(reads[None])]

    def cosine_pairs(self) -> Bool[Tensor, "row row"]:
        """All pairs of answer rows but those with the last, the final carry (6 pairs for n = 4)."""
        pairs = below_diagonal(self.n_answers)
        pairs[-1] = False
        return pairs

    def tokens_to_text(self, tokens: Int[Tensor, " pos"]) -> list[str]:
        """Digits, ``+`` and ``=``."""
        signs = {self.plus: "+", self.separator: "="}
        return [signs.get(token, str(token)) for token in tokens.tolist()]

    def _powers(self, highest: int, device: torch.device) -> Int[Tensor, " digit"]:
        return torch.tensor([self.base**exponent for exponent in range(highest + 1)], device=device)


def _entropy(counts: list[int]) -> float:
    total = sum(counts)
    return -sum(count / total * math.log(count / total) for count in counts if count)
