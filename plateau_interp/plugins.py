"""Finds plug-ins by their entry points: ours and those of any installed package, without importing them.

Tasks, hooks, optimisers and experiments are registered under the groups ``plateau_interp.tasks``,
``plateau_interp.hooks``, ``plateau_interp.optimizers`` and ``plateau_interp.experiments``. This module stays free of
torch, so that the command line can name them at once.
"""

import difflib
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

__all__ = ["PluginError", "PluginKind", "plugin", "plugins"]

PluginKind = Literal["tasks", "hooks", "optimizers", "experiments"]


class PluginError(ValueError):
    """A name that no installed package registered; the message has the nearest one."""


@cache
def plugins(kind: PluginKind) -> dict[str, EntryPoint]:
    """Entry points of a kind by name, sorted and not yet loaded.

    Example:
        >>> plugins("tasks")["moving-window-sum"].value
        'plateau_interp.tasks.window:MovingWindowSum'
    """
    found = entry_points(group=f"plateau_interp.{kind}")
    return {point.name: point for point in sorted(found, key=lambda point: point.name)}


def plugin(kind: PluginKind, name: str) -> Any:
    """The class (or object) that is registered under a name.

    Raises:
        PluginError: for a name nobody registered.

    Example:
        >>> plugin("tasks", "moving-window-sum")
        <class 'plateau_interp.tasks.window.MovingWindowSum'>
    """
    known = plugins(kind)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1) or [other for other in known if name and name in other]
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise PluginError(f"no {kind.removesuffix('s')} is called {name!r}: {hint}see `plateau list {kind}`")
    return known[name].load()
