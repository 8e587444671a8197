"""Train on the plateau for a while, then give the model the optimal attention and watch the loss leave.

Run it: python examples/patch_mid_training.py [STEPS]     (default 150: about a minute on two cores)
"""

import sys
from itertools import islice
from pathlib import Path

import pandas as pd

from plateau_interp import Meter, Step, intervening, toy_model, train
from plateau_interp.hooks import FixAttention
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.views import curves_figure, save_figure

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 150
SWITCH = STEPS // 3
OUT = Path("runs/patch_mid_training.png")

task = MovingWindowSum()
rows = []


def keep(step: Step) -> None:
    """Remember a step, and say now and then where training is."""
    rows.append({"step": step.step, "loss": step.loss, **step.metrics})
    if step.step % 10 == 0:
        print(f"step {step.step:3d}  loss {step.loss:.3f}  cosine {step.metrics['cosine']:.2f}")


model = toy_model(task, seed=0)
steps = train(model, task, steps=STEPS, seed=0, meter=Meter(task))

for step in islice(steps, SWITCH):  # a plain plateau
    keep(step)

with intervening(model, FixAttention()) as (receipt,):  # from here on
    for step in steps:
        keep(step)

print(receipt.describe())
figure = curves_figure(pd.DataFrame(rows), ["loss", "attention_progress", "cosine"], levels=task.levels)
for axes in figure.axes:
    axes.axvline(SWITCH, color="0.5", linestyle=":")
print(f"The picture: {save_figure(figure, OUT)}")
