"""A stand-in for a run with many checkpoints, for the tests and the benchmark of views."""

import pandas as pd

from plateau_interp.models import toy_model
from plateau_interp.tasks import MovingWindowSum


class Long:
    """A run of 21 checkpoints that cost nothing."""

    task, checkpoints = MovingWindowSum(), list(range(0, 401, 20))
    metrics = pd.DataFrame({"step": range(400), "loss": [2.6] * 200 + [1.3] * 200})

    def model(self, step=None):
        return toy_model(self.task, d_model=16, seed=step)
