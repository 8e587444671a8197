"""What a worker is asked to do: one run or series of a sweep, told as plain data, so that it fits through any engine.

A job never raises: what went wrong is its outcome. Who asks the workers is `plateau_interp.sweeps.sweep`.
"""

import os
import platform
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from plateau_interp.codec import UnknownPluginError
from plateau_interp.interventions.attaching import InterventionWarning
from plateau_interp.models.fitting import check_device
from plateau_interp.runs.errors import BusyFolder
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.sweeps.endings import Ending, Interrupted, Stopped, never
from plateau_interp.training.threads import threads_of_torch

__all__ = ["Job", "check_same_disk", "ending_of", "train_run"]


@dataclass(frozen=True)
class Job:
    """A run to train, or a series to measure.

    Args:
        path: of its folder.
        recipe: as JSON: a worker without one of its plug-ins can say so.
        seen_from: a file that lies in the folder of the sweep: a worker that does not see it sees another disk.
        device: where to.
        threads: of torch, in the worker.
    """

    path: str
    recipe: str
    seen_from: str
    device: str = "cpu"
    threads: int = 1


def train_run(job: Job, stopped: Stopped = never) -> Ending:
    """Make a run, or go on with it, to its end."""

    def train() -> Ending:
        check_same_disk(Path(job.seen_from))
        check_device(job.device)
        run = Run.create(job.path, Recipe.from_json(job.recipe))
        for _ in run.train(device=job.device):
            if stopped():
                return Ending("stopped")
        return Ending("done")

    return ending_of(train, threads=job.threads)


def ending_of(work: Callable[[], Ending], *, threads: int) -> Ending:
    """The ending of work on a worker; whatever it raises is a failure."""
    with warnings.catch_warnings(record=True) as caught, threads_of_torch(threads):
        warnings.simplefilter("always", InterventionWarning)
        try:
            ending = work()
        except Interrupted:
            ending = Ending("stopped")
        except BusyFolder as error:
            ending = Ending("busy", str(error))
        except UnknownPluginError as error:
            ending = Ending("failed", f"{error}; {_this_worker()} needs the package that has it, as this machine does")
        except Exception as error:  # of whatever kind: the other runs go on
            told = str(error) if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {error}"
            ending = Ending("failed", " ".join(told.split()))
    warned = dict.fromkeys(str(one.message) for one in caught if issubclass(one.category, InterventionWarning))
    for other in caught:
        if not issubclass(other.category, InterventionWarning):
            warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
    return Ending(ending.how, ending.reason, tuple(warned))


def check_same_disk(path: Path) -> None:
    """Refuse to work on a disk where what whoever asks has written is not to be seen.

    Args:
        path: a file or folder that was there when the job was made.

    Raises:
        ValueError: if it is not there.
    """
    if not path.exists():
        raise ValueError(
            f"{_this_worker()} does not see {path}: all workers need the same folders, under the same paths"
        )


def _this_worker() -> str:
    return f"the worker on {platform.node()} (process {os.getpid()})"
