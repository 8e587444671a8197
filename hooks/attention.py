"""Interventions on attention patterns: bias, fix, patch, mix, ablate, mask.

All act on ``attn.hook_pattern`` (two can act on ``attn.hook_attn_scores`` instead) and in every forward: training,
evaluation, cached decoding. A pattern edit comes after the softmax and the causal mask, so nothing is renormalised and
the mask does not protect: maps that look into the future are refused. For edits elsewhere see
`plateau_interp.hooks.activations`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Literal, get_args

import torch
from einops import rearrange
from jaxtyping import Float, Shaped
from torch import Tensor

from plateau_interp.checks import check_choice, check_number, freeze_indices
from plateau_interp.hooks.sources import Source, check_batch, check_source, reading_source
from plateau_interp.hooks.targets import (
    MapFunction,
    MapReader,
    check_map,
    check_targets,
    crop,
    mapped_layers,
    reading_maps,
    selection,
)
from plateau_interp.hooks.token_history import following
from plateau_interp.interventions.attached import Attached, Intervention, Wrapping, check_intervention, entering
from plateau_interp.interventions.attaching import ActivationEdit, editing
from plateau_interp.interventions.hook_points import resolve_hook_points, resolve_indices
from plateau_interp.types import HookedModel, answer_rows

__all__ = ["AblateHeads", "BiasAttention", "FixAttention", "MaskAttention", "MixAttention", "PatchAttention"]

Site = Literal["pattern", "scores"]
Ablation = Literal["zero", "uniform", "mean"]


@dataclass(frozen=True, eq=False, kw_only=True)
class _TargetedEdit(ABC):
    """An edit of attention at target positions.

    Targets are those of the task the model was built for, unless a map or a function is given.
    """

    layers: Sequence[int] | None = None
    heads: Sequence[int] | None = None
    rows: Sequence[int] | None = None
    targets: Tensor | MapFunction | None = field(default=None, repr=False)

    takes_weights: ClassVar[bool] = False

    def __post_init__(self) -> None:
        freeze_indices(self, "layers", "heads", "rows")
        check_targets(self.targets, weights=self.takes_weights)

    @abstractmethod
    def edit(self, act: Tensor, target: Tensor) -> Tensor:
        """The formula: pattern or scores ``[batch, head, query, key]`` and a map that broadcasts to them."""

    @property
    def point(self) -> str:
        """The hook point in each layer."""
        return "hook_pattern"

    def resolve_rows(self, model: HookedModel) -> Sequence[int] | None:
        """The query positions to act at; None for all."""
        return self.rows

    def resolve_targets(self, model: HookedModel) -> Tensor | MapFunction | None:
        """The target positions; None for those of the model's task."""
        return self.targets

    def bind(self, model: HookedModel, reader: MapReader) -> ActivationEdit:
        """The edit of one layer."""
        return lambda act, *, hook: self.edit(act, reader.read(act))

    def sites(self, model: HookedModel) -> tuple[str, ...]:
        """The hook points it would act at."""
        return _attention_points(model, mapped_layers(model, self.resolve_targets(model), self.layers), self.point)

    @contextmanager
    def attach(self, model: HookedModel) -> Iterator[Attached]:
        """Act on the model while the context is open."""
        points = self.sites(model)
        targets, rows = self.resolve_targets(model), self.resolve_rows(model)
        with reading_maps(
            model, targets, layers=self.layers, heads=self.heads, rows=rows, weights=self.takes_weights
        ) as readers:
            edits = {point: self.bind(model, reader) for point, reader in zip(points, readers.values(), strict=True)}
            with editing(model, self, edits) as receipt:
                yield receipt


