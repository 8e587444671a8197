"""What the tasks of low-rank matrices share: how a matrix is drawn, masked and written in tokens.

Private to this folder. It holds no dataclass fields, so that each task shows all its sizes where it is defined.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from numbers import Real
from typing import Any, Literal

import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plateau_interp.checks import LARGEST_BITS, check_number, check_positive, one_of, shown
from plateau_interp.tasks._layouts import at_least
from plateau_interp.training.batches import stream_generator
from plateau_interp.types import Batch, Task

__all__ = ["MASK", "Entries", "Masking", "Matrices", "Shape", "checked_shapes"]

MASK = 0
"""The token of a missing entry."""
TAIL = 10
"""Standard deviations of an entry at which a grid ends whose law has no end."""
N_ENTRIES = 2**21
"""Entries that are drawn to know what clipping leaves of their variance; of ranks above 16 a sixteenth of that."""
ROUNDING = 1e-12
"""A grid ends at the largest value of a law also where ``half * grid_step`` falls short of it by so small a share."""
Entries = Literal["uniform", "normal", "laplace", "full rank"]
"""The law of a factor's entries, each of mean 0; or of the matrix's own entries, uniform and independent."""
Masking = Literal["independent", "count"]
"""Each entry missing by a throw of its own, or a fixed number of entries of each matrix."""
Shape = tuple[int, int]
"""Rows and columns of a matrix."""


class Matrices(Task):
    """Matrices of low rank on a grid of values, some entries of which are missing."""

    rank: int
    missing: float
    masking: Masking
    entries: Entries
    scale: float
    grid_step: float
    largest: float | None

    def check_matrices(self) -> None:
        """Refuse numbers that cannot be.

        Raises:
            ValueError: naming the field.
        """
        at_least(1, rank=self.rank)
        one_of(Masking, masking=self.masking)
        one_of(Entries, entries=self.entries)
        check_number(self, "missing")
        if not 0 < self.missing < 1:
            raise ValueError(f"missing must be above 0 and below 1; got {shown(self.missing)}")
        check_positive(self, "scale", "grid_step")
        if self.largest is not None:
            check_positive(self, "largest")
        if not 1 <= self.bound / self.grid_step < 2**LARGEST_BITS:
            raise ValueError(
                f"grid_step must be at most the largest value, {self.bound:g}; got {shown(self.grid_step)}"
            )

    @property
    def variance(self) -> float:
        """Of an entry, before it is rounded to the grid or clipped to its ends."""
        if self.entries == "full rank":
            return self.scale**2 / 3
        return self.rank * _of_factor(self.entries, self.scale) ** 2

    @property
    def clipped_variance(self) -> float:
        """Of an entry clipped to the grid's ends, before it is rounded: the squared error of always saying 0.

        `variance` where nothing is clipped. Else exact for entries of full rank, and of a product of factors to half a
        per cent, from `N_ENTRIES` entries of a fixed seed.
        """
        end = self.half * self.grid_step
        bounded = {"uniform": self.rank * self.scale**2, "full rank": self.scale}
        if end >= (1 - ROUNDING) * bounded.get(self.entries, math.inf):
            return self.variance
        if self.entries == "full rank":
            return end**2 - 2 * end**3 / (3 * self.scale)
        return self.variance * _share_within(self.entries, self.rank, end / math.sqrt(self.variance))

    @property
    def bound(self) -> float:
        """The largest value of the grid: ``largest``, or what an entry can be; of laws without end ten deviations."""
        if self.largest is not None:
            return self.largest
        ends = {"uniform": self.rank * self.scale**2, "full rank": self.scale}
        return ends.get(self.entries, TAIL * math.sqrt(self.variance))

    def share_missing(self, shape: Shape) -> float:
        """Of a matrix's entries, those that are missing: expected, or exactly where they are counted."""
        n = math.prod(shape)
        return self.missing if self.masking == "independent" else round(self.missing * n) / n

    @property
    def half(self) -> int:
        """Steps of the grid from 0 to the largest value."""
        return round(self.bound / self.grid_step)

    def ids(self, values: Float[Tensor, "*axes"]) -> Int[Tensor, "*axes"]:
        """The tokens of some values: rounded to the grid, and to its ends what lies beyond."""
        return self._steps(values) + self.half + 1

    def values(self, tokens: Int[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
        """What tokens of the grid stand for; NaN for the mask."""
        steps = (tokens - self.half - 1).to(torch.float64) * self.grid_step
        return steps.masked_fill(tokens == MASK, math.nan).to(torch.float32)

    def rounded(self, values: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
        """The values of the grid that are nearest."""
        return (self._steps(values).to(torch.float64) * self.grid_step).to(torch.float32)

    def draw_matrices(
        self, n: int, shape: Shape, *, generator: torch.Generator
    ) -> tuple[Float[Tensor, "batch row column"], Bool[Tensor, "batch row column"]]:
        """Matrices of one shape, not yet rounded, and which of their entries are seen."""
        n_rows, n_columns = shape

        def factor(size: int) -> Float[Tensor, "batch size rank"]:
            return self.scale * LAWS[self.entries]((n, size, self.rank), generator)

        matrices: Tensor
        if self.entries == "full rank":
            matrices = self.scale * LAWS["uniform"]((n, n_rows, n_columns), generator)
        else:
            left, right = factor(n_rows), factor(n_columns)
            matrices = einsum(left, right, "batch row rank, batch column rank -> batch row column")
        keys = torch.rand(n, n_rows * n_columns, generator=generator, device=generator.device)
        if self.masking == "independent":
            seen = keys >= self.missing
        else:
            seen = keys.argsort(dim=1).argsort(dim=1) >= round(self.share_missing(shape) * n_rows * n_columns)
        return matrices, rearrange(seen, "batch (row column) -> batch row column", row=n_rows)

    def with_number(self, batch: Batch, value: float) -> Batch:
        """The same matrices with a number in the place of every gap; the labels stay what they are.

        Args:
            batch: sequences of the task.
            value: rounded to the grid.

        Raises:
            ValueError: for a number beyond the grid's ends.

        Source: arXiv 2410.22244, table 1: before the drop a model returns whatever number stands there.
        """
        end = self.half * self.grid_step
        if not (isinstance(value, Real) and math.isfinite(value) and round(abs(value) / self.grid_step) <= self.half):
            raise ValueError(f"value must be on the task's grid, from {-end:g} to {end:g}; got {shown(value)}")
        number = self.ids(torch.tensor(float(value)))
        return Batch(batch.tokens.masked_fill(batch.tokens == MASK, int(number)), batch.labels)

    def negated(self, batch: Batch) -> Batch:
        """Every matrix times -1, with the same gaps.

        Source: arXiv 2410.22244, section 4.3: the input that activations are patched into.
        """
        opposite = 2 * self.half + 2 - batch.tokens
        return Batch(opposite.masked_fill(batch.tokens == MASK, MASK), -batch.labels)

    def with_a_line_negated(self, batch: Batch, shape: Shape, *, generator: torch.Generator) -> Batch:
        """Each matrix with one row or one column negated: of those with a gap the one where least is seen.

        Of equals one is drawn. A line has to have an entry that is seen and not 0, and if there is any such line, a gap
        whose entry is not 0.

        Raises:
            ValueError: for a matrix of which nothing is seen but zeros, and for entries of full rank, where what is
                missing does not follow from what is seen.
        """
        if self.entries == "full rank":
            raise ValueError("entries of full rank say nothing of those that are missing: no change of them does")
        values = rearrange(batch.labels, "batch (row column) -> batch row column", row=shape[0])
        seen = rearrange(batch.tokens != MASK, "batch (row column) -> batch row column", row=shape[0])

        def by_line(entries: Bool[Tensor, "batch row column"]) -> Int[Tensor, "batch line"]:
            return torch.cat([entries.sum(dim=2), entries.sum(dim=1)], dim=1)

        n_changed, n_asked = by_line(seen & (values != 0)), by_line(~seen & (values != 0))
        can_change = n_changed > 0
        if not can_change.any(dim=1).all():
            raise ValueError("there is a matrix of which nothing is seen but zeros: no line of it can be negated")
        asks = can_change & (n_asked > 0)
        allowed = torch.where(asks.any(dim=1, keepdim=True), asks, can_change)
        draw = torch.rand(n_changed.shape, generator=generator, device=generator.device).to(n_changed.device)
        line = (n_changed + draw).masked_fill(~allowed, torch.inf).argmin(dim=1)
        chosen = torch.zeros_like(allowed).scatter(1, rearrange(line, "batch -> batch 1"), True)
        rows, columns = torch.split(chosen, list(shape), dim=1)
        flipped = rearrange(rows, "batch row -> batch row 1") | rearrange(columns, "batch column -> batch 1 column")
        where = rearrange(flipped, "batch row column -> batch (row column)")
        opposite = self.negated(batch)
        return Batch(batch.tokens.where(~where, opposite.tokens), batch.labels.where(~where, opposite.labels))

    def tokens_to_text(self, tokens: Int[Tensor, " pos"]) -> list[str]:
        """Each value with the decimals of the grid; ``?`` where it is missing."""
        decimals = max(0, math.ceil(-math.log10(self.grid_step) - 1e-9))
        return ["?" if math.isnan(value) else f"{value:.{decimals}f}" for value in self.values(tokens).tolist()]

    def _steps(self, values: Float[Tensor, "*axes"]) -> Int[Tensor, "*axes"]:
        return (values.to(torch.float64) / self.grid_step).round().long().clamp(-self.half, self.half)


def _uniform(size: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return 2 * torch.rand(size, generator=generator, device=generator.device) - 1


def _normal(size: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(size, generator=generator, device=generator.device)


def _laplace(size: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """The difference of two exponentials of mean 1; 1 - rand is above 0."""
    first, second = (-torch.log(1 - torch.rand(size, generator=generator, device=generator.device)) for _ in range(2))
    return first - second


LAWS: dict[str, Callable[[tuple[int, ...], torch.Generator], Tensor]] = {
    "uniform": _uniform,
    "normal": _normal,
    "laplace": _laplace,
}


def _of_factor(entries: Entries, scale: float) -> float:
    """The variance of a factor's entry."""
    spread = scale**2
    return {"uniform": spread / 3, "normal": spread, "laplace": 2 * spread}[entries]


@lru_cache(maxsize=64)
def _share_within(entries: Entries, rank: int, deviations: float) -> float:
    """``E min(|x|, end)² / E x²`` of a sum of products of factors, its end in standard deviations.

    ``E x²`` is known, and takes what the draw's own tail has too much or too little out of the mean.
    """
    generator = stream_generator(0, "variance of clipped entries", 0)
    size = (N_ENTRIES // min(rank, 16),)
    entry = sum(LAWS[entries](size, generator).double() * LAWS[entries](size, generator) for _ in range(rank))
    whole = torch.as_tensor(entry).square() / (rank * _of_factor(entries, 1.0) ** 2)
    clipped = whole.clamp(max=deviations**2)
    (_, both), (_, of_whole) = torch.stack([clipped, whole]).cov()
    return float(clipped.mean() - both / of_whole * (whole.mean() - 1))


def checked_shapes(given: Any) -> tuple[Shape, ...]:
    """Rows and columns as they were given, checked."""
    if not isinstance(given, tuple | list) or not given:
        raise ValueError(
            f"shapes must be one or several pairs of rows and columns, such as [(4, 4)]; got {shown(given)}"
        )
    shapes: list[Shape] = []
    for shape in given:
        if not isinstance(shape, tuple | list) or len(shape) != 2:
            raise ValueError(f"shapes must be pairs of rows and columns, such as [(4, 4)]; got {shown(given)}")
        at_least(1, shapes=shape[0])
        at_least(1, shapes=shape[1])
        shapes.append((shape[0], shape[1]))
    sizes = [math.prod(shape) for shape in shapes]
    if len(set(sizes)) < len(sizes):
        raise ValueError(f"shapes must differ in how many entries they have, which tells them apart; got {shapes}")
    if max(sizes) < 2:
        raise ValueError(f"shapes must have 2 entries at least; got {shapes}")
    return tuple(shapes)
