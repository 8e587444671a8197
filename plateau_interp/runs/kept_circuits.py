"""Circuits of a run, kept beside it: what was measured is there when a command is killed, and for the run's report.

```text
RUN/circuits/circuits.json                 of which recipe they are, and how they were measured
RUN/circuits/scores/<step>.safetensors     the circuit of a checkpoint, with a digest
```

A checkpoint is measured once its file is there. Pictures and tables lie beside these: see
`plateau_interp.views.circuit_report`. To measure without a folder use `plateau_interp.analysis.forming.circuits`.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch
from torch import Tensor

from plateau_interp.analysis.circuits import Circuit
from plateau_interp.analysis.forming import CircuitOptions, Forming, counterfactual_pairs, task_circuit
from plateau_interp.checks import as_path, listed, shown
from plateau_interp.files import check_folder, digest, is_step_name, names_in, remove_halves, write_atomically
from plateau_interp.folders import CIRCUITS, check_place
from plateau_interp.runs.errors import DamagedFile, RunError
from plateau_interp.runs.folder import LOCK, not_there, only_writer, removing_on_failure
from plateau_interp.runs.formats import CIRCUITS_FORMAT
from plateau_interp.runs.identity import recipe_digest, weights_file_digest

if TYPE_CHECKING:
    from plateau_interp.runs.run import Run

__all__ = ["KeptCircuits", "kept_circuits"]

SETTINGS, SCORES = "circuits.json", "scores"


class KeptCircuits:
    """The circuits of a run in a folder, all measured alike; nothing is written before one is measured.

    Args:
        run: whose they are.
        options: how they are measured.
        folder: where they lie; by default ``circuits`` in the run's own folder.

    Raises:
        RunError: if the folder holds circuits of another run, or that were measured otherwise, or other things.
        ValueError: if the folder is a file, or lies in another of ours, which has no such place.

    Example:
        >>> from plateau_interp import ModelOptions, Recipe, Run, TrainingOptions
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> options = {"model": ModelOptions(d_model=16), "training": TrainingOptions(steps=4)}
        >>> run = Run.create("small", Recipe(MovingWindowSum(n=4), **options))
        >>> _ = [*run.train()]
        >>> kept = KeptCircuits(run, CircuitOptions(n_pairs=8))
        >>> [step for step in kept.measure([0, 4])], kept.steps
        ([0, 4], [0, 4])
        >>> kept.forming().circuits[0]
        Circuit of 13 edges (attributed, resample, norms live, 8 sequences)
    """

    def __init__(self, run: "Run", options: CircuitOptions | None = None, folder: str | Path | None = None) -> None:
        self.run, self.options = run, CircuitOptions() if options is None else options
        self.path = run.path / CIRCUITS if folder is None else as_path(folder)
        check_folder(self.path)
        check_place(self.path, "circuits", of=[run.path])
        self._check_there()

    def _check_there(self) -> None:
        """Refuse what is in the folder, unless it is circuits of the run that were measured alike, or nothing."""
        if self.steps:
            there = _read_settings(self.path)
            if there["recipe_sha256"] != recipe_digest(self.run.recipe):
                raise RunError(f"{self.path} holds circuits of another run; take another folder")
            asked = _told(self.options)
            if differing := [
                name for name in {**there["options"], **asked} if there["options"].get(name) != asked.get(name)
            ]:
                said = [
                    f"{name}={shown(there['options'].get(name))}, not {shown(asked.get(name))}"
                    for name in sorted(differing)
                ]
                raise RunError(f"{self.path} holds circuits of {listed(said)}; take another folder")
            return
        # Pages and tables are written beside the circuits: a run has a metrics.parquet, a report an index.html.
        others = names_in(self.path)
        if SETTINGS in others:
            _read_settings(self.path)  # somebody else's file of this name is no leave to write over what is beside it
        elif others:
            raise RunError(f"{self.path} holds other things: {listed(others)}; take another folder")

    @property
    def steps(self) -> list[int]:
        """The checkpoints that were measured, in order."""
        files = (self.path / SCORES).glob("*.safetensors")
        return sorted(int(file.stem) for file in files if is_step_name(file.stem))

    def measure(self, steps: Iterable[int], *, device: str = "cpu") -> Iterator[int]:
        """Measure those of the checkpoints that are missing; yields each step once its circuit is on disk.

        Args:
            steps: of the checkpoints.
            device: where the model is measured; scores of two devices are equal up to rounding.

        Raises:
            RunError: if a step has no checkpoint, or a damaged one; if the folder is moved or removed meanwhile; if
                somebody else is measuring to it, or has done so in another way since it was opened.
            ValueError: as `plateau_interp.analysis.forming.circuits`.
            OSError: naming the file, if the disk is full.
        """
        if not (missing := [step for step in steps if not self._file(step).is_file()]):
            return
        pairs = counterfactual_pairs(self.run.task, self.options)
        ours = not_there([self.path / LOCK, self.path])
        self.path.mkdir(parents=True, exist_ok=True)
        with only_writer(self.path, by="measure") as check_still_there, removing_on_failure(ours):
            self._check_there()  # nobody was quicker, and measured otherwise
            self._check_weights()
            # Of pages beside them another may be drawn now.
            remove_halves(self.path, of=lambda name: name == SETTINGS or name.endswith(".safetensors"))
            has_settings = bool(self.steps)
            for step in missing:
                file = self._file(step)
                if file.is_file():
                    continue
                model = self.run.model(step, device=device)
                found = task_circuit(model, self.run.task, self.options, pairs=pairs)
                content = _to_bytes(found, weights=weights_file_digest(self.run.path, step))
                check_still_there()
                if not has_settings:
                    recipe, options = recipe_digest(self.run.recipe), _told(self.options)
                    settings = {"format": CIRCUITS_FORMAT, "recipe_sha256": recipe, "options": options}
                    write_atomically(self.path / SETTINGS, json.dumps(settings, indent=2) + "\n")
                    has_settings = True
                write_atomically(file, content)
                yield step

    def _check_weights(self) -> None:
        """Refuse to go on where a checkpoint that was measured has other weights now; who has none any more says none.

        Earlier versions did not write which they were.
        """
        for step in self.steps:
            measured, now = _weights_of(self._file(step)), weights_file_digest(self.run.path, step)
            if measured and now and measured != now:
                raise RunError(
                    f"{self.path} holds circuits of other weights than {self.run.path} has at step {step} now; take "
                    "another folder"
                )

    def forming(self) -> Forming:
        """All circuits that were measured.

        Raises:
            RunError: if there is none, or naming a file that is not what was written, or was measured otherwise.
        """
        steps = self.steps
        if not steps:
            raise RunError(f"{self.path} holds no circuit; `plateau circuit` measures them")
        return Forming(tuple(steps), tuple(self._read(step) for step in steps))

    def faults(self) -> Iterator[str]:
        """A line a file that is not what was written, or was measured otherwise."""
        for step in self.steps:
            try:
                self._read(step)
            except (RunError, OSError) as fault:
                yield str(fault)

    def _read(self, step: int) -> Circuit:
        file, asked = self._file(step), self.options
        found = _from_file(file)
        norms = "frozen" if asked.freeze_norms else "live"
        n_sequences = len(asked.texts) or asked.n_pairs
        expected = _how(asked.scoring, asked.ablation, norms, by_role=asked.by_role, n_sequences=n_sequences)
        by_role, n_sequences = found.roles != ("all",), found.n_sequences
        how = _how(found.scoring, found.ablation, found.norms, by_role=by_role, n_sequences=n_sequences)
        if how != expected:
            raise RunError(
                f"{file} was measured otherwise than {SETTINGS} says: ({how}), not ({expected}); delete it to have it "
                "measured again"
            )
        return found

    def _file(self, step: int) -> Path:
        return self.path / SCORES / f"{step}.safetensors"


def kept_circuits(run: "Run") -> KeptCircuits | None:
    """The circuits in a run's own folder; None if there are none.

    Raises:
        RunError: if they are of another run, or what says how they were measured cannot be read.

    Example:
        >>> from plateau_interp import Run
        >>> kept_circuits(Run("runs/mws"))  # doctest: +SKIP
    """
    folder = run.path / CIRCUITS
    if not (folder / SETTINGS).is_file():
        return None
    said = _read_settings(folder)["options"]
    try:
        texts = tuple((str(clean), str(corrupted)) for clean, corrupted in said.pop("texts", ()))
        options = CircuitOptions(**said, texts=texts)
    except (TypeError, ValueError) as error:
        raise DamagedFile(folder / SETTINGS, shown(error)) from None
    kept = KeptCircuits(run, options)
    return kept if kept.steps else None


def _how(scoring: str, ablation: str, norms: str, *, by_role: bool, n_sequences: int) -> str:
    roles = ", by role" if by_role else ""
    return f"{scoring}, {ablation}, norms {norms}{roles}, {n_sequences} sequences"


def _told(options: CircuitOptions) -> dict[str, Any]:
    """What makes a difference, as JSON has it: no forwards of integrated scores if there are none, texts or a draw."""
    told: dict[str, Any] = json.loads(json.dumps(asdict(options)))
    idle = {"n_steps"} if options.scoring != "integrated" else set()
    idle |= {"n_pairs", "seed"} if options.texts else {"texts"}
    return {name: value for name, value in told.items() if name not in idle}


def _read_settings(folder: Path) -> Mapping[str, Any]:
    file = folder / SETTINGS
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
        if settings["format"] > CIRCUITS_FORMAT:
            raise RunError(f"{folder} has format {settings['format']}; this version reads up to {CIRCUITS_FORMAT}")
        return {"recipe_sha256": str(settings["recipe_sha256"]), "options": dict(settings["options"])}
    except RunError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedFile(file, shown(error)) from None


def _to_bytes(found: Circuit, *, weights: str) -> bytes:
    """A circuit as the content of a safetensors file, with the digest of the weights that it is of."""
    names = {"writers": found.writers, "readers": found.readers, "roles": found.roles}
    how = {"scoring": found.scoring, "ablation": found.ablation, "norms": found.norms}
    numbers = {"clean": found.clean, "ablated": found.ablated, "n_sequences": found.n_sequences}
    said = json.dumps({**names, **how, **numbers})
    tensors = {"scores": found.scores.contiguous(), "positions": found.positions.contiguous()}
    metadata = {"circuit": said, "sha256": _digest(said, tensors), "weights": weights}
    return safetensors.torch.save(tensors, metadata=metadata)


def _from_file(file: Path) -> Circuit:
    content = file.read_bytes()
    try:
        tensors = safetensors.torch.load(content)
        metadata = _metadata(content)
        said = json.loads(metadata["circuit"])
        if metadata["sha256"] != _digest(metadata["circuit"], tensors):
            raise DamagedFile(file, "it is not what was written")
        names = {name: tuple(said.pop(name)) for name in ("writers", "readers", "roles")}
        told: dict[str, Any] = {**names, **tensors, **said}
        return Circuit(**told)
    except DamagedFile:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, safetensors.SafetensorError) as error:
        raise DamagedFile(file, shown(error)) from None


def _weights_of(file: Path) -> str:
    """The digest of the weights that a circuit is of; empty if the file does not say."""
    try:
        return str(_metadata(file.read_bytes()).get("weights", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""  # a damaged file is told by who reads the circuit


def _metadata(content: bytes) -> dict[str, Any]:
    length = int.from_bytes(content[:8], "little")  # of the header, as the format has it
    metadata: dict[str, Any] = json.loads(content[8 : 8 + length])["__metadata__"]
    return metadata


def _digest(said: str, tensors: Mapping[str, Tensor]) -> str:
    return digest(said.encode() + b"".join(tensors[name].numpy().tobytes() for name in ("scores", "positions")))
