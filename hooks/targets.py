"""Targets: which entries of attention an edit means in one model, as a value, and read in the forward that is running.

A map covers a whole sequence, ``[query, key]``. A forward with a key/value cache shows only the last rows of it, and a
map that depends on the data depends on tokens that such a forward no longer reads; this module deals with both. What it
keeps for a forward has the size of that forward, and is shared by the layers for which it is the same.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from plateau_interp.hooks.attention_maps import MapFunction, ask_for_map, crop, grow
from plateau_interp.hooks.readable import check_keys_left
from plateau_interp.interventions.hook_points import (
    check_positions,
    positions_within,
    resolve_indices,
)
from plateau_interp.interventions.padding import Layout
from plateau_interp.interventions.running import RunningForward, following
from plateau_interp.positions import layer_targets
from plateau_interp.types import Batch, HookedModel, Task

__all__ = [
    "MapReader",
    "Selection",
    "Targets",
    "TaskMaps",
    "reading_maps",
    "select",
    "selecting",
]

MapReader = Callable[[Tensor, int], Tensor]
"""``read(pattern, layer) -> map``: for the running forward, broadcasting to its ``[batch, head, query, key]``."""


@dataclass(frozen=True, eq=False)
class Selection:
    """Heads and rows of attention.

    Attributes:
        heads: which of how many; None for all.
        n_heads: how many there are.
        rows: query positions, negative ones from the end of each sequence; None for all.
        spared: a row that is not meant, whatever ``rows`` says.
    """

    heads: tuple[int, ...] | None
    n_heads: int
    rows: tuple[int, ...] | None
    spared: int | None = None

    def mask(self, *, query: int, key: int, layout: Layout | None = None) -> Bool[Tensor, "#batch #head #query 1"]:
        """Which of the last ``query`` of ``key`` rows are meant, in which heads, and sequences if some are padded."""

        def shown(positions: Sequence[int]) -> Bool[Tensor, "#batch query"]:
            if layout is not None:
                return layout.meant(positions)[:, key - query :].cpu()
            return rearrange(_one_hot(positions_within(positions, start=key - query, stop=key), query), "row -> 1 row")

        rows = torch.ones(1, 1, dtype=torch.bool) if self.rows is None else shown(self.rows)
        if self.spared is not None:
            rows = rows & ~shown([self.spared])
        heads = torch.ones(1, dtype=torch.bool) if self.heads is None else _one_hot(self.heads, self.n_heads)
        return rearrange(heads, "head -> 1 head 1 1") & rearrange(rows, "batch row -> batch 1 row 1")


@dataclass(frozen=True, eq=False)
class TaskMaps:
    """The maps of a task whose targets depend on the data."""

    task: Task
    n_layers: int

    def __call__(self, tokens: Int[Tensor, "batch key"]) -> list[Tensor | None]:
        """The map of each layer ``[batch, pos, pos]`` for the tokens so far."""
        n_pos = self.task.n_pos
        # Answers that are not there yet: no row may depend on what comes after it, so any token will do. What is
        # filled in is there as a whole, and may be of several sizes.
        missing = max(n_pos - tokens.shape[1], 0) if self.task.lookahead else 0
        padded = F.pad(tokens[:, :n_pos], (0, missing))
        batch = Batch(padded, padded[:, self.task.lookahead :])
        return list(layer_targets(self.task, batch, n_layers=self.n_layers))


@dataclass(frozen=True, eq=False)
class Targets:
    """The entries of attention that an edit means in one model.

    Attributes:
        layer_of: the hook points where it acts, with the layer of each.
        selection: heads and rows outside which nothing is meant.
        maps: of each layer ``[batch|1, pos, pos]``, where the data make no difference; else what makes them: key
            positions, a function of tokens and layer, or the task, asked with the tokens of each forward.
        goes_on_empty: whether a map goes on, empty, where a forward is longer: a task's does, any other is refused.
        takes_weights: whether a function may give weights instead of truth values.
        leaves_a_key: whether a row that would lose all its keys is refused.
    """

    layer_of: Mapping[str, int]
    selection: Selection
    maps: Mapping[int, Tensor] | tuple[int, ...] | MapFunction | TaskMaps
    goes_on_empty: bool = False
    takes_weights: bool = False
    leaves_a_key: bool = False

    @property
    def depends_on_tokens(self) -> bool:
        """Whether the map is another for other tokens."""
        return not isinstance(self.maps, Mapping | tuple)

    @property
    def counts_from_end(self) -> bool:
        """Whether positions are given of which only the running forward says where they are."""
        given = (*(self.selection.rows or ()), *(self.maps if isinstance(self.maps, tuple) else ()))
        return min(given, default=0) < 0


@contextmanager
def reading_maps(targets: Targets, model: HookedModel) -> Iterator[MapReader]:
    """Read the map of a layer for whatever forward of the model is running, while the context is open.

    Maps that the data make have the dtype they were given with; a forward of other tokens has other maps. Where a mask
    marks padding, a map is laid over each sequence's own tokens, and a function is given each from its first one on.

    Raises:
        ValueError: in a forward, if it has more positions or another number of sequences than a map that was given, or
            goes on from tokens that were not seen.
    """
    with following(model) as running:
        if isinstance(targets.maps, Mapping | tuple):
            yield _reader_of_sizes(targets, model, running)
        else:
            yield _reader_of_tokens(targets, model, running)


def select(model: HookedModel, *, heads: Sequence[int] | None, rows: Sequence[int] | None) -> Selection:
    """Heads and rows that the model has.

    Raises:
        ValueError: for others, and for none.
    """
    if heads is not None:
        heads = resolve_indices("head", heads, model.cfg.n_heads)
    if rows is not None:
        check_positions("row", rows, model.cfg.n_ctx)
        rows = tuple(rows)
    return Selection(heads, model.cfg.n_heads, rows)


def selecting(selection: Selection, running: RunningForward) -> Callable[[Tensor], Tensor]:
    """A function from the pattern of a forward to the mask of a selection there, ``[batch|1, head|1, query|1, 1]``.

    It makes a mask once for all layers and as long as forwards of one size follow each other.
    """
    counts = selection.rows is not None or selection.spared is not None
    made = _kept(lambda which, size: selection.mask(query=size.query, key=size.key, layout=size.layout).to(size.device))
    return lambda pattern: made(pattern, 0, running.layout(pattern.device) if counts else None)


def _reader_of_sizes(targets: Targets, model: HookedModel, running: RunningForward) -> MapReader:
    """Read maps that depend on nothing but the size of the forward, and on padding."""
    maps, selection = targets.maps, targets.selection
    assert isinstance(maps, Mapping | tuple)
    # Layers that have one map read what was made for the first of them.
    first: dict[int, int] = {}
    alike = {
        layer: first.setdefault(id(maps[layer]) if isinstance(maps, Mapping) else 0, layer)
        for layer in targets.layer_of.values()
    }
    # A bidirectional model's row has other keys in every forward, and so may lose all in one shorter than the longest.
    checks_size = targets.leaves_a_key and (targets.counts_from_end or model.cfg.attention_dir != "causal")

    def make(first_layer: int, size: Size) -> Tensor:
        mask = selection.mask(query=size.query, key=size.key, layout=size.layout).to(size.device)
        if isinstance(maps, Mapping):
            square = _laid_out(maps[first_layer], size, goes_on_empty=targets.goes_on_empty) * mask
        elif size.layout is None:
            square = _one_hot(positions_within(maps, start=0, stop=size.key), size.key).to(size.device) * mask
        else:
            square = rearrange(size.layout.meant(maps), "batch key -> batch 1 1 key") * mask
        for layer in alike if checks_size else ():
            if alike[layer] == first_layer:
                check_keys_left(square.expand(-1, -1, size.query, size.key), model, layer, layout=size.layout)
        return square

    made = _kept(make)

    def read(pattern: Tensor, layer: int) -> Tensor:
        if isinstance(maps, Mapping) and len(maps[layer]) not in (1, len(pattern)):
            raise ValueError(f"targets are for {len(maps[layer])} sequences, but the forward has {len(pattern)}")
        return made(pattern, alike[layer], running.layout(pattern.device))

    return read


def _reader_of_tokens(targets: Targets, model: HookedModel, running: RunningForward) -> MapReader:
    """Read maps that depend on the tokens of the running forward and of those before it in the cache."""
    source = targets.maps
    assert not isinstance(source, Mapping | tuple)
    mask_of = selecting(targets.selection, running)
    latest: tuple[int, list[Tensor | None]] = (0, [])

    def map_of(tokens: Tensor, layer: int) -> Tensor:
        nonlocal latest
        if not isinstance(source, TaskMaps):
            return _with_batch_axis(ask_for_map(source, tokens, layer, model, weights=targets.takes_weights))
        if latest[0] != running.forwards:  # a task makes the maps of all layers at once
            latest = running.forwards, source(tokens)
        square = latest[1][layer]
        assert square is not None
        return square

    def read(pattern: Tensor, layer: int) -> Tensor:
        tokens = running.tokens(len(pattern), pattern.shape[-1])
        size = _size_of(pattern, running.layout(pattern.device))
        # From the first token of each sequence on; padding behind the last is as good as any token that is not there.
        aligned = tokens if size.layout is None else size.layout.aligned(tokens)
        square = _laid_out(map_of(aligned, layer), size, goes_on_empty=isinstance(source, TaskMaps)) * mask_of(pattern)
        if targets.leaves_a_key:
            # Waits for the device: a map that depends on the data can only be checked here.
            check_keys_left(square, model, layer, layout=size.layout)
        return square

    return read


class Size(NamedTuple):
    """What a map that does not depend on tokens depends on."""

    query: int
    key: int
    device: torch.device
    layout: Layout | None


def _size_of(pattern: Tensor, layout: Layout | None) -> Size:
    return Size(pattern.shape[-2], pattern.shape[-1], pattern.device, layout)


def _kept(make: Callable[[int, Size], Tensor]) -> Callable[[Tensor, int, Layout | None], Tensor]:
    """What ``make(which, size)`` makes for a pattern, kept while forwards of one size follow each other.

    Of other sizes nothing is kept: memory is that of one forward. (`functools.lru_cache` makes `torch.compile` warn.)
    """
    kept: dict[int, Tensor] = {}
    kept_size: Size | None = None

    def made(pattern: Tensor, which: int, layout: Layout | None) -> Tensor:
        nonlocal kept_size
        size = _size_of(pattern, layout)
        if size != kept_size:
            kept.clear()
            kept_size = size
        if which not in kept:
            with torch.inference_mode(False):  # made in a forward there, it may serve a training step later
                kept[which] = make(which, size)
        return kept[which]

    return made


def _laid_out(
    square: Shaped[Tensor, "#batch pos pos"], size: Size, *, goes_on_empty: bool
) -> Shaped[Tensor, "#batch 1 query key"]:
    """A map over whole sequences as a forward shows it; see `Targets` for one that goes on."""
    layout = size.layout
    if goes_on_empty:
        square = grow(square, size.key if layout is None else layout.longest)
    if layout is None:
        return _with_head_axis(crop(square, query=size.query, key=size.key).to(size.device))
    square, per_sequence = square.to(size.device), len(square) > 1
    spread = layout.spread(square if per_sequence else square[0], query=size.query, per_sequence=per_sequence)
    return _with_head_axis(spread)


def _one_hot(indices: Sequence[int], size: int) -> Bool[Tensor, " size"]:
    mask = torch.zeros(size, dtype=torch.bool)
    mask[list(indices)] = True
    return mask


def _with_batch_axis(square: Tensor) -> Shaped[Tensor, "#batch query key"]:
    return rearrange(square, "query key -> 1 query key") if square.ndim == 2 else square


def _with_head_axis(square: Shaped[Tensor, "#batch query key"]) -> Shaped[Tensor, "#batch 1 query key"]:
    return rearrange(square, "batch query key -> batch 1 query key")
