"""Finds plug-ins by their entry points: ours and those of any installed package, without importing them.

Tasks, hooks, optimisers and experiments are registered under the groups ``plateau_interp.tasks``,
``plateau_interp.hooks``, ``plateau_interp.optimizers`` and ``plateau_interp.experiments``. This module stays free of
torch, so that the command line can name them at once.
"""

import difflib
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

__all__ = ["PluginError", "PluginKind", "plugin", "plugins", "register"]

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


def register(kind: PluginKind, found: type[Any], *, name: str | None = None) -> None:
    """Make a class of a script or notebook known under its name, in this process: runs of it can be made and read.

    Another process, such as ``plateau report``, knows it when an installed package has it as an entry point.

    Args:
        kind: of the plug-in.
        found: the class, at the top level of its module; it may replace an earlier one with its own class name.
        name: by default the class's own ``name``.

    Raises:
        ValueError: if the name is another plug-in's.

    Example:
        >>> from plateau_interp.training.optimizers import Adam
        >>> register("optimizers", Adam, name="adam")
        >>> plugin("optimizers", "adam") is Adam
        True
    """
    called: str = found.name if name is None else name
    point = EntryPoint(called, f"{found.__module__}:{found.__qualname__}", f"plateau_interp.{kind}")
    known = plugins(kind)
    if called in known and known[called].attr != point.attr:
        raise ValueError(f"{called!r} is the name of {known[called].value}; {point.value} needs another")
    if called not in known or known[called].value != point.value:
        known[called] = point
