"""Receipts: what an intervention did, counted where it acts and read when somebody asks.

Counting keeps everything on the device. The dial by which schedules switch an intervention is here too, because the
receipt is the live side of an otherwise immutable value.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
from torch import Tensor

from plateau_interp.checks import listed
from plateau_interp.types import Intervention, Receipt

__all__ = [
    "ActivationEdit",
    "DialledReceipt",
    "EditReceipt",
    "InterventionReceipt",
    "complaints",
    "intervention_state",
    "load_intervention_state",
]

ActivationEdit = Callable[..., Tensor]
"""``edit(act, *, hook) -> act``: a new tensor of the same shape and dtype, made without writing to the old one."""


@dataclass(eq=False)
class InterventionReceipt:
    """What an intervention did, and the dial by which schedules switch it.

    Attributes:
        intervention: whose receipt this is.
        sites: the hook points or parameters it acts at.
        fired: how often it acted.
        strength: 0 is off, 1 is the whole effect; what lies between is up to the intervention.
        idle: whether a schedule has kept it off all the time; that it never fired is then no surprise.
        lost: hook points from which somebody else removed the hook; known on exit.
    """

    intervention: Intervention = field(repr=False)
    sites: tuple[str, ...]
    fired: int = 0
    strength: float = 1.0
    idle: bool = False
    lost: Sequence[str] = ()

    @property
    def gradual(self) -> bool:
        """Whether strengths between 0 and 1 mean something."""
        return True

    def dial(self, strength: float) -> None:
        """Set the strength; schedules call this."""
        self.strength = strength

    def complaints(self) -> list[str]:
        """Why the intervention was not what it seems: it never fired, its hooks are gone."""
        found = []
        if not (self.fired or self.idle):
            found.append(f"never fired: nothing reached {listed(self.sites)} while it was on")
        if self.lost:
            found.append(f"lost its hooks at {listed(self.lost)}, perhaps to a stray model.reset_hooks()")
        return found

    def describe(self) -> str:
        """One line for people."""
        return f"{self.intervention!r} fired {self.fired} times at {listed(self.sites)}"


@dataclass(eq=False)
class EditReceipt(InterventionReceipt):
    """What an activation edit did. Reading a number waits for the device; collecting it does not.

    ``fired`` counts edited tensors: one a forward and hook point, more where a hook point fires more often. A strength
    between 0 and 1 gives ``act + strength * (edit(act) - act)``.
    """

    _squares: dict[str, Tensor] = field(default_factory=dict, repr=False)
    _touched: dict[tuple[str, torch.Size], list[Any]] = field(default_factory=dict, repr=False)

    @property
    def gradual(self) -> bool:
        """Attention scores hold -inf, which cannot be interpolated."""
        return not any(_holds_infinities(name) for name in self.sites)

    @property
    def rows(self) -> int:
        """Most positions (of a pattern: query rows) that one firing changed."""
        return max((int(rows) for _, rows, _, _ in self._touched.values()), default=0)

    @property
    def heads(self) -> int:
        """Most heads that one firing changed; 0 at hook points without a head axis."""
        return max((int(heads) for _, _, heads, _ in self._touched.values()), default=0)

    @property
    def entries(self) -> int:
        """Tensor entries changed, over all firings.

        Counted at the first firing of each hook point and shape, and taken to be the same at the later ones; but
        single positions, as of cached decoding, are counted each time: their shape does not tell them apart.
        """
        return sum(fired * int(entries) for fired, _, _, entries in self._touched.values())

    @property
    def change(self) -> float:
        """Root-mean-square size of the change over the changed entries of all firings (infinite ones left out)."""
        return math.sqrt(sum(float(square) for square in self._squares.values()) / max(self.entries, 1))

    def describe(self) -> str:
        """One line for people."""
        return (
            f"{super().describe()}: {self.rows} rows, {self.heads} heads, {self.entries} entries, "
            f"root-mean-square change {self.change:.3g}"
        )

    def wrap(self, edit: ActivationEdit) -> Callable[..., Tensor | None]:
        """The edit as a hook function that obeys the dial and is counted here."""

        def hook_function(act: Tensor, *, hook: Any) -> Tensor | None:
            if self.strength == 0.0:
                return None
            edited = edit(act, hook=hook)
            if edited.shape != act.shape or edited.dtype != act.dtype:
                raise ValueError(
                    f"{self.intervention!r} made {edited.dtype} {tuple(edited.shape)} of {act.dtype} "
                    f"{tuple(act.shape)} at {hook.name}; an edit keeps shape and dtype"
                )
            if self.strength != 1.0:
                edited = torch.lerp(act, edited, self.strength)
            self._note(hook.name, act.detach(), edited.detach())
            return edited

        return hook_function

    @torch.no_grad()
    def _note(self, name: str, before: Tensor, after: Tensor) -> None:
        self.fired += 1
        delta = after - before
        if _holds_infinities(name):
            delta = delta.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
        square = torch.linalg.vector_norm(delta, dtype=torch.promote_types(delta.dtype, torch.float32)).square()
        self._squares[name] = self._squares[name] + square if name in self._squares else square
        touched = self._touched.get((name, before.shape))
        if touched is None:
            self._touched[name, before.shape] = [1, *_count_touched(name, before != after)]
        elif _is_single(name, before):
            rows, heads, entries = _count_touched(name, before != after)
            touched[1:] = _larger(touched[1], rows), _larger(touched[2], heads), touched[3] + entries
        else:
            touched[0] += 1


class DialledReceipt:
    """The receipt of a wrapper that turns another intervention up and down, such as a schedule.

    Everything that is not defined here is read from the wrapped intervention's receipt. A new one has not turned
    anything yet: who attached the wrapper dials it.

    Args:
        receipt: of the wrapped intervention, just attached.
        needs: the strengths the wrapper will ask for: "switch" for 0 and 1 alone, "fractions" for any between.

    Raises:
        ValueError: if the wrapped intervention cannot do that.
    """

    def __init__(self, receipt: Receipt, *, needs: Literal["switch", "fractions"]) -> None:
        self.receipt = cast(Any, receipt)
        if not hasattr(self.receipt, "dial"):
            raise ValueError(f"{receipt!r} has no dial(): its intervention cannot be switched by another")
        if needs == "fractions" and not self.receipt.gradual:
            raise ValueError(f"{self.receipt.intervention!r} is on or off; it cannot act by degrees")
        self._own = self._outer = 1.0

    def __getattr__(self, name: str) -> Any:
        if name == "receipt":  # not set yet: the constructor failed, or a copy is being made
            raise AttributeError(name)
        return getattr(self.receipt, name)

    @property
    def fired(self) -> int:
        """How often the wrapped intervention acted."""
        return int(self.receipt.fired)

    @property
    def idle(self) -> bool:
        """Whether the wrapped intervention was kept off all the time."""
        return bool(self.receipt.idle)

    @idle.setter
    def idle(self, idle: bool) -> None:
        self.receipt.idle = idle

    def turn(self, own: float) -> None:
        """Set the wrapper's own strength."""
        self._own = own
        self.receipt.dial(self._own * self._outer)

    def dial(self, strength: float) -> None:
        """Set the strength that a wrapper around this one asks for; the two multiply."""
        self._outer = strength
        self.receipt.dial(self._own * self._outer)


