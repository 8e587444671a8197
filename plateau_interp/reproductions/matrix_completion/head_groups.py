"""Which heads carry the answer: groups of them ablated (section 4.2), and what they read under structured gaps."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby, product
from typing import Any, Literal

import pandas as pd
import torch
from jaxtyping import Bool
from torch import Tensor

from plateau_interp.analysis.observing import Checkpointed, captured_patterns
from plateau_interp.hooks import AblateHeads
from plateau_interp.interventions.attaching import intervening
from plateau_interp.metrics import head_shares
from plateau_interp.reproductions.claims import Claim, Within, only_reported
from plateau_interp.reproductions.experiments import Experiment
from plateau_interp.reproductions.matrix_completion.drop import SMALL
from plateau_interp.reproductions.matrix_completion.studies import (
    BEFORE,
    END,
    LOSSES,
    WHOLE_LEVEL,
    completion_task,
    entry_losses,
    fresh_matrices,
    models_at,
)
from plateau_interp.reproductions.pictures import cases_figure
from plateau_interp.reproductions.quantities import Quantity, difference
from plateau_interp.reproductions.settings import Added, Outcome
from plateau_interp.reproductions.study import Study, value_of
from plateau_interp.tasks import MatrixCompletion
from plateau_interp.training.batches import stream_generator
from plateau_interp.types import Batch
from plateau_interp.views.panels import SHARE, Panel

__all__ = [
    "ABLATED",
    "HEADS_ABLATED",
    "STRUCTURED",
    "STRUCTURED_GAPS",
    "ablated_groups",
    "hidden_rows",
    "structured_attention",
]

Head = tuple[int, int]
ABLATIONS: tuple[Literal["uniform", "mean"], ...] = ("uniform", "mean")
LINES, OTHERS, EVERY = "row and column heads", "all other heads", "all heads"


def ablated_groups(run: Checkpointed, *, steps: Sequence[int] | None = None, n: int = 1024) -> pd.DataFrame:
    """Take the information out of groups of heads together, and see what it costs.

    Groups are found from the shares of attention at the last checkpoint, `MatrixCompletion.head_groups`: heads that
    read mainly their row, their column, either, all others, and all; an empty group has no row.

    Args:
        run: of matrix completion.
        steps: checkpoints; by default all.
        n: matrices.

    Returns:
        A row a checkpoint and ``case``, ``whole model`` or a group with ``uniform`` (each query reads all keys alike)
        or ``mean`` (the pattern's mean over the matrices, so that what depends on position alone stays): ``loss``,
        ``loss_observed``, ``loss_missing``, and ``n_heads``, how many were ablated.

    Raises:
        ValueError: for a run of another task, and steps that are not there.

    Source: arXiv 2410.22244, section 4.2; a name and a commented-out line of the authors' code say
        uniform, what runs takes the mean.

    Example:
        >>> from plateau_interp import Run
        >>> ablated_groups(Run("runs/completion"), steps=[5000])  # doctest: +SKIP
    """
    task, last = completion_task(run), run.model()
    batch = fresh_matrices(task, n)
    measured = task.measures(last, generator=stream_generator(0, "studies of completion", 2))
    read = task.head_groups({name: float(value) for name, value in measured.items()})
    every = set(product(range(last.cfg.n_layers), range(last.cfg.n_heads)))
    lines = {*read["row"], *read["column"]}
    groups = {"row heads": {*read["row"]}, "column heads": {*read["column"]}, LINES: lines, OTHERS: every - lines}
    groups[EVERY] = every
    rows: list[dict[str, Any]] = []
    for step, model in models_at(run, steps):
        rows.append({"step": step, "case": "whole model", "n_heads": 0, **entry_losses(model, task, batch)[0]})
        for (name, heads), by in product(groups.items(), ABLATIONS):
            if not heads:
                continue
            with intervening(model, *_ablations(heads, by)):
                losses, _ = entry_losses(model, task, batch)
            rows.append({"step": step, "case": f"{name}, {by}", "n_heads": len(heads), **losses})
    return pd.DataFrame(rows)


def _ablations(heads: set[Head], by: Literal["uniform", "mean"]) -> list[AblateHeads]:
    """One for each layer that has some of the heads."""
    by_layer = groupby(sorted(heads), key=lambda place: place[0])
    return [AblateHeads([head for _, head in places], layers=[layer], by=by) for layer, places in by_layer]


def hidden_rows(shape: tuple[int, int], kept: Mapping[int, int]) -> Bool[Tensor, "row column"]:
    """Which entries are seen where some rows are hidden but for one entry each.

    Args:
        shape: rows and columns.
        kept: for each hidden row the column that stays seen; negative numbers count from the end.

    Raises:
        ValueError: for a row or column that there is not.

    Source: arXiv 2410.22244, figure 23, authors' code: in 7x7 ``{3: 1, 6: 5}``.

    Example:
        >>> hidden_rows((2, 3), {1: 0}).int().tolist()
        [[1, 1, 1], [1, 0, 0]]
    """
    n_rows, n_columns = shape
    if not all(-n_rows <= row < n_rows and -n_columns <= column < n_columns for row, column in kept.items()):
        raise ValueError(f"kept must name rows and columns of a {n_rows}x{n_columns} matrix; got {dict(kept)}")
    seen = torch.ones(shape, dtype=torch.bool)
    for row, column in kept.items():
        seen[row] = False
        seen[row, column] = True
    return seen


def structured_attention(
    run: Checkpointed, *, kept: Mapping[int, int], steps: Sequence[int] | None = None, n: int = 256
) -> pd.DataFrame:
    """What each head reads for a missing entry, where the same entries are hidden in every matrix.

    Args:
        run: of matrix completion.
        kept: see `hidden_rows`; the columns are hidden by the transpose.
        steps: checkpoints; by default all.
        n: matrices.

    Returns:
        A row a checkpoint and ``case``, such as ``rows hidden, head 0.1`` (layer 0, head 1): the share of its
        attention, mean over missing entries and matrices, ``on_row``, on what is seen of the entry's row, and
        ``on_column``; ``on_observed``, on all that is seen; ``chance`` is the share of keys that are seen in row or
        column, both together.

    Raises:
        ValueError: for a run of another task, a matrix that is not square, and as `hidden_rows`.

    Source: arXiv 2410.22244, figure 23.

    Example:
        >>> from plateau_interp import Run
        >>> structured_attention(Run("runs/completion"), kept={1: 0, 3: 2}, steps=[5000])  # doctest: +SKIP
    """
    task = completion_task(run)
    shape = task.shapes[0]
    if shape[0] != shape[1]:
        raise ValueError(f"rows and columns are hidden alike: the matrices must be square; got {shape}")
    matrices, _ = task.draw_matrices(n, shape, generator=stream_generator(0, "studies of completion", 3))
    seen = hidden_rows(shape, kept)
    batches = {
        what: task.batch(matrices, there.expand(n, *shape))
        for what, there in (("rows hidden", seen), ("columns hidden", seen.T))
    }
    rows = []
    for (step, model), (what, batch) in product(models_at(run, steps), batches.items()):
        for layer in range(model.cfg.n_layers):
            patterns = captured_patterns(model, batch.inputs, layer=layer)
            rows += [{"step": step, "case": f"{what}, head {layer}.{head}", **shares}
                     for head, shares in enumerate(_shares_of_missing(task, batch, patterns))]  # fmt: skip
    return pd.DataFrame(rows)


def _shares_of_missing(task: MatrixCompletion, batch: Batch, patterns: Tensor) -> list[dict[str, float]]:
    """Of each head, for the queries that are missing in every matrix alike."""
    missing = batch.tokens[0] == task.mask_token
    kinds = task.kinds_of_attention(batch)
    seen = kinds["observed"][:1, missing]
    keys = {
        "on_row": kinds["row"][:, missing] & seen,
        "on_column": kinds["column"][:, missing] & seen,
        "on_observed": seen,
    }
    of_heads = {name: head_shares(patterns[:, :, missing], there).mean(dim=0).tolist() for name, there in keys.items()}
    chance = float((keys["on_row"] | keys["on_column"]).float().mean())
    return [
        {**{name: shares[head] for name, shares in of_heads.items()}, "chance": chance}
        for head in range(patterns.shape[1])
    ]


def most_of_a_head(column: str, what: str, *, step: int) -> Quantity:
    """The largest share that a head has, of `structured_attention`."""

    def of(outcome: Outcome) -> float | None:
        rows = outcome.metrics
        there = rows.loc[(rows["step"] == step) & rows["case"].str.startswith(what), column]
        return None if there.empty else float(there.max())

    return Quantity(f"largest share {column.replace('_', ' ')}, {what}, step {step}", of, 2)


ABLATED = Study(
    "heads-ablated", SMALL, Added(partial(ablated_groups, steps=(BEFORE, END)), LOSSES), about="4x4, rank 1"
)
REVERTS = "nine tenths of 1/9, the level of saying 0; fixed before these runs were read"


def of_missing(case: str, step: int = END) -> Quantity:
    """The loss of missing entries in a case of `ablated_groups`."""
    return value_of("loss_missing", case, step=step)


HEADS_ABLATED = Experiment(
    name="ablation",
    title="Heads that read rows and columns, taken away",
    figures="section 4.2, on 4x4 matrices of rank 1",
    settings=(ABLATED,),
    key=(of_missing(f"{LINES}, uniform"), ABLATED),
    n_seeds=5,
    draws=partial(cases_figure, measures=("loss_missing", "loss_observed")),
    table=tuple(of_missing(case) for case in ("whole model", f"{LINES}, uniform", f"{OTHERS}, uniform")),
    claims=(
        *(
            Claim(
                f"With {group} reading everything alike, missing entries are lost again",
                "derived, an expectation",
                Within(of_missing(f"{group}, uniform"), ABLATED.name, low=0.9 * WHOLE_LEVEL, most_seeds=True),
                REVERTS,
            )
            for group in (LINES, EVERY)
        ),
        Claim(
            "Row and column heads matter more than all others together",
            "derived, an expectation",
            Within(difference(of_missing(f"{LINES}, uniform"), of_missing(f"{OTHERS}, uniform")), ABLATED.name, low=0),
            "that there is more loss at all",
        ),
        Claim(
            "On the plateau attention has no part in copying: with all heads reading everything alike it goes on",
            "derived, an expectation",
            Within(value_of("loss_observed", f"{EVERY}, uniform", step=BEFORE), ABLATED.name, high=0.01),
            "0.01, a tenth of 1/9; fixed before these runs were read",
        ),
        *(
            only_reported(what, quantity, ABLATED.name)
            for what, quantity in (
                (
                    "What is seen, with all heads uniform at the end",
                    value_of("loss_observed", f"{EVERY}, uniform", step=END),
                ),
                ("Row heads uniform", of_missing("row heads, uniform")),
                ("Column heads uniform", of_missing("column heads, uniform")),
                ("Row and column heads at their mean pattern", of_missing(f"{LINES}, mean")),
                ("All other heads at their mean pattern", of_missing(f"{OTHERS}, mean")),
                ("All heads at their mean pattern", of_missing(f"{EVERY}, mean")),
                ("Row and column heads", value_of("n_heads", f"{LINES}, uniform", step=END, digits=0)),
            )
        ),
    ),
    notes=(
        "Groups are found at the end of each run, and ablated on the plateau, too. Which ablation made the paper's "
        "table is not known: a name and a commented-out line of its code say that each query reads all keys alike, "
        "what runs takes the mean pattern over the matrices, which leaves what depends on position alone."
    ),
)

STRUCTURED = Study(
    "structured-gaps",
    SMALL,
    Added(
        partial(structured_attention, kept={1: 0, 3: 2}, steps=(BEFORE, END)),
        {
            "on_row": Panel("On what is seen of the row", "share of attention", SHARE),
            "on_column": Panel("On what is seen of the column", "share of attention", SHARE),
            "on_observed": Panel("On all that is seen", "share of attention", SHARE),
        },
    ),
    about="4x4, rank 1",
)
HIDDEN = {"rows hidden": "on_column", "columns hidden": "on_row"}
STRUCTURED_GAPS = Experiment(
    name="fig23",
    title="What heads read for a missing entry when whole rows, or columns, are hidden",
    figures="figure 23, on 4x4 matrices of rank 1",
    settings=(STRUCTURED,),
    key=(most_of_a_head("on_column", "rows hidden", step=END), STRUCTURED),
    n_seeds=5,
    draws=partial(cases_figure, measures=("on_row", "on_column", "on_observed")),
    table=tuple(most_of_a_head(column, what, step=step) for step in (BEFORE, END) for what, column in HIDDEN.items()),
    claims=(
        *(
            Claim(
                f"After the drop some head reads mainly what is seen across, {what}",
                "figure 23, third parties' description (low trust)",
                Within(most_of_a_head(column, what, step=END), STRUCTURED.name, low=0.5, most_seeds=True),
                "half of its attention, where chance is 0.15",
            )
            for what, column in HIDDEN.items()
        ),
        *(
            Claim(
                f"On the plateau none does, {what}",
                "figure 22, told by its caption: maps show no structure before the drop",
                Within(most_of_a_head(column, what, step=BEFORE), STRUCTURED.name, high=0.35, most_seeds=True),
                "about twice chance, which is 0.15; fixed before these runs were read",
            )
            for what, column in HIDDEN.items()
        ),
        *(
            only_reported(
                f"The one entry that is seen along the line, {what}",
                most_of_a_head(column, what, step=END),
                STRUCTURED.name,
            )
            for what, column in (("rows hidden", "on_row"), ("columns hidden", "on_column"))
        ),
        *(
            only_reported(f"All that is seen, {what}", most_of_a_head("on_observed", what, step=END), STRUCTURED.name)
            for what in HIDDEN
        ),
    ),
    notes=(
        "Rows 1 and 3 (counted from 0) are hidden but for entries (1, 0) and (3, 2), in every matrix; or the same of "
        "columns, which the authors' code announces and lacks. Shares are of missing entries alone."
    ),
)
