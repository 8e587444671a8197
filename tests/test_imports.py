"""What loads what: the lazy root, and dependencies that point one way, read from the source."""

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import plateau_interp

PROJECT = Path(__file__).parent.parent
PACKAGE = PROJECT / "plateau_interp"
NAME = "plateau_interp"
# From the ground up: a layer may import those above it in this list. Every module stands in one layer.
LAYERS = (
    ("activations", "checks", "files", "folders", "freed_memory", "shapes"),
    ("plugins",),
    ("types",),
    ("codec", "metrics", "positions"),
    ("models",),
    ("interventions",),
    ("decoding",),
    ("training",),
    ("analysis",),
    ("runs",),
    ("hooks", "loggers", "series", "tasks"),
    ("views",),
    ("sweeps",),
    ("reproductions",),
    ("cli",),
)
FLOOR = {part: floor for floor, parts in enumerate(LAYERS) for part in parts}
MODEL_CLASSES = ("HookedTransformer", "HookedEncoder", "TransformerBridge")


def python_files() -> list[Path]:
    files = [*PACKAGE.rglob("*.py"), *(PROJECT / "hooks").rglob("*.py"), *(PROJECT / "tasks").rglob("*.py")]
    linked = (PACKAGE / "hooks", PACKAGE / "tasks")
    return sorted(file for file in files if not any(file.is_relative_to(link) for link in linked))


def module_name(file: Path) -> str:
    inside = file.relative_to(PACKAGE if file.is_relative_to(PACKAGE) else PROJECT).with_suffix("")
    return ".".join((NAME, *(part for part in inside.parts if part != "__init__")))


MODULES = {module_name(file): ast.parse(file.read_text()) for file in python_files()}
ROOT = ast.parse((PACKAGE / "__init__.pyi").read_text())


def imported(tree: ast.AST) -> Iterator[tuple[str, str | None]]:
    """Module and name of each import, wherever in the file it stands; the name is None for `import module`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name) for alias in node.names)


def own_imports(tree: ast.AST) -> Iterator[tuple[str, str | None]]:
    """The imports from this project as (module, name), a sub-module imported by its name counted as the module."""
    for module, name in imported(tree):
        if module.split(".")[0] == NAME:
            whole = f"{module}.{name}"
            yield (whole, None) if whole in MODULES else (module, name)


def part(module: str) -> str:
    """The top-level module or folder that a module belongs to."""
    return module.removeprefix(NAME).lstrip(".").split(".")[0]


def public_names(module: str) -> set[str]:
    for node in MODULES[module].body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def test_every_module_stands_in_a_layer():
    assert {part(module) for module in MODULES if module != NAME} == {*FLOOR}


@pytest.mark.parametrize("module", [module for module in MODULES if module != NAME])
def test_dependencies_point_one_way(module):
    own = part(module)
    for target, name in own_imports(MODULES[module]):
        assert target != NAME or name is None, f"{module} imports {name} through the root, which knows every layer"
        other = part(target)
        assert other == own or FLOOR[other] < FLOOR[own], f"{module} ({own}) imports {target} ({other})"


def test_no_module_imports_itself_over_others():
    graph = {
        module: {target for target, _ in own_imports(tree) if target != NAME} - {module}
        for module, tree in MODULES.items()
        if module != NAME
    }
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle


def defined(tree):
    """Functions, classes and constants of a module; variables of types are called T everywhere."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        yield from (
            target.id for target in targets if isinstance(target, ast.Name) and target.id not in ("__all__", "T")
        )


def test_a_name_is_defined_once():
    """A name without an underscore means one thing; helpers of a module are called as they are best called there.

    Each paper's package has its ``PAPER``.
    """
    places: dict[str, list[str]] = {}
    for module, tree in MODULES.items():
        for name in defined(tree):
            if not name.startswith("_"):
                places.setdefault(name, []).append(module)
    del places["PAPER"]
    assert {name: modules for name, modules in places.items() if len(modules) > 1} == {}


def test_nothing_is_written_twice():
    """No two functions of one body, whatever they are called; the shortest are no idea of their own."""
    places: dict[str, list[str]] = {}
    for module, tree in MODULES.items():
        for node in tree.body:
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                code = "\n".join(map(ast.unparse, body))
                if len(code) > 60:
                    places.setdefault(code, []).append(f"{module}.{node.name}")
    assert [functions for functions in places.values() if len(functions) > 1] == []


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_public_names_alone(module):
    """`__all__` is the border between modules, everywhere."""
    for target, name in own_imports(MODULES[module]):
        if name is not None:
            assert name in public_names(target), f"{module} uses {target}.{name}, which is not in its __all__"


def code_outside() -> dict[str, list[ast.AST]]:
    """By file: tests, examples, what makes the documentation, and the Python on pages."""
    places = ("tests", "examples", "docs")
    files = [file for place in places for file in sorted((PROJECT / place).rglob("*.py"))]
    pages = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]
    blocks = {page: re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL) for page in pages}
    texts = {**{file: [file.read_text()] for file in files}, **{page: some for page, some in blocks.items() if some}}
    return {str(file.relative_to(PROJECT)): [ast.parse(text) for text in some] for file, some in texts.items()}


OUTSIDE = code_outside()


