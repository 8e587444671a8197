"""Moving-window tasks: each answer combines the last k numbers of the input."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from plateau_interp.types import Batch, Defaults, Levels, Task

__all__ = ["MovingWindowSum"]


@dataclass(frozen=True)
class MovingWindowSum(Task):
    """Sum of the last k inputs modulo p.

    ``x_1 … x_n SEP y_1 … y_n`` with ``x_i`` uniform in ``low..high``; ``y_i = x_i`` for ``i < k``, afterwards
    ``y_i = (x_{i-k+1} + … + x_i) mod p``. The separator is the id ``max(p, high + 1)``.

    Args:
        n: inputs, and answers.
        k: window length, ``1 <= k <= n``.
        p: modulus.
        low: smallest input.
        high: largest input, by default ``p - 1``.

    Raises:
        ValueError: if a size cannot be; the message names the argument and the bound.

    Source: arXiv 2506.13688, section on the moving-window sum; layout and defaults of the authors' code.

    Example:
        >>> task = MovingWindowSum()
        >>> task.sample(2, generator=torch.Generator().manual_seed(0)).tokens.shape
        torch.Size([2, 33])
    """

    n: int = 16
    k: int = 2
    p: int = 17
    low: int = 1
    high: int | None = None

    name: ClassVar[str] = "moving-window-sum"
    defaults: ClassVar[Defaults] = Defaults(steps=400)

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n must be at least 1; got {self.n}")
        if not 1 <= self.k <= self.n:
            raise ValueError(f"k must be between 1 and n={self.n}; got {self.k}")
        if self.p < 2:
            raise ValueError(f"p must be at least 2; got {self.p}")
        if self.low < 0:
            raise ValueError(f"low must be at least 0; got {self.low}")
        if self.largest < self.low:
            raise ValueError(f"high must be at least low={self.low}; got {self.largest}")

    @property
    def largest(self) -> int:
        """The largest input."""
        return self.p - 1 if self.high is None else self.high

    @property
    def separator(self) -> int:
        """The separator's token id: the first one that no number uses."""
        return max(self.p, self.largest + 1)

    @property
    def d_vocab(self) -> int:
        """Numbers and separator."""
        return self.separator + 1

    @property
    def n_pos(self) -> int:
        """Inputs, separator and answers: ``2 n + 1``."""
        return 2 * self.n + 1

    @property
    def answer(self) -> slice:
        """The last n positions."""
        return slice(self.n + 1, 2 * self.n + 1)

    def sample(self, n: int, *, generator: torch.Generator) -> Batch:
        """Draw ``n`` sequences; every position but the first is scored, the random inputs too (as in the paper)."""
        device = generator.device
        numbers = torch.randint(self.low, self.largest + 1, (n, self.n), generator=generator, device=device)
        separator = numbers.new_full((n, 1), self.separator)
        tokens = torch.cat([numbers, separator, self.solve(numbers)], dim=1)
        return Batch(tokens, tokens[:, 1:])

    def solve(self, numbers: Int[Tensor, "batch input"]) -> Int[Tensor, "batch input"]:
        """The answers to given inputs."""
        windows = numbers.unfold(1, self.k, 1).sum(dim=-1) % self.p
        return torch.cat([numbers[:, : self.k - 1], windows], dim=1)

    @property
    def levels(self) -> Levels:
        """Closed-form losses.

        Every one of the 2n predictions counts: n-1 unpredictable inputs at ``ln(high - low + 1)``, the separator at 0,
        and n answers. Floor: answers at 0. Plateau: the k-1 copied answers (for k = 2 the first) at 0, the others at
        the entropy of a window sum; no plateau for k = 1, a plain copy. Initial: ``ln d_vocab`` everywhere.
        """
        inputs = (self.n - 1) * math.log(self.largest - self.low + 1)
        unsolved = (self.n - len(self.partial_solution)) * self._window_entropy()
        return Levels(
            initial=math.log(self.d_vocab),
            plateau=None if self.k == 1 else (inputs + unsolved) / (2 * self.n),
            floor=inputs / (2 * self.n),
        )

    @property
    def partial_solution(self) -> tuple[int, ...]:
        """The answers that copy one input: the first ``k - 1``."""
        return tuple(range(self.k - 1))

    def optimal_attention(self, batch: Batch) -> list[Bool[Tensor, "1 query key"] | None]:
        """Row r reads input r alone while ``r < k - 1``, then inputs ``r - k + 1 … r``; other queries nothing."""
        rows = torch.arange(self.n, device=batch.tokens.device)
        first = torch.where(rows < self.k - 1, rows, rows - self.k + 1)
        target = torch.zeros(2 * self.n, 2 * self.n, dtype=torch.bool, device=batch.tokens.device)
        target[self.n :, : self.n] = (rows[None, :] >= first[:, None]) & (rows[None, :] <= rows[:, None])
        return [target[None], *[None] * (self.defaults.n_layers - 1)]

    def cosine_pairs(self) -> Bool[Tensor, "row row"]:
        """All pairs of answer rows but those with the first, which is right on the plateau (105 pairs for n = 16)."""
        pairs = torch.ones(self.n, self.n, dtype=torch.bool).tril(-1)
        pairs[:, 0] = False
        return pairs

    def tokens_to_text(self, tokens: Int[Tensor, " pos"]) -> list[str]:
        """Numbers as digits, the separator as ``|``."""
        return ["|" if token == self.separator else str(token) for token in tokens.tolist()]

    def _window_entropy(self) -> float:
        """Entropy in nats of the sum of k inputs mod p."""
        law = torch.zeros(self.p, dtype=torch.float64)
        law[0] = 1.0
        values = torch.arange(self.low, self.largest + 1) % self.p
        one = torch.bincount(values, minlength=self.p).double() / len(values)
        for _ in range(self.k):
            law = torch.stack([law.roll(int(shift)) * one[shift] for shift in range(self.p)]).sum(dim=0)
        return float(torch.special.entr(law).sum())
