"""Watch, and change, how Transformers learn: training-dynamics plug-ins for TransformerLens.

The names below load the module they live in on first use: importing the package loads neither torch nor
TransformerLens, so that the command line answers at once. The list itself is the stub beside this file, which type
checkers and editors read too.

Example:
    >>> from plateau_interp import toy_model, train
    >>> from plateau_interp.tasks import MovingWindowSum
    >>> task = MovingWindowSum(n=4)
    >>> [step.step for step in train(toy_model(task, d_model=32), task, steps=3)]
    [0, 1, 2]
"""

import os

import lazy_loader

if setting := os.environ.get("PLATEAU_CHECK_SHAPES"):
    from plateau_interp.shapes import check_as_told

    check_as_told(setting)

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
