"""plateau_interp.tasks.text: a corpus, its vocabulary, its levels by counting, and what is refused."""

import hashlib
import itertools
import math
import random
from collections import Counter

import pytest
import torch

from plateau_interp.analysis.continuations import WRITING
from plateau_interp.decoding import continued
from plateau_interp.models import toy_model
from plateau_interp.runs.recipe import Recipe
from plateau_interp.tasks import Text
from plateau_interp.tasks.text import QUESTIONS, TINY_SHAKESPEARE

WORDS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "a",
    "is",
    "that",
    "was",
    "for",
    "on",
    "with",
    "he",
    "as",
    "it",
    "his",
    "at",
    "by",
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    draw = random.Random(0)
    lines = [" ".join(draw.choices(WORDS, k=draw.randint(3, 9))) + "." for _ in range(400)]
    path = tmp_path_factory.mktemp("corpus") / "words.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def task(corpus):
    return Text(str(corpus), n=16, vocabulary=300)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_nothing_of_the_corpus_is_lost_or_changed(task, corpus):
    text = corpus.read_text()
    parts = [task.tokenizer.decode(tokens) for tokens in (task.train_tokens, task.held_out_tokens)]
    assert "".join(parts) == text
    assert parts[0].endswith("\n")
    assert len(parts[1]) == pytest.approx(len(text) / 10, abs=60)


def words(n):
    return " ".join(random.Random(n).choices(WORDS, k=n))


@pytest.mark.parametrize(
    ("text", "follows"),
    [
        pytest.param(f"{words(5)}\n{words(4000)}", " ", id="a title and one line"),
        pytest.param(words(4000), " ", id="one line"),
        pytest.param(f"{words(2000)}\n{words(2000)}\n", " ", id="two lines"),
        pytest.param("漢字かな" * 3000, "漢", id="no space"),
        pytest.param("ab cd\n" + "漢字かな" * 3000, "", id="no space near"),
    ],
)
def test_the_last_tenth_is_held_out_however_long_the_lines(tmp_path, text, follows):
    path = tmp_path / "long.txt"
    path.write_text(text, encoding="utf-8")
    task = Text(str(path), n=8, vocabulary=256)
    parts = [task.tokenizer.decode(tokens) for tokens in (task.train_tokens, task.held_out_tokens)]
    assert "".join(parts) == text
    assert 0.85 <= len(parts[0]) / len(text) <= 0.9 + 1 / len(text)
    assert parts[1].startswith(follows)


