"""An optimiser as a user might write it, in the style of Prodigy and schedule-free: it keeps numbers in its groups."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import Parameter

from plateau_interp.plugins import plugins, register


class Drifting(torch.optim.Optimizer):
    """Every number that it keeps is in the next update, so that losing one is another run."""

    def __init__(self, parameters: Iterable[tuple[str, Parameter]], lr: float, decay: float, swapped: bool) -> None:
        named = list(parameters)
        half = len(named) // 2
        entries = {"d": 1e-3, "k": 0, "lr_max": -math.inf, "betas": (0.9, 0.99), "warm": True, "phase": "rise"}
        shared = {"weight_sum": torch.zeros((), dtype=torch.float64), "history": list[float]()}
        groups = [{"params": named[:half], **shared}, {"params": named[half:], **shared, "lr": 2 * lr}]
        super().__init__(groups[::-1] if swapped else groups, {"lr": lr, "decay": decay, "only_at_first": 3, **entries})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # without a closure
        first = self.param_groups[0]
        first["weight_sum"] += 0.1  # the second group has the same tensor, and the same list
        first["history"].append(float(first["weight_sum"]))
        for group in self.param_groups:
            group["k"] += 1
            group["d"] *= 1.1 if group["phase"] == "rise" else 0.9
            group["phase"] = "fall" if group["k"] % 3 == 0 else "rise"
            group["warm"] = not group["warm"]
            group["betas"] = (group["betas"][0] * 0.99, group["betas"][1])
            group["lr"] *= group["decay"]
            group["lr_max"] = max(group["lr_max"], group["lr"])
            group["numerator"] = group.get("numerator", torch.zeros(2)) + group["d"]
            group.pop("only_at_first", None)
            scale = (
                group["lr"]
                * group["d"]
                * (1 + group["lr_max"])
                * (1 + group["k"])
                * len(group["history"])
                * group["betas"][0]
            )
            scale = scale * float(group["numerator"].sum() + group["weight_sum"]) * (2 if group["warm"] else 1)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, scale)

    def _update(self, parameter: Parameter, scale: float) -> None:
        state = self.state[parameter]
        if not state:
            state |= {
                "mean": torch.zeros_like(parameter),
                "z": parameter.detach().to(torch.float64),
                "count": torch.full((), 2**40, dtype=torch.int64),
                "sign": "plus",
                "ends": (math.inf, [1]),
                "times": 0,
            }
        state["times"] += 1
        state["count"] += 1
        state["sign"] = "minus" if state["sign"] == "plus" else "plus"
        state["ends"][1][0] += 1
        state["mean"].lerp_(parameter.grad, 0.3)
        kick = 1.01 if state["sign"] == "plus" and state["ends"][0] > 1e9 else 1.0
        kick *= 1 + 0.01 * state["ends"][1][0] + 1e-3 * int(state["count"] - 2**40)
        state["z"].sub_(state["mean"].double(), alpha=100 * scale * kick)
        state["z"].mul_(1 + 1e-12)
        parameter.copy_(state["z"])


@dataclass(frozen=True)
class Drift:
    """The plain data of `Drifting`; ``decay`` is what it multiplies its own rate by at each step, ``swapped`` another
    order of its two groups.

    The run in tests/data/run-format-4 was trained with it.
    """

    learning_rate: float = 0.5
    decay: float = 1.0
    swapped: bool = False

    name = "drift"

    def build(self, parameters: Iterable[tuple[str, Parameter]]) -> torch.optim.Optimizer:
        return Drifting(parameters, self.learning_rate, self.decay, self.swapped)


class Spoilt(torch.optim.SGD):
    """Puts something into its state at a step, of a kind that no checkpoint keeps."""

    def __init__(self, parameters: Iterable[tuple[str, Parameter]], what: str) -> None:
        super().__init__(parameters, lr=0.1)
        self.what, self.what_else, self.itself = what, torch.zeros(2), [self.param_groups, object()]
        if what == "state_dict":
            self.register_state_dict_post_hook(lambda _, state: {**state, "k": 3})
        if what == "at first":
            self.param_groups[0]["odd"] = object()
        if what == "flat that is built":
            self.param_groups[0]["flat"] = torch.zeros(100)

    def keep_views(self, flat: torch.Tensor) -> None:
        """A flat buffer in the group, and a view of it for each of two parameters."""
        group = self.param_groups[0]
        group["flat"] = flat
        for parameter, view in zip(group["params"], flat.split(50)[:2], strict=False):
            self.state[parameter]["momentum"] = view

    def step(self) -> None:  # type: ignore[override]  # without a closure
        super().step()
        group = self.param_groups[0]
        parameter: Any = group["params"][0]
        match self.what:
            case "object":
                group["odd"] = object()
            case "sparse":
                group["odd"] = torch.eye(2).to_sparse()
            case "dtype":
                group["odd"] = torch.zeros(2, dtype=torch.complex128)
            case "gradient":
                group["odd"] = torch.zeros(2, requires_grad=True)
            case "name":
                self.state[parameter] = {3: 4}
            case "nobody":
                self.state["all"] = {"k": 1}
            case "no dict":
                self.state[parameter] = [1]
            case "nested":
                self.state[parameter] = {"odd": [torch.zeros(1), {1}]}
            case "flat":
                self.keep_views(torch.zeros(100))
            case "flat that is built":
                self.keep_views(group["flat"])
            case "parameter":
                self.state[parameter]["matrix"] = parameter.detach().view(parameter.shape[0], -1)
            case "itself":
                group["odd"] = [parameter.detach()]
            case "twice":
                flat = torch.zeros(4)
                self.state[parameter]["odd"] = [flat, flat[:2]]
            case "gradient's":
                self.state[parameter]["before"] = parameter.grad
            case "attribute":
                self.calls = getattr(self, "calls", 0) + 1
                self.what_else = self.what_else + 1
            case "groups":
                self.add_param_group({"params": [("odd", Parameter(torch.zeros(1)))]})


@dataclass(frozen=True)
class Spoil:
    """The plain data of `Spoilt`."""

    what: str = "object"

    name = "spoil"

    def build(self, parameters: Iterable[tuple[str, Parameter]]) -> torch.optim.Optimizer:
        return Spoilt(parameters, self.what)


@dataclass(frozen=True)
class Lbfgs:
    """Torch's own, which asks for a closure."""

    name = "lbfgs"

    def build(self, parameters: Iterable[tuple[str, Parameter]]) -> torch.optim.Optimizer:
        return torch.optim.LBFGS([parameter for _, parameter in parameters])


@contextmanager
def registered() -> Iterator[None]:
    """Recipes know them while the context is open."""
    before = dict(plugins("optimizers"))
    for kind in (Drift, Spoil, Lbfgs):
        register("optimizers", kind)
    try:
        yield
    finally:
        plugins("optimizers").clear()
        plugins("optimizers").update(before)
