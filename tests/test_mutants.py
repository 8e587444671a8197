"""The mutants are real changes of the places they name."""

import sys
from pathlib import Path

import mutants as tool
import pytest
from mutants import (
    BREAKS,
    HANGS,
    KILLED,
    NO_VERDICT,
    PROJECT,
    SURVIVED,
    Judge,
    Mutant,
    NoVerdict,
    drawn,
    files_that_test,
    mutants,
    run_tests,
    sources,
)

CODE = "def double(x):\n    return 2 * x\n"
GREEN = """
import pytest
from code_of_ours import double


@pytest.fixture(scope="module")
def four():
    return double(2)


def test_double():
    assert double(2) == 4


def test_four(four):
    assert four == 4


def test_of_nothing():
    pass
"""


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
    for place in (*tool.PLACES, *tool.GROUND):
        assert (PROJECT / "plateau_interp" / place).exists(), place
    assert [str(file) for file in sources() if not files_that_test(file)] == []
    assert "tests/test_tasks_completion.py" in files_that_test(Path("tasks/_matrices.py"))  # by who imports it
    assert "tests/test_training_precision.py" in files_that_test(Path("plateau_interp/runs/resuming.py"))  # by name
    private = files_that_test(Path("tasks/_layouts.py"))
    assert private[0] == "tests/test_tasks_layouts.py"
    assert "tests/test_tasks_window.py" in private  # not by its own file alone


@pytest.fixture
def tree(tmp_path):
    """A project of one module and one test."""
    (tmp_path / "code_of_ours.py").write_text(CODE)
    (tmp_path / "test_it.py").write_text(GREEN)
    return tmp_path


def mutant(after: str) -> Mutant:
    start = CODE.index("2 * x")
    return Mutant(Path("code_of_ours.py"), 2, start, start + 5, "2 * x", after, (1, 2))


@pytest.mark.slow
def test_tests_pass_or_fail(tree):
    assert run_tests("test_it.py", tree).passed
    (tree / "code_of_ours.py").write_text(CODE.replace("2", "3"))
    assert not run_tests("test_it.py", tree).passed
    assert run_tests("test_it.py", tree, chosen=frozenset({"test_it.py::test_of_nothing"})).passed
    with pytest.raises(NoVerdict, match=r"test_it.py: not green without a mutant"):
        Judge().calls_of("test_it.py", tree)


@pytest.mark.slow
def test_the_tests_that_call_a_function_are_asked(tree, monkeypatch):
    (tree / "code_of_ours.py").write_text(CODE + "\n\ndef other():\n    return 1\n")
    judge = Judge(tree)
    names = {f"test_it.py::test_{name}" for name in ("double", "four", "of_nothing")}
    # A fixture of the module calls it: nobody knows for which of them.
    assert judge.choice(mutant("(3 * x)"), "test_it.py", tree).keys() == names
    (tree / "test_it.py").write_text(GREEN.replace('"module"', '"function"'))
    judge = Judge(tree)
    assert judge.choice(mutant("(3 * x)"), "test_it.py", tree).keys() == names - {"test_it.py::test_of_nothing"}
    uncalled = Mutant(Path("code_of_ours.py"), 6, 0, 0, "1", "(2)", (5, 6))
    assert judge.choice(uncalled, "test_it.py", tree) == {}
    assert len([*tree.glob("test_it-*.json")]) == 2  # one of each code
    monkeypatch.setattr(tool, "run_tests", None)
    assert len(Judge(tree).choice(mutant("(3 * x)"), "test_it.py", tree)) == 2  # as it was written down


@pytest.mark.parametrize("content", ["", "import nothing_that_is_there\n", None], ids=["empty", "broken", "missing"])
def test_what_cannot_be_run_is_no_verdict(tree, content):
    (tree / "test_it.py").write_text(content) if content is not None else (tree / "test_it.py").unlink()
    with pytest.raises(NoVerdict, match=r"pytest test_it.py ends with [245]"):
        run_tests("test_it.py", tree)


def test_what_ends_the_process_is_no_verdict(tree):
    (tree / "test_it.py").write_text("import os\n\n\ndef test_it():\n    os.kill(os.getpid(), 9)\n")
    with pytest.raises(NoVerdict, match=r"pytest test_it.py ends with -9"):
        run_tests("test_it.py", tree)


@pytest.mark.parametrize(
    ("after", "seconds", "word"),
    [
        ("(2 + x)", 60, "SURVIVED"),
        ("(2 / x)", 60, "killed"),
        ("(2 *)", 60, "killed: tests cannot be collected"),
        ("__import__('os').kill(__import__('os').getpid(), 9)", 60, "no verdict"),
        ("__import__('time').sleep(60)", 3, "killed: hangs"),
    ],
)
def test_a_failing_test_alone_kills(tree, monkeypatch, after, seconds, word):
    monkeypatch.setattr(tool, "files_that_test", lambda file: ["test_it.py"])
    monkeypatch.setattr(tool, "LEAST", seconds)
    assert Judge().verdict(mutant(after), tree) == word
    assert (tree / "code_of_ours.py").read_text() == CODE


def call(monkeypatch, *words) -> int:
    monkeypatch.setattr(sys, "argv", ["mutants", "--workers", "1", "--only", "metrics", *map(str, words)])
    return tool.main()


def test_nothing_is_judged_by_tests_that_are_red_without_a_mutant(monkeypatch, capsys):
    monkeypatch.setattr(tool, "run_tests", lambda test, tree, **limits: tool.Outcome(False, {}))
    assert call(monkeypatch, "--sample", "3") == 1
    told = capsys.readouterr().out
    assert "not green without a mutant" in told
    assert "killed" not in told


def test_what_was_killed_is_not_tried_again(monkeypatch, capsys, tmp_path):
    words, asked = iter([KILLED, SURVIVED, HANGS, NO_VERDICT, BREAKS, KILLED]), []
    monkeypatch.setattr(Judge, "verdict", lambda self, mutant, tree: asked.append(mutant) or next(words))
    assert call(monkeypatch, "--sample", 4, "--keep", tmp_path / "kept") == 1
    assert "50.0% of 4 mutants killed (" in (told := capsys.readouterr().out)
    assert "1 of the killed hang, with 0 nothing can be imported), 1 survived, 1 without a verdict" in told
    assert call(monkeypatch, "--sample", 4, "--keep", tmp_path / "kept") == 0
    assert "100.0% of 4 mutants killed (" in capsys.readouterr().out
    assert asked == [*drawn(0, only="metrics")[:4], asked[1], asked[3]]
    assert [*tool.kept(tmp_path / "kept").values()] == [KILLED, BREAKS, HANGS, KILLED]


def test_a_change_of_one_function_moves_no_other_mutant(monkeypatch, tmp_path):
    file = Path("code_of_ours.py")
    monkeypatch.setattr(tool, "PROJECT", tmp_path)
    monkeypatch.setattr(tool, "sources", lambda: [file])
    other = "def other(x):\n    return 1 < x\n"
    (tmp_path / file).write_text(CODE + other)
    keys = {m.key: m.before for m in drawn(0)}
    (tmp_path / file).write_text("import os\n" + CODE.replace("2 * x", "3 * x") + other)
    again = {m.key: m.before for m in drawn(0)}
    assert len(keys) == len(again) == 4  # a product and its factor, a comparison and its bound
    assert {keys[key] for key in keys.keys() & again.keys()} == {"1 < x", "1"}
    assert [m.key for m in drawn(0)] != [m.key for m in drawn(1)]
