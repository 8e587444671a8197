"""Components of the plateau's model in that of the end, and the other way round. Section 4.4."""

import copy
from collections.abc import Callable
from functools import partial

import pandas as pd

from plateau_interp.analysis.observing import Checkpointed
from plateau_interp.hooks import transplant_weights_
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
from plateau_interp.reproductions.settings import Added
from plateau_interp.reproductions.study import Study, value_of

__all__ = ["COMPONENTS", "COMPONENTS_SWAPPED", "SWAPPED", "swapped_components"]


def _is_scores(name: str) -> bool:
    return name.rsplit(".", 1)[-1] in ("W_Q", "b_Q", "W_K", "b_K", "W_V", "b_V")


def _is_outside_attention(name: str) -> bool:
    # In the authors' names the output projection and the norm after attention have "attention" in them, too.
    return ".attn." not in name and ".ln1." not in name


COMPONENTS: dict[str, str | Callable[[str], bool]] = {
    "attention": "attention layers",
    "MLPs": "mlp layers",
    "token embedding": "token embedding",
    "position embedding": "position embedding",
    "read-out": "read-out",
    "attention as released": _is_scores,
    "MLPs as released": _is_outside_attention,
}
"""Components and their parameters: the strict ones, then the two of the authors' code.

Theirs are queries, keys and values; and all that is not attention, embeddings and read-out among it. So the output
projection and the norm after attention never move.
"""
EARLY_IN_LATE, LATE_IN_EARLY = "of the plateau in the end", "of the end in the plateau"


def swapped_components(run: Checkpointed, *, before: int, after: int, n: int = 1024) -> pd.DataFrame:
    """Put each component of one checkpoint into the model of another, both ways.

    Args:
        run: of matrix completion.
        before: checkpoint on the plateau.
        after: checkpoint after the drop.
        n: matrices.

    Returns:
        A row a ``case``, such as ``attention of the plateau in the end``: ``loss``, ``loss_observed`` and
        ``loss_missing``; ``step`` is that of the model that gets the component. ``whole model`` is either as it is.

    Raises:
        ValueError: for a run of another task, and steps that are not there.

    Source: arXiv 2410.22244, section 4.4.

    Example:
        >>> from plateau_interp import Run
        >>> swapped_components(Run("runs/completion"), before=2000, after=5000)  # doctest: +SKIP
    """
    task = completion_task(run)
    batch = fresh_matrices(task, n)
    models = dict(models_at(run, [before, after]))
    rows = []
    for giver, getter, way in ((before, after, EARLY_IN_LATE), (after, before, LATE_IN_EARLY)):
        rows.append({"step": getter, "case": "whole model", **entry_losses(models[getter], task, batch)[0]})
        for component, where in COMPONENTS.items():
            mixed = copy.deepcopy(models[getter])
            transplant_weights_(mixed, models[giver], where=where)
            rows.append({"step": getter, "case": f"{component} {way}", **entry_losses(mixed, task, batch)[0]})
    return pd.DataFrame(rows)


SWAPPED = Study(
    "components-swapped",
    SMALL,
    Added(partial(swapped_components, before=BEFORE, after=END), LOSSES),
    about="4x4, rank 1",
)
LOST = "nine tenths of 1/9, the level of saying 0; fixed before these runs were read"
COMPONENTS_SWAPPED = Experiment(
    name="swapping",
    title="Components of the plateau in the model of the end, and the other way round",
    figures="section 4.4, on 4x4 matrices of rank 1",
    settings=(SWAPPED,),
    key=(value_of("loss_missing", f"attention {EARLY_IN_LATE}", step=END), SWAPPED),
    n_seeds=5,
    draws=partial(cases_figure, measures=("loss_missing", "loss_observed")),
    table=tuple(
        value_of("loss_missing", f"{component} {way}", step=step)
        for component in ("attention", "MLPs")
        for way, step in ((EARLY_IN_LATE, END), (LATE_IN_EARLY, BEFORE))
    ),
    claims=(
        Claim(
            "With the plateau's attention the model of the end completes nothing",
            "an expectation of ours: heads that read rows and columns are what it has learnt",
            Within(
                value_of("loss_missing", f"attention {EARLY_IN_LATE}", step=END),
                SWAPPED.name,
                low=0.9 * WHOLE_LEVEL,
                most_seeds=True,
            ),
            LOST,
        ),
        *(
            Claim(
                f"With the {component} of the end the model of the plateau completes nothing yet",
                "an expectation of ours: components have grown to fit each other",
                Within(
                    value_of("loss_missing", f"{component} {LATE_IN_EARLY}", step=BEFORE),
                    SWAPPED.name,
                    low=0.9 * WHOLE_LEVEL,
                    most_seeds=True,
                ),
                LOST,
            )
            for component in ("attention", "MLPs")
        ),
        *(
            only_reported(f"{component} {way}: {what}", value_of(column, f"{component} {way}", step=step), SWAPPED.name)
            for component in COMPONENTS
            for way, step in ((EARLY_IN_LATE, END), (LATE_IN_EARLY, BEFORE))
            for what, column in (("missing entries", "loss_missing"), ("seen entries", "loss_observed"))
        ),
    ),
    notes=(
        "A loss of missing entries of 1/9 with little of seen ones is copying again; much of seen ones says that even "
        "copying is broken. Which norms belong to a component is not known: attention's and the MLPs' are those that "
        "come after them, the embeddings' stays. *As released* is what the authors' code moves: queries, keys and "
        "values; or all that is not attention, embeddings and read-out among it."
    ),
)
