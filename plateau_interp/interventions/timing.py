"""When interventions act that say so beforehand, such as schedules: whether a time comes for what they wrap."""

import dataclasses
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

from plateau_interp.interventions.attached import Intervention

__all__ = ["Scheduled", "contents", "never_acting", "wrapped_by"]


@runtime_checkable
class Scheduled(Protocol):
    """What says beforehand when it acts, as `plateau_interp.hooks.During` and a `Capture` do."""

    def strength(self, step: int) -> float:
        """How much it acts at a step; 0 is not at all."""
        ...


def never_acting(intervention: Any, steps: range) -> Any:
    """The schedule, the outermost, in which something never acts within steps; None if there is no such.

    Where one wraps another, or a `Capture`, they may have their times at different steps.

    Example:
        >>> from plateau_interp.hooks import BiasAttention, During
        >>> late = During(BiasAttention(factor=10.0), start=400)
        >>> never_acting(late, range(400)) is late, never_acting(late, range(401))
        (True, None)
    """
    for schedules in _schedules_around(intervention):
        if steps and not any(all(each.strength(step) for each in schedules) for step in steps):
            return schedules[0]
    return None


def contents(intervention: Intervention) -> list[Any]:
    """What a wrapper such as a schedule holds, one or several; nothing of what wraps nothing."""
    fields = wrapped_by(intervention).values()
    return [inner for content in fields for inner in (content if isinstance(content, tuple | list) else [content])]


def wrapped_by(value: Any) -> dict[str, Any]:
    """Fields of a wrapper, such as a schedule, that are interventions, or tuples and lists with some."""
    if not dataclasses.is_dataclass(value):
        return {}
    fields = {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
    return {
        name: content
        for name, content in fields.items()
        if any(map(_is_intervention, content if isinstance(content, tuple | list) else [content]))
    }


def _is_intervention(value: Any) -> bool:
    return isinstance(value, Intervention) and not isinstance(value, type)


def _schedules_around(intervention: Any, outer: tuple[Scheduled, ...] = ()) -> Iterator[tuple[Scheduled, ...]]:
    """Of each intervention that wraps no other the schedules around it, the outermost first, if there are any."""
    around = (*outer, intervention) if isinstance(intervention, Scheduled) else outer
    inner = contents(intervention)
    for each in inner:
        yield from _schedules_around(each, around)
    if around and not inner:
        yield around
