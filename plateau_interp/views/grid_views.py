"""Answers that are grids of numbers: what is right and what a model says, side by side, through training.

`grid_view` is a page with a slider, `grid_figure` a still picture. Which tasks have such answers, and what they are, is
in `plateau_interp.analysis.answer_grids`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from plateau_interp.analysis.answer_grids import GridsThroughTraining, grids_through_training
from plateau_interp.analysis.observing import Checkpointed
from plateau_interp.checks import whole_number
from plateau_interp.types import Batch
from plateau_interp.views.maps import grid_figure
from plateau_interp.views.page import View, packed
from plateau_interp.views.panels import loss_curve
from plateau_interp.views.readings import MAX_VALUES, affordable
from plateau_interp.views.saving import themed_svg

__all__ = ["GridView", "grid_view", "view_of_grids"]

DECIMALS = 2
"""Of the numbers in the cells."""


@dataclass(frozen=True, eq=False)
class GridView(View):
    """Grids on a page; shows itself in Jupyter, VS Code and Colab. Made by `grid_view`.

    Attributes:
        title: first line.
        note: what is shown.
        grids: the answers at each step.
        curve: what is drawn beside the slider, as in `plateau_interp.views.readings.AttentionView`; or None.
    """

    title: str
    note: str
    grids: GridsThroughTraining = field(repr=False)
    curve: Mapping[str, Any] | None = field(default=None, repr=False)

    def spec(self) -> dict[str, Any]:
        """The plain data that grid.js draws."""
        truth, said = _numbers(self.grids.truth), _numbers(self.grids.said)
        _, n_rows, n_columns = truth.shape
        return {
            "kind": "grid",
            "title": self.title,
            "note": self.note,
            "name": "example",
            "steps": list(self.grids.steps),
            "rows": n_rows,
            "columns": n_columns,
            "decimals": DECIMALS,
            "asked": self.grids.asked.int().flatten(start_dim=1).tolist(),
            "range": float(np.abs(truth).max(initial=0.0)) or 1.0,
            "truth": packed(truth),
            "said": packed(said),
            "curve": self.curve,
            "readings": [],
        }

    def still(self) -> str:
        """The figure of the first grid at the last step."""
        return themed_svg(partial(still_figure, self.grids, self.grids.steps[-1:]), "grid")


def grid_view(
    run: Checkpointed,
    *,
    steps: Sequence[int] | None = None,
    batch: Batch | None = None,
    n: int = 6,
    title: str = "What is right, and what the model says",
) -> GridView:
    """Look at a run's answers through training, where they are grids of numbers.

    Args:
        run: of a task with `plateau_interp.analysis.answer_grids.OfGrids`.
        steps: checkpoints; by default all that a page has room for.
        batch: the sequences; by default the first of `plateau_interp.analysis.observing.fixed_batch`.
        n: how many of these; 64 at most.
        title: first line.

    Returns:
        A view that shows itself in notebooks; ``save(path)`` writes it as one file that works with no network.

    Raises:
        ValueError: as `plateau_interp.analysis.answer_grids.grids_through_training`.

    Example:
        >>> from plateau_interp import Run
        >>> grid_view(Run("runs/completion")).save("matrices.html")  # doctest: +SKIP
    """
    if steps is None:
        n_grids = whole_number("n", n, least=1) if batch is None else len(batch)
        steps = affordable(run.checkpoints, run.checkpoints[-1:], room=MAX_VALUES // max(n_grids * run.task.n_pos, 1))
    return view_of_grids(run, grids_through_training(run, steps=steps, batch=batch, n=n), title=title)


def view_of_grids(run: Checkpointed, grids: GridsThroughTraining, *, title: str) -> GridView:
    """The view of grids that are there already."""
    note = (
        "Outlined: what the model cannot see. Shown are the run's weights by themselves, on sequences of no training."
    )
    return GridView(title, note, grids, loss_curve(run) if len(grids.steps) > 1 else None)


def still_figure(grids: GridsThroughTraining, steps: Sequence[int], **style: Any) -> Any:
    """The first grid: what is right, then what the model says at some of the steps."""
    places = [grids.steps.index(step) for step in steps]
    maps = np.concatenate([_numbers(grids.truth)[:1], _numbers(grids.said)[places, 0]])
    titles = ["right", *(f"step {step}" for step in steps)]
    return grid_figure(maps, titles, asked=_array(grids.asked[0]), **style)


def _numbers(values: Float[Tensor, "*axes"]) -> Float[np.ndarray, "*axes"]:
    return values.detach().double().cpu().numpy()


def _array(values: Bool[Tensor, "*axes"]) -> Bool[np.ndarray, "*axes"]:
    return values.cpu().numpy()
