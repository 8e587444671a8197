"""Toy HookedTransformers: the paper's linear-attention model and its softmax twin.

The model is the one of "What Happens During the Loss
Plateau?" (arXiv 2506.13688, code of the authors): pre-LayerNorm, learned positions, biases everywhere but in the
unembedding, tanh-GELU, and attention without softmax. Everything a TransformerLens user does with a
`HookedTransformer` works on it. For pretrained models see `plateau_interp.models.pretrained`.
"""

import math
import warnings
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformer_lens.cache.key_value_cache_entry import TransformerLensKeyValueCacheEntry
from transformer_lens.components import Embed, LayerNorm, TransformerBlock

from plateau_interp.checks import seed_number, shown, whole_number
from plateau_interp.models.fitting import check_device, check_model_size, check_task
from plateau_interp.models.linear_attention import LinearAttention
from plateau_interp.models.settings import ModelOptions
from plateau_interp.models.tokenizers import keep_tokenizer_
from plateau_interp.types import AttentionKind, OfText, Task

__all__ = ["ToyTransformer", "toy_model"]

INIT_STD = 0.02


class FusedLayerNorm(LayerNorm):
    """LayerNorm as one kernel, also while somebody looks inside; TransformerLens's steps while somebody edits there.

    The two differ in the last bits. A hook that returns nothing, or the tensor itself, changes no bit of output or
    gradient. What it keeps is no part of the graph of the output unless it asks for the gradient there and then, by
    ``retain_grad``, ``register_hook`` or a backward hook: these too bring the steps.
    """

    def forward(self, x: Float[Tensor, "batch pos *head d_model"]) -> Float[Tensor, "batch pos *head d_model"]:
        """Normalise the last axis, then gain and bias."""
        if not (_is_hooked(self.hook_scale) or _is_hooked(self.hook_normalized)):
            return F.layer_norm(x, (self.length,), self.w, self.b, self.eps)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        centred = wide - wide.mean(dim=-1, keepdim=True)
        scale = (centred.square().mean(dim=-1, keepdim=True) + self.eps).sqrt()
        hooked_scale = self.hook_scale(scale)
        normalised = centred / hooked_scale
        hooked = self.hook_normalized(normalised)
        if _is_only_seen(scale, hooked_scale) and _is_only_seen(normalised, hooked):
            return F.layer_norm(x, (self.length,), self.w, self.b, self.eps)
        out: Tensor = hooked.to(x.dtype) * self.w + self.b
        return out


