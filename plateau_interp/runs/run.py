"""Run folders: train on disk, survive being killed, read back as a table and as models.

```text
RUN/recipe.json             what the run depends on
RUN/environment.json        versions, threads and device that made it
RUN/metrics.jsonl           one line a measured step, appended as it trains
RUN/metrics.parquet         the same table, written when training ends
RUN/checkpoints/<step>/     the state after <step> updates: model, optimizer and interventions.safetensors, state.json
RUN/report/                 what `plateau report` draws
```

Every file is written whole or not at all (metrics.jsonl a line at a time), nothing is pickled, and one process writes a
folder at a time. A killed run goes on from its last checkpoint and comes out bit for bit as if it had not been killed
(on the same machine, with the same number of threads). To train without a folder use `plateau_interp.train`.
"""

import dataclasses
import json
import math
import os
import platform
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import filelock
import pandas as pd
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from plateau_interp.analysis.plateaus import Summary, summarise
from plateau_interp.codec import RecipeError
from plateau_interp.files import sync_folder, write_atomically, write_table
from plateau_interp.interventions.attached import Attached, Intervention, attached_state, load_attached_state
from plateau_interp.interventions.attaching import InterventionWarning, attaching
from plateau_interp.interventions.capturing import Capture
from plateau_interp.interventions.clock import advance
from plateau_interp.models.toy import ToyTransformer
from plateau_interp.runs.recipe import Fork, Recipe
from plateau_interp.training.loop import Step, train
from plateau_interp.types import Batch, HookedModel, Task

__all__ = ["Run", "RunError"]

FORMAT = 1


