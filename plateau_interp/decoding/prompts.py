"""Texts and tokens of unequal length as one tensor, padded on the left, with a mask of what is real."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from plateau_interp.checks import shown, whole_numbers
from plateau_interp.types import HookedModel, Reader

__all__ = ["PromptLike", "as_tensors", "prompt_name"]

PromptLike = Sequence[str] | Sequence[Sequence[int] | Tensor] | Int[Tensor, "batch pos"]
"""Texts, sequences of tokens, or tokens that stand in one tensor already."""


def as_tensors(
    model: HookedModel, prompts: Any, mask: Any
) -> tuple[Int[Tensor, "batch pos"], Bool[Tensor, "batch pos"]]:
    """PromptLike on the model's device, as long as the longest of them, and which of their tokens are real.

    Args:
        model: who is to read them.
        prompts: as `PromptLike` says.
        mask: of prompts in one tensor, True or 1 where a token is real; None if all are.

    Padding is token 0, whatever stood there; columns that are padding in every prompt are left out.

    Raises:
        ValueError: for no prompt, an empty one, a text without a tokenizer, a token that the model does not have, a
            tensor of another shape or dtype, and a mask with padding anywhere but on the left.
    """
    if isinstance(prompts, Tensor):
        tokens, real = _checked(prompts, mask)
        _check_vocabulary(model, prompts, tokens.masked_fill(~real, 0))
    elif mask is not None:
        raise ValueError("a mask is for prompts in one tensor; of a list each prompt is its own length")
    else:
        tokens, real = _padded(_token_lists(model, prompts))
    device = next(iter(model.parameters())).device
    return tokens.masked_fill(~real, 0).to(device), real.to(device)


def prompt_name(prompts: Any, index: int) -> str:
    """How messages call one of several prompts: by its number, from 0, and a text also by how it begins.

    Example:
        >>> prompt_name([[3, 1], [4]], 1), prompt_name(["Why is the sky blue in the morning?"], 0)
        ('prompt 1', "prompt 0 ('Why is the sky blue...')")
    """
    text = prompts[index]
    if not isinstance(text, str) or not text:
        return f"prompt {index}"
    return f"prompt {index} ({text if len(text) <= 22 else f'{text[:19]}...'!r})"


def _checked(prompts: Tensor, mask: Any) -> tuple[Int[Tensor, "batch pos"], Bool[Tensor, "batch pos"]]:
    if prompts.dtype == torch.bool or prompts.is_floating_point() or prompts.is_complex():
        raise ValueError(f"prompts must be token ids; got a tensor of {prompts.dtype}")
    if prompts.ndim != 2:
        raise ValueError(f"prompts must be [batch, pos], one prompt [1, pos]; got the shape {tuple(prompts.shape)}")
    if 0 in prompts.shape:
        raise ValueError(f"there is nothing to continue: prompts have the shape {tuple(prompts.shape)}")
    if mask is None:
        return prompts.long(), torch.ones_like(prompts, dtype=torch.bool)
    real = _checked_mask(mask, tuple(prompts.shape)).to(prompts.device)
    start = int(real.any(dim=0).int().argmax())
    return prompts[:, start:].long(), real[:, start:]


def _checked_mask(mask: Any, shape: tuple[int, ...]) -> Bool[Tensor, "batch pos"]:
    if not isinstance(mask, Tensor) or mask.shape != shape:
        there = tuple(mask.shape) if isinstance(mask, Tensor) else shown(mask)
        raise ValueError(f"mask must have the shape of the prompts, {shape}; got {there}")
    if mask.is_floating_point() or mask.is_complex() or not bool(((mask == 0) | (mask == 1)).all()):
        raise ValueError(
            f"mask must be True, or 1, where a token is real, and False, or 0, elsewhere; got {shown(mask)}"
        )
    real = mask != 0  # a tensor of its own, also of a Bool mask
    _refuse_prompt(~real.any(dim=1), "has no token that the mask calls real")
    _refuse_prompt(~real[:, -1], "ends in padding: padding must be on the left")
    _refuse_prompt(
        (real[:, :-1] & ~real[:, 1:]).any(dim=1), "has padding between its tokens: padding must be on the left"
    )
    return real


def _refuse_prompt(wrong: Bool[Tensor, " batch"], words: str) -> None:
    if bool(wrong.any()):
        raise ValueError(f"prompt {int(wrong.int().argmax())} {words}")


def _token_lists(model: HookedModel, prompts: Any) -> list[list[int]]:
    if isinstance(prompts, str) or not isinstance(prompts, Sequence):
        raise ValueError(f"prompts must be several, such as ['a text'] or [[3, 1, 4]]; got {shown(prompts)}")
    if not prompts:
        raise ValueError("there is nothing to continue: no prompt is given")
    n_texts = sum(isinstance(prompt, str) for prompt in prompts)
    if 0 < n_texts < len(prompts):
        raise ValueError(f"prompts must be texts or tokens; got both: {shown(prompts)}")
    texts = _tokens_of_texts(model, list(prompts)) if n_texts else None
    lists = [_tokens(prompts, index) for index in range(len(prompts))] if texts is None else texts
    for index, tokens in enumerate(lists):
        if not tokens:
            raise ValueError(f"prompt {index} is empty: {shown(prompts[index])}")
        if wrong := [token for token in tokens if not 0 <= token < model.cfg.d_vocab]:
            raise _unknown(model, prompt_name(prompts, index), wrong[0])
    return lists


def _tokens_of_texts(model: HookedModel, texts: list[str]) -> list[list[int]]:
    if not isinstance(model, Reader) or model.tokenizer is None:
        raise ValueError("the model has no tokenizer to read texts with: give prompts as tokens, such as [[3, 1, 4]]")
    # As it was saved: it adds a start token if it is made to.
    lists: list[list[int]] = model.tokenizer(texts)["input_ids"]
    return lists


def _tokens(prompts: Sequence[Any], index: int) -> list[int]:
    prompt = prompts[index]
    if not isinstance(prompt, Sequence | Tensor) or (isinstance(prompt, Tensor) and prompt.ndim != 1):
        raise ValueError(
            f"prompts must be several sequences of tokens, such as [[3, 1, 4]]; got {shown(prompt)} as one"
        )
    return whole_numbers(f"a token of prompt {index}", prompt)


def _padded(lists: list[list[int]]) -> tuple[Int[Tensor, "batch pos"], Bool[Tensor, "batch pos"]]:
    longest = max(map(len, lists))
    tokens = torch.tensor([[0] * (longest - len(one)) + one for one in lists])
    n_padding = torch.tensor([longest - len(one) for one in lists])
    return tokens, torch.arange(longest) >= n_padding[:, None]


def _check_vocabulary(model: HookedModel, prompts: Tensor, tokens: Int[Tensor, "batch pos"]) -> None:
    wrong = (tokens < 0) | (tokens >= model.cfg.d_vocab)
    if bool(wrong.any()):
        prompt, place = (int(index) for index in wrong.nonzero()[0])
        raise _unknown(model, prompt_name(prompts, prompt), int(tokens[prompt, place]))


def _unknown(model: HookedModel, name: str, token: int) -> ValueError:
    return ValueError(f"{name} holds the token {shown(token)}; the model has 0 to {model.cfg.d_vocab - 1}")
