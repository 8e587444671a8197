"""Do the tests notice? Changes one operator, constant or condition at a time and runs that module's tests.

``python tests/mutants.py --sample 300`` makes that many mutants of the core, the hooks and the tasks, drawn by a seed,
each in a copy of the project, and prints those that all tests let pass. A survivor is a test that is missing, or a
change that means the same. Each file of tests runs once on the code as it is: what is red then kills nothing, and of
the rest those tests are asked that call the function in question. ``--keep FOLDER`` writes down what was killed and
goes on from there: three hundred take more than an hour. Which mutants are drawn changes only with the functions they
are in. Run by ``make mutants``.
"""

import argparse
import ast
import copy
import hashlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from queue import Queue
from types import FrameType
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parent.parent
PLACES = ("analysis", "decoding", "interventions", "models", "runs", "training", "checks.py", "codec.py", "files.py")
GROUND = ("metrics.py", "plugins.py", "types.py", "../hooks", "../tasks")
FAR = tuple(f"test_{part}" for part in ("benchmarks", "cli", "documentation", "neutrality", "reproductions", "views"))
PASSED, FAILED, NOT_COLLECTED = 0, 1, 2
"""What pytest ends with; anything else (no test, an error of its own, a signal) is no verdict."""
KILLED, HANGS, SURVIVED, NO_VERDICT = "killed", "killed: hangs", "SURVIVED", "no verdict"
BREAKS = "killed: tests cannot be collected"
ALL_KILLED = (KILLED, HANGS, BREAKS)
SECONDS, LEAST = 3600.0, 60.0
"""How long a file of tests may take without a mutant, and how much longer than several times that with one."""

FORKS = multiprocessing.get_context("forkserver")
"""Tests run in forks of a process that has what takes long to import, and nothing of the project."""
FORKS.set_forkserver_preload(
    [
        "torch",
        "transformer_lens",
        "pandas",
        "pyarrow.parquet",
        "matplotlib.figure",
        "rich.console",
        "yaml",
        "pytest",
        "hypothesis",
    ]
    + [point.value for point in entry_points(group="pytest11")]
)
PRELOADED = "Module already imported so cannot be rewritten:pytest.PytestAssertRewriteWarning"

SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One change: a file, where, the text instead, the lines of its function, and a key that stays while that does."""

    file: Path
    line: int
    start: int
    end: int
    before: str
    after: str
    function: tuple[int, int] = (0, 0)
    key: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.before}  ->  {self.after}"


def sources() -> list[Path]:
    """Files of the core, the hooks and the tasks, relative to the project."""
    found = [(PROJECT / "plateau_interp" / place).resolve() for place in (*PLACES, *GROUND)]
    files = [file for place in found for file in ([place] if place.is_file() else sorted(place.rglob("*.py")))]
    return [file.relative_to(PROJECT) for file in files if file.name != "__init__.py"]


def mutants(file: Path) -> Iterator[Mutant]:
    """Every mutant of a file; messages, annotations and what runs only on import are left alone."""
    text = (PROJECT / file).read_bytes()
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for function in ast.walk(ast.parse(text)):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        first = min(node.lineno for node in (function, *function.decorator_list))
        begin = starts[function.lineno - 1]
        whole = text[begin : starts[function.end_lineno]]
        for node in _changeable(function):
            for changed in _changes(node):
                start = starts[node.lineno - 1] + node.col_offset
                end = starts[node.end_lineno - 1] + node.end_col_offset
                after = f"({ast.unparse(changed)})"
                told = b"\0".join([str(file).encode(), whole, str(start - begin).encode(), after.encode()])
                key = hashlib.sha256(told).hexdigest()[:16]
                before, lines = text[start:end].decode(), (first, function.end_lineno)
                yield Mutant(file, node.lineno, start, end, before, after, lines, key)


def drawn(seed: int, *, only: str = "") -> list[Mutant]:
    """All mutants in the order of a seed; one that changes elsewhere does not move the others."""
    everything = [mutant for file in sources() if only in str(file) for mutant in mutants(file)]
    return sorted(everything, key=lambda mutant: hashlib.sha256(f"{seed}/{mutant.key}".encode()).digest())


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
    """The module's own test file first, then those that import it; of one private or not imported, its users' too.

    Not those of what draws, tells or documents it: they take minutes, and say what is told, not what is right.
    """
    parts = [part for part in file.with_suffix("").parts if part != "plateau_interp"]
    dotted = "plateau_interp." + ".".join(parts)
    as_name = re.compile(rf"^ *from {re.escape(dotted.rpartition('.')[0])} import .*\b{parts[-1]}\b", re.MULTILINE)
    texts = {test: test.read_text() for test in sorted((PROJECT / "tests").glob("test_*.py"))}
    importing = [test for test, text in texts.items() if dotted in text or as_name.search(text)]
    others = [test for test in importing if not test.name.startswith(FAR)] or importing
    own = PROJECT / "tests" / f"test_{'_'.join(part.lstrip('_') for part in parts)}.py"
    suite = [PROJECT / "tests" / f"test_{parts[0]}_suite.py"]
    ordered = dict.fromkeys(test for test in (own, *suite, *others) if test.exists())
    if parts[-1].startswith("_") or not (importing or own.exists()):
        users = [other for other in sources() if f"from {dotted} import" in (PROJECT / other).read_text()]
        ordered |= dict.fromkeys(PROJECT / test for user in users for test in files_that_test(user))
    folder = sorted((PROJECT / "tests").glob(f"test_{parts[0]}_*.py"))
    return [str(test.relative_to(PROJECT)) for test in ordered or folder]


class NoVerdict(RuntimeError):
    """A run of tests that says nothing of a mutant."""


class NotCollected(NoVerdict):
    """A file of tests that ends with an exception before the first test, as where what it imports does."""


class Recorder:
    """A plug-in of pytest: which functions of the project each test calls, and how long it takes."""

    def __init__(self, tree: Path) -> None:
        self._under, self._not_under = f"{tree}{os.sep}", f"{tree / 'tests'}{os.sep}"
        self.called: dict[str, set[tuple[str, int]]] = {}
        self.shared: set[tuple[str, int]] = set()  # on import, and by fixtures of several tests
        self.seconds: dict[str, float] = {}
        self._now = self.shared

    def trace(self, frame: FrameType, event: str, arg: object) -> None:
        """For `sys.settrace`: a function is called."""
        code = frame.f_code
        if code.co_name == "<module>":  # which begins in the same line as a function may
            return
        if code.co_filename.startswith(self._under) and not code.co_filename.startswith(self._not_under):
            self._now.add((code.co_filename.removeprefix(self._under), code.co_firstlineno))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """A test, with what is set up for it alone."""
        begin, self._now = time.monotonic(), self.called.setdefault(item.nodeid, set())
        try:
            return (yield)
        finally:
            self._now, self.seconds[item.nodeid] = self.shared, time.monotonic() - begin

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Generator[None, object, object]:
        """What is set up once for several tests is all theirs."""
        before = self._now
        self._now = before if fixturedef.scope == "function" else self.shared
        try:
            return (yield)
        finally:
            self._now = before

    def found(self) -> dict[str, Any]:
        """As plain data: by test, the seconds, and the functions as [file, first line]."""
        return {
            name: {"seconds": self.seconds[name], "calls": sorted(called | self.shared)}
            for name, called in self.called.items()
        }


@dataclass(frozen=True)
class Chosen:
    """A plug-in of pytest: only these tests run."""

    tests: frozenset[str]

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave out the others."""
        items[:] = [item for item in items if item.nodeid in self.tests]


