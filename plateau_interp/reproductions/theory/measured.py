"""What is read off the last checkpoint of a run, norms, capacity, the loss of what was held out; and quantities."""

import dataclasses
import math

import pandas as pd
import torch
from torch import Tensor

from plateau_interp.analysis.capacity import query_key_capacity
from plateau_interp.analysis.generalisation import generalisation_gap
from plateau_interp.hooks import FrobeniusPenalty
from plateau_interp.reproductions.quantities import Quantity, final
from plateau_interp.reproductions.settings import Added, Outcome, Setting
from plateau_interp.runs.run import Run
from plateau_interp.tasks import MatrixCompletion
from plateau_interp.training.batches import stream_generator
from plateau_interp.types import HookedModel, Task, is_finite
from plateau_interp.views.panels import Panel

__all__ = [
    "CAPACITY",
    "ENDS",
    "GAP",
    "INVERSE_ROOT",
    "NORM",
    "REGULARISED",
    "SCALED_CAPACITY",
    "SCALED_NORM",
    "TEST_LOSS",
    "ends",
    "held_out_loss",
]

N_HELD_OUT = 1024
"""Sequences that are drawn to test a task without a validation set."""


def ends(run: Run) -> pd.DataFrame:
    """One row, of the last checkpoint with a row in the metrics.

    Columns: ``all_weights``, the Euclidean norm of all that is trained; ``capacity``, C_QK, and ``product_norm``,
    |M|_F, both mean over heads; ``test_loss``, `held_out_loss`; and of a finite task ``n_train``, how many sequences
    were trained on, and ``gap``, the distance of the losses of both sets.
    """
    step = max(set(run.checkpoints) & set(run.metrics["step"]))
    model, task = run.model(step), run.task
    heads = query_key_capacity(model)
    squares = [weights.detach().double().square().sum() for weights in model.parameters() if weights.requires_grad]
    row = {
        "step": step,
        "all_weights": float(torch.stack(squares).sum().sqrt()),
        "capacity": float(heads.capacity.mean()),
        "product_norm": float(heads.frobenius.mean()),
        "test_loss": float(held_out_loss(model, task)),
    }
    if is_finite(task):
        row |= {"n_train": len(task.train_set), "gap": float(generalisation_gap(model, task))}
    return pd.DataFrame([row])


@torch.no_grad()
def held_out_loss(model: HookedModel, task: Task) -> Tensor:
    """The loss of the validation set, or of 1,024 sequences that are in no training stream, the same for every run.

    Of matrix completion it is the mean square, whatever loss was trained on.
    """
    generator = stream_generator(0, "held out", 0)
    batch = task.validation_set if is_finite(task) else task.sample(N_HELD_OUT, generator=generator)
    told = dataclasses.replace(task, delta=None) if isinstance(task, MatrixCompletion) else task
    return told.loss(model(batch.inputs), batch)


ENDS = Added(
    ends,
    {
        "all_weights": Panel("All that is trained", "Euclidean norm"),
        "capacity": Panel("C_QK, mean over heads", "capacity"),
        "product_norm": Panel("|M|_F, mean over heads", "norm"),
        "test_loss": Panel("What was held out", "loss"),
        "gap": Panel("Distance of both losses", "loss"),
    },
)


def _last(name: str, column: str, *, digits: int) -> Quantity:
    return Quantity(name, final(column, rows=1).of, digits)


def _over_root(quantity: Quantity, name: str) -> Quantity:
    """Divided by the root of how many sequences were trained on."""

    def of(outcome: Outcome) -> float | None:
        value, n_train = quantity.of(outcome), final("n_train", rows=1).of(outcome)
        return None if value is None or n_train is None else value / math.sqrt(n_train)

    return Quantity(name, of, 4)


NORM = _last("norm of all weights", "all_weights", digits=2)
CAPACITY = _last("capacity", "capacity", digits=3)
TEST_LOSS = _last("test loss", "test_loss", digits=4)
GAP = _last("gap of the losses", "gap", digits=3)
SCALED_CAPACITY = _over_root(CAPACITY, "capacity/√m")
SCALED_NORM = _over_root(_last("|M|_F", "product_norm", digits=2), "|M|_F/√m")
INVERSE_ROOT = _over_root(Quantity("1", lambda _: 1.0), "1/√m")


def _regularised(outcome: Outcome) -> float | None:
    setting = outcome.setting
    assert isinstance(setting, Setting)
    norm, loss = (final(column, rows=1).of(outcome) for column in ("weight_norm", "train_loss"))
    if norm is None or loss is None:
        return None
    penalties = [one.coefficient for one in setting.recipe.interventions if isinstance(one, FrobeniusPenalty)]
    return loss + sum(penalties) / 2 * norm**2


REGULARISED = Quantity("loss with the penalty", _regularised, 4)
"""Of a depth-2 net whose penalty is on all that is trained."""
