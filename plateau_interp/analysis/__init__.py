"""What a run or a model tells.

`plateaus` finds plateau and drop in a loss curve, by `shelves`; `criteria` says when explicit rules were fulfilled, and
`budgets` what that took; `probing` reads hidden states with a small network, `linear_probes` with a matrix; `observing`
is what a model does on given inputs, at one step or through training; `collapse` how alike its hidden states are;
`continuations` how alike the states and tokens of what a model wrote are; `embeddings` how tokens and positions lie;
`patching` which activation brings a metric back; `nuclear_norm` completes matrices without a model; `answer_grids` is
what a model says of grids of numbers, through training. `circuits` scores the `edges` between a model's parts,
`pruning` says how few are enough and how far to trust them, `forming` follows them through training, on pairs of the
task or the `text_pairs` of a user, `direct_attribution` splits a logit difference over the parts. Of theory: `villani`
measures whether a loss grows as theorems ask, `depth_two` has what is proved of one kind of net, `capacity` is how
large a head's query-key product is, and `generalisation` how that goes with the distance of training and held-out loss.
Pictures of all that are in `plateau_interp.views`.
"""
