"""`Plan`: some interventions in order, as a value to print, compare, store and read back.

`intervening(model, *plan)` attaches one, ``Recipe(task, interventions=tuple(plan))`` trains under one. To attach a few
interventions in a script no plan is needed.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any

from torch import Tensor

from plateau_interp.checks import listed
from plateau_interp.codec import decode, encode
from plateau_interp.interventions.attached import Intervention, check_interventions, entering
from plateau_interp.types import HookedModel

__all__ = ["Plan", "brief"]


@dataclass(frozen=True, eq=False)
class Plan:
    """Interventions in the order in which they act.

    Plans are equal if they hold the same interventions with the same fields in the same order; a tensor, function or
    model in a field counts as equal to itself alone.

    Raises:
        ValueError: for what is no list of interventions.

    Example:
        >>> from plateau_interp.hooks import BiasAttention, During, FreezeWeights
        >>> plan = Plan((BiasAttention(factor=2.5), During(FreezeWeights("mlp"), start=50)))
        >>> print(plan.describe())
        1. BiasAttention(factor=2.5)
        2. During(FreezeWeights('mlp'), start=50)
        >>> plan == Plan((BiasAttention(factor=2.5), During(FreezeWeights("mlp"), start=50)))
        True
    """

    interventions: tuple[Intervention, ...]

    def __post_init__(self) -> None:
        check_interventions(self.interventions)

    def __iter__(self) -> Iterator[Intervention]:
        return iter(self.interventions)

    def __len__(self) -> int:
        return len(self.interventions)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and _key(self.interventions) == _key(other.interventions)

    def __hash__(self) -> int:
        return hash(_key(self.interventions))

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that depend on the plain data alone, the same in every process.

        Raises:
            RecipeError: for what `to_data` refuses.
        """
        text = json.dumps(Plan.from_data(self.to_data()).to_data(), sort_keys=True)  # 10 for a float is 10.0
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def describe(self, model: HookedModel | None = None) -> str:
        """What will act, in order; with a model also where: each is attached to it for a moment, and turned off.

        Raises:
            ValueError: as `intervening` on entry.
        """
        return "\n".join(
            f"{number}. {brief(intervention)}{_sites_of(intervention, model)}"
            for number, intervention in enumerate(self.interventions, start=1)
        )

    def to_data(self) -> list[dict[str, Any]]:
        """Plain data, as it stands in a recipe.

        Raises:
            RecipeError: naming the field that holds a tensor, function or model.
        """
        return [
            encode("hooks", intervention, path=f"interventions[{i}]")
            for i, intervention in enumerate(self.interventions)
        ]

    @staticmethod
    def from_data(data: Sequence[Any]) -> "Plan":
        """Read what `to_data` gave.

        Raises:
            RecipeError: naming the path of the first field that does not fit.
        """
        return Plan(tuple(decode("hooks", item, path=f"interventions[{i}]") for i, item in enumerate(data)))


def brief(value: Any) -> str:
    """A value as one would write it: fields at their defaults left out, tensors by their shape.

    Example:
        >>> from plateau_interp.hooks import MixAttention
        >>> brief(MixAttention(weight=0.25))
        'MixAttention(weight=0.25)'
    """
    if isinstance(value, Tensor):
        return f"<tensor {'x'.join(map(str, value.shape))}>"
    if not is_dataclass(value) or isinstance(value, type):
        return (
            repr(value)
            if value is None or isinstance(value, str | int | float | tuple | list)
            else f"<{_class_name(value)}>"
        )
    shown = []
    for item in sorted(fields(value), key=lambda item: bool(item.kw_only)):
        content = getattr(value, item.name)
        if item.default is MISSING and item.default_factory is MISSING:
            shown.append(brief(content) if not item.kw_only else f"{item.name}={brief(content)}")
        elif _key(content) != _key(item.default if item.default_factory is MISSING else item.default_factory()):
            shown.append(f"{item.name}={brief(content)}")
    return f"{type(value).__name__}({', '.join(shown)})"


def _sites_of(intervention: Intervention, model: HookedModel | None) -> str:
    if model is None:
        return ""
    with entering(model, intervention) as attached:
        sites = attached.sites
    return f"\n   at {listed(sites, most=16)}" if sites else "\n   at places that it does not name"


def _key(value: Any) -> Any:
    """A hashable stand-in: equal for equal plain data, by identity for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "number", value  # a float may be given as a whole number
    if value is None or isinstance(value, bool | str):
        return type(value).__name__, value
    if isinstance(value, tuple | list):
        return tuple(_key(item) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return (type(value), *(_key(getattr(value, item.name)) for item in fields(value)))
    return id(value)


def _class_name(value: Any) -> str:
    return getattr(value, "__qualname__", type(value).__name__)
