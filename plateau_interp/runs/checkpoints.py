"""Checkpoints: the whole state of a run after a step, as one value.

It is taken from live objects and applied to others, saved to a folder and loaded from one; forking is to load one,
swap the interventions and save. A folder holds

```text
model.safetensors          the parameters
optimizer.safetensors      the optimiser's tensors, as PARAMETER/NAME; only some checkpoints keep it
interventions.safetensors  what interventions remember
state.json                 step, latest metrics, the optimiser's numbers and what it has changed in its groups; digests
                           of the files, of the recipe, of the run's rows before this step, and of itself
```

and is written whole or not at all. What was changed, swapped or renamed since is refused by name. `let_go` takes the
optimiser's state away: two thirds of the bytes, which nobody needs but who trains on from that very step.
"""

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from plateau_interp.files import digest, steps_in, sync_folder, write_atomically
from plateau_interp.folders import CHECKPOINTS
from plateau_interp.interventions.attached import Attached, attached_state, load_attached_state
from plateau_interp.models.base import ToyTransformer
from plateau_interp.runs.errors import DamagedFile, RunError
from plateau_interp.runs.formats import CHECKPOINT_FORMAT, PLAIN_CHECKPOINT_FORMAT
from plateau_interp.runs.optimizer_state import BuiltGroups, StoredState, optimizer_state, put_optimizer_state
from plateau_interp.runs.table import nan_for_null, null_for_nan

__all__ = [
    "ENCODED",
    "FILES",
    "OPTIMIZER",
    "STATE",
    "Checkpoint",
    "Label",
    "checkpoints_of",
    "copy_weights",
    "let_go",
    "load_weights",
    "place_of",
    "read_label",
    "saved_steps",
    "weights_of",
]

