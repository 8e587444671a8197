"""Pure measures of tensors: attention progress, repetition, collapse, accuracy.

Each function reduces only the axes it names and leaves the batch axis alone, so a caller chooses the spread: take
``.mean()`` for the paper's number (``.nanmean()`` where a sequence may have nothing to count). Answer positions that
hold `plateau_interp.types.IGNORE` are left out. For measuring a model while it trains use
`plateau_interp.training.meter.Meter`.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plateau_interp.checks import shown
from plateau_interp.types import IGNORE

__all__ = [
    "ENTROPY_EPS",
    "as_float32",
    "attention_progress",
    "copies_of_first",
    "effective_rank",
    "head_shares",
    "mean_pairwise_cosine",
    "pairwise_cosine",
    "position_accuracy",
    "repetition_frequency",
    "sequence_entropy",
    "token_accuracy",
]

COSINE_EPS = 1e-8
"""Norms are kept above it, as in `torch.cosine_similarity`."""
SMALL, LARGE = 1e-6, 1e15
"""Largest entries of a state beyond which its square, or the norm's floor, would decide the cosine."""
ENTROPY_EPS = 1e-6
"""What the authors' code adds to each share before it takes the logarithm."""


def attention_progress(
    pattern: Float[Tensor, "batch head row key"], target: Bool[Tensor, "#batch row key"]
) -> Float[Tensor, " batch"]:
    """Share of absolute attention that falls on the target positions (APM).

    ``sum over heads and (row, key) in target of |A| / sum over heads, rows and keys of |A|``, one ratio a sequence; the
    paper's number is the mean of these ratios, not the ratio of the means.

    Args:
        pattern: attention of the answer rows over all keys; signed for linear attention.
        target: the positions that the solution reads (Omega).

    Returns:
        A share in [0, 1]; invariant to a scale of the pattern; NaN for a sequence whose pattern is all 0.

    Raises:
        ValueError: for tensors of other shapes.

    Source: arXiv 2506.13688, attention progress measure. The paper's text leaves open which rows its denominator
    covers; like the authors' code, ours expects the answer rows alone.

    Example:
        >>> pattern = torch.tensor([[[[3.0, -1.0], [0.0, 4.0]]]])
        >>> attention_progress(pattern, torch.eye(2, dtype=torch.bool)[None])
        tensor([0.8750])
    """
    _check_map(pattern, target)
    size = _precise(pattern).abs()
    return (size * target[:, None]).sum(dim=(1, 2, 3)) / size.sum(dim=(1, 2, 3))


def head_shares(
    pattern: Float[Tensor, "batch head row key"], target: Bool[Tensor, "#batch row key"]
) -> Float[Tensor, "batch head"]:
    """Share of each head's absolute attention that falls on some keys, mean over the rows.

    ``mean over rows of (sum over target keys of |A| / sum over keys of |A|)``: every row counts alike, other than in
    `attention_progress`.

    Returns:
        A share in [0, 1] for each head; invariant to a scale of any row; NaN with a row whose pattern is all 0.

    Raises:
        ValueError: for tensors of other shapes.

    Source: arXiv 2410.22244 looks at mean maps; a mean of shares is the share of the mean map if the target is the same
    for all sequences.

    Example:
        >>> pattern = torch.tensor([[[[0.5, 0.5], [0.2, 0.8]], [[1.0, 0.0], [0.0, 1.0]]]])
        >>> head_shares(pattern, torch.eye(2, dtype=torch.bool)[None])
        tensor([[0.6500, 1.0000]])
    """
    _check_map(pattern, target)
    size = _precise(pattern).abs()
    return ((size * target[:, None]).sum(dim=-1) / size.sum(dim=-1)).mean(dim=-1)


def repetition_frequency(tokens: Int[Tensor, "batch answer"]) -> Float[Tensor, " batch"]:
    """How often a token equals the one before it.

    ``1/(m-1) * sum over i of 1[y_i = y_{i+1}]``: 0 where neighbours always differ, 1 for a constant sequence, NaN for a
    single token. Of neighbours one of which is ``IGNORE`` nothing is counted.

    Raises:
        ValueError: for tensors of other shapes.

    Source: arXiv 2506.13688, repetition frequency rho. Compare with the same number on the true answers.

    Example:
        >>> repetition_frequency(torch.tensor([[5, 5, 5, 2, 2]]))
        tensor([0.7500])
    """
    _check_axes("tokens", tokens, "batch answer")
    counted = (tokens[:, 1:] != IGNORE) & (tokens[:, :-1] != IGNORE)
    return _share((tokens[:, 1:] == tokens[:, :-1]) & counted, counted, dim=1)


