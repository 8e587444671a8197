"""Hugging Face's tensors as a HookedTransformer's parameters; each is taken once, by its name.

So what is missing or left over can be told. TransformerLens's own converters drop biases that they do not expect, and
fail for grouped queries in OLMo-2 and for ungrouped ones in Mistral and Qwen2.
"""

import math
from collections.abc import Callable, Mapping

import torch
from einops import rearrange
from torch import Tensor
from transformer_lens import HookedTransformerConfig

__all__ = [
    "NORMS_AFTER",
    "NORMS_AROUND",
    "NORMS_BEFORE",
    "NORMS_OF_QUERIES_AND_KEYS",
    "Conversion",
    "Weights",
    "decoder_weights",
    "gemma_weights",
    "gpt2_weights",
    "neox_weights",
    "olmo_weights",
]


class Weights:
    """The tensors of a Hugging Face model by name, each to be taken once.

    Example:
        >>> weights = Weights({"a": torch.ones(1), "b": torch.ones(2)})
        >>> weights.take("a"), weights.left
        (tensor([1.]), ['b'])
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = dict(tensors)

    def take(self, name: str) -> Tensor:
        """A tensor that must be there.

        Raises:
            ValueError: naming what is not there.
        """
        if name not in self._tensors:
            raise ValueError(f"tensor {name} is missing")
        return self._tensors.pop(name)

    def take_any(self, name: str) -> Tensor | None:
        """A tensor that may be there; None where it is not."""
        return self._tensors.pop(name, None)

    @property
    def left(self) -> list[str]:
        """The names that nobody has taken."""
        return list(self._tensors)


Conversion = Callable[[Weights, HookedTransformerConfig], dict[str, Tensor]]
"""From Hugging Face's tensors to a HookedTransformer's parameters by name; biases that are not there are left out."""


def gpt2_weights(weights: Weights, cfg: HookedTransformerConfig) -> dict[str, Tensor]:
    """GPT-2's, queries, keys and values in one matrix."""
    made = {
        "embed.W_E": weights.take("transformer.wte.weight"),
        "pos_embed.W_pos": weights.take("transformer.wpe.weight")[: cfg.n_ctx],
        "unembed.W_U": weights.take("lm_head.weight").T,
        **_layer_norm(weights, "transformer.ln_f", "ln_final"),
    }
    for layer in range(cfg.n_layers):
        theirs, ours = f"transformer.h.{layer}.", f"blocks.{layer}."
        axes = "d_model (qkv head d_head) -> qkv head d_model d_head"
        joint = rearrange(weights.take(f"{theirs}attn.c_attn.weight"), axes, qkv=3, head=cfg.n_heads)
        axes = "(qkv head d_head) -> qkv head d_head"
        bias = rearrange(weights.take(f"{theirs}attn.c_attn.bias"), axes, qkv=3, head=cfg.n_heads)
        for letter, weight, its_bias in zip("QKV", joint, bias, strict=True):
            made |= {f"{ours}attn.W_{letter}": weight, f"{ours}attn.b_{letter}": its_bias}
        output = weights.take(f"{theirs}attn.c_proj.weight")
        made |= {
            f"{ours}attn.W_O": rearrange(output, "(head d_head) d_model -> head d_head d_model", head=cfg.n_heads),
            f"{ours}attn.b_O": weights.take(f"{theirs}attn.c_proj.bias"),
            f"{ours}mlp.W_in": weights.take(f"{theirs}mlp.c_fc.weight"),
            f"{ours}mlp.b_in": weights.take(f"{theirs}mlp.c_fc.bias"),
            f"{ours}mlp.W_out": weights.take(f"{theirs}mlp.c_proj.weight"),
            f"{ours}mlp.b_out": weights.take(f"{theirs}mlp.c_proj.bias"),
            **_layer_norm(weights, f"{theirs}ln_1", f"{ours}ln1"),
            **_layer_norm(weights, f"{theirs}ln_2", f"{ours}ln2"),
        }
    return made


def neox_weights(weights: Weights, cfg: HookedTransformerConfig) -> dict[str, Tensor]:
    """GPT-NeoX's, queries, keys and values in one matrix, head by head."""
    made = {
        "embed.W_E": weights.take("gpt_neox.embed_in.weight"),
        "unembed.W_U": weights.take("lm_head.weight").T,
        **_layer_norm(weights, "gpt_neox.final_layer_norm", "ln_final"),
    }
    for layer in range(cfg.n_layers):
        theirs, ours = f"gpt_neox.layers.{layer}.", f"blocks.{layer}."
        axes = "(head qkv d_head) d_model -> qkv head d_model d_head"
        joint = rearrange(weights.take(f"{theirs}attention.query_key_value.weight"), axes, qkv=3, head=cfg.n_heads)
        made |= {f"{ours}attn.W_{letter}": weight for letter, weight in zip("QKV", joint, strict=True)}
        if (bias := weights.take_any(f"{theirs}attention.query_key_value.bias")) is not None:
            parts = rearrange(bias, "(head qkv d_head) -> qkv head d_head", qkv=3, head=cfg.n_heads)
            made |= {f"{ours}attn.b_{letter}": part for letter, part in zip("QKV", parts, strict=True)}
        output = weights.take(f"{theirs}attention.dense.weight")
        made |= {
            f"{ours}attn.W_O": rearrange(output, "d_model (head d_head) -> head d_head d_model", head=cfg.n_heads),
            **_bias(weights, f"{theirs}attention.dense", f"{ours}attn.b_O"),
            f"{ours}mlp.W_in": weights.take(f"{theirs}mlp.dense_h_to_4h.weight").T,
            f"{ours}mlp.b_in": weights.take(f"{theirs}mlp.dense_h_to_4h.bias"),
            f"{ours}mlp.W_out": weights.take(f"{theirs}mlp.dense_4h_to_h.weight").T,
            f"{ours}mlp.b_out": weights.take(f"{theirs}mlp.dense_4h_to_h.bias"),
            **_layer_norm(weights, f"{theirs}input_layernorm", f"{ours}ln1"),
            **_layer_norm(weights, f"{theirs}post_attention_layernorm", f"{ours}ln2"),
        }
    return made