def complaints(receipt: Receipt) -> Sequence[str]:
    """What went wrong with an intervention, by its receipt's own ``complaints()`` where it has one."""
    if hasattr(receipt, "complaints"):
        return list(receipt.complaints())
    return [] if receipt.fired else ["never fired"]


def intervention_state(receipts: Sequence[Receipt]) -> dict[str, Tensor]:
    """What attached interventions must remember for a run to go on bit for bit, as named tensors.

    Most have nothing to remember. See `load_intervention_state`.
    """
    return {
        f"{index}.{name}": value
        for index, receipt in enumerate(receipts)
        if hasattr(receipt, "state")
        for name, value in receipt.state().items()
    }


def load_intervention_state(receipts: Sequence[Receipt], state: Mapping[str, Tensor]) -> None:
    """Give freshly attached interventions the memory of earlier ones, before the first `advance`.

    Load the model's and the optimiser's state after attaching and before this: some interventions act on entry.

    Raises:
        ValueError: if the state is that of other interventions.
    """
    remembering = {str(index): receipt for index, receipt in enumerate(receipts) if hasattr(receipt, "load_state")}
    strangers = sorted({key.split(".", 1)[0] for key in state} - set(remembering))
    if strangers:
        raise ValueError(f"the state remembers interventions {strangers}, which these do not: {list(receipts)}")
    for index, receipt in remembering.items():
        own = {key.split(".", 1)[1]: value for key, value in state.items() if key.split(".", 1)[0] == index}
        try:
            receipt.load_state(own)
        except KeyError as missing:
            raise ValueError(f"the state of intervention {index}, {receipt!r}, does not fit: {missing}") from None


def _count_touched(name: str, changed: Tensor) -> tuple[Tensor | int, Tensor | int, Tensor]:
    """Rows, heads and entries with a change, from the layout that the hook point's name says."""
    rows = _row_axis(name)
    heads = None if changed.ndim != 4 else 3 - rows
    return _count_along(changed, rows), 0 if heads is None else _count_along(changed, heads), changed.sum()


def _row_axis(name: str) -> int:
    """Where positions (of a pattern: query rows) are; heads, if any, have the other of the two middle axes."""
    return 2 if name.endswith(("hook_pattern", "hook_attn_scores")) else 1


def _is_single(name: str, act: Tensor) -> bool:
    return act.ndim > _row_axis(name) and act.shape[_row_axis(name)] == 1


def _larger(one: Tensor | int, other: Tensor | int) -> Tensor | int:
    return torch.maximum(one, other) if isinstance(one, Tensor) and isinstance(other, Tensor) else one


def _count_along(changed: Tensor, axis: int) -> Tensor | int:
    return changed.transpose(0, axis).flatten(1).any(dim=1).sum() if changed.ndim > axis else 0


def _holds_infinities(name: str) -> bool:
    """Whether masked entries of this activation are -inf."""
    return name.endswith("hook_attn_scores")
