"""Trains a paper's runs on an engine of `plateau_interp.sweeps`, each after those that it takes from.

What comes out is what `plateau_interp.reproductions.running.train_setting` makes one after the other, on as many
threads.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from plateau_interp.checks import nearest
from plateau_interp.models.fitting import check_device
from plateau_interp.plugins import plugin
from plateau_interp.reproductions.experiments import Paper
from plateau_interp.reproductions.running import outcome, plan, train_setting
from plateau_interp.reproductions.settings import Setting
from plateau_interp.runs.run import Run, RunError
from plateau_interp.sweeps.endings import Ending, Interrupted, Stopped, never
from plateau_interp.sweeps.engines import Engine
from plateau_interp.sweeps.jobs import check_same_disk, ending_of
from plateau_interp.sweeps.memory import most_memory
from plateau_interp.sweeps.sweep import endings
from plateau_interp.training.loop import Step

__all__ = ["SettingJob", "left_to_train", "train_job", "train_side_by_side"]


@dataclass(frozen=True)
class SettingJob:
    """A run of a paper, told by names: a worker has the paper as an installed plug-in.

    Args:
        paper: its name.
        setting: the name of one of its settings.
        seed: of the run.
        runs: the folder of the paper's runs.
        device: where to train.
        threads: of torch, in the worker.
    """

    paper: str
    setting: str
    seed: int
    runs: str
    device: str = "cpu"
    threads: int = 1


def train_job(job: SettingJob, stopped: Stopped = never) -> Ending:
    """Make the run, or go on with it, until it has ended; never raises."""

    def listening(run: Run) -> AbstractContextManager[Callable[[Step], None]]:
        return nullcontext(listen)

    def listen(step: Step) -> None:
        if stopped():
            raise Interrupted

    def train() -> Ending:
        check_same_disk(Path(job.runs))
        check_device(job.device)
        setting = _setting_called(job.setting, plugin("experiments", job.paper))
        train_setting(setting, job.seed, Path(job.runs), device=job.device, showing=listening)
        return Ending("done")

    return ending_of(train, threads=job.threads)


def left_to_train(todo: Sequence[tuple[Setting, int]], runs: Path) -> list[tuple[Setting, int]]:
    """Those runs that have not ended; also those in whose folder there is another recipe's, to be told by training."""

    def is_left(setting: Setting, seed: int) -> bool:
        try:
            return outcome(setting, seed, runs) is None
        except RunError:
            return True

    return [each for each in todo if is_left(*each)]


def train_side_by_side(
    paper: Paper, todo: Sequence[tuple[Setting, int]], runs: Path, *, engine: Engine, device: str = "cpu"
) -> Iterator[tuple[Setting, int, Ending]]:
    """Each run's setting, seed and ending, as they end.

    Args:
        paper: installed as a plug-in, where the workers are too.
        todo: from `plateau_interp.reproductions.running.plan`.
        runs: the folder of the paper's runs, which all workers need under the same path.
        engine: where to train.
        device: where the workers train.
    """
    if not todo:
        return
    runs.mkdir(parents=True, exist_ok=True)
    place, by_name = str(runs.resolve()), {_name(*each): each for each in todo}
    with engine.opened(memory=most_memory(setting.recipe for setting, _ in todo)) as pool:
        for wave in _waves(todo):
            jobs = {
                _name(setting, seed): SettingJob(paper.name, setting.name, seed, place, device, engine.threads)
                for setting, seed in wave
            }
            for name, ending in endings(pool, train_job, jobs):
                yield *by_name[name], ending


def _name(setting: Setting, seed: int) -> str:
    return f"{setting.name} seed {seed}"


def _waves(todo: Sequence[tuple[Setting, int]]) -> list[list[tuple[Setting, int]]]:
    """The runs in the order given, those that need others in a later list than these."""
    depths: dict[tuple[Setting, int], int] = {}
    for setting, seed in todo:  # what is needed stands before
        depths[setting, seed] = max((depths.get(needed, 0) + 1 for needed in setting.needs(seed)), default=0)
    return [[each for each in todo if depths[each] == depth] for depth in range(max(depths.values()) + 1)]


def _setting_called(name: str, paper: Paper) -> Setting:
    every = [setting for setting, _ in plan(paper.experiments, n_seeds=1)]
    known = {setting.name: setting for setting in every if isinstance(setting, Setting)}
    if name not in known:
        raise ValueError(f"{paper.name} has no setting {name!r} on this worker; {nearest(name, known)}")
    return known[name]
