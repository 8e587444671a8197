"""Interventions that add a term to the loss, by adding its gradient.

The loss that is recorded stays the task's: the term is a column of its own. What is added acts in the backward pass,
before `train` clips the whole gradient; so it is part of what is clipped, which an optimiser's own weight decay is not.
It is added at each backward pass: where a step has k of them, as in gradient accumulation, it is added k times.
Where another intervention cuts the graph, so that the loss does not reach a weight, the term does all the same.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from einops import reduce
from torch import Tensor

from plateau_interp.analysis.capacity import CapacitySlopes, capacity_slopes, embedding_norms
from plateau_interp.checks import check_not_negative, listed, one_of, shown
from plateau_interp.hooks.backward import editing_parameters, reaching
from plateau_interp.hooks.gradients import AttachedGradientEdit
from plateau_interp.hooks.weights import trained_parameters
from plateau_interp.models.parameters import Where, check_where, parameters_where
from plateau_interp.types import HookedModel

__all__ = ["CapacityRegulariser", "FrobeniusPenalty"]

INNER_LAYERS = "blocks.*.mlp.W_in"
OfCapacity = Literal["logarithm", "capacity"]
"""What of C_QK is added to the loss."""


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
        attached = AttachedFrobenius(self, _trained(model, self.where))
        with attached.adding(model):
            yield attached


@dataclass(frozen=True, eq=False)
class CapacityRegulariser:
    """Add ``coefficient sum ln C_QK`` to the loss, over all heads, or ``coefficient sum C_QK``.

    C_QK is the capacity of a head's query-key product, `plateau_interp.analysis.capacity.query_key_capacity`. Queries,
    keys, token and position embeddings get its gradient, as far as they are trained. That of the logarithm does not
    depend on the scale of C: it pulls at a head in proportion to ``1/|W|``, where a penalty on the norm pulls in
    proportion to ``|W|``. At measured steps it tells the term it adds, as ``capacity_regulariser``. The loss of a run
    stays the task's. A schedule's strength multiplies the coefficient. With Adam what is said of it at
    `FrobeniusPenalty` holds of this gradient, too.

    The logarithm has no least value: of a head that the data do not hold the product goes to 0, whatever the
    coefficient. Of a product that is 0 the gradient is 0, and the logarithm minus infinity. Where an entry of the
    product is 0 C has no derivative: 0 stands for it.

    Args:
        coefficient: mu; 0 changes nothing.
        of: "logarithm" or "capacity".

    Raises:
        ValueError: for a coefficient that is negative; on entry, if none of these parameters is trained.

    Source: the abstract of arXiv 2205.11359, version 1, says that its bound suggests a regulariser for operator nets;
    how it would be added is not said there, no run with one is in the authors' code, and the theorem does not cover
    attention. The two forms are ours. That it helps anything is not known: measure it beside a penalty on the norm.

    Example:
        >>> from plateau_interp import intervening, toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> model = toy_model(MovingWindowSum(), d_model=16, n_heads=2)
        >>> with intervening(model, CapacityRegulariser(0.01)) as (receipt,):
        ...     (0 * model(torch.zeros(1, 4, dtype=torch.long)).sum()).backward()
        >>> keys = model.blocks[0].attn.W_K  # C is of degree 1 in it: of each head <grad, W_K> is the coefficient
        >>> torch.allclose((keys.grad * keys).sum(dim=(1, 2)), torch.tensor(0.01)), len(receipt.sites)
        (True, 4)
    """

    coefficient: float
    of: OfCapacity = "logarithm"

    name: ClassVar[str] = "capacity-regulariser"

    def __post_init__(self) -> None:
        check_not_negative(self, "coefficient")
        one_of(OfCapacity, of=self.of)

    def sites(self, model: HookedModel) -> tuple[str, ...]:
        """The parameters that would get its gradient."""
        return tuple(_of_products(model))

    @contextmanager
    def attach(self, model: HookedModel) -> Iterator["AttachedPenalty"]:
        """Add to the gradients while the context is open."""
        attached = AttachedCapacity(self, model, _of_products(model))
        with attached.adding(model):
            yield attached


class AttachedPenalty(AttachedGradientEdit):
    """The live side of a term that is added to the loss.

    Attributes:
        parameters: that get its gradient, by name.
    """

    def __init__(self, intervention: object, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        super().__init__(intervention, tuple(parameters))
        self.parameters = parameters
        self._reached: set[str] = set()

    @contextmanager
    def adding(self, model: HookedModel) -> Iterator[None]:
        """Add to the parameters' gradients while the context is open, whether or not a loss reaches them."""
        with (
            editing_parameters(self.parameters, self.wrap(self.shrunk)),
            reaching(model, lambda: [*self.parameters.values()] if self.active else []),
        ):
            yield

    @abstractmethod
    def slope(self, name: str) -> Tensor:
        """The term's gradient by a parameter."""

    def shrunk(self, gradient: Tensor, name: str) -> Tensor:
        """``g + slope``."""
        self._reached.add(name)
        return gradient + self.slope(name).to(gradient.dtype)

    def complaints(self) -> list[str]:
        """It never acted; or the loss does not depend on some of the parameters, and these were not shrunk."""
        missed = [name for name in self.parameters if name not in self._reached]
        if not self._reached or not missed:
            return super().complaints()
        return [*super().complaints(), f"did not shrink {listed(missed)}: no gradient came there"]


