"""The configuration that HookedTransformers share which are MLPs: `plateau_interp.models.depth_two` and `one_hot`."""

import torch
from transformer_lens import HookedTransformerConfig

from plateau_interp.models.settings import ModelSettings
from plateau_interp.types import Task

__all__ = ["mlp_config"]


def mlp_config(
    task: Task, settings: ModelSettings, *, n_ctx: int, dtype: torch.dtype, device: str | torch.device, act_fn: str
) -> HookedTransformerConfig:
    """Of a model that is an MLP: one block without norms, whose single head is as small as can be and will give 0.

    The device is where the model will live: TransformerLens brings tokens there.
    """
    return HookedTransformerConfig(
        n_layers=1,
        n_heads=1,
        d_model=settings.d_model,
        d_head=1,
        d_mlp=settings.mlp_width,
        n_ctx=n_ctx,
        d_vocab=task.d_vocab,
        d_vocab_out=task.d_output,
        act_fn=act_fn,
        normalization_type=None,
        init_weights=False,
        dtype=dtype,
        device=str(device),
    )
