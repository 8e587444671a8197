"""The model beside completion by nuclear norm, at other shares of gaps and on other matrices: figures 3 and 19."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import pandas as pd
from einops import rearrange

from plateau_interp.analysis.nuclear_norm import complete_by_nuclear_norm, nuclear_norms
from plateau_interp.analysis.observing import Checkpointed
from plateau_interp.reproductions.claims import Claim, Within, only_reported
from plateau_interp.reproductions.experiments import Experiment
from plateau_interp.reproductions.matrix_completion.drop import SMALL
from plateau_interp.reproductions.matrix_completion.studies import (
    END,
    WHOLE_LEVEL,
    completion_task,
    entry_losses,
    models_at,
)
from plateau_interp.reproductions.pictures import cases_figure
from plateau_interp.reproductions.quantities import difference, over
from plateau_interp.reproductions.settings import Added
from plateau_interp.reproductions.study import Study, value_of
from plateau_interp.tasks import MatrixCompletion
from plateau_interp.training.batches import stream_generator
from plateau_interp.types import Batch
from plateau_interp.views.panels import Panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "BESIDE",
    "MASKING_LEVELS",
    "OTHER_MATRICES",
    "OUTSIDE",
    "SHARES_MISSING",
    "beside_nuclear_norm",
    "masking_levels",
    "other_kinds",
]


def masking_levels(task: MatrixCompletion, levels: Sequence[float]) -> dict[str, MatrixCompletion]:
    """The same matrices with other shares of gaps, by name.

    Example:
        >>> [*masking_levels(MatrixCompletion(), [0.1, 0.25])]
        ['10 % missing', '25 % missing']
    """
    return {f"{100 * level:g} % missing": dataclasses.replace(task, missing=level) for level in levels}


def other_kinds(task: MatrixCompletion) -> dict[str, MatrixCompletion]:
    """Matrices that the task's model can read but was not trained on, by name, the task's own first.

    Of other ranks and laws the factors are scaled so that an entry has the variance it had, and what lies beyond the
    grid is clipped. Of other shapes there are fewer rows, or fewer columns: more need positions that the model lacks.
    The position of an entry counts row by row, so that fewer columns bring every entry of later rows elsewhere.

    Raises:
        ValueError: for a task of several shapes, or of entries of full rank.

    Example:
        >>> kinds = other_kinds(MatrixCompletion())
        >>> {round(kind.variance, 6) for kind in kinds.values()}
        {0.111111}
    """
    if len(task.shapes) > 1 or task.entries == "full rank":
        raise ValueError(f"the task must have one shape, and factors; got {task}")
    of_factor = {"uniform": 1 / 3, "normal": 1.0, "laplace": 2.0}
    n_rows, n_columns = task.shapes[0]

    def changed(**fields: Any) -> MatrixCompletion:
        other = dataclasses.replace(task, largest=task.bound, **fields)
        # variance = rank (scale² of_factor)², to be that of the task
        scale = ((task.variance / other.rank) ** 0.5 / of_factor[other.entries]) ** 0.5
        return dataclasses.replace(other, scale=scale)

    kinds = {"as trained": task}
    kinds |= {f"rank {rank}": changed(rank=rank) for rank in (1, 2, 3) if rank != task.rank}
    kinds |= {f"{rows} rows": changed(shapes=((rows, n_columns),)) for rows in (n_rows - 1, n_rows - 2) if rows > 1}
    kinds |= {f"{n} columns": changed(shapes=((n_rows, n),)) for n in (n_columns - 1, n_columns - 2) if n > 1}
    return kinds | {law: changed(entries=law) for law in ("uniform", "normal", "laplace") if law != task.entries}


def beside_nuclear_norm(
    run: Checkpointed,
    kinds: Mapping[str, MatrixCompletion],
    *,
    steps: Sequence[int] | None = None,
    n: int = 128,
) -> pd.DataFrame:
    """Let a model complete matrices of several kinds, and nuclear-norm minimisation the same ones.

    Args:
        run: of matrix completion.
        kinds: tasks with the run's grid, by name; see `masking_levels` and `other_kinds`.
        steps: checkpoints; by default all.
        n: matrices of each kind; those of which nothing is seen are left out.

    Returns:
        A row a checkpoint and ``case``, a kind: the model's ``loss``, ``loss_observed`` and ``loss_missing``, and those
        of the other, ``loss_nuclear`` and ``loss_missing_nuclear`` (it says exactly what is seen); mean nuclear norms
        ``norm``, ``norm_nuclear`` and ``norm_true``.

    Raises:
        ValueError: for a run of another task, or kinds with another vocabulary or larger matrices.
        ModuleNotFoundError: without the extra ``convex``.

    Source: arXiv 2410.22244, figures 3 and 19.

    Example:
        >>> from plateau_interp import Run
        >>> run = Run("runs/completion")  # doctest: +SKIP
        >>> beside_nuclear_norm(run, masking_levels(run.task, [0.1, 0.3]), steps=[5000])  # doctest: +SKIP
    """
    task = completion_task(run)
    drawn: dict[str, tuple[MatrixCompletion, Batch, dict[str, float]]] = {}
    for name, kind in kinds.items():
        if kind.d_vocab != task.d_vocab or kind.n_pos > task.n_pos:
            raise ValueError(
                f"{name} has {kind.d_vocab} tokens and {kind.n_pos} entries, the run's task {task.d_vocab} and "
                f"{task.n_pos}: its model cannot read that"
            )
        drawn[name] = (kind, *_completed(kind, n))
    rows = []
    for step, model in models_at(run, steps):
        for name, (kind, batch, beside) in drawn.items():
            losses, output = entry_losses(model, kind, batch)
            said = rearrange(output, "batch (row column) 1 -> batch row column", row=kind.shapes[0][0])
            norm = {"norm": float(nuclear_norms(said).mean())}
            rows.append({"step": step, "case": name, **losses, **norm, **beside})
    return pd.DataFrame(rows)


@lru_cache(maxsize=64)
def _completed(kind: MatrixCompletion, n: int) -> tuple[Batch, dict[str, float]]:
    """Matrices of a kind and how nuclear norm completes them: the same for every run, and dear."""
    matrices, seen = kind.draw_matrices(n, kind.shapes[0], generator=stream_generator(0, "studies of completion", 6))
    some = seen.any(dim=(1, 2))
    truth, seen = kind.rounded(matrices)[some], seen[some]
    filled = complete_by_nuclear_norm(truth, seen)
    square = (filled - truth).square()
    beside = {
        "loss_nuclear": float(square.mean()),
        "loss_missing_nuclear": float(square[~seen].mean()),
        "norm_nuclear": float(nuclear_norms(filled).mean()),
        "norm_true": float(nuclear_norms(truth).mean()),
    }
    return kind.batch(truth, seen), beside


TICKS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
SHARES_MISSING = [round(0.1 + 0.05 * i, 2) for i in range(11)]
BESIDE_PANELS = {
    "loss": Panel("The model", "mean square"),
    "loss_nuclear": Panel("Nuclear norm", "mean square"),
    "norm": Panel("Nuclear norm of what the model says", "sum of singular values"),
    "norm_nuclear": Panel("Least nuclear norm", "sum of singular values"),
}


def _levels(run: Checkpointed, *, shares: Sequence[float], steps: Sequence[int]) -> pd.DataFrame:
    table = beside_nuclear_norm(run, masking_levels(completion_task(run), shares), steps=steps)
    return table.assign(missing=table["case"].str.split().str[0].astype(float))


def _kinds(run: Checkpointed, *, steps: Sequence[int], n: int) -> pd.DataFrame:
    return beside_nuclear_norm(run, other_kinds(completion_task(run)), steps=steps, n=n)


def levels_figure(outcomes: dict[str, list[Any]]) -> "Figure":
    """Losses and nuclear norms over the share of gaps: a thin line a seed, nuclear-norm minimisation in grey."""
    import matplotlib
    from matplotlib.figure import Figure

    from plateau_interp.views.labels import legend_below
    from plateau_interp.views.theme import LIGHT, figure_style

    told = {
        "mean square over all entries": {"loss": LIGHT.accent, "loss_nuclear": LIGHT.muted},
        "nuclear norm": {"norm": LIGHT.accent, "norm_nuclear": LIGHT.muted, "norm_true": LIGHT.ink},
    }
    with matplotlib.rc_context(figure_style()):
        figure = Figure(figsize=(8, 3.2), layout="constrained")
        for axes, (unit, columns) in zip(figure.subplots(ncols=2), told.items(), strict=True):
            for column, colour in columns.items():
                for outcome in outcomes[BESIDE.name]:
                    rows = outcome.metrics
                    style = ":" if column == "norm_true" else "-"
                    axes.plot(rows["missing"], rows[column], style, color=colour, linewidth=0.9, alpha=0.8)
            axes.axvline(30, color=LIGHT.muted, linewidth=0.8, linestyle=":")
            axes.set(xlabel="missing entries (per cent)", ylabel=unit)
        losses = figure.axes[0]
        losses.set(yscale="log")
        losses.set_yticks(TICKS, [f"{tick:g}" for tick in TICKS])
        losses.minorticks_off()
        lines = [
            matplotlib.lines.Line2D([], [], color=LIGHT.accent),
            matplotlib.lines.Line2D([], [], color=LIGHT.muted),
        ]
        lines.append(matplotlib.lines.Line2D([], [], color=LIGHT.ink, linestyle=":"))
        legend_below(figure, lines, ["the model, trained at 30 %", "least nuclear norm", "the true matrices"])
        return figure


BESIDE = Study(
    "masking-levels",
    SMALL,
    Added(partial(_levels, shares=SHARES_MISSING, steps=(END,)), BESIDE_PANELS),
    about="4x4, rank 1",
)
AS_SHOWN = "30 % missing"
NUCLEAR = "the extra `convex` (CVXPY and Clarabel)"


def _at(column: str, case: str) -> Any:
    return value_of(column, case, step=END)


MASKING_LEVELS = Experiment(
    name="fig3",
    title="The model beside completion by nuclear norm, over shares of gaps",
    figures="figure 3, on 4x4 matrices of rank 1",
    settings=(BESIDE,),
    key=(
        over(_at("loss", AS_SHOWN), _at("loss_nuclear", AS_SHOWN), "loss over that of nuclear norm, 30 % missing"),
        BESIDE,
    ),
    n_seeds=5,
    needs=NUCLEAR,
    draws=levels_figure,
    table=tuple(_at(column, AS_SHOWN) for column in ("loss", "loss_nuclear", "norm", "norm_nuclear", "norm_true")),
    claims=(
        Claim(
            "At the share that it was trained on the model's loss is below that of nuclear norm",
            "figure 3, told by its caption",
            Within(
                difference(_at("loss", AS_SHOWN), _at("loss_nuclear", AS_SHOWN)),
                BESIDE.name,
                high=0,
                most_seeds=True,
            ),
            "below, by whatever",
        ),
        Claim(
            "What it says has a larger nuclear norm than the least",
            "figure 3, told by its caption",
            Within(
                over(
                    _at("norm", AS_SHOWN),
                    _at("norm_nuclear", AS_SHOWN),
                    "nuclear norm over the least, 30 % missing",
                ),
                BESIDE.name,
                low=1.03,
            ),
            "3 % more than the least; fixed before these runs were read",
        ),
        Claim(
            "The least nuclear norm is no larger than that of the true matrices",
            "closed form: these are among those it is the least of",
            Within(difference(_at("norm_nuclear", AS_SHOWN), _at("norm_true", AS_SHOWN)), BESIDE.name, high=1e-4),
            "the solver's error",
        ),
        *(
            only_reported(
                f"Loss over that of nuclear norm, {case}",
                over(_at("loss", case), _at("loss_nuclear", case), "ratio of losses"),
                BESIDE.name,
            )
            for case in ("10 % missing", "20 % missing", "40 % missing", "50 % missing", "60 % missing")
        ),
    ),
    notes=(
        "The model of the end, 128 matrices a level, the same for all seeds. Nuclear norm with what is seen given "
        "exactly, solved by Clarabel; which solver the paper used is not known."
    ),
)

OUTSIDE = Study(
    "other-matrices", SMALL, Added(partial(_kinds, steps=(END,), n=256), BESIDE_PANELS), about="4x4, rank 1"
)
AS_TRAINED = "as trained"
FEWER = ("3 rows", "3 columns")
HURTS = "a tenth of 1/9; fixed before these runs were read"
OTHER_MATRICES = Experiment(
    name="fig19",
    title="The model on matrices that it was not trained on: other ranks, shapes and laws",
    figures="figure 19, on 4x4 matrices of rank 1",
    settings=(OUTSIDE,),
    key=(difference(*(_at("loss_missing", case) for case in reversed(FEWER))), OUTSIDE),
    n_seeds=5,
    needs=NUCLEAR,
    draws=partial(cases_figure, measures=("loss", "loss_nuclear", "norm", "norm_nuclear")),
    table=tuple(_at("loss_missing", case) for case in (AS_TRAINED, "rank 2", *FEWER, "normal", "laplace")),
    claims=(
        Claim(
            "Fewer columns hurt more than fewer rows: positions count row by row",
            "figure 19, told by its caption",
            Within(
                difference(*(_at("loss_missing", case) for case in reversed(FEWER))),
                OUTSIDE.name,
                low=0.1 * WHOLE_LEVEL,
                most_seeds=True,
            ),
            HURTS,
        ),
        *(
            Claim(
                f"With {case} the model is close to nuclear norm",
                "figure 19, told by its caption",
                Within(
                    over(_at("loss", case), _at("loss_nuclear", case), f"ratio of losses, {case}"),
                    OUTSIDE.name,
                    high=1.25,
                ),
                "within a quarter; the bound is ours",
            )
            for case in ("rank 2", "3 rows")
        ),
        *(
            only_reported(f"Missing entries, {case}: {who}", _at(column, case), OUTSIDE.name)
            for case in other_kinds(MatrixCompletion())
            for who, column in (("the model", "loss_missing"), ("nuclear norm", "loss_missing_nuclear"))
        ),
    ),
    notes=(
        "256 matrices of each kind, none of them trained on. Factors of other ranks and laws are scaled so that an "
        "entry has the variance of training, 1/9; what lies beyond the grid is clipped. Larger matrices need positions "
        "that this model lacks. The paper's values of ranks, rows and columns are not known."
    ),
)
