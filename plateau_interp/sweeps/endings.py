"""How a job on a worker ends, and how it is told to; loads nothing heavy, as workers begin with it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

__all__ = ["Ending", "Interrupted", "Stopped", "never"]

Stopped = Callable[[], bool]
"""Asked between two steps: whether nobody wants to know any more."""


def never() -> bool:
    """A `Stopped` of those who are stopped in another way."""
    return False


class Interrupted(Exception):
    """Raised within a job that was told to stop, by those who cannot leave their loop otherwise."""


@dataclass(frozen=True)
class Ending:
    """How a job ended.

    Args:
        how: busy where somebody else writes to the folder, stopped where nobody wanted to know any more.
        reason: of a failure.
        warned: what the package warned of, each once.
    """

    how: Literal["done", "busy", "failed", "stopped"]
    reason: str = ""
    warned: tuple[str, ...] = ()