MODEL, OPTIMIZER, INTERVENTIONS, STATE = FILES = (
    "model.safetensors",
    "optimizer.safetensors",
    "interventions.safetensors",
    "state.json",
)
TENSORS = (MODEL, OPTIMIZER, INTERVENTIONS)
INFINITE = "infinite"
"""Which of the latest metrics are infinite, as ``"inf"`` or ``"-inf"``; earlier versions wrote and read them as NaN."""
ENCODED = "encoded"
"""What an optimiser remembers beside tensors and finite numbers of its parameters; from format 4 on."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The state of a run after a step; its tensors are its own, and nobody changes them.

    Args:
        step: updates made.
        weights: by parameter name.
        optimizer: what the optimiser remembers, by place as of `plateau_interp.runs.optimizer_state`; None if that was
            let go.
        memory: what interventions remember, by ``PLACE.NAME``.
        latest: the numbers of the step before, for conditions that read them.

    Example:
        >>> from plateau_interp.runs.recipe import Recipe
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> recipe = Recipe(MovingWindowSum(n=4))
        >>> model = recipe.build_model()
        >>> optimizer = recipe.optimizer.build(model.named_parameters())
        >>> built = BuiltGroups.of(optimizer)
        >>> checkpoint = Checkpoint.take(0, model=model, optimizer=optimizer, built=built, attached=(), latest={})
        >>> checkpoint.apply(model=model, optimizer=optimizer, attached=())
        >>> checkpoint
        Checkpoint(step=0, latest={})
    """

    step: int
    weights: Mapping[str, Tensor] = field(repr=False)
    optimizer: Mapping[str, Any] | None = field(repr=False)
    memory: Mapping[str, Tensor] = field(repr=False)
    latest: Mapping[str, float]

    @staticmethod
    def take(
        step: int,
        *,
        model: ToyTransformer,
        optimizer: torch.optim.Optimizer,
        built: BuiltGroups,
        attached: Sequence[Attached],
        latest: Mapping[str, float],
    ) -> "Checkpoint":
        """The state that live objects are in; what they do later does not change it.

        Args:
            step: updates made.
            model: in training.
            optimizer: of its parameters.
            built: the optimiser's groups as its recipe built them.
            attached: what the interventions attached to it gave.
            latest: the numbers of the step before.

        Raises:
            ValueError: naming what of the optimiser's state cannot be kept.
        """
        state = optimizer_state(optimizer, model, built)
        memory = {name: value.detach().clone() for name, value in attached_state(attached).items()}
        return Checkpoint(step, weights_of(model), state, memory, dict(latest))

    def apply(self, *, model: ToyTransformer, optimizer: torch.optim.Optimizer, attached: Sequence[Attached]) -> None:
        """Bring live objects to this state: an optimiser that was just built, and what is attached.

        Attach before: some interventions act on entry.

        Raises:
            ValueError: if this is the state of another model, optimiser or other interventions, or has none of the
                optimiser.
        """
        if self.optimizer is None:
            raise ValueError(f"the optimiser's state of step {self.step} was let go")
        copy_weights(model, self.weights)
        put_optimizer_state(optimizer, self.optimizer, model, weights=self.weights)
        load_attached_state(attached, self.memory)

    def save(self, folder: Path, *, recipe: str, rows: str) -> None:
        """Write the files to a folder beside its place, then move that there in one go.

        Args:
            folder: named by the step.
            recipe: the digest of the run's recipe.
            rows: the digest of the run's rows before this step.

        Raises:
            OSError: naming the file; nothing is left then.
        """
        assert self.optimizer is not None, "what is written first is whole"
        stored = StoredState.of(self.optimizer)
        contents = {
            MODEL: safetensors.torch.save(_contiguous(self.weights)),
            OPTIMIZER: safetensors.torch.save(_contiguous(stored.tensors)),
            INTERVENTIONS: safetensors.torch.save(_contiguous(self.memory)),
        }
        state = {
            "format": CHECKPOINT_FORMAT if stored.would_be_misread(self.weights) else PLAIN_CHECKPOINT_FORMAT,
            "step": self.step,
            "recipe": recipe,
            "rows": rows,
            "files": {name: digest(content) for name, content in contents.items()},
            **_plain(self.latest),
            "optimizer": stored.numbers,
            **({ENCODED: stored.encoded} if stored.encoded else {}),
        }
        temporary = folder.with_name(f".{folder.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            for name, content in contents.items():
                write_atomically(temporary / name, content)
            write_atomically(temporary / STATE, _sealed(state))
            sync_folder(temporary)
            temporary.rename(folder)
        except BaseException:  # Ctrl-C too
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync_folder(folder.parent)

    @staticmethod
    def load(folder: Path, *, recipe: str) -> "Checkpoint":
        """Read what `save` wrote, or an earlier version did.

        Args:
            folder: named by the step.
            recipe: the digest of the run's recipe.

        Raises:
            DamagedFile: if a file is missing, was changed, or is another step's.
            RunError: if it belongs to the run of another recipe, or a newer version wrote it.
            OSError: if a file cannot be read.
        """
        state = _read_state(folder, recipe=recipe)
        try:
            tensors = {name: _read_tensors(folder / name, expected) for name, expected in state["files"].items()}
        except DamagedFile:
            if OPTIMIZER not in state["files"] or read_label(folder, recipe=recipe).has_state:
                raise
            return Checkpoint.load(folder, recipe=recipe)  # who trains the run has let it go in the meantime
        optimizer = None
        if OPTIMIZER in tensors:
            try:
                optimizer = StoredState(tensors[OPTIMIZER], state["optimizer"], state.get(ENCODED, ())).joined()
            except ValueError as error:
                raise DamagedFile(folder / STATE, error) from None
        return Checkpoint(state["step"], tensors[MODEL], optimizer, tensors[INTERVENTIONS], _latest(state))


def checkpoints_of(path: Path) -> Path:
    """The folder of a run folder's checkpoints, whether it is there or not."""
    return path / CHECKPOINTS


def place_of(path: Path, step: int) -> Path:
    """The folder of a run folder's checkpoint, whether it is there or not."""
    return checkpoints_of(path) / str(step)


def saved_steps(path: Path) -> list[int]:
    """The steps of a run folder's checkpoints, in order, whether they are whole or not."""
    return steps_in(checkpoints_of(path)) if checkpoints_of(path).is_dir() else []


def load_weights(folder: Path, *, recipe: str) -> dict[str, Tensor]:
    """A checkpoint's parameters alone; raises as `Checkpoint.load` does."""
    state = _read_state(folder, recipe=recipe)
    return _read_tensors(folder / MODEL, state["files"][MODEL])


@dataclass(frozen=True)
class Label:
    """What a checkpoint says of itself, without its tensors.

    Args:
        format: the number of its format; 1 has no digests.
        rows: the digest of the run's rows before its step; None in format 1.
        has_state: whether the optimiser's state is kept, so that training can go on from it.
    """

    format: int
    rows: str | None
    has_state: bool


def read_label(folder: Path, *, recipe: str) -> Label:
    """The label of a checkpoint; raises as `Checkpoint.load` does."""
    state = _read_state(folder, recipe=recipe)
    rows = state.get("rows")
    return Label(state["format"], rows if isinstance(rows, str) else None, OPTIMIZER in state["files"])


def let_go(folder: Path, *, recipe: str) -> None:
    """Take the optimiser's state away from a checkpoint: its weights and all else stay as they are.

    A kill leaves the whole checkpoint, or one without that state and a file that nobody reads; the same call then
    removes the file. Of a checkpoint without digests, what is there is believed, and gets digests.

    Args:
        folder: named by the step.
        recipe: the digest of the run's recipe.

    Raises:
        OSError: naming the file; and as `Checkpoint.load`.
    """
    state = _read_state(folder, recipe=recipe)
    if OPTIMIZER in state["files"]:
        files = {name: known or digest(_content(folder / name)) for name, known in state["files"].items()}
        del files[OPTIMIZER]
        own = {"format": PLAIN_CHECKPOINT_FORMAT, "step": state["step"], "recipe": recipe, "rows": state.get("rows")}
        slim = {**own, "files": files, **_plain(_latest(state)), "optimizer": {}}
        write_atomically(folder / STATE, _sealed(slim))
        sync_folder(folder)  # before the file goes: the state must not ask for it after a power cut
    (folder / OPTIMIZER).unlink(missing_ok=True)


def weights_of(model: ToyTransformer) -> dict[str, Tensor]:
    """Copies of a model's parameters, by name."""
    # Not its state dict: TransformerLens's also holds constant masks.
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@torch.no_grad()
def copy_weights(model: ToyTransformer, weights: Mapping[str, Tensor]) -> None:
    """Give a model's parameters these values.

    Raises:
        ValueError: naming what differs, if they are another model's; nothing is changed then.
    """
    parameters = dict(model.named_parameters())
    if weights.keys() != parameters.keys():
        raise ValueError(f"another model's weights: {sorted(weights.keys() ^ parameters.keys())}")
    for name, parameter in parameters.items():
        if weights[name].shape != parameter.shape:
            raise ValueError(f"another model's weights: {name} is {_shape(weights[name])}, not {_shape(parameter)}")
    for name, parameter in parameters.items():
        parameter.copy_(weights[name])


def _read_state(folder: Path, *, recipe: str) -> dict[str, Any]:
    """The content of ``state.json``, all of it checked; ``files`` has no digests in format 1."""
    file = folder / STATE
    try:
        state = json.loads(_content(file).decode())
    except RunError:
        raise
    except (ValueError, RecursionError) as error:
        raise DamagedFile(file, error) from None
    number = state.get("format") if isinstance(state, dict) else None
    if isinstance(number, int) and number > CHECKPOINT_FORMAT:
        raise RunError(
            f"{folder} was written by a newer version (format {number}, this one reads {CHECKPOINT_FORMAT} and older)"
        )
    if not isinstance(state, dict) or not _is_whole(state):
        raise DamagedFile(file, "it is not what a checkpoint holds")
    if number == 1:
        state = {**state, "files": dict.fromkeys(TENSORS)}
    elif state.pop("digest") != _seal(state):
        raise DamagedFile(file, "it was changed after it was written")
    elif state["recipe"] != recipe:
        # Not called damaged: deleting a checkpoint is no remedy for a recipe that somebody has edited.
        raise RunError(f"{file} belongs to the run of another recipe: it is another run's, or recipe.json was changed")
    if folder.name != str(state["step"]):
        raise DamagedFile(file, f"it is the state of step {state['step']}, not of {folder.name}")
    return state


def _is_whole(state: Mapping[str, Any]) -> bool:
    """Whether all that a format asks for is there and of the right kind; numbers are under the seal."""
    wanted = {"format": int, "step": int, "latest": dict, "optimizer": dict}
    if state.get("format") != 1:
        wanted |= {"recipe": str, "files": dict, "digest": str}
    if not all(isinstance(state.get(name), kind) for name, kind in wanted.items()):
        return False
    optional = {OPTIMIZER} if state["format"] > 2 else set()
    files = {*state.get("files", TENSORS)}
    there = {*TENSORS} - optional <= files <= {*TENSORS} and isinstance(state.get(ENCODED, []), list)
    infinite = state.get(INFINITE, {})
    signed = isinstance(infinite, dict) and all(sign in ("inf", "-inf") for sign in infinite.values())
    numbers = all(value is None or isinstance(value, int | float) for value in state["latest"].values())
    return there and signed and numbers


def _plain(latest: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """The latest metrics as entries of ``state.json``, which is strict JSON."""
    infinite = {name: str(float(value)) for name, value in latest.items() if math.isinf(value)}
    return {"latest": null_for_nan(latest), **({INFINITE: infinite} if infinite else {})}


def _latest(state: Mapping[str, Any]) -> dict[str, float]:
    """The metrics that `_plain` was given."""
    infinite = {name: float(sign) for name, sign in state.get(INFINITE, {}).items()}
    return {**nan_for_null(state["latest"]), **infinite}


def _sealed(state: Mapping[str, Any]) -> str:
    """The text of ``state.json``, with the digest of all the rest of it."""
    return json.dumps({**state, "digest": _seal(state)}, indent=2, allow_nan=False) + "\n"


def _seal(state: Mapping[str, Any]) -> str:
    """The digest of a state without its own."""
    return digest(json.dumps(state, sort_keys=True).encode())


def _read_tensors(file: Path, expected: str | None) -> dict[str, Tensor]:
    """The tensors of a file; without an expected digest, if it can be read at all."""
    content = _content(file)
    if expected is not None and digest(content) != expected:
        raise DamagedFile(file, f"it was changed, or is another step's: {STATE} has another digest of it")
    try:
        return safetensors.torch.load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise DamagedFile(file, error) from None


def _content(file: Path) -> bytes:
    """What is in a file; one that may not be read, or not now, is not called damaged."""
    try:
        return file.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise DamagedFile(file, error.strerror) from None


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)
