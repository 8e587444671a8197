"""Which token comes next, and when a sequence is finished.

Both look at each sequence by itself: what else is in the batch changes nothing.
"""

import hashlib
import math
from collections.abc import Callable, Sequence, Set
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plateau_interp.checks import check_takes, seed_number, shown, whole_number
from plateau_interp.types import HookedModel, Reader

__all__ = ["Chooser", "Finisher", "StopRule", "Token", "chooser", "finisher", "most_likely", "prompt_seeds"]

Token = int | Literal["end of text"]
"""A token's id, or the one of the tokenizer's end of text."""

StopRule = Token | Callable[[Int[Tensor, "batch new"]], Bool[Tensor, " batch"]]
"""A token, or a function of the new tokens so far that says which sequences are finished."""

Chooser = Callable[[Float[Tensor, "batch d_vocab"], int], Int[Tensor, " batch"]]
"""Gives the next tokens by their logits and their number among the new ones."""

Finisher = Callable[[Int[Tensor, "batch new"]], Bool[Tensor, " batch"]]
"""Says by the new tokens so far which sequences end with the latest of them."""


def prompt_seeds(seed: int, n: int) -> list[int]:
    """The seeds with which ``n`` prompts are sampled under one seed; those of fewer prompts are the first of them.

    Example:
        >>> prompt_seeds(0, 3)[:2] == prompt_seeds(0, 2)
        True
    """
    seed = seed_number(seed)
    digests = (hashlib.blake2b(f"{seed}/continuation/{index}".encode(), digest_size=8).digest() for index in range(n))
    return [int.from_bytes(digest, "little") >> 1 for digest in digests]


def chooser(
    model: HookedModel,
    *,
    temperature: Any,
    seed: Any,
    never: Any,
    batch: int,
    n_new: int,
) -> Chooser:
    """The most likely token at temperature 0, else one drawn by ``softmax(logits / temperature)``; some never.

    A token costs one random number of its prompt's own generator, which decides among the tokens in order of their ids.

    Raises:
        ValueError: for a temperature that is none, for seeds that are none or not as many as the prompts, and for
            tokens that the model does not have.
    """
    seeds = _seed_of_each(seed, batch)
    if isinstance(temperature, bool) or not isinstance(temperature, int | float) or not 0 <= temperature < math.inf:
        raise ValueError(f"temperature must be 0, for the most likely token, or a positive number; got {temperature!r}")
    banned = [_token_id(model, token, "to leave out") for token in _several("never", never)]
    choose = most_likely if temperature == 0 else _drawn(temperature, seeds, n_new)
    if not banned:
        return choose
    if len({*banned}) == model.cfg.d_vocab:
        raise ValueError("never leaves no token to choose")
    left_out = torch.tensor(banned, device=next(iter(model.parameters())).device)
    return lambda logits, step: choose(logits.index_fill(1, left_out, -math.inf), step)


def most_likely(logits: Float[Tensor, "batch d_vocab"], step: int) -> Int[Tensor, " batch"]:
    """The token of the largest logit, the first of several; a `Chooser` for whatever step."""
    return logits.argmax(dim=-1)


def _drawn(temperature: float, seeds: Sequence[int], n_new: int) -> Chooser:
    draws = [torch.rand(n_new, generator=torch.Generator().manual_seed(one), dtype=torch.float64) for one in seeds]
    uniform = torch.stack(draws)

    def drawn(logits: Float[Tensor, "batch d_vocab"], step: int) -> Int[Tensor, " batch"]:
        # In float64: a sum of 50,000 shares leaves float32 no room for the small ones.
        below = torch.softmax(logits.double() / temperature, dim=-1).cumsum(dim=-1)
        if not bool(below[:, -1].isfinite().all()):
            raise ValueError(f"new token {step} cannot be drawn: logits are NaN or infinite")
        at = uniform[:, step : step + 1].to(below.device) * below[:, -1:]
        return torch.searchsorted(below, at, right=True).clamp_max(logits.shape[-1] - 1)[:, 0]

    return drawn


def _seed_of_each(seed: Any, batch: int) -> list[int]:
    if not isinstance(seed, Sequence) or isinstance(seed, str):
        return prompt_seeds(seed_number(seed), batch)
    if len(seed) != batch:
        raise ValueError(f"seed must be one whole number, or one a prompt; got {len(seed)} for {batch} prompts")
    return [seed_number(one) for one in seed]


def finisher(model: HookedModel, stop: Any) -> Finisher | None:
    """All rules as one; None without any.

    Raises:
        ValueError: for what is no rule, a token that the model does not have, and an end of text without a tokenizer.
    """
    rules = [rule for rule in _several("stop", stop) if callable(rule)]
    for rule in rules:
        check_takes(rule, "a rule to stop", "new")
    tokens = [_token_id(model, rule, "to stop at") for rule in stop if not callable(rule)]
    if not tokens and not rules:
        return None
    ends = torch.tensor(tokens, dtype=torch.long, device=next(iter(model.parameters())).device)

    def finished(new: Int[Tensor, "batch new"]) -> Bool[Tensor, " batch"]:
        done = torch.isin(new[:, -1], ends)
        for rule in rules:
            done = done | _verdict(rule, new)
        return done

    return finished


def _several(name: str, given: Any) -> Any:
    if isinstance(given, str) or not isinstance(given, Sequence | Set):
        raise ValueError(f"{name} must be several, such as ['end of text', 13]; got {shown(given)}")
    return given


def _token_id(model: HookedModel, token: Any, what: str) -> int:
    if token == "end of text":
        tokenizer = model.tokenizer if isinstance(model, Reader) else None
        if tokenizer is None or tokenizer.eos_token_id is None:
            there = "no tokenizer" if tokenizer is None else "a tokenizer without an end of text"
            raise ValueError(f"the model has {there}: give the id of the token {what}")
        token = tokenizer.eos_token_id
    if isinstance(token, str):
        raise ValueError(f"a token {what} is an id or 'end of text'; got {token!r}")
    index = whole_number(f"a token {what}", token)
    if not 0 <= index < model.cfg.d_vocab:
        raise ValueError(f"there is no token {index} {what}: the model has 0 to {model.cfg.d_vocab - 1}")
    return index


def _verdict(rule: Callable[[Tensor], Any], new: Int[Tensor, "batch new"]) -> Bool[Tensor, " batch"]:
    verdict = rule(new.clone())  # its own: a rule that writes into it changes nothing
    if not isinstance(verdict, Tensor) or verdict.dtype != torch.bool or verdict.shape != (len(new),):
        raise ValueError(f"a rule to stop must give a truth value a sequence, bool [{len(new)}]; got {shown(verdict)}")
    return verdict.to(new.device)