def pairwise_cosine(states: Float[Tensor, "batch row d_model"]) -> Float[Tensor, "batch row row"]:
    """Cosine similarity of every two rows' states, in [-1, 1]; 0 with a state that is all 0.

    States so small or large that their squares are lost are scaled first.

    Raises:
        ValueError: for tensors of other shapes.

    Source: arXiv 2506.13688, COS_{i,j}.

    Example:
        >>> pairwise_cosine(torch.tensor([[[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]]))[0, 0]
        tensor([1., 1., 0.])
    """
    _check_axes("states", states, "batch row d_model")
    states = _precise(states)
    largest = states.abs().amax(dim=-1, keepdim=True)
    is_extreme = (largest > 0) & ((largest < SMALL) | (largest > LARGE)) & largest.isfinite()
    unit = F.normalize(torch.where(is_extreme, states / largest, states), dim=-1, eps=COSINE_EPS)
    return unit @ unit.mT


def mean_pairwise_cosine(
    states: Float[Tensor, "batch row d_model"], pairs: Bool[Tensor, "row row"] | None = None
) -> Float[Tensor, " batch"]:
    """How far the hidden states of the rows point in one direction (representation collapse, COS).

    The mean over the chosen pairs of their cosine similarity: 1 when all states are parallel, about 0 for unrelated
    states of a wide model, NaN if no pair is chosen.

    Args:
        states: hidden states of the answer rows; the paper takes them after the final LayerNorm, with gain and bias.
        pairs: the pairs to average over, by default every pair below the diagonal. Tasks say which pairs the paper
            takes: `Task.cosine_pairs`.

    Raises:
        ValueError: for tensors of other shapes.

    Source: arXiv 2506.13688, average cosine similarity; for the moving-window sum without the first answer row.

    Example:
        >>> mean_pairwise_cosine(torch.tensor([[[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]]))
        tensor([0.3333])
    """
    _check_axes("states", states, "batch row d_model")
    if pairs is not None and pairs.shape != (states.shape[1],) * 2:
        raise ValueError(f"pairs must be [row, row] for {states.shape[1]} rows; got {tuple(pairs.shape)}")
    if pairs is None:
        n_rows = states.shape[1]
        pairs = torch.ones(n_rows, n_rows, dtype=torch.bool, device=states.device).tril(-1)
    cosines = pairwise_cosine(states)
    weights = pairs.to(cosines)
    return (cosines * weights).sum(dim=(1, 2)) / weights.sum()


def token_accuracy(answers: Int[Tensor, "batch answer"], truth: Int[Tensor, "batch answer"]) -> Float[Tensor, " batch"]:
    """Share of the answer's tokens that are right, in [0, 1] (not: whether the whole answer is).

    Where the truth is ``IGNORE`` nothing is counted; NaN for a sequence of which nothing is.

    Raises:
        ValueError: for tensors of other shapes.

    Example:
        >>> token_accuracy(torch.tensor([[1, 2, 3, 4]]), torch.tensor([[1, 2, 3, 5]]))
        tensor([0.7500])
    """
    _check_pair(answers, truth)
    counted = truth != IGNORE
    return _share((answers == truth) & counted, counted, dim=1)


def position_accuracy(
    answers: Int[Tensor, "batch answer"], truth: Int[Tensor, "batch answer"]
) -> Float[Tensor, " answer"]:
    """Share of sequences that are right at each answer position, in [0, 1]; reduces the batch.

    Where the truth is ``IGNORE`` nothing is counted; NaN for a position of which nothing is.

    Raises:
        ValueError: for tensors of other shapes.

    Example:
        >>> position_accuracy(torch.tensor([[1, 2], [1, 3]]), torch.tensor([[1, 2], [1, 2]]))
        tensor([1.0000, 0.5000])
    """
    _check_pair(answers, truth)
    counted = truth != IGNORE
    return _share((answers == truth) & counted, counted, dim=0)


def sequence_entropy(tokens: Int[Tensor, "batch answer"], *, d_vocab: int) -> Float[Tensor, " batch"]:
    """Entropy in nats of the tokens within one sequence: low when few distinct tokens are used.

    ``sum over ids of p ln(1 / (p + 1e-6))`` with ``p`` the id's share of the sequence: about 0 (just below) for a
    constant sequence, about ``ln m`` for m distinct tokens. Ids from ``d_vocab`` on are left out,
    what is ``IGNORE`` counts nowhere; NaN for a sequence of which nothing is counted.

    Raises:
        ValueError: for tensors of other shapes.

    Source: arXiv 2506.13688, SeqEnt; the 1e-6 is the authors' code's.

    Example:
        >>> sequence_entropy(torch.tensor([[1, 1, 2, 2]]), d_vocab=3)
        tensor([0.6931])
    """
    _check_axes("tokens", tokens, "batch answer")
    # Not `one_hot`, which looks for the smallest token: a step on a GPU would wait for the answer.
    ids = torch.arange(d_vocab, device=tokens.device)
    share = _share(tokens[:, :, None] == ids, (tokens != IGNORE)[:, :, None], dim=1)
    return (share * torch.log(1 / (share + ENTROPY_EPS))).sum(dim=1)


