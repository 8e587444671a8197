"""What the shoulder after the drop is: which entries are completed there, and what heads read for them."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plateau_interp.analysis.observing import Checkpointed, captured_patterns
from plateau_interp.reproductions.claims import Claim, Within, only_reported
from plateau_interp.reproductions.experiments import Experiment
from plateau_interp.reproductions.matrix_completion.drop import SMALL
from plateau_interp.reproductions.matrix_completion.studies import (
    BEFORE,
    END,
    WHOLE_LEVEL,
    completion_task,
    fresh_matrices,
    models_at,
)
from plateau_interp.reproductions.pictures import cases_figure
from plateau_interp.reproductions.quantities import Quantity, difference
from plateau_interp.reproductions.settings import Added, Outcome
from plateau_interp.reproductions.study import Study, value_of
from plateau_interp.tasks import MatrixCompletion
from plateau_interp.types import Batch, HookedModel
from plateau_interp.views.panels import SHARE, Panel

__all__ = [
    "COMPLETED",
    "SHOULDER",
    "between_lines",
    "completed_entries",
    "loss_with_attention",
    "n_completed",
    "rectangles",
    "shoulder_figure",
]

LARGE_ENOUGH = 0.15
"""The size from which on an entry has a sign that counts."""
MANY = 4
"""Rectangles; entries with more are told together with these."""


def rectangles(seen: Bool[Tensor, "batch row column"]) -> Int[Tensor, "batch row column"]:
    """From how many rectangles each entry follows: those whose three other corners are seen.

    In a matrix of rank 1 ``x_ij = x_il x_kj / x_kl``.

    Example:
        >>> rectangles(torch.tensor([[[0, 1], [1, 1]]]).bool()).tolist()
        [[[1, 0], [0, 0]]]
    """
    there = seen.long()
    corners = einsum(there, there, there, "batch row across, batch down across, batch down column -> batch row column")
    # Of an entry that is seen some have it for a corner itself: those in its row, in its column, in both.
    flat = there * (there.sum(dim=2, keepdim=True) + there.sum(dim=1, keepdim=True) - 1)
    counted: Tensor = corners - flat
    return counted


def completed_entries(run: Checkpointed, *, steps: Sequence[int] | None = None, n: int = 4096) -> pd.DataFrame:
    """How well missing entries are completed, by row, by column and by how many rectangles they follow from.

    Args:
        run: of matrix completion.
        steps: checkpoints; by default all.
        n: matrices.

    Returns:
        A row a checkpoint and ``case``: ``all``, ``row 0`` and so on, ``column 0`` and so on, ``0 rectangles`` to
        ``4 or more rectangles`` (see `rectangles`). ``loss_missing`` of these entries; ``signs_right``, of those whose
        size is 0.15 at least, how many have the right sign; ``on_row`` and ``on_column``, the share of attention that
        their queries have on their row and on their column, of the head that has most.

    Raises:
        ValueError: for a run of another task, and steps that are not there.

    Example:
        >>> from plateau_interp import Run
        >>> completed_entries(Run("runs/completion"), steps=[5000])  # doctest: +SKIP
    """
    task = completion_task(run)
    batch = fresh_matrices(task, n)
    cases = _cases(task, batch)
    rows: list[dict[str, Any]] = []
    for step, model in models_at(run, steps):
        with torch.no_grad():
            said = model(batch.inputs)[..., 0]
        shares = _shares(task, model, batch)
        square = (said - batch.labels).square()
        large = batch.labels.abs() >= LARGE_ENOUGH
        right = said.sign() == batch.labels.sign()
        for case, there in cases.items():
            measured = {
                "loss_missing": _mean(square, there),
                "signs_right": _mean(right.float(), there & large),
                **{kind: max(_mean(head, there) for head in heads) for kind, heads in shares.items()},
            }
            rows.append({"step": step, "case": case, **measured})
    return pd.DataFrame(rows)


def _cases(task: MatrixCompletion, batch: Batch) -> dict[str, Bool[Tensor, "batch cell"]]:
    """The missing entries of each case."""
    n_rows, n_columns = task.shape_of(batch)
    missing = batch.tokens == task.mask_token
    place = torch.arange(n_rows * n_columns)
    seen = rearrange(~missing, "batch (row column) -> batch row column", row=n_rows)
    known = rearrange(rectangles(seen), "batch row column -> batch (row column)")
    cases = {"all": missing}
    cases |= {f"row {row}": missing & (place // n_columns == row) for row in range(n_rows)}
    cases |= {f"column {column}": missing & (place % n_columns == column) for column in range(n_columns)}
    cases |= {_with(number): missing & (known == number) for number in range(MANY)}
    cases[_with(MANY)] = missing & (known >= MANY)
    return {case: there for case, there in cases.items() if there.any()}


def _with(number: int) -> str:
    more = " or more" if number == MANY else ""
    return f"{number}{more} rectangle{'s' * (number != 1)}"


def _shares(task: MatrixCompletion, model: HookedModel, batch: Batch) -> dict[str, list[Float[Tensor, "batch query"]]]:
    """Each head's share of attention on a query's row and column."""
    kinds = task.kinds_of_attention(batch)
    patterns = [captured_patterns(model, batch.inputs, layer=layer) for layer in range(model.cfg.n_layers)]
    return {
        f"on_{kind}": [
            (pattern[:, head] * kinds[kind]).sum(dim=-1) for pattern in patterns for head in range(pattern.shape[1])
        ]
        for kind in ("row", "column")
    }


def _mean(values: Float[Tensor, "batch cell"], there: Bool[Tensor, "batch cell"]) -> float:
    return float(values[there].mean()) if there.any() else float("nan")


def between_lines(kind: str, *, step: int) -> Quantity:
    """How much more is lost in the worst row, or column, than in the best, as a share of the plateau's loss."""

    def of(outcome: Outcome) -> float | None:
        losses = _lines(outcome, step, kind)["loss_missing"]
        return None if losses.empty else float((losses.max() - losses.min()) / WHOLE_LEVEL)

    return Quantity(f"loss of the worst {kind} less that of the best, over 1/9, step {step}", of, 3)


