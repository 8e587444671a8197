"""Where patches and transplants come from: another model, a step of a run, a cache, a tensor."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from plateau_interp.hooks.targets import check_map, reading_tokens
from plateau_interp.resolving import nearest
from plateau_interp.types import HookedModel

__all__ = ["Source", "open_source", "reading_patterns"]

Source = str | Tensor | Mapping[str, Tensor] | HookedModel
"""A run (``"RUN"`` for its last step, ``"RUN@STEP"``), a tensor, tensors by name, or a model."""


def open_source(source: Source) -> Any:
    """The source itself, or the model of a run where a run is named.

    Raises:
        ValueError: for a step that is not a number; and what `plateau_interp.runs.Run` raises.
    """
    if not isinstance(source, str):
        return source
    from plateau_interp.runs import Run  # runs know recipes, and recipes know interventions: not at import time

    path, found, step = source.rpartition("@")
    if not found:
        return Run(source).model()
    if not step.isdigit():
        raise ValueError(f"expected a run as 'RUN' or 'RUN@STEP'; got {source!r}")
    return Run(path).model(int(step))


@contextmanager
def reading_patterns(
    source: Any, model: HookedModel, points: tuple[str, ...]
) -> Iterator[Callable[[str, Tensor], Tensor]]:
    """A function from hook point and pattern to the source's whole pattern ``[batch|1, head|1, pos, pos]``."""
    if isinstance(source, Tensor):
        source = dict.fromkeys(points, source)
    if not callable(source):
        kept = {point: _check_patch(source, point, model) for point in points}

        def read_kept(name: str, act: Tensor) -> Tensor:
            patch = kept[name]
            if len(patch) not in (1, len(act)):
                raise ValueError(f"the source has {len(patch)} sequences, but the forward has {len(act)}")
            return patch

        yield read_kept
        return
    _check_alike(source, model, points)
    last = max(int(point.split(".")[1]) for point in points)
    patterns: dict[str, Tensor] = {}
    seen = 0

    def keep(act: Tensor, *, hook: Any) -> None:
        patterns[hook.name] = act.detach()

    with reading_tokens(model) as prefix:

        def read_run(name: str, act: Tensor) -> Tensor:
            nonlocal seen
            if seen != prefix.forwards:
                tokens = prefix.tokens(act)
                with torch.no_grad(), source.hooks(fwd_hooks=[(point, keep) for point in points]):
                    source(tokens.to(next(source.parameters()).device), stop_at_layer=last + 1)
                seen = prefix.forwards
            return patterns[name]

        yield read_run


def _check_patch(source: Mapping[str, Tensor], point: str, model: HookedModel) -> Tensor:
    """The pattern for a hook point, with batch and head axes."""
    if point not in source:
        raise ValueError(f"the source has no {point}; {nearest(point, list(source))}")
    patch = source[point].detach()
    if not 2 <= patch.ndim <= 4 or (patch.ndim > 2 and patch.shape[-3] not in (1, model.cfg.n_heads)):
        raise ValueError(
            f"a patch must be [query, key], [head, query, key] or [batch, head, query, key] with {model.cfg.n_heads} "
            f"heads; got {tuple(patch.shape)}"
        )
    check_map(patch, model, what=f"the patch for {point}")
    return patch.reshape(*(1,) * (4 - patch.ndim), *patch.shape)


def _check_alike(source: Any, model: HookedModel, points: tuple[str, ...]) -> None:
    if source is model:
        raise ValueError("the source is the model itself; for another input give a cache of it")
    missing = [point for point in points if point not in source.hook_dict]
    if missing or source.cfg.n_heads != model.cfg.n_heads or source.cfg.d_vocab != model.cfg.d_vocab:
        mine, its = ((m.cfg.n_layers, m.cfg.n_heads, m.cfg.d_vocab) for m in (model, source))
        raise ValueError(f"layers, heads and vocabulary must fit: the model has {mine}, the source {its}")
