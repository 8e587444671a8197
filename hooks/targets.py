"""Maps over attention patterns: which entries an intervention means, in the forward that is running.

A map covers a whole sequence, ``[query, key]``. A forward with a key/value cache shows only the last rows of it, and a
map that depends on the data depends on tokens that such a forward no longer reads; this module deals with both.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from plateau_interp.hooks.token_history import Prefix, following
from plateau_interp.interventions.hook_points import resolve_indices
from plateau_interp.types import Batch, HookedModel, Task, layer_targets

__all__ = [
    "MapFunction",
    "MapReader",
    "check_map",
    "check_targets",
    "crop",
    "mapped_layers",
    "reading_maps",
    "selection",
]

MapFunction = Callable[[Tensor, int], Tensor]
"""``function(tokens, layer) -> map`` from the tokens so far ``[batch, key]`` to ``[query, key]``, or one a sequence."""


@dataclass(frozen=True, eq=False)
class MapReader:
    """From the pattern of the running forward to the map for it.

    Attributes:
        read: takes ``[batch, head, query, key]``, gives ``[batch|1, head|1, query, key]``.
        fixed: the whole map ``[batch|1, head|1, pos, pos]`` where it is the same for all data.
    """

    read: Callable[[Tensor], Tensor]
    fixed: Tensor | None = None


def crop(square: Tensor, pattern: Tensor) -> Tensor:
    """The part of a map over a whole sequence that belongs to a pattern: the last rows, all keys so far.

    Args:
        square: ``[..., pos, pos]``.
        pattern: ``[batch, head, query, key]``; with a key/value cache ``query`` is less than ``key``.

    Raises:
        ValueError: if the pattern has more keys than the map.

    Example:
        >>> crop(torch.eye(3), torch.zeros(1, 1, 1, 2))  # the second of two tokens, the first is in the cache
        tensor([[0., 1.]])
    """
    query, key = pattern.shape[-2:]
    if key > square.shape[-1]:
        raise ValueError(f"the map covers {square.shape[-1]} positions, but the forward has {key}")
    return square[..., key - query : key, :key]


def check_targets(targets: Any, *, weights: bool, what: str = "targets") -> None:
    """Refuse what is no map over attention patterns, and no function or None either.

    Args:
        targets: as given to an intervention.
        weights: whether a map may hold weights (nonnegative numbers) instead of Bool.
        what: what to call it.

    Raises:
        ValueError: for another type, number of axes or dtype, and for negative weights.
    """
    if targets is None or (callable(targets) and not isinstance(targets, type | Tensor)):
        return
    if not isinstance(targets, Tensor):
        raise ValueError(f"{what} must be a tensor or a function of (tokens, layer); got {type(targets).__name__}")
    if targets.ndim not in (2, 3):
        raise ValueError(f"{what} must be [query, key] or [batch, query, key]; got {tuple(targets.shape)}")
    if targets.dtype != torch.bool and not weights:
        raise ValueError(f"{what} must be a Bool map: a position is meant or not; got {targets.dtype}")
    if (targets < 0).any():
        raise ValueError(f"{what} must not be negative: they are weights within a row")


def check_map(square: Tensor, model: HookedModel, *, what: str) -> None:
    """Refuse a map that cannot be meant for this model.

    Raises:
        ValueError: if it is not square in its last two axes, holds NaN or infinities, or looks into the future of a
            causal model.
    """
    if square.ndim < 2 or square.shape[-2] != square.shape[-1]:
        raise ValueError(f"{what} must be [..., query, key] with as many queries as keys; got {tuple(square.shape)}")
    if not square.isfinite().all():
        raise ValueError(f"{what} holds NaN or infinite entries")
    if model.cfg.attention_dir == "causal" and square.triu(1).any():
        query, key = (int(index) for index in square.triu(1).nonzero()[0, -2:])
        raise ValueError(f"{what} looks into the future: query {query} reads key {key} of a causal model")


def mapped_layers(
    model: HookedModel, targets: Tensor | MapFunction | None, layers: Sequence[int] | None
) -> tuple[int, ...]:
    """The layers that have a map: those chosen, or all that have one.

    Raises:
        ValueError: for a layer that does not exist or has no map, or a model without a task when ``targets`` is None.
    """
    chosen = resolve_indices("layer", layers, model.cfg.n_layers)
    if targets is not None:
        return chosen
    having = [layer for layer, target in enumerate(_probe(model)) if target is not None]
    lacking = [layer for layer in chosen if layer not in having]
    if not having or (layers is not None and lacking):
        raise ValueError(
            f"the task has target positions in layers {having}, not in {lacking}; give targets of your own"
        )
    return tuple(layer for layer in chosen if layer in having)


@contextmanager
def reading_maps(
    model: HookedModel,
    targets: Tensor | MapFunction | None,
    *,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    rows: Sequence[int] | None = None,
    weights: bool = False,
) -> Iterator[dict[int, MapReader]]:
    """Readers that give each layer's map for whatever forward is running.

    Args:
        model: whose task supplies the maps when ``targets`` is None.
        targets: a map ``[query, key]`` or ``[batch, query, key]`` for every layer, a function, or None.
        layers: to read for; None for all that have a map.
        heads: outside these the map is 0; None for all.
        rows: query positions outside which the map is 0; None for all.
        weights: whether maps that a function gives may hold weights.

    Yields:
        A reader by layer; its maps have shape ``[batch|1, head|1, query, key]`` and the dtype of ``targets``.

    Raises:
        ValueError: for targets that do not fit the model, and rows of which none has a target.
    """
    chosen = mapped_layers(model, targets, layers)
    mask = selection(model, heads=heads, rows=rows)
    fixed = _fixed_maps(model, targets)
    if fixed is not None:
        masked = {layer: _masked(fixed[layer], mask) for layer in chosen}
        if rows is not None and not any(square.any() for square in masked.values()):
            _refuse_rows(rows, [fixed[layer] for layer in chosen])
        yield {layer: _fixed_reader(square) for layer, square in masked.items()}
        return
    with following(model) as prefix:
        compute = _computer(model, targets, prefix, weights=weights)

        def reader(layer: int) -> MapReader:
            def read(pattern: Tensor) -> Tensor:
                return crop(_masked(compute(layer, pattern), mask), pattern)

            return MapReader(read)

        yield {layer: reader(layer) for layer in chosen}


@torch.inference_mode(mode=False)  # the context may be entered there, and left for training
def selection(model: HookedModel, *, heads: Sequence[int] | None, rows: Sequence[int] | None) -> Tensor:
    """Which rows of which heads are meant, over the model's whole context: Bool ``[1, head|1, pos, 1]``."""
    device = next(model.parameters()).device
    n_ctx = model.cfg.n_ctx
    row_mask = torch.zeros(n_ctx, dtype=torch.bool, device=device)
    row_mask[list(resolve_indices("row", rows, n_ctx))] = True
    mask = rearrange(row_mask, "pos -> 1 1 pos 1")
    if heads is None:
        return mask
    head_mask = torch.zeros(model.cfg.n_heads, dtype=torch.bool, device=device)
    head_mask[list(resolve_indices("head", heads, model.cfg.n_heads))] = True
    return mask & rearrange(head_mask, "head -> 1 head 1 1")


