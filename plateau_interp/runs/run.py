"""Run folders: train on disk, survive being killed, read back as a table and as models.

```text
RUN/recipe.json             what the run depends on
RUN/environment.json        versions, threads and device that made it
RUN/metrics.jsonl           one line a measured step, appended as it trains
RUN/seconds.jsonl           how long the processor has worked by then; no part of what makes a run bit for bit the same
RUN/metrics.parquet         the same table, written when training ends
RUN/checkpoints/<step>/     the state after <step> updates, with digests: see `plateau_interp.runs.checkpoints`
RUN/report/                 what `plateau report` draws
```

Every file is written whole or not at all (metrics.jsonl a line at a time), nothing is pickled, and one process writes a
folder at a time. A killed run goes on from its last checkpoint and comes out bit for bit as if it had not been killed
(on the same machine, with the same number of threads). To train without a folder use `plateau_interp.train`.
"""

from collections.abc import Generator, Sequence
from pathlib import Path

import pandas as pd
import torch

from plateau_interp.analysis.budgets import Prices
from plateau_interp.analysis.plateaus import Summary, summarise
from plateau_interp.checks import as_path, shown, there_steps, whole_number
from plateau_interp.interventions.attached import Intervention, check_interventions
from plateau_interp.models.base import ToyTransformer
from plateau_interp.models.flops import training_flops
from plateau_interp.runs.checkpoints import copy_weights, saved_steps
from plateau_interp.runs.creating import create
from plateau_interp.runs.errors import RunError
from plateau_interp.runs.folder import RunFolder
from plateau_interp.runs.forking import fork_folder, forked
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.resuming import train_folder
from plateau_interp.runs.seconds import read_seconds
from plateau_interp.training.loop import Step
from plateau_interp.types import Task

__all__ = ["Run", "RunError"]