class RunError(ValueError):
    """A run folder that cannot be used as asked (nothing is written then), or a training that diverged."""


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
        self.path = Path(path)
        if not self.path.is_dir():
            raise RunError(f"{self.path} is not a folder; `plateau train` makes a run")
        if not (self.path / "recipe.json").is_file():
            raise RunError(f"{self.path} holds no recipe.json: it is not a run folder")
        try:
            self.recipe = Recipe.from_json((self.path / "recipe.json").read_text(encoding="utf-8"))
        except (RecipeError, UnicodeDecodeError) as error:
            raise RunError(f"{self.path / 'recipe.json'}: {error}") from None

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {self.recipe.task}, step {self.step} of {self.recipe.steps})"

    @staticmethod
    def create(path: str | Path, recipe: Recipe) -> "Run":
        """A new run folder, or the one that is there if it has the same recipe.

        A recipe that differs in nothing but a larger number of steps lengthens the run.

        Raises:
            RunError: if the folder holds another recipe's run, or files that are no run's. Nothing is written then.
            ValueError: for a recipe whose model cannot be built, or has no place where something is to act or be
                measured. Nothing is written then either.
        """
        path = Path(path)
        # As it will be read back: a 1 given for a float is a 1.0, and what cannot be read is refused now.
        recipe = Recipe.from_json(recipe.to_json())
        if _takes(path, recipe):
            recipe.rehearse()
            path.mkdir(parents=True, exist_ok=True)
            with _only_writer(path):
                if _takes(path, recipe):  # nobody was quicker
                    write_atomically(path / "recipe.json", recipe.to_json())
        return Run(path)

    @property
    def task(self) -> Task:
        """The recipe's task."""
        return self.recipe.task

    @property
    def checkpoints(self) -> list[int]:
        """Steps whose state is on disk, in order."""
        folder = self.path / "checkpoints"
        if not folder.is_dir():
            return []
        return sorted(int(child.name) for child in folder.iterdir() if child.name.isdigit())

    @property
    def step(self) -> int:
        """The last step whose state is on disk; 0 for a run that has not begun."""
        return max(self.checkpoints, default=0)

    @property
    def finished(self) -> bool:
        """Whether every step of the recipe was made."""
        return self.step >= self.recipe.steps

    @property
    def metrics(self) -> pd.DataFrame:
        """One row a measured step; columns ``step``, ``samples``, ``loss`` and the meter's.

        Raises:
            RunError: if rows are missing that were there at the last checkpoint.
        """
        return pd.DataFrame(self._rows())

    @property
    def summary(self) -> Summary:
        """Where the plateau and the drop are, and the other numbers of the run.

        Raises:
            RunError: if no step was measured yet.
        """
        metrics = self.metrics
        if metrics.empty:
            raise RunError(f"{self.path} has no measured step yet: there is nothing to summarise")
        return summarise(metrics, task=self.task, batch_size=self.recipe.batch_size)

    @cached_property
    def example(self) -> Batch:
        """A fixed batch of 64 sequences for pictures, in no training stream."""
        return self.task.sample(64, generator=torch.Generator().manual_seed(0))

    def model(self, step: int | None = None, *, device: str | torch.device = "cpu") -> ToyTransformer:
        """The model as it was after ``step`` updates; by default the last checkpoint.

        Raises:
            RunError: if that step has no checkpoint (the message names the nearest), or a damaged one.
        """
        if not self.checkpoints:
            raise RunError(f"{self.path} has no checkpoint yet")
        step = self.step if step is None else step
        if step not in self.checkpoints:
            nearest = min(self.checkpoints, key=lambda other: abs(other - step))
            raise RunError(f"{self.path} has no checkpoint of step {step}; the nearest is {nearest}")
        model = self.recipe.build_model(device=device)
        self._load_weights(model, step)
        return model

    def train(self, *, device: str | torch.device = "cpu") -> Iterator[Step]:
        """Train from the last checkpoint to the end and yield each `Step`; nothing is left to do for a finished run.

        Rows and checkpoints are on disk when a step is yielded. Stopping early, in any way, loses no more than the
        steps since the last checkpoint, and calling this again makes up for them exactly.

        Raises:
            RunError: if another process is writing here, a checkpoint or the metrics are damaged, or the loss or a
                weight is not finite any more; the last good checkpoint stays.
        """
        with _only_writer(self.path):
            if not self.finished:
                yield from self._train(device)
            write_table(self.path / "metrics.parquet", self.metrics)

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
        on with what they remember. Where the step has no checkpoint, the parent is trained again from the one before.
        The fork's metrics begin with its parent's. Call `train` on it.

        Args:
            at: the step to leave at; what the parent did before is kept.
            interventions: instead of the parent's; None keeps those.
            steps: train the fork up to this step, by default the parent's last.
            out: the fork's folder, by default ``RUN-from-AT`` beside this one; an unfinished fork of the same recipe
                is taken up again.
            device: where to train again what has no checkpoint.

        Raises:
            RunError: if the run has not reached the step, the folder holds something else, or a `Capture` would write
                other activations over those of the parent.

        Example:
            >>> from plateau_interp.hooks import FixAttention
            >>> fork = Run("runs/mws").fork(at=50, interventions=[FixAttention()])  # doctest: +SKIP
            >>> for step in fork.train():  # doctest: +SKIP
            ...     print(step.loss)
        """
        if not self.checkpoints:
            raise RunError(f"{self.path} has not begun: there is nothing to fork")
        first = min(self.checkpoints)
        if not first <= at <= self.step:
            hint = "; for an earlier step fork its parent" if 0 <= at < first else ""
            raise RunError(f"{self.path} can be forked at steps {first} to {self.step}; got {at}{hint}")
        recipe = dataclasses.replace(
            self.recipe,
            interventions=self.recipe.interventions if interventions is None else tuple(interventions),
            training=self.recipe.training if steps is None else dataclasses.replace(self.recipe.training, steps=steps),
            fork_of=Fork(self.recipe, at),
        )
        if recipe.steps < at:
            raise RunError(f"a fork at step {at} cannot end at step {recipe.steps}")
        _check_captures(recipe, self.recipe)
        path = self.path if self.path.name else self.path.resolve()  # "." has no name
        fork = Run.create(path.with_name(f"{path.name}-from-{at}") if out is None else out, recipe)
        with _only_writer(fork.path):
            if not fork.checkpoints:
                try:
                    self._bequeath(fork, at, device=device)
                except BaseException:  # Ctrl-C too; there is nothing of anybody else's in the folder
                    shutil.rmtree(fork.path)
                    raise
        return fork

    def _bequeath(self, fork: "Run", at: int, *, device: str | torch.device) -> None:
        """Give a fresh fork the rows before a step and the state at it."""
        recipe = self.recipe
        model = recipe.build_model(device=device)
        optimizer = recipe.optimizer.build(model.named_parameters())
        again = [_Recorded() if isinstance(one, Capture) else one for one in recipe.interventions]
        with warnings.catch_warnings(), attaching(model, *again) as attached:
            # What they did was said when the parent trained; here there may be no step for them to act at.
            warnings.simplefilter("ignore", InterventionWarning)
            nearest = max(step for step in self.checkpoints if step <= at)
            latest = self._load(nearest, model, optimizer, attached)
            for step in self._steps(model, optimizer, start=nearest, stop=at, latest=latest):
                latest = {"loss": step.loss, **step.metrics}
            rows = [row for row in self._rows() if row["step"] < at]
            write_atomically(fork.path / "metrics.jsonl", "".join(map(_line, rows)))
            write_atomically(fork.path / "environment.json", json.dumps(_environment(device), indent=2) + "\n")
            memory = attached_state(attached)
            # What training made of the weights stays; what was done to them before any training does not.
            heritage = _weights(model if at else recipe.build_model(device=device))
            heritage = {name: tensor.clone() for name, tensor in heritage.items()}
        # What was done before any training is done anew; a Capture goes on in its folder all the same.
        kept = {
            place: theirs
            for place, theirs in _kept(recipe, fork.recipe).items()
            if at or isinstance(recipe.interventions[theirs], Capture)
        }
        heirs: list[Attached] = []
        with warnings.catch_warnings(), ExitStack() as stack:
            warnings.simplefilter("ignore", InterventionWarning)
            _copy_weights(model, heritage)
            advance(model, step=at, metrics=latest)
            # Attached before the state is saved, as when training goes on: a transplant acts on entry, and one that the
            # parent had made already does not act again.
            for index, intervention in enumerate(fork.recipe.interventions):
                before = {name: tensor.clone() for name, tensor in _weights(model).items()} if index in kept else {}
                heirs += stack.enter_context(attaching(model, intervention))
                if index in kept:
                    _copy_weights(model, before)
                    own = {name: value for name, value in memory.items() if name.split(".", 1)[0] == str(kept[index])}
                    load_attached_state(heirs[-1:], {f"0.{name.split('.', 1)[1]}": own[name] for name in own})
            fork._save(at, model, optimizer, heirs, latest=latest)

    def _steps(
        self,
        model: ToyTransformer,
        optimizer: torch.optim.Optimizer,
        *,
        start: int,
        stop: int,
        latest: Mapping[str, float],
    ) -> Iterator[Step]:
        recipe = self.recipe
        return train(
            model,
            recipe.task,
            steps=stop,
            batch_size=recipe.batch_size,
            optimizer=optimizer,
            seed=recipe.seed,
            meter=recipe.build_meter(),
            start=start,
            latest=latest,
            grad_clip=recipe.training.grad_clip,
            schedule=recipe.training.schedule,
        )

    def _train(self, device: str | torch.device) -> Iterator[Step]:
        recipe = self.recipe
        model = recipe.build_model(device=device)
        optimizer = recipe.optimizer.build(model.named_parameters())
        # Attached before the state is loaded, because some interventions change weights on entry.
        with attaching(model, *recipe.interventions) as attached:
            latest = self._resume(model, optimizer, attached)
            start = self.step
            if not self.checkpoints:
                if recipe.fork_of is not None:
                    raise RunError(f"{self.path}: the fork was not finished; make it again with the same command")
                write_atomically(self.path / "environment.json", json.dumps(_environment(device), indent=2) + "\n")
                self._save(0, model, optimizer, attached, latest={})
            steps = self._steps(model, optimizer, start=start, stop=recipe.steps, latest=latest)
            with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
                for step in steps:
                    if not math.isfinite(step.loss):
                        raise self._diverged(step.step, f"the loss is {step.loss}")
                    if step.metrics:
                        row = {"step": step.step, "samples": step.samples, "loss": step.loss, **step.metrics}
                        file.write(_line(row))
                        file.flush()
                    reached = step.step + 1
                    if reached % recipe.checkpoint_every == 0 or reached == recipe.steps:
                        if not all(parameter.isfinite().all() for parameter in model.parameters()):
                            raise self._diverged(reached, "a weight is not finite")
                        os.fsync(file.fileno())
                        self._save(reached, model, optimizer, attached, latest={"loss": step.loss, **step.metrics})
                    yield step
            for one in attached:  # the last checkpoint has what training made of a transplant; this model is gone
                one.keep()

    def _diverged(self, step: int, what: str) -> RunError:
        return RunError(f"{self.path}: training diverged at step {step}: {what}. Checkpoint {self.step} is kept")

    def _save(
        self,
        step: int,
        model: ToyTransformer,
        optimizer: torch.optim.Optimizer,
        attached: Sequence[Attached],
        *,
        latest: Mapping[str, float],
    ) -> None:
        """Write a checkpoint: the files in a folder beside its place, then the folder moved there in one go."""
        folder = self.path / "checkpoints" / str(step)
        temporary = folder.with_name(f".{step}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        tensors: dict[str, Tensor] = {}
        scalars: dict[str, Any] = {}
        for parameter, state in optimizer.state.items():
            for key, value in state.items():
                place = f"{names[id(parameter)]}/{key}"
                if isinstance(value, Tensor):
                    tensors[place] = value.detach().contiguous()
                else:
                    scalars[place] = value
        state = {"format": FORMAT, "step": step, "latest": _without_nan(latest), "optimizer": scalars}
        write_atomically(temporary / "model.safetensors", safetensors.torch.save(_weights(model)))
        write_atomically(temporary / "optimizer.safetensors", safetensors.torch.save(tensors))
        write_atomically(temporary / "interventions.safetensors", safetensors.torch.save(attached_state(attached)))
        write_atomically(temporary / "state.json", json.dumps(state, indent=2, allow_nan=False) + "\n")
        sync_folder(temporary)
        temporary.rename(folder)
        sync_folder(folder.parent)

    def _resume(
        self, model: ToyTransformer, optimizer: torch.optim.Optimizer, attached: Sequence[Attached]
    ) -> dict[str, float]:
        """Bring everything, the metrics too, to the last checkpoint; return the numbers of the step before it."""
        latest = self._load(self.step, model, optimizer, attached) if self.checkpoints else {}
        rows = [row for row in self._rows() if row["step"] < self.step]
        # Nothing is written before all that was there has been read and found good.
        for leftover in (self.path / "checkpoints").glob(".*.tmp"):
            shutil.rmtree(leftover)
        write_atomically(self.path / "metrics.jsonl", "".join(map(_line, rows)))
        return latest

    def _load(
        self, step: int, model: ToyTransformer, optimizer: torch.optim.Optimizer, attached: Sequence[Attached]
    ) -> dict[str, float]:
        """Bring everything to a checkpoint; return the numbers of the step before it."""
        folder = self.path / "checkpoints" / str(step)
        state = self._read_state(folder)
        self._load_weights(model, step)
        _load_optimizer_state(
            optimizer, {**_load_tensors(folder / "optimizer.safetensors"), **state["optimizer"]}, model
        )
        load_attached_state(attached, _load_tensors(folder / "interventions.safetensors"))
        return _with_nan(state["latest"])

    def _read_state(self, folder: Path) -> dict[str, Any]:
        try:
            state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise _damaged(folder / "state.json", error) from None
        if not isinstance(state, dict) or not {"latest", "optimizer"} <= state.keys():
            raise _damaged(folder / "state.json", ValueError("it is not what a checkpoint holds"))
        if state.get("format", 0) > FORMAT:
            raise RunError(
                f"{folder} was written by a newer version (format {state['format']}, this one reads {FORMAT})"
            )
        return dict(state)

    def _load_weights(self, model: ToyTransformer, step: int) -> None:
        file = self.path / "checkpoints" / str(step) / "model.safetensors"
        tensors = _load_tensors(file)
        wanted = dict(model.named_parameters())
        if tensors.keys() != wanted.keys():
            raise RunError(f"{file} holds another model's weights: {sorted(tensors.keys() ^ wanted.keys())}")
        for name, parameter in wanted.items():
            if tensors[name].shape != parameter.shape:
                raise RunError(f"{file}: {name} is {tuple(tensors[name].shape)}, not {tuple(parameter.shape)}")
        _copy_weights(model, tensors)

    def _rows(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, all that belong there; a last line cut off by a kill does not count."""
        file, reached = self.path / "metrics.jsonl", self.step
        try:
            lines = file.read_text(encoding="utf-8").split("\n")[:-1] if file.exists() else []
            rows = [json.loads(line) for line in lines]
        except ValueError as error:
            raise _damaged(file, error) from None
        if not all(isinstance(row, dict) and "step" in row for row in rows):
            raise _damaged(file, ValueError("a line is no row of metrics"))
        before, every = [row["step"] for row in rows if row["step"] < reached], self.recipe.measure_every
        if before != list(range(0, reached, every)):
            raise RunError(
                f"{file} has {len(before)} rows before step {reached}, not the expected {len(range(0, reached, every))}"
                f": one for every {every} steps from 0 on"
            )
        return [_with_nan(row) for row in rows]


