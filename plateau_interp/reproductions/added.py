"""What is measured of a run once it has been trained: columns beside those that it measured itself, `Added`."""

import functools
import inspect
import json
import re
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from plateau_interp.files import read_table, write_atomically, write_table
from plateau_interp.runs.errors import RunError
from plateau_interp.runs.run import Run
from plateau_interp.series.functions import function_digest
from plateau_interp.views.panels import Panels

__all__ = ["Added", "AddedWarning"]


class AddedWarning(UserWarning):
    """Something was measured that no row of the run's curves can hold."""


@dataclass(frozen=True, eq=False)
class Added:
    """Columns that are measured after training, from a run's checkpoints, and how they are drawn.

    Args:
        measure: rows with ``step`` and columns of its own, of a run; its name is that of the file they are kept in.
            They stand beside the measured steps, of which the trained model's is none: an `AddedWarning` names what is
            left out there. A `plateau_interp.reproductions.study.Study` keeps every row.
        panels: of these columns; one without is drawn under its own name.
    """

    measure: Callable[[Run], pd.DataFrame]
    panels: Panels = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the file that keeps the columns."""
        return self.measure.__name__

    @property
    def arguments(self) -> dict[str, Any]:
        """With what it measures, beside the run, as plain data: what `functools.partial` binds, and defaults.

        Example:
            >>> from functools import partial
            >>> def measure(run, *, steps, n=64): ...
            >>> Added(partial(measure, steps=(1, 2))).arguments
            {'steps': [1, 2], 'n': 64}
        """
        measure = self.measure
        if isinstance(measure, functools.partial):  # without what `update_wrapper` has left: it hides what is bound
            measure = functools.partial(measure.func, *measure.args, **measure.keywords)
        _, *others = inspect.signature(measure).parameters.values()  # the first is the run
        given = {one.name: one.default for one in others if one.default is not inspect.Parameter.empty}
        plain: dict[str, Any] = json.loads(json.dumps(given, default=_told))
        return plain

    def is_kept(self, folder: Path) -> bool:
        """Whether a run's folder has the table, measured by the function, and with the arguments, of now.

        One without a note, of an earlier version, counts as such; so does one of another version of Python whose
        arguments are these, where the function's digest tells nothing.
        """
        if not self._file(folder).is_file():
            return False
        if not self._note(folder).is_file():
            return True
        there, ours = json.loads(self._note(folder).read_text(encoding="utf-8")), self._measured_by()
        same_python = there["python"] == ours["python"]
        return bool(
            there["arguments"] == ours["arguments"] and (there["function"] == ours["function"] or not same_python)
        )

    def keep(self, run: Run) -> None:
        """Measure a run, and write the table into its folder, with what measured it."""
        measured_by, table = self._measured_by(), self.measure(run)
        if without := sorted({*table["step"]} - {*run.metrics["step"]}):
            told = ", ".join(map(str, without))
            warnings.warn(
                f"{self.name} has rows at steps that the run did not measure, which its curves leave out: {told}; "
                "a Study keeps them",
                AddedWarning,
                stacklevel=2,
            )
        write_table(self._file(run.path), table)
        # Last: a kill leaves a table without a note, or with one that is of another and has it measured anew.
        write_atomically(self._note(run.path), json.dumps(measured_by, indent=1) + "\n")

    def beside(self, metrics: pd.DataFrame, folder: Path) -> pd.DataFrame:
        """A run's metrics with the columns that are kept in its folder.

        Raises:
            RunError: if the run has measured a column of the same name itself.
        """
        table = read_table(self._file(folder))
        if both := sorted({*table} & {*metrics} - {"step"}):
            told = ", ".join(map(repr, both))
            raise RunError(f"{self._file(folder)} has {told}, which the run has measured itself: name it otherwise")
        return metrics.merge(table, on="step", how="left")

    def _file(self, folder: Path) -> Path:
        return folder / f"{self.name}.parquet"

    def _note(self, folder: Path) -> Path:
        return folder / f"{self.name}.measured.json"

    def _measured_by(self) -> dict[str, Any]:
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        return {"arguments": self.arguments, "function": function_digest(self.measure), "python": python}


def _told(value: Any) -> Any:
    """An argument that JSON has no word for, the same in every process."""
    return sorted(map(_told, value)) if isinstance(value, set | frozenset) else re.sub(r" at 0x\w+", "", repr(value))
