"""A series as plain data: of what, at which checkpoints, how it is measured; as a recipe says it of a run.

For functions of your own, or prompts that are no file, give them to `CheckpointSeries.measure` in a script.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from plateau_interp.checks import check_whole, shown
from plateau_interp.codec import RecipeError, decode_fields, encode_fields
from plateau_interp.interventions.attached import Intervention
from plateau_interp.series.folder import Record
from plateau_interp.series.prompts import GENERAL_QUESTIONS, read_prompts
from plateau_interp.series.revisions import Revision
from plateau_interp.series.series import CheckpointSeries, check_measuring

__all__ = ["SeriesRecipe"]


@dataclass(frozen=True)
class SeriesRecipe:
    """All that a series depends on, apart from the machine.

    Args:
        source: a model on the hub; a folder of checkpoint folders, or a pattern of such; the folder of a run on text.
        revisions: which checkpoints: a word, a pattern, or steps and names; see `CheckpointSeries`.
        prompts: ``general``, a file, or a data set of the hub; see `plateau_interp.series.prompts.read_prompts`.
        first: take so many prompts from the beginning; by default all.
        n_new: tokens that each prompt is continued with.
        held_out: a text file that is read, too.
        interventions: attached while a checkpoint is measured, in this order.
        dtype: of the parameters.

    Raises:
        RecipeError: for an argument that cannot be. Whether the source is there is asked when it is measured.

    Example:
        >>> recipe = SeriesRecipe("EleutherAI/pythia-14m", revisions="paper", first=20)
        >>> SeriesRecipe.from_dict(recipe.to_dict()) == recipe
        True
        >>> for record in recipe.measure("series/14m"):  # doctest: +SKIP
        ...     print(record.step, record.measures["cosine"])
    """

    source: str
    revisions: str | Sequence[str | int] = "all"
    prompts: str = GENERAL_QUESTIONS
    first: int | None = None
    n_new: int = 8
    held_out: str | None = None
    interventions: Sequence[Intervention] = ()
    dtype: str = "float32"

    def __post_init__(self) -> None:
        try:
            for name, value in (("source", self.source), ("prompts", self.prompts)):
                if not isinstance(value, str) or not value:
                    raise ValueError(f"{name} must be a text; got {shown(value)}")
            if not isinstance(self.revisions, str):
                object.__setattr__(self, "revisions", tuple(self.revisions))
            if self.first is not None:
                check_whole(self, "first", least=1)
            check_measuring(n_new=self.n_new, interventions=self.interventions, dtype=self.dtype)
        except ValueError as error:
            raise RecipeError(str(error)) from None
        object.__setattr__(self, "interventions", tuple(self.interventions))

    @property
    def series(self) -> CheckpointSeries:
        """The checkpoints; the hub is asked which there are.

        Raises:
            ValueError: if there are no such checkpoints.
        """
        return CheckpointSeries(self.source, self.revisions)

    def measure(self, out: str | Path, *, device: str | torch.device = "cpu", keep: bool = False) -> Iterator[Record]:
        """Measure what is not measured yet; see `CheckpointSeries.measure`."""
        return self.series.measure(out=out, device=device, keep=keep, **self._arguments())

    def left(self, out: str | Path) -> list[Revision]:
        """The checkpoints that are not measured yet; see `CheckpointSeries.left`."""
        return self.series.left(out=out, **self._arguments())

    def located(self) -> "SeriesRecipe":
        """The same with whole paths, for a process that works in another folder."""
        held_out = None if self.held_out is None else _located(self.held_out)
        prompts = self.prompts if Path(self.prompts).expanduser().is_dir() else _located(self.prompts)  # as read
        return replace(self, source=_located(self.source), prompts=prompts, held_out=held_out)

    def to_dict(self) -> dict[str, Any]:
        """Plain data: strings, numbers, lists, dicts and None."""
        return encode_fields(self)

    def to_json(self) -> str:
        """Indented JSON, the same text for equal recipes."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    @staticmethod
    def from_dict(data: Mapping[Any, Any]) -> "SeriesRecipe":
        """Read what `to_dict` wrote, or a person did; fields with defaults may be missing.

        Raises:
            RecipeError: naming the path of the first field that is unknown, missing or of the wrong type.
        """
        return decode_fields(SeriesRecipe, data, path="")

    def _arguments(self) -> dict[str, Any]:
        return {
            "prompts": read_prompts(self.prompts, first=self.first),
            "n_new": self.n_new,
            "interventions": self.interventions,
            "held_out": self.held_out,
            "dtype": self.dtype,
        }


def _located(text: str) -> str:
    """The whole path of what is here, or may be by its pattern; names on the hub stay."""
    path = Path(text).expanduser()
    return os.path.abspath(path) if path.exists() or set("*?[") & set(text) else text
