"""Attention without softmax as a TransformerLens component, with every hook point of the host's."""

import torch.nn.functional as F
from einops import einsum, rearrange, reduce
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.cache.key_value_cache_entry import TransformerLensKeyValueCacheEntry
from transformer_lens.components import Attention

__all__ = ["LinearAttention"]


class LinearAttention(Attention):
    """Attention without softmax: the causally masked, scaled, signed scores are the pattern.

    ``pattern = tril(q kᵀ / sqrt(d_head))``, entries above the diagonal 0 (not -inf); rows do not sum to 1 and may be
    negative. Every hook point of TransformerLens's attention fires, a key/value cache works as there.

    Source: arXiv 2506.13688, authors' code (1/sqrt(d_head) is applied there, though the paper's text has no scale).
    """

    def forward(
        self,
        query_input: Float[Tensor, "batch query *head d_model"],
        key_input: Float[Tensor, "batch new_key *head d_model"],
        value_input: Float[Tensor, "batch new_key *head d_model"],
        past_kv_cache_entry: TransformerLensKeyValueCacheEntry | None = None,
        additive_attention_mask: Tensor | None = None,
        attention_mask: Int[Tensor, "batch key"] | None = None,
        position_bias: Tensor | None = None,
    ) -> Float[Tensor, "batch query d_model"]:
        """The output of the attention layer, biases included; shapes as in TransformerLens."""
        if additive_attention_mask is not None or position_bias is not None:
            raise ValueError("linear attention takes no additive mask or position bias: its masked entries are 0")
        q, k, v = self.calculate_qkv_matrices(query_input, key_input, value_input)
        offset = 0
        if past_kv_cache_entry is not None:
            offset = past_kv_cache_entry.past_keys.size(1)
            k, v = past_kv_cache_entry.append(k, v)
        scores = self.calculate_attention_scores(q, k).tril(offset)
        if attention_mask is not None:
            scores = scores * rearrange(attention_mask.to(scores.dtype), "batch key -> batch 1 1 key")
        pattern = self.hook_pattern(self.hook_attn_scores(scores))
        z = self.calculate_z_scores(v, pattern)
        if self.cfg.use_attn_result:
            axes = "batch query head d_head, head d_head d_model -> batch query head d_model"
            result: Tensor = self.hook_result(einsum(z, self.W_O, axes))
            return reduce(result, "batch query head d_model -> batch query d_model", "sum") + self.b_O
        weight = rearrange(self.W_O, "head d_head d_model -> d_model (head d_head)")
        return F.linear(rearrange(z, "batch query head d_head -> batch query (head d_head)"), weight, self.b_O)
