"""The post-norm decoder: causal, with LayerNorm after each addition; and what it shares with the encoder.

The model is the grokking Transformer of the poster "Shortening the Loss Plateau" (code of the authors): PyTorch's own
``nn.TransformerEncoder``, two layers in their default draw under a causal mask, after token and position embeddings
and before a read-out with bias. Nothing normalises the embeddings, nor what is read out but the last block. For the
decoder whose norms come first see `plateau_interp.models.decoder`, for the one that reads in both directions
`plateau_interp.models.encoder`.
"""

import re
from typing import Any, NoReturn

import torch
from einops import repeat
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens import HookedTransformerConfig
from transformer_lens.cache.key_value_cache_entry import TransformerLensKeyValueCacheEntry
from transformer_lens.components import TransformerBlock
from transformer_lens.hook_points import HookPoint

from plateau_interp.models.base import FusedLayerNorm, ToyTransformer
from plateau_interp.models.initializers import pytorch_values
from plateau_interp.types import Task

__all__ = ["PostNormBlock", "PostNormTransformer", "ToyPostNorm"]


class PostNormBlock(TransformerBlock):
    """Attention, addition, norm; MLP, addition, norm: the MLP's residual stream begins at the normalised one.

    Beside TransformerLens's hook points there are ``hook_normalized_resid_mid`` and ``hook_normalized_resid_post``,
    what the two norms make. The second is transformers' ``hidden_states[layer + 1]``.
    """

    def __init__(self, cfg: HookedTransformerConfig, layer: int) -> None:
        super().__init__(cfg, layer)
        self.ln1, self.ln2 = FusedLayerNorm(self.cfg), FusedLayerNorm(self.cfg)
        self.hook_normalized_resid_mid = HookPoint()  # type: ignore[no-untyped-call]
        self.hook_normalized_resid_post = HookPoint()  # type: ignore[no-untyped-call]

    def forward(
        self,
        resid_pre: Float[Tensor, "batch pos d_model"],
        shortformer_pos_embed: Tensor | None = None,
        past_kv_cache_entry: TransformerLensKeyValueCacheEntry | None = None,
        attention_mask: Int[Tensor, "batch key"] | None = None,
    ) -> Float[Tensor, "batch pos d_model"]:
        """The residual stream after the block, normalised."""
        attention = self.attention_options(past_kv_cache_entry, attention_mask, dtype=resid_pre.dtype)
        resid_pre = self.hook_resid_pre(resid_pre)
        query_input, key_input, value_input = self._attention_inputs(resid_pre)
        attn_out = self.attn(query_input=query_input, key_input=key_input, value_input=value_input, **attention)
        resid_mid = self.hook_resid_mid(resid_pre + self.hook_attn_out(attn_out))
        normalised = self.hook_normalized_resid_mid(self.ln1(resid_mid))
        mlp_in = self.hook_mlp_in(normalised.clone()) if self.cfg.use_hook_mlp_in else normalised
        resid_post = self.hook_resid_post(normalised + self.apply_mlp(mlp_in))
        after: Tensor = self.hook_normalized_resid_post(self.ln2(resid_post))
        return after

    def attention_options(
        self,
        past_kv_cache_entry: TransformerLensKeyValueCacheEntry | None,
        attention_mask: Int[Tensor, "batch key"] | None,
        *,
        dtype: torch.dtype,
    ) -> dict[str, Any]:
        """What the attention layer is told beside its inputs; here all that the block is told."""
        return {"past_kv_cache_entry": past_kv_cache_entry, "attention_mask": attention_mask}

    def _attention_inputs(self, resid_pre: Float[Tensor, "batch pos d_model"]) -> tuple[Tensor, Tensor, Tensor]:
        """What queries, keys and values are made from: one for each head if somebody wants to edit them there."""

        def of_each_head(point: Any) -> Tensor:
            head_inputs: Tensor = point(
                repeat(resid_pre, "batch pos d_model -> batch pos head d_model", head=self.cfg.n_heads)
            )
            return head_inputs

        if self.cfg.use_split_qkv_input:
            return of_each_head(self.hook_q_input), of_each_head(self.hook_k_input), of_each_head(self.hook_v_input)
        attn_in = of_each_head(self.hook_attn_in) if self.cfg.use_attn_in else resid_pre
        return attn_in, attn_in, attn_in


class PostNormTransformer(ToyTransformer):
    """A toy model whose norms come after each addition: the last block ends in one, so ``ln_final`` is the identity.

    A subclass puts its blocks in, and names the hook points by ``setup``.
    """

    def __init__(self, cfg: HookedTransformerConfig, *, task: Task, untrained: int | None = None) -> None:
        """Use `plateau_interp.models.toy_model`; this leaves the weight matrices uninitialised."""
        super().__init__(cfg, task=task, attention="softmax", untrained=untrained)
        self.ln_final = torch.nn.Identity()

    def load_and_process_state_dict(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused; see `process_weights_`."""
        _refuse_processing()

    def process_weights_(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: TransformerLens would corrupt the weights of a model that normalises after each addition."""
        _refuse_processing()

    def fold_layer_norm(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused; see `process_weights_`."""
        _refuse_processing()

    def center_writing_weights(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused; see `process_weights_`."""
        _refuse_processing()

    def center_unembed(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: a read-out may be no softmax's, which changes when its mean is taken away."""
        _refuse_processing()


class ToyPostNorm(PostNormTransformer):
    """A causal toy model with its norms after each addition; see `ToyTransformer` for its arguments."""

    def __init__(self, cfg: HookedTransformerConfig, *, task: Task, untrained: int | None = None) -> None:
        """Use `plateau_interp.models.toy_model`; this leaves the weight matrices uninitialised."""
        super().__init__(cfg, task=task, untrained=untrained)
        for layer in range(self.cfg.n_layers):
            self.blocks[layer] = PostNormBlock(self.cfg, layer)
        self.setup()  # type: ignore[no-untyped-call]  # names the new hook points

    def draw_(self, name: str, parameter: Tensor, *, std: float, generator: torch.Generator) -> None:
        """As PyTorch's own layers begin, every block as the first, of which PyTorch makes copies; ``std`` says nothing.

        The first block, embeddings and read-out are those of `PyTorchDefault` and the same seed, bit for bit.
        """
        first = re.sub(r"^blocks\.\d+\.", "blocks.0.", name)
        parameter.copy_(pytorch_values(first, dict(self.named_parameters()), seed=generator.initial_seed()))


def _refuse_processing() -> NoReturn:
    raise ValueError(
        "the weights of a post-LayerNorm model cannot be folded or centred: its norms come after each addition, and "
        "what is added up is never what is read; use them as they are"
    )
