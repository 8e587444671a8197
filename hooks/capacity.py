"""An intervention that changes nothing and measures how large each head's query-key product is: `QueryKeyCapacity`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from plateau_interp.analysis.capacity import query_key_capacity, rademacher_bound
from plateau_interp.analysis.generalisation import generalisation_gap
from plateau_interp.interventions.attached import Attached
from plateau_interp.interventions.measuring import Gauge
from plateau_interp.types import BuiltForTask, FiniteTask, HookedModel, is_finite

__all__ = ["QueryKeyCapacity"]


@dataclass(frozen=True, eq=False)
class QueryKeyCapacity:
    """Measure C_QK of each head and the norms of its query-key product, at each measured step.

    Columns ``qk_capacity_0_1`` of layer 0 and head 1, and ``qk_capacity``, their mean; likewise ``qk_frobenius``,
    ``qk_nuclear``, ``qk_operator``, ``qk_stable_rank`` and ``qk_weights``: the attributes of
    `plateau_interp.analysis.capacity.HeadCapacities`. Of a finite task, too, ``generalisation_gap``, the distance of
    the losses of both sets, and beside it ``qk_bound``, the proved bound of the Rademacher complexity of the scores, of
    the head where it is largest: ``|M|_F/scale B²/sqrt(m)``, B the largest norm of what the head's layer reads of the
    training set and m its sequences. The bound is none of the gap: what lies between is told at
    `plateau_interp.analysis.capacity.rademacher_bound`.

    It costs no forward but those over both sets of a finite task. In a series the columns stand with the others.

    Source: arXiv 2205.11359, the authors' code; what is taken over to heads, and that the paper's theorem does not
    cover it, is told at `plateau_interp.analysis.capacity.query_key_capacity`.

    Example:
        >>> from plateau_interp import intervening, toy_model
        >>> from plateau_interp.interventions.measuring import attached_measures
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> model = toy_model(MovingWindowSum(), d_model=16, n_heads=2)
        >>> with intervening(model, QueryKeyCapacity()):
        ...     [name for name in attached_measures(model) if name.startswith("qk_capacity")]
        ['qk_capacity', 'qk_capacity_0_0', 'qk_capacity_0_1']
    """

    name: ClassVar[str] = "query-key-capacity"

    @contextmanager
    def attach(self, model: HookedModel) -> Iterator[Attached]:
        """Measure while the context is open, whenever somebody asks."""
        layers = range(model.cfg.n_layers)
        sites = [f"blocks.{layer}.attn.W_{which}" for layer in layers for which in "QK"]
        yield Gauge(self, sites, measure=lambda: _measured(model))


def _measured(model: HookedModel) -> dict[str, Tensor]:
    heads = query_key_capacity(model)
    found: dict[str, Tensor] = {}
    for item in fields(heads):
        values = getattr(heads, item.name)
        if item.name == "scale":
            continue
        found[f"qk_{item.name}"] = values.mean()
        for layer, row in enumerate(values):
            found |= {f"qk_{item.name}_{layer}_{head}": value for head, value in enumerate(row)}
    task = model.task if isinstance(model, BuiltForTask) else None
    if task is not None and is_finite(task):
        found["generalisation_gap"] = generalisation_gap(model, task).double()
        largest = _largest_inputs(model, task)
        bounds = [
            rademacher_bound(
                float(heads.frobenius[layer].max() / heads.scale[layer]),
                largest_query=norm,
                largest_key=norm,
                n_pairs=len(task.train_set),
            )
            for layer, norm in enumerate(largest)
        ]
        found["qk_bound"] = found["qk_capacity"].new_tensor(max(bounds))
    return found


def _largest_inputs(model: HookedModel, task: FiniteTask) -> list[float]:
    """By layer the largest norm of what its attention reads of the training set, normalised as the head has it."""
    norms: list[float] = []
    anything: Any = model

    def keep(module: Any, args: Any, kwargs: Any) -> None:
        read = kwargs["query_input"] if "query_input" in kwargs else args[0]
        norms.append(float(torch.linalg.vector_norm(read.double(), dim=-1).max()))

    handles = [block.attn.register_forward_pre_hook(keep, with_kwargs=True) for block in anything.blocks]
    try:
        model(task.train_set.to(next(iter(model.parameters())).device).inputs)
    finally:
        for handle in handles:
            handle.remove()
    return norms
