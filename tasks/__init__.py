"""The tasks: distributions over token sequences, each with the attention that solves it."""

from plateau_interp.tasks.window import MovingWindowSum

__all__ = ["MovingWindowSum"]
