"""A small task of sequences that are filled in: the sum of the numbers that are seen, at every position."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from plateau_interp.types import Batch, Defaults, Levels, Task


@dataclass(frozen=True)
class FilledNumbers(Task):
    """Numbers from 1 to ``d_vocab - 1``, some of them masked by 0; each position's label is its number as a share."""

    n: int = 6
    d_vocab: int = 9
    missing: float = 0.4

    name: ClassVar[str] = "filled-numbers"
    lookahead: ClassVar[int] = 0
    unit: ClassVar[str] = "squared"
    d_output: ClassVar[int] = 1
    mask_token: ClassVar[int] = 0
    levels: ClassVar[Levels] = Levels(plateau=0.4)
    defaults: ClassVar[Defaults] = Defaults(
        steps=4,
        n_layers=2,
        batch_size=8,
        n_heads=4,
        d_model=32,
        architecture="encoder",
        init_std=0.12,
        mask_embedding="zero",
    )

    @property
    def n_pos(self):
        return self.n

    @property
    def answer(self):
        return slice(0, self.n)

    def sample(self, n, *, generator):
        numbers = torch.randint(1, self.d_vocab, (n, self.n), generator=generator, device=generator.device)
        hidden = torch.rand(numbers.shape, generator=generator, device=generator.device) < self.missing
        return Batch(numbers.masked_fill(hidden, 0), numbers / self.d_vocab)

    def loss(self, output, batch):
        return (output[..., 0] - batch.labels).square().nanmean()

    def optimal_attention(self, batch):
        seen = batch.inputs != 0
        return [None, seen[:, None, :].expand(-1, seen.shape[1], -1)]


@dataclass(frozen=True)
class FilledTokens(FilledNumbers):
    """The same, but the masked tokens alone are scored, by cross-entropy."""

    name: ClassVar[str] = "filled-tokens"
    unit: ClassVar[str] = "nats"
    loss = Task.loss

    @property
    def d_output(self):
        return self.d_vocab

    def sample(self, n, *, generator):
        batch = super().sample(n, generator=generator)
        numbers = (batch.labels * self.d_vocab).round().long()
        return Batch(batch.tokens, numbers.where(batch.tokens == 0, -100))
