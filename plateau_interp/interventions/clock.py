"""The training clock of a model: `advance` tells it the step, what is attached and `listening` hears it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from plateau_interp.types import HookedModel

__all__ = ["Listener", "advance", "listening"]

Listener = Callable[[int, Mapping[str, float]], Callable[[], None] | None]
"""Hears the step and the latest metrics; what it returns is called when all have heard them."""


_listeners: WeakKeyDictionary[Any, list[Listener]] = WeakKeyDictionary()


_steps: WeakKeyDictionary[Any, int] = WeakKeyDictionary()


def advance(model: HookedModel, *, step: int, metrics: Mapping[str, float] | None = None) -> None:
    """Tell the schedules attached to a model that a training step begins.

    `plateau_interp.training.loop.train` calls it; call it yourself in a training loop of your own.

    Args:
        model: the model in training.
        step: number of updates made so far.
        metrics: the latest measurements, usually those of the step before; none by default.
    """
    _steps[model] = step
    for settle in [listener(step, metrics or {}) for listener in tuple(_listeners.get(model, ()))]:
        if settle is not None:
            settle()


@contextmanager
def listening(model: HookedModel, listener: Listener) -> Iterator[int]:
    """Have ``listener(step, metrics)`` called at every `advance`, in order of entry.

    A function that the listener returns is called when all listeners have been, in the same order: schedules that wrap
    each other make up their minds first and act then.

    Yields:
        The step the model was last told; 0 if it never was.
    """
    listeners = _listeners.setdefault(model, [])
    listeners.append(listener)
    try:
        yield _steps.get(model, 0)
    finally:
        # By identity: two schedules may be equal, and contexts of generators do not always close in reverse order.
        listeners[:] = [kept for kept in listeners if kept is not listener]
