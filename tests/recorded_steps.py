"""A tiny model, and steps of it that a `Capture` records."""

from typing import Any

from plateau_interp.interventions.attached import Intervention
from plateau_interp.interventions.attaching import intervening
from plateau_interp.interventions.clock import advance
from plateau_interp.models import ToyTransformer, toy_model
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.training.batches import training_batch

TASK = MovingWindowSum(n=4, p=7)
PATTERN = "blocks.0.attn.hook_pattern"


def tiny() -> ToyTransformer:
    return toy_model(TASK, d_model=16)


def recorded(model: Any, capture: Intervention, *steps: int) -> None:
    """A loop of somebody else's."""
    with intervening(model, capture):
        for step in steps:
            advance(model, step=step)
            model(training_batch(TASK, seed=0, step=step, batch_size=2).inputs)
