"""Do the tests notice? Changes one operator, constant or condition at a time and runs that module's tests.

``python tests/mutants.py --sample 300`` makes that many mutants of the core, the hooks and the tasks, drawn by a seed,
each in a copy of the project, and prints those that all tests let pass. A survivor is a test that is missing, or a
change that means the same. Before, the same tests run once on the code as it is: what is red then kills nothing. Run by
``make mutants``.
"""

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
PLACES = ("analysis", "interventions", "models", "runs", "training", "checks.py", "codec.py", "decoding.py", "files.py")
GROUND = ("metrics.py", "plugins.py", "types.py", "../hooks", "../tasks")
PASSED, FAILED = 0, 1
"""What pytest ends with; anything else (nothing collected, an error of its own, Ctrl-C) is no verdict."""
SECONDS = 600
"""After which a mutant that hangs is killed, too."""

SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One change: a file, where in it, and the text instead."""

    file: Path
    line: int
    start: int
    end: int
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.before}  ->  {self.after}"


def sources() -> list[Path]:
    """Files of the core, the hooks and the tasks, relative to the project."""
    found = [(PROJECT / "plateau_interp" / place).resolve() for place in (*PLACES, *GROUND)]
    files = [file for place in found for file in ([place] if place.is_file() else sorted(place.rglob("*.py")))]
    return [file.relative_to(PROJECT) for file in files if file.name != "__init__.py"]


def mutants(file: Path) -> Iterator[Mutant]:
    """Every mutant of a file; messages, annotations and what runs only on import are left alone."""
    text = (PROJECT / file).read_text()
    starts = [0]
    for line in text.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for function in ast.walk(ast.parse(text)):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for node in _changeable(function):
            for changed in _changes(node):
                start = starts[node.lineno - 1] + node.col_offset
                end = starts[node.end_lineno - 1] + node.end_col_offset
                before = text.encode()[start:end].decode()
                yield Mutant(file, node.lineno, start, end, before, f"({ast.unparse(changed)})")


def _changeable(function: ast.AST) -> Iterator[ast.expr]:
    """Expressions of a function's body, less its docstring, annotations, nested functions, raises and f-strings."""
    for node in function.body:
        pending: list[ast.AST] = [node]
        while pending:
            found = pending.pop()
            if isinstance(found, ast.Raise | ast.JoinedStr | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            if isinstance(found, ast.expr):
                yield found
            skipped = {id(getattr(found, "annotation", None)), id(getattr(found, "returns", None))}
            pending += [child for child in ast.iter_child_nodes(found) if id(child) not in skipped]


def _changes(node: ast.expr) -> Iterator[ast.expr]:
    changed = copy.deepcopy(node)
    if isinstance(changed, ast.BinOp | ast.BoolOp) and type(changed.op) in SWAPPED:
        changed.op = SWAPPED[type(changed.op)]()
        yield changed
    elif isinstance(changed, ast.Compare) and type(changed.ops[0]) in SWAPPED:
        changed.ops[0] = SWAPPED[type(changed.ops[0])]()
        yield changed
    elif isinstance(changed, ast.UnaryOp) and isinstance(changed.op, ast.Not | ast.USub):
        yield changed.operand
    elif isinstance(changed, ast.Constant) and isinstance(changed.value, bool):
        yield ast.Constant(not changed.value)
    elif isinstance(changed, ast.Constant) and isinstance(changed.value, int | float):
        yield ast.Constant(changed.value + 1)
    elif isinstance(changed, ast.IfExp):
        yield ast.IfExp(ast.UnaryOp(ast.Not(), changed.test), changed.body, changed.orelse)


def files_that_test(file: Path) -> list[str]:
    """The module's own test file first, then those that import it; of a module nobody imports, its folder's."""
    parts = [part for part in file.with_suffix("").parts if part != "plateau_interp"]
    dotted = "plateau_interp." + ".".join(parts)
    others = [test for test in sorted((PROJECT / "tests").glob("test_*.py")) if dotted in test.read_text()]
    own = PROJECT / "tests" / f"test_{'_'.join(parts)}.py"
    suite = [PROJECT / "tests" / f"test_{parts[0]}_suite.py"]
    ordered = dict.fromkeys(test for test in (own, *suite, *others) if test.exists())
    folder = sorted((PROJECT / "tests").glob(f"test_{parts[0]}_*.py"))
    return [str(test.relative_to(PROJECT)) for test in ordered or folder]


class NoVerdict(RuntimeError):
    """A run of tests that says nothing of a mutant: none was collected, or one could not be read."""


def passes(tests: list[str], tree: Path) -> bool:
    """Whether tests pass in a copy of the project, at the latest after `SECONDS`.

    Raises:
        NoVerdict: if they neither pass nor fail.
    """
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        "-m",
        "not slow",
        *tests,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return False
    if done.returncode not in (PASSED, FAILED):
        raise NoVerdict(f"pytest {' '.join(tests)} ends with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
    return done.returncode == PASSED


def check_green(tests: list[str], tree: Path) -> None:
    """Refuse to judge by tests that do not pass on the code as it is: they would kill every mutant.

    Raises:
        NoVerdict: naming them.
    """
    if not passes(tests, tree):
        raise NoVerdict(f"{' '.join(tests)}: not green without a mutant")


def verdict(mutant: Mutant, tree: Path) -> str:
    """What a module's tests say of a mutant of it, in a copy of the project: "killed" if one fails, or they hang.

    "SURVIVED" if all pass, "no verdict" if they could not be run, as where the mutant breaks an import: that is not
    killed, for no test looked at it.
    """
    original = (tree / mutant.file).read_bytes()
    (tree / mutant.file).write_bytes(original[: mutant.start] + mutant.after.encode() + original[mutant.end :])
    try:
        return "SURVIVED" if passes(files_that_test(mutant.file), tree) else "killed"
    except NoVerdict:
        return "no verdict"
    finally:
        (tree / mutant.file).write_bytes(original)


@contextmanager
def copies(number: int) -> Iterator["Queue[Path]"]:
    """Copies of the project, to be taken and put back."""
    trees: Queue[Path] = Queue()
    with tempfile.TemporaryDirectory() as scratch:
        for name in map(str, range(number)):
            tree = Path(scratch, name)
            shutil.copytree(
                PROJECT, tree, symlinks=True, ignore=shutil.ignore_patterns(".*", "runs", "site", "__pycache__")
            )
            shutil.copytree(PROJECT / "plateau_interp" / "runs", tree / "plateau_interp" / "runs", dirs_exist_ok=True)
            trees.put(tree)
        yield trees


def main() -> int:
    """Draw, run, tell; 1 if fewer are killed than asked for, or the tests are red without a mutant."""
    parser = argparse.ArgumentParser(prog="python tests/mutants.py", description=__doc__)
    parser.add_argument("--sample", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--least", type=float, default=0.92, help="the share that must be killed")
    parser.add_argument("--only", default="", help="only files whose path has this in it")
    options = parser.parse_args()
    everything = [mutant for file in sources() if options.only in str(file) for mutant in mutants(file)]
    chosen = random.Random(options.seed).sample(everything, min(options.sample, len(everything)))
    lists = sorted({tuple(files_that_test(mutant.file)) for mutant in chosen})
    killed = 0
    with copies(options.workers) as trees, ThreadPoolExecutor(options.workers) as pool:

        def borrowing(judge: Callable[[Any, Path], Any], item: Any) -> Any:
            tree = trees.get()
            try:
                return judge(item, tree)
            finally:
                trees.put(tree)

        try:
            list(pool.map(lambda tests: borrowing(check_green, [*tests]), lists))
        except NoVerdict as reason:
            sys.stdout.write(f"{reason}\n")
            pool.shutdown(cancel_futures=True)
            return 1
        said = pool.map(lambda mutant: borrowing(verdict, mutant), chosen)
        for number, (mutant, word) in enumerate(zip(chosen, said, strict=True), start=1):
            killed += word == "killed"
            sys.stdout.write(f"{number}/{len(chosen)} {word} {mutant}\n")
            sys.stdout.flush()
    share = killed / max(len(chosen), 1)
    left = len(chosen) - killed
    sys.stdout.write(f"{share:.1%} of {len(chosen)} mutants killed ({len(everything)} there are), {left} are not\n")
    return int(share < options.least)


if __name__ == "__main__":
    sys.exit(main())
