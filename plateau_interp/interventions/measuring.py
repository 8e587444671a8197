"""Numbers that interventions tell of a model at each measured step: the columns they add to a run or a series.

An intervention that has something to tell overrides `Attached.measures`; one that only measures and changes nothing
yields a `Gauge`. Runs and series ask by themselves; in a loop of your own ask `attached_measures`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from plateau_interp.checks import shown
from plateau_interp.interventions.attached import Attached
from plateau_interp.interventions.session import session
from plateau_interp.types import HookedModel

__all__ = ["Gauge", "attached_measures", "numbered"]

Number = TypeVar("Number")


class Gauge(Attached):
    """The live side of what only measures: off it tells nothing, and it complains if it was on and never asked.

    Args:
        intervention: whose live side this is.
        sites: the hook points or parameters it reads, for people.
        measure: gives scalars by column, each time it is called; ``fired`` counts the calls.

    Example:
        >>> import torch
        >>> gauge = Gauge("a thermometer", [], measure=lambda: {"degrees": torch.tensor(20.0)})
        >>> gauge.measures()
        {}
        >>> gauge.dial(1.0)
        >>> gauge.measures()
        {'degrees': tensor(20.)}
    """

    def __init__(
        self, intervention: object, sites: Sequence[str], *, measure: Callable[[], Mapping[str, Tensor]]
    ) -> None:
        super().__init__(intervention, sites)
        self._measure = measure
        self._was_on = False

    @property
    def heeds(self) -> bool:
        """It can be switched off."""
        return True

    def dial(self, strength: float) -> None:
        """Measure at any strength above 0."""
        super().dial(strength)
        self._was_on = self._was_on or self.active

    def measures(self) -> Mapping[str, Tensor]:
        """What it was made to measure, while it is on."""
        if not self.active:
            return {}
        self.receipt.fired += 1
        return self._measure()

    def complaints(self) -> list[str]:
        """Nobody asked while it was on."""
        asked = self.receipt.fired > 0 or not self._was_on or self.receipt.active_steps == 0
        return [] if asked else ["measured nothing: no step was measured while it was on"]


@torch.no_grad()
def attached_measures(model: HookedModel, *, taken: Collection[str] = ()) -> dict[str, Float[Tensor, ""]]:
    """What is attached to a model measures of it now, by column.

    Args:
        model: under whatever interventions are attached.
        taken: columns that somebody else has. Of a column that is taken, or that two interventions tell, the next is
            called ``NAME#2``, and so on: nothing is lost, and no order but that of attaching counts.

    Raises:
        ValueError: if one of them tells what is no scalar.

    Example:
        >>> from plateau_interp import intervening, toy_model
        >>> from plateau_interp.hooks import FrobeniusPenalty
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> model = toy_model(MovingWindowSum(n=4), d_model=16)
        >>> with intervening(model, FrobeniusPenalty(0.1, where="embed.W_E")):
        ...     list(attached_measures(model))
        ...     model(torch.zeros(1, 4, dtype=torch.long)).sum().backward()
        ['frobenius_penalty@embed.W_E', 'weight_norm@embed.W_E']
    """
    found: dict[str, Tensor] = {}
    for attached in session(model).attached:
        told: object = attached.measures()
        if not isinstance(told, Mapping):
            raise ValueError(f"{attached.intervention!r} must measure scalars by column; got {shown(told)}")
        for name, value in told.items():
            if not isinstance(value, Tensor) or value.ndim:
                came = f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else shown(value)
                raise ValueError(
                    f"{attached.intervention!r} must measure scalars, tensors without axes; {name} is {came}"
                )
            found |= numbered({name: value}, taken={*taken, *found})
    return found


def numbered(numbers: Mapping[str, Number], *, taken: Collection[str]) -> dict[str, Number]:
    """Numbers by column, where those of a column that somebody else has are called ``NAME#2``, and so on.

    Args:
        numbers: of one who tells, by column.
        taken: columns that others have.

    Example:
        >>> numbered({"heat": 20.0, "loss": 7.5}, taken=["step", "loss"])
        {'heat': 20.0, 'loss#2': 7.5}
    """
    found: dict[str, Number] = {}
    for name, value in numbers.items():
        found[_free(name, {*taken, *found})] = value
    return found


def _free(name: str, taken: Collection[str]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}#{number}"
    return free
