"""Training on disk: `recipe` is the plain data that rebuilds a run, `run` the folder that survives being killed.

Below `run` each module has one part of that: `creating` makes a folder or finds that it is there, `resuming` trains it
from its last checkpoint on, `forking` leaves it at a step, `checking` reads all of it, `thinning` and `pruning` keep it
small. What they work on is `folder`, the files of a run, with `checkpoints`, `table`, `seconds`, `environment` and
`formats`; `optimizer_state` has what a checkpoint keeps of the optimiser, as `kept_values`, which `shared_memory` must
keep apart; `identity` says which run a checkpoint belongs to, `donors` and `starting` whose weights a run begins with,
`captures` whose a folder of recordings is, `schedules` what never acts, `errors` what went wrong. `kept_circuits` keeps
the circuits of a run beside it.
"""
