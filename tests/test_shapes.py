"""The shape checks: what they must refuse, what they must let pass, and what switches them on."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, Self, runtime_checkable

import pytest
import torch
from jaxtyping import Float, Int, TypeCheckError
from torch import Tensor
from typecheck import unchecked

from plateau_interp.shapes import check, checked
from plateau_interp.tasks import MovingWindowSum

PROJECT = Path(__file__).parent.parent

Pattern = Float[Tensor, "batch head query key"]


@checked
def mix(pattern: Pattern, v: Float[Tensor, "batch key head d_head"]) -> Float[Tensor, "batch query head d_head"]:
    return torch.einsum("bhqk,bkhd->bqhd", pattern, v)


@checked
def wrong_result(x: Float[Tensor, "batch pos"]) -> Float[Tensor, "pos batch"]:
    return x


@checked
def choose(kind: Literal["linear", "softmax"], *sizes: int, **options: float) -> str | None:
    return kind if sizes or options else None


@runtime_checkable
class Named(Protocol):
    name: str


@checked
def names(items: Sequence[Named]) -> list[str]:
    return [item.name for item in items]


@checked
def count(n: int) -> Iterator[int]:
    yield from range(n)


@contextmanager
@checked
def opened(n: int) -> Iterator[int]:
    yield n


@checked
@dataclass(frozen=True)
class Pair:
    a: Int[Tensor, " batch"]
    b: Int[Tensor, " batch"]


class Chain:
    @checked
    def extend(self, n: "int") -> Self:
        return self


def test_right_values_pass():
    assert mix(torch.zeros(2, 3, 4, 5), torch.zeros(2, 5, 3, 6)).shape == (2, 4, 3, 6)
    assert choose("linear", 1, 2, rate=0.5) == "linear"
    assert choose("softmax") is None
    assert names([PROJECT]) == [PROJECT.name]
    assert list(count(3)) == [0, 1, 2]
    with opened(2) as n:
        assert n == 2
    assert Pair(torch.zeros(2, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)).a.shape == (2,)
    assert isinstance(Chain().extend(1), Chain)


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda: mix(torch.zeros(2, 3, 4, 5), torch.zeros(2, 6, 3, 6)), id="axes that must be equal"),
        pytest.param(lambda: mix(torch.zeros(3, 4, 5), torch.zeros(2, 5, 3, 6)), id="rank"),
        pytest.param(lambda: mix(torch.zeros(2, 3, 4, 5).long(), torch.zeros(2, 5, 3, 6)), id="dtype"),
        pytest.param(lambda: wrong_result(torch.zeros(2, 3)), id="shape of the result"),
        pytest.param(lambda: choose("quadratic", 1), id="literal"),
        pytest.param(lambda: choose("linear", 1, "2"), id="variadic positional"),
        pytest.param(lambda: choose("linear", rate="fast"), id="variadic keyword"),
        pytest.param(lambda: names([3]), id="protocol in a sequence"),
        pytest.param(lambda: count("3"), id="generator"),
        pytest.param(lambda: opened("3").__enter__(), id="context manager"),
        pytest.param(lambda: Pair(torch.zeros(2).long(), torch.zeros(3).long()), id="dataclass field"),
    ],
)
def test_wrong_values_are_refused(call):
    with pytest.raises(TypeCheckError):
        call()


def test_axes_are_free_again_after_a_call():
    for batch in (2, 3):
        mix(torch.zeros(batch, 3, 4, 5), torch.zeros(batch, 5, 3, 6))


def test_unchecked_reaches_the_function_itself():
    assert unchecked(choose)("quadratic", 1) == "quadratic"


MODULE = """
    from jaxtyping import Float
    from torch import Tensor

    def halve(pattern: Float[Tensor, "batch query key"]) -> Float[Tensor, "batch query key"]:
        return pattern / 2
"""
WRONG = """
    {first}
    import torch
    from jaxtyping import TypeCheckError
    from plateau_interp import metrics
    from plateau_interp.tasks import MovingWindowSum
    from plateau_interp.types import Batch, answer_rows
    import my_module

    def of_the_core():
        answer_rows(3)
    def of_a_mapped_package():
        MovingWindowSum().solve(torch.zeros(2, 16))
    def of_a_dataclass():
        Batch(torch.zeros(2, 3), torch.zeros(2, 2).long())
    def two_axes():
        metrics.attention_progress(torch.zeros(2, 1, 4, 5), torch.zeros(3, 4, 5, dtype=torch.bool))
    def mine():
        my_module.halve(torch.zeros(2, 3))

    for call in (of_the_core, of_a_mapped_package, of_a_dataclass, two_axes, mine):
        try:
            call()
        except TypeCheckError as error:
            print(call.__name__, "refused:", " ".join(str(error).split()))
        except Exception as error:
            print(call.__name__, "failed:", type(error).__name__)
        else:
            print(call.__name__, "passed")
