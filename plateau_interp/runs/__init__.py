"""Training on disk: `recipe` is the plain data that rebuilds a run, `run` the folder that survives being killed."""
