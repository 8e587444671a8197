"""What it took to get to a step of a training, in all currencies: no single one of them is fair to every remedy."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from plateau_interp.training.batches import samples_before
from plateau_interp.training.shares import group_samples_before
from plateau_interp.types import Task

__all__ = ["CURRENCIES", "Budget", "Prices", "seconds_before"]

CURRENCIES = ("steps", "own_sequences", "sequences", "flops", "seconds")
"""The fields of a `Budget`, in the order of every table."""


@dataclass(frozen=True)
class Budget:
    """What the updates before a step have taken; None where nobody counted it."""

    steps: int
    own_sequences: int
    """Training sequences of the task in question; in a mixture the others are left out."""
    sequences: int
    """Training sequences of all tasks together."""
    flops: int | None = None
    """Floating-point operations of training, counted from sizes; measuring is left out."""
    seconds: float | None = None
    """Seconds of the processor, of all its threads together: training, measuring and saving."""

    def describe(self) -> str:
        """All of it on one line for people.

        Example:
            >>> Budget(251, 10542, 32128, 4983814619136, None).describe()
            'step 251; 10,542 own of 32,128 sequences; 4.98 TFLOP; processor time not recorded'
        """
        own = "" if self.own_sequences == self.sequences else f"{self.own_sequences:,} own of "
        flops = "FLOPs not counted" if self.flops is None else f"{self.flops / 1e12:.3g} TFLOP"
        time = "processor time not recorded" if self.seconds is None else f"{self.seconds:,.1f} s of processor time"
        return f"step {self.steps}; {own}{self.sequences:,} sequences; {flops}; {time}"


@dataclass(frozen=True, eq=False)
class Prices:
    """What the steps of a run cost.

    Args:
        task: what was trained on.
        batch_size: sequences a step.
        flops: floating-point operations of training on one sequence; None if they were not counted.
        seconds: updates made and the seconds of the processor that they took, in order; empty if not recorded.
    """

    task: Task
    batch_size: int
    flops: int | None = None
    seconds: Sequence[tuple[int, float]] = ()

    def budget(self, step: int, *, group: str | None = None) -> Budget:
        """What the updates before a step have taken.

        Args:
            step: updates made.
            group: the task in question, one of `plateau_interp.training.shares.group_names`; None for all of them.

        Example:
            >>> from plateau_interp.tasks import Mixture
            >>> prices = Prices(Mixture(), 128, seconds=[(100, 20.0), (200, 30.0)])
            >>> prices.budget(150, group="moving-window-product")
            Budget(steps=150, own_sequences=6600, sequences=19200, flops=None, seconds=25.0)
        """
        everything = samples_before(self.task, step=step, batch_size=self.batch_size)
        own = everything
        if group is not None:
            own = group_samples_before(self.task, group, step=step, batch_size=self.batch_size)
        flops = None if self.flops is None else self.flops * everything
        return Budget(step, own, everything, flops, seconds_before(self.seconds, step))


def seconds_before(known: Sequence[tuple[int, float]], updates: int) -> float | None:
    """The seconds that so many updates took, between two known ones in proportion; None beyond the last.

    Example:
        >>> seconds_before([(10, 2.0), (20, 6.0)], 15), seconds_before([(10, 2.0)], 11)
        (4.0, None)
    """
    if not known or updates > known[-1][0]:
        return None
    steps, seconds = zip((0, 0.0), *known, strict=True)
    found = float(np.interp(updates, steps, seconds))
    return found if math.isfinite(found) else None
