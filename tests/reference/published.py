"""The published way to continue a prompt: by transformers alone, one at a time, without a cache, all states kept."""

import torch
from torch import Tensor


def by_transformers(model, prompt: list[int], *, n_new: int) -> tuple[list[int], Tensor]:
    """The new tokens, greedy and never an end of text, and the last hidden states that predicted them."""
    tokens = torch.tensor([prompt])
    written = model.generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        max_new_tokens=n_new,
        min_new_tokens=n_new,
        do_sample=False,
        use_cache=False,
        output_hidden_states=True,
        return_dict_in_generate=True,
        pad_token_id=0,
    )
    states = torch.stack([layers[-1][0, -1] for layers in written.hidden_states])
    return written.sequences[0, len(prompt) :].tolist(), states