class Run:
    """A run folder.

    Open one that exists with ``Run(path)``; make a new one, or go on with one of the same recipe, with `Run.create`.

    Raises:
        RunError: if the folder holds no run, a damaged one or one of a newer format.

    Example:
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> run = Run.create("runs/mws", Recipe(MovingWindowSum()))  # doctest: +SKIP
        >>> for step in run.train():  # doctest: +SKIP
        ...     print(step.loss)
        >>> run.summary.drop_step  # doctest: +SKIP
    """

    def __init__(self, path: str | Path) -> None:
        self._folder = RunFolder(as_path(path))

    def __repr__(self) -> str:
        reached = f"step {self.step} of {self.recipe.steps}" if self.path.is_dir() else "gone"
        return f"Run({str(self.path)!r}, {self.recipe.task}, {reached})"

    @staticmethod
    def create(path: str | Path, recipe: Recipe) -> "Run":
        """A new run folder, or the one that is there if it has the same recipe.

        A recipe that differs in nothing but a larger number of steps lengthens the run.

        Raises:
            RunError: if the folder holds another recipe's run, or files that are no run's, or lies in the folder of
                another run, a series, a sweep or a `Capture`; if the recipe is that of a fork, which `fork` makes.
                Nothing is written then.
            ValueError: for a recipe whose model cannot be built, or has no place where something is to act or be
                measured. Nothing is written then either.
        """
        if not isinstance(recipe, Recipe):
            raise ValueError(f"recipe must be a Recipe, such as Recipe(MovingWindowSum()); got {shown(recipe)}")
        path = as_path(path)
        if recipe.fork_of is not None and not saved_steps(path):
            at = recipe.fork_of.step
            raise RunError(
                f"{path} cannot be begun: its recipe goes on from step {at} of another run, which has the state; fork "
                f"that one, as Run('runs/mws').fork(at={at})"
            )
        return Run(create(path, recipe).path)

    @property
    def path(self) -> Path:
        """The folder."""
        return self._folder.path

    @property
    def recipe(self) -> Recipe:
        """What the run depends on."""
        return self._folder.recipe

    @property
    def task(self) -> Task:
        """The recipe's task."""
        return self.recipe.task

    @property
    def checkpoints(self) -> list[int]:
        """Steps whose state is on disk, in order."""
        return self._folder.checkpoints

    @property
    def resumable(self) -> list[int]:
        """Of `checkpoints` those with the optimiser's state, from which training goes on at once.

        Raises:
            RunError: if a checkpoint is damaged.
        """
        return self._folder.resumable

    @property
    def step(self) -> int:
        """The last step whose state is on disk; 0 for a run that has not begun."""
        return self._folder.step

    @property
    def finished(self) -> bool:
        """Whether every step of the recipe was made."""
        return self._folder.finished

    @property
    def metrics(self) -> pd.DataFrame:
        """One row a measured step; columns ``step``, ``samples``, ``loss`` and the meter's.

        New rows are seen at every access; the file is parsed only if it has changed.

        Raises:
            RunError: if the table is damaged (file and line are named), or rows are missing, or others, than were there
                at the last checkpoint.
        """
        return self._folder.frame()

    @property
    def summary(self) -> Summary:
        """Where the plateau and the drop are, and the other numbers of the run.

        Raises:
            RunError: if no step was measured yet.
        """
        metrics = self.metrics
        if metrics.empty:
            raise RunError(f"{self.path} has no measured step yet: there is nothing to summarise")
        return summarise(metrics, task=self.task, batch_size=self.recipe.batch_size, prices=self.prices)

    @property
    def prices(self) -> Prices:
        """What its steps cost: sequences, floating-point operations and, if they were recorded, processor seconds.

        Raises:
            RunError: if the record of the seconds is damaged.
        """
        recipe = self.recipe
        flops = training_flops(recipe.task, recipe.model)
        return Prices(recipe.task, recipe.batch_size, flops, read_seconds(self._folder.seconds))

    def model(self, step: int | None = None, *, device: str | torch.device = "cpu") -> ToyTransformer:
        """The model as it was after ``step`` updates; by default the last checkpoint.

        Raises:
            RunError: if that step has no checkpoint (the message names the nearest), or a damaged one.
            ValueError: if that is no whole number.
        """
        if not self.checkpoints:
            raise RunError(f"{self.path} has no checkpoint yet")
        step = self.step if step is None else whole_number("step", step)
        try:
            there_steps([step], self.checkpoints, "checkpoint of step")
        except ValueError as error:
            raise RunError(f"{self.path}: {error}") from None
        weights = self._folder.load_weights(step)
        model = self.recipe.build_model(device=device)
        try:
            copy_weights(model, weights)
        except ValueError as error:
            raise RunError(f"{self._folder.place(step)} does not fit {self.path}: {error}") from None
        return model

    def train(self, *, device: str | torch.device = "cpu") -> Generator[Step, None, None]:
        """Train from the last checkpoint to the end and yield each `Step`; nothing is left to do for a finished run.

        Rows and checkpoints are on disk when a step is yielded. Stopping early, in any way, loses no more than the
        steps since the last checkpoint, and calling this again makes up for them exactly.

        Raises:
            RunError: if this or another process is writing here already; if a checkpoint (of a finished run, the last)
                or the metrics are damaged; if a checkpoint is a link; if there are rows but no checkpoints, which would
                be lost; if the loss or a weight is not finite any more: the last good checkpoint stays.
            ValueError: if the device is not here, or has not the recipe's precision.
            OSError: naming the file, if the disk is full.
        """
        return train_folder(self._folder, device=device)

    def fork(
        self,
        *,
        at: int,
        interventions: Sequence[Intervention] | None = None,
        steps: int | None = None,
        out: str | Path | None = None,
        device: str | torch.device = "cpu",
    ) -> "Run":
        """A run that goes on from this one's step, on the very batches this one saw, with other interventions.

        A fork with the same interventions comes out bit for bit as its parent, and those that it keeps beside others go
        on with what they remember. Where the step has no checkpoint, or one without the optimiser's state, the parent
        is trained again from the one before that has it: at most `Recipe.state_every` steps, or as many as lie between
        two checkpoints. The fork's metrics begin with its parent's. Call `train` on it. A fork that fails leaves the
        folder as it was.

        Args:
            at: the step to leave at; what the parent did before is kept.
            interventions: instead of the parent's; None keeps those.
            steps: train the fork up to this step, by default the parent's last.
            out: the fork's folder, by default ``RUN-from-AT`` beside this one; an unfinished fork of the same recipe
                is taken up again.
            device: where to train again what is not kept.

        Raises:
            RunError: if the run has not reached the step, the folder holds something else or rows without a checkpoint,
                or a `Capture` would write other activations over those of the parent.
            ValueError: for what is no whole number or no list of interventions.

        Example:
            >>> from plateau_interp.hooks import FixAttention
            >>> fork = Run("runs/mws").fork(at=50, interventions=[FixAttention()])  # doctest: +SKIP
            >>> for step in fork.train():  # doctest: +SKIP
            ...     print(step.loss)
        """
        at = whole_number("at", at)
        steps = None if steps is None else whole_number("steps", steps)
        if interventions is not None:
            check_interventions(interventions)
        recipe = forked(self._folder, at=at, interventions=interventions, steps=steps)
        path = self.path if self.path.name else self.path.resolve()  # "." has no name
        place = path.with_name(f"{path.name}-from-{at}") if out is None else as_path(out)
        return Run(fork_folder(self._folder, recipe, place, device=device).path)