"""
CALL = "from plateau_interp import shapes; shapes.check({!r})"
OURS = {"of_the_core", "of_a_mapped_package", "of_a_dataclass", "two_axes"}


def script(folder: Path, source: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "my_module.py").write_text(textwrap.dedent(MODULE))
    (folder / "script.py").write_text(textwrap.dedent(source))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PLATEAU")}
    command = [sys.executable, "script.py"]
    return subprocess.run(command, cwd=folder, env=clean | environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("setting", "first", "refused"),
    [
        pytest.param("1", "", OURS, id="variable"),
        pytest.param("my_module", "", OURS | {"mine"}, id="variable with a module"),
        pytest.param("", CALL.format("my_module"), OURS | {"mine"}, id="call"),
        pytest.param("1", CALL.format("my_module"), OURS | {"mine"}, id="both"),
        pytest.param("0", "", set(), id="variable that says off"),
        pytest.param("", "", set(), id="off"),
    ],
)
def test_the_switch(tmp_path, setting, first, refused):
    done = script(tmp_path, WRONG.format(first=first), PLATEAU_CHECK_SHAPES=setting)
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert {name for name, line in lines.items() if " refused: " in line} == refused
    if refused:
        assert "parameter 'target'" in lines["two_axes"]
        assert "batch=2" in lines["two_axes"]
    if "mine" in refused:
        assert "parameter 'pattern'" in lines["mine"]


def test_off_it_costs_nothing(tmp_path):
    """Nothing is wrapped, and what does the wrapping is not even imported."""
    source = """
        import sys
        import plateau_interp
        from plateau_interp import codec, files, metrics, plugins
        print([name for name in ("plateau_interp.shapes", "typeguard") if name in sys.modules])
        from plateau_interp import tasks
        print("plateau_interp.shapes" in sys.modules, hasattr(metrics.attention_progress, "__wrapped__"))
    """
    done = script(tmp_path, source)
    assert done.stdout.splitlines() == ["[]", "False False"], done.stderr
    on = script(tmp_path, source, PLATEAU_CHECK_SHAPES="1")
    assert on.stdout.splitlines()[-1] == "True True", on.stderr


def test_a_module_that_an_editable_install_maps_from_elsewhere_is_reached(tmp_path):
    """Such an install adds a finder of its own; the module is on no path."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mapped.py").write_text(textwrap.dedent(MODULE))
    source = """
        import importlib.util, sys
        class Editable:
            @staticmethod
            def find_spec(name, path=None, target=None):
                return importlib.util.spec_from_file_location(name, "elsewhere/mapped.py") if name == "mapped" else None
        sys.meta_path.append(Editable)
        from plateau_interp import shapes
        shapes.check("mapped")
        import mapped, torch
        mapped.halve(torch.zeros(2, 3))
    """
    done = script(tmp_path, source)
    assert "TypeCheckError" in done.stderr


def test_annotations_that_are_strings_are_checked_where_they_can_be_read(tmp_path):
    module = "class Halving:\n    def halve(self, x: Halving, n: int) -> Halving:\n        return self\n"
    future = "from __future__ import annotations\n"
    (tmp_path / "strings.py").write_text(future + textwrap.dedent(MODULE) + module)
    source = """
        from plateau_interp import shapes
        shapes.check("strings")
        import strings, torch
        strings.Halving().halve("no Halving: its class was not there yet", 1)
        for call in (lambda: strings.Halving().halve(None, "1"), lambda: strings.halve(torch.zeros(2, 3))):
            try:
                call()
            except Exception as error:
                print(type(error).__name__)
    """
    done = script(tmp_path, source)
    assert (done.returncode, done.stdout.split()) == (0, ["TypeCheckError"] * 2), done.stderr


def test_what_is_out_of_reach_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no package or module 'my_pakage' here"):
        check("my_pakage")
    with pytest.raises(ValueError, match=r"json is imported already: call plateau_interp\.shapes\.check, or"):
        check("json")
    done = script(tmp_path, "import plateau_interp.checks\n" + CALL.format("my_module"))
    assert "plateau_interp.checks is imported already" in done.stderr


def test_a_notebook_s_own_functions_are_checked(tmp_path):
    cells = [CALL.format("my_module"), MODULE]
    source = f"""
        from IPython.core.interactiveshell import InteractiveShell
        shell = InteractiveShell.instance()
        for cell in {[textwrap.dedent(cell) for cell in cells]!r}:
            shell.run_cell(cell).raise_error()
        print(type(shell.run_cell("import torch; halve(torch.zeros(2, 3))").error_in_exec).__name__)
    """
    done = script(tmp_path, source, IPYTHONDIR=str(tmp_path / "ipython"))
    assert done.stdout.splitlines()[-1] == "TypeCheckError", done.stdout + done.stderr


def test_the_tests_themselves_run_checked():
    assert hasattr(MovingWindowSum.solve, "__wrapped__")
    with pytest.raises(TypeCheckError, match="numbers"):
        MovingWindowSum().solve(torch.zeros(2, 16))
