"""Padding: where the real tokens of a batch lie, and how what is meant by position finds them.

A position counts from a sequence's first real token, whatever padding is before it, a negative one from its last; so an
edit means in a padded batch what it means in each of its sequences alone. `plateau_interp.interventions.running` knows
the mask of the forward that is running.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

__all__ = ["Layout", "layout_of", "like"]


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the tokens of a padded batch lie: those of the key/value cache, then those of the running forward.

    Attributes:
        place: the position of each token in its sequence; -1 for padding.
        length: how many real tokens each sequence has.

    Example:
        >>> layout = layout_of(torch.tensor([[0, 1, 1], [1, 1, 1]]))
        >>> layout.place.tolist(), layout.length.tolist()
        ([[-1, 0, 1], [0, 1, 2]], [2, 3])
        >>> layout.meant([0, -1]).int().tolist()
        [[0, 1, 1], [1, 0, 1]]
    """

    place: Int[Tensor, "batch key"]
    length: Int[Tensor, " batch"]

    @property
    def real(self) -> Bool[Tensor, "batch key"]:
        """Which tokens are no padding."""
        return self.place >= 0

    @property
    def longest(self) -> int:
        """The length of the longest sequence."""
        return int(self.length.max())

    def meant(self, positions: Sequence[int]) -> Bool[Tensor, "batch key"]:
        """Which tokens are at some positions, negative ones from each sequence's last token."""
        wanted = torch.tensor(sorted(set(positions)), device=self.place.device)
        from_end = self.place - rearrange(self.length, "batch -> batch 1")
        return self.real & (torch.isin(self.place, wanted[wanted >= 0]) | torch.isin(from_end, wanted[wanted < 0]))

    def columns(self) -> Int[Tensor, "batch longest"]:
        """Where the token at each position lies; any padding stands for the positions that a sequence lacks."""
        # Stable: real tokens keep their order, and come before all padding.
        return self.real.int().argsort(dim=1, descending=True, stable=True)[:, : self.longest]

    def has(self) -> Bool[Tensor, "batch longest"]:
        """Which of the positions up to the longest sequence's each sequence has."""
        return torch.arange(self.longest, device=self.length.device) < rearrange(self.length, "batch -> batch 1")

    def aligned(self, tokens: Shaped[Tensor, "batch key"]) -> Shaped[Tensor, "batch longest"]:
        """The tokens from each sequence's first on, without the padding before it."""
        return tokens.gather(1, self.columns().to(tokens.device))

    def spread(
        self, square: Shaped[Tensor, "*axes pos pos"], *, query: int, per_sequence: bool = False
    ) -> Shaped[Tensor, "..."]:
        """A map over positions ``[..., pos, pos]`` as the running forward shows it, ``[..., batch, query, key]``.

        It holds nothing for padding, neither as query nor as key.

        Args:
            square: the map.
            query: how many tokens the running forward adds.
            per_sequence: whether the axis before the last two is the batch, a map for each sequence.

        Raises:
            ValueError: if the longest sequence has more positions than the map.
        """
        if self.longest > square.shape[-1]:
            raise ValueError(f"the map covers {square.shape[-1]} positions, but the forward has {self.longest}")
        place = self.place.to(square.device)
        rows = rearrange(place[:, -query:], "batch row -> batch row 1")
        keys = rearrange(place, "batch key -> batch 1 key")
        there: Tensor
        if per_sequence:
            batch = rearrange(torch.arange(len(place), device=square.device), "batch -> batch 1 1")
            there = square[..., batch, rows.clamp(min=0), keys.clamp(min=0)]
        else:
            there = square[..., rows.clamp(min=0), keys.clamp(min=0)]
        return torch.where((rows >= 0) & (keys >= 0), there, square.new_zeros(()))

    def placed(
        self, values: Shaped[Tensor, "pos *axes"], act: Shaped[Tensor, "batch new *axes"], *, start: int = 0
    ) -> Shaped[Tensor, "batch new *axes"]:
        """An activation with what is given for each position; padding stays as it is.

        Args:
            values: for as many positions as the longest sequence has, or more.
            act: what to replace, of the tokens from ``start`` on.
            start: how many tokens lie before.
        """
        place = self.place[:, start : start + act.shape[1]]
        return torch.where(like(place >= 0, act), values[place.clamp(min=0)], act)

    def mean(self, act: Shaped[Tensor, "batch key *axes"]) -> Shaped[Tensor, "longest *axes"]:
        """The mean at each position over those sequences that have it."""
        has = like(self.has(), act)
        # A sum of many may be too large for float16 where the mean is not.
        total = torch.where(has, self._by_position(act), 0).sum(
            dim=0, dtype=torch.promote_types(act.dtype, torch.float32)
        )
        return (total / has.sum(dim=0)).to(act.dtype)

    def mean_pattern(self, pattern: Shaped[Tensor, "batch head key key"]) -> Shaped[Tensor, "head longest longest"]:
        """The mean of each row over those sequences that have it."""
        keys = like(self.columns(), pattern).expand(-1, -1, *pattern.shape[1:3])
        there = pattern.gather(3, rearrange(keys, "batch longest head row -> batch head row longest"))
        rows = self.mean(rearrange(there, "batch head row longest -> batch row head longest"))
        return rearrange(rows, "row head key -> head row key")

    def resampled(self, act: Shaped[Tensor, "batch key *axes"], *, shift: int) -> Shaped[Tensor, "batch key *axes"]:
        """At each position another sequence's: the first that has it, from the one ``shift`` further round the batch.

        Padding and what no other sequence has stay as they are.
        """
        n = len(act)
        batch = rearrange(torch.arange(n, device=act.device), "batch -> batch 1")
        has = self.has()
        donor = batch.expand_as(has)  # itself, until another is found
        for further in range(n - 1):
            other = (batch + 1 + (shift - 1 + further) % (n - 1)) % n
            donor = torch.where((donor == batch) & has.gather(0, other.expand_as(has)), other, donor)
        taken = self._by_position(act)[donor, torch.arange(self.longest, device=act.device)]
        return torch.where(like(self.real, act), taken[batch, self.place.clamp(min=0)], act)

    def _by_position(self, act: Shaped[Tensor, "batch key *axes"]) -> Shaped[Tensor, "batch longest *axes"]:
        batch = rearrange(torch.arange(len(act), device=act.device), "batch -> batch 1")
        there: Tensor = act[batch, self.columns()]
        return there


def like(mask: Shaped[Tensor, "batch pos"], act: Tensor) -> Shaped[Tensor, "batch pos *ones"]:
    """A mask, or indices, that broadcasts to an activation ``[batch, pos, ...]``.

    Example:
        >>> like(torch.ones(2, 3), torch.zeros(2, 3, 4, 5)).shape
        torch.Size([2, 3, 1, 1])
    """
    return mask.reshape(*mask.shape, *[1] * (act.ndim - 2))


def layout_of(mask: Shaped[Tensor, "batch key"]) -> Layout | None:
    """Where a mask, 0 for padding, has the tokens; None where nothing is padding.

    Waits for the device.
    """
    real = mask != 0
    if real.all():
        return None
    place = real.cumsum(dim=1) - 1
    return Layout(place.masked_fill(~real, -1), real.sum(dim=1))
