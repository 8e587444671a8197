"""The structure of embeddings: main axes, and how near vectors of one class lie to each other."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["nearness_within_classes", "pearson", "principal_components"]


def principal_components(vectors: Float[Tensor, "item feature"], n: int) -> Float[Tensor, "item component"]:
    """Coordinates along the ``n`` axes of largest variance; the sign of each is arbitrary.

    Raises:
        ValueError: if there are not so many axes.

    Example:
        >>> principal_components(torch.tensor([[0.0, 1.0], [0.0, 5.0]]), 1).abs().flatten()
        tensor([2.0000, 2.0000])
    """
    if not 0 < n <= min(vectors.shape):
        raise ValueError(f"n must be from 1 to {min(vectors.shape)}; got {n}")
    if not vectors.isfinite().all():
        raise ValueError("vectors must be finite numbers; some are NaN or infinite")
    left, sizes, _ = torch.linalg.svd(vectors - vectors.mean(dim=0), full_matrices=False)
    coordinates: Tensor = left * sizes
    return coordinates[:, :n]


def pearson(one: Float[Tensor, " item"], other: Float[Tensor, " item"]) -> float:
    """Pearson's: -1 to 1; NaN where either is constant.

    Example:
        >>> round(pearson(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([-1.0, -2.0, -3.0])), 6)
        -1.0
    """
    return float(torch.corrcoef(torch.stack([one, other]))[0, 1])


def nearness_within_classes(vectors: Float[Tensor, "item feature"], classes: Int[Tensor, " item"]) -> float:
    """Mean cosine between two vectors of one class, less that between two of different classes: -2 to 2.

    The mean over all vectors is taken off first: what all have in common says nothing of classes. NaN if there are no
    two of one class, or no two of different ones.

    Example:
        >>> vectors = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])
        >>> nearness_within_classes(vectors, torch.tensor([0, 0, 1, 1]))
        2.0
    """
    centred = vectors - vectors.mean(dim=0)
    unit = torch.nn.functional.normalize(centred, dim=1)
    cosines = unit @ unit.T
    pairs = torch.ones_like(cosines, dtype=torch.bool).tril(-1)
    same = classes[:, None] == classes
    return float(cosines[pairs & same].mean() - cosines[pairs & ~same].mean())
