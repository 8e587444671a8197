"""What the documentation shows is so: examples in docstrings, code in README, CONTRIBUTING and on the site's pages."""

import ast
import doctest
import importlib
import io
import re
import shlex
import sys
import tomllib
import types
from pathlib import Path

import pytest
import torch

from plateau_interp import hooks
from plateau_interp.cli.main import main
from plateau_interp.cli.verbs import VERBS
from plateau_interp.interventions.capturing import Capture
from plateau_interp.models import toy_model
from plateau_interp.models.settings import ModelOptions
from plateau_interp.plugins import plugin, plugins
from plateau_interp.runs.formats import CHECKPOINT_FORMAT, RECIPE_FORMAT, SERIES_FORMAT
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.training.settings import MeasuringOptions, TrainingOptions

PROJECT = Path(__file__).parent.parent
SETUPTOOLS = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["setuptools"]
SITE = sorted(str(page.relative_to(PROJECT)) for page in (PROJECT / "docs").rglob("*.md"))
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", *SITE)
INTERVENTIONS = "docs/reference/interventions.md"
PACKAGES = ("docs/how-to/write-a-hook.md", "docs/how-to/write-a-task.md")
"""Pages whose commands want what they show to be installed: `test_packaging` does so."""
LANGUAGES = {"python", "console", "text", "toml", "yaml"}
SMALLER = {
    "MovingWindowSum()": "MovingWindowSum(n=4)",
    "toy_model(task)": "toy_model(task, d_model=16)",
    "steps=400": "steps=6",
    "islice(steps, 50)": "islice(steps, 2)",
    "[0, 100, 200, 240]": "[0, 4, 6]",
    "at=50": "at=3",
}
"""README's sizes, and those that a test has time for."""
SMALL = ["--n", "4", "--p", "7", "--d-model", "16", "--steps", "4", "--batch-size", "4", "--n-sequences", "2"]
"""What a `plateau train` of a page gets in a test."""
SMALL_NET = ["--d", "3", "--n", "16", "--d-mlp", "4", "--steps", "4", "--batch-size", "4"]
"""The same for the task `depth-2-net`."""


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


def commands(page: str) -> list[str]:
    """What is typed in the shell sessions of a page."""
    sessions = [content for language, content in blocks(page) if language == "console"]
    return re.findall(r"^\$ (.+)$", "".join(sessions), flags=re.MULTILINE)


@pytest.fixture(autouse=True)
def _registry():
    """What a page registers is known on that page alone."""
    kinds = ("tasks", "hooks", "optimizers")
    before = {kind: dict(plugins(kind)) for kind in kinds}
    yield
    for kind in kinds:
        plugins(kind).clear()
        plugins(kind).update(before[kind])


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
    assert {"plateau_interp.hooks.targeted_attention", "plateau_interp.tasks.window"} <= MODULES.keys()


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
    assert len(sources) == 3
    for written, smaller in SMALLER.items():
        assert any(written in source for source in sources), f"{written} is not in README.md any more"
        sources = [source.replace(written, smaller) for source in sources]
    names = {}
    for number, source in enumerate(sources, start=1):
        exec(compile(source, f"README.md, block {number}", "exec"), names)
    assert Path("attention.html").stat().st_size > 1000
    assert names["fork"].finished


@pytest.fixture
def run_page(monkeypatch):
    """Run the Python of a page from top to bottom."""

    def run(page: str) -> None:
        module = types.ModuleType("page")
        monkeypatch.setitem(sys.modules, "page", module)  # where plug-ins that the page defines can be found
        for number, (language, source) in enumerate(blocks(page), start=1):
            if language == "python":
                exec(compile(source, f"{page}, block {number}", "exec"), vars(module))

    return run


@pytest.mark.parametrize("page", [page for page in SITE if "```python" in (PROJECT / page).read_text()])
def test_a_page_s_python_runs_from_top_to_bottom(page, run_page):
    run_page(page)


