"""Interventions that bring in other attention: patterns of another run, and mixtures with what an intervention makes.

They act on ``attn.hook_pattern``, after the softmax and the causal mask: nothing is renormalised, and patterns that
look into the future are refused. For other activations see `plateau_interp.hooks.activations`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import torch
from einops import rearrange
from torch import Tensor

from plateau_interp.checks import check_weight, freeze_indices
from plateau_interp.hooks.attention_maps import check_map, crop
from plateau_interp.hooks.sources import Source, check_batch, check_source, reading_source
from plateau_interp.hooks.targeted_attention import FixAttention
from plateau_interp.hooks.targets import select, selecting
from plateau_interp.interventions.attached import Attached, Intervention, Wrapping, check_intervention, entering
from plateau_interp.interventions.attaching import editing
from plateau_interp.interventions.hook_points import attention_points
from plateau_interp.interventions.running import following
from plateau_interp.types import PLACE, HookedModel

__all__ = ["MixAttention", "PatchAttention"]


@dataclass(frozen=True, eq=False)
class PatchAttention:
    """Replace attention patterns by those of another run, another step, another input or a tensor.

    ``where(chosen, source, pattern)``. A model as source (or a run, by name) is run on the very tokens of the forward
    it patches, under its attention mask, without gradients, up to the last layer that is needed; a cache or tensor
    holds the patterns of some input once and for all: of one sequence, which in a padded batch begins at each one's
    first real token, or of a batch that lies as the forward's does. The gradient into queries and keys is 0 through the
    rows that are patched; values get theirs.

    Args:
        source: a model; a run as ``"RUN"`` or ``"RUN@STEP"``; an `ActivationCache` or other mapping from hook point to
            tensor; or a tensor ``[query, key]``, ``[head, query, key]`` or ``[batch, head, query, key]`` for every
            layer.
        layers: where; by default every layer.
        heads: which; by default all.
        rows: query positions, negative ones from the end; by default all.

    Raises:
        ValueError: on entry, for what does not fit the model: layers, heads, shapes, a pattern that looks into the
            future (of a causal model also a bidirectional source) or is not finite; in a forward, if it is longer than
            the source or of another batch size, or goes on from a cache that was filled outside the context.

    Example:
        >>> from plateau_interp import intervening, toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> task = MovingWindowSum()
        >>> one, other = toy_model(task, d_model=32, seed=1), toy_model(task, d_model=32, seed=2)
        >>> tokens = task.sample(4, generator=torch.Generator()).inputs
        >>> with intervening(one, PatchAttention(other)):
        ...     patched = one.run_with_cache(tokens)[1]["pattern", 0]
        >>> torch.allclose(patched, other.run_with_cache(tokens)[1]["pattern", 0], atol=1e-6)
        True
    """

    source: Source = field(repr=False, metadata=PLACE)
    layers: Sequence[int] | None = field(default=None, kw_only=True)
    heads: Sequence[int] | None = field(default=None, kw_only=True)
    rows: Sequence[int] | None = field(default=None, kw_only=True)

    name: ClassVar[str] = "patch-attention"

    def __post_init__(self) -> None:
        check_source(self.source)
        freeze_indices(self, "layers", "heads", "rows")

    def sites(self, model: HookedModel) -> tuple[str, ...]:
        """The hook points it would act at."""
        return tuple(attention_points(model, self.layers))

    @contextmanager
    def attach(self, model: HookedModel) -> Iterator[Attached]:
        """Act on the model while the context is open."""
        points = self.sites(model)
        selection = select(model, heads=self.heads, rows=self.rows)
        check = partial(_check_patch, model)
        with following(model) as running, reading_source(self.source, model, points, check=check) as source:
            chosen = selecting(selection, running)

            def edit(act: Tensor, *, hook: Any) -> Tensor:
                query, key = act.shape[-2:]
                patch = check_batch(source.read(hook.name, len(act), key), act).to(act)
                layout, alone = running.layout(act.device), source.of_one_sequence(patch, act)
                if layout is None or alone is None:
                    patch = crop(patch, query=query, key=key)
                else:
                    patch = layout.spread(alone, query=query)
                    patch = rearrange(patch, "... batch query key -> batch (...) query key")
                return torch.where(chosen(act), patch, act)

            with editing(
                model,
                self,
                dict.fromkeys(points, edit),
                origin=source.origin,
                places={"rows": self.rows},
                varies=running.may_be_padded,
            ) as attached:
                yield attached


@dataclass(frozen=True, eq=False)
class MixAttention:
    """Interpolate from the model's attention towards another intervention's.

    ``pattern + weight * (towards(pattern) - pattern)``. Weight 0 changes nothing, bit for bit, weight 1 is the other
    intervention itself. To let the weight grow with time use ``During(..., ramp=)``.

    Args:
        weight: from 0 to 1.
        towards: any intervention that acts by degrees, such as `FixAttention` or `PatchAttention`.

    Raises:
        ValueError: for a weight outside 0 to 1; on entry, for an intervention that is only on or off.

    Example:
        >>> from plateau_interp import intervening, toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> task = MovingWindowSum()
        >>> model, tokens = toy_model(task, d_model=32), task.sample(4, generator=torch.Generator()).inputs
        >>> with intervening(model, MixAttention(weight=0.5)) as (receipt,):
        ...     model(tokens).shape
        torch.Size([4, 32, 18])
    """

    weight: float = 0.5
    towards: Intervention = field(default_factory=FixAttention)

    name: ClassVar[str] = "mix-attention"

    def __post_init__(self) -> None:
        check_intervention(self.towards)
        check_weight(self, "weight")

    @contextmanager
    def attach(self, model: HookedModel) -> Iterator[Wrapping]:
        """Act on the model while the context is open."""
        with entering(model, self.towards) as inner:
            yield Wrapping(self, inner, needs="fractions", own=self.weight)


def _check_patch(model: HookedModel, patch: Tensor) -> None:
    if not 2 <= patch.ndim <= 4 or (patch.ndim > 2 and patch.shape[-3] not in (1, model.cfg.n_heads)):
        raise ValueError(
            f"a patch must be [query, key], [head, query, key] or [batch, head, query, key] with {model.cfg.n_heads} "
            f"heads; got {tuple(patch.shape)}"
        )
    check_map(patch, model, what="the source")
