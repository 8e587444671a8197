"""Activation patching: which activation, put from one run into another, brings the metric back.

It measures; to train or decode under a patch use `plateau_interp.hooks.PatchActivation`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from plateau_interp.interventions.hook_points import head_count, resolve_hook_points
from plateau_interp.types import HookedModel

__all__ = ["patch_by_head", "patch_by_position"]

Metric = Callable[[Tensor], Tensor | float]
Place = tuple[slice | int, ...]
"""An index into an activation ``[batch, pos, ...]``."""


def patch_by_position(
    model: HookedModel,
    metric: Metric,
    *,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "batch pos"],
    at: str = "hook_resid_pre",
) -> Float[Tensor, "layer pos"]:
    """Activation patching: how much each layer's activation at each position restores.

    In a run on the corrupted input one activation is replaced by that of the clean run. The value is the share of the
    metric's difference that comes back, ``(patched - corrupted) / (clean - corrupted)``: 0 for no effect, 1 for the
    clean run's metric; outside 0 to 1 where a patch does harm or more than restore.

    Args:
        model: any HookedTransformer, under whatever interventions are attached.
        metric: from logits ``[batch, pos, d_vocab]`` to a number, such as a mean logit difference.
        clean: tokens of the run to take from.
        corrupted: tokens of the run to patch, of the same shape.
        at: hook point within each block.

    Returns:
        The share restored, ready for a heat map.

    Raises:
        ValueError: if the shapes differ, the metric does not or is not one finite number, or there is no such hook
            point.

    Example:
        >>> from plateau_interp import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> task = MovingWindowSum(n=4)
        >>> model = toy_model(task, n_layers=2, d_model=32)
        >>> clean, corrupted = (task.sample(4, generator=torch.Generator().manual_seed(s)).inputs for s in (0, 1))
        >>> patch_by_position(model, lambda logits: logits[:, -1, 0].mean(), clean=clean, corrupted=corrupted).shape
        torch.Size([2, 8])
    """
    places = [(slice(None), position) for position in range(clean.shape[1])]
    return _patch_each(model, metric, clean=clean, corrupted=corrupted, at=at, places=places)


def patch_by_head(
    model: HookedModel,
    metric: Metric,
    *,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "batch pos"],
    at: str = "attn.hook_z",
) -> Float[Tensor, "layer head"]:
    """Activation patching: how much each head of each layer restores; see `patch_by_position`.

    Args:
        model: any HookedTransformer, under whatever interventions are attached.
        metric: from logits ``[batch, pos, d_vocab]`` to a number.
        clean: tokens of the run to take from.
        corrupted: tokens of the run to patch, of the same shape.
        at: hook point within each block, with a head axis.

    Returns:
        The share restored, ready for a heat map.

    Raises:
        ValueError: if the shapes differ, the metric does not or is not one finite number, or there is no such hook
            point.

    Example:
        >>> from plateau_interp import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> task = MovingWindowSum(n=4)
        >>> model = toy_model(task, n_heads=4, d_model=32)
        >>> clean, corrupted = (task.sample(4, generator=torch.Generator().manual_seed(s)).inputs for s in (0, 1))
        >>> patch_by_head(model, lambda logits: logits[:, -1, 0].mean(), clean=clean, corrupted=corrupted).shape
        torch.Size([1, 4])
    """
    places = [(slice(None), slice(None), head) for head in range(head_count(model, f"blocks.0.{at}"))]
    return _patch_each(model, metric, clean=clean, corrupted=corrupted, at=at, places=places)


@torch.no_grad()
def _patch_each(
    model: HookedModel,
    metric: Metric,
    *,
    clean: Tensor,
    corrupted: Tensor,
    at: str,
    places: Sequence[Place],
) -> Tensor:
    if clean.shape != corrupted.shape:
        raise ValueError(f"clean and corrupted must have one shape; got {tuple(clean.shape)}, {tuple(corrupted.shape)}")
    points = resolve_hook_points(model, [f"blocks.{layer}.{at}" for layer in range(model.cfg.n_layers)])
    cache: dict[str, Tensor] = {}

    def keep(act: Tensor, *, hook: Any) -> None:
        cache[hook.name] = act

    def put(act: Tensor, *, hook: Any, place: Place) -> Tensor:
        patched = act.clone()
        patched[place] = cache[hook.name][place]
        return patched

    with model.hooks(fwd_hooks=[(point, keep) for point in points]):
        best = _one_number(metric(model(clean)))
    worst = _one_number(metric(model(corrupted)))
    if best == worst:
        raise ValueError(f"the metric is {float(best)} on both inputs: there is nothing to restore")

    def patched(point: str, place: Place) -> Tensor:
        with model.hooks(fwd_hooks=[(point, partial(put, place=place))]):
            return _one_number(metric(model(corrupted)))

    values = torch.stack([patched(point, place) for point in points for place in places])
    return rearrange((values - worst) / (best - worst), "(layer place) -> layer place", layer=len(points))


def _one_number(measured: Any) -> Tensor:
    value = torch.as_tensor(measured)
    if value.numel() != 1:
        raise ValueError(f"the metric must be one number; got {tuple(value.shape)}")
    if not value.isfinite():
        raise ValueError(f"the metric must be finite; got {value.item()}")
    return value.reshape(())
