"""Targets: which entries of attention an edit means in one model, as a value, and read in the forward that is running.

A map covers a whole sequence, ``[query, key]``. A forward with a key/value cache shows only the last rows of it, and a
map that depends on the data depends on tokens that such a forward no longer reads; this module deals with both. What it
keeps for a forward has the size of that forward, and is shared by the layers for which it is the same.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from plateau_interp.hooks.attention_maps import MapFunction, ask_for_map, crop, grow
from plateau_interp.hooks.readable import check_keys_left
from plateau_interp.hooks.token_history import TokenHistory, following
from plateau_interp.interventions.hook_points import (
    check_positions,
    positions_within,
    resolve_indices,
)
from plateau_interp.types import Batch, HookedModel, Task, layer_targets

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
        rows: query positions, negative ones from the end of the running forward; None for all.
        spared: a row that is not meant, whatever ``rows`` says.
    """

    heads: tuple[int, ...] | None
    n_heads: int
    rows: tuple[int, ...] | None
    spared: int | None = None

    def mask(self, *, query: int, key: int) -> Bool[Tensor, "1 #head #query 1"]:
        """Which of the last ``query`` of ``key`` rows are meant, in which heads."""
        start = key - query
        rows = torch.ones(1, dtype=torch.bool)
        if self.rows is not None:
            rows = _one_hot(positions_within(self.rows, start=start, stop=key), query)
        if self.spared is not None:
            rows = rows & ~_one_hot(positions_within([self.spared], start=start, stop=key), query)
        heads = torch.ones(1, dtype=torch.bool) if self.heads is None else _one_hot(self.heads, self.n_heads)
        return rearrange(heads, "head -> 1 head 1 1") & rearrange(rows, "row -> 1 1 row 1")


@dataclass(frozen=True, eq=False)
class TaskMaps:
    """The maps of a task whose targets depend on the data."""

    task: Task
    n_layers: int

    def __call__(self, tokens: Int[Tensor, "batch key"]) -> list[Tensor | None]:
        """The map of each layer ``[batch, pos, pos]`` for the tokens so far."""
        n_pos = self.task.n_pos
        # Answers that are not there yet: no row may depend on what comes after it, so any token will do.
        padded = F.pad(tokens[:, :n_pos], (0, max(n_pos - tokens.shape[1], 0)))
        return list(layer_targets(self.task, Batch(padded, padded[:, 1:]), n_layers=self.n_layers))


@dataclass(frozen=True, eq=False)
class Targets:
    """The entries of attention that an edit means in one model.

    Attributes:
        layer_of: the hook points where it acts, with the layer of each.
        selection: heads and rows outside which nothing is meant.
        maps: of each layer ``[batch|1, pos, pos]``, where the data make no difference; else what makes them: key
            positions, a function of tokens and layer, or the task, asked with the tokens of each forward.
        is_padded: whether a map goes on, empty, where a forward is longer than it: a task's does, any other is refused.
        takes_weights: whether a function may give weights instead of truth values.
        leaves_a_key: whether a row that would lose all its keys is refused.
    """

    layer_of: Mapping[str, int]
    selection: Selection
    maps: Mapping[int, Tensor] | tuple[int, ...] | MapFunction | TaskMaps
    is_padded: bool = False
    takes_weights: bool = False
    leaves_a_key: bool = False

    @property
    def counts_from_end(self) -> bool:
        """Whether positions are given of which only the running forward says where they are."""
        given = (*(self.selection.rows or ()), *(self.maps if isinstance(self.maps, tuple) else ()))
        return min(given, default=0) < 0


@contextmanager
def reading_maps(targets: Targets, model: HookedModel) -> Iterator[MapReader]:
    """Read the map of a layer for whatever forward of the model is running, while the context is open.

    Maps that the data make have the dtype they were given with; a forward of other tokens has other maps.

    Raises:
        ValueError: in a forward, if it has more positions or another number of sequences than a map that was given, or
            goes on from tokens that were not seen.
    """
    if isinstance(targets.maps, Mapping | tuple):
        yield _reader_of_sizes(targets, model)
        return
    with following(model) as history:
        yield _reader_of_tokens(targets, model, history)


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


