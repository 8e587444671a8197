"""plateau_interp.activations: bounds that hold everywhere and are reached, or neared, somewhere."""

import math

import pytest
import torch

from plateau_interp.activations import ACTIVATION_BOUNDS, SMOOTH_ACTIVATIONS


def derivatives(sigma, z):
    z = z.clone().requires_grad_()
    value = sigma(z)
    (slope,) = torch.autograd.grad(value.sum(), z, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), z)
    return value.detach(), slope.detach(), curvature


@pytest.mark.parametrize("name", SMOOTH_ACTIVATIONS)
def test_bounds_hold_and_are_least(name):
    # softplus is linear above torch's threshold of 20, from which the remainder is 0 to rounding.
    z = torch.linspace(-60, 60, 240_001, dtype=torch.float64)
    value, slope, curvature = derivatives(SMOOTH_ACTIVATIONS[name], z)
    bounds = ACTIVATION_BOUNDS[name]
    for most, bound in ((slope, bounds.slope), (curvature, bounds.curvature), (z * slope - value, bounds.remainder)):
        assert most.abs().max().item() <= bound + 1e-9
        assert most.abs().max().item() == pytest.approx(bound, abs=1e-6)
    if math.isfinite(bounds.value):
        assert value.abs().max().item() == pytest.approx(bounds.value)
    else:
        assert value.max() > 50


def test_relu_is_not_among_them():
    assert set(SMOOTH_ACTIVATIONS) == set(ACTIVATION_BOUNDS) == {"gelu", "sigmoid", "silu", "softplus", "tanh"}
