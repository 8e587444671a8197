"""Completing matrices of low rank, some entries of which are missing: `MatrixCompletion`.

Numbers are predicted, everywhere at once, by a model that reads in both directions.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from plateau_interp.analysis.answer_grids import AnswerGrids
from plateau_interp.checks import check_positive
from plateau_interp.interventions.hook_points import pattern_name
from plateau_interp.metrics import head_shares
from plateau_interp.tasks._layouts import check_draw
from plateau_interp.tasks._matrices import MASK, Entries, Masking, Matrices, Shape, checked_shapes
from plateau_interp.types import Batch, Defaults, HookedModel, Levels

__all__ = ["EntryLosses", "MatrixCompletion"]

READ = ("row", "column", "self", "observed")
"""What a head's attention may be on: the query's row, its column, itself, and entries that are seen."""
MOST_OF_IT = 0.5
"""A head is of a kind from this share of its attention on."""


class EntryLosses(NamedTuple):
    """Mean squared errors of a batch, and how far from 0 the model says missing entries are."""

    all: Float[Tensor, ""]
    observed: Float[Tensor, ""]
    missing: Float[Tensor, ""]
    mask_value: Float[Tensor, ""]
    """Mean absolute output at missing entries."""


@dataclass(frozen=True)
class MatrixCompletion(Matrices):
    """All entries of a low-rank matrix, of which some are missing.

    ``X = U Vᵀ`` with independent entries of the factors U and V, fresh for each sequence, rounded to a grid. A sequence
    is the matrix row by row, a token for each value and 0 for a missing entry; the model gives a number at each
    position, and the loss is the mean squared error over all entries, seen or missing. On the plateau a model copies
    what it sees and says 0 where an entry is missing: `levels`, and `closed_forms` by entry. Then it learns to read
    rows and columns.

    Args:
        shapes: rows and columns. With several, each batch is of one of them, drawn at random.
        rank: of the matrices.
        missing: share of the entries that are missing.
        masking: each entry missing by itself ("independent"), or as many of each matrix ("count").
        entries: law of the factors' entries: "uniform", "normal", "laplace"; or "full rank", independent uniform
            entries of the matrix itself, which nobody can complete.
        scale: of that law: its largest value, its deviation, or its mean absolute value.
        grid_step: from one value of the grid to the next.
        largest: last value of the grid, to which larger ones are clipped; by default the largest that there are, or ten
            deviations.
        delta: of Huber's loss in the place of the squared error: ``e²/2`` of errors e up to delta in size, ``delta
            (|e| - delta/2)`` of larger ones; None for the squared error. Of small errors it is half the squared one,
            and so is its gradient. ``loss`` is then Huber's; ``squared_error``, ``loss_observed`` and ``loss_missing``
            stay mean squares, so that curves compare. No closed form of its level on the plateau is known here.

    Raises:
        ValueError: for a number that cannot be, and for two shapes of equally many entries.

    Source: arXiv 2410.22244, sections 2 and 3: ``MatrixCompletion(shapes=((7, 7),), rank=2, grid_step=0.01,
    largest=10.0)`` with 4 layers, 8 heads, width 768 and ``init_std=0.02``. The defaults are a small setting of ours
    that drops within two minutes. Huber's loss is what the abstract of arXiv 2205.11359, version 3, chooses for
    operator nets; 0.25 and 0.4 are the values of delta in its authors' code. Nothing is known of it for this task.

    Example:
        >>> task = MatrixCompletion(shapes=((2, 3),))
        >>> batch = task.sample(1, generator=torch.Generator().manual_seed(3))
        >>> task.tokens_to_text(batch.tokens[0])
        ['?', '0.9', '0.1', '0.3', '0.7', '0.0']
        >>> [round(value, 1) for value in batch.labels[0].tolist()]
        [0.4, 0.9, 0.1, 0.3, 0.7, 0.0]
    """

    shapes: tuple[Shape, ...] = ((4, 4),)
    rank: int = 1
    missing: float = 0.3
    masking: Masking = "independent"
    entries: Entries = "uniform"
    scale: float = 1.0
    grid_step: float = 0.1
    largest: float | None = None
    delta: float | None = None

    name: ClassVar[str] = "matrix-completion"
    lookahead: ClassVar[int] = 0
    d_output: ClassVar[int] = 1
    mask_token: ClassVar[int] = MASK
    defaults: ClassVar[Defaults] = Defaults(
        steps=5000,
        n_layers=2,
        batch_size=128,
        learning_rate=2e-3,
        attention="softmax",
        n_heads=4,
        d_model=64,
        measure_every=10,
        architecture="encoder",
        # The paper's 0.02 at width 768 makes attention differ at the start; at width 64 it would be uniform.
        init_std=0.12,
        mask_embedding="zero",
    )

    n_matrices: ClassVar[int] = 128
    """Matrices of each shape that are drawn to be measured."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "shapes", checked_shapes(self.shapes))
        self.check_matrices()
        if not all(0 < self.share_missing(shape) < 1 for shape in self.shapes):
            raise ValueError(
                f"missing must leave every matrix something to see and something to fill in; got {self.missing:g}"
            )
        if self.delta is not None:
            check_positive(self, "delta")

    @property
    def unit(self) -> str:  # type: ignore[override]  # of most tasks that of the class; here delta decides
        """Of the loss."""
        return "mean square" if self.delta is None else "Huber"

    @property
    def mean_missing(self) -> float:
        """The share of missing entries, mean over the shapes."""
        return sum(map(self.share_missing, self.shapes)) / len(self.shapes)

    @property
    def d_vocab(self) -> int:
        """Values of the grid, and the mask."""
        return 2 * self.half + 2

    @property
    def n_pos(self) -> int:
        """Entries of the largest matrix."""
        return max(map(math.prod, self.shapes))

    @property
    def answer(self) -> slice:
        """Every entry may have to be filled in."""
        return slice(0, self.n_pos)

    @property
    def levels(self) -> Levels:
        """On the plateau seen entries are copied, and missing ones are 0: of the squared error a known level."""
        return Levels(plateau=self.closed_forms["copy"].all if self.delta is None else None)

    @property
    def closed_forms(self) -> dict[str, "ClosedForm"]:
        """Squared errors by entry of a model that says 0 everywhere ("zero"), and of one that copies ("copy").

        Of entries as they are drawn, clipped to the grid's ends; rounding adds up to ``grid_step²/12`` to the variance.
        Where something is clipped that is a product of factors, they are good to half a per cent: `clipped_variance`.

        Source: with entries u, v uniform in [-1, 1], E (uv)² = 1/9, so Var X = rank/9.
        """
        variance = self.clipped_variance
        return {
            "zero": ClosedForm(all=variance, observed=variance, missing=variance),
            "copy": ClosedForm(all=self.mean_missing * variance, observed=0.0, missing=variance),
        }

    def sample(self, n: int, *, generator: torch.Generator) -> Batch:
        """Draw ``n`` matrices of one shape."""
        check_draw(n, generator)
        shape = self.shapes[0]
        if len(self.shapes) > 1:
            index = torch.randint(len(self.shapes), (), generator=generator, device=generator.device)
            shape = self.shapes[int(index)]
        return self.batch(*self.draw_matrices(n, shape, generator=generator))

    def batch(self, matrices: Float[Tensor, "batch row column"], seen: Bool[Tensor, "batch row column"]) -> Batch:
        """The sequences of some matrices, rounded, of which some entries are seen."""
        cells = rearrange(matrices, "batch row column -> batch (row column)")
        hidden = ~rearrange(seen, "batch row column -> batch (row column)")
        return Batch(self.ids(cells).masked_fill(hidden, MASK), self.rounded(cells))

    def corrupt(self, batch: Batch, *, generator: torch.Generator) -> Batch:
        """The same matrices with a row or a column of each negated, which changes what stands in its gaps.

        No smaller change leaves a matrix of the same rank, and of the same law: a single entry would contradict the
        others. Of the lines with a gap that one is taken of which least is seen (of equals one is drawn); of a matrix
        without gaps any line, for what is seen is to be answered, too.

        Raises:
            ValueError: for a matrix of which nothing is seen but zeros, and for entries of full rank, where what is
                missing does not follow from what is seen.

        Example:
            >>> task, generator = MatrixCompletion(shapes=((2, 2),)), torch.Generator().manual_seed(3)
            >>> batch = task.sample(1, generator=generator)
            >>> corrupted = task.corrupt(batch, generator=generator)
            >>> [task.tokens_to_text(each.tokens[0]) for each in (batch, corrupted)]
            [['0.4', '?', '0.3', '0.7'], ['-0.4', '?', '0.3', '0.7']]
        """
        check_draw(len(batch), generator)
        return self.with_a_line_negated(batch, self.shape_of(batch), generator=generator)

    def shape_of(self, batch: Batch) -> Shape:
        """Rows and columns of a batch's matrices, told by how many entries they have.

        Raises:
            ValueError: if the task has no such matrices.
        """
        n_cells = batch.tokens.shape[1]
        for shape in self.shapes:
            if math.prod(shape) == n_cells:
                return shape
        raise ValueError(f"sequences of {n_cells} tokens are no matrices of the shapes {list(self.shapes)}")

    def loss(self, output: Float[Tensor, "batch query 1"], batch: Batch) -> Float[Tensor, ""]:
        """Mean squared error over the scored entries, or Huber's, seen or missing; in float32 at least."""
        error, scored = _errors(output, batch)
        losses = error.square() if self.delta is None else _huber(error, self.delta)
        return losses.sum() / scored.sum()

    def entry_losses(self, output: Float[Tensor, "batch query 1"], batch: Batch) -> EntryLosses:
        """Squared errors of all entries, of those that are seen and of those that are missing; the latter's outputs."""
        error, scored = _errors(output, batch)
        seen, missing = (scored & (batch.tokens != MASK)).float(), (scored & (batch.tokens == MASK)).float()
        square = error.square()

        def over(values: Tensor, where: Tensor) -> Float[Tensor, ""]:
            return (values * where).sum() / where.sum()

        size = output[..., 0].to(error.dtype).abs()
        return EntryLosses(square.sum() / scored.sum(), over(square, seen), over(square, missing), over(size, missing))

    def kinds_of_attention(self, batch: Batch) -> dict[str, Bool[Tensor, "#batch query key"]]:
        """The keys of each query that are in its row, in its column, itself, and seen."""
        n_rows, n_columns = self.shape_of(batch)
        place = torch.arange(n_rows * n_columns, device=batch.tokens.device)
        row, column = place // n_columns, place % n_columns
        seen = rearrange(batch.tokens != MASK, "batch key -> batch 1 key")
        return {
            "row": rearrange(row[:, None] == row, "query key -> 1 query key"),
            "column": rearrange(column[:, None] == column, "query key -> 1 query key"),
            "self": rearrange(place[:, None] == place, "query key -> 1 query key"),
            "observed": seen.expand(-1, len(place), -1),
        }

    def optimal_attention(self, batch: Batch) -> list[Bool[Tensor, "batch query key"]]:
        """Each entry reads what is seen of its row and its column; which layer reads what, the model may choose."""
        kinds = self.kinds_of_attention(batch)
        return [(kinds["row"] | kinds["column"]) & kinds["observed"]] * self.defaults.n_layers

    def measures(self, model: HookedModel, *, generator: torch.Generator) -> dict[str, Float[Tensor, ""]]:
        """Losses of seen and missing entries of fresh matrices, and what each head's attention is on.

        Returns:
            ``loss_observed`` and ``loss_missing``, mean squares, and with ``delta`` ``squared_error``, of both;
            ``mask_value``; ``attention_on_row``, ``attention_on_column``, ``attention_on_self`` and
            ``attention_on_observed``, of the head that has most, and of each as ``attention_on_row_0_1`` (layer 0, head
            1): the share of its attention, mean over queries and matrices. Means over the shapes; the losses also of
            each, such as ``loss_missing_5x5``, if there are several.

        Source: arXiv 2410.22244, authors' code (L_obs, L_mask, mask value); shares per sample, since which entries are
        seen differs from one to the next.
        """
        found = [self._measures_of(shape, model, generator) for shape in self.shapes]
        means = {name: torch.stack([each[name] for each in found]).mean() for name in found[0]}
        for kind in READ:
            heads = [value for name, value in means.items() if name.startswith(f"attention_on_{kind}_")]
            means[f"attention_on_{kind}"] = torch.stack(heads).max()
        if len(self.shapes) > 1:
            for (n_rows, n_columns), each in zip(self.shapes, found, strict=True):
                means |= {f"{name}_{n_rows}x{n_columns}": each[name] for name in ("loss_observed", "loss_missing")}
        return means

    def head_groups(self, measured: Mapping[str, float]) -> dict[str, list[tuple[int, int]]]:
        """Layer and head of those that read mainly their row, their column, themselves, or what is seen.

        A head is of the first three kinds if more than half of its attention is on those keys, and most on these; what
        reads itself reads its row and its column, too, and is neither. It is of the fourth kind, as well, if it reads
        missing entries less than half as much as by chance.

        Args:
            measured: a row of metrics, with the shares of each head.

        Example:
            >>> task = MatrixCompletion()
            >>> shares = {"row": 0.9, "column": 0.2, "self": 0.1, "observed": 0.8}
            >>> task.head_groups({f"attention_on_{kind}_0_1": share for kind, share in shares.items()})
            {'row': [(0, 1)], 'column': [], 'self': [], 'observed': []}
        """
        groups: dict[str, list[tuple[int, int]]] = {kind: [] for kind in READ}
        for column in measured:
            if not column.startswith("attention_on_self_"):
                continue
            layer, head = (int(number) for number in column.removeprefix("attention_on_self_").split("_"))
            share = {kind: measured[f"attention_on_{kind}_{layer}_{head}"] for kind in READ}
            if share["observed"] > 1 - self.mean_missing / 2:
                groups["observed"].append((layer, head))
            reads = "self" if share["self"] > MOST_OF_IT else max(("row", "column"), key=lambda kind: share[kind])
            if share[reads] > MOST_OF_IT:
                groups[reads].append((layer, head))
        return groups

    def answer_grids(self, output: Float[Tensor, "batch query 1"], batch: Batch) -> AnswerGrids:
        """The matrices: what a model says of each entry, what is right, and which entries are missing."""
        n_rows, _ = self.shape_of(batch)

        def matrices(cells: Shaped[Tensor, "batch cell"]) -> Shaped[Tensor, "batch row column"]:
            return rearrange(cells, "batch (row column) -> batch row column", row=n_rows)

        return AnswerGrids(matrices(output[..., 0]), matrices(batch.labels), matrices(batch.tokens == MASK))

    @property
    def captions(self) -> Mapping[str, str]:
        """What reports say below the curves of `measures`."""
        heads = "The strong line is that of the head that has most."
        share = "Share of attention, mean over queries and matrices, that is on"
        return {
            "squared_error": "Of all entries of fresh matrices, where the loss that is trained on is Huber's.",
            "mask_value": "Mean absolute output at missing entries: 0 while nothing is said of them.",
            "attention_on_row": f"{share} the query's row. {heads}",
            "attention_on_column": f"{share} the query's column. {heads}",
            "attention_on_self": f"{share} the query itself. {heads}",
            "attention_on_observed": f"{share} entries that are seen: {1 - self.mean_missing:.2f} by chance. {heads}",
        }

    def remark(self, measured: Mapping[str, float]) -> str:
        """Which heads read rows, columns, themselves and what is seen."""
        groups = self.head_groups(measured)
        told = [
            f"{kind} {', '.join(f'{layer}.{head}' for layer, head in heads)}" for kind, heads in groups.items() if heads
        ]
        return f"heads (layer.head) that read mainly {'; '.join(told)}" if told else "no head reads one thing mainly"

    def _measures_of(
        self, shape: Shape, model: HookedModel, generator: torch.Generator
    ) -> dict[str, Float[Tensor, ""]]:
        batch = self.batch(*self.draw_matrices(self.n_matrices, shape, generator=generator))
        kinds = self.kinds_of_attention(batch)
        found: dict[str, Float[Tensor, ""]] = {}

        def keep(pattern: Tensor, *, hook: Any) -> None:
            layer = int(hook.name.split(".")[1])
            for kind, keys in kinds.items():
                shares = head_shares(pattern, keys).mean(dim=0)
                found.update({f"attention_on_{kind}_{layer}_{head}": share for head, share in enumerate(shares)})

        layers = range(model.cfg.n_layers)
        with torch.no_grad(), model.hooks(fwd_hooks=[(pattern_name(layer), keep) for layer in layers]):
            output = model(batch.inputs)
        losses = self.entry_losses(output, batch)
        return {
            "loss_observed": losses.observed,
            "loss_missing": losses.missing,
            "mask_value": losses.mask_value,
            **({} if self.delta is None else {"squared_error": losses.all}),
            **found,
        }


class ClosedForm(NamedTuple):
    """Losses of a model that does one thing: over all entries, those that are seen, those that are missing."""

    all: float
    observed: float
    missing: float


def _errors(
    output: Float[Tensor, "batch query 1"], batch: Batch
) -> tuple[Float[Tensor, "batch query"], Bool[Tensor, "batch query"]]:
    """Output minus label, 0 where nothing is scored; and what is."""
    precise = output[..., 0].to(torch.promote_types(output.dtype, torch.float32))
    scored = ~batch.labels.isnan()
    # Before the difference: the gradient of NaN is NaN, also where it is hidden afterwards.
    return torch.where(scored, precise - batch.labels.nan_to_num(), 0), scored


def _huber(error: Float[Tensor, "batch query"], delta: float) -> Float[Tensor, "batch query"]:
    """``e²/2`` up to ``|e| = delta``, and from there on a straight line."""
    return torch.nn.functional.huber_loss(error, torch.zeros_like(error), reduction="none", delta=delta)