LOCK = ".lock"


def _takes(path: Path, recipe: Recipe) -> bool:
    """Whether the recipe is to be written to the folder; False if it is there.

    Raises:
        RunError: if the folder is not for this recipe.
    """
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file; a run needs a folder")
    if not (path / "recipe.json").exists():
        ours = {path / LOCK, *path.glob(".recipe.json.*.tmp")}
        if path.is_dir() and {*path.iterdir()} - ours:
            raise RunError(f"{path} is not empty and holds no run")
        return True
    there = Run(path).recipe
    if there.to_dict() == recipe.to_dict():
        return False
    if recipe.steps < there.steps or not _differ_in_steps_alone(there, recipe):
        raise RunError(f"{path} holds the run of another recipe ({_difference(there, recipe)})")
    return True


class _Recorded:
    """In the place of a `Capture` while steps are trained again: they were recorded the first time."""

    @contextmanager
    def attach(self, model: HookedModel) -> Iterator[Attached]:
        yield _Remembering(self)


class _Remembering(Attached):
    """Hands on the memory of what it stands for."""

    _memory: Mapping[str, Tensor] = MappingProxyType({})

    def state(self) -> dict[str, Tensor]:
        return dict(self._memory)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self._memory = state


def _check_captures(recipe: Recipe, parent: Recipe) -> None:
    """Refuse a fork that would record other activations over those of the run it comes from.

    Raises:
        RunError: naming the folder.
    """
    if recipe.to_dict()["interventions"] == parent.to_dict()["interventions"]:
        return  # the same activations over again
    taken = {Path(capture.out).resolve() for older in _lineage(parent) for capture in _captures(older)}
    for capture in _captures(recipe):
        if Path(capture.out).resolve() in taken:
            raise RunError(f"{capture.out} holds what the parent captured; give the fork's Capture another folder")


