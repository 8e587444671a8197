"""Continuing texts: new tokens and the hidden states that predicted them, of many prompts at once.

TransformerLens's own ``generate`` gives wrong tokens with its cache on a model without tokenizer (each new token gets
the wrong position), keeps no states, and switches the model to evaluation mode for good. For the answers of a toy task
see `plateau_interp.decoding.answers`; to measure what was written, `plateau_interp.analysis.continuations`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plateau_interp.checks import listed, shown, whole_number
from plateau_interp.decoding.choosing import Chooser, Finisher, StopRule, Token, chooser, finisher
from plateau_interp.decoding.prompts import PromptLike, as_tensors, prompt_name
from plateau_interp.interventions.attaching import hooking
from plateau_interp.interventions.hook_points import FINAL_STATE, OUTPUT, resolve_hook_points
from plateau_interp.positions import read_length
from plateau_interp.types import HookedModel, check_model

__all__ = ["Continuation", "continue_tokens", "continued"]


@dataclass(frozen=True, eq=False)
class Continuation:
    """What a model wrote after some prompts.

    Attributes:
        prompts: the prompts, padded on the left with token 0.
        prompt_mask: which of their tokens are real.
        tokens: the new tokens; 0 after the end of a sequence that was finished.
        mask: which of the new tokens are real: the one that finished a sequence is, those after it are not.
        states: the hidden state that predicted each new token, of the position before it; the first is the prompt's
            last. 0 where the token is not real; None if none were asked for.
        states_at: the hook point of the states.
    """

    prompts: Int[Tensor, "batch pos"]
    prompt_mask: Bool[Tensor, "batch pos"]
    tokens: Int[Tensor, "batch new"]
    mask: Bool[Tensor, "batch new"]
    states: Float[Tensor, "batch new width"] | None = field(repr=False)
    states_at: str | None

    def __len__(self) -> int:
        return len(self.tokens)

    def lists(self) -> list[list[int]]:
        """The real new tokens of each prompt, for a tokenizer: ``tokenizer.batch_decode(continuation.lists())``."""
        return [row[real].tolist() for row, real in zip(self.tokens, self.mask, strict=True)]


def continued(
    model: HookedModel,
    prompts: PromptLike,
    n_new: int,
    *,
    mask: Tensor | None = None,
    stop: Sequence[StopRule] = (),
    never: Sequence[Token] = (),
    temperature: float = 0.0,
    seed: int | Sequence[int] = 0,
    states_at: str | None = FINAL_STATE,
    cached: bool = True,
) -> Continuation:
    """Each prompt with ``n_new`` tokens after it, and the hidden states that predicted them.

    A prompt's tokens and states are the same alone and among others, with a cache and without (unless an edit is at
    negative positions: with a cache it stays where the end has been), and as those of Hugging Face's ``generate``, but
    for rounding. Interventions that are attached act in every forward; with a cache the later
    forwards have a single query: an attention pattern is then ``[batch, head, 1, key]``. Only the last position is
    unembedded, unless something is attached to the logits. Training mode and hooks of the model are left as they are.

    Args:
        model: any HookedTransformer with causal attention, whatever its training mode; one with dropout is not meant.
        prompts: texts, if the model has a tokenizer, which reads them as it was saved (with a start token if it adds
            one itself); sequences of tokens of any length; or a tensor ``[batch, pos]``.
        n_new: how many tokens to append at most.
        mask: of prompts in one tensor, ``[batch, pos]``: True, or 1, where a token is real. Padding stands on the left.
        stop: when a sequence is finished, any of several: a token's id; "end of text", the tokenizer's; a function of
            the new tokens so far, ``[batch, new]``, that gives a truth value a sequence. By default it never is, as in
            the paper. The batch goes on until every sequence is finished.
        never: tokens that are not chosen, as ids or "end of text". Transformers leaves out the end of text where
            ``min_new_tokens`` forbids to stop, as the paper does: ``never=["end of text"]`` is the published method.
        temperature: 0 takes the most likely token; otherwise one is drawn by ``softmax(logits / temperature)``.
        seed: of the draws: a whole number, which gives each prompt a seed of its own (`prompt_seeds`), or those seeds.
        states_at: the hook point of the states ``[batch, pos, width]``, as the interventions leave them; None for none.
            ``unembed.hook_in`` is after the final norm: what transformers calls ``hidden_states[-1]``.
        cached: keep keys and values between tokens. Without, every token costs a forward over its whole prefix.

    Raises:
        ValueError: before any forward, for what is no model, for prompts that are no prompts (none, an empty one, a
            token that the model does not have, text without a tokenizer, a mask with padding elsewhere than on the
            left), for prompts and new tokens that do not fit what the model reads
            (`plateau_interp.positions.read_length`), and for other arguments that cannot be; in the first forward, for
            a hook point that holds no states.

    Source: arXiv 2506.13688, authors' code for language models: 8 greedy tokens, none an end of text, and the states of
    ``hidden_states[-1]`` at the last position.

    Example:
        >>> from plateau_interp.models import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> model = toy_model(MovingWindowSum(), d_model=32)
        >>> written = continued(model, [[3, 1, 4], [1, 5]], 8)
        >>> written.tokens.shape, written.states.shape
        (torch.Size([2, 8]), torch.Size([2, 8, 32]))
        >>> written.prompt_mask.tolist()
        [[True, True, True], [False, True, True]]
    """
    check_model(model)
    n_new = whole_number("n_new", n_new, least=1)
    if states_at is not None and not isinstance(states_at, str):
        raise ValueError(f"states_at must be the name of a hook point, or None; got {shown(states_at)}")
    if not isinstance(cached, bool):
        raise ValueError(f"cached must be True or False; got {shown(cached)}")
    tokens, real = as_tensors(model, prompts, mask)
    _check_goes_on(model, cached=cached)
    if (needed := tokens.shape[1] + n_new - 1) > read_length(model):  # nobody reads the last one
        untrained = "" if needed > model.cfg.n_ctx else ", whose last position is never trained"
        longest = prompt_name(prompts, int(real.sum(dim=1).argmax()))
        raise ValueError(
            f"{longest} has {tokens.shape[1]} tokens and with {n_new} new ones needs n_ctx >= {needed}; got "
            f"{model.cfg.n_ctx}{untrained}"
        )
    choose = chooser(model, temperature=temperature, seed=seed, never=never, batch=len(tokens), n_new=n_new)
    finished = finisher(model, stop)
    return continue_tokens(
        model, tokens, real, n_new, choose=choose, finished=finished, states_at=states_at, cached=cached
    )


@torch.no_grad()
def continue_tokens(
    model: HookedModel,
    tokens: Int[Tensor, "batch pos"],
    real: Bool[Tensor, "batch pos"],
    n_new: int,
    *,
    choose: Chooser,
    finished: Finisher | None = None,
    states_at: str | None = None,
    cached: bool = True,
) -> Continuation:
    """As `continued`, of tokens on the model's device that nobody looks through: on a GPU nothing is waited for.

    Args:
        model: as there.
        tokens: that the model has.
        real: which of them are; padding stands on the left.
        n_new: as there.
        choose: the next tokens by their logits.
        finished: which sequences end with a token; None for none.
        states_at: as there.
        cached: as there.
    """
    forward = _Forward(model, tokens, real, n_new=n_new, states_at=states_at, cached=cached)
    new, new_mask, states = tokens.new_zeros(len(tokens), n_new), real.new_zeros(len(tokens), n_new), None
    running = real[:, -1]  # every sequence
    with hooking(model, forward.hooks):
        for step in range(n_new):
            logits, state = forward()
            new[:, step] = choose(logits, step).where(running, 0)
            new_mask[:, step] = running
            if state is not None:
                states = state.new_zeros(len(state), n_new, state.shape[1]) if states is None else states
                states[:, step] = state.where(running[:, None], 0)
            if finished is not None:
                running = running & ~finished(new[:, : step + 1])
                if not bool(running.any()):
                    break
            forward.append(new[:, step : step + 1])
    return Continuation(tokens, real, new, new_mask, states, forward.site)


def _check_goes_on(model: HookedModel, *, cached: bool) -> None:
    if model.cfg.attention_dir != "causal":
        raise ValueError(f"only causal attention can go on from a text; the model's is {model.cfg.attention_dir}")
    if cached and model.cfg.ungroup_grouped_query_attention and model.cfg.n_key_value_heads is not None:
        raise ValueError("TransformerLens has no cache for grouped queries that were ungrouped: give cached=False")


class _Forward:
    """The forwards of one continuation, each over what was appended since the last one, or over everything."""

    def __init__(
        self,
        model: HookedModel,
        tokens: Int[Tensor, "batch pos"],
        real: Bool[Tensor, "batch pos"],
        *,
        n_new: int,
        states_at: str | None,
        cached: bool,
    ) -> None:
        # Here, since tasks import `train`, which decodes: to name and sample one, TransformerLens need not load.
        from plateau_interp.decoding.cache import roomy_cache

        self._model = model
        n_pos = tokens.shape[1] + n_new - 1
        self._cache = roomy_cache(model, batch=len(tokens), n_pos=n_pos, device=tokens.device) if cached else None
        # Always with a mask: without, TransformerLens cannot tell the positions of cached tokens.
        self._inputs, self._mask = tokens, real.long()
        self.site = None if states_at is None else _one_point(model, states_at)
        self._state: Tensor | None = None
        self.hooks: dict[str, Callable[..., Tensor | None]] = {} if self.site is None else {self.site: self._keep}
        # What is attached to the logits may act by position, and is to find all of them.
        if not model.hook_dict[OUTPUT].has_hooks(dir="fwd"):
            self.hooks[FINAL_STATE] = self._keep_and_cut if self.site == FINAL_STATE else _cut

    def __call__(self) -> tuple[Float[Tensor, "batch d_vocab"], Float[Tensor, "batch width"] | None]:
        """Logits and state of the last position."""
        self._state = None
        logits = self._model(self._inputs, past_kv_cache=self._cache, attention_mask=self._mask)
        if self.site is not None and self._state is None:
            raise ValueError(f"{self.site} did not fire, so there are no states to keep")
        return logits[:, -1], self._state

    def append(self, token: Int[Tensor, "batch 1"]) -> None:
        """Go on with a token of each sequence."""
        if self._cache is None:
            self._inputs = torch.cat([self._inputs, token], dim=1)
            self._mask = torch.cat([self._mask, torch.ones_like(token)], dim=1)
        else:
            self._inputs, self._mask = token, torch.ones_like(token)

    def _keep(self, act: Tensor, *, hook: Any) -> None:
        n_there = 1 if self.site == OUTPUT else self._inputs.shape[1]
        if act.ndim != 3 or act.shape[1] < n_there:
            raise ValueError(f"{self.site} holds {tuple(act.shape)}; expected states [batch, pos, width]")
        self._state = act[:, -1]

    def _keep_and_cut(self, act: Tensor, *, hook: Any) -> Tensor:
        self._keep(act, hook=hook)
        return _cut(act, hook=hook)


def _cut(act: Tensor, *, hook: Any) -> Tensor:
    """The last position alone: a language model's logits of all others would be most of the work and memory."""
    return act[:, -1:]


def _one_point(model: HookedModel, name: str) -> str:
    points = resolve_hook_points(model, name)
    if len(points) > 1:
        raise ValueError(f"states_at must be one hook point; {name!r} means {listed(points)}")
    return points[0]
