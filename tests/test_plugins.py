import re
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint

import pytest

from plateau_interp.cli.main import main
from plateau_interp.codec import RecipeError
from plateau_interp.interventions.attached import Intervention
from plateau_interp.models.settings import ModelOptions
from plateau_interp.plugins import PluginError, plugin, plugin_kind, plugin_name, plugins, register
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.training.optimizers import Adam
from plateau_interp.training.settings import TrainingOptions
from plateau_interp.types import OptimizerSpec, Task


class Walk(MovingWindowSum):
    name = "walk"


class Stroll(Walk):
    """Has no name of its own."""


def test_plugins_are_found_by_name():
    assert "moving-window-sum" in plugins("tasks")
    assert plugin("tasks", "moving-window-sum") is MovingWindowSum
    assert plugin("optimizers", "adam") is Adam


def test_names_come_sorted():
    assert list(plugins("optimizers")) == sorted(plugins("optimizers"))
    before = dict(plugins("optimizers"))
    register("optimizers", Adam, name="a-first")
    try:
        assert list(plugins("optimizers")) == sorted({*before, "a-first"})
    finally:
        plugins("optimizers").clear()
        plugins("optimizers").update(before)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "moving-window-summ",
            "no task is called 'moving-window-summ'; the nearest is moving-window-sum; see `plateau list tasks`",
        ),
        (
            "zzz",
            "no task is called 'zzz'; there are concatenated-windows, copy, depth-2-net, histogram and 15 more; "
            "see `plateau list tasks`",
        ),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name, message):
    with pytest.raises(PluginError, match=f"^{re.escape(message)}$"):
        plugin("tasks", name)


@pytest.mark.usefixtures("_registry")
def test_a_class_of_a_script_can_be_registered():
    with pytest.raises(RecipeError, match=r"task\.name"):
        Recipe.from_json(Recipe(Walk()).to_json())
    register("tasks", Walk)
    assert plugin("tasks", "walk") is Walk
    assert Recipe.from_json(Recipe(Walk(n=4)).to_json()).task == Walk(n=4)
    register("tasks", Walk)  # the cell of a notebook runs twice
    register("tasks", Walk, name="stroll")
    assert plugin("tasks", "stroll") is Walk


@pytest.mark.usefixtures("_registry")
def test_a_name_that_is_taken_is_refused():
    before = plugins("tasks")["copy"]
    message = f"'copy' is the name of {before.value}; {__name__}:Walk needs another"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        register("tasks", Walk, name="copy")
    assert plugins("tasks")["copy"] is before


@pytest.mark.usefixtures("_registry")
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("nowhere_to_be_found:Task", "No module named 'nowhere_to_be_found'"),
        ("plateau_interp.tasks:Nothing", "module 'plateau_interp.tasks' has no attribute 'Nothing'"),
    ],
)
def test_a_plugin_whose_module_is_missing_is_named_with_it(value, reason, capsys):
    plugins("tasks")["lost"] = EntryPoint("lost", value, "plateau_interp.tasks")
    line = f"'lost' cannot be loaded from {value}: {reason}"
    with pytest.raises(PluginError, match=f"^{re.escape(line)}$"):
        plugin("tasks", "lost")
    assert main(["train", "lost", "--out", "x"]) == 2
    assert capsys.readouterr().err == f"plateau: {line}\n"
    with pytest.raises(RecipeError, match=f"^{re.escape(f'task.name: {line}')}$"):
        Recipe.from_dict({"task": {"name": "lost"}})


class Plain:
    """No dataclass."""


THREE = 3


