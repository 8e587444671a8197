"""How circuits form: experiments of our own, no paper's, on which edges carry an answer while it is learned.

`toys` has the moving-window sum, the same with attention biased, permutation and histogram; `text_model` a small
language model. `measured` makes columns of a run's circuits and reads quantities off them, `same` compares the circuits
of two settings, `pictures` draws them.
"""

from plateau_interp.reproductions.circuits.text_model import TEXTS
from plateau_interp.reproductions.circuits.toys import FORKED, HISTOGRAMS, PERMUTATIONS, WINDOW_SUMS
from plateau_interp.reproductions.experiments import Paper

__all__ = ["PAPER"]

PAPER = Paper(
    name="circuits",
    title="How circuits form",
    source="No paper's: what we found beyond the papers",
    about=(
        "A prompt and the same with the least change that has another answer: by how much does the model prefer the "
        "right answer, and how much of that is lost when one edge between two of its parts is cut? These scores are a "
        "circuit. Here it is measured at every checkpoint of small models while they learn."
    ),
    legend=(
        "No claim here is a paper's. *Explored* marks those that were written after one run of seed 100 had been "
        "looked at, which does not count; *expected* those that were written without. All bounds were fixed "
        "before these seeds were run. The *main edges* are the fewest that carry nine tenths of the sum of all scores' "
        "sizes at the last measured step; an edge *is there* from the first measured step on that keeps at least half "
        "of its last score. Scores are by gradients, on 64 pairs that are the same at every step and seed; of the "
        "weights by themselves, also where attention was biased in training. Steps are good to the distance of two "
        "checkpoints. At the *onset* a batch's loss has left the plateau, at the *fall* it is half-way down."
    ),
    cover="windows",
    experiments=(WINDOW_SUMS, FORKED, PERMUTATIONS, HISTOGRAMS, TEXTS),
)
