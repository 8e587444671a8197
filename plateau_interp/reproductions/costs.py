"""What experiments would cost on this machine: the runs that are left, at the pace of `plateau_interp.sweeps.pace`.

The figures are kept beside the runs, in ``RUNS/.pace.json``: timing all kinds takes about a minute.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from plateau_interp.reproductions.experiments import Experiment
from plateau_interp.reproductions.running import outcome, plan
from plateau_interp.reproductions.settings import Setting
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
        and the folders that hold ``others``, of another recipe; and the ``seconds`` that those take which are not
        done if each goes to its last step: most are solved long before. A run that several share counts in each; what
        is measured afterwards does not count.
    """
    states = {e: {run: _state(*run, runs) for run in plan([e], n_seeds=n_seeds)} for e in experiments}
    left = {e: [setting for (setting, _), state in ours.items() if state != "done"] for e, ours in states.items()}
    kinds = [setting for settings in left.values() for setting in settings]
    pace = dict(zip(kinds, paces([setting.recipe for setting in kinds], runs, watching=watching), strict=True))
    return [
        {
            "name": experiment.name,
            "title": experiment.title,
            "figures": experiment.figures,
            "runs": len(ours),
            "done": len(ours) - len(left[experiment]),
            "others": [str(s.folder(runs, seed)) for (s, seed), state in ours.items() if state == "another's"],
            "seconds": sum(pace[setting] * _steps_to_make(setting) for setting in left[experiment]),
        }
        for experiment, ours in states.items()
    ]


def _state(setting: Setting, seed: int, runs: Path) -> Literal["done", "left", "another's"]:
    try:
        return "left" if outcome(setting, seed, runs) is None else "done"
    except RunError:
        return "another's"


def _steps_to_make(setting: Setting) -> int:
    return setting.recipe.steps - (0 if setting.leaves is None else setting.leaves[1])
