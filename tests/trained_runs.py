"""Small runs that are trained to their end, once for all tests of a process that begin with the same one."""

import functools
import shutil
import tempfile
from pathlib import Path

import pytest

from plateau_interp.models.settings import ModelOptions
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.training.batches import training_batch
from plateau_interp.training.settings import MeasuringOptions, TrainingOptions
from plateau_interp.types import Batch

RECIPE = Recipe(
    MovingWindowSum(n=4, p=7),
    model=ModelOptions(d_model=16),
    training=TrainingOptions(steps=25, batch_size=8),
    measuring=MeasuringOptions(n_sequences=4),
    checkpoint_every=10,
)
"""Twenty-five steps, four checkpoints."""
SHORT = Recipe(
    MovingWindowSum(n=4, p=7),
    model=ModelOptions(d_model=16),
    training=TrainingOptions(steps=4, batch_size=8),
    measuring=MeasuringOptions(n_sequences=4),
    checkpoint_every=2,
    state_every=1,
)
"""Four steps, three checkpoints."""
OLD = Path(__file__).parent / "data" / "run-format-1"
"""A folder of runs in the first format."""

undoes_training = pytest.mark.filterwarnings(
    "ignore:.*undid training:plateau_interp.interventions.attaching.InterventionWarning"
)


def trained(run: Run) -> Run:
    """The run, gone on with to its end."""
    for _ in run.train():
        pass
    return run


def finished(path: Path, recipe: Recipe) -> Run:
    """A run in a folder, made or gone on with, at its end. A new one is a copy where another had its recipe."""
    if not path.exists():
        shutil.copytree(_once(recipe.to_json()), path)
    return trained(Run.create(path, recipe))


def contents(path: Path) -> dict[str, bytes]:
    """Every byte that a run's numbers are made of, by file."""
    files = [path / "metrics.jsonl", *path.glob("checkpoints/*/*")]
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def spoil(file: Path) -> None:
    """Cut a file in half."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def batch_at(step: int) -> Batch:
    """What the recipe trains on at a step."""
    return training_batch(RECIPE.task, seed=RECIPE.seed, step=step, batch_size=8)


@functools.cache
def _once(recipe: str) -> Path:
    return trained(Run.create(Path(tempfile.mkdtemp(dir=_FOLDER.name)) / "run", Recipe.from_json(recipe))).path


_FOLDER = tempfile.TemporaryDirectory(prefix="trained-runs-")
