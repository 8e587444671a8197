"""The command `plateau`: `main` runs one of the `verbs`, whose words `parsing` reads; `console` prints.

`options` are those of a training, which follow from its task; `words` are plug-ins on a command line; `listing` shows
the plug-ins there are; `series_verb` is the verb that measures checkpoints, `circuit_verb` the one that measures
circuits, `sweep_verb` the one that trains many runs,
whose progress is `watching`, `reproduce_verb` the one that trains a paper's, `check_verb` the one that reads everything
that folders hold, `prune_verb` the one that makes them smaller; `finishing` is what training and forking do once a run
is there, `budget_rows` what comparing says of budgets.
"""
