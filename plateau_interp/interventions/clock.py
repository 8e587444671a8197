"""The training clock of a model: `advance` tells it the step, what is attached and `listening` hears it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from types import MappingProxyType
from typing import Any

from torch import Tensor

from plateau_interp.checks import shown, whole_number
from plateau_interp.interventions.session import Listener, Session, session
from plateau_interp.types import HookedModel

__all__ = [
    "UNTOLD",
    "ForwardWatch",
    "NotDue",
    "PartialMetrics",
    "advance",
    "check_metrics",
    "listening",
    "watching_forwards",
]

NOTHING: Mapping[str, float] = MappingProxyType({})

UNTOLD = "nobody told this model a step; call advance(model, step=...)"
"""The end of a complaint of those who wait for a step."""


class NotDue(KeyError):
    """A metric that was not measured at this step and may be at another, so that waiting for it is no mistake."""


class PartialMetrics(Mapping[str, float]):
    """The numbers of a step at which not all was measured: what is missing is `NotDue`.

    Example:
        >>> PartialMetrics({"loss": 2.5})["accuracy"]
        Traceback (most recent call last):
        plateau_interp.interventions.clock.NotDue: 'accuracy'
    """

    def __init__(self, known: Mapping[str, float]) -> None:
        self._known = known

    def __getitem__(self, name: str) -> float:
        try:
            return self._known[name]
        except KeyError:
            raise NotDue(name) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


def advance(model: HookedModel, *, step: int, metrics: Mapping[str, float] = NOTHING) -> None:
    """Tell what is attached to a model that a training step begins.

    `plateau_interp.training.loop.train` calls it; call it yourself in a training loop of your own, before the forward:
    schedules and `Capture` know the step by nothing else.

    Args:
        model: the model in training.
        step: number of updates made so far.
        metrics: the latest measurements, usually those of the step before; read only by those who ask. As
            `PartialMetrics` where some are measured at other steps, so that nobody is told they never come.

    Raises:
        ValueError: for a step that is no whole number from 0 on, and for metrics that are no numbers by name.

    Example:
        >>> import torch
        >>> from plateau_interp import hooks, intervening, toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> task = MovingWindowSum(n=4)
        >>> model = toy_model(task, d_model=32)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> with intervening(model, hooks.During(hooks.BiasAttention(), start=2)) as (receipt,):
        ...     for step in range(5):
        ...         advance(model, step=step)
        ...         batch = task.sample(8, generator=torch.Generator().manual_seed(step))
        ...         optimizer.zero_grad()
        ...         task.loss(model(batch.inputs), batch).backward()
        ...         optimizer.step()
        >>> receipt.fired, receipt.active_steps
        (3, 3)
    """
    step = whole_number("step", step, least=0)
    check_metrics("metrics", metrics)
    clock = session(model)
    clock.step, clock.was_told = step, True
    for settle in [listener(clock.step, metrics) for listener in tuple(clock.listeners)]:
        if settle is not None:
            settle()


def check_metrics(name: str, metrics: Any) -> None:
    """Refuse what are no numbers by name; where reading them may wait for a device, they are left unread.

    Raises:
        ValueError: naming the argument.

    Example:
        >>> check_metrics("metrics", {"loss": 2.5})
    """
    if not isinstance(metrics, Mapping):
        raise ValueError(f"{name} must be numbers by name, such as {{'loss': 2.5}}; got {shown(metrics)}")
    # A dict's values are there already; another mapping may fetch each of them when asked.
    for key, value in metrics.items() if isinstance(metrics, dict) else ():
        if not isinstance(value, Real) and not (isinstance(value, Tensor) and value.numel() == 1):
            raise ValueError(f"{name}[{key!r}] must be a number; got {shown(value)}")


@contextmanager
def listening(model: HookedModel, listener: Listener) -> Iterator[int]:
    """Have ``listener(step, metrics)`` called at every `advance`, in order of entry.

    A function that the listener returns is called when all listeners have been, in the same order: schedules that wrap
    each other make up their minds first and act then.

    Yields:
        The step the model was last told; 0 if it never was.
    """
    clock = session(model)
    clock.listeners.append(listener)
    try:
        yield clock.step
    finally:
        # By identity: two schedules may be equal, and contexts of generators do not always close in reverse order.
        clock.listeners[:] = [kept for kept in clock.listeners if kept is not listener]


class ForwardWatch:
    """Whether a model was called while somebody waited for a step, and was never told one.

    Attributes:
        was_called: whether there was a forward.
    """

    def __init__(self, clock: Session) -> None:
        self.was_called = False
        self._clock = clock

    @property
    def in_vain(self) -> bool:
        """Whether there was a forward, and no step was told before, in or after it."""
        return self.was_called and not self._clock.was_told


@contextmanager
def watching_forwards(model: HookedModel) -> Iterator[ForwardWatch]:
    """Notice whether the model is called while the context is open; for those who wait for a step.

    Calls through ``run_with_hooks`` and ``run_with_cache``, which nobody trains with, pass it by.
    """
    module: Any = model
    watch = ForwardWatch(session(model))

    def note(module: Any, args: Any) -> None:
        watch.was_called = True
        handle.remove()  # once is enough, and later calls cost nothing

    handle = module.register_forward_pre_hook(note)
    try:
        yield watch
    finally:
        handle.remove()
