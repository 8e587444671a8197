"""Settings: the ways to train that a reproduction compares, and what came out of their runs."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pandas as pd
import torch

from plateau_interp.analysis.budgets import Prices
from plateau_interp.analysis.criteria import perfect_for
from plateau_interp.analysis.plateaus import Summary, summarise
from plateau_interp.files import write_atomically
from plateau_interp.hooks import FreezeWeights, TransplantWeights
from plateau_interp.interventions.attached import Intervention
from plateau_interp.metrics import as_float32
from plateau_interp.models.flops import training_flops
from plateau_interp.reproductions.added import Added
from plateau_interp.reproductions.same_runs import is_same_run, not_as_left, other_place
from plateau_interp.runs.creating import relocate
from plateau_interp.runs.donors import InitFrom, OptimizerState
from plateau_interp.runs.identity import goes_on_with
from plateau_interp.runs.recipe import Fork, Recipe
from plateau_interp.runs.run import Run, RunError

__all__ = [
    "AFTERWARDS",
    "SOLVED_ACCURACY",
    "Added",
    "Begins",
    "Compared",
    "NotHereError",
    "Outcome",
    "Setting",
    "first_solved",
    "given_and_frozen",
]

TAKEN = "taken.json"
"""Beside a run's recipe, which names no more than a folder: what the run there was whose weights it took."""

SOLVED_ACCURACY = 0.99
"""Token accuracy of decoded answers from which on a task counts as solved."""
AFTERWARDS = 10
"""Steps that a run goes on after it has solved its task, unless its setting wants the whole of it."""
SEED_APART = 1_000_000
"""By which the seed of a run that begins with another's weights is larger than that of its setting."""
NOT_LOOKED_UP = "0" * 64
"""In the place of a donor's digest where no folder is looked at; the donor's recipe tells what it is."""


class NotHereError(RunError):
    """What a setting takes is not on this machine: a corpus, a model, a data set."""


class Compared(Protocol):
    """What experiments compare: a way to train (`Setting`), or a published model."""

    @property
    def name(self) -> str:
        """Of its folder and its stored curves."""
        ...

    @property
    def about(self) -> str:
        """What it is, for tables; empty where the name says it."""
        ...

    @property
    def adds(self) -> "Added | None":
        """What is measured afterwards."""
        ...

    @property
    def one_seed(self) -> bool:
        """Whether there is only one of it, whatever number of seeds is asked for."""
        ...

    def folder(self, runs: Path, seed: int) -> Path:
        """Where what is made of it is."""
        ...

    def needs(self, seed: int) -> "list[tuple[Any, int]]":
        """Settings and seeds that have to be made before."""
        ...

    def identity(self, seed: int) -> dict[str, Any]:
        """What makes it what it is, as plain data."""
        ...

    def check(self, runs: Path, seed: int) -> None:
        """Refuse a folder that holds something else.

        Raises:
            RunError: naming it.
        """
        ...


def given_and_frozen(run: str, where: str) -> tuple[Intervention, ...]:
    """A component group with the weights that it has in a run, ``"RUN@STEP"``; it is not trained.

    Example:
        >>> [type(one).__name__ for one in given_and_frozen("runs/solution@400", "mlp")]
        ['TransplantWeights', 'FreezeWeights']
    """
    return (TransplantWeights(run, where=where), FreezeWeights(where))


@dataclass(frozen=True, eq=False)
class Begins:
    """With which other run's weights a setting's run begins: that of the same seed (`plateau_interp.runs.donors`).

    Args:
        setting: the donor's; it must train as far as the step.
        step: at which its weights are taken: one of its checkpoints.
        where: which parameters are taken.
        optimizer: whether the donor's optimiser goes on, or a new one begins.
    """

    setting: "Setting"
    step: int
    where: str | tuple[str, ...] = "*"
    optimizer: OptimizerState = "fresh"

    def init_from(self, runs: Path, seed: int, digest: str | None) -> InitFrom:
        """As plain data of a recipe; without a digest it is looked up, a ValueError if there is no such checkpoint."""
        return InitFrom(f"{self.setting.folder(runs, seed)}@{self.step}", self.where, self.optimizer, digest)


