"""A task whose sequences are filled in, in one file: other data, another loss, trained by an encoder.

``python your_own_masked_task.py [STEPS]`` trains it and writes a report. Registered by an entry point, as in
`your_own_task.py`, it is on the command line, too.
"""

import sys
from dataclasses import dataclass

import torch

from plateau_interp.types import Batch, Defaults, Levels, Task


@dataclass(frozen=True)
class Waves(Task):
    """Waves of some period and phase with gaps; the loss is the absolute error, in the gaps alone."""

    n: int = 24
    missing: float = 0.5
    name, lookahead, unit = "waves", 0, "absolute error"  # an output is of its own position
    d_vocab, d_output, mask_token = 22, 1, 0  # a number a position, not a token
    n_pos = property(lambda self: self.n)
    answer = property(lambda self: slice(0, self.n))
    levels = Levels(plateau=0.6366)  # of always saying 0: E |sin| = 2/pi
    defaults = Defaults(
        steps=300, n_layers=2, batch_size=64, learning_rate=2e-3, n_heads=4, d_model=32, measure_every=10,
        architecture="encoder", init_std=0.12, mask_embedding="zero",
    )  # fmt: skip

    def sample(self, n, *, generator):
        """Tokens 1 to 21 for -1 to 1, 0 in a gap; the labels are the wave itself, NaN where it is seen."""
        period, phase = (torch.rand(n, 1, generator=generator, device=generator.device) for _ in range(2))
        angle = torch.arange(self.n, device=generator.device) / (3 + 5 * period) + phase
        wave = torch.sin(2 * torch.pi * angle)
        gap = torch.rand(n, self.n, generator=generator, device=generator.device) < self.missing
        return Batch((wave * 10).round().long().add(11).masked_fill(gap, 0), wave.where(gap, torch.nan))

    def loss(self, output, batch):
        """Mean absolute error over what is scored."""
        return (output[..., 0] - batch.labels)[~batch.labels.isnan()].abs().mean()

    def optimal_attention(self, batch):
        """In the last layer, what is seen."""
        return [(batch.inputs != 0)[:, None, :].expand(-1, batch.inputs.shape[1], -1)]


if __name__ == "__main__":
    from plateau_interp import Recipe, Run, TrainingOptions, views
    from plateau_interp.plugins import register

    register("tasks", Waves)
    steps = int(sys.argv[1]) if sys.argv[1:] else None
    run = Run.create("runs/waves", Recipe(Waves(), training=TrainingOptions(steps=steps)))
    for step in run.train():
        print(step.step, f"{step.loss:.3f}")
    print("report:", views.write_report(run))
