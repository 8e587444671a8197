"""Train a run folder: from its last checkpoint to the end, bit for bit as if nobody had stopped it."""

import logging
import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from plateau_interp.files import write_table
from plateau_interp.interventions.attached import Attached, Intervention
from plateau_interp.interventions.attaching import attaching, quietly
from plateau_interp.models.base import ToyTransformer
from plateau_interp.runs.captures import recorded
from plateau_interp.runs.checkpoints import Checkpoint
from plateau_interp.runs.environment import write_environment
from plateau_interp.runs.errors import RunError
from plateau_interp.runs.folder import TABLE, RunFolder, only_writer
from plateau_interp.runs.optimizer_state import BuiltGroups, optimizer_state
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.seconds import Stopwatch, read_seconds, up_to, write_seconds
from plateau_interp.runs.starting import begin_
from plateau_interp.runs.table import Row, RowWriter
from plateau_interp.runs.thinning import Thinning
from plateau_interp.training.batches import training_batch
from plateau_interp.training.loop import LatestMetrics, Step, train
from plateau_interp.training.precision import has_bfloat16, time_gained

__all__ = ["LiveRun", "going_on", "live_run", "most_unread", "state_at", "train_folder"]

log = logging.getLogger(__name__)

UNREAD = 20
"""Steps that a device other than the processor may be ahead before somebody asks whether the loss is a number."""
MUCH_SLOWER = 1.1
"""From so many times as long on a step is told to be slower: below, it is what the machine does at the moment."""


@dataclass(frozen=True, eq=False)
class LiveRun:
    """A run in memory: the objects that a `Checkpoint` is applied to and taken from."""

    recipe: Recipe
    model: ToyTransformer
    optimizer: torch.optim.Optimizer
    built: BuiltGroups
    """The optimiser's groups as the recipe builds them."""
    attached: Sequence[Attached]
    start: int
    """The step it is at before `steps` are made."""
    latest: Mapping[str, float]
    """The numbers of the step before."""

    def steps(self, *, stop: int) -> Iterator[Step]:
        """Train up to a step."""
        recipe = self.recipe
        return train(
            self.model,
            recipe.task,
            steps=stop,
            batch_size=recipe.batch_size,
            optimizer=self.optimizer,
            seed=recipe.seed,
            meter=recipe.build_meter(),
            start=self.start,
            latest=self.latest,
            grad_clip=recipe.training.grad_clip,
            schedule=recipe.training.schedule,
            precision=recipe.training.precision,
        )

    def checkpoint(self, step: int, *, latest: Mapping[str, float]) -> Checkpoint:
        """Its state now.

        Raises:
            ValueError: naming what of the optimiser's state cannot be kept.
        """
        return Checkpoint.take(
            step,
            model=self.model,
            optimizer=self.optimizer,
            built=self.built,
            attached=self.attached,
            latest=latest,
        )

    def check_kept(self) -> None:
        """Refuse an optimiser whose state cannot be kept, and tell what else it changes; raises as `checkpoint`."""
        optimizer_state(self.optimizer, self.model, self.built)
        if forgotten := self.built.forgotten(self.optimizer):
            log.warning(
                "%s changes its own %s, which no checkpoint keeps: where updates depend on it, have it in param_groups",
                *(type(self.optimizer).__name__, ", ".join(forgotten)),
            )


@contextmanager
def live_run(
    folder: RunFolder,
    start: Checkpoint | None,
    *,
    interventions: Sequence[Intervention],
    device: str | torch.device,
) -> Iterator[LiveRun]:
    """A folder's run at a checkpoint, or before its first step, with interventions attached while the context is open.

    Raises:
        RunError: if the checkpoint is that of another model or of other interventions; as `begin_`.
    """
    recipe = folder.recipe
    model = recipe.build_model(device=device)
    optimizer = recipe.optimizer.build(model.named_parameters())
    built = BuiltGroups.of(optimizer)
    if start is None:
        begin_(recipe, model, optimizer)
    # Attached before the state is applied, because some interventions change weights on entry.
    with attaching(model, *interventions) as attached:
        if start is not None:
            try:
                start.apply(model=model, optimizer=optimizer, attached=attached)
            except ValueError as error:
                raise RunError(f"{folder.place(start.step)} does not fit {folder.path}: {error}") from None
        step, latest = (0, {}) if start is None else (start.step, start.latest)
        yield LiveRun(recipe, model, optimizer, built, attached, step, latest)


