"""Schedules: wrappers that say at which training steps an intervention acts.

The wrapped intervention is attached all the time; the schedule turns it up and down when
`plateau_interp.interventions.clock.advance` says which step begins: `train` calls it, and so does a loop of your own,
``advance(model, step=step)`` before each forward. Outside training the step is the last one the model was told, or 0.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from plateau_interp.checks import check_whole, shown
from plateau_interp.interventions.attached import Attached, Intervention, Wrapping, check_intervention, entering
from plateau_interp.interventions.clock import UNTOLD, ForwardWatch, NotDue, listening, watching_forwards
from plateau_interp.metrics import as_float32
from plateau_interp.types import HookedModel

__all__ = ["Condition", "During", "When"]

Condition = str | Callable[[Mapping[str, float]], bool]
"""``"METRIC < NUMBER"`` (or ``<=``, ``>``, ``>=``), in float32, or a function of the latest metrics."""

# Behind an @ a column says of what it is, such as "blocks.*.mlp.W_in" or "all but mlp layers".
COMPARISON = re.compile(
    r"\s*([A-Za-z_][\w.#]*(?:@[^<>=]*[^<>=\s])?)\s*(<=|>=|<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*"
)

COMPARE: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "<": lambda value, bound: value < bound,
    "<=": lambda value, bound: value <= bound,
    ">": lambda value, bound: value > bound,
    ">=": lambda value, bound: value >= bound,
}


@dataclass(frozen=True, eq=False)
class During:
    """Let an intervention act at some steps only.

    It acts at steps ``start <= t < stop`` with ``(t - start) % every == 0``. With a ramp its strength grows in equal
    parts: ``min(1, (t - start + 1) / ramp)``, so it is whole at step ``start + ramp - 1``.

    Args:
        intervention: any that can be switched.
        start: first step.
        stop: the step at which it no longer acts; None for never.
        every: acts at the first of so many steps.
        ramp: steps until the whole strength; 0 and 1 mean at once.

    Raises:
        ValueError: for numbers that cannot be; on entry, for a ramp on an intervention that is only on or off.

    Example:
        >>> from plateau_interp.hooks import BiasAttention
        >>> late = During(BiasAttention(factor=10.0), start=50)
        >>> [late.strength(step) for step in (49, 50)]
        [0.0, 1.0]
    """

    intervention: Intervention
    start: int = field(default=0, kw_only=True)
    stop: int | None = field(default=None, kw_only=True)
    every: int = field(default=1, kw_only=True)
    ramp: int = field(default=0, kw_only=True)

    name: ClassVar[str] = "during"

    def __post_init__(self) -> None:
        check_intervention(self.intervention)
        check_whole(self, "start", "ramp")
        check_whole(self, "every", least=1)
        if self.stop is not None:
            check_whole(self, "stop")
            if self.stop <= self.start:
                raise ValueError(f"stop must be after start={self.start}; got {self.stop}")

    def strength(self, step: int) -> float:
        """How much it acts at a step, from 0 to 1."""
        if step < self.start or (self.stop is not None and step >= self.stop) or (step - self.start) % self.every:
            return 0.0
        return _ramped(step - self.start, self.ramp)

    @property
    def is_constant(self) -> bool:
        """Whether it is the same at every step, so that nobody need tell any."""
        return (self.start, self.stop, self.every) == (0, None, 1) and self.ramp <= 1

    @contextmanager
    def attach(self, model: HookedModel) -> Iterator["AttachedSchedule"]:
        """Act on the model while the context is open and the step is right."""

        def hear(step: int, metrics: Mapping[str, float]) -> Callable[[], None]:
            return attached.ask(self.strength(step), step=step)

        # Listening first: an outer schedule settles before the one it wraps, and tells it by how much.
        with (
            listening(model, hear) as step,
            watching_forwards(model) as watch,
            entering(model, self.intervention) as inner,
        ):
            attached = AttachedSchedule(self, inner, watch, own=self.strength(step))
            yield attached


@dataclass(frozen=True, eq=False)
class When:
    """Let an intervention act when the latest metrics say so.

    It acts at steps where all that is given agrees: ``condition`` holds now, ``since`` has held at this step or before,
    and ``until`` has not held at any step since then. The metrics are those of the step before, so nothing holds at
    step 0; a metric that is not measured at every step keeps its latest verdict. Conditions are judged only when
    training tells a step. A ramp counts from the step at which it last began to act.

    Args:
        intervention: any that can be switched.
        condition: acts while this holds.
        since: begins, for good, when this first holds.
        until: ends, for good, when this first holds.
        ramp: steps until the whole strength; 0 and 1 mean at once.

    Raises:
        ValueError: if no condition is given or one cannot be read; on entry, for a ramp on an intervention that is
            only on or off.

    Example:
        >>> from plateau_interp.hooks import BiasAttention
        >>> When(BiasAttention(factor=10.0), until="attention_progress > 0.5").until
        'attention_progress > 0.5'
    """

    intervention: Intervention
    condition: Condition | None = None
    since: Condition | None = field(default=None, kw_only=True)
    until: Condition | None = field(default=None, kw_only=True)
    ramp: int = field(default=0, kw_only=True)

    name: ClassVar[str] = "when"

    def __post_init__(self) -> None:
        check_intervention(self.intervention)
        check_whole(self, "ramp")
        given = [condition for condition in (self.condition, self.since, self.until) if condition is not None]
        if not given:
            raise ValueError("give at least one of condition, since and until")
        for condition in given:
            _read_condition(condition)

    @property
    def is_constant(self) -> bool:
        """Never: conditions are judged at the steps that somebody tells."""
        return False

    @contextmanager
    def attach(self, model: HookedModel) -> Iterator["AttachedWhen"]:
        """Act on the model while the context is open and the conditions hold."""

        def hear(step: int, metrics: Mapping[str, float]) -> Callable[[], None]:
            return attached.hear(step, metrics)

        with listening(model, hear), watching_forwards(model) as watch, entering(model, self.intervention) as inner:
            attached = AttachedWhen(self, inner, watch)
            yield attached


class AttachedSchedule(Wrapping):
    """The live side of a schedule. At how many steps it let the wrapped intervention act, that one's receipt counts."""

    def __init__(self, schedule: During | When, inner: Attached, watch: ForwardWatch, *, own: float = 0.0) -> None:
        super().__init__(schedule, inner, needs="fractions" if schedule.ramp > 1 else "switch", own=own)
        self.receipt.active_steps = 0
        self._waits = not schedule.is_constant
        self._watch = watch
        self._was_turned_down = False

    def ask(self, strength: float, *, step: int) -> Callable[[], None]:
        """Ask for a strength from now on; what is returned sets it, once every schedule has asked."""

        def settle() -> None:
            self.turn(strength)
            if self.active:
                self.receipt.count_step(step)

        self._own = strength  # a schedule around this one may settle first, and dials what is asked for now
        return settle

    def dial(self, strength: float) -> None:
        """Set the strength that a wrapper around this one asks for; the two multiply."""
        super().dial(strength)
        self._was_turned_down |= self.strength < 1

    def complaints(self) -> list[str]:
        """The wrapped intervention's; that nobody told a step; that the strength was set for nothing."""
        complaints = self.inner.complaints()
        if self._waits and self._watch.in_vain:
            complaints.append(f"waited in vain: {UNTOLD}")
        if not complaints and self._was_turned_down and self._watch.was_called and not self.heeds:
            complaints.append("acted all the time: what it wraps does not read the strength of its Attached")
        return list(dict.fromkeys(complaints))  # of schedules that wrap each other, one says it


