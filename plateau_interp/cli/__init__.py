"""The command `plateau`: `main` runs one of the `verbs`, whose words `parsing` reads; `console` prints.

`options` are those of a training, which follow from its task; `words` are plug-ins on a command line; `listing` shows
the plug-ins there are; `series_verb` is the verb that measures checkpoints, `reproduce_verb` the one that runs a
paper's experiments, `check_verb` the one that reads everything that folders hold, `prune_verb` the one that makes them
smaller; `finishing` is what training and forking do once a run is there.
"""
