"""``plateau check``: whether the files of runs and of series are what was written."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from plateau_interp.checks import listed
from plateau_interp.cli.console import print_json, print_text
from plateau_interp.cli.parsing import Json, UsageError
from plateau_interp.cli.series_verb import series_among

__all__ = ["CheckVerb"]


@dataclass(frozen=True)
class CheckVerb:
    """Check that the files of runs, and of series, are what was written, and name each that is not.

    For example:
      plateau check runs/mws
      plateau check runs/* --json
    """

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN [RUN ...]", help="Folders of runs, or of series.")]
    json: Json = False

    def run(self) -> None:
        """Print a line a run and a line a fault; any fault is a mistake."""
        from plateau_interp.runs.checking import check_run
        from plateau_interp.series.folder import check_series

        if not self.runs:
            raise UsageError("which run? plateau check RUN [RUN ...]")
        missing = [str(path) for path in self.runs if not path.is_dir()]
        series = series_among(self.runs)
        there = [path for path in self.runs if path.is_dir()]
        checked = [check_series(path) if path in series else check_run(path) for path in there]
        if self.json:
            print_json([one.to_dict() for one in checked])
        elif checked:
            print_text("\n".join(line for one in checked for line in one.lines()))
        damaged = [str(one.path) for one in checked if one.faults]
        complaints = []
        if damaged:
            of_how_many = "" if len(checked) == 1 else f" ({len(damaged)} of {len(checked)})"
            complaints.append(f"damaged: {listed(damaged)}{of_how_many}")
        if missing:
            complaints.append(f"there is no such folder: {', '.join(missing)}")
        if complaints:
            raise UsageError("; ".join(complaints))
