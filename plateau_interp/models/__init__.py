"""Models to study, all HookedTransformers; the only folder that names TransformerLens's model classes.

`toy` builds the paper's toy Transformers, `linear_attention` is their attention without softmax.
"""

from plateau_interp.models.linear_attention import LinearAttention
from plateau_interp.models.toy import ToyTransformer, toy_model

__all__ = ["LinearAttention", "ToyTransformer", "toy_model"]
