"""Attention on the first prompt of a series, kept with each checkpoint: it is looked at when the checkpoint is gone.

One file a checkpoint, of at most 1 MiB whatever the model. `plateau_interp.views.attention_view` shows it.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import safetensors
import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor

from plateau_interp.checks import shown
from plateau_interp.decoding.prompts import as_tensors
from plateau_interp.interventions.attaching import hooking
from plateau_interp.interventions.hook_points import pattern_name
from plateau_interp.types import HookedModel, Reader

__all__ = ["MOST_SHOWN_TOKENS", "MOST_VALUES", "KeptAttention", "attention_on"]

MOST_VALUES = 2**18
"""Kept of a checkpoint: 1 MiB in float32. A model of 32 layers and 32 heads is seen on its prompt's first 16 tokens."""
MOST_SHOWN_TOKENS = 64
"""Kept of a prompt, however small the model is: more are no picture that can be read."""
PATTERNS = "patterns"


@dataclass(frozen=True, eq=False)
class KeptAttention:
    """The attention of every layer on the first tokens of a prompt.

    Attributes:
        tokens: a text for each position.
        patterns: as the model had them, interventions and all.

    Raises:
        ValueError: for what is no pattern a layer, or another number of tokens.

    Example:
        >>> kept = KeptAttention(("Why", " not"), torch.eye(2)[None, None])
        >>> KeptAttention.from_bytes(kept.to_bytes()).tokens
        ('Why', ' not')
    """

    tokens: tuple[str, ...]
    patterns: Float[Tensor, "layer head query key"] = field(repr=False)

    def __post_init__(self) -> None:
        n_tokens, shape = len(self.tokens), tuple(self.patterns.shape)
        if len(shape) != 4 or shape[2:] != (n_tokens, n_tokens):
            raise ValueError(f"patterns of {n_tokens} tokens must be [layer, head, query, key]; got shape {shape}")

    def to_bytes(self) -> bytes:
        """As the content of a safetensors file."""
        tokens = {"tokens": json.dumps(self.tokens)}
        return safetensors.torch.save({PATTERNS: self.patterns.float().contiguous()}, metadata=tokens)

    @staticmethod
    def from_bytes(content: bytes) -> "KeptAttention":
        """What `to_bytes` gave.

        Raises:
            ValueError: if that is something else.
        """
        try:
            patterns = safetensors.torch.load(content)[PATTERNS]
            length = int.from_bytes(content[:8], "little")  # of the header, as the format has it
            tokens = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["tokens"])
            return KeptAttention(tuple(str(token) for token in tokens), patterns)
        except (ValueError, KeyError, TypeError, AttributeError, safetensors.SafetensorError) as error:
            raise ValueError(f"no attention that was kept: {shown(error)}") from None


@torch.no_grad()
def attention_on(model: HookedModel, prompt: str, *, beside: Sequence[str] = ()) -> KeptAttention:
    """What every layer attends to in a prompt, as the model's tokenizer reads it.

    The whole prompt is read; kept are its first tokens, which nothing after them changes: as many as give
    `MOST_VALUES`, at most `MOST_SHOWN_TOKENS`.

    Args:
        model: with a tokenizer, under whatever interventions are attached: attention is kept as they left it.
        prompt: a text.
        beside: texts that are read in one batch with it, which makes a difference to interventions that look at all of
            it, such as a mean over the batch.

    Raises:
        ValueError: if the model has no tokenizer, or the prompt no token.

    Example:
        >>> from plateau_interp import toy_model
        >>> from plateau_interp.tasks import Text
        >>> model = toy_model(Text(), n_layers=2, d_model=32)
        >>> attention_on(model, "What is the").patterns.shape
        torch.Size([2, 4, 3, 3])
    """
    if not isinstance(model, Reader) or model.tokenizer is None:
        raise ValueError(f"the model has no tokenizer to read {shown(prompt)} with")
    tokens, mask = as_tensors(model, [prompt, *beside], None)
    n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
    start = int((~mask[0]).sum())  # behind its padding
    n_kept = min(tokens.shape[1] - start, MOST_SHOWN_TOKENS, max(1, math.isqrt(MOST_VALUES // (n_layers * n_heads))))
    patterns: dict[int, Tensor] = {}

    def keeping(layer: int) -> Callable[..., None]:
        def keep(pattern: Tensor, *, hook: object) -> None:
            own = pattern[0, :, start : start + n_kept, start : start + n_kept]
            patterns[layer] = own.float().cpu().clone()  # a view would hold the whole

        return keep

    with hooking(model, {pattern_name(layer): keeping(layer) for layer in range(n_layers)}):
        model(tokens, attention_mask=mask.int()) if beside else model(tokens)
    texts = tuple(model.tokenizer.decode([token]) for token in tokens[0, start : start + n_kept].tolist())
    return KeptAttention(texts, torch.stack([patterns[layer] for layer in range(n_layers)]))
