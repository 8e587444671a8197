"""Completing matrices in writing, for models that read in one direction: `WrittenCompletion`.

For an encoder, which gives a number at each entry, see `plateau_interp.tasks.completion`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plateau_interp.checks import one_of, shown
from plateau_interp.tasks._layouts import Scored, at_least, check_draw
from plateau_interp.tasks._matrices import MASK, Entries, Masking, Matrices, Shape
from plateau_interp.types import IGNORE, Batch, Defaults, Levels, answer_rows

__all__ = ["WrittenCompletion"]


@dataclass(frozen=True)
class WrittenCompletion(Matrices):
    """A low-rank matrix with gaps, a separator, and the whole matrix again, token by token.

    Matrices and their tokens are those of `MatrixCompletion`; the model is causal, predicts the next token, and writes
    the answer greedily. Where its loss drops it begins to copy what is seen. What is missing it can but guess before it
    has learnt more; the loss counts the random prompt, too, as in the paper.

    Args:
        shape: rows and columns.
        rank: of the matrices.
        missing: share of the entries that are missing.
        masking: each entry missing by itself ("independent"), or as many of each matrix ("count").
        entries: law of the factors' entries; see `MatrixCompletion`.
        scale: of that law.
        grid_step: from one value of the grid to the next.
        largest: last value of the grid, to which larger ones are clipped.
        scored: whether the loss counts the whole ``"sequence"`` or the ``"answer"`` alone.

    Raises:
        ValueError: for a number that cannot be.

    Source: arXiv 2410.22244, figures 11 and 12, authors' code: ``WrittenCompletion(shape=(7, 7), rank=2,
    grid_step=0.01)`` with 2 layers, 2 heads, width 256, Adam 1e-4 and 256 matrices a step. Their vocabulary has two
    ids that nothing uses. The defaults are a small setting of ours.

    Example:
        >>> task = WrittenCompletion(shape=(2, 2))
        >>> batch = task.sample(1, generator=torch.Generator().manual_seed(3))
        >>> task.tokens_to_text(batch.tokens[0])
        ['0.4', '?', '0.3', '0.7', '|', '0.4', '0.9', '0.3', '0.7']
    """

    shape: Shape = (4, 4)
    rank: int = 1
    missing: float = 0.3
    masking: Masking = "independent"
    entries: Entries = "uniform"
    scale: float = 1.0
    grid_step: float = 0.1
    largest: float | None = None
    scored: Scored = "sequence"

    name: ClassVar[str] = "written-completion"
    mask_token: ClassVar[int] = MASK
    defaults: ClassVar[Defaults] = Defaults(
        steps=400,
        n_layers=2,
        batch_size=64,
        learning_rate=3e-4,
        attention="softmax",
        n_heads=2,
        d_model=128,
        measure_every=5,
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", _shape(self.shape))
        one_of(Scored, scored=self.scored)
        self.check_matrices()
        if not 0 < self.share_missing(self.shape) < 1:
            raise ValueError(
                f"missing must leave every matrix something to see and something to fill in; got {self.missing:g}"
            )

    @property
    def n_entries(self) -> int:
        """Of a matrix."""
        return math.prod(self.shape)

    @property
    def separator(self) -> int:
        """The separator's token id: after the mask and the values of the grid."""
        return 2 * self.half + 2

    @property
    def d_vocab(self) -> int:
        """Mask, values of the grid, separator."""
        return self.separator + 1

    @property
    def n_pos(self) -> int:
        """The matrix twice, a separator between."""
        return 2 * self.n_entries + 1

    @property
    def answer(self) -> slice:
        """The whole matrix."""
        return slice(self.n_entries + 1, self.n_pos)

    @property
    def levels(self) -> Levels:
        """At first all tokens are equally likely. What a model on the plateau makes of the numbers has no closed form.

        It learns their law, and in time how large those of one matrix are.
        """
        return Levels(initial=math.log(self.d_vocab))

    def sample(self, n: int, *, generator: torch.Generator) -> Batch:
        """Draw ``n`` matrices."""
        check_draw(n, generator)
        return self.batch(*self.draw_matrices(n, self.shape, generator=generator))

    def batch(self, matrices: Float[Tensor, "batch row column"], seen: Bool[Tensor, "batch row column"]) -> Batch:
        """The sequences of some matrices, rounded, of which some entries are seen."""
        whole = self.ids(rearrange(matrices, "batch row column -> batch (row column)"))
        hidden = ~rearrange(seen, "batch row column -> batch (row column)")
        return self._labelled(whole.masked_fill(hidden, MASK), whole)

    def answer_kinds(self, batch: Batch) -> Mapping[str, Bool[Tensor, "batch answer"]]:
        """Entries that are seen, and that are missing."""
        seen = batch.tokens[:, : self.n_entries] != MASK
        return {"observed": seen, "missing": ~seen}

    @property
    def captions(self) -> Mapping[str, str]:
        """What reports say of the accuracy of each kind of answer."""
        share = "Share of the entries, in greedy answers, that are right, of those that"
        return {"accuracy_observed": f"{share} are seen.", "accuracy_missing": f"{share} are missing."}

    def optimal_attention(self, batch: Batch) -> list[Bool[Tensor, "1 query key"]]:
        """Each row reads the entry that it is to write; which layer does, the model may choose."""
        rows = torch.zeros(1, self.n_pos - 1, self.n_pos - 1, dtype=torch.bool, device=batch.tokens.device)
        rows[:, answer_rows(self), : self.n_entries] = torch.eye(self.n_entries, dtype=torch.bool, device=rows.device)
        return [rows] * self.defaults.n_layers

    def separator_map(self) -> Bool[Tensor, "1 query key"]:
        """The separator's column in the answer rows: what the paper's second layer reads on the plateau."""
        column = torch.zeros(1, self.n_pos - 1, self.n_pos - 1, dtype=torch.bool)
        column[:, answer_rows(self), self.n_entries] = True
        return column

    def corrupt(self, batch: Batch, *, generator: torch.Generator) -> Batch:
        """The same matrices with a row or a column of each negated, as `MatrixCompletion.corrupt` does.

        Raises:
            ValueError: for a matrix of which nothing is seen but zeros, and for entries of full rank.
        """
        check_draw(len(batch), generator)
        seen, whole = batch.tokens[:, : self.n_entries], batch.tokens[:, self.answer]
        changed = self.with_a_line_negated(Batch(seen, self.values(whole)), self.shape, generator=generator)
        return self._labelled(changed.tokens, self.ids(changed.labels))

    def tokens_to_text(self, tokens: Int[Tensor, " pos"]) -> list[str]:
        """Values with the decimals of the grid, ``?`` where one is missing, ``|`` for the separator."""
        told = super().tokens_to_text(tokens)
        return ["|" if token == self.separator else text for token, text in zip(tokens.tolist(), told, strict=True)]

    def _labelled(self, seen: Int[Tensor, "batch entry"], whole: Int[Tensor, "batch entry"]) -> Batch:
        tokens = torch.cat([seen, seen.new_full((len(seen), 1), self.separator), whole], dim=1)
        labels = tokens[:, 1:].clone()
        if self.scored == "answer":
            labels[:, : answer_rows(self).start] = IGNORE
        return Batch(tokens, labels)


def _shape(given: object) -> Shape:
    """Rows and columns as they were given, checked."""
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise ValueError(f"shape must be rows and columns, such as (4, 4); got {shown(given)}")
    n_rows, n_columns = given
    at_least(1, shape=n_rows)
    at_least(1, shape=n_columns)
    if n_rows * n_columns < 2:
        raise ValueError(f"shape must have 2 entries at least; got {(n_rows, n_columns)}")
    return (n_rows, n_columns)
