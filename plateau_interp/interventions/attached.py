"""The live contract: what `attach` yields, and what whoever attached an intervention may ask of it.

An intervention is an immutable value; while it is attached to a model, an `Attached` stands for it. It has a default
for everything, so that the smallest intervention is a context manager that yields ``Attached(self)``: see
``examples/your_own_hook.py``. What wraps another intervention, as schedules do, yields a `Wrapping`. An edit of
activations needs neither: `plateau_interp.interventions.attaching.editing` yields what it has to.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

from plateau_interp.checks import listed, shown
from plateau_interp.plugins import protocol_of
from plateau_interp.types import HookedModel

__all__ = [
    "Attached",
    "CountedAttached",
    "Intervention",
    "Receipt",
    "Wrapping",
    "attached_state",
    "check_intervention",
    "check_interventions",
    "entering",
    "load_attached_state",
]


@protocol_of("hooks")
@runtime_checkable
class Intervention(Protocol):
    """A small immutable value that edits activations, parameters or gradients at named places."""

    def attach(self, model: HookedModel) -> AbstractContextManager["Attached"]:
        """Be able to act on the model while the context is open; restore it on exit, also on error.

        What is yielded is off: whoever attaches it turns its `Attached.dial` to 1, or to what a schedule asks for.
        """
        ...


@dataclass(eq=False)
class Receipt:
    """What an intervention did: counts and sizes, nothing else; readable after the context.

    Attributes:
        intervention: whose receipt this is, as it prints itself.
        sites: the hook points or parameters it acts at.
        fired: how often it acted.
        active_steps: at how many training steps a schedule let it act; None without a schedule.
    """

    intervention: str
    sites: tuple[str, ...] = ()
    fired: int = 0
    active_steps: int | None = None
    _latest_step: int | None = field(default=None, repr=False)

    def describe(self) -> str:
        """One line for people."""
        return f"{self.intervention} fired {self.fired} times{f' at {listed(self.sites)}' if self.sites else ''}"

    def count_step(self, step: int) -> None:
        """A schedule lets it act at a step; of schedules that wrap each other each says so, and it counts once."""
        self.active_steps = (self.active_steps or 0) + (step != self._latest_step)
        self._latest_step = step


class Attached:
    """The live side of an intervention while it is attached: its dial, its memory, what it has to complain of.

    Inherit from it to override what the intervention needs; every method has a default that does nothing. An effect of
    your own heeds `strength` whenever it acts, or overrides `dial` and acts when it is turned.

    Args:
        intervention: whose live side this is.
        sites: the hook points or parameters it acts at, for people.
        receipt: to count in; by default a `Receipt`. Those who act add 1 to its ``fired``.
        gradual: whether strengths between 0 and 1 mean something; otherwise ramps and mixtures are refused.

    Example:
        >>> attached = Attached("any value", sites=["hook_embed"])
        >>> attached.strength, attached.gradual, attached.state(), attached.receipt.fired
        (0.0, False, {}, 0)
    """

    def __init__(
        self,
        intervention: object,
        sites: Sequence[str] = (),
        *,
        receipt: Receipt | None = None,
        gradual: bool = False,
    ) -> None:
        self.intervention = intervention
        self.receipt = Receipt(repr(intervention), tuple(sites)) if receipt is None else receipt
        self.gradual = gradual
        self._strength = 0.0
        self._was_read = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.intervention!r})"

    @property
    def sites(self) -> tuple[str, ...]:
        """The hook points or parameters it acts at."""
        return self.receipt.sites

    @property
    def strength(self) -> float:
        """0 is off, 1 is the whole effect; what lies between is up to the intervention. Schedules turn it."""
        # Who never asks does not heed it. Only the one who acts reads it; all others ask whether it is `active`.
        self._was_read = True
        return self._strength

    @property
    def active(self) -> bool:
        """Whether the dial is above 0."""
        return self._strength > 0

    @property
    def heeds(self) -> bool:
        """Whether it can be switched off: somebody reads the strength, or turning the dial acts by itself."""
        return self._was_read or type(self).dial is not Attached.dial

    @property
    def hears_metrics(self) -> bool:
        """Whether it acts by the metrics that `advance` tells; who has none to tell refuses it."""
        return False

    @property
    def trains_only(self) -> bool:
        """Whether nothing but an update can show that it acts; who makes none refuses it."""
        return False

    def dial(self, strength: float) -> None:
        """Set the strength; whoever attached it calls this."""
        self._strength = strength

    def state(self) -> dict[str, Tensor]:
        """What must be remembered for a run to go on bit for bit, as named tensors alone."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave, an empty one too.

        Raises:
            ValueError: if there is something to remember that this knows nothing of.
        """
        if state:
            raise ValueError(f"{self.intervention!r} has no memory, but is to remember {listed(sorted(state))}")

    def keep(self) -> None:
        """Put nothing back on exit; for a model that nobody uses afterwards."""

    def complaints(self) -> list[str]:
        """Why the intervention was not what it seems; read when the context was left without an error."""
        return []

    def measures(self) -> Mapping[str, Tensor]:
        """What it measures of the model as it is now, at a measured step: scalars by column; none by default.

        It is asked without gradients, and changes nothing: `plateau_interp.interventions.measuring`.
        """
        return {}


class CountedAttached(Attached):
    """An `Attached` that counts in its receipt how often it acts, and complains if it never did.

    Attributes:
        lost: hook points from which somebody else removed the hook; known on exit.
    """

    lost: Sequence[str] = ()

    @property
    def was_on(self) -> bool:
        """Whether it had reason to act; a schedule's verdict counts from the first step that is told."""
        return self.active if self.receipt.active_steps is None else self.receipt.active_steps > 0

    def complaints(self) -> list[str]:
        """It never fired although it was on, its hooks are gone."""
        complaints = []
        if self.was_on and not self.receipt.fired:
            complaints.append(f"never fired: nothing reached {listed(self.sites)} while it was on")
        if self.lost:
            complaints.append(f"lost its hooks at {listed(self.lost)}, perhaps to a stray model.reset_hooks()")
        return complaints


