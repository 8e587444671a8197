"""What an edit of activations did, counted where it acts and read when somebody asks.

Counting keeps everything on the device. What every receipt has is in `plateau_interp.interventions.attached`.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from plateau_interp.interventions.attached import Receipt

__all__ = ["EditReceipt", "holds_infinities"]

PIECE = 2**18
"""Entries of an activation whose change is summed at once: a mebibyte in float32, which caches hold."""


@dataclass(eq=False)
class EditReceipt(Receipt):
    """What an activation edit did. Reading a number waits for the device; collecting it does not.

    ``fired`` counts edited tensors: one a forward and hook point, more where a hook point fires more often.
    """

    _squares: dict[str, Tensor] = field(default_factory=dict, repr=False)
    _entries: dict[str, Tensor] = field(default_factory=dict, repr=False)
    _touched: dict[tuple[str, torch.Size, bool], list[Any]] = field(default_factory=dict, repr=False)

    @property
    def rows(self) -> int:
        """Most positions (of a pattern: query rows) that one firing changed, of those that are looked at.

        Of each hook point and shape these are the first firing, the second, the fourth, the eighth and so on, since
        looking costs more than the edit; but of single positions, as in cached decoding, each one, and so of an edit
        whose places depend on tokens or padding: shape does not tell them apart.
        """
        return max((int(rows) for _, rows, _ in self._touched.values()), default=0)

    @property
    def heads(self) -> int:
        """Most heads that one firing changed, of those that `rows` looks at; 0 at hook points without a head axis."""
        return max((int(heads) for _, _, heads in self._touched.values()), default=0)

    @property
    def entries(self) -> int:
        """Tensor entries changed, over all firings."""
        return sum(int(entries) for entries in self._entries.values())

    @property
    def change(self) -> float:
        """Root-mean-square size of the change over the changed entries of all firings (infinite ones left out)."""
        return math.sqrt(sum(float(square) for square in self._squares.values()) / max(self.entries, 1))

    @property
    def is_idle(self) -> bool:
        """Whether it fired, and no firing changed anything."""
        return self.fired > 0 and self.entries == 0

    def describe(self) -> str:
        """One line for people."""
        return (
            f"{super().describe()}: {self.rows} rows, {self.heads} heads, {self.entries} entries, "
            f"root-mean-square change {self.change:.3g}"
        )

    @torch.no_grad()
    def note(self, name: str, before: Tensor, after: Tensor, *, varies: bool = False) -> None:
        """Count one firing at a hook point: the activation before and after it, of one shape.

        Args:
            name: of the hook point.
            before: the activation as it was.
            after: what the edit made of it.
            varies: whether other firings of this shape may change other rows and heads, so that each is looked at.
        """
        self.fired += 1
        square, entries = _size_of_change(before, after, finite_only=holds_infinities(name))
        self._squares[name] = self._squares[name] + square if name in self._squares else square
        self._entries[name] = self._entries[name] + entries if name in self._entries else entries
        varies = varies or _is_single(name, before)
        touched = self._touched.setdefault((name, before.shape, varies), [0, 0, 0])
        touched[0] += 1
        if varies or touched[0].bit_count() == 1:  # a power of 2
            rows, heads = _count_touched(name, before != after)
            touched[1:] = _larger(touched[1], rows), _larger(touched[2], heads)


def _size_of_change(before: Tensor, after: Tensor, *, finite_only: bool) -> tuple[Tensor, Tensor]:
    """The squared norm of a change and its entries, piece by piece: on a CPU, new memory costs more than sums."""
    batch = len(before) if before.ndim else 0
    if before.device.type != "cpu" or batch < 2 or before.numel() <= PIECE:
        return _size_of_piece(before, after, finite_only=finite_only)
    size = max(1, PIECE * batch // before.numel())
    pieces = zip(torch.split(before, size), torch.split(after, size), strict=True)
    squares, entries = zip(*(_size_of_piece(old, new, finite_only=finite_only) for old, new in pieces), strict=True)
    return torch.stack(squares).sum(), torch.stack(entries).sum()


def _size_of_piece(before: Tensor, after: Tensor, *, finite_only: bool) -> tuple[Tensor, Tensor]:
    delta = after - before
    # Of two infinities the difference says nothing; elsewhere it is 0 where they are equal, and is there already.
    entries = torch.count_nonzero(after != before if finite_only else delta)
    if finite_only:
        delta = delta.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
    norm: Tensor = torch.linalg.vector_norm(delta, dtype=torch.promote_types(delta.dtype, torch.float32))
    return norm.square(), entries


def _count_touched(name: str, changed: Tensor) -> tuple[Tensor | int, Tensor | int]:
    """Rows and heads with a change, from the layout that the hook point's name says."""
    rows = _row_axis(name)
    heads = None if changed.ndim != 4 else 3 - rows
    return _count_along(changed, rows), 0 if heads is None else _count_along(changed, heads)


def _row_axis(name: str) -> int:
    """Where positions (of a pattern: query rows) are; heads, if any, have the other of the two middle axes."""
    return 2 if name.endswith(("hook_pattern", "hook_attn_scores")) else 1


def _is_single(name: str, act: Tensor) -> bool:
    return act.ndim > _row_axis(name) and act.shape[_row_axis(name)] == 1


def _larger(one: Tensor | int, other: Tensor | int) -> Tensor | int:
    return torch.maximum(one, other) if isinstance(one, Tensor) and isinstance(other, Tensor) else other


def _count_along(changed: Tensor, axis: int) -> Tensor | int:
    return changed.transpose(0, axis).flatten(1).any(dim=1).sum() if changed.ndim > axis else 0


def holds_infinities(name: str) -> bool:
    """Whether masked entries of this activation are -inf."""
    return name.endswith("hook_attn_scores")