@pytest.mark.parametrize("name", [QUESTIONS, TINY_SHAKESPEARE])
def test_the_named_corpora_are_cut_where_they_always_were(name):
    task = Text(name, n=8)
    try:
        held_out = task.tokenizer.decode(task.held_out_tokens)
    except ValueError:
        pytest.skip("make corpus has not been run")
    trained = task.tokenizer.decode(task.train_tokens)
    text = trained + held_out
    assert len(trained) == text.rfind("\n", 0, len(text) - len(text) // 10) + 1
    if name == QUESTIONS:
        assert (len(trained), len(text)) == (4385, 4922)


def test_the_vocabulary_is_trained_on_the_training_text_alone(tmp_path, corpus):
    other = tmp_path / "other.txt"
    text = corpus.read_text()
    cut = text.rfind("\n", 0, len(text) * 9 // 10) + 1
    other.write_text(text[:cut] + "x" * (len(text) - cut - 1) + "\n")
    one, two = Text(str(corpus), vocabulary=300), Text(str(other), vocabulary=300)
    assert torch.equal(one.train_tokens, two.train_tokens)
    assert one.d_vocab == two.d_vocab == 300


@pytest.mark.parametrize("vocabulary", [256, 1024, 1117, 1118, 2000])
def test_how_many_tokens_a_named_corpus_has_is_known_without_it(vocabulary, monkeypatch):
    task = Text(n=8, vocabulary=vocabulary)
    assert task.d_vocab == len(task.tokenizer)
    monkeypatch.setattr("plateau_interp.tasks.text.metadata.files", lambda package: None)
    assert Recipe(Text(TINY_SHAKESPEARE, vocabulary=vocabulary)).task.d_vocab == vocabulary


def test_every_text_can_be_written(task):
    for text in ("tab\there", "a space , before a comma .", "Zoë — naïve 漢字 🙂", "  two  spaces ", ""):
        assert task.tokenizer.decode(task.tokenizer.encode(text)) == text


def test_what_is_written_into_handed_out_text_changes_nothing(task):
    kept = [tokens.clone() for tokens in (task.train_tokens, task.held_out_tokens, task.held_out(3).tokens)]
    for tokens in (
        task.train_tokens,
        task.held_out_tokens,
        task.held_out(3).tokens,
        task.sample(3, generator=generator()).tokens,
    ):
        tokens.zero_()
    task.tokenizer.add_tokens(["a token of mine"])
    found = (task.train_tokens, task.held_out_tokens, task.held_out(3).tokens)
    assert all(torch.equal(one, other) for one, other in zip(kept, found, strict=True))
    assert len(task.tokenizer) == task.d_vocab


def test_samples_are_windows_of_the_training_text(task):
    batch = task.sample(50, generator=generator())
    assert batch.tokens.shape == (50, 17)
    assert torch.equal(batch.labels, batch.tokens[:, 1:])
    text = task.train_tokens.tolist()
    places = {tuple(text[start : start + 17]) for start in range(len(text) - 16)}
    assert all(tuple(row) in places for row in batch.tokens.tolist())
    assert len({tuple(row) for row in batch.tokens.tolist()}) > 40
    assert torch.equal(batch.tokens, task.sample(50, generator=generator()).tokens)


def test_the_first_and_the_last_window_are_drawn(tmp_path):
    path = tmp_path / "short.txt"
    path.write_text("".join(chr(97 + index % 26) for index in range(200)) + "\n")
    task = Text(str(path), n=12, vocabulary=256)
    batch = task.sample(5000, generator=generator())
    text = task.train_tokens
    assert (
        batch.tokens.unique(dim=0).shape
        == torch.stack([text[i : i + 13] for i in range(len(text) - 12)]).unique(dim=0).shape
    )
    held_out = task.held_out(3).tokens
    assert torch.equal(held_out[0], task.held_out_tokens[:13])
    assert torch.equal(held_out[2], task.held_out_tokens[-13:])
    assert len(task.held_out(1)) == 1


def test_levels_are_those_of_plain_counting(task):
    text = task.train_tokens.tolist()
    single, pairs, firsts = Counter(text), Counter(itertools.pairwise(text)), Counter(text[:-1])
    unigram = -sum(n / len(text) * math.log(n / len(text)) for n in single.values())
    bigram = -sum(n / (len(text) - 1) * math.log(n / firsts[first]) for (first, _), n in pairs.items())
    assert task.unigram_entropy == pytest.approx(unigram)
    assert task.bigram_entropy == pytest.approx(bigram)
    assert (task.levels.initial, task.levels.plateau) == (pytest.approx(math.log(300)), task.unigram_entropy)
    assert bigram < unigram < math.log(300)


def test_a_recipe_knows_the_corpus_again(task, corpus):
    digest = hashlib.sha256(corpus.read_bytes()).hexdigest()
    assert task.sha256 == digest
    again = Recipe.from_json(Recipe(task).to_json()).task
    assert again == task
    corpus.with_name("changed.txt").write_text(corpus.read_text() + "more\n")
    changed = Text(str(corpus.with_name("changed.txt")), sha256=digest)
    with pytest.raises(ValueError, match=r"changed\.txt is another text than it was: its SHA-256 is not "):
        changed.train_tokens  # noqa: B018


def test_the_questions_are_those_of_the_package():
    task = Text()
    assert task.corpus == QUESTIONS
    assert "What makes the sky look blue on a clear day?" in task.tokenizer.decode(task.train_tokens)


def test_tiny_shakespeare_is_told_how_to_be_fetched(monkeypatch):
    task = Text(TINY_SHAKESPEARE)  # to be named, it need not be here
    assert task.sha256 is not None
    monkeypatch.setattr("plateau_interp.tasks.text.metadata.files", lambda package: None)
    with pytest.raises(ValueError, match="the corpus tiny-shakespeare is not here: `make corpus` fetches it"):
        _ = Text(TINY_SHAKESPEARE, vocabulary=999).train_tokens


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"n": 1}, "n must be at least 2; got 1"),
        ({"vocabulary": 255}, "vocabulary must be at least 256; got 255"),
        (
            {"corpus": "nowhere.txt"},
            "there is no corpus 'nowhere.txt': give a text file, or one of general-questions, ",
        ),
        ({"corpus": ""}, "corpus must be a text file or the name of one; got ''"),
    ],
)
def test_what_cannot_be_is_refused(options, told):
    with pytest.raises(ValueError, match=f"^{told}"):
        Text(**options)


def test_too_short_or_no_text(tmp_path):
    short = tmp_path / "short.txt"
    short.write_text("a few words")
    with pytest.raises(ValueError, match=r"short\.txt is too short for n=64: of its two parts one has "):
        _ = Text(str(short)).d_vocab
    (tmp_path / "blank.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"blank\.txt is too short .*; take a longer text or a smaller n$"):
        _ = Text(str(tmp_path / "blank.txt")).d_vocab
    with pytest.raises(ValueError, match=r"the corpus .* is a folder: give a text file, or one of general-questions"):
        Text(str(tmp_path))
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(ValueError, match=r"the corpus '.*empty\.txt' is empty: give a text file"):
        _ = Text(str(tmp_path / "empty.txt")).d_vocab
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1") * 500)
    with pytest.raises(ValueError, match=r"latin\.txt is no text in UTF-8"):
        _ = Text(str(tmp_path / "latin.txt")).d_vocab


def test_spaces_before_signs_stay(task):
    text = "that is of the . is it , in a"
    assert task.tokenizer.decode(task.tokenizer(text)["input_ids"]) == text


def test_of_a_short_window_no_more_is_written_than_it_goes_on(corpus):
    task = Text(str(corpus), n=4, vocabulary=300)
    model = toy_model(task, d_model=16, attention="softmax", seed=3)
    measured = task.measures(model, generator=generator())
    written = continued(model, task.held_out(task.n_prompts).tokens[:, :2], 3)  # a window has five tokens
    assert {name: float(measured[name]) for name in WRITING} == pytest.approx(
        {name: float(measure(written).mean()) for name, measure in WRITING.items()}
    )
