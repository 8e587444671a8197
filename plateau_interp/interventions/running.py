"""The forward that is running and what went before it: how many positions, which tokens, which of them are padding.

A hook sees one activation. Under a key/value cache that is the last few positions of a sequence; what an intervention
means by a position, a data-dependent target or a source may depend on all of it. Everything that is attached to a model
reads the one `RunningForward` of its session.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from plateau_interp.interventions.padding import Layout, layout_of
from plateau_interp.interventions.session import session
from plateau_interp.types import HookedModel

__all__ = ["RunningForward", "following"]

NOTHING_ANNOUNCED: tuple[Tensor | None, Tensor | None] = (None, None)


class RunningForward:
    """The tokens that the running forward has seen: those its key/value cache stands for, then its own.

    The hooks that `following` puts on the model's modules tell it.

    A cache is known by its keys: when a block has added to them, the new keys stand for the tokens so far. So caches
    may take turns, and be frozen; keys that somebody else made, reordered or copied are not known.

    Attributes:
        forwards: how many forwards have begun.
        mask: the attention mask ``[batch, key]`` that the model was given, 0 for padding; None without.
    """

    def __init__(self) -> None:
        self.forwards = 0
        self.mask: Tensor | None = None
        # What the call of the model said of its first block's cached keys and of the mask. The embedding takes it, or
        # the first block throws it away: a call that failed before must not speak for the next forward.
        self._announced = NOTHING_ANNOUNCED
        # The tokens that a cache stands for, by the very tensor of a block's keys: an entry of the cache stays the same
        # object while it grows. Weak and by identity: a cache that is dropped takes its tokens along.
        self._tokens_of: Any = WeakIdKeyDictionary()
        # `generate` without a cache embeds one token and runs all: then those of the forward before come first.
        self._last: Tensor | None = None
        # Tokens of the running forward: those it embedded, and with what is cached; None if they are not known.
        self._new: Tensor | None = None
        self._all: Tensor | None = None
        # The latest join (before, new, both): every block asks for it, and one copy a forward is enough.
        self._joined: tuple[Tensor, Tensor, Tensor] | None = None
        # Positions in the cache and in the running forward itself.
        self._cached = self._n_new = 0
        # Which block comes next if nothing is skipped. A forward that starts elsewhere came from embeddings, and the
        # tokens known here are none of its.
        self._stage = 0
        # Before the first block the cache is known from the announcement alone, and `run_with_hooks` makes none. If
        # somebody read a position then and the block says otherwise, an edit went to the wrong place: an error.
        self._is_early = self._was_read_early = self._was_asked_early = False
        # Where the mask that was last asked about has the tokens, in which forward: all blocks ask about one, and the
        # next forward may find another batch's in the same tensor.
        self._laid_out: tuple[int, Tensor | None, torch.device | None, Layout | None] = (0, None, None, None)

    def __deepcopy__(self, memo: Any) -> "RunningForward":
        # A copy of the model is told of by its own hooks, but edited by functions that read this very object.
        return self

    def may_be_padded(self) -> bool:
        """Whether there is a mask, which may mark padding; nobody waits for the device."""
        return self.mask is not None

    def layout(self, device: torch.device) -> Layout | None:
        """Where the tokens so far lie among padding; None where there is no padding, or no mask that tells of it."""
        self._was_asked_early = self._was_asked_early or self._is_early
        if self.mask is None:
            return None
        forward, mask, where, _ = self._laid_out
        if forward != self.forwards or mask is not self.mask or where != device:
            self._laid_out = self.forwards, self.mask, device, layout_of(self.mask.to(device))
        return self._laid_out[3]

    def layout_for_mean(self, device: torch.device) -> Layout | None:
        """As `layout`, for those who take from other sequences what these have at the same position.

        Raises:
            ValueError: if the forward goes on from a key/value cache, with padding: what is at one position in two
                sequences comes in two forwards.
        """
        layout = self.layout(device)
        if layout is not None and self._cached:
            raise ValueError(
                "an edit that takes from other sequences of the batch needs all of them at once: with padding, run "
                "without a key/value cache"
            )
        return layout

    def resume(self, tokens: Int[Tensor, "batch pos"], *, stage: int) -> None:
        """The next forward begins at a block, with the residual stream of these tokens."""
        self.forwards += 1
        self._new = self._all = tokens
        self._stage = stage

    def start(self, length: int) -> int:
        """Which position an activation of so many positions begins at: after the cache, or 0 if it is of all of them.

        Before the first block the call of the model alone says what the cache holds.
        """
        if self._is_early and length == self._n_new:
            self._was_read_early = True
        return self._cached if length == self._n_new else 0

    def tokens(self, batch: int, key: int) -> Int[Tensor, "batch key"]:
        """The tokens of the running forward and those before it, by their expected number.

        Raises:
            ValueError: if they were not seen: a cache that was filled elsewhere, or a forward from embeddings.
        """
        if self._is_early and key != self._cached + self._n_new:
            self._place(None, key)
        if self._all is None or self._all.shape != (batch, key):
            raise ValueError(
                f"the intervention depends on {key} tokens that were not all seen: attach it before the cache is "
                "filled, and run the model from tokens"
            )
        return self._all

    def call(self, module: Any, args: Any, kwargs: Mapping[str, Any]) -> None:
        """The model is called; ``run_with_hooks`` and ``generate`` skip this."""
        cache, mask = kwargs.get("past_kv_cache"), kwargs.get("attention_mask")
        if cache is not None and mask is not None:
            mask = torch.cat([cache.previous_attention_mask, mask.to(cache.previous_attention_mask.device)], dim=1)
        self._announced = (None if cache is None else cache[0].past_keys, mask)

    def embed(self, module: Any, args: tuple[Any, ...]) -> None:
        """Tokens are embedded, before any block knows of the cache."""
        self.forwards += 1
        # A copy: whoever decodes may write the next token into the same tensor.
        self._last, self._new, self._stage = self._all, args[0].clone(), 0
        keys, self.mask = self._announced
        self._announced = NOTHING_ANNOUNCED
        self._is_early, self._was_read_early, self._was_asked_early = True, False, False
        self._place(keys, args[0].shape[-1])

    def enter_block(self, stage: int, module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """A block begins; its own cache does not hold the new positions yet."""
        self._announced = NOTHING_ANNOUNCED
        self._enter(stage)
        entry = kwargs.get("past_kv_cache_entry")
        said, was_read_early = self._cached, self._was_read_early
        was_asked_in_vain = self._was_asked_early and self.mask is None
        self._is_early = self._was_read_early = self._was_asked_early = False
        self._place(None if entry is None else entry.past_keys, args[0].shape[1])
        self.mask = kwargs.get("attention_mask")
        if was_read_early and said != self._cached:
            raise ValueError(
                "an edit before the first block depends on how many positions the key/value cache holds, which "
                "run_with_hooks does not let it know: call the model itself"
            )
        if was_asked_in_vain and self.layout(args[0].device) is not None:
            raise ValueError(
                "an edit before the first block depends on which tokens are padding, which it does not know: call the "
                "model itself, with attention_mask="
            )

    def leave_block(self, module: Any, args: Any, kwargs: Mapping[str, Any], output: Any) -> None:
        """A block has added to its cache, if it has one that is not frozen."""
        entry = kwargs.get("past_kv_cache_entry")
        if entry is not None and self._all is not None and entry.past_keys.shape[1] == self._all.shape[1]:
            self._tokens_of[entry.past_keys] = self._all

    def enter_end(self, stage: int, module: Any, args: Any) -> None:
        """The final LayerNorm begins."""
        self._enter(stage)

    def _enter(self, stage: int) -> None:
        """What did not come before this stage says: a forward from embeddings.

        Such a forward may go on from where one with tokens stopped.
        """
        if stage != self._stage:
            self._new = self._all = None
            self._was_read_early = self._was_asked_early = False
            self.mask = None
            self.forwards += 1
        self._stage = stage + 1

    def _place(self, keys: Tensor | None, n_new: int) -> None:
        """Put the embedded tokens after those that the keys stand for, in a forward of ``n_new`` positions."""
        new = self._new
        self._cached, self._n_new = 0 if keys is None else keys.shape[1], n_new
        length = self._cached + n_new
        if new is None or new.shape[1] == length:
            self._all = new
            return
        # Without its cache, generate embeds the new token alone and runs all positions.
        before = self._last if keys is None else self._tokens_of.get(keys)
        if before is None or before.shape != (len(new), length - new.shape[1]):
            self._all = None
        elif self._joined is None or self._joined[0] is not before or self._joined[1] is not new:
            self._all = torch.cat([before, new], dim=1)
            self._joined = before, new, self._all
        else:
            self._all = self._joined[2]


class _Followed:
    """What a session holds while somebody follows the forwards of its model."""

    def __init__(self) -> None:
        self.running = RunningForward()
        self.followers = 0
        self.handles: list[Any] = []


@contextmanager
def following(model: HookedModel) -> Iterator[RunningForward]:
    """Follow the forwards of a model, while the context is open; all who do share what they know."""
    followed = session(model).slot(_Followed)
    if not followed.followers:
        followed.running = RunningForward()
        followed.handles = _told_by(model, followed.running)
    followed.followers += 1
    try:
        yield followed.running
    finally:
        followed.followers -= 1
        for handle in () if followed.followers else followed.handles:
            handle.remove()


def _told_by(model: HookedModel, running: RunningForward) -> list[Any]:
    """Hooks on the modules of a model that tell of each forward."""
    module: Any = model
    embed = getattr(module, "embed", torch.nn.Identity())
    blocks = list(getattr(module, "blocks", ()))
    end = getattr(module, "ln_final", torch.nn.Identity())
    # run_with_hooks passes the first of these by: it calls the model's forward directly.
    handles = [
        module.register_forward_pre_hook(running.call, with_kwargs=True),
        embed.register_forward_pre_hook(running.embed),
        end.register_forward_pre_hook(partial(running.enter_end, len(blocks))),
    ]
    for stage, block in enumerate(blocks):
        handles.append(block.register_forward_pre_hook(partial(running.enter_block, stage), with_kwargs=True))
        handles.append(block.register_forward_hook(running.leave_block, with_kwargs=True))
    return handles
