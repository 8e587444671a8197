"""Measuring a sequence of checkpoints of one model, of whatever origin.

`series` measures them one by one and writes down what it finds in a folder (`folder`), which `same_series` tells from
another; `recipe` is one as plain data.
`sources` is where checkpoints come from, `downloads` what of them to delete again, `revisions` which of them, `prompts`
the texts that are continued, `measures` what is measured of each, `functions` what tells those of the user's apart,
`attention` what is kept of it to look at.
"""
