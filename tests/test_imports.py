"""What loads what: the lazy root, and dependencies that point one way, read from the source."""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import plateau_interp

PROJECT = Path(__file__).parent.parent
PACKAGE = PROJECT / "plateau_interp"
NAME = "plateau_interp"
# Every part may import itself and what is listed; everything that is not named is core.
LAYERS = {
    "types": set(),
    "core": {"types"},
    "hooks": {"types", "core"},
    "tasks": {"types", "core"},
    "reproductions": {"types", "core", "hooks", "tasks"},
    "cli": {"types", "core", "hooks", "tasks", "reproductions"},
}
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


def layer(module: str) -> str:
    part = module.removeprefix(NAME).lstrip(".").split(".")[0]
    return part if part in LAYERS else "core"


def public_names(module: str) -> set[str]:
    for node in MODULES[module].body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def test_the_tests_see_every_layer():
    assert {layer(module) for module in MODULES} == {*LAYERS}


@pytest.mark.parametrize("module", [module for module in MODULES if module != NAME])
def test_dependencies_point_one_way(module):
    allowed = LAYERS[layer(module)] | {layer(module)}
    for target, name in own_imports(MODULES[module]):
        assert target != NAME or name is None, f"{module} imports {name} through the root, which knows every layer"
        assert layer(target) in allowed, f"{module} ({layer(module)}) imports {target} ({layer(target)})"


def test_no_module_imports_itself_over_others():
    graph = {
        module: {target for target, _ in own_imports(tree) if target != NAME} - {module}
        for module, tree in MODULES.items()
        if module != NAME
    }
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle


@pytest.mark.parametrize("module", [module for module in MODULES if layer(module) in ("hooks", "tasks")])
def test_plugins_use_public_names_alone(module):
    for target, name in own_imports(MODULES[module]):
        if name is not None and layer(target) in ("types", "core"):
            assert name in public_names(target), f"{module} uses {target}.{name}, which is not in its __all__"


@pytest.mark.parametrize("module", MODULES)
def test_no_relative_imports(module):
    relative = [node for node in ast.walk(MODULES[module]) if isinstance(node, ast.ImportFrom) and node.level]
    assert not relative, ast.unparse(relative[0])


def test_only_models_names_a_model_class():
    def names(tree: ast.AST) -> set[str]:
        fields = ("id", "attr", "name")
        return {str(getattr(node, field, "")) for node in ast.walk(tree) for field in fields}

    using = {module for module, tree in MODULES.items() if any(name.startswith(MODEL_CLASSES) for name in names(tree))}
    assert using == {f"{NAME}.models"}


def test_only_views_use_circuitsvis():
    """Whether they import it or look up where it is installed."""

    def used(tree: ast.AST) -> set[str]:
        texts = {str(node.value) for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        return {name.split(".")[0] for name, _ in imported(tree)} | texts

    using = {module for module, tree in MODULES.items() if "circuitsvis" in used(tree)}
    assert using
    assert all(module.startswith(f"{NAME}.views.") for module in using)


def test_importing_the_root_loads_nothing_heavy():
    code = "import sys, plateau_interp, plateau_interp.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "plateau_interp.cli" in loaded
    assert not loaded & {"torch", "transformer_lens", "numpy", "pandas", "plotly", "matplotlib", "wandb"}


def test_public_names_are_few_and_all_there():
    names = plateau_interp.__all__
    assert names == sorted(names)
    assert len(names) <= 26
    assert dir(plateau_interp) == names
    for name in names:
        assert getattr(plateau_interp, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = plateau_interp.nonsense


def test_the_stub_lists_what_is_imported():
    stub = next(node for node in ROOT.body if isinstance(node, ast.Assign))
    assert ast.literal_eval(stub.value) == plateau_interp.__all__


def test_a_function_keeps_its_name_when_its_module_is_loaded():
    code = "import plateau_interp.intervening as _; import plateau_interp; print(callable(plateau_interp.intervening))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
