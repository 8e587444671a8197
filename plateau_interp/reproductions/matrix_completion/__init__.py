"""Experiments of "Abrupt Learning in Transformers: A Case Study on Matrix Completion", claim by claim.

Gopalani, Lubana and Hu, NeurIPS 2024, arXiv 2410.22244. `drop` has the drop itself, small and at the paper's own size.
"""

from plateau_interp.reproductions.experiments import Paper
from plateau_interp.reproductions.matrix_completion.components import COMPONENTS_ALONE
from plateau_interp.reproductions.matrix_completion.drop import LARGE_MATRICES, SMALL_MATRICES

__all__ = ["PAPER"]

PAPER = Paper(
    name="matrix-completion",
    title="Abrupt Learning in Transformers: A Case Study on Matrix Completion",
    source="Gopalani, Lubana and Hu, arXiv 2410.22244",
    about=(
        "A bidirectional encoder fills in the missing entries of low-rank matrices, which it sees as a row of tokens. "
        "For long it copies what it sees and says 0 of the rest; then its heads begin to read rows and columns, and "
        "its loss drops. The body of the paper and the cells of its tables were not at hand: what it says is known "
        "from its captions, its authors' code and what third parties tell. Of its experiments the drop is run so far."
    ),
    legend=(
        "*Authors' code* marks what their public code says, *another's run* the curve of a public run of it, read off "
        "a figure to 5 %; *closed form* a number that follows from the task. Claims marked *late* were written, or "
        "given another measure, after some of their runs had been looked at, all others before."
    ),
    cover="fig2",
    experiments=(SMALL_MATRICES, LARGE_MATRICES, COMPONENTS_ALONE),
)
