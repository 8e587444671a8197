"""Interventions that add a term to the loss, by adding its gradient.

The loss that is recorded stays the task's: the term is a column of its own. What is added acts in the backward pass,
before `train` clips the whole gradient; so it is part of what is clipped, which an optimiser's own weight decay is not.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from plateau_interp.checks import check_not_negative, listed, shown
from plateau_interp.hooks.gradients import AttachedGradientEdit, editing_parameters
from plateau_interp.hooks.weights import trained_parameters
from plateau_interp.models.parameters import Where, check_where, parameters_where
from plateau_interp.types import HookedModel

__all__ = ["FrobeniusPenalty"]

INNER_LAYERS = "blocks.*.mlp.W_in"


@dataclass(frozen=True, eq=False)
class FrobeniusPenalty:
    """Add ``coefficient/2 |W|_F²`` to the loss, for each chosen matrix W: its gradient becomes ``g + coefficient W``.

    A schedule's strength multiplies the coefficient. At measured steps it tells the term it adds, as
    ``frobenius_penalty@WHERE``, and ``|W|_F`` of each matrix, as ``weight_norm@NAME``. The loss of a run stays the
    task's; the regularised loss is the sum of both columns.

    With SGD, momentum or not, and without clipping of the gradient, this is the optimiser's ``weight_decay``, to
    rounding. With `AdamW` it is not. AdamW's decay is decoupled: beside Adam's step it multiplies W by ``1 -
    learning_rate * weight_decay``, whatever the gradients were. What is added here goes through Adam instead: it is
    divided by the root of the mean squared gradient, so that weights with large gradients are shrunk less, and where
    the data's gradient is 0 a step is of size ``learning_rate`` whatever the coefficient. What is minimised is loss
    plus term, which AdamW's decay does not do. Who has AdamW's decay as well has both.

    Args:
        coefficient: the papers' lambda; 0 changes nothing.
        where: which parameters, as in `plateau_interp.models.parameters`; by default the MLPs' inner layers. Of them
            those that are trained.

    Raises:
        ValueError: for a coefficient that is negative; on entry, if nothing is meant, or nothing of it is trained.

    Source: the regulariser of arXiv 2210.11452 and 2309.09258, as we understand them with plain SGD on the inner
    layer of a depth-2 net. Not covered by them: other models, optimisers and choices of parameters.

    Example:
        >>> from plateau_interp import intervening, toy_model
        >>> from plateau_interp.tasks import DepthTwoNet
        >>> task = DepthTwoNet()
        >>> model = toy_model(task)
        >>> with intervening(model, FrobeniusPenalty(0.01)) as (receipt,):
        ...     (0 * task.loss(model(task.train_set.inputs), task.train_set)).backward()
        >>> weights = model.blocks[0].mlp.W_in
        >>> torch.allclose(weights.grad, 0.01 * weights), receipt.sites
        (True, ('blocks.0.mlp.W_in',))
    """

    coefficient: float
    where: Where = INNER_LAYERS

    name: ClassVar[str] = "frobenius-penalty"

    def __post_init__(self) -> None:
        check_not_negative(self, "coefficient")
        check_where(self.where)

    def sites(self, model: HookedModel) -> tuple[str, ...]:
        """The parameters it would shrink."""
        return tuple(_trained(model, self.where))

    @contextmanager
    def attach(self, model: HookedModel) -> Iterator["AttachedPenalty"]:
        """Add to the gradients while the context is open."""
        attached = AttachedPenalty(self, _trained(model, self.where))
        with editing_parameters(attached.parameters, attached.wrap(attached.shrunk)):
            yield attached


class AttachedPenalty(AttachedGradientEdit):
    """The live side of `FrobeniusPenalty`.

    Attributes:
        parameters: that are shrunk, by name.
    """

    def __init__(self, intervention: FrobeniusPenalty, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        super().__init__(intervention, tuple(parameters))
        self.parameters = parameters
        where = intervention.where
        self._place = where if isinstance(where, str) else getattr(where, "__name__", "function")
        self._coefficient = intervention.coefficient
        self._reached: set[str] = set()

    def shrunk(self, gradient: Tensor, name: str) -> Tensor:
        """``g + coefficient * W``."""
        self._reached.add(name)
        return gradient + self._coefficient * self.parameters[name]

    def measures(self) -> dict[str, Tensor]:
        """The term that is added, with the strength that a schedule gives it, and the norm of each matrix."""
        norms = {name: torch.linalg.vector_norm(weight.double()) for name, weight in self.parameters.items()}
        squares = torch.stack([norm.square() for norm in norms.values()]).sum()
        term = self.strength * self._coefficient / 2 * squares
        return {
            f"frobenius_penalty@{self._place}": term,
            **{f"weight_norm@{name}": norm for name, norm in norms.items()},
        }

    def complaints(self) -> list[str]:
        """It never acted; or the loss does not depend on some of the parameters, and these were not shrunk."""
        missed = [name for name in self.parameters if name not in self._reached]
        if not self._reached or not missed:
            return super().complaints()
        return [*super().complaints(), f"did not shrink {listed(missed)}: no gradient came there"]


def _trained(model: HookedModel, where: Where) -> dict[str, torch.nn.Parameter]:
    """Of the parameters that are meant those that are trained."""
    meant, trained = parameters_where(model, where), trained_parameters(model)
    found = {name: parameter for name, parameter in meant.items() if name in trained}
    if not found:
        raise ValueError(f"{shown(where)} means nothing that is trained: {listed([*meant])} stay as they are")
    return found
