"""Linear probes: what can be read off hidden states by one matrix, fitted by least squares.

For tokens, and a probe that is a small network, use `plateau_interp.analysis.probing`.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["LinearReading", "fit_linear", "mean_absolute_cosine", "read_linearly"]

EPSILONS = 10
"""Machine epsilons of the states' dtype below which a singular value, as a share of the highest, is rounding: states
that are sums of few vectors are computed from them with an error of some epsilons in every direction."""


class LinearReading(NamedTuple):
    """How well a linear probe reads a target off states that it was not fitted on."""

    error: float
    """Mean squared error."""
    cosine: float
    """Mean absolute cosine between what is read and what is there; see `mean_absolute_cosine`."""
    read: Float[Tensor, "sample target"]
    """What it reads of each sample."""


def fit_linear(
    states: Float[Tensor, "sample feature"], targets: Float[Tensor, "sample target"]
) -> Float[Tensor, "feature target"]:
    """The matrix W with the least ``‖states W - targets‖²``, without bias; the shortest of several.

    It is fitted in float64, and in the directions alone that states have: a singular value below ten machine epsilons
    of the states' own dtype, as a share of the highest, is the rounding of whoever computed them, and counts as 0.

    Raises:
        ValueError: for no samples, another number of targets than of states, or numbers that are not finite.

    Source: arXiv 2410.22244, authors' code: plain least squares, without regularisation.

    Example:
        >>> fit_linear(torch.eye(2), torch.tensor([[2.0], [3.0]])).flatten().tolist()
        [2.0, 3.0]
    """
    _check_fit(states, targets)
    return _fitted(states, targets).to(states)


def _check_fit(states: Tensor, targets: Tensor) -> None:
    if len(states) != len(targets) or not len(states):
        raise ValueError(f"there must be a target a state, and one at least; got {len(targets)} and {len(states)}")
    for name, given in (("states", states), ("targets", targets)):
        if not given.isfinite().all():
            raise ValueError(f"{name} must be finite numbers; some are NaN or infinite")


def _fitted(states: Tensor, targets: Tensor) -> Float[Tensor, "feature target"]:
    """In float64, on the processor."""
    rounding = EPSILONS * torch.finfo(states.dtype).eps if states.is_floating_point() else None
    found: Tensor = torch.linalg.lstsq(
        states.double().cpu(), targets.double().cpu(), rcond=rounding, driver="gelsd"
    ).solution
    return found


def mean_absolute_cosine(one: Float[Tensor, "sample axis"], other: Float[Tensor, "sample axis"]) -> Float[Tensor, ""]:
    """How well directions agree, whatever their sign: 0 to 1; pairs with a vector of length 0 do not count.

    NaN where no pair counts.

    Example:
        >>> mean_absolute_cosine(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[-3.0, 0.0], [1.0, 1.0]]))
        tensor(1.)
    """
    precise = torch.promote_types(one.dtype, torch.float32)
    one, other = one.double(), other.double()  # a product of lengths may be too small for float32
    lengths = [torch.linalg.vector_norm(each, dim=-1, keepdim=True) for each in (one, other)]
    there = ((lengths[0] != 0) & (lengths[1] != 0))[..., 0]  # what is NaN counts, and is seen
    cosines = (one[there] / lengths[0][there] * (other[there] / lengths[1][there])).sum(dim=-1).abs()
    mean: Tensor = cosines.mean().to(precise)
    return mean


def read_linearly(
    states: Float[Tensor, "sample feature"],
    targets: Float[Tensor, "sample target"],
    *,
    unseen_states: Float[Tensor, "other feature"],
    unseen_targets: Float[Tensor, "other target"],
) -> LinearReading:
    """Fit a linear probe on some samples and score it on others.

    Args:
        states: it is fitted on.
        targets: of these.
        unseen_states: it is scored on.
        unseen_targets: of these.

    Raises:
        ValueError: as `fit_linear`.

    Source: arXiv 2410.22244, figure 6, authors' code.
    """
    _check_fit(states, targets)
    # In float64 as it is fitted: where states are nearly dependent, weights are large and cancel.
    read = (unseen_states.double() @ _fitted(states, targets).to(unseen_states.device)).to(unseen_states)
    error = (read - unseen_targets).square().mean()
    return LinearReading(float(error), float(mean_absolute_cosine(read, unseen_targets)), read)