class AttachedFrobenius(AttachedPenalty):
    """The live side of `FrobeniusPenalty`."""

    def __init__(self, intervention: FrobeniusPenalty, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        super().__init__(intervention, parameters)
        where = intervention.where
        self._place = where if isinstance(where, str) else getattr(where, "__name__", "function")
        self._coefficient = intervention.coefficient

    def slope(self, name: str) -> Tensor:
        """``coefficient * W``."""
        return self._coefficient * self.parameters[name]

    def measures(self) -> dict[str, Tensor]:
        """The term that is added, with the strength that a schedule gives it, and the norm of each matrix."""
        norms = {name: torch.linalg.vector_norm(weight.double()) for name, weight in self.parameters.items()}
        squares = torch.stack([norm.square() for norm in norms.values()]).sum()
        term = self.strength * self._coefficient / 2 * squares
        return {
            f"frobenius_penalty@{self._place}": term,
            **{f"weight_norm@{name}": norm for name, norm in norms.items()},
        }


class AttachedCapacity(AttachedPenalty):
    """The live side of `CapacityRegulariser`."""

    def __init__(
        self, intervention: CapacityRegulariser, model: HookedModel, parameters: Mapping[str, torch.nn.Parameter]
    ) -> None:
        super().__init__(intervention, parameters)
        self._coefficient, self._of = intervention.coefficient, intervention.of
        anything: Any = model
        self._model, self._heads = model, [block.attn for block in anything.blocks]

    def slope(self, name: str) -> Tensor:
        """``coefficient * dC/dP``, or ``coefficient / C * dC/dP``, summed over the heads that P is part of."""
        parameter = self.parameters[name]
        *_, kind = name.split(".")
        if kind in EMBEDDING_KINDS:
            norms = embedding_norms(self._model)
            found = [self._slopes(layer, norms) for layer in range(len(self._heads))]
            by_norms = torch.stack([self._weights(each) @ each.norms for each in found]).sum(dim=0)
            # A column of zeros has no direction, and stays one.
            return self._coefficient * parameter * (by_norms / norms).nan_to_num(posinf=0.0)
        slopes = self._slopes(int(name.split(".")[1]), embedding_norms(self._model))
        by_head = slopes.queries if kind.endswith("Q") else slopes.keys
        weighted = self._weights(slopes)[:, None, None] * by_head
        # Of grouped keys several query heads have the same.
        return self._coefficient * reduce(
            weighted, "(group repeat) d_model d_head -> group d_model d_head", "sum", group=len(parameter)
        )

    def measures(self) -> dict[str, Tensor]:
        """The term that is added, with the strength that a schedule gives it."""
        norms = embedding_norms(self._model).double()
        capacities = torch.cat([self._slopes(layer, norms).capacity for layer in range(len(self._heads))])
        term = (capacities.log() if self._of == "logarithm" else capacities).sum()
        return {"capacity_regulariser": self.strength * self._coefficient * term}

    def _slopes(self, layer: int, norms: Tensor) -> CapacitySlopes:
        heads = self._heads[layer]
        queries, keys = (weights.detach().to(norms.dtype) for weights in (heads.W_Q, heads.W_K))
        return capacity_slopes(queries, keys, norms, scale=float(heads.attn_scale))

    def _weights(self, slopes: CapacitySlopes) -> Tensor:
        """By head the derivative of what is added by C; 0 of a product that is 0."""
        if self._of == "capacity":
            return torch.ones_like(slopes.capacity)
        return torch.where(slopes.capacity > 0, 1 / slopes.capacity, 0.0)


EMBEDDING_KINDS = ("W_E", "W_pos")


def _of_products(model: HookedModel) -> dict[str, torch.nn.Parameter]:
    """Queries, keys and embeddings that are trained."""
    tables = ["embed.W_E"]
    if model.cfg.positional_embedding_type == "standard":
        tables.append("pos_embed.W_pos")
    # With grouped keys the parameters have a leading underscore.
    heads = [
        f"blocks.{layer}.attn.{_}W_{side}" for layer in range(model.cfg.n_layers) for side in "QK" for _ in ("", "_")
    ]
    trained = trained_parameters(model)
    found = {name: trained[name] for name in (*tables, *heads) if name in trained}
    if not found:
        raise ValueError("neither queries and keys nor embeddings of the model are trained")
    return found


def _trained(model: HookedModel, where: Where) -> dict[str, torch.nn.Parameter]:
    """Of the parameters that are meant those that are trained."""
    meant, trained = parameters_where(model, where), trained_parameters(model)
    found = {name: parameter for name, parameter in meant.items() if name in trained}
    if not found:
        raise ValueError(f"{shown(where)} means nothing that is trained: {listed([*meant])} stay as they are")
    return found
