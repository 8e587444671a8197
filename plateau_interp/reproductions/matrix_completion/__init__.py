"""Experiments of "Abrupt Learning in Transformers: A Case Study on Matrix Completion", claim by claim.

Gopalani, Lubana and Hu, NeurIPS 2024, arXiv 2410.22244. `drop` has the drop itself, small and at the paper's own size.
Others are trained by `sizes` (widths and depths), `trained_on` (several sizes at once, other laws), `in_writing`
(causal models) and `components` (one trained, the others given). All other modules are studies of the small runs; each
has a function of a run, for runs of your own:

* `numbers_in_gaps`: numbers in the place of gaps. `negated_input`: what heads write for X in the run on -X.
* `head_groups`: heads ablated together, and what they read under structured gaps. `swapping`: components of the plateau
  in the end, and the other way round.
* `linear_reading`: what a probe reads off the states. `embedding_layout`: tokens and positions.
* `other_matrices`: beside completion by nuclear norm, at other shares of gaps and on other matrices.
* Beyond the paper: `bottleneck` helps attention, or gives components, from a step on (which trains); `shoulder` says
  which entries are completed after the drop.
* `studies` is what they share.
"""

from plateau_interp.reproductions.experiments import Paper
from plateau_interp.reproductions.matrix_completion.bottleneck import BOTTLENECK, FORKS
from plateau_interp.reproductions.matrix_completion.components import COMPONENTS_ALONE
from plateau_interp.reproductions.matrix_completion.drop import LARGE_MATRICES, SMALL_MATRICES
from plateau_interp.reproductions.matrix_completion.embedding_layout import EMBEDDINGS, embedding_structure
from plateau_interp.reproductions.matrix_completion.head_groups import (
    HEADS_ABLATED,
    STRUCTURED_GAPS,
    ablated_groups,
    structured_attention,
)
from plateau_interp.reproductions.matrix_completion.in_writing import CAUSAL_MODELS
from plateau_interp.reproductions.matrix_completion.linear_reading import LINEAR_READING, linear_readings
from plateau_interp.reproductions.matrix_completion.negated_input import NEGATED_INPUT, patched_into_negated
from plateau_interp.reproductions.matrix_completion.numbers_in_gaps import COPY_CHECK, copy_check
from plateau_interp.reproductions.matrix_completion.other_matrices import (
    MASKING_LEVELS,
    OTHER_MATRICES,
    beside_nuclear_norm,
    masking_levels,
    other_kinds,
)
from plateau_interp.reproductions.matrix_completion.shoulder import SHOULDER, completed_entries
from plateau_interp.reproductions.matrix_completion.sizes import DEPTHS, WIDTHS
from plateau_interp.reproductions.matrix_completion.swapping import COMPONENTS_SWAPPED, swapped_components
from plateau_interp.reproductions.matrix_completion.trained_on import MIXTURE, OTHER_LAWS

__all__ = [
    "PAPER",
    "ablated_groups",
    "beside_nuclear_norm",
    "completed_entries",
    "copy_check",
    "embedding_structure",
    "linear_readings",
    "masking_levels",
    "other_kinds",
    "patched_into_negated",
    "structured_attention",
    "swapped_components",
]

PAPER = Paper(
    name="matrix-completion",
    title="Abrupt Learning in Transformers: A Case Study on Matrix Completion",
    source="Gopalani, Lubana and Hu, arXiv 2410.22244",
    about=(
        "A bidirectional encoder fills in the missing entries of low-rank matrices, which it sees as a row of tokens. "
        "For long it copies what it sees and says 0 of the rest; then its heads begin to read rows and columns, and "
        "its loss drops. The body of the paper and the cells of its tables were not at hand: what it says is known "
        "from its captions, its authors' code and what third parties tell."
    ),
    legend=(
        "*Authors' code* marks what their public code says, *another's run* the curve of a public run of it, read off "
        "a figure to 5 %; *closed form* a number that follows from the task, *derived* one that follows from what is "
        "claimed. Claims marked *late* were written, or given another measure, after some of their runs had been "
        "looked at, all others before."
    ),
    cover="fig2",
    experiments=(
        SMALL_MATRICES,
        LARGE_MATRICES,
        COPY_CHECK,
        HEADS_ABLATED,
        STRUCTURED_GAPS,
        NEGATED_INPUT,
        COMPONENTS_SWAPPED,
        LINEAR_READING,
        EMBEDDINGS,
        COMPONENTS_ALONE,
        MASKING_LEVELS,
        OTHER_MATRICES,
        CAUSAL_MODELS,
        WIDTHS,
        DEPTHS,
        MIXTURE,
        OTHER_LAWS,
        BOTTLENECK,
        FORKS,
        SHOULDER,
    ),
)