def n_completed(share: float, *, step: int) -> Quantity:
    """How many rows and columns have a loss below a share of the plateau's."""

    def of(outcome: Outcome) -> float | None:
        losses = _lines(outcome, step, "row", "column")["loss_missing"]
        return None if losses.empty else float((losses < share * WHOLE_LEVEL).sum())

    return Quantity(f"rows and columns with a loss below {share:g} of 1/9, step {step}", of)


def loss_with_attention(*, step: int) -> Quantity:
    """Correlation, over rows and columns, of what is lost with how much heads read along them."""

    def of(outcome: Outcome) -> float | None:
        lines = _lines(outcome, step, "row", "column")
        if len(lines) < 3:
            return None
        read = lines["on_row"].where(lines["case"].str.startswith("row"), lines["on_column"])
        return float(np.corrcoef(lines["loss_missing"], read)[0, 1])

    return Quantity(f"correlation of a line's loss with the attention along it, step {step}", of, 2)


def _lines(outcome: Outcome, step: int, *kinds: str) -> pd.DataFrame:
    rows = outcome.metrics
    if not {"case", "loss_missing"} <= set(rows):
        return pd.DataFrame(columns=["case", "loss_missing"])
    return rows[(rows["step"] == step) & rows["case"].str.startswith(tuple(f"{kind} " for kind in kinds))]


SHOWN = (BEFORE, 3500, END)
SHOULDER_STEPS = (BEFORE, 3000, 3500, 4000, 4500, END)
COMPLETED = Study(
    "completed-entries",
    SMALL,
    Added(
        partial(completed_entries, steps=SHOULDER_STEPS),
        {
            "loss_missing": Panel("Missing entries", "mean square"),
            "signs_right": Panel("Right signs", "share of entries", SHARE),
            "on_row": Panel("On the row", "share of attention", SHARE),
            "on_column": Panel("On the column", "share of attention", SHARE),
        },
    ),
    about="4x4, rank 1",
)


def shoulder_figure(outcomes: dict[str, list[Outcome]]) -> Any:
    """Cases on the plateau, in the fall and at the end."""
    some = {
        name: [Outcome(one.setting, one.seed, one.metrics[one.metrics["step"].isin(SHOWN)]) for one in ours]
        for name, ours in outcomes.items()
    }
    return cases_figure(some, ("loss_missing", "signs_right", "on_row", "on_column"))


NONE_MANY = [value_of("loss_missing", _with(number), step=END) for number in (0, MANY)]
PROTOTYPES = "seen in prototypes of 5x5 matrices, expected here"
SHOULDER = Experiment(
    name="shoulder",
    title="What is completed on the shoulder after the drop, and what is not",
    figures="nothing: it goes beyond the paper",
    settings=(COMPLETED,),
    key=(between_lines("row", step=END), COMPLETED),
    n_seeds=5,
    draws=shoulder_figure,
    table=(
        value_of("loss_missing", "all", step=END),
        value_of("signs_right", "all", step=END, digits=3),
        between_lines("row", step=END),
        between_lines("column", step=END),
    ),
    claims=(
        *(
            Claim(
                f"At the end some {kind}s are completed better than others",
                PROTOTYPES,
                Within(between_lines(kind, step=END), COMPLETED.name, low=0.25, most_seeds=True),
                "a quarter of the plateau's loss between the best and the worst; fixed before it was looked at",
            )
            for kind in ("row", "column")
        ),
        Claim(
            "What is lost along a line goes with how little heads read along it",
            "derived, an expectation",
            Within(loss_with_attention(step=END), COMPLETED.name, high=-0.5, most_seeds=True),
            "a correlation of -0.5 over rows and columns; fixed before it was looked at",
        ),
        Claim(
            "Entries that follow from many rectangles are completed better than those that follow from none",
            "derived: without a rectangle an entry follows from a longer way at best",
            Within(difference(NONE_MANY[1], NONE_MANY[0]), COMPLETED.name, high=-0.25 * WHOLE_LEVEL, most_seeds=True),
            "by a quarter of the plateau's loss; fixed before it was looked at",
        ),
        *(
            only_reported(
                f"Rows and columns that are completed at step {step}", n_completed(0.5, step=step), COMPLETED.name
            )
            for step in SHOULDER_STEPS[1:]
        ),
        *(
            only_reported(
                f"What is lost of entries with {_with(number)}",
                value_of("loss_missing", _with(number), step=END),
                COMPLETED.name,
            )
            for number in range(MANY + 1)
        ),
        only_reported("Signs that are right", value_of("signs_right", "all", step=END, digits=3), COMPLETED.name),
    ),
    notes=(
        "4,096 matrices, the same for all seeds. An entry follows from a rectangle if the three other corners are "
        "seen. A line counts as completed below half of the plateau's loss of 1/9."
    ),
)
