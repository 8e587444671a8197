"""The tasks: distributions over token sequences, each with the attention that solves it."""

from plateau_interp.tasks.window import (
    MovingWindowDifference,
    MovingWindowProduct,
    MovingWindowQuotient,
    MovingWindowSum,
)

__all__ = ["MovingWindowDifference", "MovingWindowProduct", "MovingWindowQuotient", "MovingWindowSum"]
