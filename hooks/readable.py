"""Which keys a row of attention may read: its past, within the window of a layer with local attention.

A row of a bidirectional model may read every key.
"""

import functools
import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Bool
from torch import Tensor

from plateau_interp.interventions.hook_points import positions_within
from plateau_interp.interventions.padding import Layout
from plateau_interp.interventions.running import RunningForward
from plateau_interp.types import HookedModel

__all__ = [
    "MasksPadding",
    "TakenKeys",
    "check_keys_left",
    "check_rows_left",
    "masks_padding",
    "readable_keys",
    "window_of",
]


@runtime_checkable
class MasksPadding(Protocol):
    """A bidirectional model that says whether padding is no key of it, as our encoder does."""

    masks_padding: bool


def masks_padding(model: HookedModel) -> bool:
    """Whether an attention mask takes keys away; of TransformerLens's bidirectional models it does not.

    Example:
        >>> from plateau_interp.models import toy_model
        >>> from plateau_interp.tasks import MatrixCompletion, MovingWindowSum
        >>> masks_padding(toy_model(MovingWindowSum(), d_model=32)), masks_padding(toy_model(MatrixCompletion()))
        (True, True)
    """
    if model.cfg.attention_dir == "causal":
        return True
    return isinstance(model, MasksPadding) and model.masks_padding


def window_of(model: HookedModel, layer: int) -> int | None:
    """How many keys, its own among them, a row of a layer reads at most; None where all of its past.

    A bidirectional model has no windows: TransformerLens applies them with the causal mask alone.
    """
    cfg = model.cfg
    is_local = cfg.use_local_attn and cfg.attn_types[layer] == "local" and cfg.attention_dir == "causal"
    return int(cfg.window_size) if is_local else None


def readable_keys(
    model: HookedModel, layer: int, *, query: int, key: int, device: torch.device
) -> Bool[Tensor, "query key"]:
    """Which keys the last ``query`` of ``key`` rows may read, padding aside.

    Example:
        >>> from plateau_interp.models import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> readable_keys(toy_model(MovingWindowSum(), d_model=32), 0, query=1, key=3, device=torch.device("cpu"))
        tensor([[True, True, True]])
    """
    keys = torch.ones(query, key, dtype=torch.bool, device=device)
    if model.cfg.attention_dir != "causal":
        return keys
    keys = keys.tril(key - query)
    window = window_of(model, layer)
    return keys if window is None else keys.triu(key - query - window + 1)


def check_keys_left(
    forbidden: Bool[Tensor, "*batch query key"],
    model: HookedModel,
    layer: int,
    *,
    layout: Layout | None = None,
    together: bool = False,
) -> None:
    """Refuse a map that takes all keys from a row: its softmax gradient would be NaN.

    Args:
        forbidden: the map.
        model: whose rows they are.
        layer: of them.
        layout: where tokens lie among padding, which is no key and whose rows do not matter; then the map is
            ``[batch, head, query, key]``.
        together: whether the map is that of several edits, which the error says.

    Raises:
        ValueError: naming the row.
    """
    query, key = forbidden.shape[-2:]
    readable = readable_keys(model, layer, query=query, key=key, device=forbidden.device)
    if layout is None:
        left = (readable & ~forbidden).any(dim=-1)
    else:
        readable = readable & rearrange(layout.real, "batch key -> batch 1 1 key")
        left = (readable & ~forbidden).any(dim=-1) | rearrange(~layout.real[:, -query:], "batch row -> batch 1 row")
    if left.all():
        return
    batch, row = (int(index) for index in (~left).nonzero()[0, [0, -1]])
    _refuse(row + key - query if layout is None else int(layout.place[batch, row + key - query]), together=together)


def check_rows_left(
    keys: Sequence[int], rows: Sequence[int] | None, model: HookedModel, layer: int, *, start: int, stop: int
) -> None:
    """Refuse forbidden keys that are all that one of the rows from ``start`` to ``stop`` may read.

    `check_keys_left` without a map: its cost is that of a row, not of the square.

    Raises:
        ValueError: naming the row.
    """
    forbidden = set(positions_within(keys, start=0, stop=stop))
    meant = range(stop) if rows is None else set(positions_within(rows, start=0, stop=stop))
    if model.cfg.attention_dir != "causal":
        if len(forbidden) == stop and meant:
            _refuse(min(meant))
        return
    window = window_of(model, layer) or stop
    latest_free = -1  # the last key up to this row that is not forbidden
    for row in range(max(forbidden, default=-1) + 1):  # a later row reads itself
        if row not in forbidden:
            latest_free = row
        elif row >= start and row in meant and latest_free < max(row - window + 1, 0):
            _refuse(row)


class TakenKeys:
    """What edits at the scores have taken from rows in the running forward; those of one model share it.

    Each alone leaves every row a key. Two may not, and TransformerLens turns the row that its softmax makes of none
    into zeros.
    """

    def __init__(self) -> None:
        # By hook point: the forward, the maps of those that acted in it, and those that were found to leave a key.
        self._maps: dict[str, tuple[int, list[Tensor]]] = {}
        self._allowed: dict[str, list[Tensor]] = {}
        self._sharing = 0

    @contextmanager
    def shared(self) -> Iterator[None]:
        """One more edit takes from rows while the context is open; as long as there is one alone no map is kept."""
        self._sharing += 1
        try:
            yield
        finally:
            self._sharing -= 1
            self._maps.clear()
            self._allowed.clear()

    def take(
        self,
        forbidden: Bool[Tensor, "#batch #head #query key"],
        scores: Tensor,
        name: str,
        *,
        model: HookedModel,
        layer: int,
        running: RunningForward,
    ) -> None:
        """Take a map's keys at a hook point in the running forward.

        Where the very maps were looked at before nobody waits for the device.

        Raises:
            ValueError: if a row has none left, naming it.
        """
        if self._sharing < 2:
            return
        forward, maps = self._maps.get(name, (running.forwards, []))
        maps = [*maps, forbidden] if forward == running.forwards else [forbidden]
        self._maps[name] = running.forwards, maps
        allowed = self._allowed.get(name, [])
        if len(maps) == 1 or (len(maps) <= len(allowed) and all(map(operator.is_, maps, allowed))):
            return
        whole = functools.reduce(operator.or_, maps).expand(-1, -1, scores.shape[-2], scores.shape[-1])
        check_keys_left(whole, model, layer, layout=running.layout(scores.device), together=True)
        self._allowed[name] = maps


def _refuse(row: int, *, together: bool = False) -> None:
    beside = ", together with what stands before" if together else ""
    raise ValueError(
        f"row {row} would have no key left at the scores{beside}; leave it out of rows, or use at='pattern'"
    )