@pytest.mark.parametrize("file", OUTSIDE)
def test_tests_examples_and_pages_import_public_names_alone(file):
    """What they may use, a user may: none of them is in the way when a module is changed within its border."""
    root = set(ast.literal_eval(next(node.value for node in ROOT.body if isinstance(node, ast.Assign))))
    for target, name in (found for tree in OUTSIDE[file] for found in own_imports(tree)):
        assert target in MODULES, f"{file} imports {target}, which is not there"
        if name is not None:
            assert name in (root if target == NAME else public_names(target)), f"{file} uses {target}.{name}"


def private_names(tree: ast.AST) -> set[str]:
    """What a module keeps to itself: functions, classes and constants, methods, and attributes of ``self``."""
    names = {getattr(node, "name", "") for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and is_of_self(node)}
    return {name for name in names if re.fullmatch(r"_[^_]\w*[^_]", name)}  # not those that Python or notebooks ask for


def is_of_self(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


PRIVATE = set[str]().union(*map(private_names, MODULES.values()))


def reached_into(tree: ast.AST) -> Iterator[str]:
    """Private names of the package that code takes from an object or a module, or puts something else in place of."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and not is_of_self(node) and node.attr in PRIVATE:
            yield ast.unparse(node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "setattr":
            texts = [argument.value for argument in node.args[:2] if isinstance(argument, ast.Constant)]
            yield from (text for text in texts if str(text).rpartition(".")[2] in PRIVATE)


@pytest.mark.parametrize("file", OUTSIDE)
def test_tests_examples_and_pages_reach_into_nothing(file):
    """Neither as attributes of modules and objects nor with monkeypatch."""
    assert [found for tree in OUTSIDE[file] for found in reached_into(tree)] == []


def test_reaching_into_something_is_seen():
    tree = ast.parse("meter._seen; m.setattr(table, '_parsed', 1); m.setattr('runs.table._row', 1)")
    assert sorted(reached_into(tree)) == ["_parsed", "meter._seen", "runs.table._row"]
    assert list(reached_into(ast.parse("self._seen; torch._C; view._repr_html_; m.setattr(table, 'parsed', 1)"))) == []


FOLDERS = {file.parent.name for file in PACKAGE.glob("*/__init__.py")} - {"tasks"}
"""Folders whose modules need a word; those of the tasks are called as the tasks are, which `plateau list` explains."""


@pytest.mark.parametrize("folder", sorted(FOLDERS))
def test_a_folder_says_what_each_of_its_modules_is_for(folder):
    told = re.findall(r"`(\w+)`", ast.get_docstring(MODULES[f"{NAME}.{folder}"]) or "")
    entries = [entry for entry in (PACKAGE / folder).iterdir() if not entry.name.startswith("_")]
    there = {entry.stem for entry in entries if entry.suffix == ".py" or entry.is_dir()}
    assert there - set(told) == set()


LONGEST = 400
"""Lines: what is longer has more than one idea."""
LONGER = {"plateau_interp/views/attention.js": 420}
"""A page that is opened from disk can import no other script, so the whole view is one."""


@pytest.mark.parametrize("ending", [".py", ".pyi", ".js", ".css", ".jinja"])
def test_no_module_is_too_long(ending):
    folders = ("plateau_interp", "hooks", "tasks")
    files = {
        str(file.relative_to(PROJECT)): file for place in folders for file in (PROJECT / place).rglob(f"*{ending}")
    }
    lengths = {name: len(file.read_text().splitlines()) for name, file in files.items()}
    assert lengths
    assert {name: n for name, n in lengths.items() if n > LONGER.get(name, LONGEST)} == {}


@pytest.mark.parametrize("module", MODULES)
def test_no_relative_imports(module):
    relative = [node for node in ast.walk(MODULES[module]) if isinstance(node, ast.ImportFrom) and node.level]
    assert not relative, ast.unparse(relative[0])


def test_only_models_names_a_model_class():
    def names(tree: ast.AST) -> set[str]:
        fields = ("id", "attr", "name")
        return {str(getattr(node, field, "")) for node in ast.walk(tree) for field in fields}

    using = {module for module, tree in MODULES.items() if any(name.startswith(MODEL_CLASSES) for name in names(tree))}
    assert {part(module) for module in using} == {"models"}


def test_only_views_use_circuitsvis():
    """Whether they import it or look up where it is installed."""

    def used(tree: ast.AST) -> set[str]:
        texts = {str(node.value) for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        return {name.split(".")[0] for name, _ in imported(tree)} | texts

    using = {module for module, tree in MODULES.items() if "circuitsvis" in used(tree)}
    assert using
    assert all(module.startswith(f"{NAME}.views.") for module in using)


def test_importing_the_root_loads_nothing_heavy():
    code = "import sys, plateau_interp, plateau_interp.cli.main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "plateau_interp.cli.main" in loaded
    heavy = {"torch", "transformer_lens", "transformers", "huggingface_hub", "numpy", "pandas", "plotly", "matplotlib"}
    assert not loaded & {*heavy, "wandb"}


def test_public_names_are_few_and_all_there():
    names = plateau_interp.__all__
    assert names == sorted(names)
    assert len(names) <= 40
    assert dir(plateau_interp) == names
    for name in names:
        assert getattr(plateau_interp, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = plateau_interp.nonsense


def test_the_stub_lists_what_is_imported():
    stub = next(node for node in ROOT.body if isinstance(node, ast.Assign))
    assert ast.literal_eval(stub.value) == plateau_interp.__all__


def test_a_function_keeps_its_name_when_its_module_is_loaded():
    code = "import plateau_interp.decoding; from plateau_interp import greedy_answers; print(callable(greedy_answers))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
