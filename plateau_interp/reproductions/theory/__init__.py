"""Theories put to the test: what is proved of depth-2 nets, and capacities of queries and keys; no paper's figures.

`starts` trains depth-2 nets with and without a penalty, `rays` measures the Villani diagnostic far out, `scatter` draws
a capacity against the gap of the losses, `regularisers` compares what holds weights small. `measured` reads columns and
quantities off runs, `pooled` has the checks that look at several settings, `pictures` draws.
"""

from plateau_interp.reproductions.experiments import Paper
from plateau_interp.reproductions.theory.rays import RAYS
from plateau_interp.reproductions.theory.regularisers import (
    COMPLETION_COMPARED,
    HUBER,
    MODULAR_COMPARED,
    WINDOWS_COMPARED,
)
from plateau_interp.reproductions.theory.scatter import SCATTER
from plateau_interp.reproductions.theory.starts import STARTS

__all__ = ["PAPER"]

PAPER = Paper(
    name="theory",
    title="Theory that can be run",
    source=(
        "Our own experiments on quantities of arXiv 2210.11452, 2309.09258 and 2205.11359, no figure of which is "
        "reproduced: the settings of the first two are not known to us"
    ),
    about=(
        "Theorems on training speak of nets that nobody trains. Here such nets are trained, and some quantities of "
        "theories are measured of small Transformers."
    ),
    legend=(
        "Sources say what kind of statement a claim is. *Proved*: derived in full in the docstrings of "
        "`plateau_interp.analysis`; its check tests proof and code. *Measured*: what we expected of these runs from "
        "earlier ones of other code or of seed 100, which does not count. *Presumed*: read about, of other models, and "
        "held against these runs; that it does not hold here says nothing of the paper. All bounds were fixed before "
        "the runs; of claims marked *late* the setting was changed after a first sweep had been looked at."
    ),
    cover="starts",
    experiments=(STARTS, RAYS, SCATTER, WINDOWS_COMPARED, MODULAR_COMPARED, COMPLETION_COMPARED, HUBER),
)
