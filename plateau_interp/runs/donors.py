"""Which weights a run begins with, if not drawn ones: those of another run, as plain data in its recipe.

`InitFrom` says whose; `plateau_interp.runs.starting` brings them in, before the first step. To bring weights into a
model in the middle of its training see `plateau_interp.hooks.TransplantWeights`, to keep some from training
`plateau_interp.hooks.FreezeWeights`.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from plateau_interp.checks import nearest, one_of, shown
from plateau_interp.files import digest
from plateau_interp.folders import named_run
from plateau_interp.models.parameters import check_where
from plateau_interp.runs.checkpoints import ENCODED, FILES, OPTIMIZER, STATE, place_of, saved_steps
from plateau_interp.runs.errors import DamagedFile
from plateau_interp.types import PLACE

__all__ = ["InitFrom", "OptimizerState", "donor_digest"]

OptimizerState = Literal["fresh", "taken"]
MODEL = FILES[0]


@dataclass(frozen=True)
class InitFrom:
    """The run whose weights another one begins with, in the place of its drawn ones.

    A recipe with it needs the donor until the run's first checkpoint is there, and a fork at step 0 needs it, too;
    going on with the run's folder and other forks do not. To make it without a digest, the donor must be there. It
    holds a digest of what is taken: a donor that has changed is refused.

    Args:
        source: the donor's folder, ``"RUN"`` for its last checkpoint or ``"RUN@STEP"``; kept with the step.
        where: which parameters are taken, a group or a pattern over names, or several: see
            `plateau_interp.models.parameters`. All by default; the others stay as they are drawn.
        optimizer: "taken" goes on with the donor's optimiser state of those parameters, "fresh" without any.
        digest: SHA-256 of what is taken; found out where none is given.

    Raises:
        ValueError: for what can be none of these, a donor that is not there, a step without a checkpoint (the nearest
            is named), and an optimiser state that was let go.

    Source: "Shortening the Loss Plateau", figure 2: prefix sums before moving-window sums.

    Example:
        >>> InitFrom("runs/prefix-sum@420", digest="0" * 64).step
        420
    """

    source: str = field(metadata=PLACE)
    where: str | tuple[str, ...] = "*"
    optimizer: OptimizerState = "fresh"
    digest: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.source, str) or not self.source:
            raise ValueError(f"source must be a run's folder, such as 'runs/mws@100'; got {shown(self.source)}")
        if not isinstance(self.where, str):
            if not isinstance(self.where, list | tuple) or not self.where:
                raise ValueError(f"where must be a group or a pattern over names, or several; got {shown(self.where)}")
            several = tuple(self.where)  # one alone is the same in a list and by itself
            object.__setattr__(self, "where", several[0] if len(several) == 1 else several)
        for each in self.groups:
            check_where(each)
        one_of(OptimizerState, optimizer=self.optimizer)
        if self.digest is None:
            path, step = _checkpoint_of(self.source)
            object.__setattr__(self, "source", f"{path}@{step}")
            object.__setattr__(self, "digest", donor_digest(self))
        elif not isinstance(self.digest, str):
            raise ValueError(f"digest must be text, or None to have it found out; got {shown(self.digest)}")
        elif not self.source.rpartition("@")[2].isdecimal():
            raise ValueError(f"source must name the step whose digest this is, as in 'RUN@STEP'; got {self.source!r}")

    @property
    def groups(self) -> tuple[str, ...]:
        """``where`` as several."""
        return (self.where,) if isinstance(self.where, str) else self.where

    @property
    def path(self) -> Path:
        """The donor's folder."""
        return Path(self.source.rpartition("@")[0])

    @property
    def step(self) -> int:
        """The donor's step."""
        return int(self.source.rpartition("@")[2])


def donor_digest(init: InitFrom) -> str:
    """The digest of what is taken, as it is now: the weights and, if that is taken, the optimiser's state.

    Raises:
        ValueError: if it is not there.
    """
    place = _place(init.path, init.step)
    try:
        state = json.loads((place / STATE).read_text(encoding="utf-8"))
        files, numbers = state.get("files", dict.fromkeys(FILES[:-1])), [state["optimizer"]]
        numbers += [state[ENCODED]] if ENCODED in state else []
        has_state = OPTIMIZER in files
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DamagedFile(place / STATE, error) from None
    weights = _file_digest(place / MODEL)
    if init.optimizer == "fresh":
        return weights
    if not has_state:
        raise ValueError(
            f"{init.source} keeps no optimiser state: take it fresh, or from a checkpoint that has it, such as the "
            "run's last"
        )
    return digest(json.dumps([weights, _file_digest(place / OPTIMIZER), *numbers], sort_keys=True).encode())


def _file_digest(file: Path) -> str:
    try:
        return digest(file.read_bytes())
    except OSError as error:
        raise DamagedFile(file, error.strerror) from None


def _checkpoint_of(source: str) -> tuple[Path, int]:
    """The folder and the step that a source names.

    Raises:
        ValueError: if there is no such checkpoint, or two.
    """
    path, step = named_run(source)
    if not path.is_dir():
        beside = [entry.name for entry in path.parent.glob("*")] if path.parent.is_dir() else []
        near = f"; {nearest(path.name, sorted(beside))} there" if beside else ""
        raise ValueError(f"{path} is no run's folder{near}")
    steps = saved_steps(path)
    if not steps:
        raise ValueError(f"{path} has no checkpoint to begin with")
    wanted = steps[-1] if step is None else step
    if wanted not in steps:
        close = min(steps, key=lambda other: abs(other - wanted))
        raise ValueError(f"{path} has no checkpoint of step {wanted}; the nearest is {close}")
    return path, wanted


def _place(path: Path, step: int) -> Path:
    place = place_of(path, step)
    if not place.is_dir():
        raise ValueError(f"{place}, whose weights the run begins with, is not there: put it back")
    return place
