"""What a sweep would cost: how many runs are left, which cannot be made, and how long the others would take here."""

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
        refused: by setting, why its runs cannot be made; these have no seconds.
        n_refused: of the runs that are left.
        workers: side by side; None if only a scheduler knows.
    """

    runs: int
    done: int
    seconds: dict[str, float | None]
    refused: dict[str, str]
    n_refused: int
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

    Each setting is rehearsed first, so that what a worker would refuse is known now.

    Args:
        plan: of the sweep.
        out: its folder, in which the pace is kept.
        engine: where it would be trained.
        watching: is shown what is timed.

    Raises:
        RunError: if the folder holds another sweep or something else.
    """
    refuse_others(plan, out)
    all_left = left_of(plan, out)
    refused = _refused(plan.kind, all_left, out)
    left = [run for run in all_left if run.setting not in refused]
    paces = plan.kind.seconds(left, out, threads=engine.threads, watching=watching)
    amounts = [max(0, plan.kind.amount(run.recipe) - plan.kind.amount_made(out / run.name)) for run in left]
    return SweepCost(
        runs=len(plan.runs),
        done=len(plan.runs) - len(all_left),
        seconds={
            run.name: None if pace is None else pace * amount
            for run, pace, amount in zip(left, paces, amounts, strict=True)
        },
        refused=refused,
        n_refused=len(all_left) - len(left),
        workers=engine.expected(memory=max((plan.kind.memory(run.recipe) for run in left), default=PROCESS)),
    )


def left_of(plan: SweepPlan[Recipes], out: Path) -> list[PlannedRun[Recipes]]:
    """The runs of a sweep that are not done."""
    return [run for run in plan.runs if not _done(plan.kind, run, out)]


def _refused(kind: Kind[Recipes], left: list[PlannedRun[Recipes]], out: Path) -> dict[str, str]:
    """By setting, why it cannot be; its seeds differ in nothing that could be refused."""
    refused = {}
    for run in {run.setting: run for run in reversed(left)}.values():
        try:
            kind.rehearse(run.recipe, out / run.name)
        except ValueError as error:
            refused[run.setting] = " ".join(str(error).split())
    return refused


def _done(kind: Kind[Recipes], run: PlannedRun[Recipes], out: Path) -> bool:
    try:
        return kind.made(run.recipe, out / run.name)
    except ValueError:  # told by the sweep itself
        return False