@dataclass(frozen=True, eq=False)
class BiasAttention(_TargetedEdit):
    """Multiply attention at the target positions by a factor.

    ``pattern * where(target, factor, 1)``, after the causal mask and before the values, so the gradient into queries
    and keys through these entries is scaled too. At the scores of a softmax model, ``scores + where(target,
    log(factor), 0)``: the same with each row renormalised. Factor 1 changes nothing, bit for bit.

    Args:
        factor: above 1 for help, below 1 for hindrance.
        layers: where; by default every layer that has targets.
        heads: which; by default all.
        rows: query positions; by default every row with targets but the first answer row, which the paper leaves alone
            (for targets of your own: every row). A task with a single answer row needs them given.
        targets: Bool map ``[query, key]`` or ``[batch, query, key]``, or a function of (tokens, layer) that gives one;
            by default those of the model's task.
        at: "pattern", or "scores" to have softmax models renormalise.

    Raises:
        ValueError: for a factor that is not finite (or not positive at the scores); on entry, for what does not fit
            the model.

    Source: arXiv 2506.13688, section on biasing the attention map; row 0 excepted as in the authors' code.

    Example:
        >>> from plateau_interp import intervening, toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> task = MovingWindowSum()
        >>> model, tokens = toy_model(task, d_model=32), task.sample(4, generator=torch.Generator()).inputs
        >>> with intervening(model, BiasAttention(factor=10.0)):
        ...     model(tokens).shape
        torch.Size([4, 32, 18])
    """

    factor: float = 10.0
    at: Site = field(default="pattern", kw_only=True)

    name: ClassVar[str] = "bias-attention"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "at", get_args(Site))
        check_number(self, "factor")
        if self.at == "scores" and self.factor <= 0:
            raise ValueError(f"factor must be positive at the scores; got {self.factor}; use MaskAttention to forbid")

    @property
    def point(self) -> str:
        """The hook point in each layer."""
        return _point(self.at)

    def resolve_rows(self, model: HookedModel) -> Sequence[int] | None:
        """The rows given, or all but the first of the answer."""
        task = getattr(model, "task", None)
        if self.rows is not None or self.targets is not None or task is None:
            return self.rows
        return [row for row in range(model.cfg.n_ctx) if row != answer_rows(task).start]

    def edit(self, act: Tensor, target: Tensor) -> Tensor:
        """``act * factor`` (scores: ``act + log factor``) at the targets."""
        if self.at == "scores":
            return act + act.new_zeros(target.shape).masked_fill(target, math.log(self.factor))
        return act * act.new_ones(target.shape).masked_fill(target, self.factor)


@dataclass(frozen=True, eq=False)
class FixAttention(_TargetedEdit):
    """Set attention rows to the target positions.

    Rows that have targets become ``total * target / targets.sum(key)``, so with a Bool map each of n targets gets
    ``total / n``, with a Float map its share; other rows stay as the model makes them. The gradient into queries and
    keys is 0 through the rows that are set (to keep an optimiser with momentum from moving them, add `FreezeWeights`);
    values get theirs.

    Args:
        total: the sum of each row that is set; 1 as in softmax attention.
        layers: where; by default every layer that has targets.
        heads: which; by default all.
        rows: query positions; by default every row with targets.
        targets: map ``[query, key]`` or ``[batch, query, key]``, Bool or nonnegative Float, or a function of (tokens,
            layer) that gives one; by default those of the model's task.

    Raises:
        ValueError: for a total that is not finite; on entry, for what does not fit the model.

    Example:
        >>> from plateau_interp import intervening, toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> task = MovingWindowSum()
        >>> model, tokens = toy_model(task, d_model=32), task.sample(4, generator=torch.Generator()).inputs
        >>> with intervening(model, FixAttention()):
        ...     pattern = model.run_with_cache(tokens)[1]["pattern", 0]
        >>> pattern[0, 0, 20, :6].tolist()
        [0.0, 0.0, 0.0, 0.5, 0.5, 0.0]
    """

    total: float = 1.0

    takes_weights: ClassVar[bool] = True

    name: ClassVar[str] = "fix-attention"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "total")

    def edit(self, act: Tensor, target: Tensor) -> Tensor:
        """The row's targets in proportion; rows without targets as they are."""
        weights = target.to(act.dtype)
        row_sum = weights.sum(dim=-1, keepdim=True)
        fixed = self.total * weights / row_sum.masked_fill(row_sum == 0, 1)
        return torch.where(row_sum > 0, fixed, act)


