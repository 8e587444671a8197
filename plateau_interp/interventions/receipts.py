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
    _touched: dict[tuple[str, torch.Size, bool], list[Any]] = field(default_factory=dict, repr=False)

    @property
    def rows(self) -> int:
        """Most positions (of a pattern: query rows) that one firing changed."""
        return max((int(rows) for _, rows, _, _ in self._touched.values()), default=0)

    @property
    def heads(self) -> int:
        """Most heads that one firing changed; 0 at hook points without a head axis."""
        return max((int(heads) for _, _, heads, _ in self._touched.values()), default=0)

    @property
    def entries(self) -> int:
        """Tensor entries changed, over all firings.

        Counted at the first firing of each hook point and shape, and taken to be the same at the later ones; but
        single positions, as of cached decoding, are counted each time, and so is an edit whose places depend on tokens
        or padding: shape does not tell them apart.
        """
        return sum(fired * int(entries) for fired, _, _, entries in self._touched.values())

    @property
    def change(self) -> float:
        """Root-mean-square size of the change over the changed entries of all firings (infinite ones left out)."""
        return math.sqrt(sum(float(square) for square in self._squares.values()) / max(self.entries, 1))

    @property
    def is_idle(self) -> bool:
        """Whether it fired, and no firing changed anything."""
        # Entries are those of the first firing; what later ones changed has a size, too.
        return self.fired > 0 and self.entries == 0 and not any(float(square) for square in self._squares.values())

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
            varies: whether other firings of this shape may change other entries, so that each is counted.
        """
        self.fired += 1
        square = _squared_change(before, after, finite_only=holds_infinities(name))
        self._squares[name] = self._squares[name] + square if name in self._squares else square
        varies = varies or _is_single(name, before)
        touched = self._touched.get((name, before.shape, varies))
        if touched is None:
            self._touched[name, before.shape, varies] = [1, *_count_touched(name, before != after)]
        elif varies:
            rows, heads, entries = _count_touched(name, before != after)
            touched[1:] = _larger(touched[1], rows), _larger(touched[2], heads), touched[3] + entries
        else:
            touched[0] += 1


def _squared_change(before: Tensor, after: Tensor, *, finite_only: bool) -> Tensor:
    """The squared norm of a change, piece by piece: on a CPU, new memory costs more than sums."""
    batch = len(before) if before.ndim else 0
    if before.device.type != "cpu" or batch < 2 or before.numel() <= PIECE:
        return _squared_norm(after - before, finite_only=finite_only)
    size = max(1, PIECE * batch // before.numel())
    pieces = zip(torch.split(before, size), torch.split(after, size), strict=True)
    return torch.stack([_squared_norm(new - old, finite_only=finite_only) for old, new in pieces]).sum()


def _squared_norm(delta: Tensor, *, finite_only: bool) -> Tensor:
    if finite_only:
        delta = delta.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
    norm: Tensor = torch.linalg.vector_norm(delta, dtype=torch.promote_types(delta.dtype, torch.float32))
    return norm.square()


def _count_touched(name: str, changed: Tensor) -> tuple[Tensor | int, Tensor | int, Tensor]:
    """Rows, heads and entries with a change, from the layout that the hook point's name says."""
    rows = _row_axis(name)
    heads = None if changed.ndim != 4 else 3 - rows
    return _count_along(changed, rows), 0 if heads is None else _count_along(changed, heads), changed.sum()


def _row_axis(name: str) -> int:
    """Where positions (of a pattern: query rows) are; heads, if any, have the other of the two middle axes."""
    return 2 if name.endswith(("hook_pattern", "hook_attn_scores")) else 1


def _is_single(name: str, act: Tensor) -> bool:
    return act.ndim > _row_axis(name) and act.shape[_row_axis(name)] == 1


def _larger(one: Tensor | int, other: Tensor | int) -> Tensor | int:
    return torch.maximum(one, other) if isinstance(one, Tensor) and isinstance(other, Tensor) else one


def _count_along(changed: Tensor, axis: int) -> Tensor | int:
    return changed.transpose(0, axis).flatten(1).any(dim=1).sum() if changed.ndim > axis else 0


def holds_infinities(name: str) -> bool:
    """Whether masked entries of this activation are -inf."""
    return name.endswith("hook_attn_scores")
