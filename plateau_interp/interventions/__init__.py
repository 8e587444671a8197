"""What it takes to intervene on a model; the interventions themselves are in `plateau_interp.hooks`.

`attached` is the contract of what acts, `attaching` lets it act and puts everything back, `receipts` say what an edit
did, `session` holds what is attached to one model, `clock` tells it the training step, `measuring` asks it for numbers,
`plan` is several interventions in order as a value, `origins` notices when what one takes from has changed, `capturing`
streams activations to disk and `recordings` are its files, `hook_points` finds the places. `running` knows the forward
that is running and what a key/value cache held before it, `padding` where in it the real tokens lie, `derivatives`
whether its gradients are to be edited. `timing` says of what has its times, such as a schedule, whether they ever come.
"""
