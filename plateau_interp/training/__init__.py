"""Training in memory: `loop` yields a record a step, `batches` says which sequences it sees, `meter` what is measured.

`settings` says how, with the task's defaults filled in; `optimizers` has the optimisers and learning-rate schedules as
plain data, `muon` the one that PyTorch lacks; `precision` says in which precision a step multiplies, `threads` on how
many threads, `graphs` repeats a GPU's steps without Python. `shares` counts the sequences of each kind that a task has.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[
        "batches",
        "graphs",
        "loop",
        "meter",
        "muon",
        "optimizers",
        "precision",
        "settings",
        "shares",
        "threads",
    ],
)
