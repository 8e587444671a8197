"""What a model wrote, in numbers: how alike its states are, how much it repeats itself, how many tokens it uses.

Each function takes a `Continuation` and gives one number a prompt; the paper's number is the mean. Only real tokens
count: after the end of a sequence there is nothing to compare. All of it is *free-running*: measured while the model
reads what it wrote itself. For the states of a given text, teacher-forced, see `plateau_interp.metrics`.
"""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from plateau_interp.decoding import Continuation
from plateau_interp.metrics import ENTROPY_EPS, pairwise_cosine

__all__ = [
    "WRITING",
    "cosine_across_prompts",
    "distinct_tokens",
    "repetition",
    "state_cosine",
    "token_entropy",
]


def state_cosine(continuation: Continuation) -> Float[Tensor, " batch"]:
    """How far the states that predicted the new tokens of a prompt point in one direction (free-running COS).

    The mean cosine of all pairs of its new tokens, none left out: 1 when all states are parallel, about 0 for unrelated
    states of a wide model, NaN for a single token.

    Raises:
        ValueError: if no states were kept.

    Source: arXiv 2506.13688, language models: 28 pairs of 8 tokens, the state after the final norm.

    Example:
        >>> states = torch.tensor([[[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]])
        >>> real = torch.ones(1, 3, dtype=torch.bool)
        >>> tokens = torch.zeros(1, 3, dtype=torch.long)
        >>> state_cosine(Continuation(tokens, real, tokens, real, states, "unembed.hook_in"))
        tensor([0.3333])
    """
    pairs = continuation.mask[:, :, None] & continuation.mask[:, None, :]
    return _mean(pairwise_cosine(_states(continuation)), pairs.tril(-1))


def cosine_across_prompts(continuation: Continuation) -> Float[Tensor, " batch"]:
    """How alike the states of a prompt's new tokens are to those of the other prompts at the same new token.

    The mean cosine over the new tokens and the other prompts: near 1 when the model says the same whatever it is asked,
    NaN for a prompt alone. With sequences of one length the mean over the batch is that of all pairs of prompts.

    Raises:
        ValueError: if no states were kept.

    Source: our own; arXiv 2506.13688 compares states within a sequence only.
    """
    cosine = pairwise_cosine(_states(continuation).transpose(0, 1)).transpose(0, 1)  # [batch, new, other]
    others = ~torch.eye(len(continuation), dtype=torch.bool, device=cosine.device)
    both = continuation.mask[:, :, None] & continuation.mask.T[None]
    return _mean(cosine, both & others[:, None])


def repetition(continuation: Continuation) -> Float[Tensor, " batch"]:
    """How often a new token equals the one before it (rho): in [0, 1], NaN for a single token.

    The prompt's last token does not count.

    Source: arXiv 2506.13688, language models: ``1/7 * sum over 7 neighbours`` of 8 tokens.
    """
    tokens, mask = continuation.tokens, continuation.mask
    return _mean((tokens[:, 1:] == tokens[:, :-1]).float(), mask[:, 1:] & mask[:, :-1])


def distinct_tokens(continuation: Continuation) -> Float[Tensor, " batch"]:
    """Share of the new tokens that are not there before: ``1/m`` for a constant sequence of m, 1 if all differ.

    Source: distinct-1 of Li et al., "A diversity-promoting objective function for neural conversation models", 2016.
    """
    return _mean((~_equal(continuation).tril(-1).any(dim=2)).float(), continuation.mask)


def token_entropy(continuation: Continuation) -> Float[Tensor, " batch"]:
    """Entropy in nats of the new tokens of a prompt: 0 for a constant sequence, ``ln m`` for m distinct tokens.

    As `plateau_interp.metrics.sequence_entropy`, with the same 1e-6, without a table of the whole vocabulary.

    Source: arXiv 2506.13688, SeqEnt.
    """
    equal = _equal(continuation)
    share = equal.float().sum(dim=2) / continuation.mask.sum(dim=1, keepdim=True)
    # Each token stands for its own share of the sum over ids.
    return _mean(torch.log(1 / (share + ENTROPY_EPS)), continuation.mask)


WRITING: Mapping[str, Callable[[Continuation], Float[Tensor, " batch"]]] = {
    "cosine": state_cosine,
    "cosine_across_prompts": cosine_across_prompts,
    "repetition": repetition,
    "distinct_tokens": distinct_tokens,
    "entropy": token_entropy,
}
"""All of them, under the names that they have in tables."""


def _states(continuation: Continuation) -> Float[Tensor, "batch new width"]:
    if continuation.states is None:
        raise ValueError("no states were kept to compare: continue with states_at='unembed.hook_in'")
    # Half precision calls a cosine of 0.9989 1.
    return continuation.states if continuation.states.dtype == torch.float64 else continuation.states.float()


def _equal(continuation: Continuation) -> Bool[Tensor, "batch new new"]:
    """Which real new tokens of a prompt are the same."""
    tokens, mask = continuation.tokens, continuation.mask
    return (tokens[:, :, None] == tokens[:, None, :]) & mask[:, :, None] & mask[:, None, :]


def _mean(values: Float[Tensor, "batch *rest"], where: Bool[Tensor, "batch *rest"]) -> Float[Tensor, " batch"]:
    """Over all but the batch, where it counts; NaN where nothing does."""
    axes = tuple(range(1, values.ndim))
    return values.where(where, 0).sum(dim=axes) / where.sum(dim=axes)
