"""The decoder: pre-LayerNorm and causal, with linear attention or softmax.

The model is the one of "What Happens During the Loss Plateau?" (arXiv 2506.13688, code of the authors): pre-LayerNorm,
learned positions, biases everywhere but in the unembedding, tanh-GELU, and attention without softmax. With two layers,
two heads and width 256 it is also the GPT, in both its kinds of attention, of "Abrupt Learning in Transformers: A Case
Study on Matrix Completion" (arXiv 2410.22244). For the encoder of that paper see `plateau_interp.models.encoder`.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens import HookedTransformerConfig
from transformer_lens.cache.key_value_cache_entry import TransformerLensKeyValueCacheEntry
from transformer_lens.components import TransformerBlock

from plateau_interp.models.base import FusedLayerNorm, ToyTransformer
from plateau_interp.models.linear_attention import LinearAttention
from plateau_interp.types import AttentionKind, Task

__all__ = ["ToyDecoder"]


class ToyBlock(TransformerBlock):
    """A pre-LayerNorm block that normalises the attention input once, not once for each of q, k and v."""

    def forward(
        self,
        resid_pre: Float[Tensor, "batch pos d_model"],
        shortformer_pos_embed: Tensor | None = None,
        past_kv_cache_entry: TransformerLensKeyValueCacheEntry | None = None,
        attention_mask: Int[Tensor, "batch key"] | None = None,
    ) -> Float[Tensor, "batch pos d_model"]:
        """The residual stream after the block."""
        if self.cfg.use_attn_in or self.cfg.use_split_qkv_input:
            return super().forward(resid_pre, shortformer_pos_embed, past_kv_cache_entry, attention_mask)
        resid_pre = self.hook_resid_pre(resid_pre)
        normalised = self.ln1(resid_pre)
        attn_out = self.attn(
            query_input=normalised,
            key_input=normalised,
            value_input=normalised,
            past_kv_cache_entry=past_kv_cache_entry,
            attention_mask=attention_mask,
        )
        resid_mid = self.hook_resid_mid(resid_pre + self.hook_attn_out(attn_out))
        mlp_in = self.hook_mlp_in(resid_mid.clone()) if self.cfg.use_hook_mlp_in else resid_mid
        resid_post: Tensor = self.hook_resid_post(resid_mid + self.apply_mlp(self.ln2(mlp_in)))
        return resid_post


class ToyDecoder(ToyTransformer):
    """A causal toy model; see `ToyTransformer` for its arguments."""

    def __init__(
        self, cfg: HookedTransformerConfig, *, task: Task, attention: AttentionKind, untrained: int | None = None
    ) -> None:
        """Use `plateau_interp.models.toy_model`; this leaves the weight matrices uninitialised."""
        super().__init__(cfg, task=task, attention=attention, untrained=untrained)
        for layer in range(self.cfg.n_layers):
            self.blocks[layer] = block = ToyBlock(self.cfg, layer)
            if attention == "linear":
                block.attn = LinearAttention(self.cfg, "global", layer)
            block.ln1, block.ln2 = FusedLayerNorm(self.cfg), FusedLayerNorm(self.cfg)
        self.ln_final = FusedLayerNorm(self.cfg)
        self.unembed.b_U.requires_grad_(False)  # the paper's head has no bias
        self.setup()  # type: ignore[no-untyped-call]  # names the new hook points

    def draw_(self, name: str, parameter: Tensor, *, std: float, generator: torch.Generator) -> None:
        """Weights N(0, std²), those that write to the residual stream N(0, std² / 2L); biases stay 0 (minGPT)."""
        kind = name.rsplit(".", 1)[-1]
        if kind.startswith("W_"):
            writes = kind in ("W_O", "W_out")
            scale = std / math.sqrt(2 * self.cfg.n_layers) if writes else std
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float32) * scale)
