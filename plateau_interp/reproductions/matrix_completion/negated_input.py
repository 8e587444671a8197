"""Where the answer comes from: what heads write for X, put into the run on -X. Section 4.3."""

from collections.abc import Sequence
from functools import partial

import pandas as pd

from plateau_interp.analysis.observing import Checkpointed, captured_at
from plateau_interp.hooks import PatchActivation
from plateau_interp.interventions.attaching import intervening
from plateau_interp.reproductions.claims import Claim, Within, only_reported
from plateau_interp.reproductions.experiments import Experiment
from plateau_interp.reproductions.matrix_completion.drop import SMALL
from plateau_interp.reproductions.matrix_completion.studies import (
    BEFORE,
    END,
    WHOLE_LEVEL,
    completion_task,
    entry_losses,
    fresh_matrices,
    models_at,
)
from plateau_interp.reproductions.pictures import cases_figure
from plateau_interp.reproductions.settings import Added
from plateau_interp.reproductions.study import Study, value_of
from plateau_interp.views.panels import Panel

__all__ = ["NEGATED", "NEGATED_INPUT", "patched_into_negated"]

NOWHERE, EVERYWHERE = "no patch", "all layers"


def patched_into_negated(run: Checkpointed, *, steps: Sequence[int] | None = None, n: int = 512) -> pd.DataFrame:
    """Let a model read -X, put in what its heads write for X, and see whether it answers for X or for -X.

    Heads' outputs before the output projection, of all heads at all positions, in one layer or in all. With all layers
    patched a missing entry gets exactly what it gets for X: it sees the numbers through attention alone.

    Args:
        run: of matrix completion.
        steps: checkpoints; by default all.
        n: matrices.

    Returns:
        A row a checkpoint and ``case``, ``no patch``, ``layer 0`` and so on, ``all layers``: mean squared errors
        ``missing_to_clean`` (against X), ``missing_to_negated`` (against -X), ``observed_to_clean``,
        ``observed_to_negated``; and ``missing_to_clean_run``, the largest difference, at missing entries, to what the
        model says when it reads X.

    Raises:
        ValueError: for a run of another task, and steps that are not there.

    Source: arXiv 2410.22244, section 4.3; its code patches the last layer.

    Example:
        >>> from plateau_interp import Run
        >>> patched_into_negated(Run("runs/completion"), steps=[5000])  # doctest: +SKIP
    """
    task = completion_task(run)
    clean = fresh_matrices(task, n)
    negated = task.negated(clean)
    missing = clean.tokens == task.mask_token
    rows = []
    for step, model in models_at(run, steps):
        points = [f"blocks.{layer}.attn.hook_z" for layer in range(model.cfg.n_layers)]
        cache = {point: captured_at(model, clean.inputs, point) for point in points}
        _, answer = entry_losses(model, task, clean)
        cases = {NOWHERE: [], **{f"layer {layer}": [point] for layer, point in enumerate(points)}, EVERYWHERE: points}
        for case, patched in cases.items():
            patches = [PatchActivation(patched, cache)] if patched else []
            with intervening(model, *patches):
                to_negated, output = entry_losses(model, task, negated)
            to_clean = task.entry_losses(output, clean)
            rows.append(
                {
                    "step": step,
                    "case": case,
                    "missing_to_clean": float(to_clean.missing),
                    "missing_to_negated": to_negated["loss_missing"],
                    "observed_to_clean": float(to_clean.observed),
                    "observed_to_negated": to_negated["loss_observed"],
                    "missing_to_clean_run": float((output - answer)[..., 0][missing].abs().max()),
                }
            )
    return pd.DataFrame(rows)


ERRORS = {
    "missing_to_clean": "Missing entries, against X",
    "missing_to_negated": "Missing entries, against -X",
    "observed_to_clean": "Seen entries, against X",
    "observed_to_negated": "Seen entries, against -X",
}
NEGATED = Study(
    "negated-input",
    SMALL,
    Added(
        partial(patched_into_negated, steps=(BEFORE, END)),
        {column: Panel(title, "mean square") for column, title in ERRORS.items()},
    ),
    about="4x4, rank 1",
)
OPPOSITE = 4 * WHOLE_LEVEL
NEGATED_INPUT = Experiment(
    name="patching",
    title="What heads write for X, put into the run on -X",
    figures="section 4.3, on 4x4 matrices of rank 1",
    settings=(NEGATED,),
    key=(value_of("missing_to_clean", EVERYWHERE, step=END), NEGATED),
    n_seeds=5,
    draws=partial(cases_figure, measures=tuple(ERRORS)),
    table=tuple(value_of("missing_to_clean", case, step=END) for case in (NOWHERE, "layer 0", "layer 1", EVERYWHERE)),
    claims=(
        Claim(
            "Without a patch what is seen is copied from -X",
            "closed form, 4/9 against X",
            Within(value_of("observed_to_clean", NOWHERE, step=END), NEGATED.name, 0.95 * OPPOSITE, 1.05 * OPPOSITE),
            "5 % of the closed form",
        ),
        *(
            Claim(
                f"With all layers patched a missing entry is answered exactly as for X, step {step}",
                "derived, exact: it sees the numbers through attention alone",
                Within(
                    value_of("missing_to_clean_run", EVERYWHERE, step=step, digits=7),
                    NEGATED.name,
                    high=1e-5,
                    most_seeds=True,
                ),
                "float32's error",
            )
            for step in (BEFORE, END)
        ),
        Claim(
            "But what is seen is copied from -X all the same",
            "derived: copying runs through the residual stream and the MLPs",
            Within(value_of("observed_to_negated", EVERYWHERE, step=END), NEGATED.name, high=0.1 * OPPOSITE),
            "a tenth of what it would be if X were answered; fixed before these runs were read",
        ),
        *(
            only_reported(
                f"{ERRORS[column]}, layer {layer} patched", value_of(column, f"layer {layer}", step=END), NEGATED.name
            )
            for layer in (0, 1)
            for column in ERRORS
        ),
    ),
    notes="512 matrices; all heads and positions. The authors' code patches the last layer, here layer 1.",
)