def to_run(page: str) -> list[list[str]]:
    """The `plateau` commands of a page, made small; but those on what the reader has, a GPU among it, or the hub."""
    if page in PACKAGES:
        return []
    elsewhere = "plateau (?!.*(my-|EleutherAI/|--device cuda))"
    listed = [shlex.split(command)[1:] for command in commands(page) if re.match(elsewhere, command)]
    return [[*words, *_made_small(words)] for words in listed]


def _made_small(words: list[str]) -> list[str]:
    if words[0] != "train":
        return []
    return SMALL_NET if words[1] == "depth-2-net" else SMALL


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in SITE if to_run(page)])
def test_a_page_s_commands_run_after_its_python(page, run_page):
    run_page(page)
    for words in to_run(page):
        assert main(words) == 0, words


@pytest.mark.parametrize("page", PAGES)
def test_other_code_is_of_a_kind_that_is_known(page):
    for language, content in blocks(page):
        assert language in LANGUAGES
        if language == "toml":
            assert tomllib.loads(content)["project"]["entry-points"]
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), flags=re.MULTILINE))
    for command in commands(page):
        program, *words = [word for word in shlex.split(command, comments=True) if "=" not in word.partition("-")[0]]
        assert program in {"make", "pip", "plateau", "python", "source"}
        if program == "make":
            assert words[0] in targets
        if program == "plateau":
            assert words[0] in VERBS


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_links_are_there(page):
    generated = re.compile(r"(tutorials/|reference/|examples/)[\w./-]+\.md$|assets/moving-window-sum\.png$")
    for target in re.findall(r"\]\(([^)#:]+)\)", (PROJECT / page).read_text()):
        file = (PROJECT / page).parent / target
        assert file.exists() or generated.search(file.as_posix()), target


def test_every_example_is_a_page(monkeypatch):
    monkeypatch.syspath_prepend(PROJECT / "docs" / "_generate")
    scripts, shown = importlib.import_module("scripts"), (PROJECT / "docs/examples/index.md").read_text()
    there = {file.stem for file in (PROJECT / "examples").glob("*.py")}
    notebooks = {"tour", "compose_hooks", "attention_views", "language_model", "matrix_completion", "smollm2"}
    assert set(scripts.SCRIPTS) == there - notebooks, "notebooks are tutorials"
    assert re.findall(r"\]\((\w+)\.md\)", shown) == list(scripts.SCRIPTS)
    page = scripts.pages()["your_own_task"]
    assert page.startswith("# your_own_task.py\n\nA task of your own, in one file")
    assert (PROJECT / "examples/your_own_task.py").read_text() in page


def test_pages_name_no_example_that_they_do_not_link():
    for page in SITE:
        assert not re.search(r"`examples/\w+\.py`", (PROJECT / page).read_text()), page


def test_the_layers_are_drawn_as_they_are_tested(monkeypatch):
    monkeypatch.syspath_prepend(PROJECT / "docs" / "_generate")
    layers = importlib.import_module("layers")
    drawn = re.findall(r">(\w+)</text></g>", layers.drawing())
    listed = [part for row in importlib.import_module("test_imports").LAYERS[::-1] for part in row]
    assert drawn == listed
    assert all(f"| `{part}` |" in layers.table() for part in listed)


def test_contributing_lists_the_layers_as_they_are_tested():
    (block,) = [content for language, content in blocks("CONTRIBUTING.md") if language == "text" and "runs" in content]
    listed = tuple(tuple(layer.split()) for layer in block.split("|"))
    assert listed == importlib.import_module("test_imports").LAYERS


@pytest.mark.parametrize("target", ["fuzz", "mutants"])
def test_contributing_tells_what_is_run_seldom(target):
    assert f"make {target}" in " ".join((PROJECT / "CONTRIBUTING.md").read_text().split())