@pytest.fixture
def _lost(tmp_path, monkeypatch):
    """Plug-ins of all kinds called ``lost`` can be had, and modules that fail as they are imported."""
    before = {kind: dict(plugins(kind)) for kind in KINDS}
    failing = {
        "syntax": "def (:",
        "boom": "raise RuntimeError('boom')",
        "zero": "1 / 0",
        "leaving": "raise SystemExit(3)",
    }
    for name, code in failing.items():
        (tmp_path / f"failing_{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for kind, there in before.items():
        plugins(kind).clear()
        plugins(kind).update(there)


KINDS = {
    "tasks": ["train", "lost"],
    "hooks": ["train", "copy", "--hook", "lost"],
    "optimizers": ["train", "copy", "--optimizer", "lost"],
    "loggers": ["train", "copy", "--log", "lost"],
    "experiments": ["reproduce", "lost", "--list"],
}


@pytest.mark.usefixtures("_lost")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("nowhere_to_be_found:Lost", "No module named 'nowhere_to_be_found'"),
        ("failing_syntax:Lost", "SyntaxError: invalid syntax (failing_syntax.py, line 1)"),
        ("failing_boom:Lost", "RuntimeError: boom"),
        ("failing_zero:Lost", "ZeroDivisionError: division by zero"),
        ("failing_leaving:Lost", "SystemExit: 3"),
        (f"{__name__}:THREE", "3 is no dataclass"),
        (f"{__name__}:Plain", f"<class '{__name__}.Plain'> is no dataclass"),
        (__name__, "<module "),
    ],
)
def test_a_plugin_that_cannot_be_had_is_one_line_whatever_is_wrong_with_it(kind, value, reason, capsys, tmp_path):
    plugins(kind)["lost"] = EntryPoint("lost", value, f"plateau_interp.{kind}")
    out = [] if kind == "experiments" else ["--out", str(tmp_path / "out")]
    assert main([*KINDS[kind], *out]) == 2
    told = capsys.readouterr().err
    assert told.startswith("plateau: ")
    assert told.count("\n") == 1
    if kind == "experiments" and value.startswith(__name__):
        assert "'lost' leads to " in told
        assert "which is no Paper" in told
    else:
        assert f"'lost' cannot be loaded from {value}: {reason}" in told
    assert not (tmp_path / "out").exists()
    assert main(["list", kind]) == 0
    assert "lost" in capsys.readouterr().out


@dataclass(frozen=True)
class Unsized(MovingWindowSum):
    name = "unsized"
    size: int = field(kw_only=True)


@pytest.mark.usefixtures("_registry")
def test_a_task_without_a_default_is_told_as_a_recipe_would_tell_it(capsys):
    register("tasks", Unsized)
    assert main(["train", "unsized", "--out", "x"]) == 2
    assert capsys.readouterr().err == "plateau: unsized.size: missing\n"


@pytest.mark.usefixtures("_registry")
def test_a_class_is_called_by_its_own_name_or_that_of_its_entry_point():
    assert plugin_name("tasks", Walk) == "walk"
    with pytest.raises(
        PluginError, match=r"Stroll has no name of its own: give the class one, as in `name = \"\.\.\.\"`$"
    ):
        plugin_name("tasks", Stroll)
    register("tasks", Stroll, name="stroll")
    assert plugin_name("tasks", Stroll) == "stroll"


def test_a_protocol_stands_for_its_plugins():
    annotations = (Task, Intervention, OptimizerSpec, int, MovingWindowSum, Task | None)
    assert [plugin_kind(annotation) for annotation in annotations] == ["tasks", "hooks", "optimizers", None, None, None]


@pytest.mark.usefixtures("_registry")
def test_a_run_of_a_task_that_only_a_script_knew_says_how_to_make_it_known(tmp_path, capsys):
    register("tasks", Walk)
    training = TrainingOptions(steps=1, batch_size=2)
    Run.create(tmp_path / "run", Recipe(Walk(n=4, p=7), model=ModelOptions(d_model=8), training=training))
    del plugins("tasks")["walk"]  # as in another process
    assert main(["report", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"plateau: {tmp_path / 'run' / 'recipe.json'}: task.name: no task is called 'walk'; ")
    assert "registered is known in that process alone: call `plateau_interp.plugins.register` in this one, too" in line
    assert "install it as a package with an entry point" in line


@pytest.mark.usefixtures("_registry")
def test_a_class_without_a_name_is_not_registered():
    class Nameless(MovingWindowSum):
        pass

    with pytest.raises(PluginError, match=r"Nameless has no name of its own: give the class one"):
        register("tasks", Nameless)


@pytest.mark.usefixtures("_registry")
def test_a_class_that_cannot_be_found_again_is_not_registered():
    class Local(Walk):
        name = "local"

    message = (
        f"{__name__}:test_a_class_that_cannot_be_found_again_is_not_registered.<locals>.Local cannot be found again by "
        "that name: define the class at the top level of a module"
    )
    for _ in range(2):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            register("tasks", Local)
    assert "local" not in plugins("tasks")


def test_a_task_that_is_no_dataclass_is_in_no_recipe():
    class Plain(Task):
        name = "plain"
        d_vocab, n_pos, answer = 8, 9, slice(5, 9)

        def sample(self, n, *, generator):
            return MovingWindowSum(n=4, p=7).sample(n, generator=generator)

    with pytest.raises(RecipeError, match=r"^task: expected a task that is a dataclass; got "):
        Recipe(Plain()).to_json()
