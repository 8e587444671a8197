"""What a Hugging Face configuration means in TransformerLens: the arguments of a HookedTransformerConfig.

A function a kind of configuration, for the table of `plateau_interp.models.architectures`. What TransformerLens cannot
hold is refused here, before any weight is read.
"""

import math
from collections.abc import Mapping
from typing import Any

from plateau_interp.checks import listed, shown

__all__ = ["gemma2_sizes", "gemma3_sizes", "gpt2_sizes", "llama_sizes", "neox_sizes", "olmo_sizes", "qwen3_sizes"]

NO_CAP = -1.0
"""TransformerLens's word for logits or scores without a soft cap."""


def gpt2_sizes(config: Any) -> dict[str, Any]:
    """GPT-2's: learned positions, biases everywhere."""
    return {
        "d_model": config.n_embd,
        "d_head": config.n_embd // config.n_head,
        "n_heads": config.n_head,
        "d_mlp": config.n_inner or 4 * config.n_embd,
        "n_layers": config.n_layer,
        "n_ctx": config.n_positions,
        "eps": config.layer_norm_epsilon,
        "d_vocab": config.vocab_size,
        "act_fn": config.activation_function,
        "use_attn_scale": config.scale_attn_weights,
        "scale_attn_by_inverse_layer_idx": config.scale_attn_by_inverse_layer_idx,
        "normalization_type": "LN",
    }


def neox_sizes(config: Any) -> dict[str, Any]:
    """GPT-NeoX's (Pythia): attention and MLP side by side, a part of each head turned."""
    d_head = config.hidden_size // config.num_attention_heads
    rope = config.rope_parameters
    return {
        "d_model": config.hidden_size,
        "d_head": d_head,
        "n_heads": config.num_attention_heads,
        "d_mlp": config.intermediate_size,
        "n_layers": config.num_hidden_layers,
        "n_ctx": config.max_position_embeddings,
        "eps": config.layer_norm_eps,
        "d_vocab": config.vocab_size,
        "act_fn": config.hidden_act,
        "normalization_type": "LN",
        "parallel_attn_mlp": config.use_parallel_residual,
        **_rotary({**rope, "partial_rotary_factor": 1.0}),
        "rotary_dim": int(d_head * rope["partial_rotary_factor"]),
    }


def _decoder_sizes(config: Any) -> dict[str, Any]:
    n_heads, n_grouped = config.num_attention_heads, config.num_key_value_heads
    # Optional in the configurations of transformers: not every architecture has each of them.
    d_head = getattr(config, "head_dim", None) or config.hidden_size // n_heads
    return {
        "d_model": config.hidden_size,
        "d_head": d_head,
        "n_heads": n_heads,
        "n_key_value_heads": n_grouped if n_grouped != n_heads else None,
        "d_mlp": config.intermediate_size,
        "n_layers": config.num_hidden_layers,
        "n_ctx": config.max_position_embeddings,
        "d_vocab": config.vocab_size,
        "gated_mlp": True,
        "rotary_dim": d_head,
        **_windows(config),
    }


def llama_sizes(config: Any) -> dict[str, Any]:
    """Llama's, and those of what differs from it in its weights alone: Mistral, OLMo-2, Qwen2."""
    rms = {"normalization_type": "RMS", "final_rms": True, "eps": config.rms_norm_eps}
    return {**_decoder_sizes(config), **_rotary_everywhere(config), **rms, "act_fn": config.hidden_act}


def olmo_sizes(config: Any) -> dict[str, Any]:
    """OLMo's: LayerNorm without weights, clipped queries, keys and values."""
    layer_norm = {"normalization_type": "LN", "eps": 1e-5}  # a constant in transformers
    # OLMo-2's configuration may have a clip, too, of which transformers takes no notice.
    clipped = {"act_fn": config.hidden_act, "clip_qkv": config.clip_qkv}
    return {**_decoder_sizes(config), **_rotary_everywhere(config), **layer_norm, **clipped}