def test_every_public_name_is_in_the_reference(monkeypatch):
    monkeypatch.syspath_prepend(PROJECT / "docs" / "_generate")
    public_names = importlib.import_module("public_names")
    pages = dict(public_names.pages())
    for module in public_names.shown():
        page = pages[f"reference/{module.name}.md"]
        for name in module.public:
            whole = public_names.origin(module, name)
            assert whole in public_names.modules() or whole in public_names.defined(), f"{module.name}.{name}"
            assert f"'{name}'" in page or f"`{name}`" in page
    shown = {module.name for module in public_names.shown()}
    assert {
        "plateau_interp",
        "plateau_interp.hooks.schedule",
        "plateau_interp.tasks",
        "plateau_interp.shapes",
    } <= shown


def test_the_changelog_and_the_citation_tell_the_version():
    version = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    assert f"\nversion: {version}\n" in (PROJECT / "CITATION.cff").read_text()
    headings = re.findall(r"^## (.+)$", (PROJECT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert headings[1].startswith(version)


def test_the_page_of_formats_tells_those_that_are_written_and_kept():
    page = (PROJECT / "docs" / "background" / "compatibility.md").read_text()
    told = " ".join(page.split())
    assert f'`"format": {RECIPE_FORMAT}` in `recipe.json`' in told
    assert f'`"format": {CHECKPOINT_FORMAT}` in each checkpoint' in told
    assert re.findall(r"^\| (\d+) \|", page, re.MULTILINE) == [str(n + 1) for n in range(CHECKPOINT_FORMAT)]
    assert f'`"format": {SERIES_FORMAT}` in a series' in told
    for number in range(1, SERIES_FORMAT + 1):
        assert f"tests/data/series-format-{number}" in page
        assert (PROJECT / "tests" / "data" / f"series-format-{number}" / "series" / "series.json").is_file()
    for number in range(1, CHECKPOINT_FORMAT + 1):
        assert f"tests/data/run-format-{number}" in page
        assert (PROJECT / "tests" / "data" / f"run-format-{number}" / "run" / "recipe.json").is_file()


def public_names(place: str) -> set[str] | None:
    """The `__all__` of a module, empty without one; None where there is no such module."""
    try:
        return set(getattr(importlib.import_module(place), "__all__", ()))
    except ModuleNotFoundError:
        return None


def is_public(whole: str) -> bool:
    module, _, name = whole.rpartition(".")
    return name in (public_names(module) or ())


def test_what_has_moved_is_where_the_changelog_says():
    rows = re.findall(r"^\| (`plateau_interp\..+) \| (.+) \|$", (PROJECT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert len(rows) > 40
    for before, now in rows:
        for place in re.findall(r"`(plateau_interp\.[\w.]+)`", before):
            in_root = place.count(".") == 1  # where functions are called as some modules were
            stays = public_names(place) or (is_public(place) and not in_root)
            assert not stays, f"{place} has not moved"
        for place, listed in re.findall(r"`(plateau_interp\.[\w.]+)`(?: \(([^)]+)\))?", now):
            names = re.findall(r"`(\w+)`", listed)
            assert is_public(place) or public_names(place), f"there is no {place}"
            assert set(names) <= (public_names(place) or set()), f"{place} lacks some of {names}"


def test_interventions_on_their_page_can_be_made():
    model = toy_model(MovingWindowSum(n=4), d_model=16)
    _, cache = model.run_with_cache(MovingWindowSum(n=4).sample(2, generator=torch.Generator().manual_seed(0)).inputs)
    names = {**vars(hooks), "Capture": Capture, "v": torch.ones(16), "cache": cache, "other_model": model}
    (table,) = re.findall(
        r"^\| intervention \|.*?\n\n", (PROJECT / INTERVENTIONS).read_text(), re.MULTILINE | re.DOTALL
    )
    rows = [row.split(" | ") for row in table.strip().splitlines()[2:]]
    assert {row[0].strip("| `") for row in rows} == {plugin("hooks", name).__name__ for name in plugins("hooks")}
    for row in rows:
        examples = re.findall(r"`([^`]+)`", row[-1])
        assert len(examples) == 2
        for code in examples:
            assert type(eval(code, names)).__name__ == row[0].strip("| `")
