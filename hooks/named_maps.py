"""Maps over attention that go by a name: of any text, plain data for recipes and the command line.

For targets that are a task's own, or a tensor or function of yours, see `plateau_interp.hooks.targeted_edit`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from plateau_interp.hooks.attention_maps import MapFunction

__all__ = ["NAMED_MAPS", "MapName", "last_occurrence", "previous_token"]

MapName = Literal["previous token", "last occurrence"]


def previous_token(tokens: Int[Tensor, "batch key"], layer: int) -> Bool[Tensor, "key key"]:
    """Each row reads the position before it, the same at every layer; the first row has no target.

    Example:
        >>> previous_token(torch.tensor([[5, 7, 5]]), 0).int()
        tensor([[0, 0, 0],
                [1, 0, 0],
                [0, 1, 0]], dtype=torch.int32)
    """
    n = tokens.shape[1]
    return torch.ones(n, n, dtype=torch.bool, device=tokens.device).tril(-1).triu(-1)


def last_occurrence(tokens: Int[Tensor, "batch key"], layer: int) -> Bool[Tensor, "batch key key"]:
    """Each row reads where its own token stood last before it, the same at every layer; a new token has no target.

    Example:
        >>> last_occurrence(torch.tensor([[5, 5, 7, 5]]), 0).int()
        tensor([[[0, 0, 0, 0],
                 [1, 0, 0, 0],
                 [0, 0, 0, 0],
                 [0, 1, 0, 0]]], dtype=torch.int32)
    """
    earlier = (tokens[:, :, None] == tokens[:, None, :]).tril(-1)
    place = torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
    latest = (earlier * place).amax(dim=-1, keepdim=True)
    return earlier & (place == latest)


NAMED_MAPS: Mapping[str, MapFunction] = MappingProxyType(
    {"previous token": previous_token, "last occurrence": last_occurrence}
)
"""By `MapName`."""
