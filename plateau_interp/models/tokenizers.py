"""Letting a model read and write text: the tokenizer that is kept with it.

Models of `pretrained_model` keep the one that was saved beside them, those of a task of text, trained or not, the
task's. For any other model call `keep_tokenizer_`.
"""

from typing import Any

from plateau_interp.checks import shown
from plateau_interp.types import HookedModel, Reader, check_model

__all__ = ["OF_TOKENS", "check_same_vocabulary", "differing_vocabulary", "keep_tokenizer_"]

OF_TOKENS = ("embed.", "unembed.")
"""How the names of parameters begin that have a part for each token of the vocabulary."""


def keep_tokenizer_(model: HookedModel, tokenizer: Any) -> None:
    """Let a model read texts with a tokenizer as it was saved, as in ``continued(model, ["a text"])``.

    TransformerLens's `set_tokenizer` loads it a second time, by name and without the revision, and has it add a start
    token that the model may never have seen. This one begins a text with a start token only if the tokenizer does so
    itself.

    Args:
        model: any HookedTransformer.
        tokenizer: of Hugging Face's transformers. From now on it pads on the right; without a padding token of its own
            it pads with the end of text, if it has one.

    Raises:
        ValueError: for what is no model or no tokenizer.

    Example:
        >>> from plateau_interp import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum, Text
        >>> model = toy_model(MovingWindowSum(p=300), d_model=16)
        >>> keep_tokenizer_(model, Text(vocabulary=256).tokenizer)
        >>> model.tokenizer("Why?")["input_ids"]
        [54, 71, 88, 30]
    """
    from transformers import PreTrainedTokenizerBase

    check_model(model)
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise ValueError(f"a tokenizer is one of transformers, such as AutoTokenizer loads; got {shown(tokenizer)}")
    # Padded on the left, TransformerLens would mask tokens of a plain forward that look like padding.
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    starts = tokenizer.encode("")[:1] == [tokenizer.bos_token_id]
    live: Any = model
    live.tokenizer = tokenizer
    model.cfg.tokenizer_prepends_bos = model.cfg.default_prepend_bos = starts


def differing_vocabulary(one: Any, other: Any) -> str:
    """How the vocabularies of two tokenizers differ, in words; empty if they do not, or one of the two is none.

    What was added to a vocabulary, as words of a chat are, counts for nothing, and special tokens neither.

    Example:
        >>> from plateau_interp.tasks import Text
        >>> differing_vocabulary(Text(vocabulary=300).tokenizer, Text(vocabulary=400).tokenizer)
        'they have 300 and 400 tokens'
    """
    if one is None or other is None or one is other:
        return ""
    from transformers import PreTrainedTokenizerBase

    if not isinstance(one, PreTrainedTokenizerBase) or not isinstance(other, PreTrainedTokenizerBase):
        return ""
    added = one.get_added_vocab().keys() | other.get_added_vocab().keys()
    mine, theirs = (
        {token: piece for piece, token in each.get_vocab().items() if piece not in added} for each in (one, other)
    )
    for token in sorted(mine.keys() & theirs.keys()):
        if mine[token] != theirs[token]:
            return f"token {token} is {one.decode([token])!r} and {other.decode([token])!r}"
    return "" if mine == theirs else f"they have {len(mine)} and {len(theirs)} tokens"


def check_same_vocabulary(model: HookedModel, source: Any, *, name: str = "the source") -> None:
    """Refuse a source of activations or weights whose tokens are others than the model's, though as many.

    What has no tokenizer does not say what its tokens are, and is fine: toy tasks are compared by who trains them.

    Args:
        model: who takes.
        source: from whom: a model, or anything else.
        name: of the source.

    Raises:
        ValueError: naming the first token that is another.
    """
    mine, its = (each.tokenizer if isinstance(each, Reader) else None for each in (model, source))
    if words := differing_vocabulary(mine, its):
        raise ValueError(f"the vocabularies of the model and of {name} differ: {words}")
