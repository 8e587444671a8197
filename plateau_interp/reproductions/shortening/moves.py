"""Which weights a training moves: of each parameter the cosine of before and after, and how far it went."""

from collections.abc import Sequence

import pandas as pd
import torch

from plateau_interp.analysis.observing import Checkpointed
from plateau_interp.checks import there_steps
from plateau_interp.reproductions.quantities import Quantity
from plateau_interp.reproductions.settings import Added, Outcome
from plateau_interp.views.panels import COSINE, Panel

__all__ = ["MOVES", "mean_of_cases", "moved_weights"]

LOOKED_AT = 200
"""About where the poster's run ended."""


@torch.no_grad()
def moved_weights(run: Checkpointed, steps: Sequence[int] | None = None) -> pd.DataFrame:
    """How far each parameter is from where the run began, at some of its checkpoints.

    A row a checkpoint and parameter (``case``): ``cosine`` of before and after, all entries as one vector;
    ``mean_change``, the mean of the absolute changes; ``mean_before``, that of the absolute values before. Biases begin
    small, so that the same change turns them far more: the two measures say different things. What did not move at all
    is left out, and where one of the two is 0 there is no cosine.

    Args:
        run: with a checkpoint at step 0.
        steps: of checkpoints; all after the first by default.

    Raises:
        ValueError: for a step without a checkpoint.
    """
    first = dict(run.model(0).named_parameters())
    rows = []
    for step in there_steps(steps, [one for one in run.checkpoints if one], "checkpoint"):
        for name, after in run.model(step).named_parameters():
            before = first[name]
            if torch.equal(before, after):
                continue
            cosine = torch.nn.functional.cosine_similarity(before.flatten(), after.flatten(), dim=0)
            known = bool(before.any()) and bool(after.any())
            rows.append(
                {
                    "step": step,
                    "case": name.removeprefix("blocks.0."),
                    "cosine": float(cosine) if known else float("nan"),
                    "mean_change": float((after - before).abs().mean()),
                    "mean_before": float(before.abs().mean()),
                }
            )
    return pd.DataFrame(rows, columns=["step", "case", "cosine", "mean_change", "mean_before"])


MOVES = Added(
    moved_weights,
    {
        "cosine": Panel("Cosine of before and after", "cosine", COSINE),
        "mean_change": Panel("Mean absolute change", "weight"),
        "mean_before": Panel("Mean absolute value before", "weight"),
    },
)


def mean_of_cases(column: str, name: str, cases: Sequence[str], *, step: int = LOOKED_AT, digits: int = 3) -> Quantity:
    """The mean of a column over parameters, at a step; None if one of them is not there.

    Args:
        column: of `moved_weights`.
        name: of the parameters together, for tables.
        cases: their names.
        step: of the checkpoint.
        digits: for tables.
    """

    def of(outcome: Outcome) -> float | None:
        rows = outcome.metrics
        if not {column, "case"} <= set(rows):
            return None
        there = rows[(rows["step"] == step) & rows["case"].isin(cases)].dropna(subset=[column])
        return float(there[column].mean()) if len(there) == len(cases) else None

    return Quantity(f"{column.replace('_', ' ')}, {name}, after {step} steps", of, digits)
