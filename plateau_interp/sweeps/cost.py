"""What a sweep would cost: how many runs are left, and how long they would take at this machine's pace."""

from dataclasses import dataclass
from pathlib import Path

from plateau_interp.runs.run import RunError
from plateau_interp.sweeps.engines import Engine
from plateau_interp.sweeps.folder import made, refuse_others, steps_made
from plateau_interp.sweeps.memory import most_memory
from plateau_interp.sweeps.pace import Watching, paces
from plateau_interp.sweeps.plan import PlannedRun, SweepPlan

__all__ = ["SweepCost", "cost_of", "left_of"]


@dataclass(frozen=True)
class SweepCost:
    """What is left of a sweep.

    Args:
        runs: of the plan.
        done: of them.
        seconds: by the name of each other, roughly, on a worker like this machine.
        workers: side by side; None if only a scheduler knows.
    """

    runs: int
    done: int
    seconds: dict[str, float]
    workers: int | None

    @property
    def total(self) -> float:
        """Seconds of all workers together."""
        return sum(self.seconds.values())

    @property
    def wall(self) -> float | None:
        """Seconds until all is done, workers being equally busy; no shorter than the longest run."""
        if self.workers is None:
            return None
        return max([self.total / self.workers, *self.seconds.values()], default=0.0)


def cost_of(plan: SweepPlan, out: Path, engine: Engine, *, watching: Watching = iter) -> SweepCost:
    """What is left of a sweep, and what that would cost; nothing is trained but a few steps of each kind.

    Args:
        plan: of the sweep.
        out: its folder, in which the pace is kept.
        engine: where it would be trained.
        watching: is shown what is timed.

    Raises:
        RunError: if the folder holds another sweep or something else.
    """
    refuse_others(plan, out)
    left = left_of(plan, out)
    recipes = [run.recipe for run in left]
    pace = paces(recipes, out, threads=engine.threads, watching=watching)
    steps = [max(0, run.recipe.steps - steps_made(out / run.name)) for run in left]
    return SweepCost(
        runs=len(plan.runs),
        done=len(plan.runs) - len(left),
        seconds={run.name: each * number for run, each, number in zip(left, pace, steps, strict=True)},
        workers=engine.expected(memory=most_memory(recipes)),
    )


def left_of(plan: SweepPlan, out: Path) -> list[PlannedRun]:
    """The runs of a sweep that are not done."""
    return [run for run in plan.runs if not _done(run, out)]


def _done(run: PlannedRun, out: Path) -> bool:
    try:
        return made(run, out)
    except RunError:  # told by the sweep itself
        return False