@dataclass(frozen=True, eq=False)
class MaskAttention(_TargetedEdit):
    """Forbid positions: attention there becomes 0.

    At the pattern, ``where(forbidden, 0, pattern)``, and nothing is renormalised. At the scores of a softmax model,
    ``where(forbidden, -inf, scores)``: the other keys take over the weight. Gradients stay finite in both cases; a row
    that would have no key left is refused at the scores.

    Args:
        keys: key positions that no row may read.
        layers: where; by default every layer (without ``keys``: that has targets).
        heads: which; by default all.
        rows: query positions that are masked; by default all.
        targets: without ``keys``, the forbidden positions as a Bool map or function; by default those of the model's
            task, that is, the solution itself.
        at: "pattern", or "scores" to have softmax models renormalise.

    Raises:
        ValueError: if both ``keys`` and ``targets`` are given; on entry, for what does not fit the model.

    Example:
        >>> from plateau_interp import intervening, toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> task = MovingWindowSum()
        >>> model, tokens = toy_model(task, d_model=32), task.sample(4, generator=torch.Generator()).inputs
        >>> with intervening(model, MaskAttention(keys=[0])):
        ...     pattern = model.run_with_cache(tokens)[1]["pattern", 0]
        >>> pattern[..., 0].abs().max().item()
        0.0
    """

    keys: Sequence[int] | None = None
    at: Site = field(default="pattern", kw_only=True)

    name: ClassVar[str] = "mask-attention"

    def __post_init__(self) -> None:
        super().__post_init__()
        freeze_indices(self, "keys")
        check_choice(self, "at", get_args(Site))
        if self.keys is not None and self.targets is not None:
            raise ValueError("give keys or targets, not both")

    @property
    def point(self) -> str:
        """The hook point in each layer."""
        return _point(self.at)

    def resolve_targets(self, model: HookedModel) -> Tensor | MapFunction | None:
        """The forbidden positions; None for those of the model's task."""
        if self.keys is None:
            return self.targets
        n_ctx = model.cfg.n_ctx
        forbidden = torch.zeros(n_ctx, n_ctx, dtype=torch.bool)
        forbidden[:, list(resolve_indices("key", self.keys, n_ctx))] = True
        return forbidden.tril() if model.cfg.attention_dir == "causal" else forbidden

    def edit(self, act: Tensor, target: Tensor) -> Tensor:
        """0 at the forbidden positions (scores: -inf)."""
        return act.masked_fill(target, 0.0 if self.at == "pattern" else -torch.inf)

    def bind(self, model: HookedModel, reader: MapReader) -> ActivationEdit:
        """The edit of one layer; at the scores no row may end without a key."""
        if self.at == "pattern":
            return super().bind(model, reader)
        is_causal = model.cfg.attention_dir == "causal"
        if reader.fixed is not None:
            _check_keys_left(reader.fixed, is_causal=is_causal)
            return super().bind(model, reader)

        def checked(act: Tensor, *, hook: Any) -> Tensor:
            target = reader.read(act)
            # Waits for the device: a map that depends on the data can only be checked here.
            _check_keys_left(target, is_causal=is_causal)
            return self.edit(act, target)

        return checked


@dataclass(frozen=True, eq=False)
class AblateHeads:
    """Take the information out of some heads' attention.

    "zero": the pattern is 0, so the head writes only its bias. "uniform": each row reads all positions it may read with
    equal weight, ``1 / (row + 1)`` under causal attention (fewer where an attention mask marks padding). "mean": the
    pattern is its mean over the batch, so what depends on position stays and what depends on the data goes. With zero
    and uniform the gradient into these heads' queries and keys is 0, with mean it is not.

    Args:
        heads: which, in each of the layers; for different heads in different layers use several.
        layers: where; by default every layer.
        by: "zero", "uniform" or "mean".

    Raises:
        ValueError: on entry, for a layer or head that does not exist.

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
    by: Ablation = field(default="zero", kw_only=True)

    name: ClassVar[str] = "ablate-heads"

    def __post_init__(self) -> None:
        if self.heads is None:
            raise ValueError("heads must be whole numbers, such as [0, 2]; got None")
        freeze_indices(self, "heads", "layers")
        check_choice(self, "by", get_args(Ablation))

    def sites(self, model: HookedModel) -> tuple[str, ...]:
        """The hook points it would act at."""
        return _attention_points(model, resolve_indices("layer", self.layers, model.cfg.n_layers))

    @contextmanager
    def attach(self, model: HookedModel) -> Iterator[Attached]:
        """Act on the model while the context is open."""
        points = self.sites(model)
        chosen = selection(model, heads=self.heads, rows=None)[..., :1, :]
        is_causal = model.cfg.attention_dir == "causal"
        with ExitStack() as stack:
            prefix = stack.enter_context(following(model)) if is_causal and self.by == "uniform" else None

            def edit(act: Tensor, *, hook: Any) -> Tensor:
                mask = None if prefix is None else prefix.mask
                return torch.where(chosen.to(act.device), self.replacement(act, is_causal=is_causal, mask=mask), act)

            yield stack.enter_context(editing(model, self, dict.fromkeys(points, edit)))

    def replacement(
        self,
        act: Float[Tensor, "batch head query key"],
        *,
        is_causal: bool = True,
        mask: Shaped[Tensor, "batch key"] | None = None,
    ) -> Float[Tensor, "#batch #head #query #key"]:
        """What an ablated head's pattern becomes; padding, where the mask is 0, has no part in "uniform"."""
        if self.by == "zero":
            return act.new_zeros(1, 1, 1, 1)
        if self.by == "mean":
            return act.mean(dim=0, keepdim=True)
        n_query, n_key = act.shape[-2:]
        readable = act.new_ones(1, 1, n_query, n_key)
        if is_causal:
            readable = readable.tril(n_key - n_query)
        if mask is not None:
            readable = readable * rearrange(mask != 0, "batch key -> batch 1 1 key").to(act.device)
        return readable / readable.sum(dim=-1, keepdim=True).clamp(min=1)


