"""The smooth activations by name: their functions, and bounds of what is made of them and their derivatives.

For nets that theorems speak of, which ask for two derivatives and some bounds. This module knows no model.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["ACTIVATION_BOUNDS", "SMOOTH_ACTIVATIONS", "ActivationBounds", "SmoothActivation"]

SmoothActivation = Literal["gelu", "sigmoid", "silu", "softplus", "tanh"]
"""Activations with derivatives of every order; gelu is the exact one."""

SMOOTH_ACTIVATIONS: Mapping[SmoothActivation, Callable[[Tensor], Tensor]] = MappingProxyType(
    {"gelu": F.gelu, "sigmoid": torch.sigmoid, "silu": F.silu, "softplus": F.softplus, "tanh": torch.tanh}
)
"""The functions themselves."""


class ActivationBounds(NamedTuple):
    """Least upper bounds of an activation sigma over all real z; infinite where there is none."""

    value: float
    """Of ``|sigma(z)|``."""
    slope: float
    """Of ``|sigma'(z)|``, the Lipschitz constant."""
    curvature: float
    """Of ``|sigma''(z)|``."""
    remainder: float
    """Of ``|z sigma'(z) - sigma(z)|``: how far sigma is from being homogeneous."""


_STEEPEST = 2.3993572805154
"""Where silu rises most: ``z tanh(z/2) = 2``."""
_SIGMOID_THERE = 1 / (1 + math.exp(-_STEEPEST))
_NORMAL_AT_0, _NORMAL_AT_ROOT_2 = 1 / math.sqrt(math.tau), math.exp(-1) / math.sqrt(math.tau)

ACTIVATION_BOUNDS: Mapping[SmoothActivation, ActivationBounds] = MappingProxyType(
    {
        "gelu": ActivationBounds(
            math.inf,
            (1 + math.erf(1)) / 2 + math.sqrt(2) * _NORMAL_AT_ROOT_2,
            2 * _NORMAL_AT_0,
            2 * _NORMAL_AT_ROOT_2,
        ),
        "sigmoid": ActivationBounds(1.0, 1 / 4, 1 / (6 * math.sqrt(3)), 1.0),
        "silu": ActivationBounds(
            math.inf,
            _SIGMOID_THERE * (1 + _STEEPEST * (1 - _SIGMOID_THERE)),
            1 / 2,
            (_STEEPEST / 2) ** 2 - 1,
        ),
        "softplus": ActivationBounds(math.inf, 1.0, 1 / 4, math.log(2)),
        "tanh": ActivationBounds(1.0, 1.0, 4 / (3 * math.sqrt(3)), 1.0),
    }
)
"""By name. Derived by setting a derivative to 0: ``(z sigma' - sigma)' = z sigma''``, so the remainder is largest where
sigma'' changes its sign or at an end. gelu: slope at sqrt(2), curvature at 0. silu: slope where ``z tanh(z/2) = 2``."""
