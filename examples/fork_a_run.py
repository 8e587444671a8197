"""What would have happened if? Fork a run at a step, with another intervention each time, and compare.

Run it: python examples/fork_a_run.py [STEPS]     (default 250: about four minutes on two cores; killed, it goes on)
"""

import sys
from pathlib import Path

from plateau_interp import Recipe, Run, TrainingOptions
from plateau_interp.analysis.plateaus import compare
from plateau_interp.hooks import BiasAttention, FixAttention
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.views.report import write_report

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 250
AT = STEPS // 5
OUT = Path("runs/fork_a_run")


def finish(run: Run) -> Run:
    """Train what is left of a run."""
    for step in run.train():
        if step.step % 25 == 0:
            print(f"{run.path.name:12s} step {step.step:3d}  loss {step.loss:.3f}")
    return run


recipe = Recipe(MovingWindowSum(), training=TrainingOptions(steps=STEPS))
parent = finish(Run.create(OUT / "plain", recipe))
forks = {
    "biased": parent.fork(at=AT, interventions=[BiasAttention(factor=10.0)], out=OUT / "biased"),
    "fixed": parent.fork(at=AT, interventions=[FixAttention()], out=OUT / "fixed"),
}
runs = {"plain": parent, **{name: finish(fork) for name, fork in forks.items()}}

print(compare({name: run.summary for name, run in runs.items()}).set_index("run").T.to_string())
print(f"The report: {write_report(list(runs.values()), OUT / 'report')}")
