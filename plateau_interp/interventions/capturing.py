"""Activation caching while training: named hook points at chosen steps, streamed to disk and read back lazily.

```text
FOLDER/<step>/<hook point>.safetensors    one activation; with a label <hook point>@<label>.safetensors
FOLDER/origin-<32 hexadecimal digits>     whose recordings these are: an empty file with a name
```

Each recording has a digest, as `plateau_interp.interventions.recordings` writes it, and it is checked on reading.

For a single forward in memory use TransformerLens's ``run_with_cache``; this is for tensors through time, of which no
two are in memory at once.
"""

import re
import secrets
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from plateau_interp.checks import as_path, check_whole, freeze_names, listed, shown
from plateau_interp.files import check_folder, remove_halves, steps_in, write_atomically
from plateau_interp.folders import check_place
from plateau_interp.interventions.attached import CountedAttached, Receipt
from plateau_interp.interventions.attaching import hooking
from plateau_interp.interventions.clock import UNTOLD, listening
from plateau_interp.interventions.hook_points import resolve_hook_points
from plateau_interp.interventions.recordings import is_recording, load_recording, recording
from plateau_interp.interventions.session import Session, session
from plateau_interp.types import PLACE, HookedModel

__all__ = ["Capture", "CaptureReceipt", "Captured"]

LABEL = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(eq=False)
class CaptureReceipt(Receipt):
    """How often a capture recorded a tensor (``fired``), and how many bytes it wrote."""

    n_bytes: int = 0

    def describe(self) -> str:
        """One line for people."""
        return f"{super().describe()}: {self.n_bytes} bytes"


@dataclass(frozen=True)
class Capture:
    """Record activations of the training forward to disk; changes nothing.

    Attach it with `intervening`, or give it to `train`, among edits: one that comes before an edit of the same hook
    point records the tensor as it was, one that comes after it the edited one. Of each due step the first forward is
    recorded, in training the one on the training batch; the meter's decoding is not. In a training loop of your own
    call ``advance(model, step=step)`` before each forward: the step is known by nothing else. Where that is one and the
    same all the time, as in epochs of one batch that begin anew at 0, a warning on leaving says that one forward alone
    was recorded.

    A folder belongs to the model whose activations it holds first, and to the run that trains it: resumed, or forked
    with the same interventions, it goes on there, and a step that is made again is recorded again. Anything else is
    refused before it has written a byte; so is a second training of the same model, whose steps begin anew. In one
    context, too, steps count on, over epochs and trainings: one that was recorded is refused when it comes again.

    Args:
        names: hook points; a ``*`` stands for anything, as in ``blocks.*.attn.hook_pattern``.
        out: the folder to write to.
        every: record at steps divisible by this.
        sequences: record only the first so many sequences of a batch; None for all.
        label: a word that tells two captures of one hook point and folder apart, such as "before" and "after" an edit.

    Raises:
        ValueError: on construction, for a number that is not whole or below 1, no name, or a label that is no word; on
            attaching, for a hook point that is not there, or one that another `Capture` of this model writes to the
            same folder without another label, for a file in the place of the folder, and for a folder within that of
            a run, or another of ours, that does not name it; at the first recording, for a folder that is another's; at
            any, for a step that was recorded.

    Example:
        >>> capture = Capture(("blocks.0.attn.hook_pattern",), out="runs/patterns", every=10, sequences=4)
        >>> for step in train(model, task, steps=400, interventions=(capture,)): ...  # doctest: +SKIP
        >>> Captured("runs/patterns")[100, "blocks.0.attn.hook_pattern"].shape  # doctest: +SKIP
        torch.Size([4, 1, 32, 32])
    """

    names: tuple[str, ...]
    out: str = field(metadata=PLACE)
    every: int = 1
    sequences: int | None = None
    label: str | None = None

    name: ClassVar[str] = "capture"

    def __post_init__(self) -> None:
        if isinstance(self.names, str):
            raise ValueError(f"names must be several hook points, such as ({shown(self.names)},); got one string")
        freeze_names(self, "names")
        if not isinstance(self.out, str | Path) or not str(self.out):
            raise ValueError(f"out must be a folder, such as 'runs/captured'; got {shown(self.out)}")
        object.__setattr__(self, "out", str(self.out))
        check_whole(self, "every", least=1)
        if self.sequences is not None:
            check_whole(self, "sequences", least=1)
        if self.label is not None and not (isinstance(self.label, str) and LABEL.fullmatch(self.label)):
            raise ValueError(
                f"label must be a word of letters, digits, - and _, such as 'before'; got {shown(self.label)}"
            )

    def strength(self, step: int) -> float:
        """1 at a step that is due, else 0."""
        return float(step % self.every == 0)

    @contextmanager
    def attach(self, model: HookedModel) -> Iterator["AttachedCapture"]:
        """Record while the context is open."""
        check_folder(Path(self.out))
        check_place(Path(self.out), "capture")
        attached = AttachedCapture(self, resolve_hook_points(model, self.names), session(model))
        with (
            attached.recordings.claiming(attached.places, self),
            listening(model, attached.begin) as step,
            hooking(model, dict.fromkeys(attached.sites, attached.record)) as attached.lost,
        ):
            attached.begin(step, {})
            yield attached