def qwen3_sizes(config: Any) -> dict[str, Any]:
    """Qwen3's: queries and keys are normalised, head by head."""
    return {**llama_sizes(config), "use_qk_norm": True}


def gemma2_sizes(config: Any) -> dict[str, Any]:
    """Gemma 2's: norms before and after, soft caps, windows in every other layer."""
    # Gemma 3's configuration may have a cap of scores, too, of which transformers takes no notice.
    scores = {"attn_scores_soft_cap": config.attn_logit_softcapping or NO_CAP}
    return {**_gemma_sizes(config), **_rotary_everywhere(config), **scores}


def gemma3_sizes(config: Any) -> dict[str, Any]:
    """Gemma 3's: as Gemma 2, with normalised queries and keys, and two kinds of rotary positions."""
    if config.use_bidirectional_attention:
        raise ValueError("its attention is bidirectional (use_bidirectional_attention); causal models are mapped")
    local, everywhere = (config.rope_parameters[kind] for kind in ("sliding_attention", "full_attention"))
    if local["rope_type"] != "default" or everywhere["rope_type"] == "llama3":
        kinds = f"{local['rope_type']} in a sliding window and {everywhere['rope_type']} elsewhere"
        raise ValueError(f"its rotary positions are {kinds}; held are default and, outside windows, linear")
    rotary = {**_rotary(everywhere), "rotary_base_local": local["rope_theta"]}
    return {**_gemma_sizes(config), **rotary, "use_qk_norm": True}


def _gemma_sizes(config: Any) -> dict[str, Any]:
    return {
        **_decoder_sizes(config),
        "normalization_type": "RMS",
        "final_rms": True,
        "use_normalization_before_and_after": True,
        "eps": config.rms_norm_eps,
        "act_fn": config.hidden_activation,
        "attn_scale": math.sqrt(config.query_pre_attn_scalar),
        "output_logits_soft_cap": config.final_logit_softcapping or NO_CAP,
    }


def _rotary_everywhere(config: Any) -> dict[str, Any]:
    """The rotary positions of a model whose layers all have the same."""
    rotary = _rotary(config.rope_parameters)
    if "rotary_scaling_factor" in rotary and _windows(config):
        raise ValueError("TransformerLens does not scale rotary positions in layers with a sliding window")
    return rotary


def _rotary(rope: Mapping[str, Any]) -> dict[str, Any]:
    """The kind of rotary positions, of one kind of layer."""
    kind = rope["rope_type"]
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise ValueError(f"its rotary positions turn a part of each head (partial_rotary_factor={rope!r})")
    made = {"positional_embedding_type": "rotary", "rotary_base": rope["rope_theta"], "rotary_adjacent_pairs": False}
    if kind == "default":
        return made
    if kind == "linear":
        return {**made, "rotary_scaling_factor": rope["factor"]}
    if kind == "llama3":
        return {
            **made,
            "use_NTK_by_parts_rope": True,
            "NTK_by_parts_factor": rope["factor"],
            "NTK_by_parts_low_freq_factor": rope["low_freq_factor"],
            "NTK_by_parts_high_freq_factor": rope["high_freq_factor"],
            "NTK_original_ctx_len": rope["original_max_position_embeddings"],
        }
    raise ValueError(f"its rotary positions are of the kind {shown(kind)}; held are default, linear and llama3")


def _windows(config: Any) -> dict[str, Any]:
    """Which layers attend to the latest tokens alone; nothing where none does."""
    window = getattr(config, "sliding_window", None)
    # Mistral has a window and no list: all its layers have it.
    every = "full_attention" if window is None else "sliding_attention"
    kinds = getattr(config, "layer_types", None) or [every] * config.num_hidden_layers
    names = {"full_attention": "global", "sliding_attention": "local"}
    if unknown := sorted({*kinds} - names.keys()):
        raise ValueError(f"it has layers of the kind {listed(unknown)}; held are {listed(list(names))}")
    if "sliding_attention" not in kinds:
        return {}
    return {"use_local_attn": True, "window_size": window, "attn_types": [names[kind] for kind in kinds]}
