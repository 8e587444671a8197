"""Which architectures of Hugging Face can be held as HookedTransformers, and how.

`ARCHITECTURES` has an entry a class of transformers; a new architecture is one entry here and one case of the parity
test. TransformerLens's own mapping goes by the name of the model or of its folder instead.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformer_lens import HookedTransformerConfig
from transformer_lens.utilities.activation_functions import SUPPORTED_ACTIVATIONS

from plateau_interp.checks import listed, shown, whole_number
from plateau_interp.models.configurations import (
    gemma2_sizes,
    gemma3_sizes,
    gpt2_sizes,
    llama_sizes,
    neox_sizes,
    olmo_sizes,
    qwen3_sizes,
)
from plateau_interp.models.conversions import (
    NORMS_AFTER,
    NORMS_AROUND,
    NORMS_BEFORE,
    NORMS_OF_QUERIES_AND_KEYS,
    Conversion,
    decoder_weights,
    gemma_weights,
    gpt2_weights,
    neox_weights,
    olmo_weights,
)

__all__ = ["ARCHITECTURES", "Architecture", "architecture_of", "hooked_config"]

ACTIVATIONS = {"swish": "silu"}
"""Names that transformers has for one of TransformerLens's activation functions, where they differ."""


@dataclass(frozen=True)
class Architecture:
    """How to hold one class of transformers: what its configuration means, and where its tensors go."""

    sizes: Callable[[Any], dict[str, Any]]
    """The arguments of a HookedTransformerConfig, from a Hugging Face configuration."""
    convert: Conversion
    """The HookedTransformer's parameters by name; biases that the architecture lacks may be left out."""


ARCHITECTURES = {
    "GPT2LMHeadModel": Architecture(gpt2_sizes, gpt2_weights),
    "GPTNeoXForCausalLM": Architecture(neox_sizes, neox_weights),
    "Gemma2ForCausalLM": Architecture(gemma2_sizes, gemma_weights(NORMS_AROUND)),
    "Gemma3ForCausalLM": Architecture(gemma3_sizes, gemma_weights({**NORMS_AROUND, **NORMS_OF_QUERIES_AND_KEYS})),
    "LlamaForCausalLM": Architecture(llama_sizes, decoder_weights(NORMS_BEFORE)),
    "MistralForCausalLM": Architecture(llama_sizes, decoder_weights(NORMS_BEFORE)),
    "Olmo2ForCausalLM": Architecture(llama_sizes, decoder_weights({**NORMS_AFTER, **NORMS_OF_QUERIES_AND_KEYS})),
    "OlmoForCausalLM": Architecture(olmo_sizes, olmo_weights),
    "Qwen2ForCausalLM": Architecture(llama_sizes, decoder_weights(NORMS_BEFORE)),
    "Qwen3ForCausalLM": Architecture(qwen3_sizes, decoder_weights({**NORMS_BEFORE, **NORMS_OF_QUERIES_AND_KEYS})),
}
"""What `plateau_interp.models.pretrained_model` can hold, by the class in transformers."""


def architecture_of(name: str) -> Architecture:
    """The entry of a class of transformers.

    Raises:
        ValueError: for one that is not mapped, naming those that are.

    Example:
        >>> architecture_of("GPT2LMHeadModel").sizes.__name__
        'gpt2_sizes'
    """
    if name not in ARCHITECTURES:
        mapped = listed(list(ARCHITECTURES), most=len(ARCHITECTURES))
        raise ValueError(f"architecture {name} is not mapped; mapped are {mapped}")
    return ARCHITECTURES[name]


def hooked_config(
    name: str, config: Any, *, dtype: torch.dtype, device: str, n_ctx: int | None
) -> HookedTransformerConfig:
    """What TransformerLens must know of a model.

    Args:
        name: its class in transformers.
        config: its Hugging Face configuration.
        dtype: of the parameters.
        device: where the model will live.
        n_ctx: longest input; None for the configuration's.

    Raises:
        ValueError: for what TransformerLens cannot hold, or more positions than were learned.
    """
    sizes = architecture_of(name).sizes(config)
    n_own = sizes.pop("n_ctx")
    n_positions = n_own if n_ctx is None else whole_number("n_ctx", n_ctx)
    if n_positions < 1:
        raise ValueError(f"n_ctx must be at least 1; got {n_positions}")
    if n_positions > n_own and "positional_embedding_type" not in sizes:
        raise ValueError(f"n_ctx={n_positions} is more than the {n_own} positions that the model has learned")
    asked = sizes.pop("act_fn")
    activation = ACTIVATIONS.get(asked, asked)
    if activation not in SUPPORTED_ACTIVATIONS:
        known = listed(sorted(SUPPORTED_ACTIVATIONS), most=len(SUPPORTED_ACTIVATIONS))
        raise ValueError(f"TransformerLens has no activation function {shown(asked)}; it has {known}")
    return HookedTransformerConfig(
        **sizes,
        n_ctx=n_positions,
        act_fn=activation,
        original_architecture=name,
        dtype=dtype,
        device=device,
        init_weights=False,
    )
