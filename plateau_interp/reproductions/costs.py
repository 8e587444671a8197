"""What experiments would cost on this machine, from a few training steps of each kind, which are timed once.

The figures are kept beside the runs, in ``RUNS/.pace.json``: timing all kinds takes about a minute. Delete the file to
have them timed again. They are rough: what else the machine did while they were timed is in them.
"""

import contextlib
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from plateau_interp.files import write_atomically
from plateau_interp.reproductions.experiments import Experiment
from plateau_interp.reproductions.running import outcome, plan
from plateau_interp.reproductions.settings import Compared, NotHereError, Setting
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import RunError
from plateau_interp.training.loop import train

__all__ = ["costs"]

PACE = ".pace.json"
TIMED_STEPS = 2


def costs(
    experiments: Iterable[Experiment],
    runs: Path,
    *,
    n_seeds: int | None = None,
    watching: Callable[[Sequence[Recipe]], Iterable[Recipe]] = iter,
) -> list[dict[str, Any]]:
    """What experiments would cost on this machine, roughly.

    Args:
        experiments: whose runs.
        runs: the folder of the paper's runs; what was timed is kept in it.
        n_seeds: as for `plateau_interp.reproductions.running.plan`.
        watching: is given the recipes that have to be timed, if there are any, and gives them on one by one: a
            progress bar.

    Returns:
        For each experiment its ``name``, ``title`` and ``figures``; how many ``runs`` it needs, how many are ``done``
        and the folders that hold ``others``, of another recipe; what the experiment ``needs``, as long as something is
        left; and the ``seconds`` that those take which are not done if each goes to its last step: most are solved long
        before. A run that several share counts in each; what is measured afterwards does not count. ``seconds`` is None
        where it cannot be known: for published models, and for tasks that lack something on this machine.
    """
    states = {e: {run: _state(*run, runs) for run in plan([e], n_seeds=n_seeds)} for e in experiments}
    left = {e: [setting for (setting, _), state in ours.items() if state != "done"] for e, ours in states.items()}
    trained = {setting for settings in left.values() for setting in settings if _can_be_trained(setting)}
    # In the order of the experiments, so that the same kinds are timed in the same order.
    timed = [s for settings in left.values() for s in settings if isinstance(s, Setting) and s in trained]
    paces = _paces([setting.recipe for setting in timed], runs / PACE, watching)
    return [
        {
            "name": experiment.name,
            "title": experiment.title,
            "figures": experiment.figures,
            "runs": len(ours),
            "done": len(ours) - len(left[experiment]),
            "others": [str(s.folder(runs, seed)) for (s, seed), state in ours.items() if state == "another's"],
            "needs": experiment.needs if left[experiment] else "",
            "seconds": _seconds_of(left[experiment], paces) if trained.issuperset(left[experiment]) else None,
        }
        for experiment, ours in states.items()
    ]


def _can_be_trained(setting: Compared) -> bool:
    if not isinstance(setting, Setting):
        return False
    try:
        setting.check_here()
    except NotHereError:
        return False
    return True


def _seconds_of(settings: Iterable[Compared], paces: Mapping[str, float]) -> float:
    trained = [setting for setting in settings if isinstance(setting, Setting)]
    return sum(paces[_cost_kind(setting.recipe)] * _steps_to_make(setting) for setting in trained)


def _state(setting: Compared, seed: int, runs: Path) -> Literal["done", "left", "another's"]:
    try:
        return "left" if outcome(setting, seed, runs) is None else "done"
    except RunError:
        return "another's"


def _steps_to_make(setting: Setting) -> int:
    return setting.recipe.steps - (0 if setting.leaves is None else setting.leaves[1])


def _cost_kind(recipe: Recipe) -> str:
    """A name for all recipes whose steps cost the same: learning rates, seeds and numbers of steps do not matter."""
    parts = (recipe.task, recipe.model, recipe.batch_size, type(recipe.optimizer).__name__, recipe.measuring)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _paces(
    recipes: Iterable[Recipe], file: Path, watching: Callable[[Sequence[Recipe]], Iterable[Recipe]]
) -> dict[str, float]:
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
