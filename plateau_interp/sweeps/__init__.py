"""Many runs from one recipe: `sweep` makes what `plan` says, in a `folder`, on one of the `engines`.

`kinds` are what it can be made of: `of_runs`, which are trained, and `of_series`, which are measured. `changes` are the
table of what differs, `naming` the folders' names. `jobs` are what workers are asked to do, `endings` how they end;
`cluster` has the engines on dask. `cost` says beforehand what a sweep would take, from `memory` and `pace`.
"""
