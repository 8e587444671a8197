"""The encoder: post-LayerNorm and bidirectional, with a linear read-out at every position.

The model is the one of "Abrupt Learning in Transformers: A Case Study on Matrix Completion" (arXiv 2410.22244, code of
the authors): a BERT without token types and pooler, in which LayerNorm comes after each addition, that of the
embeddings included. There is no norm left before the read-out (``ln_final`` is the identity). For causal models see
`plateau_interp.models.decoder`.
"""

import math
from typing import Any, NoReturn

import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens import HookedTransformerConfig
from transformer_lens.cache.key_value_cache_entry import TransformerLensKeyValueCacheEntry
from transformer_lens.components import TransformerBlock
from transformer_lens.hook_points import HookPoint

from plateau_interp.models.base import FusedLayerNorm, ToyTransformer
from plateau_interp.types import Task

__all__ = ["ToyEncoder"]


class EncoderBlock(TransformerBlock):
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
        attention_mask: Int[Tensor, "batch pos"] | None = None,
    ) -> Float[Tensor, "batch pos d_model"]:
        """The residual stream after the block, normalised."""
        if past_kv_cache_entry is not None:
            raise ValueError(
                "an encoder has no use for a key/value cache: all its positions read all others, the later included"
            )
        resid_pre = self.hook_resid_pre(resid_pre)
        query_input, key_input, value_input = self._attention_inputs(resid_pre)
        attn_out = self.attn(
            query_input=query_input,
            key_input=key_input,
            value_input=value_input,
            # TransformerLens heeds `attention_mask` in its causal mask alone.
            additive_attention_mask=None if attention_mask is None else _additive(attention_mask, resid_pre.dtype),
        )
        resid_mid = self.hook_resid_mid(resid_pre + self.hook_attn_out(attn_out))
        normalised = self.hook_normalized_resid_mid(self.ln1(resid_mid))
        mlp_in = self.hook_mlp_in(normalised.clone()) if self.cfg.use_hook_mlp_in else normalised
        resid_post = self.hook_resid_post(normalised + self.apply_mlp(mlp_in))
        after: Tensor = self.hook_normalized_resid_post(self.ln2(resid_post))
        return after

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


class ToyEncoder(ToyTransformer):
    """A bidirectional toy model; see `ToyTransformer` for its arguments.

    ``hook_full_embed`` is what the first block reads: the normalised sum of token and position embedding, transformers'
    ``hidden_states[0]``. ``attention_mask=`` of a forward, 0 for padding, is heeded: padding is no key.
    """

    masks_padding = True

    def __init__(self, cfg: HookedTransformerConfig, *, task: Task, untrained: int | None = None) -> None:
        """Use `plateau_interp.models.toy_model`; this leaves the weight matrices uninitialised."""
        super().__init__(cfg, task=task, attention="softmax", untrained=untrained)
        self.ln_embed = FusedLayerNorm(self.cfg)
        self.hook_full_embed = HookPoint()  # type: ignore[no-untyped-call]
        for layer in range(self.cfg.n_layers):
            self.blocks[layer] = EncoderBlock(self.cfg, layer)
        self.ln_final = torch.nn.Identity()
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
        """Refused: a read-out that is no softmax's changes when its mean is taken away."""
        _refuse_processing()


def _refuse_processing() -> NoReturn:
    raise ValueError(
        "the weights of a post-LayerNorm model cannot be folded or centred: its norms come after each addition, and "
        "what is added up is never what is read; use them as they are"
    )


def _additive(mask: Int[Tensor, "batch pos"], dtype: torch.dtype) -> Float[Tensor, "batch 1 1 pos"]:
    """-inf where a mask has 0."""
    there = rearrange(mask != 0, "batch pos -> batch 1 1 pos")
    return torch.zeros(there.shape, dtype=dtype, device=mask.device).masked_fill(~there, -torch.inf)
