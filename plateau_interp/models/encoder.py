"""The encoder: post-LayerNorm and bidirectional, with a linear read-out at every position.

The model is the one of "Abrupt Learning in Transformers: A Case Study on Matrix Completion" (arXiv 2410.22244, code of
the authors): a BERT without token types and pooler, in which LayerNorm comes after each addition, that of the
embeddings included. There is no norm left before the read-out (``ln_final`` is the identity). For causal models see
`plateau_interp.models.decoder`.
"""

import math
from typing import Any, NoReturn

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens import HookedTransformerConfig
from transformer_lens.cache.key_value_cache_entry import TransformerLensKeyValueCacheEntry
from transformer_lens.hook_points import HookPoint

from plateau_interp.models.base import FusedLayerNorm
from plateau_interp.models.post_norm import PostNormBlock, PostNormTransformer
from plateau_interp.types import Task

__all__ = ["ToyEncoder"]


class EncoderBlock(PostNormBlock):
    """A post-LayerNorm block that reads in both directions: an attention mask hides keys, a cache is refused."""

    def attention_options(
        self,
        past_kv_cache_entry: TransformerLensKeyValueCacheEntry | None,
        attention_mask: Int[Tensor, "batch key"] | None,
        *,
        dtype: torch.dtype,
    ) -> dict[str, Any]:
        """The mask as numbers to add: TransformerLens heeds `attention_mask` in its causal mask alone."""
        if past_kv_cache_entry is not None:
            raise ValueError(
                "an encoder has no use for a key/value cache: all its positions read all others, the later included"
            )
        return {"additive_attention_mask": None if attention_mask is None else _additive(attention_mask, dtype)}


class ToyEncoder(PostNormTransformer):
    """A bidirectional toy model; see `ToyTransformer` for its arguments.

    ``hook_full_embed`` is what the first block reads: the normalised sum of token and position embedding, transformers'
    ``hidden_states[0]``. ``attention_mask=`` of a forward, 0 for padding, is heeded: padding is no key.
    """

    masks_padding = True

    def __init__(self, cfg: HookedTransformerConfig, *, task: Task, untrained: int | None = None) -> None:
        """Use `plateau_interp.models.toy_model`; this leaves the weight matrices uninitialised."""
        super().__init__(cfg, task=task, untrained=untrained)
        self.ln_embed = FusedLayerNorm(self.cfg)
        self.hook_full_embed = HookPoint()  # type: ignore[no-untyped-call]
        for layer in range(self.cfg.n_layers):
            self.blocks[layer] = EncoderBlock(self.cfg, layer)
        self.setup()  # type: ignore[no-untyped-call]  # names the new hook points

    def draw_(self, name: str, parameter: Tensor, *, std: float, generator: torch.Generator) -> None:
        """Weights N(0, std²), biases 0; the read-out, its bias too, uniform up to 1/sqrt(d_model), as `nn.Linear`."""
        kind = name.rsplit(".", 1)[-1]
        if kind in ("W_U", "b_U"):
            bound = 1 / math.sqrt(self.cfg.d_model)
            parameter.copy_((torch.rand(parameter.shape, generator=generator, dtype=torch.float32) * 2 - 1) * bound)
        elif kind.startswith("W_"):
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float32) * std)

    def get_residual(self, *args: Any, **kwargs: Any) -> Any:
        """TransformerLens's sum of embeddings, normalised."""
        made = super().get_residual(*args, **kwargs)  # type: ignore[no-untyped-call]
        if not isinstance(made, tuple):
            return self.hook_full_embed(self.ln_embed(made))
        residual, shortformer = made
        return self.hook_full_embed(self.ln_embed(residual)), shortformer

    def loss_fn(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: TransformerLens's loss is that of the next token."""
        raise ValueError(
            "an encoder predicts no next token: take the logits, and the loss from task.loss(logits, batch)"
        )


def _additive(mask: Int[Tensor, "batch pos"], dtype: torch.dtype) -> Float[Tensor, "batch 1 1 pos"]:
    """-inf where a mask has 0."""
    there = rearrange(mask != 0, "batch pos -> batch 1 1 pos")
    return torch.zeros(there.shape, dtype=dtype, device=mask.device).masked_fill(~there, -torch.inf)
