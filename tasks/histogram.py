"""Histogram: how often does each input occur; two layers."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from plateau_interp.tasks._layouts import Scored, Separated, at_least
from plateau_interp.types import Batch, Defaults

__all__ = ["Histogram"]


@dataclass(frozen=True)
class Histogram(Separated):
    """Number of times that each input occurs among the inputs.

    ``x_1 … x_n SEP y_1 … y_n`` with ``x_i`` uniform in ``1..high`` and ``y_i`` the number of j with ``x_j = x_i``; the
    separator is the id 0.

    The level of the plateau is not published, nor what a model on it knows ("partial bins"). A model that knows how
    often each count comes, and no more, pays 1.869 nats with the defaults. A third of the true answers equal the answer
    before them: compare ``repetition`` with ``repetition_truth``.

    Args:
        n: inputs, and answers.
        high: largest input; the smallest is 1.
        scored: whether the loss counts the whole ``"sequence"`` or the ``"answer"`` alone.

    Raises:
        ValueError: if a size cannot be; the message names the argument and the bound.

    Source: arXiv 2506.13688, histogram; layout and defaults of the authors' code.

    Example:
        >>> Histogram(n=4).solve(torch.tensor([[7, 3, 7, 7]]))
        tensor([[3, 1, 3, 3]])
    """

    n: int = 16
    high: int = 12
    scored: Scored = "sequence"

    name: ClassVar[str] = "histogram"
    defaults: ClassVar[Defaults] = Defaults(steps=5000, n_layers=2, grad_clip=1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, high=self.high)

    @property
    def separator(self) -> int:
        """The separator's token id: 0, which is neither number nor count."""
        return 0

    @property
    def d_vocab(self) -> int:
        """Separator, and numbers up to high or counts up to n, whichever are more."""
        return max(self.high, self.n) + 1

    def _inputs(self, n: int, generator: torch.Generator) -> Int[Tensor, "batch input"]:
        return torch.randint(1, self.high + 1, (n, self.n), generator=generator, device=generator.device)

    def solve(self, numbers: Int[Tensor, "batch input"]) -> Int[Tensor, "batch input"]:
        """The answers to given inputs."""
        return (numbers[:, :, None] == numbers[:, None, :]).sum(dim=2)

    @property
    def _prompt_entropy(self) -> float:
        return (self.n - 1) * math.log(self.high)

    def optimal_attention(self, batch: Batch) -> list[Bool[Tensor, "1 query key"] | None]:
        """Layer 1: row r reads input r, the number to count. Layer 2 counts; no map of it is published: None."""
        return [self._map(torch.eye(self.n, dtype=torch.bool, device=batch.tokens.device)[None]), None]
