"""Experiments of "What Happens During the Loss Plateau?" (Gopalani and Hu, arXiv 2506.13688), claim by claim.

Figures are numbered as in the paper's second version. Where a claim's source says *figure, read by others*, the number
was read off a figure by a third party and is good to 0.1; the bounds of such claims are that wide. *Closed form* means
that it follows from the task. What the paper gives no number for is measured and reported as unknown.
"""

from plateau_interp.reproductions.experiments import Paper
from plateau_interp.reproductions.loss_plateau.attention_interventions import FIG3, FIG4, FIG5, FIG43
from plateau_interp.reproductions.loss_plateau.baseline import FIG2
from plateau_interp.reproductions.loss_plateau.counterfactual import COUNTERFACTUAL
from plateau_interp.reproductions.loss_plateau.hidden_states import FIG20, FIG41
from plateau_interp.reproductions.loss_plateau.language_models import FIG8, FIG23, TABLES
from plateau_interp.reproductions.loss_plateau.long_tasks import FIG9, FIG13, FIG15, FIG19
from plateau_interp.reproductions.loss_plateau.optimisation import BFLOAT16, FIG31, FIG32, FIG34
from plateau_interp.reproductions.loss_plateau.shelves import STUCK, WINDOW_OF_3
from plateau_interp.reproductions.loss_plateau.short_tasks import FIG6, FIG7, FIG17, FIG18, FIG21, FIG22
from plateau_interp.reproductions.loss_plateau.trained_text import TEXT, TEXT_ATTENTION, TEXT_UNIGRAM
from plateau_interp.reproductions.loss_plateau.variants import FIG26, FIG30

__all__ = ["PAPER"]

PAPER = Paper(
    name="loss-plateau",
    title="What Happens During the Loss Plateau?",
    source="Gopalani and Hu, arXiv 2506.13688",
    about=(
        "One-layer Transformers with linear attention, most of them, learn small algorithmic tasks (above all the "
        "moving-window sum: y_i is the sum of neighbouring numbers modulo 17) from fresh batches: the loss rests on a "
        "plateau, then drops within a few steps. Language models collapse early in their training, too: a small one "
        "was trained here, published ones need a hub. Nothing here was checked against the paper's own text: its "
        "claims are known from what third parties tell of its figures, and many of their bounds are ours."
    ),
    legend=(
        "Nothing here was checked against the paper's own text: *figure* marks what third parties tell of a figure, "
        "*told by others* what they say in so many words, *read by others* a number that a third party read off it, "
        "which is good to 0.1, as are the bounds of those claims; *inferred* marks what follows from a figure's "
        "setting without being told; *closed form* a number that follows from the task. Claims marked *late* were "
        "written, or given another measure, after some of their runs had been looked at, all others before.\n\n"
        "Runs of the baseline, of figure 20 and of text go to their last step, all others end 10 steps after they are "
        "solved (99 % of the decoded tokens right): *at the end* means there. Where the loss falls without a plateau, "
        "*drop step* is where half of the fall is done. Figures 20 and 41 measure more in the baseline's own "
        "trainings, repeated: they are no further evidence for figure 2."
    ),
    cover="counterfactual",
    experiments=(
        FIG2,
        FIG3,
        FIG4,
        FIG5,
        FIG6,
        FIG7,
        FIG17,
        FIG18,
        FIG19,
        FIG20,
        FIG21,
        FIG22,
        FIG26,
        FIG30,
        FIG31,
        FIG32,
        FIG34,
        BFLOAT16,
        FIG41,
        FIG43,
        FIG9,
        FIG13,
        FIG15,
        WINDOW_OF_3,
        STUCK,
        COUNTERFACTUAL,
        FIG8,
        FIG23,
        TABLES,
        TEXT,
        TEXT_UNIGRAM,
        TEXT_ATTENTION,
    ),
)
