"""Which checkpoints of a run keep the optimiser's state: the first, the last, and some between.

A checkpoint's weights are a third of it; the rest is for going on from that very step. A run that goes on takes the
last one, and a fork can make some steps again. `plateau_interp.runs.pruning` does it to a folder when somebody asks.
"""

from collections.abc import Sequence
from itertools import pairwise

from plateau_interp.runs.folder import RunFolder
from plateau_interp.runs.formats import PLAIN_CHECKPOINT_FORMAT

__all__ = ["Thinning", "dispensable"]


class Thinning:
    """Thins a run while it is trained, so that its folder is the same however often it was killed.

    What an earlier version wrote stays as it is.

    Args:
        folder: of the run, which nobody else writes to. A damaged checkpoint is refused where somebody needs it; here
            it counts as one that is not there.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._resumable = [step for step, label in folder.labels().items() if label.has_state]

    def saved(self, step: int) -> None:
        """A whole checkpoint of a step was written: let go what is not needed any more."""
        self._resumable.append(step)
        self.thin()

    def thin(self) -> None:
        """Let go what a kill did not leave the time for; of a folder that is as it should be, nothing."""
        for step in dispensable(self._resumable[-3:], every=self._folder.recipe.state_every):
            if self._folder.label(step).format >= PLAIN_CHECKPOINT_FORMAT:
                self._folder.let_go(step)
                self._resumable.remove(step)


def dispensable(steps: Sequence[int], *, every: int) -> list[int]:
    """Of the steps whose optimiser state is kept, those that nobody needs: never the first nor the last.

    Args:
        steps: in order.
        every: at most so many lie between two that stay, if it was so before.

    Example:
        >>> dispensable([0, 20, 40, 60, 80, 100, 120], every=50)
        [20, 60, 100]
    """
    kept, gone = [*steps[:1]], list[int]()
    for step, following in pairwise(steps[1:]):
        (gone if following - kept[-1] <= every else kept).append(step)
    return gone
