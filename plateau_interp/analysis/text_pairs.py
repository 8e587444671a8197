"""Counterfactual pairs of texts: two prompts that differ, each with its answer, for circuits of language models.

The answer is the last token of a text. `repeated_tokens` are pairs that need no text: what is asked for is what an
induction head does. Tasks with prompts of their own make their pairs themselves: see
`plateau_interp.types.Task.corrupt`.
"""

from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from plateau_interp.checks import shown, whole_number
from plateau_interp.types import IGNORE, Batch, OfText, Task

__all__ = ["TextPairs", "read_text_pairs", "repeated_tokens", "text_batches"]

TextPairs = tuple[tuple[str, str], ...]
"""Clean and corrupted texts."""


def read_text_pairs(path: Path) -> TextPairs:
    """The pairs of a file: a line each, the clean text, a tab, the corrupted one; empty lines are left out.

    Raises:
        ValueError: naming the line that is no pair, or the file if it has none or cannot be read as UTF-8.
        OSError: naming the file, if it cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # U+2028 and the like may stand in a text
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8: {error.reason}") from None
    pairs = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        clean, *others = line.split("\t")
        if len(others) != 1:
            raise ValueError(f"{path}, line {number}: expected a clean text, a tab, a corrupted one; got {shown(line)}")
        pairs.append((clean, others[0]))
    if not pairs:
        raise ValueError(f"{path} has no pair: a line is a clean text, a tab, a corrupted one")
    return tuple(pairs)


def text_batches(task: Task, pairs: TextPairs) -> tuple[Batch, Batch, Int[Tensor, "batch query"]]:
    """Pairs as sequences in which the last token alone is scored, and a mask: 1 for tokens, 0 for what fills up.

    Raises:
        ValueError: for a task that is not of text, and naming a pair whose texts differ in their number of tokens, have
            the same last token or the same prompt, have less than two tokens, or more than the model reads.

    Example:
        >>> from plateau_interp.tasks import Text
        >>> clean, corrupted, mask = text_batches(Text(), (("aba", "bab"), ("What is", "Who was")))
        >>> (clean.labels != corrupted.labels).sum(dim=1)
        tensor([1, 1])
    """
    if not isinstance(task, OfText):
        raise ValueError(f"{type(task).__name__} is not of text: its pairs are made by itself")
    tokenizer = task.tokenizer
    encoded = [(tokenizer(clean)["input_ids"], tokenizer(corrupted)["input_ids"]) for clean, corrupted in pairs]
    for number, (clean, corrupted) in enumerate(encoded, start=1):
        _check_pair(f"pair {number}, {shown(pairs[number - 1][0], most=40)}", clean, corrupted, most=task.n_pos)
    longest = max(len(clean) for clean, _ in encoded)
    mask = torch.zeros(len(encoded), longest - 1, dtype=torch.long)
    for row, (clean, _) in enumerate(encoded):
        mask[row, : len(clean) - 1] = 1
    sides = [_batch([pair[side] for pair in encoded], longest) for side in (0, 1)]
    return sides[0], sides[1], mask


def repeated_tokens(n: int, *, length: int, d_vocab: int, generator: torch.Generator) -> tuple[Batch, Batch]:
    """Random tokens that come twice in one order, and the same after their first coming was put in another order.

    Clean: ``r_1 … r_m r_1 … r_m``, all different within a half. Corrupted: the first half shuffled, the second as it
    was. Both halves of both have the same tokens: only what followed a token when it came first tells what follows it
    now. That is the answer from the second half's first token on: clean the next token, corrupted another one where the
    two orders differ; all else is not scored.

    Args:
        n: sequences.
        length: m, of a half.
        d_vocab: tokens are drawn from 0 to ``d_vocab - 1``.
        generator: of the draw.

    Raises:
        ValueError: for a number that is too small, or a half that is longer than the vocabulary.

    Source: Olsson et al. 2022, "In-context learning and induction heads" (repeated random tokens); the shuffled first
    half is ours.

    Example:
        >>> drawn = {"length": 4, "d_vocab": 50, "generator": torch.Generator().manual_seed(0)}
        >>> clean, corrupted = repeated_tokens(1, **drawn)
        >>> clean.tokens[0].tolist(), corrupted.tokens[0].tolist()
        ([26, 31, 37, 21, 26, 31, 37, 21], [21, 37, 26, 31, 26, 31, 37, 21])
        >>> clean.labels[0].tolist(), corrupted.labels[0].tolist()
        ([-100, -100, -100, -100, 31, 37, 21], [-100, -100, -100, -100, 31, 26, 26])
    """
    whole_number("n", n, least=1)
    if whole_number("length", length, least=3) > whole_number("d_vocab", d_vocab, least=1):
        raise ValueError(f"length must be at most d_vocab={d_vocab}: the tokens of a half differ; got {length}")
    chosen = torch.rand(n, d_vocab, generator=generator).topk(length, dim=1).indices
    order = torch.rand(n, length, generator=generator).argsort(dim=1)
    first = chosen.gather(1, order)
    # What follows the last token of the first half is the second half's first.
    after = torch.cat([first[:, 1:], chosen[:, :1]], dim=1)
    followed = after.gather(1, order.argsort(dim=1))
    unscored = torch.full((n, length), IGNORE)
    clean = Batch(torch.cat([chosen, chosen], dim=1), torch.cat([unscored, chosen[:, 1:]], dim=1))
    return clean, Batch(torch.cat([first, chosen], dim=1), torch.cat([unscored, followed[:, :-1]], dim=1))


def _check_pair(name: str, clean: list[int], corrupted: list[int], *, most: int) -> None:
    if len(clean) != len(corrupted):
        raise ValueError(f"{name}: both texts must have one number of tokens; got {len(clean)} and {len(corrupted)}")
    if not 2 <= len(clean) <= most:
        raise ValueError(
            f"{name}: a text must have 2 to {most} tokens, the last of which is its answer; got {len(clean)}"
        )
    if clean[:-1] == corrupted[:-1]:
        raise ValueError(f"{name}: but for their last token, the answer, both texts are one: the prompts must differ")
    if clean[-1] == corrupted[-1]:
        raise ValueError(f"{name}: both texts end with one token, which is the answer; it must differ")


def _batch(texts: list[list[int]], longest: int) -> Batch:
    """Texts filled up at their ends: a causal model's answer does not see what comes after it."""
    tokens = torch.zeros(len(texts), longest, dtype=torch.long)
    labels = torch.full((len(texts), longest - 1), IGNORE)
    for row, text in enumerate(texts):
        tokens[row, : len(text)] = torch.tensor(text)
        labels[row, len(text) - 2] = text[-1]
    return Batch(tokens, labels)
