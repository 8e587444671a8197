"""Many runs from one recipe: `sweep` trains what `plan` says, in a `folder`, on one of the `engines`.

`changes` are the table of what differs, `naming` the folders' names. `jobs` are what workers are asked to do, `endings`
how they end; `cluster` has the engines on dask. `cost` says beforehand what a sweep would take, from `memory` and
`pace`.
"""