@dataclass(frozen=True, eq=False)
class PatchAttention:
    """Replace attention patterns by those of another run, another step, another input or a tensor.

    ``where(chosen, source, pattern)``. A model as source (or a run, by name) is run on the very tokens of the forward
    it patches, under its attention mask, without gradients, up to the last layer that is needed; a cache or tensor
    holds the patterns of some input once and for all. The gradient into queries and keys is 0 through the rows that are
    patched; values get theirs.

    Args:
        source: a model; a run as ``"RUN"`` or ``"RUN@STEP"``; an `ActivationCache` or other mapping from hook point to
            tensor; or a tensor ``[query, key]``, ``[head, query, key]`` or ``[batch, head, query, key]`` for every
            layer.
        layers: where; by default every layer.
        heads: which; by default all.
        rows: query positions; by default all.

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

    source: Source = field(repr=False)
    layers: Sequence[int] | None = field(default=None, kw_only=True)
    heads: Sequence[int] | None = field(default=None, kw_only=True)
    rows: Sequence[int] | None = field(default=None, kw_only=True)

    name: ClassVar[str] = "patch-attention"

    def __post_init__(self) -> None:
        check_source(self.source)
        freeze_indices(self, "layers", "heads", "rows")

    def sites(self, model: HookedModel) -> tuple[str, ...]:
        """The hook points it would act at."""
        return _attention_points(model, resolve_indices("layer", self.layers, model.cfg.n_layers))

    @contextmanager
    def attach(self, model: HookedModel) -> Iterator[Attached]:
        """Act on the model while the context is open."""
        points = self.sites(model)
        chosen = selection(model, heads=self.heads, rows=self.rows)
        with reading_source(self.source, model, points, check=partial(_check_patch, model)) as read:

            def edit(act: Tensor, *, hook: Any) -> Tensor:
                n_query, n_key = act.shape[-2:]
                patch = crop(check_batch(read(hook.name, len(act), n_key), act), act)
                return torch.where(chosen[..., n_key - n_query : n_key, :].to(act.device), patch.to(act), act)

            with editing(model, self, dict.fromkeys(points, edit)) as receipt:
                yield receipt


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
        check_number(self, "weight")
        if not 0 <= self.weight <= 1:
            raise ValueError(f"weight must be between 0 and 1; got {self.weight}")

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


def _attention_points(model: HookedModel, layers: tuple[int, ...], point: str = "hook_pattern") -> tuple[str, ...]:
    if point == "hook_attn_scores" and getattr(model, "attention", "softmax") == "linear":
        raise ValueError("linear attention has no softmax to renormalise: its scores are the pattern; use at='pattern'")
    return resolve_hook_points(model, [f"blocks.{layer}.attn.{point}" for layer in layers])


def _check_keys_left(forbidden: Tensor, *, is_causal: bool) -> None:
    """Refuse a mask ``[..., query, key]`` that takes all keys from a row: its softmax gradient would be NaN."""
    n_query, n_key = forbidden.shape[-2:]
    readable = torch.ones(n_query, n_key, dtype=torch.bool, device=forbidden.device)
    readable = readable.tril(n_key - n_query) if is_causal else readable
    left = (readable & ~forbidden).any(dim=-1)
    if not left.all():
        row = int((~left).nonzero()[0, -1]) + n_key - n_query
        raise ValueError(f"row {row} would have no key left at the scores; leave it out of rows, or use at='pattern'")


def _point(site: Site) -> str:
    return "hook_pattern" if site == "pattern" else "hook_attn_scores"
