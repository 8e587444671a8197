"""Where a gradient is wanted to measure with, not to train with: there no edit of gradients acts.

Edits that change no activation make another training, not another function: the derivative of a metric, by which a
circuit is scored, is without them what it is with them. What differentiates to measure does it, forward and backward,
within `gradients_as_they_are`, and what edits gradients asks `are_gradients_edited` as the forward is made.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["are_gradients_edited", "gradients_as_they_are"]

# A forward runs in the thread of who calls it. The backward of a GPU does not: asked there, this would not be known.
_edited: ContextVar[bool] = ContextVar("edited", default=True)


@contextmanager
def gradients_as_they_are() -> Iterator[None]:
    """Have edits of gradients at hook points take no part in the forwards of this thread while the context is open.

    It is the forward that counts: its gradients are as they are whenever they come, and a graph that was made outside
    keeps its edits. Edits of parameters' gradients are those of the parameters, whatever the forward: ask
    ``torch.autograd.grad`` for the gradient of something else, and none of them acts.

    Example:
        >>> with gradients_as_they_are():
        ...     are_gradients_edited()
        False
    """
    token = _edited.set(False)
    try:
        yield
    finally:
        _edited.reset(token)


def are_gradients_edited() -> bool:
    """Whether the gradients of a forward that is made now are to be edited; for what edits them at a hook point.

    Example:
        >>> are_gradients_edited()
        True
    """
    return _edited.get()