def state_at(folder: RunFolder, step: int, *, device: str | torch.device) -> Checkpoint:
    """The whole state of a run after ``step`` updates, trained again where it is not kept; nothing is written.

    Steps are made again from the checkpoint before, or from the last before that one that has the optimiser's state:
    what else is kept is taken from where it is. Which steps are made is told to the log.

    Raises:
        RunError: if a checkpoint is damaged.
    """
    there = folder.load(max(saved for saved in folder.checkpoints if saved <= step))
    if there.optimizer is None:
        base = folder.load(_last_state_before(folder, there.step))  # a damaged one is refused before a word is said
        log.info(
            "%s keeps no optimiser state at step %d: making steps %d to %d again",
            *(folder.path, there.step, base.step, step - 1),
        )
        again = _trained_again(folder, base, step=there.step, device=device)
        there = replace(there, optimizer=again.optimizer)
    return there if there.step == step else _trained_again(folder, there, step=step, device=device)


def _last_state_before(folder: RunFolder, step: int) -> int:
    earlier = (saved for saved in reversed(folder.checkpoints) if saved < step)
    base = next((saved for saved in earlier if folder.label(saved).has_state), None)
    if base is None:
        raise RunError(
            f"{folder.path} has no checkpoint with the optimiser's state before step {step}: put its first one back"
        )
    return base


def _trained_again(folder: RunFolder, start: Checkpoint, *, step: int, device: str | torch.device) -> Checkpoint:
    again = [recorded(intervention) for intervention in folder.recipe.interventions]
    # What they did was said when the run was trained; here there may be no step for them to act at.
    with quietly(), live_run(folder, start, interventions=again, device=device) as run:
        latest = run.latest
        for made in run.steps(stop=step):
            latest = dict(LatestMetrics(made))
            checkpoint = run.checkpoint(step, latest=latest)
    return checkpoint


def train_folder(folder: RunFolder, *, device: str | torch.device) -> Generator[Step, None, None]:
    """Train to the recipe's last step; see `plateau_interp.runs.run.Run.train`.

    Raises:
        RunError: if something else writes there, a file is damaged or missing, a checkpoint is a link, training
            diverges, or the folder is moved or removed meanwhile.
        ValueError: if the device is not here, or has not the recipe's precision.
    """
    folder.check_there()  # before the lock, which would make the folder
    folder.recipe.check_device(device)
    with only_writer(folder.path) as check_still_there:
        folder.check_unlinked()
        if folder.finished:
            folder.load(folder.step)  # nobody would notice otherwise that the result of the training is gone
            folder.remove_leftovers()
            Thinning(folder).thin()
        else:
            yield from _train(folder, device, check_still_there)
        write_table(folder.path / TABLE, folder.frame())