def _captures(recipe: Recipe) -> list[Capture]:
    return [capture for intervention in recipe.interventions for capture in _captures_in(intervention)]


def _captures_in(intervention: Intervention) -> Iterator[Capture]:
    """The intervention itself, or what a schedule holds."""
    if isinstance(intervention, Capture):
        yield intervention
    if dataclasses.is_dataclass(intervention) and not isinstance(intervention, type):
        for item in dataclasses.fields(intervention):
            inner = getattr(intervention, item.name)
            if isinstance(inner, Intervention):
                yield from _captures_in(inner)


def _lineage(recipe: Recipe) -> Iterator[Recipe]:
    yield recipe
    if recipe.fork_of is not None:
        yield from _lineage(recipe.fork_of.parent)


def _kept(parent: Recipe, fork: Recipe) -> dict[int, int]:
    """By place in the fork, the place in the parent of the interventions that both have, each used once."""
    left = dict(enumerate(parent.to_dict()["interventions"]))
    kept: dict[int, int] = {}
    for place, data in enumerate(fork.to_dict()["interventions"]):
        same = next((theirs for theirs, other in left.items() if other == data), None)
        if same is not None:
            del left[same]
            kept[place] = same
    return kept


@contextmanager
def _only_writer(path: Path) -> Iterator[None]:
    lock = filelock.FileLock(path / LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise RunError(f"another process is writing to {path}") from None
    try:
        yield
    finally:
        lock.release()


def _weights(model: ToyTransformer) -> dict[str, Tensor]:
    # Parameters alone: TransformerLens's state dict also holds constant masks.
    return {name: parameter.detach().contiguous() for name, parameter in model.named_parameters()}


@torch.no_grad()
def _copy_weights(model: ToyTransformer, weights: Mapping[str, Tensor]) -> None:
    for name, parameter in model.named_parameters():
        parameter.copy_(weights[name])


def _load_optimizer_state(optimizer: torch.optim.Optimizer, state: Mapping[str, Any], model: ToyTransformer) -> None:
    """Give an optimiser its state back, through its ``load_state_dict``: that knows what belongs on which device."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    order = [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]
    by_index: dict[int, dict[str, Any]] = {}
    for place, value in state.items():
        name, key = place.rsplit("/", 1)
        by_index.setdefault(order.index(name), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": by_index})


def _line(row: Mapping[str, float]) -> str:
    return json.dumps(_without_nan(row), allow_nan=False) + "\n"


def _without_nan(numbers: Mapping[str, float]) -> dict[str, float | None]:
    """What is not finite as None: JSON knows no NaN."""
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}


def _with_nan(numbers: Mapping[str, float | None]) -> dict[str, float]:
    return {name: math.nan if value is None else value for name, value in numbers.items()}


def _load_tensors(file: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(file)
    except (OSError, SafetensorError) as error:
        raise _damaged(file, error) from None


def _damaged(file: Path, error: Exception) -> RunError:
    remedy = f"; delete {file.parent} to go on from the checkpoint before" if file.parent.name.isdigit() else ""
    return RunError(f"{file} is damaged: {error}{remedy}")


def _environment(device: str | torch.device) -> dict[str, Any]:
    packages = ("plateau-interp", "torch", "transformer-lens", "numpy")
    return {
        "packages": {name: version(name) for name in packages},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "device": str(device),
        "threads": torch.get_num_threads(),
    }


def _processor() -> str:
    """The processor's name, as far as the system tells."""
    told = Path("/proc/cpuinfo")
    text = told.read_text(encoding="utf-8") if told.is_file() else ""
    found = re.search(r"^model name\s*: *(.+?) *$", text, flags=re.MULTILINE)
    return platform.processor() if found is None else str(found[1])


def _differ_in_steps_alone(one: Recipe, other: Recipe) -> bool:
    same_steps = dataclasses.replace(one.training, steps=other.steps)
    return dataclasses.replace(one, training=same_steps).to_json() == other.to_json()


def _difference(one: Recipe, other: Recipe) -> str:
    """The first field in which two recipes differ, with both values."""

    def flat(data: Any, path: str = "") -> dict[str, Any]:
        if not isinstance(data, dict):
            return {path: data}
        return {p: v for key, value in data.items() for p, v in flat(value, f"{path}.{key}".lstrip(".")).items()}

    theirs, ours = flat(one.to_dict()), flat(other.to_dict())
    path = next(path for path in {**theirs, **ours} if theirs.get(path) != ours.get(path))
    return f"{path} is {theirs.get(path)!r} there and {ours.get(path)!r} here"
