"""Where a loss lingers and when it leaves: the search behind `plateau_interp.analysis.plateaus.summarise`.

Pure functions of losses, a row a measured step; what a row is in steps, the caller knows.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

__all__ = ["TOLERANCE", "Shelf", "known_shelf", "lies_low", "shelf", "smoothed"]

SMOOTHING = 9
"""Measured steps in the running median that takes the noise of single batches out of the loss."""
LEAST_ROWS = 3
"""With fewer measured steps before the last quarter of the fall, nobody can tell a plateau from a slope."""
PLATEAUS_END = 0.75
"""Share of the fall above whose loss a plateau is looked for: what lingers in the last quarter is the end of learning.
Two-layer tasks fall by more than half when they learn which tokens occur, before their plateau."""
BANDWIDTH = 0.01
"""Width of the kernel in which the density of losses is taken, as a share of the fall."""
POINTS = 8
"""At which the density of losses is taken, in a bandwidth: a level is good to a twelfth of it."""
HIGHEST = 3
"""Falls above the first loss, from which on nothing is a plateau: a loss that blows up to thousands of nats would need
millions of points."""
SHELF_DENSITY = 0.25
"""A peak of the density is a shelf from this share of the highest peak on."""
LEAST_LENGTH = 0.15
"""A shelf is a plateau if the loss stays near it for this share of the steps before the last quarter of the fall. A
loss that falls in a straight line stays near any level for 5 % of them, an exponential decay near the lowest for 12."""
NOISY = 0.1
"""The rise that this share of the measured steps exceeds is the noise of a loss: one that only falls has none. Where it
is above a bandwidth of the density, the least length grows with it; smoothing does not take out all."""
MOST_ASKED = 0.4
"""The least length where there is most noise."""
LEAST_ROWS_ON_IT = SMOOTHING // 2 + 1
"""Rows after its first that a plateau lasts if any rise is above a bandwidth: the running median of noise on a slope is
one and the same measured loss for some rows."""
TOLERANCE = 0.02
"""How far from its level the loss may be on the plateau, as a share of the whole fall from first loss to floor."""
LEAST_KNOWN = 0.3
"""The same share for a level that is known: an exponential decay is as near it for 20 % of the steps before."""
MAD_TO_DEVIATION = 1.4826
"""Standard deviations in a median absolute deviation, of normal noise."""
OUTLYING = 3
"""Standard deviations of the noise from which on a loss among the first rows is above the shelf that it comes to."""
FELL = 0.8
"""A loss has left a level that is known once it has come, smoothed, to this share of it."""


class Shelf(NamedTuple):
    """Level of a plateau, and the rows at which it starts, ends and is left; None for what is not there."""

    level: float | None
    start: int | None
    end: int | None
    drop: int | None


def lies_low(level: float, *, first: float, lowest: float) -> bool:
    """Whether a closed form lies where `shelf` does not look: within the last quarter of the fall.

    So it is where an untrained model's loss is far above all that it knows, as a sum of squares may be.

    Example:
        >>> lies_low(0.03, first=0.3, lowest=0.01), lies_low(2.6, first=2.9, lowest=1.3)
        (True, False)
    """
    return lowest <= level < first - PLATEAUS_END * (first - lowest)


def known_shelf(raw: np.ndarray, loss: np.ndarray, level: float) -> Shelf:
    """How long a loss stays at a level that is known, and the mean there.

    It is there from the first row within a quarter of the way down from it (above it), to the last row within a quarter
    of the way (below it) before half of the way is done. The way is that to the lowest smoothed loss; a loss that never
    comes below 80 % of the level has not left it.

    Args:
        raw: losses as they were measured.
        loss: the same, smoothed.
        level: the closed form.

    Example:
        >>> loss = np.array([4.0] + [0.25] * 20 + [0.0625] * 20)
        >>> known_shelf(loss, loss, 0.26)
        Shelf(level=0.25, start=1, end=20, drop=21)
    """
    lowest = float(loss.min())
    has_left = lowest <= FELL * level
    margin = (level - lowest if has_left else (1 - FELL) * level) / 4
    start = _first_below(loss, level + margin)
    drop = _first_below(loss, level - 2 * margin) if has_left else None
    on_it = np.flatnonzero(loss[:drop] >= level - margin)
    if start is None or not len(on_it) or on_it[-1] - start < max(1, LEAST_KNOWN * len(loss[:drop])):
        return Shelf(None, None, None, drop)
    end = int(on_it[-1])
    start = _come_to(raw[: end + 1], level, start=start, margin=margin)
    return Shelf(float(raw[start : end + 1].mean()), start, end, drop)


def smoothed(loss: np.ndarray, *, half: float) -> np.ndarray:
    """The running median, near the ends over as many rows on one side as on the other.

    A window that reached further to one side would move a fall to another row; this one leaves a loss that only falls
    as it is. Only where 9 rows or more come before the loss is below ``half`` do the first take all the rows that a
    whole window has to their right: that far from the fall they may.
    """
    rolling = pd.Series(loss).rolling(SMOOTHING, center=True, min_periods=1).median().to_numpy(copy=True)
    medians, reach = rolling.copy(), SMOOTHING // 2
    for row in {*range(min(reach, len(loss))), *range(max(len(loss) - reach, 0), len(loss))}:
        sides = min(row, len(loss) - 1 - row)
        medians[row] = np.median(loss[row - sides : row + sides + 1])
    if len(loss) > SMOOTHING and (medians[:SMOOTHING] >= half).all():
        medians[:reach] = rolling[:reach]
    return medians


def shelf(raw: np.ndarray, loss: np.ndarray, *, lowest: float) -> Shelf:
    """The lowest level at which a loss lingers above the last quarter of its fall; see `plateaus.Summary.level`.

    A shelf that is too short for a plateau hides no longer one above it.

    Args:
        raw: losses as they were measured, a row a measured step.
        loss: the same, smoothed.
        lowest: where the fall ends.

    Example:
        >>> loss = np.array([3.0] + [2.0] * 20 + [0.0] * 20)
        >>> shelf(loss, loss, lowest=0.0)
        Shelf(level=2.0, start=1, end=20, drop=21)
    """
    first = float(raw[0])
    fall = first - lowest
    if fall <= 0:  # nothing was learned, or there is one row: all of it is one level
        return Shelf(float(np.median(loss)), 0, len(loss) - 1, None)
    half, end = _first_below(loss, first - fall / 2), _first_below(loss, first - PLATEAUS_END * fall)
    before = loss[:end]
    before = before[before <= first + HIGHEST * fall]
    if len(before) < LEAST_ROWS:
        return Shelf(None, None, None, half)
    least = _least_rows(np.diff(raw) / (BANDWIDTH * fall), before=len(before) - 1)
    for level in _shelves(before, bandwidth=BANDWIDTH * fall):
        # Below the middle, since the level may be above the first loss, and once half of the fall is done.
        drop = _first_below(loss, min((level + lowest) / 2, first - fall / 2))
        start = _first_below(loss, level + TOLERANCE * fall)
        on_it = np.flatnonzero(np.abs(loss[:drop] - level) <= TOLERANCE * fall)
        if start is not None and len(on_it) and on_it[-1] - start >= least:
            end = int(on_it[-1])
            return Shelf(level, _come_to(raw[: end + 1], level, start=start, margin=TOLERANCE * fall), end, drop)
    return Shelf(None, None, None, half)


def _least_rows(rises: np.ndarray, *, before: int) -> float:
    """Rows after its first that a plateau lasts, by the rises of the loss in bandwidths."""
    noise = max(1.0, float(np.quantile(rises, 1 - NOISY)))
    return max(LEAST_ROWS_ON_IT if rises.max() > 1 else 1, min(LEAST_LENGTH * noise, MOST_ASKED) * before)


def _first_below(loss: np.ndarray, bound: float) -> int | None:
    rows = np.flatnonzero(loss < bound)
    return int(rows[0]) if len(rows) else None


def _come_to(raw: np.ndarray, level: float, *, start: int, margin: float) -> int:
    """The first row that is on a shelf, where the smoothed loss of the first rows is that of the rows after them.

    Args:
        raw: losses as they were measured, to the end of the shelf.
        level: of the shelf.
        start: the first row by the smoothed loss.
        margin: how far above the level a loss without noise is on it.
    """
    noise = MAD_TO_DEVIATION * float(np.median(np.abs(raw[start:] - level)))
    bound = level + max(margin, OUTLYING * noise)
    while start < SMOOTHING // 2 and raw[start] > bound:
        start += 1
    return start


def _shelves(loss: np.ndarray, *, bandwidth: float) -> list[float]:
    """The levels that a loss lingers at, the lowest first."""
    grid = np.linspace(loss.min(), loss.max(), 1 + max(100, int(POINTS * np.ptp(loss) / bandwidth)))
    density = np.exp(-(((grid[:, None] - loss) / bandwidth) ** 2) / 2).sum(axis=1)
    padded = np.pad(density, 1)
    is_peak = (density >= padded[:-2]) & (density > padded[2:]) & (density >= SHELF_DENSITY * density.max())
    return [float(level) for level in grid[is_peak]]
