"""The tasks: distributions over token sequences, each with the attention that solves it."""

from plateau_interp.tasks.copying import Copy, Repeat, Reverse
from plateau_interp.tasks.prefix import PrefixSum
from plateau_interp.tasks.window import (
    MovingWindowDifference,
    MovingWindowProduct,
    MovingWindowQuotient,
    MovingWindowSum,
)

__all__ = [
    "Copy",
    "MovingWindowDifference",
    "MovingWindowProduct",
    "MovingWindowQuotient",
    "MovingWindowSum",
    "PrefixSum",
    "Repeat",
    "Reverse",
]
