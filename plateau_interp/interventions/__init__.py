"""What it takes to intervene on a model; the interventions themselves are in `plateau_interp.hooks`.

`attaching` lets them act and puts everything back, `clock` tells schedules the training step, `receipts` say what was
done, `plan` is several in order as a value, `capturing` streams activations to disk, `hook_points` finds the places.
"""
