"""The source's grokking model, drawn in one way or another: for tests of initial weights."""

from functools import cache

import torch
from torch import Tensor

from plateau_interp import toy_model
from plateau_interp.models.initializers import Initializer, initialise_
from plateau_interp.tasks import ModularArithmetic

TASK = ModularArithmetic(p=97, train_fraction=0.5)
SIZES = {"d_model": 128, "n_heads": 4, "n_layers": 2}
"""Width 128, 4 heads, MLP 512, 2 layers, 99 tokens."""


@cache
def parameters(*init: Initializer, seed: int = 0, **sizes: int) -> dict[str, Tensor]:
    model = toy_model(TASK, **{**SIZES, **sizes}, init=init, seed=seed)
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def biased(*init: Initializer) -> dict[str, Tensor]:
    """The parameters of a model that had no 0 in it before."""
    model = toy_model(TASK, **SIZES)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    initialise_(model, *init)
    return {name: parameter.detach() for name, parameter in model.named_parameters()}
