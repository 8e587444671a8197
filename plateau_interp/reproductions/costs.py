"""What experiments would cost on this machine: the runs that are left, at the pace of `plateau_interp.sweeps.pace`.

The figures are kept beside the runs, in ``RUNS/.pace.json``: timing all kinds takes about a minute.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from plateau_interp.reproductions.experiments import Experiment
from plateau_interp.reproductions.running import outcome, plan
from plateau_interp.reproductions.settings import Compared, NotHereError, Setting
from plateau_interp.reproductions.study import Study
from plateau_interp.runs.run import RunError
from plateau_interp.sweeps.pace import Watching, paces

__all__ = ["costs"]


def costs(
    experiments: Iterable[Experiment],
    runs: Path,
    *,
    n_seeds: int | None = None,
    watching: Watching = iter,
) -> list[dict[str, Any]]:
    """What experiments would cost on this machine, roughly.

    Args:
        experiments: whose runs.
        runs: the folder of the paper's runs; what was timed is kept in it.
        n_seeds: as for `plateau_interp.reproductions.running.plan`.
        watching: is shown what is timed.

    Returns:
        For each experiment its ``name``, ``title`` and ``figures``; how many ``runs`` it needs, how many are ``done``
        and the folders that hold ``others``, of another recipe; what the experiment ``needs``, as long as something is
        left; and the ``seconds`` that those take which are not done if each goes to its last step: most are solved long
        before. A run that several share counts in each; what is measured afterwards does not count. ``seconds`` is None
        where it cannot be known: for published models, and for tasks that lack something on this machine.
    """
    states = {e: {run: _state(*run, runs) for run in plan([e], n_seeds=n_seeds)} for e in experiments}
    left = {e: [setting for (setting, _), state in ours.items() if state != "done"] for e, ours in states.items()}
    # In the order of the experiments, so that the same kinds are timed in the same order.
    everything = [setting for settings in left.values() for setting in settings]
    kinds = [setting for setting in everything if isinstance(setting, Setting) and _is_here(setting)]
    pace: dict[Compared, float] = dict(
        zip(kinds, paces([setting.recipe for setting in kinds], runs, watching=watching), strict=True)
    )
    return [
        {
            "name": experiment.name,
            "title": experiment.title,
            "figures": experiment.figures,
            "runs": len(ours),
            "done": len(ours) - len(left[experiment]),
            "others": [str(s.folder(runs, seed)) for (s, seed), state in ours.items() if state == "another's"],
            "needs": experiment.needs if left[experiment] else "",
            "seconds": _seconds_of(left[experiment], pace),
        }
        for experiment, ours in states.items()
    ]


def _is_here(setting: Setting) -> bool:
    try:
        setting.check_here()
    except NotHereError:
        return False
    return True


def _seconds_of(settings: Iterable[Compared], pace: Mapping[Compared, float]) -> float | None:
    """Of the runs that are left; None if one of them cannot be trained here."""
    total = 0.0
    for setting in settings:
        if isinstance(setting, Study):
            continue
        if not isinstance(setting, Setting) or setting not in pace:
            return None
        total += pace[setting] * _steps_to_make(setting)
    return total


def _state(setting: Compared, seed: int, runs: Path) -> Literal["done", "left", "another's"]:
    try:
        return "left" if outcome(setting, seed, runs) is None else "done"
    except RunError:
        return "another's"


def _steps_to_make(setting: Setting) -> int:
    return setting.recipe.steps - (0 if setting.leaves is None else setting.leaves[1])
