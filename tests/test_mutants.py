"""The mutants are real changes of the places they name."""

from pathlib import Path

from mutants import PROJECT, files_that_test, mutants, sources


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