class Wrapping(Attached):
    """The live side of what wraps another intervention and turns it up and down, such as a schedule.

    All but the dial is the wrapped one's, the receipt among it. The wrapper's own strength and the one that its `dial`
    is set to multiply.

    Args:
        intervention: the wrapper.
        inner: the wrapped intervention, just attached.
        needs: the strengths the wrapper will ask for: "switch" for 0 and 1 alone, "fractions" for any between.
        own: the wrapper's own strength to begin with.

    Raises:
        ValueError: if the wrapped intervention cannot do that.
    """

    def __init__(
        self, intervention: object, inner: Attached, *, needs: Literal["switch", "fractions"], own: float = 0.0
    ) -> None:
        if needs == "fractions" and not inner.gradual:
            raise ValueError(f"{inner.intervention!r} is on or off; it cannot act by degrees")
        super().__init__(intervention, receipt=inner.receipt, gradual=inner.gradual)
        self.inner = inner
        self._own, self._outer = own, 0.0

    @property
    def active(self) -> bool:
        """Whether the wrapped intervention acts."""
        return self.inner.active

    @property
    def heeds(self) -> bool:
        """Whether the wrapped intervention can be switched off."""
        return self.inner.heeds

    @property
    def hears_metrics(self) -> bool:
        """Whether the wrapped intervention does."""
        return self.inner.hears_metrics

    @property
    def trains_only(self) -> bool:
        """Whether updates alone show the wrapped intervention."""
        return self.inner.trains_only

    def turn(self, own: float) -> None:
        """Set the wrapper's own strength."""
        self._own = own
        self.dial(self._outer)

    def dial(self, strength: float) -> None:
        """Set the strength that a wrapper around this one asks for; the two multiply."""
        self._outer = strength
        self._strength = self._own * strength
        self.inner.dial(self._strength)

    def state(self) -> dict[str, Tensor]:
        """What the wrapped intervention remembers."""
        return self.inner.state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Give the wrapped intervention its memory."""
        self.inner.load_state(state)

    def keep(self) -> None:
        """Have the wrapped intervention put nothing back."""
        self.inner.keep()

    def complaints(self) -> list[str]:
        """The wrapped intervention's."""
        return self.inner.complaints()

    def measures(self) -> Mapping[str, Tensor]:
        """What the wrapped intervention measures."""
        return self.inner.measures()


