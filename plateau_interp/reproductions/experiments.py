"""What a reproduction is made of: settings to train in, claims to test, experiments that hold both.

A paper's module (`plateau_interp.reproductions.loss_plateau`, for one) is a list of these values and nothing else:
`plateau_interp.reproductions.running` trains them, `plateau_interp.reproductions.results` stores and tells what came
out. A third party registers a `Paper` under the entry-point group ``plateau_interp.experiments``.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from plateau_interp.hooks import FreezeWeights, TransplantWeights
from plateau_interp.plateaus import Summary, summarise
from plateau_interp.recipes import Recipe
from plateau_interp.reproductions.claims import Claim
from plateau_interp.resolving import nearest
from plateau_interp.runs import Run
from plateau_interp.types import Intervention

__all__ = ["SOLVED", "Experiment", "Outcome", "Paper", "Setting", "first_solved"]

SOLVED = 0.99
"""Token accuracy of decoded answers from which on a task counts as solved."""
AFTERWARDS = 10
"""Steps that a run goes on after it has solved its task, unless its setting wants the whole of it."""


@dataclass(frozen=True, eq=False)
class Setting:
    """One way to train, of which an experiment makes a run for each seed.

    Args:
        name: of its folder; settings of equal names are one setting, whatever experiments share it.
        recipe: with the seed left at 0; its interventions are those of the fork where the setting leaves another.
        about: what it is, for tables; by default the name.
        takes: ``(setting, seed, component group)``: the group's weights come from the end of that run and are frozen
            (`plateau_interp.hooks.TransplantWeights` and `FreezeWeights`).
        leaves: ``(setting, step)``: fork that setting's run of the same seed at the step.
        whole: train all the recipe's steps; otherwise a run ends 10 steps after its answers are 99 % right.
        adds: measures taken afterwards from a run's checkpoints: rows with ``step`` and columns of their own.
    """

    name: str
    recipe: Recipe
    about: str = ""
    takes: tuple["Setting", int, str] | None = None
    leaves: tuple["Setting", int] | None = None
    whole: bool = False
    adds: Callable[[Run], pd.DataFrame] | None = None

    def folder(self, runs: Path, seed: int) -> Path:
        """Where its run of a seed is."""
        return runs / self.name / f"seed-{seed}"

    def needs(self, seed: int) -> list[tuple["Setting", int]]:
        """Settings and seeds that have to be trained before."""
        taken = [] if self.takes is None else [(self.takes[0], self.takes[1])]
        return taken if self.leaves is None else [*taken, (self.leaves[0], seed)]

    def interventions(self, runs: Path) -> tuple[Intervention, ...]:
        """The recipe's interventions, after those that bring in what the setting takes from another run."""
        if self.takes is None:
            return self.recipe.interventions
        source, seed, where = self.takes
        folder = source.folder(runs, seed)
        transplant = TransplantWeights(f"{folder}@{source.recipe.steps}", where=where)
        return (transplant, FreezeWeights(where), *self.recipe.interventions)

    def open(self, runs: Path, seed: int, *, device: str = "cpu") -> Run:
        """Its run of a seed, made if it is not there; what it `needs` must be."""
        path, interventions = self.folder(runs, seed), self.interventions(runs)
        if self.leaves is None:
            return Run.create(path, dataclasses.replace(self.recipe, seed=seed, interventions=interventions))
        parent, step = self.leaves
        fork = Run(parent.folder(runs, seed)).fork
        return fork(at=step, interventions=interventions, steps=self.recipe.steps, out=path, device=device)

    def enough(self, step: int, *, solved: int | None) -> bool:
        """Whether a run may end after a measured step, if its task was first solved at ``solved``."""
        if step + self.recipe.measure_every >= self.recipe.steps:
            return True
        return not self.whole and solved is not None and step >= solved + AFTERWARDS

    def ended(self, metrics: pd.DataFrame) -> bool:
        """Whether a run's metrics go as far as the setting asks."""
        return not metrics.empty and self.enough(int(metrics["step"].iloc[-1]), solved=first_solved(metrics))


def first_solved(metrics: pd.DataFrame) -> int | None:
    """The first measured step at which the answers are 99 % right."""
    if "accuracy" not in metrics:
        return None
    steps = metrics.loc[metrics["accuracy"] >= SOLVED, "step"]
    return None if steps.empty else int(steps.iloc[0])


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came out of a setting's run of one seed."""

    setting: Setting
    seed: int
    metrics: pd.DataFrame
    summary: Summary = field(init=False)

    def __post_init__(self) -> None:
        recipe = self.setting.recipe
        summary = summarise(self.metrics, task=recipe.task, batch_size=recipe.batch_size)
        object.__setattr__(self, "summary", summary)


@dataclass(frozen=True, eq=False)
class Experiment:
    """Settings that are looked at together, a picture of them and the claims they test.

    Args:
        name: as on the command line.
        title: a sentence for the head of its part of the results.
        figures: what it reproduces, in the paper's numbers.
        settings: the first is what the others are compared with.
        claims: sentences of the paper as statements about measures, tolerances included.
        panels: columns of the metrics to draw, one panel each.
        n_seeds: how many seeds to run by default.
        notes: what is unknown, departures from the paper, what was tried.
        draws: a picture of its own in place of the curves, from the outcomes by setting name.
    """

    name: str
    title: str
    figures: str
    settings: tuple[Setting, ...]
    claims: tuple[Claim, ...]
    panels: tuple[str, ...] = ("loss", "accuracy", "cosine", "repetition")
    n_seeds: int = 3
    notes: str = ""
    draws: Callable[[dict[str, list[Outcome]]], Any] | None = None


@dataclass(frozen=True, eq=False)
class Paper:
    """A paper's experiments.

    Raises:
        ValueError: for two different settings, or two experiments, of one name.
    """

    name: str
    title: str
    source: str
    experiments: tuple[Experiment, ...]
    about: str = ""

    def __post_init__(self) -> None:
        names = [experiment.name for experiment in self.experiments]
        if len(set(names)) < len(names):
            raise ValueError(f"two experiments have one name: {names}")
        by_name: dict[str, Setting] = {}
        for setting in self.settings():
            if by_name.setdefault(setting.name, setting) is not setting:
                raise ValueError(f"two settings are called {setting.name!r}")
        object.__setattr__(self, "__doc__", f"{self.title} ({self.source})")  # what `plateau list` tells of a plug-in

    def choose(self, names: Sequence[str] = ()) -> tuple[Experiment, ...]:
        """The experiments of some names, in the paper's order; all without names.

        Raises:
            ValueError: for a name that no experiment has, with the nearest.
        """
        known = {experiment.name: experiment for experiment in self.experiments}
        for name in names:
            if name not in known:
                raise ValueError(
                    f"{self.name} has no experiment {name!r}; {nearest(name, known)}; "
                    f"see `plateau reproduce {self.name} --list`"
                )
        return tuple(experiment for name, experiment in known.items() if not names or name in names)

    def settings(self, experiments: Iterable[Experiment] | None = None) -> list[Setting]:
        """The settings of some experiments (by default all), each once, in order."""
        found = [s for experiment in experiments or self.experiments for s in experiment.settings]
        return list(dict.fromkeys(found))