class _Recordings:
    """What the captures of one model share: which places they write to now, and what makes a folder theirs."""

    def __init__(self) -> None:
        self.places: set[tuple[Path, str]] = set()
        self.origins: dict[Path, str] = {}
        self.steps: dict[tuple[Path, str], set[int]] = {}

    def origin(self, folder: Path) -> str:
        """32 hexadecimal digits that say whose the recordings in a folder are."""
        return self.origins.setdefault(folder, secrets.token_hex(16))

    def own(self, folder: Path, origin: str) -> None:
        """From now on the recordings in a folder are those of an origin."""
        if self.origins.get(folder) != origin:
            self.steps = {place: steps for place, steps in self.steps.items() if place[0] != folder}
        self.origins[folder] = origin

    def is_behind(self, folder: Path, name: str, step: int) -> bool:
        """Whether a folder has a later step than this one, or of this one a recording of this name."""
        return any(
            step < max(steps) or (step == max(steps) and other == name)
            for (place, other), steps in self.steps.items()
            if place == folder and steps
        )

    @contextmanager
    def claiming(self, places: set[tuple[Path, str]], capture: Capture) -> Iterator[None]:
        """Have places to oneself while the context is open.

        Raises:
            ValueError: if another capture writes to one of them.
        """
        taken = sorted(name for _, name in places & self.places)
        if taken:
            raise ValueError(
                f"two Captures write {listed(taken)} to {capture.out}: "
                "give one of them another folder, or a label, such as label='after'"
            )
        self.places |= places
        try:
            yield
        finally:
            self.places -= places