def _run_pytest(test: str, tree: Path, scratch: Path, chosen: frozenset[str] | None) -> None:
    """In a fork: run a file of tests of a copy of the project, or some of it; without a choice, record the calls."""
    os.setsid()  # so that what the tests start can be ended with them
    os.chdir(tree)
    with (scratch / "output").open("wb") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(tree))
    status = 70  # not FAILED, which an exception of pytest itself would look like
    try:
        recorder = Recorder(tree)
        if chosen is None:
            sys.settrace(recorder.trace)
        words = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", "-W", f"ignore:{PRELOADED}", test]
        status = int(pytest.main(words, plugins=[recorder if chosen is None else Chosen(chosen)]))
        sys.settrace(None)
        (scratch / "calls").write_text(json.dumps(recorder.found()))
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(status)


@dataclass(frozen=True)
class Outcome:
    """What a run of tests came to."""

    passed: bool
    calls: dict[str, Any]


def run_tests(test: str, tree: Path, *, chosen: frozenset[str] | None = None, seconds: float = SECONDS) -> Outcome:
    """Run a file of tests in a copy of the project.

    Args:
        test: the file, relative to the copy.
        tree: the copy.
        chosen: only these of its tests; None for all, and then it is recorded what they call.
        seconds: how long they may take.

    Raises:
        NotCollected: if it cannot be imported.
        NoVerdict: if it neither passes nor fails.
        TimeoutError: if it takes longer.
    """
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        process = FORKS.Process(target=_run_pytest, args=(test, tree, scratch, chosen))
        process.start()
        process.join(seconds)
        hangs = process.exitcode is None
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.join()
        if hangs:
            raise TimeoutError(f"{test} takes more than {seconds:.0f} s")
        if process.exitcode not in (PASSED, FAILED):
            output = scratch / "output"
            told = output.read_text(errors="replace")[-2000:] if output.exists() else ""
            kind = NotCollected if process.exitcode == NOT_COLLECTED else NoVerdict
            raise kind(f"pytest {test} ends with {process.exitcode}: {told}")
        return Outcome(process.exitcode == PASSED, json.loads((scratch / "calls").read_text()))


