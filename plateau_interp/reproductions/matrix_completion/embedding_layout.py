"""How tokens and positions are arranged: signs, sizes and columns. Figures 7, 9 and 10."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from plateau_interp.analysis.embeddings import nearness_within_classes, pearson, principal_components
from plateau_interp.analysis.observing import Checkpointed
from plateau_interp.reproductions.claims import Claim, Within, only_reported
from plateau_interp.reproductions.experiments import Experiment
from plateau_interp.reproductions.matrix_completion.drop import SMALL
from plateau_interp.reproductions.matrix_completion.studies import BEFORE, END, completion_task, models_at
from plateau_interp.reproductions.quantities import at, difference
from plateau_interp.reproductions.settings import Added
from plateau_interp.reproductions.study import Study
from plateau_interp.views.panels import SHARE, Panel

__all__ = ["ARRANGED", "EMBEDDINGS", "embedding_structure"]

AXES = 3
"""Main axes of the token embedding that are looked at."""


def embedding_structure(
    run: Checkpointed, *, steps: Sequence[int] | None = None, largest: float | None = None
) -> pd.DataFrame:
    """How far the embeddings show what numbers and places they stand for.

    Args:
        run: of matrix completion.
        steps: checkpoints; by default all.
        largest: tokens of larger values are left out: they are hardly ever trained; by default the largest value that
            the task's entries can have, or the end of the grid.

    Returns:
        A row a checkpoint. ``norm_symmetry``: correlation between the lengths of the tokens of x and -x, over x > 0.
        ``value_axis`` and ``size_axis``: the largest absolute correlation of one of the three main axes of the tokens
        with the value, and with its absolute value. ``column_nearness`` and ``row_nearness``: mean cosine of two
        positions of one column (row), less that of two others (`nearness_within_classes`).

    Raises:
        ValueError: for a run of another task, and steps that are not there.

    Source: arXiv 2410.22244, figure 7 (a: lengths, b: main axes, c: clusters of columns).

    Example:
        >>> from plateau_interp import Run
        >>> embedding_structure(Run("runs/completion"))  # doctest: +SKIP
    """
    task = completion_task(run)
    grid = task.values(torch.arange(1, task.d_vocab))
    bound = min(task.bound, task.rank * task.scale**2) if task.entries == "uniform" else task.bound
    known = grid.abs() <= (bound if largest is None else largest) + task.grid_step / 2
    values = grid[known]
    n_rows, n_columns = task.shapes[0]
    place = torch.arange(n_rows * n_columns)
    rows = []
    for step, model in models_at(run, steps):
        weights: dict[str, Any] = dict(model.named_parameters())
        tokens = weights["embed.W_E"].detach().cpu()[1:][known]
        positions = weights["pos_embed.W_pos"].detach().cpu()[: len(place)]
        lengths, axes = tokens.norm(dim=1), principal_components(tokens, AXES)
        rows.append(
            {
                "step": step,
                "norm_symmetry": pearson(lengths[values > 0], lengths.flip(0)[values > 0]),
                "value_axis": _best(axes, values),
                "size_axis": _best(axes, values.abs()),
                "column_nearness": nearness_within_classes(positions, place % n_columns),
                "row_nearness": nearness_within_classes(positions, place // n_columns),
            }
        )
    return pd.DataFrame(rows)


def _best(axes: Tensor, target: Tensor) -> float:
    return max(abs(pearson(axis, target)) for axis in axes.T)


ARRANGED = Study(
    "embedding-structure",
    SMALL,
    Added(
        embedding_structure,
        {
            "norm_symmetry": Panel("Lengths of tokens x and -x", "correlation", (-1.03, 1.03)),
            "value_axis": Panel("A main axis of the tokens is the value", "absolute correlation", SHARE),
            "size_axis": Panel("A main axis of the tokens is the size", "absolute correlation", SHARE),
            "column_nearness": Panel("Nearness of positions in a column", "difference of cosines"),
            "row_nearness": Panel("Nearness of positions in a row", "difference of cosines"),
        },
    ),
    about="4x4, rank 1",
)
SEEN_IN_A_FIGURE = "what is plain in a figure; the bound is ours, fixed before these runs were read"
EMBEDDINGS = Experiment(
    name="fig7",
    title="Tokens by sign and size, positions by column",
    figures="figures 7, 9 and 10, on 4x4 matrices of rank 1",
    settings=(ARRANGED,),
    key=(at("column_nearness", step=END), ARRANGED),
    panels=("norm_symmetry", "value_axis", "size_axis", "column_nearness", "row_nearness"),
    n_seeds=5,
    table=tuple(at(column, step=step) for step in (BEFORE, END) for column in ("value_axis", "column_nearness")),
    claims=(
        Claim(
            "At the end tokens of x and -x are equally long",
            "figure 7a, told by its caption",
            Within(at("norm_symmetry", step=END), ARRANGED.name, low=0.8),
            SEEN_IN_A_FIGURE,
        ),
        Claim(
            "One of the main axes of the tokens is the value",
            "figure 7b, told by its caption: sign",
            Within(at("value_axis", step=END), ARRANGED.name, low=0.9),
            SEEN_IN_A_FIGURE,
        ),
        Claim(
            "Another is its size",
            "figure 7b, told by its caption: magnitude",
            Within(at("size_axis", step=END), ARRANGED.name, low=0.9),
            SEEN_IN_A_FIGURE,
        ),
        Claim(
            "Positions of one column lie near each other",
            "figure 7c, told by its caption",
            Within(at("column_nearness", step=END), ARRANGED.name, low=0.1, most_seeds=True),
            SEEN_IN_A_FIGURE,
        ),
        Claim(
            "They come together with the drop",
            "figures 9 and 10, inferred",
            Within(
                difference(at("column_nearness", step=END), at("column_nearness", step=BEFORE)), ARRANGED.name, low=0.1
            ),
            SEEN_IN_A_FIGURE,
        ),
        only_reported("Positions of one row", at("row_nearness", step=END), ARRANGED.name),
        *(
            only_reported(f"On the plateau: {column.replace('_', ' ')}", at(column, step=BEFORE), ARRANGED.name)
            for column in ("norm_symmetry", "value_axis", "size_axis", "column_nearness")
        ),
    ),
    notes=(
        "At a checkpoint every 500 steps. Twenty-one tokens and three axes: of axes drawn at random the best has a "
        "correlation of about 0.30. Figure 7c is a t-SNE; the difference of cosines needs no seed."
    ),
)
