"""Whether two models have the same weights, whatever they are called and wherever they lie."""

import hashlib

import torch

from plateau_interp.types import HookedModel

__all__ = ["weights_digest"]


def weights_digest(model: HookedModel) -> str:
    """SHA-256 of a model's parameters, by name: equal for two checkpoints that are the same, whatever they are called.

    Example:
        >>> from plateau_interp import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> one, same, other = (toy_model(MovingWindowSum(), d_model=16, seed=seed) for seed in (0, 0, 1))
        >>> weights_digest(one) == weights_digest(same), weights_digest(one) == weights_digest(other)
        (True, False)
    """
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        values = parameter.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        digest.update(values.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
