"""Maps over attention patterns ``[query, key]``, as users give them: what one is, and how it fits model and forward."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Shaped
from torch import Tensor

from plateau_interp.checks import check_takes
from plateau_interp.models.fitting import check_entries, check_real
from plateau_interp.types import HookedModel

__all__ = ["MapFunction", "ask_for_map", "check_map", "check_targets", "crop", "grow"]

MapFunction = Callable[[Tensor, int], Tensor]
"""``function(tokens, layer) -> map`` from the tokens so far ``[batch, key]`` to ``[query, key]``, or one a sequence.

In a padded batch, each sequence's tokens from its first real one on; what stands behind its last is no matter.
"""


def crop(square: Tensor, *, query: int, key: int) -> Tensor:
    """The part of a map over a whole sequence that a forward shows: the last ``query`` rows, the ``key`` keys so far.

    Raises:
        ValueError: if the forward has more keys than the map.

    Example:
        >>> crop(torch.eye(3), query=1, key=2)  # the second of two tokens, the first is in the cache
        tensor([[0., 1.]])
    """
    if key > square.shape[-1]:
        raise ValueError(f"the map covers {square.shape[-1]} positions, but the forward has {key}")
    return square[..., key - query : key, :key]


def grow(square: Shaped[Tensor, "*batch pos pos"], size: int) -> Shaped[Tensor, "*batch size size"]:
    """A map with no targets beyond its own positions, for a forward of ``size``; a longer map stays as it is.

    Example:
        >>> grow(torch.eye(1), 2)
        tensor([[1., 0.],
                [0., 0.]])
    """
    missing = max(size - square.shape[-1], 0)
    return F.pad(square, (0, missing, 0, missing))


def check_targets(targets: Any, *, weights: bool, what: str = "targets") -> None:
    """Refuse what is no map over attention patterns, and no function or None either.

    Args:
        targets: as given to an intervention.
        weights: whether a map may hold weights (nonnegative numbers) instead of Bool.
        what: what to call it.

    Raises:
        ValueError: for another type, number of axes or dtype, for negative weights, and for a function that takes other
            arguments.
    """
    if targets is None:
        return
    if callable(targets) and not isinstance(targets, type | Tensor):
        check_takes(targets, what, "tokens", "layer")
        return
    if not isinstance(targets, Tensor):
        raise ValueError(f"{what} must be a tensor or a function of (tokens, layer); got {type(targets).__name__}")
    if targets.ndim not in (2, 3):
        raise ValueError(f"{what} must be [query, key] or [batch, query, key]; got {tuple(targets.shape)}")
    if targets.dtype != torch.bool and not weights:
        raise ValueError(f"{what} must be a Bool map: a position is meant or not; got {targets.dtype}")
    check_real(targets, what)
    if (targets < 0).any():
        raise ValueError(f"{what} must not be negative: they are weights within a row")


def check_map(square: Tensor, model: HookedModel, *, what: str) -> None:
    """Refuse a map that cannot be meant for this model.

    Raises:
        ValueError: if it is not square in its last two axes, holds what is no finite number, or looks into the
            future of a causal model.
    """
    if square.ndim < 2 or square.shape[-2] != square.shape[-1]:
        raise ValueError(f"{what} must be [..., query, key] with as many queries as keys; got {tuple(square.shape)}")
    check_entries(square, what)
    if model.cfg.attention_dir == "causal" and square.triu(1).any():
        query, key = (int(index) for index in square.triu(1).nonzero()[0, -2:])
        raise ValueError(f"{what} looks into the future: query {query} reads key {key} of a causal model")


def ask_for_map(function: MapFunction, tokens: Tensor, layer: int, model: HookedModel, *, weights: bool) -> Tensor:
    """The map that a function gives for tokens ``[batch, key]``, ``[query, key]`` or ``[batch, query, key]``.

    Raises:
        ValueError: if it gives something else, or a map that cannot be meant for this model.
    """
    target, what = function(tokens, layer), f"targets(tokens, {layer=})"
    if not isinstance(target, Tensor):
        raise ValueError(f"{what} must give a map; got {type(target).__name__}")
    check_targets(target, weights=weights, what=what)
    check_map(target, model, what=what)
    if target.ndim == 3 and len(target) not in (1, len(tokens)):
        raise ValueError(f"{what} is for {len(target)} sequences, but the forward has {len(tokens)}")
    return target.detach()
