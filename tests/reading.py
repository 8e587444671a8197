"""Notices where a tensor's content decides what is done next: on a GPU, Python would wait there for the device."""

import traceback
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

READS = {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "_unique2", "unique_dim", "bincount"}
INDEXES = {"index", "index_put", "index_put_", "_index_put_impl_"}


class Reads(TorchDispatchMode):
    """Collects the places, as text, while its context is open."""

    def __init__(self) -> None:
        super().__init__()
        self.places: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.split(".")[0]
        chooses = name in INDEXES and any(isinstance(one, Tensor) and one.dtype == torch.bool for one in args[1])
        if name in READS or chooses:
            frames = [frame for frame in traceback.extract_stack() if "/torch/" not in frame.filename]
            # Checks of annotations look at what a mapping holds; outside of tests they are off.
            if not any("/typeguard/" in frame.filename for frame in frames):
                self.places.append(f"{name} in {frames[-2].filename}:{frames[-2].lineno}")
        return func(*args, **(kwargs or {}))
