"""Hook points of toy models: how often each fires, and those that fire only once somebody switches them on."""

import itertools

import torch
from torch import Tensor

from plateau_interp.models.base import ToyTransformer

GATED = {
    "set_use_attn_result": ["attn.hook_result"],
    "set_use_split_qkv_input": ["hook_q_input", "hook_k_input", "hook_v_input"],
    "set_use_attn_in": ["hook_attn_in"],
    "set_use_hook_mlp_in": ["hook_mlp_in"],
}
"""By the switch."""


def firings(model: ToyTransformer, tokens: Tensor) -> dict[str, int]:
    """How often each hook point fires in one forward pass."""
    counts = dict.fromkeys(model.hook_dict, 0)

    def count(activation, *, hook):
        counts[hook.name] += 1

    model.run_with_hooks(tokens, fwd_hooks=[(name, count) for name in counts])
    return counts


def assert_every_point_fires_once(model: ToyTransformer, tokens: Tensor) -> None:
    """Of a model of two layers, but for those that are switched off."""
    gated = {f"blocks.{layer}.{name}" for layer in (0, 1) for names in GATED.values() for name in names}
    counts = firings(model, tokens)
    assert {name for name, count in counts.items() if count == 0} == gated
    assert max(counts.values()) == 1
    assert all(point.name == name for name, point in model.hook_dict.items())


def assert_switched_points_can_be_edited(model: ToyTransformer, tokens: Tensor, switch: str) -> None:
    """Of a model of two layers: switched on, they change nothing, fire once, and an edit there counts."""
    expected = model(tokens)
    getattr(model, switch)(True)
    torch.testing.assert_close(model(tokens), expected, rtol=1e-5, atol=1e-5)
    counts = firings(model, tokens)
    for layer, name in itertools.product((0, 1), GATED[switch]):
        point = f"blocks.{layer}.{name}"
        assert counts[point] == 1
        edited = model.run_with_hooks(tokens, fwd_hooks=[(point, lambda act, hook: 0.5 * act)])
        assert not torch.allclose(edited, expected)
