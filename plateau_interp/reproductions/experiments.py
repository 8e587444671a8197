"""What a reproduction is made of: experiments, each a few settings, a picture and the claims they test; and papers.

A paper's package (`plateau_interp.reproductions.loss_plateau`, for one) is made of such values:
`plateau_interp.reproductions.running` trains them, `plateau_interp.reproductions.results` stores and tells what came
out. A third party registers a `Paper` under the entry-point group ``plateau_interp.experiments``.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from plateau_interp.checks import nearest
from plateau_interp.reproductions.claims import Claim, Outcomes, Statement
from plateau_interp.reproductions.quantities import DROP, PEAK_COSINE, PEAK_REPETITION, Quantity, steps_to
from plateau_interp.reproductions.settings import Compared, Outcome

__all__ = ["OF_EVERY_SETTING", "Experiment", "Paper"]

OF_EVERY_SETTING: tuple[Quantity, ...] = (DROP, steps_to(50), steps_to(99), PEAK_COSINE, PEAK_REPETITION)
"""What is told of each setting, of a task with answers."""


@dataclass(frozen=True, eq=False)
class Experiment:
    """Settings that are looked at together, a picture of them and the claims they test.

    Args:
        name: as on the command line.
        title: a sentence for the head of its part of the results.
        figures: what it reproduces, in the paper's numbers.
        settings: the first is what the others are compared with.
        claims: sentences of the paper as statements about quantities, tolerances included.
        key: the one number that matters, for the table of a line an experiment: a quantity of one of its settings.
        panels: columns of the metrics to draw, one panel each.
        n_seeds: how many seeds to run by default.
        notes: what is unknown, departures from the paper, what was tried.
        draws: a picture of its own in place of the curves, from the outcomes by setting name.
        table: what is told of each of its settings, whether a claim is about it or not.
        needs: what it takes that not every machine has, such as a corpus or the hub.
        tells: a table of its own in Markdown, from the outcomes by setting name, below its picture.
    """

    name: str
    title: str
    figures: str
    settings: tuple[Compared, ...]
    claims: tuple[Claim, ...]
    key: tuple[Quantity, Compared]
    panels: tuple[str, ...] = ("loss", "accuracy", "cosine", "repetition")
    n_seeds: int = 3
    notes: str = ""
    draws: Callable[[dict[str, list[Outcome]]], Any] | None = None
    table: tuple[Quantity, ...] = OF_EVERY_SETTING
    needs: str = ""
    tells: Callable[[Outcomes], str] | None = None

    def __post_init__(self) -> None:
        if self.key[1] not in self.settings:
            raise ValueError(f"the key of {self.name} is of {self.key[1].name!r}, which is none of its settings")

    def statements(self, outcomes: Outcomes) -> list[Statement]:
        """Its claims, each with what was found."""
        return [Statement(self.name, claim, claim.check.find(outcomes)) for claim in self.claims]

    def was_run(self, outcomes: Outcomes) -> bool:
        """Whether there is more than the setting that the others are compared with."""
        first, *others = self.settings
        return any(outcomes[setting.name] for setting in others or [first])


@dataclass(frozen=True, eq=False)
class Paper:
    """A paper's experiments.

    Args:
        name: as on the command line, and of its folder under ``results/``.
        title: the paper's.
        source: authors and where it can be read.
        experiments: in the order in which they are told.
        about: what it is about and what its claims rest on, for the head of its results.
        legend: how sources, marks and quantities of the statements are to be read, for the page of all statements.
        cover: the experiment whose picture stands in RESULTS.md; empty for none.

    Raises:
        ValueError: for two different settings, or two experiments, of one name, and for a cover that there is not.
    """

    name: str
    title: str
    source: str
    experiments: tuple[Experiment, ...]
    about: str = ""
    legend: str = ""
    cover: str = ""

    def __post_init__(self) -> None:
        names = [experiment.name for experiment in self.experiments]
        if len(set(names)) < len(names):
            raise ValueError(f"two experiments have one name: {names}")
        if self.cover and self.cover not in names:
            raise ValueError(f"the cover is to be an experiment; got {self.cover!r}; {nearest(self.cover, names)}")
        by_name: dict[str, Compared] = {}
        for setting in self.settings():
            if by_name.setdefault(setting.name, setting) is not setting:
                raise ValueError(f"two settings are called {setting.name!r}")
        object.__setattr__(self, "__doc__", f"{self.title} ({self.source})")  # what `plateau list` tells of a plug-in

    def choose(self, names: Sequence[str] = ()) -> tuple[Experiment, ...]:
        """The experiments of some names, in the paper's order; all without names.

        Raises:
            ValueError: for a name that no experiment has, with the nearest.
        """
        known = {experiment.name: experiment for experiment in self.experiments}
        for name in names:
            if name not in known:
                raise ValueError(
                    f"{self.name} has no experiment {name!r}; {nearest(name, known)}; "
                    f"see `plateau reproduce {self.name} --list`"
                )
        return tuple(experiment for name, experiment in known.items() if not names or name in names)

    def not_run(self, experiment: Experiment, *, lacking: str = "") -> str:
        """That an experiment was not run; and if it needs something, what, and the command that runs it where that is.

        Args:
            experiment: of this paper.
            lacking: what it turned out to need, where it does not say what it `needs` itself.
        """
        needs = experiment.needs or lacking
        return f"not run: needs {needs}; then `plateau reproduce {self.name} {experiment.name}`" if needs else "not run"

    def settings(self, experiments: Iterable[Experiment] | None = None) -> list[Compared]:
        """The settings of some experiments (by default all), each once, in order."""
        found = [s for experiment in experiments or self.experiments for s in experiment.settings]
        return list(dict.fromkeys(found))