class AttachedCapture(CountedAttached):
    """The live side of a `Capture`; a strength above 0 records. It remembers whose its folder is."""

    receipt: CaptureReceipt

    def __init__(self, capture: Capture, names: tuple[str, ...], of: Session) -> None:
        super().__init__(capture, receipt=CaptureReceipt(repr(capture), names))
        self.recordings = of.slot(_Recordings)
        self._capture = capture
        self._session = of
        self._folder = Path(capture.out).resolve()
        self._step = 0
        self._n_told = -1  # the first `begin` is that of attaching
        self._told_first, self._was_told_another = 0, False
        self._missing: set[str] = set()
        self._began_again: int | None = None
        self._was_due = self._was_missed = self._is_owner = False
        self._takes_unsigned = self._was_told_origin = self._had_recorded = False

    @property
    def was_on(self) -> bool:
        """Whether a step was due; under a schedule none need have been."""
        return self._was_due and self.receipt.active_steps is None and super().was_on

    @property
    def places(self) -> set[tuple[Path, str]]:
        """Folder and file name of each hook point."""
        return {(self._folder, _file_name(name, self._capture.label)) for name in self.sites}

    def begin(self, step: int, metrics: Mapping[str, float]) -> None:
        """A training step begins."""
        is_due = step % self._capture.every == 0
        # A step that is told before each of its forwards has one first; what came before any was told is none of it.
        if step != self._step or self._n_told < 1:
            if self._n_told == 0 and self.receipt.fired:
                self._forget({self._step})
            self._step, self._missing = step, set(self.sites if is_due else ())
        # Whether the step before the first `advance` was due counts only if that never comes.
        self._was_due = is_due or (self._was_due and self._n_told > 0)
        self._n_told += 1
        self._told_first = step if self._n_told == 1 else self._told_first
        self._was_told_another |= self._n_told > 1 and step != self._told_first

    def record(self, act: Tensor, *, hook: Any) -> None:
        """Write an activation, if this forward's is the one to be recorded."""
        if not self.strength:
            return
        if hook.name not in self._missing:
            self._was_missed = True
            return
        self._missing.discard(hook.name)
        name = _file_name(hook.name, self._capture.label)
        if not self._is_owner:
            self._own_folder(name)
        steps = self.recordings.steps.setdefault((self._folder, name), set())
        if self._step in steps:
            raise ValueError(
                f"{self._capture.out} has step {self._step} of {name.removesuffix('.safetensors')} already: have the "
                "steps count on from one epoch, or training, to the next, or give each a Capture with its own folder"
            )
        origin = self.recordings.origin(self._folder)
        if not (self._folder / f"origin-{origin}").exists():
            raise ValueError(f"{self._folder} is gone: it was moved or removed while this Capture wrote to it")
        content = recording(act[: self._capture.sequences], step=self._step, name=name, origin=origin)
        write_atomically(self._folder / str(self._step) / name, content)
        steps.add(self._step)
        self.receipt.fired += 1
        self.receipt.n_bytes += len(content)

    def state(self) -> dict[str, Tensor]:
        """What makes the folder this model's, and whether it has something."""
        origin = bytes.fromhex(self.recordings.origin(self._folder))
        has_recorded = self._had_recorded or self.receipt.fired > 0
        return {"origin": torch.tensor([*origin], dtype=torch.uint8), "recorded": torch.tensor(has_recorded)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on in the folder of the run that this goes on with."""
        self._was_told_origin = True
        self._had_recorded = bool(state.get("recorded", False))
        self._forget()  # a step that is made again is recorded again
        self._takes_unsigned = "origin" not in state  # a run from before folders knew whose they are
        if not self._takes_unsigned:
            self.recordings.own(self._folder, bytes(state["origin"].tolist()).hex())

    def complaints(self) -> list[str]:
        """A recording that was due and never came, a loop that tells no step or one alone, a folder that is gone."""
        untold = [f"recorded one forward alone: {UNTOLD}"] if self._was_missed and not self._session.was_told else []
        if self._was_missed and self.receipt.fired and self._n_told > 1 and not self._was_told_another:
            untold.append(
                f"recorded one forward alone: the step was {self._step} each time it was told; have it count on"
            )
        elsewhere = [
            f"recorded into {self._folder} from step {step} on; what this run recorded before is not there"
            for step in [self._began_again]
            if step is not None
        ]
        return [*super().complaints(), *untold, *elsewhere]

    def _forget(self, steps: Set[int] | None = None) -> None:
        """Let steps be recorded again; None for all."""
        for place in self.places & self.recordings.steps.keys():
            self.recordings.steps[place] -= self.recordings.steps[place] if steps is None else steps

    def _own_folder(self, name: str) -> None:
        """Sign the folder, unless it is signed, before a file of this name is written.

        Raises:
            ValueError: if it is another's; nothing is written then.
        """
        # Where nobody handed on a memory, steps that begin anew are those of another training.
        is_new = not self._was_told_origin and self.recordings.is_behind(self._folder, name, self._step)
        origin = secrets.token_hex(16) if is_new else self.recordings.origin(self._folder)
        there, own = _signatures(self._folder), self._folder / f"origin-{origin}"
        unsigned = not (there or self._takes_unsigned) and self._folder.is_dir() and steps_in(self._folder)
        if unsigned or there - {origin}:
            raise ValueError(
                f"{self._capture.out} holds what another run, or another model, captured; nothing was written: "
                "give this Capture another folder, or remove that one first"
            )
        self._folder.mkdir(parents=True, exist_ok=True)
        own.touch()
        if _signatures(self._folder) != {origin}:  # another process signed between the look and the touch
            own.unlink()
            raise ValueError(f"{self._capture.out} was taken by another run at the same time; nothing was written")
        self.recordings.own(self._folder, origin)
        self._is_owner = True
        remove_halves(self._folder, of={name for _, name in self.places}.__contains__)
        if self._had_recorded and not there:  # a relative folder, seen from another place; or it was moved
            self._began_again = self._step


def _signatures(folder: Path) -> set[str]:
    """Whose recordings a folder holds; more than one origin if two processes are signing it at the moment."""
    return {file.name.removeprefix("origin-") for file in folder.glob("origin-*")}


def _file_name(name: str, label: str | None) -> str:
    return f"{name}.safetensors" if label is None else f"{name}@{label}.safetensors"


class Captured(Mapping[tuple[int, str], Tensor]):
    """What a `Capture` wrote: a mapping from (step, hook point) to the activation, read from disk when asked for.

    Args:
        path: the capture's folder.
        label: of the capture, where several of one hook point write there; None for those without one.

    Raises:
        ValueError: if the folder, or such a label in it, is not there, or for a recording that was changed, or that
            belongs elsewhere.
        KeyError: for a step or hook point that was not recorded; the message says what was.
    """

    def __init__(self, path: str | Path, *, label: str | None = None) -> None:
        self.path = as_path(path)
        self.label = label
        if not self.path.is_dir():
            raise ValueError(f"{self.path} is not a folder; a Capture makes one")
        if label is not None and label not in self.labels:
            there = f"labels are {self.labels}" if self.labels else "nothing there has a label"
            raise ValueError(f"{self.path} holds nothing labelled {shown(label)}; {there}")

    @property
    def steps(self) -> list[int]:
        """Steps with a recording of this label, in order."""
        return [step for step in steps_in(self.path) if any(self._found(step))]

    def names(self, step: int) -> list[str]:
        """Hook points recorded at a step, sorted; safetensors files of other content are left out."""
        return sorted(self._found(step))

    def _found(self, step: int) -> Iterator[str]:
        """Hook points recorded at a step, in any order."""
        for file in (self.path / str(step)).glob("[!.]*.safetensors"):
            name, _, label = file.name.removesuffix(".safetensors").partition("@")
            if label == (self.label or "") and is_recording(file):
                yield name

    @property
    def labels(self) -> list[str]:
        """The labels of all captures in the folder that have one, sorted."""
        stems = {file.stem for file in self.path.glob("*/[!.]*@*.safetensors") if is_recording(file)}
        return sorted({stem.partition("@")[2] for stem in stems})

    def __getitem__(self, key: tuple[int, str]) -> Tensor:
        step, name = key
        file = self.path / str(step) / _file_name(name, self.label)
        if not file.exists():
            labelled = "" if self.label is None else f" labelled {self.label!r}"
            labels = f"; labels are {self.labels}" if self.labels else ""
            raise KeyError(
                f"{name}{labelled} at step {step} is not recorded; steps are {self.steps}, "
                f"of step {step} {self.names(step)}{labels}"
            )
        return load_recording(file, origins=_signatures(self.path))

    def __iter__(self) -> Iterator[tuple[int, str]]:
        return ((step, name) for step in self.steps for name in self.names(step))

    def __len__(self) -> int:
        return sum(1 for _ in self)