def _task(model: HookedModel) -> Task:
    task: Task | None = getattr(model, "task", None)
    if task is None:
        raise ValueError(
            "the model has no task to take target positions from; give targets: a map [query, key], or a function of "
            "(tokens, layer)"
        )
    return task


def _probe(model: HookedModel) -> list[Tensor | None]:
    """The task's maps for two sequences of its own."""
    task = _task(model)
    batch = task.sample(2, generator=torch.Generator().manual_seed(0))
    return list(layer_targets(task, batch, n_layers=model.cfg.n_layers))


def _fixed_maps(model: HookedModel, targets: Tensor | MapFunction | None) -> list[Tensor] | None:
    """The map of each layer if it is the same for all data, else None."""
    device = next(model.parameters()).device
    if isinstance(targets, Tensor):
        check_map(targets, model, what="targets")
        n_ctx = model.cfg.n_ctx
        return [targets.detach().to(device)[..., :n_ctx, :n_ctx]] * model.cfg.n_layers
    if targets is not None:
        return None
    maps = _probe(model)
    for target in maps:
        if target is not None:
            check_map(target, model, what=f"optimal_attention of {_task(model)}")
    if any(target is not None and len(target) > 1 for target in maps):
        return None
    empty = torch.zeros(1, 1, 1, dtype=torch.bool)
    return [_pad(empty if target is None else target.to(device), model.cfg.n_ctx) for target in maps]


