"""What the documentation shows is so: examples in docstrings, code in README and CONTRIBUTING."""

import ast
import doctest
import importlib
import io
import re
import tomllib
from pathlib import Path

import pytest
import torch

from plateau_interp import hooks
from plateau_interp.interventions.capturing import Capture
from plateau_interp.models import toy_model
from plateau_interp.models.settings import ModelOptions
from plateau_interp.plugins import plugin, plugins
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.training.settings import MeasuringOptions, TrainingOptions

PROJECT = Path(__file__).parent.parent
SETUPTOOLS = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["setuptools"]
PAGES = ("README.md", "CONTRIBUTING.md")
NOT_RUN = {"console": "a shell session", "text": "a drawing", "toml": "read, not run"}
SMALLER = {
    "MovingWindowSum()": "MovingWindowSum(n=4)",
    "toy_model(task)": "toy_model(task, d_model=16)",
    "steps=400": "steps=6",
    "islice(steps, 50)": "islice(steps, 2)",
    "[0, 100, 200, 240]": "[0, 4, 6]",
    "at=50": "at=3",
}
"""README's sizes, and those that a test has time for."""


def modules_with_examples() -> dict[str, Path]:
    found = {}
    for package in SETUPTOOLS["packages"]:
        folder = PROJECT / SETUPTOOLS["package-dir"].get(package, package.replace(".", "/"))
        for file in sorted(folder.glob("*.py")):
            if ">>> " in file.read_text():
                found[package if file.stem == "__init__" else f"{package}.{file.stem}"] = file
    return found


MODULES = modules_with_examples()


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and content of each fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", (PROJECT / page).read_text(), flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Relative paths of the examples lead into a folder of their own."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_come_out_as_written(name):
    # Found in the source: doctest's own finder takes a function that the shape checker wraps for another module's.
    module, file = importlib.import_module(name), MODULES[name]
    runner, told = doctest.DocTestRunner(verbose=False), io.StringIO()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            text, where = ast.get_docstring(node) or "", getattr(node, "lineno", 1)
            called = f"{name}.{getattr(node, 'name', '')}"
            example = doctest.DocTestParser().get_doctest(text, dict(vars(module)), called, str(file), where)
            runner.run(example, out=told.write)
    assert runner.tries > 0
    assert runner.failures == 0, told.getvalue()


def test_the_whole_project_is_looked_at():
    assert {"plateau_interp", "plateau_interp.types", "plateau_interp.views.curves"} <= MODULES.keys()
    assert {"plateau_interp.hooks.attention", "plateau_interp.tasks.window"} <= MODULES.keys()


def test_the_readme_s_python_runs_from_top_to_bottom():
    run = Run.create(
        "runs/moving-window-sum",
        Recipe(
            MovingWindowSum(n=4),
            model=ModelOptions(d_model=16),
            training=TrainingOptions(steps=6, batch_size=4),
            measuring=MeasuringOptions(n_sequences=2),
            checkpoint_every=2,
        ),
    )
    list(run.train())
    sources = [content for language, content in blocks("README.md") if language == "python"]
    assert len(sources) >= 4
    for written, smaller in SMALLER.items():
        assert any(written in source for source in sources), f"{written} is not in README.md any more"
        sources = [source.replace(written, smaller) for source in sources]
    names = {}
    for number, source in enumerate(sources, start=1):
        exec(compile(source, f"README.md, block {number}", "exec"), names)
    assert Path("attention.html").stat().st_size > 1000
    assert names["fork"].finished


@pytest.mark.parametrize("page", PAGES)
def test_other_code_is_of_a_kind_that_is_known(page):
    for language, content in blocks(page):
        assert language in {*NOT_RUN, *(["python"] if page == "README.md" else [])}
        if language == "toml":
            assert tomllib.loads(content)["project"]["entry-points"]


def test_interventions_in_the_readme_can_be_made():
    model = toy_model(MovingWindowSum(n=4), d_model=16)
    _, cache = model.run_with_cache(MovingWindowSum(n=4).sample(2, generator=torch.Generator().manual_seed(0)).inputs)
    names = {**vars(hooks), "Capture": Capture, "v": torch.ones(16), "cache": cache, "other_model": model}
    (table,) = re.findall(r"^\| intervention \|.*?\n\n", (PROJECT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    rows = [row.split(" | ") for row in table.strip().splitlines()[2:]]
    assert {row[0].strip("| `") for row in rows} == {plugin("hooks", name).__name__ for name in plugins("hooks")}
    for row in rows:
        examples = re.findall(r"`([^`]+)`", row[-1])
        assert len(examples) == 2
        for code in examples:
            assert type(eval(code, names)).__name__ == row[0].strip("| `")
