# The one place with relative imports: lazy_loader reads this stub when the package is imported, and knows no others.
# ruff: noqa: TID252

from . import hooks, metrics, tasks, views
from .analysis.circuits import Circuit, circuit
from .analysis.forming import circuits
from .analysis.plateaus import Summary, summarise
from .analysis.probing import ProbeResult, probe
from .codec import RecipeError
from .decoding.answers import greedy_answers
from .decoding.continuing import continued
from .interventions.attached import Attached, Intervention
from .interventions.attaching import editing, intervening
from .interventions.capturing import Capture, Captured
from .interventions.clock import advance
from .models.base import ToyTransformer
from .models.pretrained import pretrained_model
from .models.settings import ModelOptions
from .models.toy import toy_model
from .runs.recipe import Recipe
from .runs.run import Run, RunError
from .series.series import CheckpointSeries
from .sweeps.sweep import sweep
from .training import optimizers
from .training.loop import Step, train
from .training.meter import Meter
from .training.settings import MeasuringOptions, TrainingOptions
from .types import Batch, Levels, Task

__all__ = [
    "Attached",
    "Batch",
    "Capture",
    "Captured",
    "CheckpointSeries",
    "Circuit",
    "Intervention",
    "Levels",
    "MeasuringOptions",
    "Meter",
    "ModelOptions",
    "ProbeResult",
    "Recipe",
    "RecipeError",
    "Run",
    "RunError",
    "Step",
    "Summary",
    "Task",
    "ToyTransformer",
    "TrainingOptions",
    "advance",
    "circuit",
    "circuits",
    "continued",
    "editing",
    "greedy_answers",
    "hooks",
    "intervening",
    "metrics",
    "optimizers",
    "pretrained_model",
    "probe",
    "summarise",
    "sweep",
    "tasks",
    "toy_model",
    "train",
    "views",
]
