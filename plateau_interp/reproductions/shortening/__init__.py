"""Experiments of the poster "Shortening the Loss Plateau", counted as it did, and fairly.

`mixes` has the runs of table 1 and figure 1, `table_one` what is claimed of them, `poster` the poster's numbers,
`beside` the table that has these beside ours, `ends` what it took to reach a criterion and what mixing saves,
`pictures` the pictures. `transfer` begins one task with the weights of another, `moves` says which weights that moves.
`one_hot_mlp` has grokking that a processor can pay for, and what is said to hasten it; `own_transformer` the poster's
own model and its figure 3, `own_tasks` this model with two operations; `grokking_tasks` several operations at once in
smaller settings, `shared_facts` whether these help or tell what is held out; `beyond` and `collapse` ask what the
poster did not.
"""

from plateau_interp.reproductions.experiments import Paper
from plateau_interp.reproductions.shortening.beyond import SECOND_TASK, WHAT_TRANSFERS
from plateau_interp.reproductions.shortening.collapse import COLLAPSE
from plateau_interp.reproductions.shortening.grokking_tasks import GROKKING_TASKS
from plateau_interp.reproductions.shortening.one_hot_mlp import GROKKING_DECAY, GROKKING_INITS, GROKKING_REMEDIES
from plateau_interp.reproductions.shortening.own_tasks import OWN_TASKS
from plateau_interp.reproductions.shortening.own_transformer import SPARSE_AND_SMALL
from plateau_interp.reproductions.shortening.shared_facts import SHARED_FACTS
from plateau_interp.reproductions.shortening.table_one import FIG1, TABLE1
from plateau_interp.reproductions.shortening.transfer import MOVED, PREFIX_TO_SUM, REVERSE, SEPARATOR, SUM_TO_PRODUCT

__all__ = ["PAPER"]

PAPER = Paper(
    name="shortening",
    title="Shortening the Loss Plateau",
    source="a poster of the University of California San Diego, 2026, and its public repository",
    about=(
        "The poster says that several tasks at once save 63 % of the samples, that a model of prefix sums learns the "
        "moving-window sum without a plateau, and that other ways to begin or to train make a model grok 18 to 100 "
        "times faster. Each of its numbers is of one run of one seed, and hangs on what is counted: samples of one "
        "task or of all, the end of the plateau or the last answers, a baseline without weight decay or with it. Here "
        "its numbers are measured as it did, and the same runs are counted in every currency. Its own grokking model, "
        "a Transformer with norms after each addition, on equations modulo 97, is trained for the first 8,000 steps of "
        "figure 3, division with sparse, small and usual initial weights (40 TFLOP a run), and for as many of division "
        "with multiplication, of which its repository says 5,450 (50 TFLOP). Not run are its longer experiments: "
        "division to the end, 334,000 steps of 6 GFLOP (2,000 TFLOP), and the 250,000 steps of figure 3; four "
        "operations, 1.6 million steps (9,800 TFLOP); SGD, 250,000 steps (1,200 TFLOP), of which the code is not "
        "public. An MLP and a small Transformer stand in for them here."
    ),
    legend=(
        "Of the poster's numbers *table* and *figure* are its own; *read by others* marks what a third party read off "
        "its figures, to a tenth; *notebook* what the saved output of its repository says; *derived* what its own "
        "numbers give in another currency. All claims and bounds were fixed before the runs of seeds that count. *Own "
        "sequences* are those of the task in question, *sequences of all tasks* those of every task that was trained "
        "beside it."
    ),
    cover="table1",
    experiments=(
        TABLE1,
        FIG1,
        PREFIX_TO_SUM,
        REVERSE,
        SUM_TO_PRODUCT,
        MOVED,
        SEPARATOR,
        SECOND_TASK,
        WHAT_TRANSFERS,
        COLLAPSE,
        GROKKING_DECAY,
        GROKKING_INITS,
        GROKKING_REMEDIES,
        SPARSE_AND_SMALL,
        OWN_TASKS,
        GROKKING_TASKS,
        SHARED_FACTS,
    ),
)