def selecting(selection: Selection) -> Callable[[Tensor], Tensor]:
    """A function from the pattern of a forward to the mask of a selection there, ``[1, head|1, query|1, 1]``.

    It makes a mask once for all layers and as long as forwards of one size follow each other.
    """
    made = _kept(lambda which, query, key, device: selection.mask(query=query, key=key).to(device))
    return lambda pattern: made(pattern, 0)


def _reader_of_sizes(targets: Targets, model: HookedModel) -> MapReader:
    """Read maps that depend on nothing but the size of the forward."""
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

    def make(first_layer: int, query: int, key: int, device: torch.device) -> Tensor:
        mask = selection.mask(query=query, key=key).to(device)
        if isinstance(maps, Mapping):
            square = grow(maps[first_layer], key) if targets.is_padded else maps[first_layer]
            square = _with_head_axis(crop(square, query=query, key=key).to(device)) * mask
        else:
            square = _one_hot(positions_within(maps, start=0, stop=key), key).to(device) * mask
        for layer in alike if checks_size else ():
            if alike[layer] == first_layer:
                check_keys_left(square.expand(-1, -1, query, key), model, layer)
        return square

    made = _kept(make)

    def read(pattern: Tensor, layer: int) -> Tensor:
        square = made(pattern, alike[layer])
        if len(square) not in (1, len(pattern)):
            raise ValueError(f"targets are for {len(square)} sequences, but the forward has {len(pattern)}")
        return square

    return read


def _reader_of_tokens(targets: Targets, model: HookedModel, history: TokenHistory) -> MapReader:
    """Read maps that depend on the tokens of the running forward and of those before it in the cache."""
    source = targets.maps
    assert not isinstance(source, Mapping | tuple)
    mask_of = selecting(targets.selection)
    latest: tuple[int, list[Tensor | None]] = (0, [])

    def map_of(tokens: Tensor, layer: int) -> Tensor:
        nonlocal latest
        if not isinstance(source, TaskMaps):
            return _with_batch_axis(ask_for_map(source, tokens, layer, model, weights=targets.takes_weights))
        if latest[0] != history.forwards:  # a task makes the maps of all layers at once
            latest = history.forwards, source(tokens)
        square = latest[1][layer]
        assert square is not None
        return grow(square, tokens.shape[1])

    def read(pattern: Tensor, layer: int) -> Tensor:
        tokens = history.tokens(len(pattern), pattern.shape[-1])
        query, key = pattern.shape[-2:]
        square = crop(map_of(tokens, layer), query=query, key=key).to(pattern.device)
        found = _with_head_axis(square) * mask_of(pattern)
        if targets.leaves_a_key:
            # Waits for the device: a map that depends on the data can only be checked here.
            check_keys_left(found, model, layer)
        return found

    return read


def _kept(make: Callable[[int, int, int, torch.device], Tensor]) -> Callable[[Tensor, int], Tensor]:
    """What ``make(which, query, key, device)`` makes for a pattern, kept while forwards of one size follow each other.

    Of other sizes nothing is kept: memory is that of one forward. (`functools.lru_cache` makes `torch.compile` warn.)
    """
    kept: dict[int, Tensor] = {}
    kept_size: tuple[int, int, torch.device] | None = None

    def made(pattern: Tensor, which: int) -> Tensor:
        nonlocal kept_size
        size = (pattern.shape[-2], pattern.shape[-1], pattern.device)
        if size != kept_size:
            kept.clear()
            kept_size = size
        if which not in kept:
            with torch.inference_mode(False):  # made in a forward there, it may serve a training step later
                kept[which] = make(which, *size)
        return kept[which]

    return made


def _one_hot(indices: Sequence[int], size: int) -> Bool[Tensor, " size"]:
    mask = torch.zeros(size, dtype=torch.bool)
    mask[list(indices)] = True
    return mask


def _with_batch_axis(square: Tensor) -> Shaped[Tensor, "#batch query key"]:
    return rearrange(square, "query key -> 1 query key") if square.ndim == 2 else square


def _with_head_axis(square: Shaped[Tensor, "#batch query key"]) -> Shaped[Tensor, "#batch 1 query key"]:
    return rearrange(square, "batch query key -> batch 1 query key")
