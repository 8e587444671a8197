"""A task of your own, in one file: trained and reported like ours by ``python your_own_task.py [STEPS]``.

With this pyproject.toml beside it, ``pip install .`` also puts it into ``plateau list tasks`` and on the command line:

    [project]
    name = "rotation-task"
    version = "0.1"
    dependencies = ["plateau-interp"]

    [project.entry-points."plateau_interp.tasks"]
    rotation = "your_own_task:Rotation"

    [tool.setuptools]
    py-modules = ["your_own_task"]
"""

import math
import sys
from dataclasses import dataclass

import torch

from plateau_interp.types import Batch, Defaults, Levels, Task


@dataclass(frozen=True)
class Rotation(Task):
    """The inputs, from the one at ``shift`` on and around."""

    n: int = 16
    shift: int = 5
    name, defaults, d_vocab = "rotation", Defaults(steps=100), 17
    n_pos = property(lambda self: 2 * self.n + 1)
    answer = property(lambda self: slice(self.n + 1, self.n_pos))
    levels = property(lambda self: Levels(math.log(17), None, (self.n - 1) * math.log(16) / (2 * self.n)))

    def sample(self, n, *, generator):
        """``x_1 … x_n 0 y_1 … y_n``, all of it scored but the first."""
        numbers = torch.randint(1, 17, (n, self.n), generator=generator, device=generator.device)
        tokens = torch.cat([numbers, 0 * numbers[:, :1], numbers.roll(-self.shift, dims=1)], dim=1)
        return Batch(tokens, labels=tokens[:, 1:])

    def optimal_attention(self, batch):
        """Row r reads the input that it repeats."""
        row, reads = torch.arange(self.n), torch.zeros(1, 2 * self.n, 2 * self.n, dtype=torch.bool)
        reads[:, self.n + row, (row + self.shift) % self.n] = True
        return [reads.to(batch.tokens.device)]


if __name__ == "__main__":  # imported here: `plateau list tasks` need not load what trains
    from plateau_interp import Recipe, Run, TrainingOptions, views
    from plateau_interp.plugins import register

    register("tasks", Rotation)  # what the entry point does, for this process alone
    steps = int(sys.argv[1]) if sys.argv[1:] else None
    run = Run.create("runs/rotation", Recipe(Rotation(), training=TrainingOptions(steps=steps)))
    for step in run.train():
        print(step.step, f"{step.loss:.3f}", f"{step.metrics['attention_progress']:.3f}")
    print("report:", views.write_report(run))
