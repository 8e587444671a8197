"""Permutation: read where to look, then look there; two layers."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from plateau_interp.tasks._layouts import PromptTask, Scored, at_least, distinct
from plateau_interp.types import Batch, Defaults

__all__ = ["Permutation"]


@dataclass(frozen=True)
class Permutation(PromptTask):
    """The inputs in the order that a permutation in the prompt gives.

    ``x_0 … x_{n-1} 0 π(0)+1 … π(n-1)+1 0 y_0 … y_{n-1}``: ``y_i = x_{π(i)}``, π a uniform permutation of ``0 … n - 1``
    and ``x_i`` uniform among the ``n_symbols`` ids after those of π; both separators are the id 0.

    The level of the plateau is not published, nor what a model on it knows ("partial positions"). A model that knows
    no more than which ids may stand where pays 2.659 nats with the defaults.

    Args:
        n: inputs, and answers.
        n_symbols: different inputs.
        compose: ``y_i = x_{π(π(…i))}``, π applied so many times.
        scored: whether the loss counts the whole ``"sequence"`` or the ``"answer"`` alone.

    Raises:
        ValueError: if a size cannot be; the message names the argument and the bound.

    Source: arXiv 2506.13688, permutation; layout and defaults of the authors' code.

    Example:
        >>> Permutation(n=3).solve(torch.tensor([[7, 8, 9]]), torch.tensor([[2, 0, 1]]))
        tensor([[9, 7, 8]])
    """

    n: int = 16
    n_symbols: int = 16
    compose: int = 1
    scored: Scored = "sequence"

    name: ClassVar[str] = "permutation"
    defaults: ClassVar[Defaults] = Defaults(steps=2000, n_layers=2)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, n=self.n, n_symbols=self.n_symbols, compose=self.compose)

    @property
    def separator(self) -> int:
        """Token id of both separators."""
        return 0

    @property
    def d_vocab(self) -> int:
        """Separator, places ``1 … n``, symbols ``n + 1 … n + n_symbols``."""
        return 1 + self.n + self.n_symbols

    @property
    def n_prompt(self) -> int:
        """Inputs, permutation and two separators."""
        return 2 * self.n + 2

    @property
    def n_answers(self) -> int:
        """As many as inputs."""
        return self.n

    def _draw(self, n: int, generator: torch.Generator) -> Int[Tensor, "batch pos"]:
        first, shape = self.n + 1, (n, self.n)
        inputs = torch.randint(first, self.d_vocab, shape, generator=generator, device=generator.device)
        places = distinct(n, self.n, generator=generator)
        separator = inputs.new_full((n, 1), self.separator)
        return torch.cat([inputs, separator, places + 1, separator, self.solve(inputs, places)], dim=1)

    def _answers(self, prompts: Int[Tensor, "batch prompt"]) -> Int[Tensor, "batch answer"]:
        return self.solve(prompts[:, : self.n], prompts[:, self.n + 1 : -1] - 1)

    @property
    def _inputs_at(self) -> range:
        """The symbols: a permutation cannot change at one place alone."""
        return range(self.n)

    def solve(
        self, inputs: Int[Tensor, "batch input"], places: Int[Tensor, "batch input"]
    ) -> Int[Tensor, "batch input"]:
        """The answers to given inputs and permutations of ``0 … n - 1`` (not the tokens, which are one more)."""
        sources = places
        for _ in range(self.compose - 1):
            sources = places.gather(1, sources)
        return inputs.gather(1, sources)

    @property
    def _prompt_entropy(self) -> float:
        return (self.n - 1) * math.log(self.n_symbols) + math.lgamma(self.n + 1)

    def optimal_attention(self, batch: Batch) -> list[Bool[Tensor, "#batch query key"] | None]:
        """Layer 1: row i reads π(i) in the prompt. Layer 2: row i reads ``x_{π(i)}``, each sequence its own.

        `alternative_attention` solves the task as well. For ``compose > 1`` no solution is published: None.
        """
        if self.compose > 1:
            return [None, None]
        return [self._pointers(batch), self._map(self._sources(batch))]

    def alternative_attention(self, batch: Batch) -> list[Bool[Tensor, "#batch query key"]]:
        """The other published solution, for ``compose = 1``.

        Layer 1: the position that holds π(i) reads ``x_{π(i)}``. Layer 2: row i reads that position.

        Raises:
            ValueError: for ``compose > 1``.
        """
        if self.compose > 1:
            raise ValueError(f"alternative_attention is known for compose=1 only; got {self.compose}")
        sources = self._sources(batch)
        first = sources.new_zeros(len(sources), self.n_pos - 1, self.n_pos - 1)
        first[:, self.n + 1 : 2 * self.n + 1, : self.n] = sources
        return [first, self._pointers(batch)]

    def tokens_to_text(self, tokens: Int[Tensor, " pos"]) -> list[str]:
        """Ids as digits, separators as ``|``."""
        return ["|" if token == self.separator else str(token) for token in tokens.tolist()]

    def _pointers(self, batch: Batch) -> Bool[Tensor, "1 query key"]:
        """Row i reads the position of π(i)."""
        rows = torch.arange(self.n, device=batch.tokens.device)[:, None]
        keys = torch.arange(2 * self.n + 1, device=batch.tokens.device)
        return self._map((keys == self.n + 1 + rows)[None])

    def _sources(self, batch: Batch) -> Bool[Tensor, "batch row input"]:
        """Which input each row copies; none where a token is no place (a prompt may be cut short)."""
        places = batch.tokens[:, self.n + 1 : 2 * self.n + 1, None] - 1
        return places == torch.arange(self.n, device=places.device)