def copies_of_first(tokens: Int[Tensor, "batch answer"]) -> Float[Tensor, " batch"]:
    """Share of a sequence's tokens that equal its first, which counts itself: 1/m to 1.

    What is ``IGNORE`` counts nowhere, also as the first; NaN for a sequence of which nothing is counted.

    Raises:
        ValueError: for tensors of other shapes.

    Source: arXiv 2506.13688, alpha_1 of the repeat tasks.

    Example:
        >>> copies_of_first(torch.tensor([[7, 7, 3, 7]]))
        tensor([0.7500])
    """
    _check_axes("tokens", tokens, "batch answer")
    counted = tokens != IGNORE
    first = tokens.gather(1, counted.int().argmax(dim=1, keepdim=True))
    return _share((tokens == first) & counted, counted, dim=1)


def effective_rank(states: Float[Tensor, "batch row d_model"]) -> Float[Tensor, " batch"]:
    """How many directions the states of a sequence use: ``exp`` of the entropy of their normalised singular values.

    1 when all states are parallel, at most ``min(row, d_model)``; 1 for states that are all 0, NaN for states
    that are not finite.

    Raises:
        ValueError: for tensors of other shapes.

    Source: Roy & Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007.

    Example:
        >>> effective_rank(torch.eye(3)[None])
        tensor([3.])
    """
    _check_axes("states", states, "batch row d_model")
    states = _precise(states)
    is_finite = states.isfinite().all(dim=-1).all(dim=-1, keepdim=True)
    singular = torch.linalg.svdvals(states.nan_to_num(0, 0, 0)).where(is_finite, torch.nan)
    share = singular / singular.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(singular.dtype).tiny)
    entropy: Tensor = torch.special.entr(share).sum(dim=-1)
    return entropy.exp()


def as_float32(numbers: Any) -> np.ndarray:
    """Numbers as the measures above give them, for comparing with a bound: 19 of 20 is 0.95 there.

    Compare both, the measured numbers and the bound: a token accuracy of 0.95 is less than 0.95 in float64.

    Example:
        >>> accuracy = token_accuracy(torch.tensor([[0] + [1] * 19]), torch.ones(1, 20, dtype=torch.long)).item()
        >>> accuracy >= 0.95, bool(as_float32(accuracy) >= as_float32(0.95))
        (False, True)
    """
    with np.errstate(over="ignore", under="ignore"):  # what is beyond float32 is infinite, or 0
        return np.asarray(numbers, dtype=np.float32)


def _share(those: Bool[Tensor, "..."], counted: Bool[Tensor, "..."], *, dim: int) -> Float[Tensor, "..."]:
    """How many of what is counted are of those, along an axis; NaN where nothing is."""
    return those.float().sum(dim=dim) / counted.float().sum(dim=dim)


def _precise(tensor: Tensor) -> Tensor:
    """In float32 at least: in bfloat16 a cosine of .9989 is 1, and 1e-8 is 0 in float16."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _check_axes(name: str, given: Any, axes: str) -> None:
    if not isinstance(given, Tensor) or given.ndim != len(axes.split()):
        what = tuple(given.shape) if isinstance(given, Tensor) else shown(given)
        raise ValueError(f"{name} must be a tensor [{', '.join(axes.split())}]; got {what}")


def _check_map(pattern: Any, target: Any) -> None:
    _check_axes("pattern", pattern, "batch head row key")
    _check_axes("target", target, "batch row key")
    if target.shape[0] not in (1, len(pattern)) or target.shape[1:] != pattern.shape[2:]:
        expected = f"[1 or {len(pattern)}, {pattern.shape[2]}, {pattern.shape[3]}]"
        raise ValueError(f"target must be {expected}, as the pattern's rows and keys are; got {tuple(target.shape)}")


def _check_pair(answers: Any, truth: Any) -> None:
    _check_axes("answers", answers, "batch answer")
    if not isinstance(truth, Tensor) or truth.shape != answers.shape:
        there = tuple(truth.shape) if isinstance(truth, Tensor) else shown(truth)
        raise ValueError(f"answers and truth must be of one shape; got {tuple(answers.shape)} and {there}")
