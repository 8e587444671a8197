"""What is attached to a model is held by one object of that model: its `Session`.

It holds the training clock, what interventions let act, and places for those that must know of each other, such as
freezes of one parameter. `plateau_interp.interventions.clock` is how to use the clock.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from plateau_interp.interventions.attached import Attached
from plateau_interp.types import HookedModel, check_model

__all__ = ["Listener", "Session", "session"]

Slot = TypeVar("Slot")

Listener = Callable[[int, Mapping[str, float]], Callable[[], None] | None]
"""Hears the step and the latest metrics; what it returns is called when all have heard them."""

ATTRIBUTE = "_plateau_session"


class Session:
    """The clock of one model, and what its interventions share.

    A copy of the model, by ``copy.deepcopy`` or pickle, begins a session of its own.

    Attributes:
        step: the training step the model was last told; 0 if it never was.
        was_told: whether it ever was told a step.
        listeners: who hears of every step, in order of entry.
        attached: what acts on the model, in order of entry; what is wrapped by another is not in it.
    """

    def __init__(self) -> None:
        self.step = 0
        self.was_told = False
        self.listeners: list[Listener] = []
        self.attached: list[Attached] = []
        self._slots: dict[type, Any] = {}

    def slot(self, kind: type[Slot]) -> Slot:
        """The session's one object of a class, made when it is first asked for.

        Example:
            >>> one = Session()
            >>> one.slot(list).append("something to share")
            >>> one.slot(list), one.slot(dict)
            (['something to share'], {})
        """
        if kind not in self._slots:
            self._slots[kind] = kind()
        slot: Slot = self._slots[kind]
        return slot

    def __reduce__(self) -> tuple[type["Session"], tuple[()]]:
        # What is attached belongs to this model: a copy's hooks and parameters are others.
        return Session, ()


def session(model: HookedModel) -> Session:
    """The session of a model, begun if there is none yet.

    It is an attribute of the model, not an entry of a table: so it goes when the model goes, and a compiled model,
    which hands its attributes on to the one that it wraps, has the same.

    Raises:
        ValueError: for what is no model.
    """
    check_model(model)
    there = getattr(model, ATTRIBUTE, None)
    if isinstance(there, Session):
        return there
    begun = Session()
    setattr(model, ATTRIBUTE, begun)
    return begun