def _train(
    folder: RunFolder, device: str | torch.device, check_still_there: Callable[[], None]
) -> Generator[Step, None, None]:
    recipe = folder.recipe
    start, rows = going_on(folder)
    # As the rows: what a kill took from the training is not in it.
    spent = up_to(read_seconds(folder.seconds), 0 if start is None else start.step)
    if start is not None and start.optimizer is None:  # somebody removed the last checkpoint
        start = state_at(folder, start.step, device=device)
    with live_run(folder, start, interventions=recipe.interventions, device=device) as run:
        # Nothing is written before all that was there has been read and found good.
        folder.remove_leftovers()
        folder.table.replace(rows)
        thinning = Thinning(folder)
        thinning.thin()
        if start is None:
            _tell_if_slower(recipe, device)
            write_environment(folder.environment, device)
            folder.save(run.checkpoint(0, latest={}), rows=folder.table.digest(before=0))
            thinning.saved(0)
        unread: list[Step] = []
        unread_at_most = most_unread(device)
        write_seconds(folder.seconds, spent)
        is_known = bool(spent) or not run.start
        with (
            RowWriter(folder.table.file, there=rows) as writer,
            Stopwatch(folder.seconds if is_known else None, spent) as watch,
        ):
            for step in run.steps(stop=recipe.steps):
                reached = step.step + 1
                if step.step == run.start:
                    run.check_kept()  # now, and not after all the steps up to the next checkpoint
                unread.append(step)
                if step.metric_tensors or recipe.keeps(reached) or len(unread) >= unread_at_most:
                    _check_losses(folder, unread)
                    unread.clear()
                if step.metrics:
                    writer.add({"step": step.step, "samples": step.samples, "loss": step.loss, **step.metrics})
                if step.metrics or recipe.keeps(reached):
                    watch.note(reached)
                if recipe.keeps(reached):
                    if not all(parameter.isfinite().all() for parameter in run.model.parameters()):
                        raise _diverged(folder, reached, "a weight is not finite")
                    writer.force()
                    check_still_there()
                    folder.save(run.checkpoint(reached, latest=dict(LatestMetrics(step))), rows=writer.digest)
                    thinning.saved(reached)
                with watch.paused():
                    yield step
                check_still_there()  # before the next is made: a `Capture` would write
        for one in run.attached:  # the last checkpoint has what training made of a transplant; this model is gone
            one.keep()


def most_unread(device: str | torch.device) -> int:
    """Steps whose losses are looked at together: to read one a processor need not wait, but for another device.

    Example:
        >>> most_unread("cpu"), most_unread("cuda:1")
        (1, 20)
    """
    return 1 if torch.device(device).type == "cpu" else UNREAD


def _tell_if_slower(recipe: Recipe, device: str | torch.device) -> None:
    """A line where a precision that is chosen for its speed is slower here; what is timed is a model of its own."""
    precision = recipe.training.precision
    if precision == "float32":
        return
    batch = training_batch(recipe.task, seed=recipe.seed, step=0, batch_size=recipe.batch_size, device=device)
    gained = time_gained(precision, recipe.build_model(device=device), recipe.task, batch)
    if 1 / gained >= MUCH_SLOWER:
        without = "" if has_bfloat16(batch.tokens.device) else "; this processor has neither AMX nor AVX-512-BF16"
        log.warning(
            "precision %s: a step takes %.1f times as long here as in float32%s", precision, 1 / gained, without
        )


def going_on(folder: RunFolder) -> tuple[Checkpoint | None, list[Row]]:
    """What training goes on from: the last checkpoint, None before the first step, and the rows before it.

    Raises:
        RunError: if any of it is damaged or missing.
    """
    start = folder.load(folder.step) if folder.checkpoints else None
    if start is None:
        _check_new(folder)
    return start, [row for row in folder.rows() if row["step"] < folder.step]


def _check_new(folder: RunFolder) -> None:
    """Refuse to begin a run where that would lose something.

    Raises:
        RunError: with the remedy.
    """
    if folder.recipe.fork_of is not None:
        raise RunError(f"{folder.path}: the fork was not finished; make it again with the same command")
    if rows := folder.rows():
        raise RunError(
            f"{folder.table.file} has {len(rows)} rows, but there is no checkpoint to go on from: put the checkpoints "
            f"back, or move that file away to train from step 0"
        )


def _check_losses(folder: RunFolder, steps: Sequence[Step]) -> None:
    for step in steps:
        if not math.isfinite(step.loss):
            raise _diverged(folder, step.step, f"the loss is {step.loss}")


def _diverged(folder: RunFolder, step: int, what: str) -> RunError:
    return RunError(f"{folder.path}: training diverged at step {step}: {what}. Checkpoint {folder.step} is kept")
