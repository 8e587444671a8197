# The one place with relative imports: lazy_loader reads this stub when the package is imported, and knows no others.
# ruff: noqa: TID252

from . import hooks, metrics, optimizers, tasks, views
from .decoding import greedy_answers
from .intervening import intervening
from .measuring import Meter
from .models import ToyTransformer, toy_model
from .plateaus import Summary, summarise
from .recipes import MeasuringOptions, ModelOptions, Recipe, RecipeError, TrainingOptions
from .runs import Run, RunError
from .training import Step, train
from .types import Batch, Intervention, Levels, Task

__all__ = [
    "Batch",
    "Intervention",
    "Levels",
    "MeasuringOptions",
    "Meter",
    "ModelOptions",
    "Recipe",
    "RecipeError",
    "Run",
    "RunError",
    "Step",
    "Summary",
    "Task",
    "ToyTransformer",
    "TrainingOptions",
    "greedy_answers",
    "hooks",
    "intervening",
    "metrics",
    "optimizers",
    "summarise",
    "tasks",
    "toy_model",
    "train",
    "views",
]
