"""Finds plug-ins by their entry points: ours and those of any installed package, without importing them.

Tasks, hooks, initializers, optimisers, loggers, engines and experiments are registered under the groups
``plateau_interp.tasks``, ``plateau_interp.hooks``, ``plateau_interp.initializers``, ``plateau_interp.optimizers``,
``plateau_interp.loggers``, ``plateau_interp.engines`` and ``plateau_interp.experiments``.
This module stays free of torch, so that the command line can name them at once.
"""

from collections.abc import Callable
from dataclasses import is_dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, TypeVar

from plateau_interp.checks import nearest, shown

__all__ = [
    "PluginError",
    "PluginKind",
    "kind_of",
    "plugin",
    "plugin_kind",
    "plugin_name",
    "plugins",
    "protocol_of",
    "register",
]

PluginKind = Literal["tasks", "hooks", "initializers", "optimizers", "loggers", "engines", "experiments"]

Protocol = TypeVar("Protocol", bound=type)


class PluginError(ValueError):
    """A name that no installed package registered (the message has the nearest one), or a class without one."""


PROTOCOLS: dict[Any, PluginKind] = {}
"""By protocol, the kind of its plug-ins. Beside the protocols: a member of theirs every plug-in would have to have."""


def protocol_of(kind: PluginKind) -> Callable[[Protocol], Protocol]:
    """Say of a protocol that a field annotated with it holds plug-ins of a kind."""

    def remember(protocol: Protocol) -> Protocol:
        PROTOCOLS[protocol] = kind
        return protocol

    return remember


def plugin_kind(annotation: Any) -> PluginKind | None:
    """The kind of plug-ins that an annotation stands for; None for every other annotation.

    Example:
        >>> from plateau_interp.types import Task
        >>> plugin_kind(Task), plugin_kind(int)
        ('tasks', None)
    """
    return PROTOCOLS.get(annotation) if isinstance(annotation, type) else None


def kind_of(value: Any) -> PluginKind | None:
    """The kind of plug-in that a value is; None for what is none.

    Example:
        >>> from plateau_interp.training.optimizers import Adam
        >>> kind_of(Adam()), kind_of(3)
        ('optimizers', None)
    """
    return next((kind for protocol, kind in PROTOCOLS.items() if isinstance(value, protocol)), None)


@cache
def plugins(kind: PluginKind) -> dict[str, Any]:
    """Entry points of a kind by name, sorted and not yet loaded.

    Example:
        >>> plugins("tasks")["moving-window-sum"].value
        'plateau_interp.tasks.window:MovingWindowSum'
    """
    # Not dict[str, EntryPoint]: where the backport importlib_metadata is loaded, as by dask, they are of its class.
    found = entry_points(group=f"plateau_interp.{kind}")
    return {point.name: point for point in sorted(found, key=lambda point: point.name)}


def plugin(kind: PluginKind, name: str) -> Any:
    """The class that is registered under a name; of experiments the object.

    Raises:
        PluginError: for a name nobody registered, whose module cannot be imported, or that leads to no dataclass.

    Example:
        >>> plugin("tasks", "moving-window-sum")
        <class 'plateau_interp.tasks.window.MovingWindowSum'>
    """
    known = plugins(kind)
    if name not in known:
        one = kind.removesuffix("s")
        raise PluginError(
            f"no {one} is called {shown(name)}; {nearest(name, known, most=1)}; see `plateau list {kind}`"
        )
    try:
        found = known[name].load()
    except (ImportError, AttributeError) as error:  # a module, or a name in it, that is not there
        raise PluginError(f"{name!r} cannot be loaded from {known[name].value}: {error}") from None
    except (Exception, SystemExit) as error:  # somebody's module, which may fail, or end the process, in any way
        reason = f"{type(error).__name__}: {error}"
        raise PluginError(f"{name!r} cannot be loaded from {known[name].value}: {reason}") from error
    if kind != "experiments" and not (isinstance(found, type) and is_dataclass(found)):
        raise PluginError(f"{name!r} cannot be loaded from {known[name].value}: {shown(found)} is no dataclass")
    return found


def plugin_name(kind: PluginKind, found: type[Any]) -> str:
    """The name under which a class is written down and found again: its own ``name``, or its entry point's.

    Raises:
        PluginError: for a class that has neither, and one whose name is another's.

    Example:
        >>> from plateau_interp.training.optimizers import Adam
        >>> plugin_name("optimizers", Adam)
        'adam'
    """
    known = plugins(kind)
    called = vars(found).get("name")  # its own: a subclass is not what it inherits the name from
    if isinstance(called, str):
        if called in known and not _leads_to(known[called], found):
            raise PluginError(f"{called!r} is the name of {known[called].value}; {_place(found)} needs another")
        return called
    for name, point in known.items():
        if _leads_to(point, found):
            return name
    raise PluginError(f'{_place(found)} has no name of its own: give the class one, as in `name = "..."`')


def _leads_to(point: Any, found: type[Any]) -> bool:
    # Loaded only if it can be this class: it may stand in a module that imports the class from where it was written.
    return point.value == _place(found) or (point.attr == found.__qualname__ and point.load() is found)


def _place(found: type[Any]) -> str:
    return f"{found.__module__}:{found.__qualname__}"


def register(kind: PluginKind, found: type[Any], *, name: str | None = None) -> None:
    """Make a class of a script or notebook known under its name, in this process: runs of it can be made and read.

    Another process, such as ``plateau report``, knows it when an installed package has it as an entry point.

    Args:
        kind: of the plug-in.
        found: the class, at the top level of its module; it may replace an earlier one with its own class name.
            A run knows it by name and fields: what is trained with changed code belongs into another folder.
        name: by default the class's own ``name``.

    Raises:
        ValueError: if the name is another plug-in's, the class has none of its own, or was made inside a function.

    Example:
        >>> from plateau_interp.training.optimizers import Adam
        >>> register("optimizers", Adam, name="adam")
        >>> plugin("optimizers", "adam") is Adam
        True
    """
    called = plugin_name(kind, found) if name is None else name
    place = _place(found)
    if not all(word.isidentifier() for word in place.replace(":", ".").split(".")):  # as of one made in a function
        raise ValueError(f"{place} cannot be found again by that name: define the class at the top level of a module")
    point = EntryPoint(called, place, f"plateau_interp.{kind}")
    known = plugins(kind)
    if called in known and known[called].attr != point.attr:
        raise ValueError(f"{called!r} is the name of {known[called].value}; {point.value} needs another")
    if called not in known or known[called].value != point.value:
        known[called] = point
        in_order = sorted(known.items())
        known.clear()
        known.update(in_order)
