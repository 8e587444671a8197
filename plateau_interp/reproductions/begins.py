"""With whose weights a setting's run begins: those of another setting's, taken over at a step."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from plateau_interp.runs.donors import InitFrom, OptimizerState

if TYPE_CHECKING:
    from plateau_interp.reproductions.settings import Setting

__all__ = ["SEED_APART", "Begins"]

SEED_APART = 1_000_000
"""By which the seed of a run that begins with another's weights is larger than that of its setting."""


@dataclass(frozen=True, eq=False)
class Begins:
    """With which other run's weights a setting's run begins: that of the same seed (`plateau_interp.runs.donors`).

    Its recipe has a seed of its own (`SEED_APART`): with its donor's it would see its donor's batches again.

    Args:
        setting: the donor's; it must train as far as the step.
        step: at which its weights are taken: one of its checkpoints.
        where: which parameters are taken.
        optimizer: whether the donor's optimiser goes on, or a new one begins.
    """

    setting: "Setting"
    step: int
    where: str | tuple[str, ...] = "*"
    optimizer: OptimizerState = "fresh"

    def init_from(self, runs: Path, seed: int, digest: str | None) -> InitFrom:
        """As plain data of a recipe; without a digest it is looked up.

        Raises:
            ValueError: if it is looked up and there is no such checkpoint.
        """
        return InitFrom(f"{self.setting.folder(runs, seed)}@{self.step}", self.where, self.optimizer, digest)
