"""A small task whose answers are of several lengths: the prompt's numbers up to its first 0, in their order."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from plateau_interp.types import IGNORE, Batch, Defaults, Levels, Task


@dataclass(frozen=True)
class Ragged(Task):
    """``n`` tokens, a separator, ``n`` answers, of which those after the first 0 and the last of all have no label."""

    n: int = 5

    name: ClassVar[str] = "ragged"
    d_vocab: ClassVar[int] = 5
    defaults: ClassVar[Defaults] = Defaults(steps=4, batch_size=8, d_model=16)
    levels: ClassVar[Levels] = Levels(initial=1.6)

    @property
    def n_pos(self):
        return 2 * self.n + 1

    @property
    def answer(self):
        return slice(self.n + 1, 2 * self.n + 1)

    def sample(self, n, *, generator):
        numbers = torch.randint(0, 4, (n, self.n), generator=generator, device=generator.device)
        ended = (numbers == 0).cumsum(dim=1) > 0
        ended[:, -1] = True
        separator = torch.full((n, 1), 4, device=generator.device)
        tokens = torch.cat([numbers, separator, numbers.masked_fill(ended, 0)], dim=1)
        labels = tokens[:, 1:].clone()
        labels[:, self.n :][ended] = IGNORE
        labels[:, : self.n] = IGNORE
        return Batch(tokens, labels)

    def answer_kinds(self, batch):
        return {"odd": batch.tokens[:, self.answer] % 2 == 1, "even": batch.tokens[:, self.answer] % 2 == 0}

    def groups(self, batch):
        ones = batch.tokens[:, 0] == 1
        return {"begins with 1": ones, "others": ~ones}
