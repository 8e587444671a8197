"""The intervention on whole heads: take the information out of their attention.

It acts on ``attn.hook_pattern``; to ablate what a head writes, or a part of the positions, use `AblateActivation` at
``attn.hook_z``.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from einops import rearrange
from jaxtyping import Float, Shaped
from torch import Tensor

from plateau_interp.checks import freeze_indices, one_of
from plateau_interp.hooks.readable import masks_padding, readable_keys
from plateau_interp.hooks.targets import select, selecting
from plateau_interp.interventions.attached import Attached
from plateau_interp.interventions.attaching import editing
from plateau_interp.interventions.hook_points import attention_points
from plateau_interp.interventions.padding import Layout
from plateau_interp.interventions.running import following
from plateau_interp.types import HookedModel

__all__ = ["AblateHeads"]

HeadAblation = Literal["zero", "uniform", "mean"]


@dataclass(frozen=True, eq=False)
class AblateHeads:
    """Take the information out of some heads' attention.

    "zero": the pattern is 0, so the head writes only its bias. "uniform": each row reads all positions it may read with
    equal weight, ``1 / (row + 1)`` under causal attention (fewer positions where a layer's attention is local).
    "mean": the pattern is its mean over the batch, so what depends on position stays and what depends on the data goes.
    With zero and uniform the gradient into these heads' queries and keys is 0, with mean it is not.

    Where an attention mask marks padding, it is not read, and a row's mean is that of the sequences which have the row,
    counted from each one's first real token.

    Args:
        heads: which, in each of the layers; for different heads in different layers use several.
        layers: where; by default every layer.
        by: "zero", "uniform" or "mean".

    Raises:
        ValueError: on entry, for a layer or head that does not exist; with "mean" and padding, in a forward that goes
            on from a key/value cache.

    Source: "mean" is what the released code of arXiv 2410.22244 (matrix completion) does, "uniform" what its name says.

    Example:
        >>> from plateau_interp import intervening, toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> task = MovingWindowSum()
        >>> model, tokens = toy_model(task, n_heads=4, d_model=32), task.sample(4, generator=torch.Generator()).inputs
        >>> with intervening(model, AblateHeads([0, 2])):
        ...     pattern = model.run_with_cache(tokens)[1]["pattern", 0]
        >>> (pattern.abs().sum(dim=(0, 2, 3)) > 0).tolist()
        [False, True, False, True]
    """

    heads: Sequence[int]
    layers: Sequence[int] | None = field(default=None, kw_only=True)
    by: HeadAblation = field(default="zero", kw_only=True)

    name: ClassVar[str] = "ablate-heads"

    def __post_init__(self) -> None:
        if self.heads is None:
            raise ValueError("heads must be whole numbers, such as [0, 2]; got None")
        freeze_indices(self, "heads", "layers")
        one_of(HeadAblation, by=self.by)

    def sites(self, model: HookedModel) -> tuple[str, ...]:
        """The hook points it would act at."""
        return tuple(attention_points(model, self.layers))

    @contextmanager
    def attach(self, model: HookedModel) -> Iterator[Attached]:
        """Act on the model while the context is open."""
        layer_of = attention_points(model, self.layers)
        selection = select(model, heads=self.heads, rows=None)
        with following(model) as running:
            chosen = selecting(selection, running)

            def edit(act: Tensor, *, hook: Any) -> Tensor:
                if self.by == "zero":
                    made = act.new_zeros(1, 1, 1, 1)
                elif self.by == "mean":
                    made = _mean(act, running.layout_for_mean(act.device))
                else:
                    # Where padding is read all the same, there is no mask to follow.
                    mask = running.mask if masks_padding(model) else None
                    made = _uniform(act, model, layer_of[hook.name], mask)
                return torch.where(chosen(act), made, act)

            varies = running.may_be_padded
            with editing(model, self, dict.fromkeys(layer_of, edit), varies=varies) as attached:
                yield attached


def _mean(act: Float[Tensor, "batch head query key"], layout: Layout | None) -> Float[Tensor, "#batch head query key"]:
    """The mean over the batch, of each row over those sequences that have it."""
    if layout is None:
        return act.mean(dim=0, keepdim=True)
    spread = layout.spread(layout.mean_pattern(act), query=act.shape[-2])
    return rearrange(spread, "head batch query key -> batch head query key")


def _uniform(
    act: Float[Tensor, "batch head query key"],
    model: HookedModel,
    layer: int,
    mask: Shaped[Tensor, "batch key"] | None,
) -> Float[Tensor, "#batch 1 query key"]:
    """Each row's weight spread over what it may read; padding, where the mask is 0, has no part in it."""
    query, key = act.shape[-2:]
    readable = readable_keys(model, layer, query=query, key=key, device=act.device).to(act.dtype)
    readable = rearrange(readable, "query key -> 1 1 query key")
    if mask is not None:
        readable = readable * rearrange(mask != 0, "batch key -> batch 1 1 key").to(act.device)
    return readable / readable.sum(dim=-1, keepdim=True).clamp(min=1)
