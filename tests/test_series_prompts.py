"""Prompts: from files, data sets and lists; what is no prompt is told with its place."""

import json
import re

import pytest
from typecheck import unchecked

from plateau_interp.series.prompts import ARC_EASY, Prompts, read_prompts


def test_the_questions_in_the_package_are_a_hundred_different_ones():
    prompts = read_prompts()
    assert len(prompts) == len(set(prompts)) == 100
    assert all(text.endswith("?") and text == text.strip() for text in prompts)


def test_the_digest_is_of_the_texts_alone():
    one, other = Prompts(("a", "b"), "here"), Prompts(("a", "b"), "there")
    assert one.digest == other.digest
    assert len({one.digest, Prompts(("ab",), "here").digest, Prompts(("b", "a"), "here").digest}) == 3


def test_a_text_file_has_a_prompt_a_line(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_bytes("\ufeffWhat is \u00e9?\r\n\n  indented\n".encode())
    prompts = read_prompts(path)
    assert list(prompts) == ["What is \u00e9?", "  indented"]
    assert prompts.origin == "mine.txt"
    path.write_bytes("one\u2028and\x0cthe same\rtwo".encode())
    assert list(read_prompts(path)) == ["one\u2028and\x0cthe same", "two"]
    path.write_bytes("\ufeffWhat is \u00e9?\r\n\n  indented\n".encode())
    assert read_prompts(str(path)) == prompts


def test_a_file_goes_before_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "general").write_text("mine\n")
    assert list(read_prompts("general")) == ["mine"]


def test_records_have_their_text_under_a_usual_name_or_the_one_that_is_given(tmp_path):
    path = tmp_path / "mine.jsonl"
    records = [{"question": "q", "id": 1}, "plain", {"text": "t"}, {"prompt": "p", "text": "no"}]
    path.write_text("\n".join(json.dumps(record) for record in records))
    assert list(read_prompts(path)) == ["q", "plain", "t", "p"]
    path.write_text(json.dumps({"prompt": "one\u2028and\x85the same"}, ensure_ascii=False), encoding="utf-8")
    assert list(read_prompts(path)) == ["one\u2028and\x85the same"]
    path.write_text(json.dumps({"ask": "a", "question": "q"}))
    assert list(read_prompts(path, key="ask")) == ["a"]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('{"prompt": "a"}\n{"prompt": 3}\n', "mine.jsonl, line 2 has no text under prompt or question or text; it has"),
        ('"a"\n{"prompt"\n', "mine.jsonl, line 2 is no JSON: '{\"prompt\"'"),
        ("[" * 10**6, "mine.jsonl, line 1 is no JSON"),
        ("3\n", "mine.jsonl, line 1 has no text"),
        ("\n\n", "there are no prompts in mine.jsonl"),
    ],
)
def test_what_is_no_prompt_is_named_with_its_line(tmp_path, content, line):
    path = tmp_path / "mine.jsonl"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"mine\.jsonl") as told:
        read_prompts(path)
    assert line in str(told.value)
    assert "\n" not in str(told.value)


def test_a_data_set_of_the_hub_is_named_with_configuration_and_split(monkeypatch):
    import datasets

    asked = []
    rows = [{"id": "x", "question": f"question {number}"} for number in range(3)]
    monkeypatch.setattr(datasets, "load_dataset", lambda *name, **split: asked.append((name, split)) or rows)
    prompts = read_prompts(ARC_EASY, first=2)
    assert list(prompts) == ["question 0", "question 1"]
    assert prompts.origin == f"{ARC_EASY}, the first 2"
    assert asked == [(("allenai/ai2_arc", "ARC-Easy"), {"split": "test"})]

    def fails(*name, **split):
        raise ConnectionError("no route to the hub\nand more")

    monkeypatch.setattr(datasets, "load_dataset", fails)
    with pytest.raises(
        ValueError, match="ARC-Easy:test is not to be had: no route to the hub; a file of prompts works"
    ):
        read_prompts(ARC_EASY)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("nowhere.txt", "'nowhere.txt' is no file; prompts are a .txt or .jsonl file, 'general', or a data set"),
        (3, "prompts must be a file, a data set or a list of texts; got 3"),
        ([], "there are no prompts in a list of texts"),
        (["a", " "], "prompt 2 of a list of texts must be a text; got ' '"),
        (["a", 3], "prompt 2 of a list of texts must be a text; got 3"),
    ],
)
def test_other_sources_are_refused(source, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        unchecked(read_prompts)(source)


@pytest.mark.parametrize("first", [0, 3, 1.5, "2"])
def test_more_than_there_are_cannot_be_taken(first):
    with pytest.raises(ValueError, match="first"):
        unchecked(read_prompts)(["a", "b"], first=first)