@dataclass(frozen=True, eq=False)
class Setting:
    """One way to train, of which an experiment makes a run for each seed.

    Args:
        name: of its folder; settings of equal names are one setting, whatever experiments share it.
        recipe: with the seed left at 0; its interventions are those of the fork where the setting leaves another.
        about: what it is, for tables; by default the name.
        takes: ``(setting, seed, component group)``: the group's weights come from the end of that run and are frozen
            (`plateau_interp.hooks.TransplantWeights` and `FreezeWeights`). Without a seed the run of the same seed.
        taking: what else is taken from there: interventions, given that run as ``"RUN@STEP"``, and the group.
        leaves: ``(setting, step)``: fork that setting's run of the same seed at the step; it is kept as often as that.
        whole: train all the recipe's steps; otherwise a run ends 10 steps after its answers are 99 % right.
        adds: what is measured afterwards from a run's checkpoints.
        perfect_steps: a run ends 10 steps after all its answers were right for so many steps in a row, in the place of
            99 % once; None for that.
        begins: with which other run's weights it begins.

    Raises:
        ValueError: for a setting that begins with others' weights and takes or leaves something, too, or leaves a run
            that does; for a recipe with ``init_from``, in whose place is `begins`; for one that leaves a run whose
            recipe differs in more than interventions, steps and how often it is kept.
    """

    name: str
    recipe: Recipe
    about: str = ""
    takes: tuple["Setting", int | None, str] | None = None
    leaves: tuple["Setting", int] | None = None
    whole: bool = False
    adds: Added | None = None
    perfect_steps: int | None = None
    begins: Begins | None = None
    taking: Callable[[str, str], tuple[Intervention, ...]] = given_and_frozen

    one_seed: ClassVar[bool] = False

    def __post_init__(self) -> None:
        parent = None if self.leaves is None else self.leaves[0]
        if self.recipe.init_from is not None:
            raise ValueError(
                f"{self.name} has a recipe with init_from, which would not be used: give begins=Begins(...)"
            )
        if self.begins is not None and (parent is not None or self.takes is not None):
            raise ValueError(f"{self.name} is to begin with others' weights: it can take or leave nothing beside")
        if parent is not None and parent.begins is not None:
            raise ValueError(f"{self.name} is to leave {parent.name}, which begins with others' weights: begin with it")
        if parent is not None and (other := not_as_left(self.recipe, parent.recipe)) is not None:
            raise ValueError(f"{self.name} has another {other} than {parent.name}, which it leaves: a fork cannot")

    def folder(self, runs: Path, seed: int) -> Path:
        """Where its run of a seed is."""
        return runs / self.name / f"seed-{seed}"

    def needs(self, seed: int) -> list[tuple["Setting", int]]:
        """Settings and seeds that have to be trained before."""
        taken = self._source(seed)
        begun = None if self.begins is None else (self.begins.setting, seed)
        left = None if self.leaves is None else (self.leaves[0], seed)
        return list(dict.fromkeys(one for one in (taken, begun, left) if one is not None))

    def _source(self, seed: int) -> tuple["Setting", int] | None:
        """The run that it takes from."""
        if self.takes is None:
            return None
        setting, its_seed, _ = self.takes
        return setting, seed if its_seed is None else its_seed

    def interventions(self, runs: Path, seed: int) -> tuple[Intervention, ...]:
        """The recipe's interventions, after those that bring in what the setting takes from another run."""
        taken = self._source(seed)
        if taken is None or self.takes is None:
            return self.recipe.interventions
        run = f"{taken[0].folder(runs, taken[1])}@{taken[0].recipe.steps}"
        return (*self.taking(run, self.takes[2]), *self.recipe.interventions)

    def whole_recipe(self, runs: Path, seed: int, *, digest: str | None = NOT_LOOKED_UP) -> Recipe:
        """The recipe that its run of a seed has in its folder.

        Args:
            runs: the folder of all runs.
            seed: of the run.
            digest: of the weights that it begins with, if it `begins` with another's; None has it found out.

        Raises:
            ValueError: if it is found out and there are no such weights.
        """
        interventions = self.interventions(runs, seed)
        if self.leaves is None:
            begun = None if self.begins is None else self.begins.init_from(runs, seed, digest)
            seed += 0 if begun is None else SEED_APART  # or it would see its donor's batches again
            return dataclasses.replace(self.recipe, seed=seed, interventions=interventions, init_from=begun)
        setting, step = self.leaves
        parent = setting.whole_recipe(runs, seed)
        training = dataclasses.replace(parent.training, steps=self.recipe.steps)
        return dataclasses.replace(parent, interventions=interventions, training=training, fork_of=Fork(parent, step))

    def identity(self, seed: int) -> dict[str, Any]:
        """What makes its run of a seed that run, in whatever folder: its recipe, and that of the run it takes from."""
        return {"recipe": self.whole_recipe(Path(), seed).to_dict(), "taken": self._taken(seed)}

    def _taken(self, seed: int) -> dict[str, Any] | None:
        """The identity of the run whose weights are used."""
        if self.begins is not None:
            return self.begins.setting.identity(seed)
        taken = self._source(seed)
        return None if taken is None else taken[0].identity(taken[1])

    def open(self, runs: Path, seed: int, *, device: str = "cpu") -> Run:
        """Its run of a seed, made if it is not there; what it `needs` must be.

        Raises:
            RunError: if the folder, or that of a run that it needs, has the run of another recipe, or somebody is
                writing there while its recipe has to change; and as from `Run.create` and `Run.fork`.
        """
        path = self.folder(runs, seed)
        for needed, its_seed in self.needs(seed):
            needed.check(runs, its_seed)
        self.check(runs, seed)
        if (path / "recipe.json").is_file():
            # The folders may have been moved, or be named in another way: what it takes is found from here.
            relocate(path, self._recipe_as_of(Run(path), runs, seed))
        run = self._made(path, runs, seed, device=device)
        if (taken := self._taken(seed)) is not None:
            write_atomically(path / TAKEN, json.dumps(taken, indent=2) + "\n")
        return run

    def _recipe_as_of(self, run: Run, runs: Path, seed: int) -> Recipe:
        """The recipe with the digest that its run found out: what is taken is known by its own recipe."""
        begun = run.recipe.init_from
        return self.whole_recipe(runs, seed, digest=NOT_LOOKED_UP if begun is None else begun.digest)

    def _own_part(self, recipe: Recipe) -> list[dict[str, Any]]:
        """What a recipe of its says without the folders of what it takes and begins with, which are found from here.

        After it likewise that of the run that it leaves.
        """
        given = recipe.interventions[len(recipe.interventions) - len(self.recipe.interventions) :]
        own = dataclasses.replace(recipe, interventions=given, init_from=None, fork_of=None).to_dict()
        if self.leaves is None or recipe.fork_of is None:
            return [own]
        return [own, *self.leaves[0]._own_part(recipe.fork_of.parent)]

    def _new_recipe(self, path: Path, runs: Path, seed: int) -> Recipe:
        if (path / "recipe.json").is_file():
            return self._recipe_as_of(Run(path), runs, seed)
        try:
            return self.whole_recipe(runs, seed, digest=None)
        except ValueError as error:
            raise RunError(f"{self.name}: {error}") from None

    def _made(self, path: Path, runs: Path, seed: int, *, device: str) -> Run:
        if self.leaves is None:
            return Run.create(path, self._new_recipe(path, runs, seed))
        parent, step = self.leaves
        fork = Run(parent.folder(runs, seed)).fork
        interventions = self.interventions(runs, seed)
        return fork(at=step, interventions=interventions, steps=self.recipe.steps, out=path, device=device)

    def check_here(self, device: str = "cpu") -> None:
        """Whether its task can be had on this machine, and its precision on the device.

        Raises:
            NotHereError: saying what is lacking, such as a corpus.
        """
        try:
            self.recipe.check_device(device)
            self.recipe.task.sample(1, generator=torch.Generator())
        except ValueError as error:
            raise NotHereError(str(error)) from None

    def check(self, runs: Path, seed: int) -> None:
        """Whether what is in its folder was made by its recipe, with weights of the run that the setting takes.

        A smaller number of steps is no difference.

        Raises:
            RunError: if not.
        """
        path = self.folder(runs, seed)
        if not (path / "recipe.json").is_file():
            return
        run = Run(path)
        ours = self._recipe_as_of(run, runs, seed)
        if not goes_on_with(ours, run.recipe):
            raise RunError(
                f"{path} holds a run of another recipe than {self.name!r} has now: move it, or use another --out"
            )
        if (places := other_place(self._own_part(run.recipe), self._own_part(ours))) is not None:
            raise RunError(
                f"{path} holds a run with {places[0]!r} where {self.name!r} has {places[1]!r} now: "
                "move it, or use another --out"
            )
        taken = self._taken(seed)
        if taken is not None and self._has_begun(run) and not is_same_run(_read(path / TAKEN), taken):
            source = self.needs(seed)[0][0]
            raise RunError(
                f"{path} took its weights from another run than {source.name!r} is now: move it, or use another --out"
            )

    def _has_begun(self, run: Run) -> bool:
        """Whether a run has made a step of its own, and so used what it takes."""
        begin = 0 if self.leaves is None else self.leaves[1]
        return not run.metrics.empty and int(run.metrics["step"].iloc[-1]) >= begin

    def enough(self, step: int, *, solved: int | None) -> bool:
        """Whether a run may end after a measured step, if its task was first solved at ``solved``."""
        if step + self.recipe.measure_every >= self.recipe.steps:
            return True
        asked = max(self.recipe.checkpoint_at, default=0)  # from which others may be to begin
        return not self.whole and solved is not None and step >= max(asked, solved + AFTERWARDS)

    def ended(self, metrics: pd.DataFrame) -> bool:
        """Whether a run's metrics go as far as the setting asks."""
        return not metrics.empty and self.enough(int(metrics["step"].iloc[-1]), solved=self.solved(metrics))

    def solved(self, metrics: pd.DataFrame) -> int | None:
        """The measured step by which a run has done what lets it end a little later."""
        if self.perfect_steps is None or "accuracy" not in metrics:
            return first_solved(metrics)
        rows = metrics[["step", "accuracy"]].dropna()
        return perfect_for(rows["step"].to_numpy(), rows["accuracy"].to_numpy(), n_steps=self.perfect_steps)


def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def first_solved(metrics: pd.DataFrame) -> int | None:
    """The first measured step at which the answers are 99 % right."""
    if "accuracy" not in metrics:
        return None
    steps = metrics.loc[as_float32(metrics["accuracy"]) >= as_float32(SOLVED_ACCURACY), "step"]
    return None if steps.empty else int(steps.iloc[0])


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came out of a setting's run of one seed."""

    setting: Compared
    seed: int
    metrics: pd.DataFrame

    @cached_property
    def summary(self) -> Summary:
        """Of its plateau, read off when somebody asks: it needs the task's levels, and so a text's corpus.

        Raises:
            ValueError: of a published model, which nobody saw in training.
        """
        if not isinstance(self.setting, Setting):
            raise ValueError(f"{self.setting.name} was not trained here: there is no loss to find a plateau in")
        recipe = self.setting.recipe
        prices = Prices(recipe.task, recipe.batch_size, training_flops(recipe.task, recipe.model))
        return summarise(self.metrics, task=recipe.task, batch_size=recipe.batch_size, prices=prices)
