"""The numbers of the formats in which runs, series, sweeps and circuits are written; here alone.

A number is raised when a reader of the number before would misunderstand what is written now, and what had a smaller
number stays readable (`tests/test_runs_format_1.py` and the three after it, `tests/test_series_format_1.py`,
`tests/test_runs_circuits_format_1.py`).
Recipes have a number of their own: people write them by hand, and they are kept in other places than run folders.
"""

__all__ = [
    "CHECKPOINT_FORMAT",
    "CIRCUITS_FORMAT",
    "PLAIN_CHECKPOINT_FORMAT",
    "RECIPE_FORMAT",
    "SERIES_FORMAT",
    "SWEEP_FORMAT",
]

RECIPE_FORMAT = 1

CHECKPOINT_FORMAT = 4
"""1 had no digests: what is there is believed. 2 has those of all files and of the recipe in ``state.json``. 3 may be
without the optimiser's state. 4 has what an optimiser keeps beside tensors of its parameters' dtype and numbers."""

PLAIN_CHECKPOINT_FORMAT = 3
"""Of checkpoints whose optimiser has nothing of the kind, as those of the suite: an older version reads them right."""

SERIES_FORMAT = 1

SWEEP_FORMAT = 1

CIRCUITS_FORMAT = 1
