"""The type checker of the test suite itself: what it must refuse, what it must let pass."""

import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, Self, runtime_checkable

import pytest
import torch
from jaxtyping import Float, Int, TypeCheckError, jaxtyped
from torch import Tensor
from typecheck import typechecked, unchecked

PROJECT = Path(__file__).parent.parent
checked = jaxtyped(typechecker=typechecked)

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


SUITE = """
    import pytest
    import torch
    from jaxtyping import TypeCheckError
    from plateau_interp.tasks import MovingWindowSum
    from plateau_interp.types import Batch, answer_rows

    def test_a_function_of_the_core():
        with pytest.raises(TypeCheckError, match="task"):
            answer_rows(3)

    def test_a_method_of_a_mapped_package():
        with pytest.raises(TypeCheckError, match="numbers"):
            MovingWindowSum().solve(torch.zeros(2, 16))

    def test_a_dataclass():
        with pytest.raises(TypeCheckError, match="tokens"):
            Batch(torch.zeros(2, 3), torch.zeros(2, 2).long())
"""
OPTION = "--jaxtyping-packages=plateau_interp,typecheck.typechecked"


def test_the_option_is_the_project_s_default():
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    assert OPTION in settings["tool"]["pytest"]["ini_options"]["addopts"]


@pytest.mark.parametrize(("option", "result"), [([OPTION], "3 passed"), ([], "3 failed")])
def test_the_option_reaches_the_package(tmp_path, option, result):
    """With the option wrong shapes and types are refused all over the package; without, nothing is checked."""
    (tmp_path / "test_wrong.py").write_text(textwrap.dedent(SUITE))
    (tmp_path / "pytest.ini").write_text(f"[pytest]\npythonpath = {PROJECT / 'tests'}\n")
    command = [sys.executable, "-m", "pytest", "-q", "--import-mode=importlib", "-p", "no:cacheprovider", *option, "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result in done.stdout, done.stdout + done.stderr
