"""The distribution: what is on disk is packaged, and an installed wheel works without the checkout."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import textwrap
import tomllib
import venv
import zipfile
from importlib.metadata import EntryPoint
from pathlib import Path, PurePosixPath

import pytest

PROJECT = Path(__file__).parent.parent
SETTINGS = tomllib.loads((PROJECT / "pyproject.toml").read_text())
SETUPTOOLS = SETTINGS["tool"]["setuptools"]
MAPPED = SETUPTOOLS["package-dir"]
NOT_PACKAGED = {"__pycache__", ".mypy_cache"}

# One process builds for all tests of this file.
pytestmark = pytest.mark.xdist_group("packaging")


def run(*command: str | Path, cwd: Path) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def folder_of(package: str) -> Path:
    return PROJECT / MAPPED.get(package, package.replace(".", "/"))


def files_on_disk() -> set[str]:
    """Every file of every package, under the name it has when installed."""
    return {
        f"{package.replace('.', '/')}/{file.name}"
        for package in SETUPTOOLS["packages"]
        for file in folder_of(package).iterdir()
        if file.is_file()
    }


@pytest.fixture(scope="module")
def distributions(tmp_path_factory) -> Path:
    """Sdist, and the wheel built from that sdist, of a copy of the working tree."""
    copy = tmp_path_factory.mktemp("source") / "project"
    leave_out = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__")
    shutil.copytree(
        PROJECT,
        copy,
        symlinks=True,
        ignore=lambda folder, names: leave_out(folder, names) | ({"runs"} if Path(folder) == PROJECT else set()),
    )
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", copy / "dist", copy, cwd=copy.parent)
    return copy / "dist"


@pytest.fixture(scope="module")
def wheel(distributions) -> Path:
    (file,) = distributions.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A new environment that holds our wheel and, by a path file, borrows the other packages of this one."""
    home = tmp_path_factory.mktemp("installed")
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    install = ("--no-deps", "--no-index", "--disable-pip-version-check", wheel)
    run(sys.executable, "-m", "pip", "--python", python, "install", *install, cwd=home)
    (site_packages,) = home.glob("lib/python*/site-packages")
    # Path files of the borrowed folder are not read, so this environment's editable install stays out.
    (site_packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home


def test_the_package_list_is_the_folders_on_disk():
    found = set()
    for top, folder in {"plateau_interp": "plateau_interp", **MAPPED}.items():
        for file in (PROJECT / folder).rglob("__init__.py"):
            found.add(".".join((top, *file.parent.relative_to(PROJECT / folder).parts)))
    assert sorted(SETUPTOOLS["packages"]) == sorted(found)
    assert MAPPED == {"plateau_interp.hooks": "hooks", "plateau_interp.tasks": "tasks"}  # what a build goes by


@pytest.mark.parametrize(("package", "folder"), MAPPED.items())
def test_a_committed_link_shows_the_mapped_folder_to_type_checkers(package, folder):
    link = PROJECT / package.replace(".", "/")
    assert link.is_symlink()
    assert os.readlink(link) == f"../{folder}"
    if (PROJECT / ".git").exists():
        assert run("git", "ls-files", "--stage", link, cwd=PROJECT).startswith("120000 ")


def test_the_wheel_holds_every_file_once_and_no_other(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert len(names) == len(set(names))
    packaged = {name for name in names if ".dist-info/" not in name}
    assert packaged == files_on_disk()
    assert {PurePosixPath(name).parts[0] for name in packaged} == {"plateau_interp"}


def test_the_sdist_holds_the_sources_where_they_are_in_the_project(distributions):
    (file,) = distributions.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {
        f"{folder_of(package).relative_to(PROJECT).as_posix()}/{file.name}"
        for package in SETUPTOOLS["packages"]
        for file in folder_of(package).iterdir()
        if file.is_file()
    }
    assert wanted <= names
    assert {"README.md", "LICENSE", "pyproject.toml"} <= names


@pytest.mark.slow
def test_the_installed_wheel_imports_its_own_packages(installed):
    code = """
        import plateau_interp.hooks, plateau_interp.tasks, plateau_interp.cli.main, importlib.util
        print(plateau_interp.__file__, plateau_interp.hooks.__file__, plateau_interp.tasks.__file__)
        print(importlib.util.find_spec("hooks"), importlib.util.find_spec("tasks"))
        print(plateau_interp.tasks.MovingWindowSum(n=4).n_pos)
    """
    lines = run(installed / "bin" / "python", "-I", "-c", "if True:" + code, cwd=installed).splitlines()
    assert all(Path(file).is_relative_to(installed) for file in lines[0].split())
    assert lines[1] == "None None"
    assert lines[2] == "9"


def test_the_installed_command_answers(installed):
    assert "plateau train" in run(installed / "bin" / "plateau", "--help", cwd=installed)
    assert "moving-window-sum" in run(installed / "bin" / "plateau", "list", "tasks", cwd=installed)


def install_package(module: str, settings: str, installed: Path, where: Path) -> Path:
    """Install two files, a module and a pyproject.toml, as a package of its own; gives the command."""
    package = where / "package"
    package.mkdir()
    (name,) = tomllib.loads(settings)["tool"]["setuptools"]["py-modules"]
    (package / f"{name}.py").write_text(module)
    (package / "pyproject.toml").write_text(settings)
    install = ("--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check", package)
    run(sys.executable, "-m", "pip", "--python", installed / "bin" / "python", "install", *install, cwd=where)
    return installed / "bin" / "plateau"


def install_example(name: str, installed: Path, where: Path) -> Path:
    """Install an example with the pyproject.toml that it tells; gives the command."""
    example = (PROJECT / "examples" / name).read_text()
    settings = textwrap.dedent("    [project]" + example.split('"""')[1].partition("    [project]")[2])
    return install_package(example, settings, installed, where)


@pytest.mark.slow
def test_a_package_of_somebody_s_own_adds_its_task(installed, tmp_path):
    plateau = install_example("your_own_task.py", installed, tmp_path)
    rows = {row["name"]: row for row in json.loads(run(plateau, "list", "tasks", "--json", cwd=tmp_path))}
    assert rows["rotation"]["package"] == "rotation-task"
    assert rows["rotation"]["lengths"] == {"prompt": 17, "answer": 16}
    assert rows["copy"]["package"] == "plateau-interp"
    assert "from rotation-task" in run(plateau, "list", "tasks", cwd=tmp_path)

    sizes = "--n 4 --shift 1 --d-model 16 --steps 2 --batch-size 4 --n-sequences 2"
    run(plateau, "train", "rotation", *sizes.split(), "--out", "run", cwd=tmp_path)
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["task"] == {
        "name": "rotation",
        "n": 4,
        "shift": 1,
    }
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2
    assert (tmp_path / "run" / "report" / "index.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize("page", ["write-a-task", "write-a-hook"])
def test_the_package_that_a_page_shows_does_what_the_page_says(page, installed, tmp_path):
    text = (PROJECT / "docs" / "how-to" / f"{page}.md").read_text()
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    module = next(content for language, content in blocks if language == "python")
    (settings,) = [content for language, content in blocks if language == "toml"]
    plateau = install_package(module, settings, installed, tmp_path)
    sizes = ["--d-model", "16", "--steps", "2", "--batch-size", "4", "--n-sequences", "2"]
    commands = re.findall(r"^\$ plateau (.+)$", text, flags=re.MULTILINE)
    assert len(commands) == 2
    for words in map(shlex.split, commands):
        said = run(plateau, *words, *(sizes if words[0] == "train" else ()), cwd=tmp_path)
    package = tomllib.loads(settings)["project"]["name"]
    (recipe,) = (json.loads(file.read_text()) for file in tmp_path.glob("runs/*/recipe.json"))
    assert package.partition("-")[0] in (recipe["task"]["name"], *(hook["name"] for hook in recipe["interventions"]))
    assert "index.html" in said


@pytest.mark.slow
def test_a_package_of_somebody_s_own_adds_its_hooks(installed, tmp_path):
    """Alone and under schedules, killed, resumed and forked, from recipes that name them: the same bits."""
    plateau = install_example("your_own_hook.py", installed, tmp_path)
    rows = {row["name"]: row for row in json.loads(run(plateau, "list", "hooks", "--json", cwd=tmp_path))}
    assert rows["pull-home"]["package"] == rows["shrink-stream"]["package"] == "two-hooks"

    hooks = ("during:intervention=shrink-stream:factor=0.9,start=2", "when:intervention=pull-home:pull=4,since=loss<9")
    sizes = "--n 4 --d-model 16 --batch-size 4 --n-sequences 2 --checkpoint-every 3"
    train = (plateau, "train", "moving-window-sum", *sizes.split(), "--hook", *hooks, "shrink-stream:factor=0.8")
    run(*train, "--steps", "8", "--out", "whole", cwd=tmp_path)
    run(*train, "--steps", "5", "--out", "part", cwd=tmp_path)
    run(*train, "--steps", "8", "--out", "part", cwd=tmp_path)
    run(plateau, "fork", "whole", "--at", "4", "--out", "same", cwd=tmp_path)
    run(plateau, "fork", "whole", "--at", "4", "--hook", "pull-home", "--out", "other", cwd=tmp_path)

    def last(name: str) -> bytes:
        return (tmp_path / name / "checkpoints" / "8" / "model.safetensors").read_bytes()

    assert last("whole") == last("part") == last("same")
    assert last("whole") != last("other")
    recipe = json.loads((tmp_path / "other" / "recipe.json").read_text())
    assert recipe["interventions"] == [{"name": "pull-home", "pull": 0.1}]


@pytest.mark.slow
def test_a_package_of_somebody_s_own_adds_its_logger(installed, tmp_path):
    text = (PROJECT / "docs" / "how-to" / "log-elsewhere.md").read_text()
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    (settings,) = (content for language, content in blocks if language == "toml")
    _, module = (content for language, content in blocks if language == "python")
    plateau = install_package(module.partition("\n\nwith ")[0], settings, installed, tmp_path)
    rows = {row["name"]: row for row in json.loads(run(plateau, "list", "loggers", "--json", cwd=tmp_path))}
    assert (rows["lines"]["package"], rows["lines"]["summary"]) == (
        "lines-logger",
        "Append the loss to a file, a line a step.",
    )
    assert {"tensorboard", "wandb"} < set(rows)
    sizes = "--n 4 --d-model 16 --steps 3 --batch-size 4 --n-sequences 2"
    train = (plateau, "train", "moving-window-sum", *sizes.split(), "--log", "lines:file=mine.jsonl", "--out", "run")
    run(*train, cwd=tmp_path)
    logged = [json.loads(line) for line in (tmp_path / "mine.jsonl").read_text().splitlines()]
    there = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert logged == [{"step": row["step"], "loss": row["loss"]} for row in there]
    assert len(logged) == 3


@pytest.mark.parametrize("group", SETTINGS["project"]["entry-points"])
def test_entry_points_exist_and_are_called_as_they_call_themselves(group):
    for name, value in SETTINGS["project"]["entry-points"][group].items():
        plugin = EntryPoint(name, value, group).load()
        assert getattr(plugin, "name", name) == name


def test_every_dependency_is_pinned():
    def canonical(requirement: str) -> str:
        name = requirement
        for sign in "<>=;[ ":
            name = name.partition(sign)[0]
        return name.lower().replace("_", "-")

    lines = (PROJECT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(len(line.split("==")) == 2 and "+" not in line and "@" not in line for line in pins)
    extras = SETTINGS["project"]["optional-dependencies"].values()
    required = [*SETTINGS["project"]["dependencies"], *(requirement for extra in extras for requirement in extra)]
    assert {canonical(requirement) for requirement in required} <= {canonical(pin) for pin in pins}
    assert "torch==2.13.0" in pins
