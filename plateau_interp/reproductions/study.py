"""Studies: what is measured of the runs of a setting once they have ended; a study trains nothing.

For columns that belong to a run's own curves use `plateau_interp.reproductions.settings.Added` of the setting itself. A
study has a folder of its own, so that it can be made, and asked for, by itself, of runs that are there already.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from plateau_interp.checks import shown
from plateau_interp.files import read_table, write_atomically, write_table
from plateau_interp.reproductions.quantities import Quantity
from plateau_interp.reproductions.same_runs import is_same_run
from plateau_interp.reproductions.settings import Added, NotHereError, Outcome, Setting
from plateau_interp.runs.environment import write_environment
from plateau_interp.runs.errors import RunError
from plateau_interp.runs.folder import ENVIRONMENT
from plateau_interp.runs.run import Run

__all__ = ["Study", "value_of"]

MEASURED, ABOUT = "measured.parquet", "study.json"


@dataclass(frozen=True, eq=False)
class Study:
    """Measurements of another setting's runs, one table a seed.

    Args:
        name: of its folder.
        of: the setting whose run of the same seed is read.
        adds: what makes the table: the column ``step``, and ``case`` where a step has several rows.
        about: what it is, for tables; by default the name.
    """

    name: str
    of: Setting
    adds: Added
    about: str = ""

    one_seed: ClassVar[bool] = False

    def folder(self, runs: Path, seed: int) -> Path:
        """Where its table is."""
        return runs / self.name / f"seed-{seed}"

    def needs(self, seed: int) -> list[tuple[Any, int]]:
        """The run that is read."""
        return [(self.of, seed)]

    def identity(self, seed: int) -> dict[str, Any]:
        """What makes its table that table, in whatever folder: the run that is read, and with which arguments."""
        return {**self.of.identity(seed), "study": self.name, "arguments": self.adds.arguments}

    def check(self, runs: Path, seed: int) -> None:
        """Whether what is in its folder was measured of the setting's run, and with the arguments of now.

        Raises:
            RunError: if not.
        """
        path = self.folder(runs, seed)
        if not (path / ABOUT).is_file():
            return
        measured, ours = self._about(path)["identity"], self.identity(seed)
        if is_same_run(measured, ours):
            return
        if is_same_run({**measured, "arguments": ours["arguments"]}, ours):
            what = f"with {shown(measured['arguments'], most=120)}, other arguments than {self.name!r} has now"
        else:
            what = f"of another run than {self.of.name!r} is now"
        raise RunError(f"{path} was measured {what}: move it, or use another --out")

    def outcome(self, runs: Path, seed: int) -> Outcome | None:
        """What was measured; None if it was not.

        Raises:
            RunError: as `check`.
        """
        self.check(runs, seed)
        path = self.folder(runs, seed)
        return Outcome(self, seed, read_table(path / MEASURED)) if (path / ABOUT).is_file() else None

    def seconds(self, runs: Path, seed: int) -> float:
        """How long it took to measure."""
        return float(self._about(self.folder(runs, seed))["seconds"])

    def measure(self, runs: Path, seed: int) -> Outcome:
        """Measure a run that has ended, unless it was measured.

        Raises:
            NotHereError: if a package is missing.
            RunError: if there is no such run, or it has not ended; as `check`.
        """
        if (done := self.outcome(runs, seed)) is not None:
            return done
        self.of.check(runs, seed)
        begin, run = time.monotonic(), Run(self.of.folder(runs, seed))
        if not run.finished:
            raise RunError(f"{run.path} has not ended: {self.name} reads its last checkpoint")
        try:
            table = self.adds.measure(run)
        except ModuleNotFoundError as error:
            raise NotHereError(str(error)) from None
        path = self.folder(runs, seed)
        write_table(path / MEASURED, table)
        write_environment(path / ENVIRONMENT, "cpu")
        about = {"identity": self.identity(seed), "seconds": time.monotonic() - begin}
        write_atomically(path / ABOUT, json.dumps(about, indent=1) + "\n")  # last: where it is, all is
        return Outcome(self, seed, table)

    def _about(self, path: Path) -> dict[str, Any]:
        about: dict[str, Any] = json.loads((path / ABOUT).read_text(encoding="utf-8"))
        return about


def value_of(column: str, case: str, *, step: int, digits: int = 4) -> Quantity:
    """A column of a study's table at a step, in the row of a case; None where there is no such row."""

    def of(outcome: Outcome) -> float | None:
        rows = outcome.metrics
        if not {column, "case"} <= set(rows):
            return None
        there = rows.loc[(rows["step"] == step) & (rows["case"] == case), column].dropna()
        return None if there.empty else float(there.iloc[0])

    return Quantity(f"{column.replace('_', ' ')}, {case}, step {step}", of, digits)
