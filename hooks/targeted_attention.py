"""Interventions on attention at target positions: bias, fix, mask.

All act on ``attn.hook_pattern`` (two can act on ``attn.hook_attn_scores`` instead) and in every forward: training,
evaluation, cached decoding. A pattern edit comes after the softmax and the causal mask, so nothing is renormalised and
the mask does not protect: maps that look into the future are refused. For whole heads see
`plateau_interp.hooks.ablated_heads`, for the patterns of another run `plateau_interp.hooks.patched_attention`.

Rows and keys count from the start of the sequence, negative ones from its end: -1 is the last position that the running
forward knows, whether it reads all tokens at once or goes on from a key/value cache. So the end moves while a model
writes: with a cache, a position that was edited when it was the last one stays as it was then. Where an attention mask
marks padding, they count from each sequence's first and last real token, and padding is no row and no key.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from plateau_interp.checks import check_number, freeze_indices, one_of
from plateau_interp.hooks.targeted_edit import TargetedEdit
from plateau_interp.interventions.hook_points import AttentionSite

__all__ = ["BiasAttention", "FixAttention", "MaskAttention"]


@dataclass(frozen=True, eq=False)
class BiasAttention(TargetedEdit):
    """Multiply attention at the target positions by a factor.

    ``pattern * where(target, factor, 1)``, after the causal mask and before the values, so the gradient into queries
    and keys through these entries is scaled too. At the scores of a softmax model, ``scores + where(target,
    log(factor), 0)``: the same with each row renormalised. Factor 1 changes nothing, bit for bit.

    Args:
        factor: above 1 for help, below 1 for hindrance.
        layers: where; by default every layer that has targets.
        heads: which; by default all.
        rows: query positions, negative ones from the end; by default every row with targets but the first answer row,
            which the paper leaves alone (for targets of your own, and where sequences are filled in: every row). A
            task with a single answer row needs them given.
        targets: Bool map ``[query, key]`` or ``[batch, query, key]``, a function of (tokens, layer) that gives one, or
            the name of one, "previous token" or "last occurrence"; by default those of the model's task.
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
    at: AttentionSite = field(default="pattern", kw_only=True)

    spares_first_row: ClassVar[bool] = True

    name: ClassVar[str] = "bias-attention"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(AttentionSite, at=self.at)
        check_number(self, "factor")
        if self.at == "scores" and self.factor <= 0:
            raise ValueError(f"factor must be positive at the scores; got {self.factor}; use MaskAttention to forbid")

    def edit(self, act: Tensor, target: Tensor) -> Tensor:
        """``act * factor`` (scores: ``act + log factor``) at the targets."""
        if self.at == "scores":
            return act + act.new_zeros(target.shape).masked_fill(target, math.log(self.factor))
        return act * act.new_ones(target.shape).masked_fill(target, self.factor)


@dataclass(frozen=True, eq=False)
class FixAttention(TargetedEdit):
    """Set attention rows to the target positions.

    Rows that have targets become ``total * target / targets.sum(key)``, so with a Bool map each of n targets gets
    ``total / n``, with a Float map its share; other rows stay as the model makes them. The gradient into queries and
    keys is 0 through the rows that are set (to keep an optimiser with momentum from moving them, add `FreezeWeights`);
    values get theirs.

    Args:
        total: the sum of each row that is set; 1 as in softmax attention.
        layers: where; by default every layer that has targets.
        heads: which; by default all.
        rows: query positions, negative ones from the end; by default every row with targets.
        targets: map ``[query, key]`` or ``[batch, query, key]``, Bool or nonnegative Float, a function of (tokens,
            layer) that gives one, or the name of one, "previous token" or "last occurrence"; by default those of the
            model's task.

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
class MaskAttention(TargetedEdit):
    """Forbid positions: attention there becomes 0.

    At the pattern, ``where(forbidden, 0, pattern)``, and nothing is renormalised. At the scores of a softmax model,
    ``where(forbidden, -inf, scores)``: the other keys take over the weight. Gradients stay finite in both cases; a row
    that would have no key left is refused at the scores, also where several masks take its keys together.

    Args:
        keys: key positions that no row may read, negative ones from the end.
        layers: where; by default every layer (without ``keys``: that has targets).
        heads: which; by default all.
        rows: query positions that are masked, negative ones from the end; by default all.
        targets: without ``keys``, the forbidden positions as a Bool map, function or name; by default those of the
            model's task, that is, the solution itself.
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
    at: AttentionSite = field(default="pattern", kw_only=True)

    forbids: ClassVar[bool] = True

    name: ClassVar[str] = "mask-attention"

    def __post_init__(self) -> None:
        super().__post_init__()
        freeze_indices(self, "keys")
        one_of(AttentionSite, at=self.at)
        if self.keys is not None and self.targets is not None:
            raise ValueError("give keys or targets, not both")

    def edit(self, act: Tensor, target: Tensor) -> Tensor:
        """0 at the forbidden positions (scores: -inf)."""
        # In one pass over memory; `masked_fill` copies first.
        return torch.where(target, 0.0 if self.at == "pattern" else -torch.inf, act)