def check_intervention(value: object) -> None:
    """Refuse what is no intervention, a class of them among it.

    Raises:
        ValueError: with an example of one.
    """
    if isinstance(value, type) or not isinstance(value, Intervention):
        raise ValueError(f"expected interventions such as BiasAttention(factor=10.0); got {value!r}")


def check_interventions(value: object) -> None:
    """Refuse what is no list or tuple of interventions.

    Raises:
        ValueError: with an example of one.
    """
    if not isinstance(value, list | tuple):
        raise ValueError(f"interventions must be a list, such as [FixAttention()]; got {shown(value)}")
    for item in value:
        check_intervention(item)


@contextmanager
def entering(model: HookedModel, intervention: Intervention) -> Iterator[Attached]:
    """Attach one intervention, turned off, and see that it keeps the contract; what wrappers attach with.

    Raises:
        ValueError: on entry, if ``attach`` gives no context manager, or that no `Attached`; and what ``attach`` raises.
    """
    try:
        inspect.signature(intervention.attach).bind(model)
    except TypeError as error:
        raise ValueError(f"{intervention!r}.attach must take the model, as in attach(self, model): {error}") from None
    context: object = intervention.attach(model)
    if not isinstance(context, AbstractContextManager):
        raise ValueError(
            f"{intervention!r}.attach(model) must be a context manager (is @contextmanager missing?); got {context!r}"
        )
    with context as attached:
        if not isinstance(attached, Attached):
            raise ValueError(f"{intervention!r}.attach(model) must yield an Attached; it yields {attached!r}")
        yield attached


def attached_state(attached: Sequence[Attached]) -> dict[str, Tensor]:
    """What attached interventions must remember for a run to go on bit for bit, as named tensors.

    Most have nothing to remember. See `load_attached_state`.

    Raises:
        ValueError: if one of them gives anything else.
    """
    state: dict[str, Tensor] = {}
    for index, one in enumerate(attached):
        given: object = one.state()
        if not isinstance(given, Mapping):
            raise ValueError(f"the state of {one.intervention!r} must be named tensors; got {shown(given)}")
        for name, value in given.items():
            if not (isinstance(name, str) and isinstance(value, Tensor)):
                raise ValueError(
                    f"the state of {one.intervention!r} must be named tensors; {shown(name)} is {shown(value)}"
                )
            state[f"{index}.{name}"] = value
    return state


def load_attached_state(attached: Sequence[Attached], state: Mapping[str, Tensor]) -> None:
    """Give freshly attached interventions the memory of earlier ones, before the first `advance`.

    Load the model's and the optimiser's state after attaching and before this: some interventions act on entry.

    Raises:
        ValueError: if the state is that of other interventions.
    """
    own: list[dict[str, Tensor]] = [{} for _ in attached]
    for key, value in state.items():
        index, _, name = key.partition(".")
        if not (index.isdecimal() and int(index) < len(attached)):
            raise ValueError(f"the state remembers {key!r}, of another than these interventions: {[*attached]}")
        own[int(index)][name] = value
    for one, memory in zip(attached, own, strict=True):
        try:
            one.load_state(memory)
        except KeyError as missing:
            raise ValueError(f"the state of {one!r} does not fit: {missing}") from None
