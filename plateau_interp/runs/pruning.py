"""Make run folders smaller: let go the optimiser's state that nobody needs to go on from.

`plateau_interp.runs.thinning` does it while a run is trained; this is for folders of earlier versions, and for runs
whose ``state_every`` has grown. Weights, what interventions remember and every row stay; the run goes on and is forked
to the same bits as before. A kill leaves a folder that is whole; the same call then does the rest.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from plateau_interp.checks import as_path
from plateau_interp.runs.checking import check_run
from plateau_interp.runs.checkpoints import OPTIMIZER
from plateau_interp.runs.errors import RunError
from plateau_interp.runs.folder import RunFolder, only_writer
from plateau_interp.runs.thinning import dispensable

__all__ = ["Pruned", "prune_run"]


@dataclass(frozen=True)
class Pruned:
    """What pruning takes from a run folder.

    Args:
        path: the folder.
        checkpoints: how many it has; all of them stay.
        steps: of the checkpoints whose optimiser state goes.
        n_bytes: of the checkpoints, before.
        freed: bytes that go.
        again: the most steps that a fork of the run makes again from now on.
        is_rehearsed: nothing was written: so it would be.
    """

    path: Path
    checkpoints: int
    steps: tuple[int, ...]
    n_bytes: int
    freed: int
    again: int
    is_rehearsed: bool

    def line(self) -> str:
        """For people."""
        verb = "would free" if self.is_rehearsed else "freed"
        sizes = f"{verb} {_megabytes(self.freed)} of {_megabytes(self.n_bytes)}"
        without = f"the optimiser's state of {len(self.steps)} of {self.checkpoints} checkpoints"
        return f"{self.path}: {sizes}, {without}; a fork makes at most {self.again} steps again"

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        sizes = {"bytes": self.n_bytes, "freed": self.freed, "dry_run": self.is_rehearsed}
        counts = {"checkpoints": self.checkpoints, "steps": list(self.steps), "steps_made_again": self.again}
        return {"run": str(self.path), **counts, **sizes}


def prune_run(path: str | Path, *, rehearsing: bool = False) -> Pruned:
    """Let go the optimiser's state of checkpoints that the run's recipe does not ask for.

    Which stay: the first, the last, and as few between as let a fork make at most ``state_every`` steps again. Before
    anything is written, all that the folder holds is read and found good.

    Args:
        path: a run folder.
        rehearsing: find out what would go, and write nothing.

    Raises:
        ValueError: for what is no path.
        RunError: if it is no run, somebody is writing there, a checkpoint is a link, or any of it is damaged.
        OSError: naming the file, if it cannot be written.

    Example:
        >>> from plateau_interp.runs.run import Run
        >>> print(prune_run("runs/mws", rehearsing=True).line())  # doctest: +SKIP
        runs/mws: would free 102.4 MB of 198.5 MB, the optimiser's state of 16 of 21 checkpoints; a fork ...
    """
    path = as_path(path)
    folder = RunFolder(path)
    with nullcontext() if rehearsing else only_writer(path):
        folder.check_unlinked()
        if faults := check_run(path).faults:
            more = f" (and {len(faults) - 1} more: see `plateau check`)" if len(faults) > 1 else ""
            raise RunError(f"{path}: nothing was pruned: {faults[0]}{more}")
        resumable = folder.resumable
        gone = dispensable(resumable, every=folder.recipe.state_every)
        kept = [step for step in resumable if step not in gone]
        going = [*folder.leftovers(), *(folder.place(step) / OPTIMIZER for step in gone)]
        n_bytes, freed = _size(folder.place(0).parent), sum(map(_size, going))
        if not rehearsing:
            folder.remove_leftovers()
            for step in gone:
                folder.let_go(step)
    again = max((later - step - 1 for step, later in pairwise(kept)), default=0)
    return Pruned(path, len(folder.checkpoints), tuple(gone), n_bytes, freed, again, rehearsing)


def _size(path: Path) -> int:
    """Bytes of a file, or of all in a folder; none of what is not there."""
    if path.is_dir():
        return sum(map(_size, path.iterdir()))
    return path.stat().st_size if path.is_file() else 0


def _megabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:.1f} MB"
