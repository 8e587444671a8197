"""plateau_interp.sweeps.plan: from a base and changes to recipes in named folders; sweeps as files."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import yaml
from small_sweeps import BASE, WINDOWS
from typecheck import unchecked

from plateau_interp.codec import RecipeError
from plateau_interp.hooks import FixAttention
from plateau_interp.runs.recipe import Fork, Recipe
from plateau_interp.sweeps.changes import Changes
from plateau_interp.sweeps.plan import planned, read_sweep
from plateau_interp.tasks import Histogram, MovingWindowSum
from plateau_interp.training.settings import TrainingOptions

NAMES = ["k=2/seed-0", "k=3/seed-0", "k=2/seed-1", "k=3/seed-1"]


def test_seeds_go_round_before_settings():
    assert [run.name for run in planned(BASE, {**WINDOWS, "seeds": 2}).runs] == NAMES


def test_a_run_has_the_recipe_that_its_name_says():
    run = planned(BASE, {**WINDOWS, "seeds": [4]}).runs[1]
    assert run.recipe == dataclasses.replace(Recipe.from_dict(BASE), task=MovingWindowSum(n=4, p=5, k=3), seed=4)
    assert (run.setting, run.seed, run.values) == ("k=3", 4, {"task.k": 3})


def test_the_seed_of_the_base_counts_where_there_are_none():
    assert [run.name for run in planned({**BASE, "seed": 5}, WINDOWS).runs] == ["k=2/seed-5", "k=3/seed-5"]


def test_a_base_is_a_recipe_data_a_file_or_a_task(tmp_path):
    (tmp_path / "base.json").write_text(json.dumps(BASE))
    bases = [Recipe.from_dict(BASE), BASE, tmp_path / "base.json", str(tmp_path / "base.json")]
    assert len({run.recipe.to_json() for base in bases for run in planned(base, WINDOWS).runs}) == 2
    assert planned("histogram", {}).base == Recipe(Histogram())


def test_what_the_base_leaves_open_follows_the_task():
    changes = {"list": [{"task": {"name": "histogram"}}]}
    [run] = planned({"task": {"name": "moving-window-sum"}}, changes).runs
    assert run.recipe == Recipe(Histogram())
    [whole] = planned(Recipe(MovingWindowSum()), changes).runs
    assert whole.recipe.steps == Recipe(MovingWindowSum()).steps, "what a recipe says stays"


def test_changes_may_hold_plugins():
    run = planned(Recipe.from_dict(BASE), Changes(list=[{"interventions": [FixAttention()]}])).runs[0]
    assert run.name == "interventions=fix-attention/seed-0"
    assert repr(run.recipe.interventions) == repr((FixAttention(),))


@pytest.mark.parametrize(
    ("base", "changes", "message"),
    [
        (BASE, {"grid": {"task.k": [2, "x"]}}, "k=x: task.k: expected a whole number; got 'x'"),
        (BASE, {"grid": {"task.k": [2, 2]}}, "two runs are called k=2/seed-0"),
        (BASE, {"list": {"a": {}, "A": {"task.k": 3}}}, "two runs are called a/seed-0"),
        (BASE, {"list": [{}, {"task.k": 2}]}, "base/seed-0 and k=2/seed-0 are one and the same recipe"),
        (BASE, {"list": {"a/b": {}}}, "a name is a folder's"),
        (BASE, {"gird": {}}, "the nearest is grid"),
        (BASE, [1], "changes: expected fields and values"),
        ("moving-window-sun", {}, "the nearest is moving-window-sum"),
        (3, {}, "base: expected a recipe, its file or the name of a task; got 3"),
        ("missing.yaml", {}, "missing.yaml: No such file"),
    ],
)
def test_what_cannot_be_is_refused(base, changes, message):
    with pytest.raises(ValueError, match=message):
        unchecked(planned)(base, changes)


def test_a_fork_is_no_base():
    recipe = Recipe(MovingWindowSum(), training=TrainingOptions(steps=9))
    with pytest.raises(ValueError, match="this is the recipe of a fork"):
        planned(dataclasses.replace(recipe, fork_of=Fork(recipe, 3)), {})


@pytest.mark.parametrize("write", [json.dumps, yaml.safe_dump])
def test_a_sweep_is_read_from_a_file(write, tmp_path):
    file = tmp_path / ("sweep.json" if write is json.dumps else "sweep.yaml")
    file.write_text(write({"base": BASE, **WINDOWS, "seeds": 2}))
    assert [run.name for run in read_sweep(file).runs] == NAMES


def test_the_base_of_a_file_is_found_from_its_folder(tmp_path):
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(BASE))
    (tmp_path / "sweep.yaml").write_text("base: base.yaml\ngrid:\n  training.optimizer.learning_rate: [1e-4, 1e-3]\n")
    assert [run.recipe.optimizer.learning_rate for run in read_sweep(tmp_path / "sweep.yaml").runs] == [1e-4, 1e-3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "grid: {task.k: [2]}",
            "sweep.yaml: base: missing; it has the fields of a recipe, or is the name of a task; got grid$",
        ),
        ("base: copy\ncheckpoint_every: 5", "'checkpoint_every': a field of the recipe: it stands under base$"),
        ("base: {source: m}\nfirst: 5", "'first': a field of the recipe: it stands under base$"),
        ("{}", "sweep.yaml: base: missing; it has the fields of a recipe, or is the name of a task$"),
        ("bsae: copy", "sweep.yaml: base: missing; .*; got bsae$"),
        ("base: copy\ngird: {}", "'gird': unknown field; the nearest is grid$"),
        ("base: copy\nzzz: 1", "'zzz': unknown field; there are base, grid, zip, list and 1 more$"),
        ("base: copy\nbase: copy", "sweep.yaml: the field 'base' is given twice"),
        (
            "base: copy\nlist:\n  plain:",
            r"sweep.yaml: list: plain: expected fields and values, or \{\} for none; got None",
        ),
        ("base: copy\ngrid: {task.nn: [2]}", "sweep.yaml: nn=2: task.nn: unknown field; the nearest is task.n"),
        ("[1]", r"sweep.yaml: sweep: expected fields and values; got \[1\]"),
        ("", "sweep.yaml: sweep: expected fields and values; got None"),
        (
            "base: {source: m, task: {name: copy}}",
            "sweep.yaml: base: has a source and a task: a series has a source, a",
        ),
        ("base: {task: {name: copy}, model: {d_modl: 8}}", "sweep.yaml: base.model.d_modl: unknown field; the nearest"),
        ("base: {source: m, frist: 5}", "sweep.yaml: base.frist: unknown field; the nearest"),
        ("base: {task: {name: copi}}", "sweep.yaml: base.task.name: "),
        ("{", r"^\S*sweep.yaml: not valid YAML: while parsing a flow node .* in line 1, column 2"),
    ],
)
def test_a_file_that_is_no_sweep_is_named(text, message, tmp_path):
    file = tmp_path / "sweep.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_sweep(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid YAML: "),
        ("task: {name: copy, n: many}", "task.n: expected a whole number; got 'many'"),
        ("task: {name: copy}\nfork_of: {step: 1, parent: {task: {name: copy}}}", "base: a sweep trains from step 0"),
        ("source: m\nfirst: 0", "first must be at least 1; got 0"),
    ],
)
def test_a_base_that_cannot_be_is_named_after_the_sweep(text, message, tmp_path):
    """Fields of the sweep are not taken for the base's."""
    base, sweep = tmp_path / "base.yaml", tmp_path / "sweep.yaml"
    base.write_text(text)
    sweep.write_text("base: base.yaml\ngrid: {task.k: [2]}")
    with pytest.raises(RecipeError, match=f"^{sweep}: {base}: {message}"):
        read_sweep(sweep)
    for given in (base, str(base)):
        with pytest.raises(RecipeError, match=f"^{base}: {message}"):
            planned(given, {})


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none.yaml: No such file or directory; expected a sweep"):
        read_sweep(tmp_path / "none.yaml")


PROJECT = Path(__file__).parent.parent


def test_the_example_and_the_page_are_one_sweep(tmp_path):
    page = (PROJECT / "docs" / "how-to" / "sweep.md").read_text()
    [text] = re.findall(r"^```yaml\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "sweep.yaml").write_text(text)
    plan = read_sweep(PROJECT / "examples" / "windows.yaml")
    on_the_page = read_sweep(tmp_path / "sweep.yaml")
    assert [run.name for run in plan.runs] == [run.name for run in on_the_page.runs]
    assert [run.recipe.to_json() for run in plan.runs] == [run.recipe.to_json() for run in on_the_page.runs]
    assert len(plan.runs) == 30