def _layer_norm(weights: Weights, theirs: str, ours: str) -> dict[str, Tensor]:
    return {f"{ours}.w": weights.take(f"{theirs}.weight"), f"{ours}.b": weights.take(f"{theirs}.bias")}


def _bias(weights: Weights, theirs: str, ours: str) -> dict[str, Tensor]:
    bias = weights.take_any(f"{theirs}.bias")
    return {} if bias is None else {ours: bias}


NORMS_BEFORE = {"ln1": "input_layernorm", "ln2": "post_attention_layernorm"}
NORMS_AFTER = {"ln1": "post_attention_layernorm", "ln2": "post_feedforward_layernorm"}
NORMS_AROUND = {
    "ln1": "input_layernorm",
    "ln1_post": "post_attention_layernorm",
    "ln2": "pre_feedforward_layernorm",
    "ln2_post": "post_feedforward_layernorm",
}
NORMS_OF_QUERIES_AND_KEYS = {"attn.q_norm": "self_attn.q_norm", "attn.k_norm": "self_attn.k_norm"}


def decoder_weights(norms: Mapping[str, str]) -> Conversion:
    """The weights of a Llama whose norms have these names (ours, then theirs)."""

    def convert(weights: Weights, cfg: HookedTransformerConfig) -> dict[str, Tensor]:
        made = {
            "embed.W_E": weights.take("model.embed_tokens.weight"),
            "unembed.W_U": weights.take("lm_head.weight").T,
        }
        if norms:
            made["ln_final.w"] = weights.take("model.norm.weight")
        for layer in range(cfg.n_layers):
            theirs, ours = f"model.layers.{layer}.", f"blocks.{layer}."
            made |= _attention(weights, cfg, f"{theirs}self_attn.", f"{ours}attn.")
            for name, theirs_name in (("in", "up"), ("gate", "gate"), ("out", "down")):
                made[f"{ours}mlp.W_{name}"] = weights.take(f"{theirs}mlp.{theirs_name}_proj.weight").T
            # A bias of the gate has no place in TransformerLens: it is left over, and told.
            made |= _bias(weights, f"{theirs}mlp.up_proj", f"{ours}mlp.b_in")
            made |= _bias(weights, f"{theirs}mlp.down_proj", f"{ours}mlp.b_out")
            for name, theirs_name in norms.items():
                made[f"{ours}{name}.w"] = weights.take(f"{theirs}{theirs_name}.weight")
        return made

    return convert


def _attention(weights: Weights, cfg: HookedTransformerConfig, theirs: str, ours: str) -> dict[str, Tensor]:
    made = {}
    for letter in "qkv":
        grouped = letter != "q" and cfg.n_key_value_heads is not None
        n_heads, mark = (cfg.n_key_value_heads, "_") if grouped else (cfg.n_heads, "")
        weight, axes = weights.take(f"{theirs}{letter}_proj.weight"), "(head d_head) d_model -> head d_model d_head"
        made[f"{ours}{mark}W_{letter.upper()}"] = rearrange(weight, axes, head=n_heads)
        if (bias := weights.take_any(f"{theirs}{letter}_proj.bias")) is not None:
            made[f"{ours}{mark}b_{letter.upper()}"] = rearrange(bias, "(head d_head) -> head d_head", head=n_heads)
    output = weights.take(f"{theirs}o_proj.weight")
    made[f"{ours}W_O"] = rearrange(output, "d_model (head d_head) -> head d_head d_model", head=cfg.n_heads)
    return {**made, **_bias(weights, f"{theirs}o_proj", f"{ours}b_O")}


def olmo_weights(weights: Weights, cfg: HookedTransformerConfig) -> dict[str, Tensor]:
    """OLMo's norms have no weights, TransformerLens's have: gains of 1."""
    ones, zeros = torch.ones(cfg.d_model), torch.zeros(cfg.d_model)
    norms = ["ln_final", *(f"blocks.{layer}.{name}" for layer in range(cfg.n_layers) for name in ("ln1", "ln2"))]
    plain = {f"{norm}.{kind}": value for norm in norms for kind, value in (("w", ones), ("b", zeros))}
    return {**decoder_weights({})(weights, cfg), **plain}


def gemma_weights(norms: Mapping[str, str]) -> Conversion:
    """Gemma stores its gains less 1, and multiplies the embedding by sqrt(d_model): both in float32."""

    def convert(weights: Weights, cfg: HookedTransformerConfig) -> dict[str, Tensor]:
        made = decoder_weights(norms)(weights, cfg)
        gains = {name: gain.float() + 1 for name, gain in made.items() if name.endswith(".w")}
        return {**made, **gains, "embed.W_E": made["embed.W_E"].float() * math.sqrt(cfg.d_model)}

    return convert
