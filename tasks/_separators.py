"""What a task in a mixture may draw where its own separator makes room for the mixture's."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from plateau_interp.types import IGNORE, Batch

__all__ = ["Separator", "ids_elsewhere"]


def ids_elsewhere(batch: Batch, at: int) -> Int[Tensor, "batch id"]:
    """Tokens and labels but the separator, which stands at a position, and what foretells it."""
    tokens, labels = batch.tokens, batch.labels
    return torch.cat([tokens[:, :at], tokens[:, at + 1 :], labels[:, : max(at - 1, 0)], labels[:, at:]], dim=1)


@dataclass(frozen=True)
class Separator:
    """A task's own separator, as its first sequences have it.

    Args:
        at: where it stands.
        own: its id in the task.
        first: the first id of the mixture's separators.
        scores_prompts: whether a task of the mixture has labels in its prompt.
    """

    at: int
    own: int
    first: int
    scores_prompts: bool

    def is_unfit(self, batch: Batch) -> Bool[Tensor, " batch"]:
        """Where a sequence has the id of a mixture's separator, or would lose what it says in its own one's place."""
        prompt = batch.labels[:, : self.at]
        is_odd = prompt != IGNORE
        if self.scores_prompts:
            is_odd = is_odd[:, -1:] & (prompt[:, -1:] != self.own)
        is_taken = ids_elsewhere(batch, self.at) >= self.first
        return torch.cat([is_odd, is_taken, batch.tokens[:, self.at, None] != self.own], dim=1).any(dim=1)

    def oddity(self, sequence: Batch) -> str:
        """In words, what a single sequence has that is unfit."""
        highest, end = int(ids_elsewhere(sequence, self.at).max()), int(sequence.tokens[0, self.at])
        if highest >= self.first:
            return f"the id {highest}, but separators have those from {self.first} on: make d_vocab larger"
        if end != self.own:
            return f"the id {end} at the end of a prompt, which is the separator {self.own} otherwise"
        if self.scores_prompts:
            label = int(sequence.labels[0, self.at - 1])
            return f"the label {label} for the end of a prompt, which is the separator {self.own}"
        return "a prompt that is scored"
