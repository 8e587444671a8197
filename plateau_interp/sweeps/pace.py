"""What runs would cost on this machine, from a few training steps of each kind, which are timed once.

The figures are kept beside the runs, in ``DIR/.pace.json``; delete the file to have them timed again. They are rough:
what else the machine did while they were timed is in them.
"""

import contextlib
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch

from plateau_interp.files import write_atomically
from plateau_interp.runs.recipe import Recipe
from plateau_interp.training.loop import train
from plateau_interp.training.threads import threads_of_torch

__all__ = ["PACE", "Watching", "paces"]

PACE = ".pace.json"
TIMED_STEPS = 2
Watching = Callable[[Sequence[Recipe]], Iterable[Recipe]]
"""Is given the recipes that have to be timed, if there are any, and gives them on one by one: a progress bar."""


def paces(
    recipes: Sequence[Recipe], folder: Path, *, threads: int | None = None, watching: Watching = iter
) -> list[float]:
    """Seconds a step of each recipe.

    Args:
        recipes: of which those whose steps cost the same are timed once.
        folder: in which the figures are kept.
        threads: of torch; by default as many as this process has.
        watching: is shown what is timed.
    """
    with threads_of_torch(threads):
        known = _known(recipes, folder / PACE, watching)
    return [known[_cost_kind(recipe)] for recipe in recipes]


def _known(recipes: Iterable[Recipe], file: Path, watching: Watching) -> dict[str, float]:
    """Seconds a step by `_cost_kind`, kept in a file; those that are not in it are timed now."""
    kept = _read_kept(file)
    known = kept.setdefault(_this_machine(), {})
    missing = {kind: recipe for recipe in recipes if (kind := _cost_kind(recipe)) not in known}
    if missing:
        for recipe in watching(list(missing.values())):
            known[_cost_kind(recipe)] = _seconds_a_step(recipe)
            with contextlib.suppress(OSError):  # a folder that cannot be written keeps nobody from being told
                write_atomically(file, json.dumps(kept, indent=1) + "\n")
    return known


def _cost_kind(recipe: Recipe) -> str:
    """A name for all recipes whose steps cost the same: learning rates, seeds and numbers of steps do not matter."""
    parts = (recipe.task, recipe.model, recipe.batch_size, type(recipe.optimizer).__name__, recipe.measuring)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _read_kept(file: Path) -> dict[str, dict[str, float]]:
    """Seconds a step by machine and kind; nothing if the file is missing or not one of ours: it is timed again."""
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        return {machine: {kind: float(seconds) for kind, seconds in paces.items()} for machine, paces in kept.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _this_machine() -> str:
    """What the pace hangs on beside the recipe; the name, as folders of runs are shared between machines."""
    parts = (platform.node(), platform.machine(), f"{os.cpu_count()} cores", f"{torch.get_num_threads()} threads")
    return ", ".join((*parts, f"torch {torch.__version__}"))


def _seconds_a_step(recipe: Recipe) -> float:
    """Mean over a few steps, measured ones where every step is."""
    meter = recipe.build_meter() if recipe.measure_every == 1 else None
    model, task, batch_size = recipe.build_model(), recipe.task, recipe.batch_size
    optimizer = recipe.optimizer.build(model.named_parameters())
    steps = train(model, task, steps=TIMED_STEPS + 1, batch_size=batch_size, meter=meter, optimizer=optimizer)
    next(steps)  # the first pays for what later ones find made
    begin = time.perf_counter()
    list(steps)
    return (time.perf_counter() - begin) / TIMED_STEPS
