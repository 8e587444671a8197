"""A tokenizer kept with a model: of a run on text, of a model in memory; and attention on texts then."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast
from two_texts import two_texts
from typecheck import unchecked

from plateau_interp import ModelOptions, Recipe, Run, TrainingOptions, continued, toy_model
from plateau_interp.models import keep_tokenizer_
from plateau_interp.models.tokenizers import differing_vocabulary
from plateau_interp.tasks import MovingWindowSum, Text
from plateau_interp.views import attention_view


def words(*, starts: bool = False, **special: str) -> PreTrainedTokenizerFast:
    there = Tokenizer(WordLevel({"<s>": 0, "why": 1, "not": 2, "</s>": 3}, unk_token="not"))
    there.pre_tokenizer = Whitespace()
    if starts:
        there.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=there, bos_token="<s>", **special)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    recipe = Recipe(
        Text(n=8),
        model=ModelOptions(n_layers=1, n_heads=2, d_model=16),
        training=TrainingOptions(steps=2, batch_size=2),
        checkpoint_every=1,
    )
    run = Run.create(tmp_path_factory.mktemp("runs") / "text", recipe)
    for _ in run.train():
        pass
    return run


def test_a_model_of_a_run_on_text_reads_texts(run: Run) -> None:
    model = run.model(1)
    ids = Text(n=8).tokenizer("Why is it")["input_ids"]
    view = attention_view(model, "Why is it")
    assert "".join(view.readings[0].tokens) == "Why is it"
    by_ids = attention_view(model, ids)
    assert (view.readings[0].values == by_ids.readings[0].values).all()
    assert torch.equal(continued(model, ["Why is it"], 2).tokens, continued(model, [ids], 2).tokens)


def test_a_run_on_text_is_shown_on_a_text_through_training(run: Run) -> None:
    view = attention_view(run, "Why is it", steps=[0, 2])
    ids = torch.tensor(Text(n=8).tokenizer("Why is it")["input_ids"])
    assert view.steps == (0, 2)
    assert "".join(view.readings[0].tokens) == "Why is it"
    assert (view.readings[0].values == attention_view(run, ids, steps=[0, 2]).readings[0].values).all()


def test_a_task_without_text_has_no_tokenizer() -> None:
    model = toy_model(MovingWindowSum(n=4), d_model=16)
    assert model.tokenizer is None
    with pytest.raises(ValueError, match="tokens of a model without a tokenizer are token ids; got 'Why'"):
        attention_view(model, "Why")


@pytest.mark.parametrize("starts", [False, True])
def test_a_text_begins_as_the_tokenizer_was_saved(starts: bool) -> None:
    model = toy_model(MovingWindowSum(n=4), d_model=16)
    tokenizer = words(starts=starts, eos_token="</s>", padding_side="left")
    keep_tokenizer_(model, tokenizer)
    assert model.to_tokens("why not").tolist() == [[0, 1, 2] if starts else [1, 2]]
    assert attention_view(model, "why not").readings[0].tokens == (("<s>", "why", "not") if starts else ("why", "not"))
    assert (tokenizer.padding_side, tokenizer.pad_token) == ("right", "</s>")


def test_a_start_token_that_transformer_lens_was_asked_to_add_is_shown() -> None:
    model = toy_model(MovingWindowSum(n=4), d_model=16)
    keep_tokenizer_(model, words(eos_token="</s>"))
    model.cfg.default_prepend_bos = True
    assert attention_view(model, "why not").readings[0].tokens == ("<s>", "why", "not")


def test_what_is_no_tokenizer_is_refused() -> None:
    model = toy_model(MovingWindowSum(n=4), d_model=16)
    with pytest.raises(ValueError, match="a tokenizer is one of transformers, such as AutoTokenizer loads; got 'gpt2'"):
        unchecked(keep_tokenizer_)(model, "gpt2")
    with pytest.raises(ValueError, match="expected a model; got 'gpt2'"):
        unchecked(keep_tokenizer_)("gpt2", words())


def test_vocabularies_differ_by_the_first_piece_that_is_another(tmp_path: Path) -> None:
    sea, sky = two_texts(tmp_path)
    told = differing_vocabulary(sea.tokenizer, sky.tokenizer)
    one, other = (task.tokenizer.decode([256]) for task in (sea, sky))
    assert one != other
    assert told == f"token 256 is {one!r} and {other!r}"
    longer = replace(sea, vocabulary=262)
    assert differing_vocabulary(sea.tokenizer, longer.tokenizer) == "they have 260 and 262 tokens"


def test_one_vocabulary_is_no_other(tmp_path: Path) -> None:
    sea, _ = two_texts(tmp_path)
    assert differing_vocabulary(sea.tokenizer, replace(sea, n=4).tokenizer) == ""
    assert differing_vocabulary(sea.tokenizer, None) == differing_vocabulary(None, sea.tokenizer) == ""
    tuned = words()
    tuned.add_tokens(["<turn>"])
    assert differing_vocabulary(words(), tuned) == ""
    assert differing_vocabulary(words(eos_token="</s>"), words()) == ""  # a piece of both, special to one