def _computer(
    model: HookedModel, targets: MapFunction | Tensor | None, prefix: Prefix, *, weights: bool
) -> Callable[[int, Tensor], Tensor]:
    """A function from layer and pattern to the map for the tokens of the running forward."""
    if callable(targets):
        function = targets

        def compute(layer: int, pattern: Tensor) -> Tensor:
            target, what = function(prefix.tokens(len(pattern), pattern.shape[-1]), layer), f"targets(tokens, {layer=})"
            if not isinstance(target, Tensor):
                raise ValueError(f"{what} must give a map; got {type(target).__name__}")
            check_targets(target, weights=weights, what=what)
            check_map(target, model, what=what)
            if target.ndim == 3 and len(target) not in (1, len(pattern)):
                raise ValueError(f"{what} is for {len(target)} sequences, but the forward has {len(pattern)}")
            return target.detach().to(pattern.device)[..., : model.cfg.n_ctx, : model.cfg.n_ctx]

        return compute
    task = _task(model)
    latest: tuple[int, list[Tensor | None]] = (0, [])

    def compute_all(layer: int, pattern: Tensor) -> Tensor:
        nonlocal latest
        tokens = prefix.tokens(len(pattern), pattern.shape[-1])
        if latest[0] != prefix.forwards:
            # Answers that are not there yet: no row may depend on what comes after it, so any token will do.
            padded = F.pad(tokens[:, : task.n_pos], (0, max(task.n_pos - tokens.shape[1], 0)))
            maps = layer_targets(task, Batch(padded, padded[:, 1:]), n_layers=model.cfg.n_layers)
            latest = (prefix.forwards, list(maps))
        target = latest[1][layer]
        assert target is not None
        return _pad(target, model.cfg.n_ctx)

    return compute_all


@torch.inference_mode(mode=False)
def _masked(square: Tensor, mask: Tensor) -> Tensor:
    return _with_head_axis(square) * mask[..., : square.shape[-1], :]


def _refuse_rows(rows: Sequence[int], maps: Sequence[Tensor]) -> None:
    """Say which rows have targets, unless none has: an empty map is meant."""
    having = sorted({int(row) for square in maps for row in square.any(dim=-1).nonzero()[:, -1]})
    if having:
        raise ValueError(f"rows {list(rows)} have no target; those that do are {having}")


def _pad(square: Tensor, size: int) -> Tensor:
    return F.pad(square, (0, size - square.shape[-1], 0, size - square.shape[-2]))


def _with_head_axis(square: Tensor) -> Tensor:
    return rearrange(
        square, "query key -> 1 1 query key" if square.ndim == 2 else "batch query key -> batch 1 query key"
    )


def _fixed_reader(square: Tensor) -> MapReader:
    def read(pattern: Tensor) -> Tensor:
        if len(square) not in (1, len(pattern)):
            raise ValueError(f"targets are for {len(square)} sequences, but the forward has {len(pattern)}")
        return crop(square, pattern).to(pattern.device)

    return MapReader(read, square)
