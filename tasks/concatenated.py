"""Several moving-window sums in one answer, learned one after another."""

from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from plateau_interp.checks import one_of, shown
from plateau_interp.tasks._layouts import Residues, Scored, at_least, below_diagonal
from plateau_interp.types import Batch, Defaults

__all__ = ["ConcatenatedWindows"]

Arrangement = Literal["disjoint", "stair"]


@dataclass(frozen=True)
class ConcatenatedWindows(Residues):
    """Moving-window sums with different windows, one segment of the answer after another.

    ``x_1 … x_n SEP segment segment …`` with ``x_i`` uniform in ``low..high``; a segment of window w is a run of sums of
    w neighbours modulo p (only whole windows; w = 1 copies). The separator is the id ``max(p, high + 1)``. The
    published mixes:

    | name | arguments |
    |---|---|
    | 123_disjoint_454 | the defaults |
    | 124_stair_653 | ``windows=(1, 2, 4), lengths=(6, 5, 3), arrangement="stair"`` |
    | 124_disjoint_444 | ``windows=(1, 2, 4), lengths=(4, 4, 4)`` |
    | 124_disjoint_453 | ``windows=(1, 2, 4), lengths=(4, 5, 3)`` |

    Each segment is expected to have a plateau of its own; no level is published.

    Args:
        n: inputs.
        windows: window of each segment.
        lengths: answers in each segment.
        arrangement: ``"disjoint"`` segments start reading where the one before has ended, those of a ``"stair"`` all at
            the first input.
        p: modulus.
        low: smallest input.
        high: largest input, by default ``p - 1``.
        scored: whether the loss counts the whole ``"sequence"`` or the ``"answer"`` alone.

    Raises:
        ValueError: if a size cannot be; the message names the argument and the bound.

    Source: arXiv 2506.13688, concatenated moving-window sums; layout and defaults of the authors' code. The authors
    measure no attention here: the map is the natural one.

    Example:
        >>> task = ConcatenatedWindows(n=6, windows=(1, 3), lengths=(2, 2))
        >>> task.solve(torch.tensor([[5, 6, 1, 2, 3, 4]]))
        tensor([[5, 6, 6, 9]])
    """

    n: int = 16
    windows: tuple[int, ...] = (1, 2, 3)
    lengths: tuple[int, ...] = (4, 5, 4)
    arrangement: Arrangement = "disjoint"
    p: int = 17
    low: int = 1
    high: int | None = None
    scored: Scored = "sequence"

    name: ClassVar[str] = "concatenated-windows"
    defaults: ClassVar[Defaults] = Defaults(steps=5000)

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(Arrangement, arrangement=self.arrangement)
        for name, numbers in (("windows", self.windows), ("lengths", self.lengths)):
            if not isinstance(numbers, tuple | list):
                raise ValueError(f"{name} must be whole numbers, such as (1, 2, 3); got {shown(numbers)}")
        if not self.windows or len(self.windows) != len(self.lengths):
            raise ValueError(
                f"windows and lengths must have one number a segment; got {len(self.windows)} and {len(self.lengths)}"
            )
        for index, (window, length) in enumerate(zip(self.windows, self.lengths, strict=True)):
            at_least(1, **{f"windows[{index}]": window, f"lengths[{index}]": length})
        if self.n < self._n_read:
            raise ValueError(f"n must be at least {self._n_read}, the inputs that the segments read; got {self.n}")

    @property
    def segments(self) -> tuple[slice, ...]:
        """The answers of each segment, counted from the first answer."""
        ends = list(accumulate(self.lengths))
        return tuple(slice(end - length, end) for end, length in zip(ends, self.lengths, strict=True))

    @property
    def n_answers(self) -> int:
        """All segments."""
        return sum(self.lengths)

    def solve(self, numbers: Int[Tensor, "batch input"]) -> Int[Tensor, "batch answer"]:
        """The answers to given inputs."""
        sums = [
            numbers[:, start : start + length + window - 1].unfold(1, window, 1).sum(dim=2)
            for start, length, window in zip(self._starts, self.lengths, self.windows, strict=True)
        ]
        return torch.cat(sums, dim=1) % self.p

    def optimal_attention(self, batch: Batch) -> list[Bool[Tensor, "1 query key"] | None]:
        """Each row reads the inputs of its window."""
        device = batch.tokens.device
        keys = torch.arange(self.n, device=device)
        rows = []
        for start, length, window in zip(self._starts, self.lengths, self.windows, strict=True):
            oldest = torch.arange(start, start + length, device=device)[:, None]
            rows.append((keys >= oldest) & (keys < oldest + window))
        return [self._map(torch.cat(rows)[None])]

    def segment_cosine_pairs(self) -> list[Bool[Tensor, "row row"]]:
        """For each segment the pairs whose earlier row is in it, whichever the later: the paper's three cosines.

        With the defaults 42, 30 and 6 pairs; together they are the pairs of `cosine_pairs`, which is all.
        """
        pairs = []
        for segment in self.segments:
            earlier = torch.zeros(self.n_answers, dtype=torch.bool)
            earlier[segment] = True
            pairs.append(below_diagonal(self.n_answers) & earlier)
        return pairs

    @property
    def _spans(self) -> list[int]:
        """How many inputs each segment reads."""
        return [length + window - 1 for length, window in zip(self.lengths, self.windows, strict=True)]

    @property
    def _starts(self) -> list[int]:
        """The first input that each segment reads."""
        if self.arrangement == "stair":
            return [0] * len(self.windows)
        return [0, *accumulate(self._spans[:-1])]

    @property
    def _n_read(self) -> int:
        return max(start + span for start, span in zip(self._starts, self._spans, strict=True))
