"""Activation patching: which activation, put from one run into another, brings the metric back.

It measures; to train or decode under a patch use `plateau_interp.hooks.PatchActivation`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from plateau_interp.analysis.edges import Metric, one_number
from plateau_interp.checks import check_takes
from plateau_interp.interventions.hook_points import has_hooks, head_count, resolve_hook_points
from plateau_interp.interventions.padding import layout_of
from plateau_interp.interventions.running import RunningForward, following
from plateau_interp.models.fitting import check_attention_mask, check_tokens
from plateau_interp.types import HookedModel, check_model

__all__ = ["patch_by_head", "patch_by_position"]

Place = tuple[slice | int | Tensor, ...]
"""An index into an activation ``[batch, pos, ...]``."""

ENTRIES = 2**25
"""Of the largest activation of a forward with patched copies: 128 MiB of logits in float32."""

ALONG = ("attention_mask", "shortformer_pos_embed")
"""What TransformerLens hands every block beside the residual stream."""


def patch_by_position(
    model: HookedModel,
    metric: Metric,
    *,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "batch pos"],
    attention_mask: Shaped[Tensor, "batch pos"] | None = None,
    at: str = "hook_resid_pre",
) -> Float[Tensor, "layer longest"]:
    """Activation patching: how much each layer's activation at each position restores.

    In a run on the corrupted input one activation is replaced by that of the clean run. The value is the share of the
    metric's difference that comes back, ``(patched - corrupted) / (clean - corrupted)``: 0 for no effect, 1 for the
    clean run's metric; outside 0 to 1 where a patch does harm or more than restore.

    A patched forward begins at the patched layer, from the corrupted run's residual stream, and holds copies of the
    batch with a patch each; the metric sees one copy at a time. In float32 this agrees with a whole forward for each
    patch to about 1e-5 of the logits. While anything is attached to a hook point, which may look at the whole batch, a
    forward holds one copy; what acts before the patched layer fires in the corrupted run alone.

    Args:
        model: any HookedTransformer, under whatever interventions are attached.
        metric: from logits ``[batch, pos, d_vocab]`` to a number, such as a mean logit difference.
        clean: tokens of the run to take from.
        corrupted: tokens of the run to patch, of the same shape.
        attention_mask: of both inputs, 1 for a real token and 0 for padding. Positions then count from each sequence's
            first real token; a sequence that is too short for one stays corrupted. The metric sees padding, too.
        at: hook point within each block.

    Returns:
        The share restored, ready for a heat map, for each position of the longest sequence.

    Raises:
        ValueError: for what are no model, metric, tokens or mask; if the shapes differ, the metric does not or is not
            one finite number, or there is no such hook point, or none with positions.

    Example:
        >>> from plateau_interp import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> task = MovingWindowSum(n=4)
        >>> model = toy_model(task, n_layers=2, d_model=32)
        >>> clean, corrupted = (task.sample(4, generator=torch.Generator().manual_seed(s)).inputs for s in (0, 1))
        >>> patch_by_position(model, lambda logits: logits[:, -1, 0].mean(), clean=clean, corrupted=corrupted).shape
        torch.Size([2, 8])
    """
    _check_inputs(model, metric, clean=clean, corrupted=corrupted, mask=attention_mask)
    layout = None if attention_mask is None else layout_of(attention_mask.to(corrupted.device))
    places: list[Place] = [(slice(None), position) for position in range(clean.shape[1])]
    if layout is not None:
        places = [(layout.place == position).nonzero(as_tuple=True) for position in range(layout.longest)]
    return _patch_each(model, metric, clean=clean, corrupted=corrupted, mask=attention_mask, at=at, places=places)


def patch_by_head(
    model: HookedModel,
    metric: Metric,
    *,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "batch pos"],
    attention_mask: Shaped[Tensor, "batch pos"] | None = None,
    at: str = "attn.hook_z",
) -> Float[Tensor, "layer head"]:
    """Activation patching: how much each head of each layer restores; see `patch_by_position`.

    Args:
        model: any HookedTransformer, under whatever interventions are attached.
        metric: from logits ``[batch, pos, d_vocab]`` to a number.
        clean: tokens of the run to take from.
        corrupted: tokens of the run to patch, of the same shape.
        attention_mask: of both inputs, 1 for a real token and 0 for padding. The metric sees padding, too.
        at: hook point within each block, with a head axis.

    Returns:
        The share restored, ready for a heat map.

    Raises:
        ValueError: for what are no model, metric, tokens or mask; if the shapes differ, the metric does not or is not
            one finite number, or there is no such hook point, or none with positions.

    Example:
        >>> from plateau_interp import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> task = MovingWindowSum(n=4)
        >>> model = toy_model(task, n_heads=4, d_model=32)
        >>> clean, corrupted = (task.sample(4, generator=torch.Generator().manual_seed(s)).inputs for s in (0, 1))
        >>> patch_by_head(model, lambda logits: logits[:, -1, 0].mean(), clean=clean, corrupted=corrupted).shape
        torch.Size([1, 4])
    """
    _check_inputs(model, metric, clean=clean, corrupted=corrupted, mask=attention_mask)
    places: list[Place] = [(slice(None), slice(None), head) for head in range(head_count(model, f"blocks.0.{at}"))]
    return _patch_each(model, metric, clean=clean, corrupted=corrupted, mask=attention_mask, at=at, places=places)


def _check_inputs(model: Any, metric: Any, *, clean: Any, corrupted: Any, mask: Any) -> None:
    check_model(model)
    check_takes(metric, "metric", "logits")
    for name, tokens in (("clean", clean), ("corrupted", corrupted)):
        check_tokens(name, tokens, d_vocab=model.cfg.d_vocab)
    if clean.shape != corrupted.shape:
        raise ValueError(f"clean and corrupted must have one shape; got {tuple(clean.shape)}, {tuple(corrupted.shape)}")
    check_attention_mask(mask, clean)


@torch.no_grad()
def _patch_each(
    model: HookedModel,
    metric: Metric,
    *,
    clean: Tensor,
    corrupted: Tensor,
    mask: Tensor | None,
    at: str,
    places: Sequence[Place],
) -> Tensor:
    points = resolve_hook_points(model, [f"blocks.{layer}.{at}" for layer in range(model.cfg.n_layers)])
    if len(points) > model.cfg.n_layers:
        raise ValueError(f"at must be one hook point of a block; {at!r} stands for several")
    n_copies = 1 if has_hooks(model) else max(1, ENTRIES // (corrupted.numel() * _width(model, corrupted)))
    kept: dict[str, Tensor] = {}

    def keep(act: Tensor, *, hook: Any) -> None:
        # Attention maps have heads where others have positions, and may have as many of them.
        if act.shape[1:2] != clean.shape[1:] or hook.name.endswith(("_scores", "_pattern")):
            raise ValueError(f"{hook.name} holds {tuple(act.shape)}; to be patched it must hold [batch, pos, ...]")
        kept[hook.name] = act

    masked: dict[str, Any] = {} if mask is None else {"attention_mask": mask.to(corrupted.device).int()}
    patches = [_Patch(layer, place) for layer in range(len(points)) for place in places]
    values: list[Tensor] = []
    with following(model) as running:
        with model.hooks(fwd_hooks=[(point, keep) for point in points]):
            best = one_number(metric(model(clean, **masked)))
        with _keeping_inputs(model) as inputs:
            worst = one_number(metric(model(corrupted, **masked)))
        if best == worst:
            raise ValueError(f"the metric is {float(best)} on both inputs: there is nothing to restore")
        run = _CorruptedRun(model, corrupted, inputs, running)
        for start in range(0, len(patches), n_copies):
            logits = run.patched(patches[start : start + n_copies], points, kept)
            values += [one_number(metric(copy)) for copy in torch.split(logits, len(corrupted))]
    shares = (torch.stack(values) - worst) / (best - worst)
    return rearrange(shares, "(layer place) -> layer place", layer=len(points))


def _width(model: HookedModel, tokens: Tensor) -> int:
    """How many entries the largest activation has for a token, more or less."""
    return int(max(model.cfg.d_vocab, 16 * model.cfg.d_model, model.cfg.n_heads * tokens.shape[1]))


class _Patch(NamedTuple):
    layer: int
    place: Place


@dataclass(frozen=True, eq=False)
class _CorruptedRun:
    """A forward that was made, to begin again at any of its layers with copies of the batch."""

    model: HookedModel
    tokens: Int[Tensor, "batch pos"]
    inputs: Sequence["_BlockInput"]
    running: RunningForward

    def patched(
        self, patches: Sequence[_Patch], points: Sequence[str], clean: Mapping[str, Tensor]
    ) -> Float[Tensor, "copy pos d_vocab"]:
        """Logits of copies of the batch with a patch each, one after the other.

        A copy joins the forward at its layer, so each layer is run once for all of them; ``patches`` are in the order
        of their layers.
        """
        places = {layer: [patch.place for patch in some] for layer, some in groupby(patches, lambda patch: patch.layer)}
        states = self.inputs[0].residual[:0]
        for layer, stop in zip(places, [*list(places)[1:], None], strict=True):
            there = self.inputs[layer]
            states = torch.cat([states, there.residual.repeat(len(places[layer]), 1, 1)])
            n_copies = len(states) // len(self.tokens)
            put = partial(self._put, places=places[layer], clean=clean)
            self.running.resume(self.tokens.repeat(n_copies, 1), stage=layer)
            with self.model.hooks(fwd_hooks=[(points[layer], put)]):
                states = self.model(states, start_at_layer=layer, stop_at_layer=stop, **there.along_copies(n_copies))
        return states

    def _put(self, act: Tensor, *, hook: Any, places: Sequence[Place], clean: Mapping[str, Tensor]) -> Tensor:
        """Put the clean activation into the latest copies, a place each."""
        copies = rearrange(act.clone(), "(copy batch) ... -> copy batch ...", batch=len(self.tokens))
        for copy, place in zip(copies[-len(places) :], places, strict=True):
            copy[place] = clean[hook.name][place]
        return rearrange(copies, "copy batch ... -> (copy batch) ...")


@dataclass(frozen=True, eq=False)
class _BlockInput:
    """What a block was called with: the residual stream, before any hook of the block, and what goes along."""

    residual: Float[Tensor, "batch pos d_model"]
    along: Mapping[str, Tensor | None]

    def along_copies(self, n_copies: int) -> dict[str, Tensor | None]:
        """What goes along, for copies of the batch one after the other."""
        return {name: None if one is None else torch.cat([one] * n_copies) for name, one in self.along.items()}


@contextmanager
def _keeping_inputs(model: HookedModel) -> Iterator[list[_BlockInput]]:
    """A list to which each block of a forward adds its input, while the context is open."""
    inputs: list[_BlockInput] = []

    def keep(block: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        inputs.append(_BlockInput(args[0], {name: kwargs.get(name) for name in ALONG}))

    module: Any = model
    handles = [block.register_forward_pre_hook(keep, with_kwargs=True) for block in module.blocks]
    try:
        yield inputs
    finally:
        for handle in handles:
            handle.remove()
