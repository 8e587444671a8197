"""Outcomes of runs, made by hand, for the tests of quantities and claims."""

import pandas as pd

from plateau_interp.models.settings import ModelOptions
from plateau_interp.reproductions.settings import Outcome, Setting
from plateau_interp.runs.recipe import Recipe
from plateau_interp.tasks import MovingWindowSum

RECIPE = Recipe(MovingWindowSum(n=4, p=7), model=ModelOptions(d_model=16))


def outcome(seed=0, *, cosine=(0.1, 0.9, 0.2), accuracy=(0.0, 0.5, 1.0), name="a", **columns):
    made = {"step": range(3), "loss": (2.0, 1.9, 1.0), "cosine": cosine, "accuracy": accuracy}
    return Outcome(Setting(name, RECIPE), seed, pd.DataFrame({**made, **columns}))
