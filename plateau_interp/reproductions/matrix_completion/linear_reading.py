"""What can be read off the hidden states by one matrix: the entry, its row, the singular vector. Figure 6."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import pandas as pd
import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from plateau_interp.analysis.linear_probes import read_linearly
from plateau_interp.analysis.observing import Checkpointed, captured_at
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
from plateau_interp.reproductions.quantities import difference
from plateau_interp.reproductions.settings import Added
from plateau_interp.reproductions.study import Study, value_of
from plateau_interp.tasks import MatrixCompletion
from plateau_interp.types import Batch
from plateau_interp.views.panels import SHARE, Panel

__all__ = ["LINEAR_READING", "STATES_READ", "ProbeTargets", "linear_readings", "probe_targets"]

EMBEDDED = "embeddings"


class ProbeTargets(NamedTuple):
    """What a probe is to read at each entry."""

    element: Float[Tensor, "batch pos 1"]
    """The entry itself, seen or missing."""
    row: Float[Tensor, "batch pos column"]
    """Its row, 0 where an entry is missing."""
    vector: Float[Tensor, "batch pos row"]
    """The first left singular vector of the whole matrix, the same at all entries; its sign is arbitrary."""


def probe_targets(task: MatrixCompletion, batch: Batch) -> ProbeTargets:
    """The three targets of figure 6.

    Example:
        >>> task = MatrixCompletion(shapes=((2, 2),))
        >>> matrix, seen = torch.tensor([[[0.3, 0.0], [0.4, 0.0]]]), torch.tensor([[[True, True], [False, True]]])
        >>> targets = probe_targets(task, task.batch(matrix, seen))
        >>> targets.row[0, :, 0].tolist(), [round(value, 3) for value in targets.vector[0, 0].abs().tolist()]
        ([0.30000001192092896, 0.30000001192092896, 0.0, 0.0], [0.6, 0.8])
    """
    n_rows, n_columns = task.shape_of(batch)
    shown = batch.labels.masked_fill(batch.tokens == task.mask_token, 0.0)
    matrices = rearrange(batch.labels, "batch (row column) -> batch row column", row=n_rows)
    return ProbeTargets(
        element=rearrange(batch.labels, "batch pos -> batch pos 1"),
        row=repeat(shown, "batch (row column) -> batch (row again) column", row=n_rows, again=n_columns),
        vector=repeat(torch.linalg.svd(matrices)[0][:, :, 0], "batch row -> batch pos row", pos=n_rows * n_columns),
    )


def linear_readings(
    run: Checkpointed, *, steps: Sequence[int] | None = None, n_train: int = 2048, n_test: int = 256
) -> pd.DataFrame:
    """Fit a matrix that reads an entry, its row, or the singular vector off the states after each layer.

    States are normalised, as the next layer reads them; every entry of a matrix is a sample.

    Args:
        run: of matrix completion, with an encoder.
        steps: checkpoints; by default all.
        n_train: matrices to fit on.
        n_test: others, to score on.

    Returns:
        A row a checkpoint and ``case``, such as ``row, layer 1`` (``embeddings`` is what the first layer reads):
        ``error``, the mean squared error; ``error_missing`` and ``error_observed``, of entries of either kind;
        ``cosine``, the mean absolute cosine of row and vector.

    Raises:
        ValueError: for a run of another task, and steps that are not there.

    Source: arXiv 2410.22244, figure 6, authors' code.

    Example:
        >>> from plateau_interp import Run
        >>> linear_readings(Run("runs/completion"), steps=[5000])  # doctest: +SKIP
    """
    task = completion_task(run)
    fitted, others = fresh_matrices(task, n_train, number=4), fresh_matrices(task, n_test, number=5)
    targets, unseen = probe_targets(task, fitted), probe_targets(task, others)
    missing = rearrange(others.tokens == task.mask_token, "batch pos -> (batch pos)")
    rows = []
    for step, model in models_at(run, steps):
        places = {EMBEDDED: "hook_full_embed"}
        places |= {
            f"layer {layer}": f"blocks.{layer}.hook_normalized_resid_post" for layer in range(model.cfg.n_layers)
        }
        for place, point in places.items():
            states, unseen_states = (_samples(captured_at(model, each.inputs, point)) for each in (fitted, others))
            for name, known, asked in zip(ProbeTargets._fields, targets, unseen, strict=True):
                target = _samples(asked)
                found = read_linearly(states, _samples(known), unseen_states=unseen_states, unseen_targets=target)
                square = (found.read - target).square().mean(dim=1)
                rows.append(
                    {
                        "step": step,
                        "case": f"{name}, {place}",
                        "error": found.error,
                        "error_missing": float(square[missing].mean()),
                        "error_observed": float(square[~missing].mean()),
                        "cosine": None if name == "element" else found.cosine,
                    }
                )
    return pd.DataFrame(rows)


def _samples(values: Float[Tensor, "batch pos feature"]) -> Float[Tensor, "sample feature"]:
    return rearrange(values, "batch pos feature -> (batch pos) feature")


STATES_READ = Study(
    "linear-reading",
    SMALL,
    Added(
        partial(linear_readings, steps=(BEFORE, END)),
        {
            "error": Panel("Error", "mean square"),
            "error_missing": Panel("At missing entries", "mean square"),
            "cosine": Panel("Direction", "mean absolute cosine", SHARE),
        },
    ),
    about="4x4, rank 1",
)
LAST = "layer 1"
ROW_AT_END, ROW_BEFORE = (value_of("cosine", f"row, {LAST}", step=step, digits=3) for step in (END, BEFORE))
LINEAR_READING = Experiment(
    name="fig6",
    title="What a linear probe reads off the states: the entry, its row, the singular vector",
    figures="figure 6, on 4x4 matrices of rank 1",
    settings=(STATES_READ,),
    key=(ROW_AT_END, STATES_READ),
    n_seeds=5,
    draws=partial(cases_figure, measures=("error", "error_missing", "cosine")),
    table=tuple(
        value_of("cosine", f"row, {place}", step=step, digits=3)
        for step in (BEFORE, END)
        for place in (EMBEDDED, "layer 0", LAST)
    ),
    claims=(
        Claim(
            "An entry's row is read best late in the model",
            "figure 6, told by its caption: layers 3 and 4",
            Within(difference(ROW_AT_END, value_of("cosine", f"row, {EMBEDDED}", step=END)), STATES_READ.name, low=0.1),
            "a difference that is seen in a figure; the bound is ours",
        ),
        Claim(
            "And better after the drop than on the plateau",
            "an expectation of ours: rows are read by the heads that come with it",
            Within(difference(ROW_AT_END, ROW_BEFORE), STATES_READ.name, low=0.1),
            "a difference that is seen in a figure; the bound is ours",
        ),
        Claim(
            "On the plateau nothing is known of a missing entry",
            "an expectation of ours",
            Within(value_of("error_missing", f"element, {LAST}", step=BEFORE), STATES_READ.name, low=0.9 * WHOLE_LEVEL),
            "nine tenths of 1/9, the level of saying 0",
        ),
        Claim(
            "After the drop something is",
            "derived: the read-out is such a probe",
            Within(value_of("error_missing", f"element, {LAST}", step=END), STATES_READ.name, high=0.75 * WHOLE_LEVEL),
            "three quarters of 1/9, what the drop itself is known by",
        ),
        *(
            only_reported(
                f"Cosine of the {name} at {place}, step {step}",
                value_of("cosine", f"{name}, {place}", step=step, digits=3),
                STATES_READ.name,
            )
            for name in ("row", "vector")
            for step in (BEFORE, END)
            for place in (EMBEDDED, "layer 0", LAST)
        ),
    ),
    notes=(
        "Least squares without bias or regularisation on 2,048 matrices, scored on 256 others; every entry is a "
        "sample. The paper probes a model of 12 layers, and not its embeddings. The sign of a singular vector is "
        "arbitrary, so that a linear probe of it can do little; for a direction drawn at random in four dimensions "
        "the mean absolute cosine is 0.42."
    ),
)