class AttachedWhen(AttachedSchedule):
    """The live side of `When`, which remembers which conditions have held."""

    def __init__(self, schedule: When, inner: Attached, watch: ForwardWatch) -> None:
        super().__init__(schedule, inner, watch)
        self.schedule = schedule
        self._holds = schedule.condition is None
        self._begun = schedule.since is None
        self._ended = False
        self._on_since = -1
        self._n_told = 0
        self._offered: set[str] = set()
        self._unmeasured: set[str] = set()

    @property
    def hears_metrics(self) -> bool:
        """Conditions are on metrics."""
        return True

    def hear(self, step: int, metrics: Mapping[str, float]) -> Callable[[], None]:
        """A training step begins; judge the conditions and `ask`."""
        self._n_told += 1
        self._offered |= set(metrics)
        self._holds = self._judge(self.schedule.condition, metrics, otherwise=self._holds)
        self._begun = self._begun or self._judge(self.schedule.since, metrics, otherwise=False)
        self._ended = self._ended or (self._begun and self._judge(self.schedule.until, metrics, otherwise=False))
        if not (self._holds and self._begun and not self._ended):
            self._on_since = -1
            return self.ask(0.0, step=step)
        if self._on_since < 0:
            self._on_since = step
        return self.ask(_ramped(step - self._on_since, self.schedule.ramp), step=step)

    def complaints(self) -> list[str]:
        """The wrapped intervention's; metrics that nobody measured; that there were none at all."""
        complaints = super().complaints()
        never, offered = ", ".join(sorted(self._unmeasured - self._offered)), ", ".join(sorted(self._offered))
        if never:
            complaints.append(f"waited for {never}, which nobody measured; measured were {offered}")
        if self._n_told > 1 and not offered:  # there are none yet at the first step
            complaints.append("waited in vain: nobody told a metric; call advance(model, step=..., metrics=...)")
        return complaints

    def state(self) -> dict[str, Tensor]:
        """What held so far, and what the wrapped intervention remembers."""
        own = torch.tensor([self._holds, self._begun, self._ended, self._on_since], dtype=torch.int64)
        return {"when": own, **{f"inner.{name}": value for name, value in self.inner.state().items()}}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave."""
        holds, begun, ended, self._on_since = (int(value) for value in state["when"])
        self._holds, self._begun, self._ended = bool(holds), bool(begun), bool(ended)
        inner = {name: value for name, value in state.items() if name.startswith("inner.")}
        self.inner.load_state({name.removeprefix("inner."): value for name, value in inner.items()})

    def _judge(self, condition: Condition | None, metrics: Mapping[str, float], *, otherwise: bool) -> bool:
        """Whether a condition holds; ``otherwise`` where there is none or its metric was not measured this time."""
        if condition is None or not metrics:
            return otherwise
        try:
            return bool(_read_condition(condition)(metrics))
        except NotDue:
            return otherwise
        except KeyError as missing:
            self._unmeasured.add(str(missing.args[0]))
            return otherwise


def _read_condition(condition: object) -> Callable[[Mapping[str, float]], object]:
    if callable(condition):
        return condition
    match = COMPARISON.fullmatch(condition) if isinstance(condition, str) else None
    if match is None:
        raise ValueError(f"expected a condition such as 'attention_progress > 0.5'; got {shown(condition)}")
    metric, sign, bound = match.groups()
    return lambda metrics: COMPARE[sign](as_float32(_number(metrics[metric])), as_float32(float(bound)))


def _number(value: float | Tensor) -> float:
    return float(value.detach() if isinstance(value, Tensor) else value)


def _ramped(steps_on: int, ramp: int) -> float:
    """1/ramp, 2/ramp, … 1; 1 at once without a ramp."""
    return min(1.0, (steps_on + 1) / ramp) if ramp else 1.0
