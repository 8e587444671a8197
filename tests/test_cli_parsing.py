"""plateau_interp.cli.parsing: every mistake comes out as one line."""

import dataclasses

import pytest

from plateau_interp.cli import parsing
from plateau_interp.cli.parsing import UsageError


def test_mistakes_are_told_in_one_line(capsys):
    @dataclasses.dataclass
    class Words:
        """Some words."""

        size: int
        """How many of them there are, told at such length that the explanation takes more than a single line here."""

    for words, line in [
        ([], "--size INT is missing; see `words --help`"),
        (["--size", "much"], "--size: expected a whole number; got 'much'; see `words --help`"),
        (["--size", "1", "--sizes", "2"], "there is no option --sizes; the nearest is --size; see `words --help`"),
        (["--sizes", "2"], "there is no option --sizes; the nearest is --size; see `words --help`"),
        (["--size", "1", "more", "of it"], "nothing is expected where 'more of it' stands; see `words --help`"),
        (["--size"], "--size: a value is missing; see `words --help`"),
    ]:
        with pytest.raises(UsageError) as caught:
            parsing.parse(Words, words, prog="words")
        assert str(caught.value) == line
    assert capsys.readouterr() == ("", "")  # tyro draws no box beside it


def test_a_mistake_that_only_a_later_tyro_knows_is_told_in_its_words(monkeypatch, capsys):
    @dataclasses.dataclass
    class Words:
        size: int

    monkeypatch.setattr(parsing, "mistake_in_a_line", lambda mistake, known: None)
    with pytest.raises(SystemExit) as stop:
        parsing.parse(Words, [], prog="words")
    assert stop.value.code == 2
    assert "--size" in capsys.readouterr().err
