"""The numbers of the poster's table 1, which its claims and the table beside ours share.

Its sequences are of one task alone, until the end of the plateau; all divide by the task's share of 128 a step.
"""

import statistics
from collections.abc import Mapping

__all__ = ["FACTOR", "POSTER_STEPS", "SAVING", "SEQUENCES", "mean_saving"]

FACTOR = 1.5
"""By how much a number of one run and one seed may be off, either way."""
SEQUENCES: dict[int, dict[str, int]] = {
    1: {"sum": 16_256, "difference": 34_560, "product": 93_568},
    2: {"sum": 13_600, "difference": 19_680, "product": 24_096},
    3: {"sum": 10_542, "difference": 10_794, "product": 13_288},
}
"""By number of tasks and task; of two tasks the mean of both pairs."""
OWN_SHARES: dict[int, dict[str, int]] = {
    1: {"sum": 128, "difference": 128, "product": 128},
    2: {"sum": 64, "difference": 64, "product": 64},
    3: {"sum": 42, "difference": 42, "product": 44},
}
POSTER_STEPS: dict[int, dict[str, float]] = {
    count: {word: number / OWN_SHARES[count][word] for word, number in row.items()} for count, row in SEQUENCES.items()
}
"""What these are in steps."""


def mean_saving(costs: Mapping[str, float], alone: Mapping[str, float]) -> float:
    """The mean over tasks of what is saved, as a share."""
    return statistics.mean(1 - cost / alone[word] for word, cost in costs.items())


SAVING = {count: mean_saving(SEQUENCES[count], SEQUENCES[1]) for count in (2, 3)}
"""44.55 % and 63.24 %."""
