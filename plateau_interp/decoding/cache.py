"""Keys and values of the tokens so far, in tensors that have room for the tokens to come."""

from typing import Any

from jaxtyping import Float
from torch import Tensor
from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache
from transformer_lens.cache.key_value_cache_entry import TransformerLensKeyValueCacheEntry

from plateau_interp.types import HookedModel

__all__ = ["roomy_cache"]


def roomy_cache(model: HookedModel, *, batch: int, n_pos: int, device: Any) -> TransformerLensKeyValueCache:
    """A TransformerLens cache that does not copy what it holds to add a token.

    TransformerLens's own makes new tensors for each token, as long as all before it.

    Args:
        model: whose keys and values.
        batch: how many sequences.
        n_pos: how many positions there will be at most.
        device: where the masks of the cache are.
    """
    cache: TransformerLensKeyValueCache = TransformerLensKeyValueCache.init_cache(model.cfg, device, batch)
    cache.entries = [_RoomyEntry(entry, n_pos) for entry in cache.entries]
    return cache


class _RoomyEntry(TransformerLensKeyValueCacheEntry):
    """Of one layer."""

    def __init__(self, empty: TransformerLensKeyValueCacheEntry, n_pos: int) -> None:
        super().__init__(empty.past_keys, empty.past_values)
        self._n_pos = n_pos
        self._room: tuple[Tensor, Tensor] | None = None

    def append(
        self,
        new_keys: Float[Tensor, "batch new key_head d_head"],
        new_values: Float[Tensor, "batch new key_head d_head"],
    ) -> tuple[Float[Tensor, "batch key key_head d_head"], Float[Tensor, "batch key key_head d_head"]]:
        """All keys and values with the new ones at their end; kept, as the cache is never frozen."""
        if self._room is None:
            shape = (len(new_keys), self._n_pos, *new_keys.shape[2:])
            self._room = new_keys.new_empty(shape), new_values.new_empty(shape)
        keys, values = self._room
        start, stop = self.past_keys.shape[1], self.past_keys.shape[1] + new_keys.shape[1]
        keys[:, start:stop], values[:, start:stop] = new_keys, new_values
        self.past_keys, self.past_values = keys[:, :stop], values[:, :stop]
        return self.past_keys, self.past_values