class IndexedEmbed(Embed):
    """Token embedding through `F.embedding`, whose gradient sums in a fixed order.

    TransformerLens indexes ``W_E[tokens, :]``, whose CPU gradient uses atomic adds: two runs with one seed would differ
    in the last bits, and resuming could not be bit-exact.
    """

    def forward(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d_model"]:
        """Look up each token's row."""
        return F.embedding(tokens, self.W_E)


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


class ToyTransformer(HookedTransformer):
    """A small HookedTransformer that remembers the task it was built for (`task`) and its kind of attention."""

    def __init__(self, cfg: HookedTransformerConfig, *, task: Task, attention: AttentionKind) -> None:
        """Use `toy_model`; this leaves the weight matrices uninitialised."""
        with warnings.catch_warnings():
            # The deprecation names a successor that has no working attention hooks for models built from scratch.
            warnings.filterwarnings("ignore", message="HookedTransformer", category=DeprecationWarning)
            super().__init__(cfg, move_to_device=False)
        self.task = task
        self.attention: AttentionKind = attention
        self.embed = IndexedEmbed(self.cfg)
        for layer in range(self.cfg.n_layers):
            self.blocks[layer] = block = ToyBlock(self.cfg, layer)
            if attention == "linear":
                block.attn = LinearAttention(self.cfg, "global", layer)
            block.ln1, block.ln2 = FusedLayerNorm(self.cfg), FusedLayerNorm(self.cfg)
        self.ln_final = FusedLayerNorm(self.cfg)
        self.unembed.b_U.requires_grad_(False)  # the paper's head has no bias
        self.setup()  # type: ignore[no-untyped-call]  # names the new hook points


def toy_model(
    task: Task,
    *,
    attention: AttentionKind | None = None,
    n_layers: int | None = None,
    n_heads: int | None = None,
    d_model: int | None = None,
    d_mlp: int | None = None,
    n_ctx: int | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> ToyTransformer:
    """A HookedTransformer for a task, initialised as in the paper.

    Weights are drawn N(0, 0.02²), those of the two layers that write to the residual stream N(0, (0.02/sqrt(2L))²);
    biases are 0, LayerNorm gains 1. The unembedding has no bias (TransformerLens's ``b_U`` is there, 0 and frozen).
    The same seed gives the same weights on every device and, up to rounding, in every dtype; the global random state
    is not touched.

    Args:
        task: fixes the vocabulary and the context length; the model keeps it as ``model.task``, and the tokenizer of a
            task of text as ``model.tokenizer``.
        attention: "linear" (no softmax; signed, unnormalised) or "softmax"; this and the next three are by default the
            task's: linear, 1 layer (2 for tasks that need two), 1 head and 256 unless `Task.defaults` says otherwise.
        n_layers: blocks.
        n_heads: attention heads a layer; must divide ``d_model``.
        d_model: width of the residual stream.
        d_mlp: width of the MLP, by default ``4 * d_model``.
        n_ctx: longest input, by default the task's whole sequence.
        seed: of the initial weights.
        dtype: of the parameters.
        device: where the model lives.

    Returns:
        The model, in training mode, mapping tokens ``[batch, query]`` to logits ``[batch, query, d_vocab]``.

    Raises:
        ValueError: for a size, seed, dtype or device that cannot be, or a model that needs more memory than there is;
            the message names the argument.

    Source: arXiv 2506.13688, authors' code (minGPT initialisation).

    Example:
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> model = toy_model(MovingWindowSum())
        >>> sum(p.numel() for p in model.parameters() if p.requires_grad)
        807936
    """
    check_task(task)
    settings = ModelOptions(attention, n_layers, n_heads, d_model, d_mlp).resolved(task)
    seed = seed_number(seed)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"dtype must be that of real numbers, such as torch.float32; got {shown(dtype)}")
    check_device(device)
    n_ctx = task.n_pos if n_ctx is None else whole_number("n_ctx", n_ctx)
    if n_ctx < task.n_pos - 1:
        raise ValueError(f"n_ctx must be at least {task.n_pos - 1}, the task's input length; got {n_ctx}")
    check_model_size(task, settings, n_ctx=n_ctx)
    cfg = HookedTransformerConfig(
        n_layers=settings.n_layers,
        n_heads=settings.n_heads,
        d_model=settings.d_model,
        d_head=settings.d_model // settings.n_heads,
        d_mlp=settings.mlp_width,
        n_ctx=n_ctx,
        d_vocab=task.d_vocab,
        act_fn="gelu_pytorch_tanh",
        normalization_type="LN",
        init_weights=False,
        dtype=dtype,
        device=str(device),
    )
    model = ToyTransformer(cfg, task=task, attention=settings.attention)
    _initialise_(model, seed=seed)
    if isinstance(task, OfText):
        keep_tokenizer_(model, task.tokenizer)
    return torch.nn.Module.to(model, device)


def _initialise_(model: ToyTransformer, *, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    residual_std = INIT_STD / math.sqrt(2 * model.cfg.n_layers)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            kind = name.rsplit(".", 1)[-1]
            if kind.startswith("W_"):
                std = residual_std if kind in ("W_O", "W_out") else INIT_STD
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float32) * std)


def _is_hooked(hook_point: Any) -> bool:
    return bool(hook_point._forward_hooks or hook_point._backward_hooks or hook_point._forward_pre_hooks)


def _is_only_seen(made: Tensor, hooked: Tensor) -> bool:
    """Whether hooks left a fresh tensor as it was, and want no gradient of it; an inference tensor cannot tell."""
    asked = made.retains_grad or made._backward_hooks
    return hooked is made and not made.is_inference() and made._version == 0 and not asked
