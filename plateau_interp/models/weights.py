"""Whether two models have the same weights, whatever they are called and wherever they lie."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from plateau_interp.types import HookedModel

__all__ = ["tensors_digest", "weights_digest"]


def weights_digest(model: HookedModel) -> str:
    """SHA-256 of a model's parameters, by name: equal for two checkpoints that are the same, whatever they are called.

    Example:
        >>> from plateau_interp import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> one, same, other = (toy_model(MovingWindowSum(), d_model=16, seed=seed) for seed in (0, 0, 1))
        >>> weights_digest(one) == weights_digest(same), weights_digest(one) == weights_digest(other)
        (True, False)
    """
    return tensors_digest(dict(model.named_parameters()))


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors, in hexadecimal: their names, types, shapes and bytes, in the order of the names.

    Example:
        >>> tensors_digest({"a": torch.ones(2)}) == tensors_digest({"b": torch.ones(2)})
        False
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        digest.update(values.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
