"""Letting a model read and write text: the tokenizer that is kept with it.

Models of `pretrained_model` keep the one that was saved beside them, those of a task of text, trained or not, the
task's. For any other model call `keep_tokenizer_`.
"""

from typing import Any

from plateau_interp.checks import shown
from plateau_interp.types import HookedModel, check_model

__all__ = ["keep_tokenizer_"]


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
