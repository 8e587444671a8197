"""What is known of a paper from the stored results: outcomes, statements and remarks, which the pages tell."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plateau_interp.reproductions.claims import Statement, Verdict
from plateau_interp.reproductions.experiments import Experiment, Paper
from plateau_interp.reproductions.remarks import Remarks
from plateau_interp.reproductions.settings import Outcome
from plateau_interp.reproductions.storage import Stored

__all__ = ["Cost", "PaperResults"]


@dataclass(frozen=True)
class Cost:
    """What runs cost.

    Args:
        n_runs: how many.
        n_steps: training steps of them all.
        n_timed: runs whose time was taken.
        hours: of those, less what kills cut off.
        seconds_a_step: median over them; None if there are none.
        machines: versions, processors and threads, each once.
    """

    n_runs: int
    n_steps: int
    n_timed: int
    hours: float
    seconds_a_step: float | None
    machines: tuple[str, ...]


@dataclass(frozen=True)
class PaperResults:
    """A paper, what is stored of its runs, what that says of its claims, and what people remarked."""

    paper: Paper
    there: Stored
    statements: Sequence[Statement]
    remarks: Remarks

    @property
    def outcomes(self) -> Mapping[str, list[Outcome]]:
        """By setting name, one a seed."""
        return self.there.outcomes

    @property
    def run_experiments(self) -> list[Experiment]:
        """Those that were run."""
        return [experiment for experiment in self.paper.experiments if experiment.was_run(self.outcomes)]

    def judged(self, *, of: str | None = None) -> list[Statement]:
        """The statements that were run, of all experiments or of one."""
        shown = {experiment.name for experiment in self.run_experiments} if of is None else {of}
        return [one for one in self.statements if one.finding.verdict != "not run" and one.experiment in shown]

    def count(self, verdict: Verdict, *, of: str | None = None) -> int:
        """How many of `judged` have a verdict."""
        return sum(one.finding.verdict == verdict for one in self.judged(of=of))

    def cost(self) -> Cost:
        """What the stored runs cost."""
        made = self.there.made
        paces = [one["seconds"] / one["steps"] for one in made if one["seconds"] and one["steps"]]
        return Cost(
            n_runs=len(made),
            n_steps=sum(one["steps"] for one in made),
            n_timed=len(paces),
            hours=sum(one["seconds"] or 0.0 for one in made) / 3600,
            seconds_a_step=statistics.median(paces) if paces else None,
            machines=tuple(sorted({_made_with(one) for one in made})),
        )


def _made_with(made: Mapping[str, Any]) -> str:
    packages = ", ".join(f"{name} {number}" for name, number in made["packages"].items())
    # Runs of the first days do not tell their processor.
    processor = f" ({made['processor']}, {made['cores']} cores)" if "processor" in made else ""
    device = " ".join([made["device"], *([f"({made['accelerator']})"] if "accelerator" in made else [])])
    machine = f"{made['machine']}{processor}, {device}, {made['threads']} threads"
    return f"{machine}; Python {made['python']}, {packages}"