@dataclass
class Judge:
    """Knows which tests call which function, and asks no test of a mutant before it was green without one."""

    keep: Path | None = None
    calls: dict[str, dict[str, Any]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def calls_of(self, test: str, tree: Path) -> dict[str, Any]:
        """What each test of a file calls, in a copy that has no mutant.

        Raises:
            NoVerdict: if it does not pass: it would kill every mutant.
        """
        with self.lock:
            if test not in self.calls:
                file = self.keep / f"{Path(test).stem}-{_digest(tree)}.json" if self.keep else None
                if file and file.exists():
                    self.calls[test] = json.loads(file.read_text())
                    return self.calls[test]
                outcome = run_tests(test, tree)
                if not outcome.passed:
                    raise NoVerdict(f"{test}: not green without a mutant")
                self.calls[test] = outcome.calls
                if file:
                    file.write_text(json.dumps(outcome.calls))
        return self.calls[test]

    def choice(self, mutant: Mutant, test: str, tree: Path) -> dict[str, float]:
        """The tests of a file that call the function that a mutant changes, and how long they took; raises as above."""
        own = {str(mutant.file), f"plateau_interp{os.sep}{mutant.file}"}  # a link leads to hooks and tasks
        first, last = mutant.function
        return {
            name: found["seconds"]
            for name, found in self.calls_of(test, tree).items()
            if any(file in own and first <= line <= last for file, line in found["calls"])
        }

    def verdict(self, mutant: Mutant, tree: Path) -> str:
        """What a module's tests say of a mutant of it, in a copy of the project.

        `KILLED` if one fails, `HANGS` if they take several times as long as without it, `BREAKS` if they cannot be
        imported any more, `SURVIVED` if all pass that call its function, `NO_VERDICT` if they could not be run.
        """
        original = (tree / mutant.file).read_bytes()
        for test in files_that_test(mutant.file):
            took = self.choice(mutant, test, tree)
            if not took:
                continue
            (tree / mutant.file).write_bytes(original[: mutant.start] + mutant.after.encode() + original[mutant.end :])
            try:
                if not run_tests(test, tree, chosen=frozenset(took), seconds=LEAST + 4 * sum(took.values())).passed:
                    return KILLED
            except TimeoutError:
                return HANGS
            except NotCollected:
                return BREAKS
            except NoVerdict:
                return NO_VERDICT
            finally:
                (tree / mutant.file).write_bytes(original)
        return SURVIVED


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


def _digest(tree: Path) -> str:
    """Of all code in a copy of the project."""
    found = hashlib.sha256()
    for file in sorted(tree.rglob("*.py")):
        found.update(str(file.relative_to(tree)).encode() + file.read_bytes())
    return found.hexdigest()[:16]


def kept(folder: Path | None) -> dict[str, str]:
    """The words of mutants that an earlier call killed, by key; the others are tried again, for tests were added."""
    file = folder / "mutants.jsonl" if folder else None
    lines = file.read_text().splitlines() if file and file.exists() else []
    words = {entry["key"]: entry["word"] for entry in map(json.loads, lines)}
    return {key: word for key, word in words.items() if word in ALL_KILLED}


def keep(folder: Path | None, mutant: Mutant, word: str) -> None:
    """Write down what a mutant came to."""
    if folder:
        with (folder / "mutants.jsonl").open("a") as lines:
            lines.write(json.dumps({"key": mutant.key, "word": word, "mutant": str(mutant)}) + "\n")


def main() -> int:
    """Draw, run, tell; 1 if fewer are killed than asked for, or the tests are red without a mutant."""
    parser = argparse.ArgumentParser(prog="python tests/mutants.py", description=__doc__)
    parser.add_argument("--sample", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--least", type=float, default=0.92, help="the share that must be killed")
    parser.add_argument("--only", default="", help="only files whose path has this in it")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="write down what is killed, and do not try it again"
    )
    options = parser.parse_args()
    everything = drawn(options.seed, only=options.only)
    chosen = everything[: options.sample]
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
    before, judge, words = kept(options.keep), Judge(options.keep), []
    with copies(options.workers) as trees, ThreadPoolExecutor(options.workers) as pool:

        def word_of(mutant: Mutant) -> str:
            if mutant.key in before:
                return before[mutant.key]
            tree = trees.get()
            try:
                word = judge.verdict(mutant, tree)
            finally:
                trees.put(tree)
            keep(options.keep, mutant, word)
            return word

        try:
            for number, (mutant, word) in enumerate(zip(chosen, pool.map(word_of, chosen), strict=True), start=1):
                words.append(word)
                sys.stdout.write(f"{number}/{len(chosen)} {word} {mutant}\n")
                sys.stdout.flush()
        except (NoVerdict, TimeoutError) as reason:
            sys.stdout.write(f"{reason}\n")
            pool.shutdown(cancel_futures=True)
            return 1
    killed = sum(word in ALL_KILLED for word in words)
    share = killed / max(len(chosen), 1)
    sys.stdout.write(
        f"{share:.1%} of {len(chosen)} mutants killed ({len(everything)} there are; {words.count(HANGS)} of the killed "
        f"hang, with {words.count(BREAKS)} nothing can be imported), {words.count(SURVIVED)} survived, "
        f"{words.count(NO_VERDICT)} without a verdict\n"
    )
    return int(share < options.least)


if __name__ == "__main__":
    sys.exit(main())
