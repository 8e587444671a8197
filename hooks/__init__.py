"""The interventions: small immutable values that edit activations, parameters or gradients."""

from plateau_interp.hooks.attention import (
    AblateHeads,
    BiasAttention,
    FixAttention,
    MaskAttention,
    MixAttention,
    PatchAttention,
)

__all__ = ["AblateHeads", "BiasAttention", "FixAttention", "MaskAttention", "MixAttention", "PatchAttention"]
