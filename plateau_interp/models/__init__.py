"""Models to study, all HookedTransformers; the only folder that names TransformerLens's model classes.

`toy` builds the papers' toy Transformers from their `settings`: the `decoder`, whose attention may be
`linear_attention`, the `encoder`, the `post_norm` decoder, the `depth_two` net of a theory, or the `one_hot` MLP that
groks (these two share `mlp`); `base` is what all share, `initializers` and `matrix_draws` draw their weights otherwise,
`fitting` checks that model, task and memory fit.
`parameters` says which parameters are meant, and how weights lie, `flops` how much a forward computes.
`pretrained` loads language models of Hugging Face: `checkpoint_files` finds them, `architectures` lists what can be
held, `configurations` and `conversions` say how. `tokenizers` lets a model read text, and `weights` tells whether two
models have the same.
"""

import warnings

with warnings.catch_warnings():
    # In a notebook tqdm, which TransformerLens imports, misses ipywidgets: nothing that this package uses. This module
    # is the first to import TransformerLens, whichever of ours is asked for.
    warnings.filterwarnings("ignore", message="IProgress not found")
    import transformer_lens as _transformer_lens  # noqa: F401

from plateau_interp.models.base import ToyTransformer
from plateau_interp.models.linear_attention import LinearAttention
from plateau_interp.models.pretrained import pretrained_model
from plateau_interp.models.tokenizers import keep_tokenizer_
from plateau_interp.models.toy import toy_model

__all__ = ["LinearAttention", "ToyTransformer", "keep_tokenizer_", "pretrained_model", "toy_model"]
