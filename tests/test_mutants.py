"""The mutants are real changes of the places they name."""

import sys
from pathlib import Path

import mutants as tool
import pytest
from mutants import PROJECT, Mutant, NoVerdict, check_green, files_that_test, mutants, passes, sources, verdict

CODE = "def double(x):\n    return 2 * x\n"
GREEN = "from code_of_ours import double\n\n\ndef test_double():\n    assert double(2) == 4\n"


def test_each_mutant_of_the_core_compiles_and_differs():
    file = Path("plateau_interp/metrics.py")
    text = (PROJECT / file).read_bytes()
    found = [*mutants(file)]
    assert len(found) > 10
    for mutant in found:
        changed = text[: mutant.start] + mutant.after.encode() + text[mutant.end :]
        compile(changed, str(file), "exec")
        assert changed != text


def test_every_module_that_is_mutated_has_tests():
    assert len(sources()) > 40
    assert [str(file) for file in sources() if not files_that_test(file)] == []


@pytest.fixture
def tree(tmp_path):
    """A project of one module and one test."""
    (tmp_path / "code_of_ours.py").write_text(CODE)
    (tmp_path / "test_it.py").write_text(GREEN)
    return tmp_path


def mutant(after: str) -> Mutant:
    start = CODE.index("2 * x")
    return Mutant(Path("code_of_ours.py"), 2, start, start + 5, "2 * x", after)


def test_tests_pass_or_fail(tree):
    assert passes(["test_it.py"], tree)
    check_green(["test_it.py"], tree)
    (tree / "code_of_ours.py").write_text(CODE.replace("2", "3"))
    assert not passes(["test_it.py"], tree)
    with pytest.raises(NoVerdict, match=r"test_it.py: not green without a mutant"):
        check_green(["test_it.py"], tree)


@pytest.mark.parametrize("content", ["", "import nothing_that_is_there\n", None], ids=["empty", "broken", "missing"])
def test_what_cannot_be_run_is_no_verdict(tree, content):
    (tree / "test_it.py").write_text(content) if content is not None else (tree / "test_it.py").unlink()
    with pytest.raises(NoVerdict, match=r"pytest test_it.py ends with [245]"):
        passes(["test_it.py"], tree)


@pytest.mark.parametrize(("after", "word"), [("(2 + x)", "SURVIVED"), ("(2 / x)", "killed"), ("(2 *)", "no verdict")])
def test_a_failing_test_alone_kills(tree, monkeypatch, after, word):
    monkeypatch.setattr(tool, "files_that_test", lambda file: ["test_it.py"])
    assert verdict(mutant(after), tree) == word
    assert (tree / "code_of_ours.py").read_text() == CODE


def test_nothing_is_judged_by_tests_that_are_red_without_a_mutant(monkeypatch, capsys):
    monkeypatch.setattr(tool, "passes", lambda tests, tree: False)
    monkeypatch.setattr(sys, "argv", ["mutants", "--sample", "3", "--workers", "1", "--only", "metrics"])
    assert tool.main() == 1
    told = capsys.readouterr().out
    assert "not green without a mutant" in told
    assert "killed" not in told
