"""Greedy decoding of a task's answers, with a key/value cache and under whatever interventions are attached.

TransformerLens's own ``generate`` gives wrong tokens with its cache on a model without tokenizer (each new token gets
the wrong position) and switches the model to evaluation mode for good. Use this for tasks; for text use a pretrained
model's own tools.
"""

import torch
from jaxtyping import Int
from torch import Tensor

from plateau_interp.types import HookedModel, Task

__all__ = ["greedy_answers", "greedy_continuation"]


@torch.no_grad()
def greedy_continuation(
    model: HookedModel, prompts: Int[Tensor, "batch pos"], n_new: int, *, cached: bool = True
) -> Int[Tensor, "batch new"]:
    """The most likely next token, appended ``n_new`` times.

    Hooks that are attached act in every forward. With a cache the later forwards have a single query: an attention
    pattern is then ``[batch, head, 1, key]``.

    Args:
        model: any HookedTransformer; its training mode does not matter (toy models have no dropout) and is not changed.
        prompts: the tokens to continue, all of one length.
        n_new: how many tokens to append.
        cached: keep keys and values between tokens. Without, every token costs a forward over its whole prefix; the
            tokens are the same.

    Returns:
        The new tokens alone.

    Raises:
        ValueError: if prompt and new tokens do not fit the model's context.

    Example:
        >>> from plateau_interp.models import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> task = MovingWindowSum(n=4)
        >>> prompts = task.sample(3, generator=torch.Generator()).tokens[:, :5]
        >>> greedy_continuation(toy_model(task, d_model=16), prompts, 4).shape
        torch.Size([3, 4])
    """
    # Here, since tasks import `train`, which decodes: to name and sample one, TransformerLens need not load.
    from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

    longest = prompts.shape[1] + n_new - 1
    if longest > model.cfg.n_ctx:
        raise ValueError(
            f"{prompts.shape[1]} tokens and {n_new} new ones need n_ctx >= {longest}; got {model.cfg.n_ctx}"
        )
    cache = TransformerLensKeyValueCache.init_cache(model.cfg, prompts.device, len(prompts)) if cached else None
    tokens = prompts
    for step in range(n_new):
        inputs = tokens if cache is None or step == 0 else tokens[:, -1:]
        # Without a mask TransformerLens cannot tell the positions of cached tokens; ones mean "no padding".
        mask = None if cache is None else torch.ones_like(inputs)
        logits = model(inputs, past_kv_cache=cache, attention_mask=mask)
        tokens = torch.cat([tokens, logits[:, -1].argmax(dim=-1, keepdim=True)], dim=1)
    return tokens[:, prompts.shape[1] :]


def greedy_answers(
    model: HookedModel, task: Task, tokens: Int[Tensor, "batch pos"], *, cached: bool = True
) -> Int[Tensor, "batch answer"]:
    """The model's own answers to the prompts of some sequences, decoded greedily.

    Args:
        model: any HookedTransformer over the task's vocabulary.
        task: says where the prompt ends and how long the answer is; all token ids may be produced.
        tokens: whole sequences or prompts; what stands after the prompt is not looked at.
        cached: see `greedy_continuation`.

    Returns:
        The answers, to be compared with ``tokens[:, task.answer]``.

    Source: arXiv 2506.13688, authors' code: free-running argmax, not restricted to the task's output alphabet.
    """
    n_answers = task.answer.stop - task.answer.start
    return greedy_continuation(model, tokens[:, : task.answer.start], n_answers, cached=cached)
