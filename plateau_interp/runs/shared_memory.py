"""Which tensors have memory in common: what a checkpoint keeps comes back with memory of its own, each by itself."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

__all__ = ["sharing"]


def sharing(kept: Iterable[tuple[str, Tensor]], others: Iterable[tuple[str, Tensor]] = ()) -> tuple[str, str] | None:
    """The names of one of the kept tensors and of another, or one of the others, that have an element in common.

    Views that lie in one storage beside each other have none, nor have empty tensors. Work is done only where several
    lie in one storage: an integer for each element of it.

    Example:
        >>> flat = torch.zeros(4)
        >>> sharing([("flat", flat), ("its end", flat[2:])]), sharing([("even", flat[::2]), ("odd", flat[1::2])])
        (('its end', 'flat'), None)
    """
    by_storage = defaultdict[Any, tuple[list[tuple[str, Tensor]], list[tuple[str, Tensor]]]](lambda: ([], []))
    for is_kept, several in enumerate((others, kept)):
        for name, tensor in several:
            if tensor.layout is torch.strided and tensor.device.type != "meta" and tensor.numel():
                place = (tensor.device, tensor.untyped_storage().data_ptr())
                by_storage[place][is_kept].append((name, tensor))
    for there, mine in by_storage.values():
        if mine and len(there) + len(mine) > 1 and (found := _met(there, mine)):
            return found
    return None


def _met(others: list[tuple[str, Tensor]], kept: list[tuple[str, Tensor]]) -> tuple[str, str] | None:
    """As `sharing`, of tensors in one storage: each writes its number where its elements are."""
    named = [*others, *kept]
    unit = min(tensor.element_size() for _, tensor in named)
    numbers = torch.full((named[0][1].untyped_storage().nbytes() // unit,), -1, dtype=torch.int32)
    for number, (name, tensor) in enumerate(named):
        n_units = tensor.element_size() // unit
        strides = (*(stride * n_units for stride in tensor.stride()), 1)
        mine = numbers.as_strided((*tensor.shape, n_units), strides, tensor.storage_offset() * n_units)
        if number >= len(others) and (before := int(mine.max())) >= 0:
            return name, named[before][0]
        mine.fill_(number)
    return None
