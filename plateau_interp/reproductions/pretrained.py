"""Published models in the place of settings: a series of checkpoints is measured where others are trained.

What they take, a model on the hub and prompts, not every machine has; `plateau_interp.series` fetches and measures.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from plateau_interp.reproductions.settings import Added, NotHereError, Outcome
from plateau_interp.runs.environment import write_environment
from plateau_interp.runs.errors import BusyFolder, RunError
from plateau_interp.runs.folder import ENVIRONMENT
from plateau_interp.series.folder import BusySeries, Record, SeriesError, SeriesFolder
from plateau_interp.series.measures import OwnMeasure
from plateau_interp.series.prompts import ARC_EASY, read_prompts
from plateau_interp.series.series import CheckpointSeries

__all__ = ["PublishedModel"]

KEPT = ("step", "revision", "weights", "duplicate")
"""Columns of a series that are kept beside what was measured."""
DROPPED = ("seconds", "error")


@dataclass(frozen=True, eq=False)
class PublishedModel:
    """A model whose checkpoints somebody published: one series of measurements in the place of a run a seed.

    Args:
        name: of its folder; as of a `plateau_interp.reproductions.settings.Setting`.
        source: on the hub, such as ``EleutherAI/pythia-14m``, or whatever `CheckpointSeries` takes.
        steps: the checkpoints, by their training step.
        about: what it is, for tables; by default the name.
        prompts: see `plateau_interp.series.prompts.read_prompts`; by default the paper's.
        first: how many of them; None for all.
        measures: further ones, by name.
    """

    name: str
    source: str
    steps: tuple[int, ...]
    about: str = ""
    prompts: str = ARC_EASY
    first: int | None = 100
    measures: Mapping[str, OwnMeasure] = field(default_factory=lambda: MappingProxyType({}))

    adds: ClassVar[Added | None] = None
    one_seed: ClassVar[bool] = True

    def folder(self, runs: Path, seed: int) -> Path:
        """Where its series is."""
        return runs / self.name / f"seed-{seed}"

    def needs(self, seed: int) -> list[tuple[Any, int]]:
        """Nothing has to be made before."""
        return []

    def identity(self, seed: int) -> dict[str, Any]:
        """What makes its series that series, in whatever folder."""
        return {
            "series": {
                "source": self.source,
                "steps": list(self.steps),
                "prompts": self.prompts,
                "first": self.first,
                "measures": sorted(self.measures),
            }
        }

    def check(self, runs: Path, seed: int) -> None:
        """Whether what is in its folder is a series of its model.

        Of which prompts it is, `measure` finds out: a list of them is needed for that, and may have to be fetched.

        Raises:
            RunError: if not.
        """
        path = self.folder(runs, seed)
        if not path.exists():
            return
        try:
            there = SeriesFolder(path).settings
        except SeriesError as error:
            raise RunError(str(error)) from None
        if (there["source"], there["measures"]) != (self.source, sorted(self.measures)):
            raise RunError(f"{path} holds another series than {self.name!r} is now: move it, or use another --out")

    def outcome(self, runs: Path, seed: int) -> Outcome | None:
        """What was measured; None if it was not, or not of all checkpoints.

        Checkpoints that have the very same weights as another are rows without numbers: nobody can tell whose they are.
        """
        self.check(runs, seed)
        path = self.folder(runs, seed)
        # Where that file is missing a kill came just before it: nothing is left to measure, but to tell what made it.
        if len(self._measured_steps(path)) < len(self.steps) or not (path / ENVIRONMENT).is_file():
            return None
        table = SeriesFolder(path).metrics()
        table = table[table["step"].isin(self.steps)].drop(columns=list(DROPPED)).reset_index(drop=True)
        for name in set(map(str, table)) - set(KEPT):
            table[name] = table[name].astype("float64").mask(table["duplicate"])
        return Outcome(self, seed, table)

    def _measured_steps(self, path: Path) -> set[int]:
        records = SeriesFolder(path).records() if path.exists() else []
        return {record.step for record in records if not record.error} & set(self.steps)

    def measure(
        self,
        runs: Path,
        seed: int,
        *,
        device: str = "cpu",
        showing: Callable[[int, int], AbstractContextManager[Callable[[Record], None]]] | None = None,
    ) -> Outcome:
        """Measure the checkpoints that are not measured yet.

        Args:
            runs: the folder of all runs.
            seed: for the folder alone: there is one series.
            device: where to measure.
            showing: given how many checkpoints there are and how many of them are measured, a context whose value is
                called with each record: a progress bar.

        Raises:
            NotHereError: if the model, its prompts or one of its checkpoints is not to be had on this machine.
            RunError: if its folder holds another series, is damaged, or somebody is writing there.
        """
        done = self.outcome(runs, seed)
        if done is not None:
            return done
        path = self.folder(runs, seed)
        try:
            prompts = read_prompts(self.prompts, first=self.first)
            series = CheckpointSeries(self.source, self.steps)
        except ValueError as error:
            raise NotHereError(str(error)) from None
        records = series.measure(prompts, out=path, measures=self.measures, device=device)
        try:
            n_done = len(self._measured_steps(path))
            with nullcontext(lambda record: None) if showing is None else showing(len(self.steps), n_done) as show:
                for record in records:
                    show(record)
        except BusySeries as error:
            raise BusyFolder(str(error)) from None
        except SeriesError as error:
            raise RunError(str(error)) from None
        write_environment(path / ENVIRONMENT, device)
        done = self.outcome(runs, seed)
        if done is None:
            errors = [record.error for record in SeriesFolder(path).records() if record.error]
            raise NotHereError(errors[-1])
        return done
