"""What a sweep would cost: how many runs are left, and how long they would take at this machine's pace."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plateau_interp.sweeps.engines import Engine
from plateau_interp.sweeps.folder import refuse_others
from plateau_interp.sweeps.kinds import Kind, PlannedRun, Recipes
from plateau_interp.sweeps.memory import PROCESS
from plateau_interp.sweeps.pace import Watching
from plateau_interp.sweeps.plan import SweepPlan

__all__ = ["SweepCost", "cost_of", "left_of"]


@dataclass(frozen=True)
class SweepCost:
    """What is left of a sweep.

    Args:
        runs: of the plan.
        done: of them.
        seconds: by the name of each other, roughly, on a worker like this machine; None where nobody knows.
        workers: side by side; None if only a scheduler knows.
    """

    runs: int
    done: int
    seconds: dict[str, float | None]
    workers: int | None

    @property
    def total(self) -> float | None:
        """Seconds of all workers together; what is not known counts like the mean of the others."""
        known = self._known
        return sum(known) / len(known) * len(self.seconds) if known else None if self.seconds else 0.0

    @property
    def wall(self) -> float | None:
        """Seconds until all is done, workers being equally busy; no shorter than the longest run."""
        if self.workers is None or self.total is None:
            return None
        return max([self.total / self.workers, *self._known], default=0.0)

    @property
    def _known(self) -> list[float]:
        return [each for each in self.seconds.values() if each is not None]


def cost_of(plan: SweepPlan[Any], out: Path, engine: Engine, *, watching: Watching = iter) -> SweepCost:
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
    paces = plan.kind.seconds(left, out, threads=engine.threads, watching=watching)
    amounts = [max(0, plan.kind.amount(run.recipe) - plan.kind.amount_made(out / run.name)) for run in left]
    return SweepCost(
        runs=len(plan.runs),
        done=len(plan.runs) - len(left),
        seconds={
            run.name: None if pace is None else pace * amount
            for run, pace, amount in zip(left, paces, amounts, strict=True)
        },
        workers=engine.expected(memory=max((plan.kind.memory(run.recipe) for run in left), default=PROCESS)),
    )


def left_of(plan: SweepPlan[Recipes], out: Path) -> list[PlannedRun[Recipes]]:
    """The runs of a sweep that are not done."""
    return [run for run in plan.runs if not _done(plan.kind, run, out)]


def _done(kind: Kind[Recipes], run: PlannedRun[Recipes], out: Path) -> bool:
    try:
        return kind.made(run.recipe, out / run.name)
    except ValueError:  # told by the sweep itself
        return False
