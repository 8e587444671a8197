"""Pairs of texts: read from a file, made sequences whose last token is the answer, refused by name."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import transformers
from einops import rearrange
from smollm2 import smollm2_file

from plateau_interp.analysis.circuits import answer_difference, circuit, label_difference
from plateau_interp.analysis.text_pairs import read_text_pairs, repeated_tokens, text_batches
from plateau_interp.models import pretrained_model, toy_model
from plateau_interp.tasks import MovingWindowSum, Text
from plateau_interp.types import IGNORE

EXAMPLES = Path(__file__).parents[1] / "examples"
TASK = Text(n=12, vocabulary=256)  # a byte a token
PAIRS = (("abcab", "accac"), ("xyx", "zyz"))


def test_a_file_has_a_pair_a_line(tmp_path: Path) -> None:
    file = tmp_path / "pairs.tsv"
    file.write_text("a b\ta c\n\né x\té y\n", encoding="utf-8")
    assert read_text_pairs(file) == (("a b", "a c"), ("é x", "é y"))
    file.write_bytes("a\u2028b\ta\u2028c\r\n".encode())
    assert read_text_pairs(file) == (("a\u2028b", "a\u2028c"),)
    file.write_bytes("\ufeffa b\ta c\n".encode())  # as some editors begin a file
    assert read_text_pairs(file) == (("a b", "a c"),)


def test_the_example_has_pairs_whatever_the_vocabulary_is() -> None:
    pairs = read_text_pairs(EXAMPLES / "indirect_objects.tsv")
    for vocabulary in (256, 400, 1024):
        clean, corrupted, mask = text_batches(Text(n=96, vocabulary=vocabulary), pairs)
        assert len(clean.tokens) == len(pairs) == 12
        assert (clean.labels != corrupted.labels).sum(dim=1).tolist() == [1] * 12
        assert mask.any(dim=1).all()
    for one, other in pairs:  # who gives is told by the name that comes twice
        assert one.split()[1] == one.split()[-1] == other.split()[1] != other.split()[-1] == other.split()[3]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"one\ttwo\nthree", "pairs.tsv, line 2: expected a clean text, a tab, a corrupted one; got 'three'"),
        (b"one\ttwo\tthree", "line 1: expected"),
        (b"\n", "pairs.tsv has no pair"),
        (b"\xff\t1", "pairs.tsv is no text in UTF-8"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, content: bytes, told: str) -> None:
    file = tmp_path / "pairs.tsv"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=told):
        read_text_pairs(file)


def test_the_last_token_alone_is_scored() -> None:
    clean, corrupted, mask = text_batches(TASK, PAIRS)
    tokens = TASK.tokenizer("abcab")["input_ids"]
    assert clean.tokens[0].tolist() == tokens
    assert clean.labels.tolist()[0] == [IGNORE] * 3 + tokens[-1:]
    assert corrupted.labels[1].tolist() == [IGNORE, *TASK.tokenizer("z")["input_ids"], IGNORE, IGNORE]
    assert clean.inputs.shape == mask.shape
    assert mask.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]


def test_a_text_may_have_the_other_s_answer_in_its_middle() -> None:
    clean, corrupted, _ = text_batches(TASK, (("acb", "dbc"),))
    assert (clean.labels[0, -1], corrupted.labels[0, -1]) == (clean.tokens[0, 2], clean.tokens[0, 1])


def test_what_fills_up_changes_nothing() -> None:
    """The short pair beside a longer one, and by itself."""
    model = toy_model(TASK, d_model=12, n_heads=2, seed=1)

    def scores(pairs: Any) -> Any:
        clean, corrupted, mask = text_batches(TASK, pairs)
        last = torch.tensor([len(pairs) - 1])
        metric = answer_difference(TASK, clean.take(last), corrupted.take(last))
        tokens = {"clean": clean.inputs, "corrupted": corrupted.inputs, "attention_mask": mask}
        return circuit(model, **tokens, metric=lambda logits: metric(logits[last])).scores

    alone = scores(PAIRS[1:])
    assert alone.nan_to_num().abs().max() > 1e-4
    torch.testing.assert_close(scores(PAIRS), alone, equal_nan=True, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        ((("abc", "abcd"),), "pair 1, 'abc': both texts must have one number of tokens; got 3 and 4"),
        ((*PAIRS, ("a", "b")), "pair 3, 'a': a text must have 2 to 13 tokens"),
        ((("a" * 14, "a" * 13 + "b"),), "must have 2 to 13 tokens, the last of which is its answer; got 14"),
        ((("ab", "cb"),), "both texts end with one token"),
        ((("abc", "abd"),), "but for their last token, the answer, both texts are one: the prompts must differ"),
    ],
)
def test_a_pair_that_is_none_is_named(pairs: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        text_batches(TASK, pairs)


def test_repeated_tokens_are_what_a_loop_says() -> None:
    clean, corrupted = repeated_tokens(40, length=6, d_vocab=20, generator=torch.Generator().manual_seed(2))
    assert clean.inputs.shape == clean.labels.shape == (40, 11)
    moved = 0
    for one, other, answers, instead in zip(
        clean.tokens.tolist(), corrupted.tokens.tolist(), clean.labels.tolist(), corrupted.labels.tolist(), strict=True
    ):
        assert one[:6] == one[6:] == other[6:]
        assert sorted(other[:6]) == sorted(one[:6])
        assert len({*one}) == 6
        assert answers == [IGNORE] * 6 + one[7:]
        assert instead == [IGNORE] * 6 + [other[other.index(token) + 1] for token in one[6:11]]
        moved += answers != instead
    assert moved > 35


def test_an_induction_head_written_by_hand_tells_the_two_orders_apart() -> None:
    """A model that answers with what followed the token before: right of both, so their difference changes its sign."""
    clean, corrupted = repeated_tokens(8, length=6, d_vocab=20, generator=torch.Generator().manual_seed(3))
    metric = label_difference(clean, corrupted)

    def induction(tokens: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(*tokens.shape, 20)
        for row, each in enumerate(tokens.tolist()):
            for place, token in enumerate(each):
                if token in each[:place]:
                    logits[row, place, each[each.index(token) + 1]] = 1.0
        return logits

    assert metric(induction(clean.inputs)) == 1
    assert metric(induction(corrupted.inputs)) == -1


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"n": 0}, "n must be at least 1; got 0"),
        ({"length": 2}, "length must be at least 3; got 2"),
        ({"length": 21}, "length must be at most d_vocab=20: the tokens of a half differ; got 21"),
    ],
)
def test_repeated_tokens_that_cannot_be_are_refused(given: Any, told: str) -> None:
    asked = {"n": 2, "length": 4, "d_vocab": 20, **given}
    with pytest.raises(ValueError, match=told):
        repeated_tokens(asked.pop("n"), **asked, generator=torch.Generator())


@pytest.mark.slow
def test_induction_heads_of_a_real_model_come_out_on_top() -> None:
    """SmolLM2's: the head that carries most for repeated tokens looks at what came next, and so do five others."""
    folder, load = smollm2_file()
    model = pretrained_model(transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **load))
    length, drawn = 24, {"d_vocab": model.cfg.d_vocab, "generator": torch.Generator().manual_seed(0)}
    clean, corrupted = repeated_tokens(8, length=length, **drawn)
    metric = label_difference(clean, corrupted)
    found = circuit(model, clean=clean.inputs, corrupted=corrupted.inputs, metric=metric)
    assert found.clean > 5 > -3 > found.ablated  # in logits: the order that came first, and the other one
    carried = pd.Series(found.scores.nansum(dim=(1, 2)).tolist(), index=list(found.writers))
    heads = carried[carried.index.str.match(r"L\d+H\d+")].abs().sort_values(ascending=False).index
    with torch.no_grad():
        _, cache = model.run_with_cache(clean.inputs, names_filter=lambda name: name.endswith("attn.hook_pattern"))
    patterns = rearrange(cache.stack_activation("pattern"), "layer batch head query key -> layer head batch query key")
    shares = patterns.diagonal(1 - length, dim1=-2, dim2=-1).mean(dim=(2, 3))
    looking = {f"L{layer}H{head}" for layer, head in (shares > 0.4).nonzero().tolist()}
    assert heads[0] == "L18H6"
    assert len(looking) <= 0.05 * shares.numel()
    assert len(looking & {*heads[:12]}) >= 6  # by chance 12 of 270 have one of them, if any


def test_a_task_that_is_not_of_text_makes_its_pairs_itself() -> None:
    with pytest.raises(ValueError, match="MovingWindowSum is not of text"):
        text_batches(MovingWindowSum(), PAIRS)
