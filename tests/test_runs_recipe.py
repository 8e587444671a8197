import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from typecheck import unchecked

from plateau_interp.cli.main import main
from plateau_interp.codec import RecipeError, UnknownPluginError, encode
from plateau_interp.hooks import BiasAttention
from plateau_interp.models.settings import ModelOptions, ModelSettings
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.tasks import Mixture, MovingWindowProduct, MovingWindowSum
from plateau_interp.training.optimizers import SGD, Adam, AdamW
from plateau_interp.training.settings import MeasuringOptions, MeasuringSettings, TrainingOptions, TrainingSettings
from plateau_interp.types import Defaults

RECIPE = Recipe(
    MovingWindowSum(n=8, k=3, p=11),
    model=ModelOptions(attention="softmax", n_layers=2, n_heads=4, d_model=32, dtype="float64"),
    training=TrainingOptions(steps=50, batch_size=16, optimizer=AdamW(weight_decay=0.2), grad_clip=1.0),
    measuring=MeasuringOptions(every=5, n_sequences=8),
    checkpoint_every=10,
    seed=3,
)


def changed(**changes: Any) -> dict[str, Any]:
    return {**json.loads(Recipe(MovingWindowSum()).to_json()), **changes}


def test_json_and_back_is_the_same_recipe() -> None:
    assert Recipe.from_json(RECIPE.to_json()) == RECIPE
    assert Recipe.from_json(RECIPE.to_json()).to_json() == RECIPE.to_json()


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_files_of_both_kinds_are_read(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"r.{suffix}").write_text(RECIPE.to_json())  # JSON is YAML too
    assert Recipe.read(tmp_path / f"r.{suffix}") == RECIPE


def test_yaml_written_by_hand(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(
        "task: {name: moving-window-sum, k: 3}\ntraining: {optimizer: {name: sgd, learning_rate: 1e-2}}\n"
    )
    recipe = Recipe.read(tmp_path / "r.yaml")
    assert recipe.task == MovingWindowSum(k=3)
    assert recipe.optimizer == SGD(learning_rate=1e-2)


def test_the_tasks_defaults_are_filled_in() -> None:
    recipe = Recipe(MovingWindowSum())
    assert (recipe.steps, recipe.batch_size, recipe.optimizer) == (400, 256, Adam(learning_rate=1e-4))
    assert recipe.model.n_layers == 1


def test_the_model_is_the_recipes() -> None:
    model = RECIPE.build_model()
    assert (model.cfg.n_layers, model.cfg.n_heads, model.cfg.d_model) == (2, 4, 32)
    assert (model.attention, model.task, next(model.parameters()).dtype) == ("softmax", RECIPE.task, torch.float64)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (changed(tsak={}), r"^tsak: unknown field; the nearest is task$"),
        (changed(training={"setps": 3}), r"^training.setps: unknown field; the nearest is steps$"),
        ({"seed": 1}, r"^task: missing$"),
        (changed(seed="one"), r"^seed: expected a whole number; got 'one'$"),
        (changed(training={"steps": 2.5}), r"^training.steps: expected a whole number or null; got 2.5$"),
        (changed(model={"attention": "cubic"}), r"^model.attention: expected one of 'linear', 'softmax' or null; got "),
        (changed(training=[]), r"^training: expected fields and values; got \[\]$"),
        (changed(task={"n": 3}), r"^task.name: expected a name of `plateau list tasks`; got None$"),
        (changed(task={"name": "moving-window-sun"}), r"^task.name: no task .*the nearest is moving-window-sum"),
        (changed(task={"name": "moving-window-sum", "k": 99}), r"^task: k must be between 1 and n=16; got 99$"),
        (changed(interventions={}), r"^interventions: expected a list of interventions; got \{\}$"),
        (changed(interventions=[{"name": "nothing"}]), r"^interventions\[0\].name: no hook is called 'nothing'"),
        (changed(training={"optimizer": {"name": "adam", "learning_rate": 0}}), r"^training.optimizer: learning_rate"),
        (changed(format=2), r"^format: this version reads recipes of format 1; got 2$"),
        (changed(checkpoint_every=0), r"^checkpoint_every must be at least 1; got 0$"),
    ],
)  # fmt: skip
def test_a_bad_recipe_is_one_error_with_the_path(data: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe.from_dict(data)


def test_text_that_is_no_recipe_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"^not valid JSON: "):
        Recipe.from_json("{")
    with pytest.raises(RecipeError, match=r"^recipe: expected fields and values; got 3$"):
        Recipe.from_json("3")


@pytest.mark.parametrize(
    ("suffix", "text", "message"),
    [
        ("yaml", "{", "not valid YAML: "),
        ("yml", "task: {name: copy}\ntask: {name: copy}", r"the field 'task' is given twice$"),
        ("json", "{", "not valid JSON: "),
        ("json", "3", r"recipe: expected fields and values; got 3$"),
        ("json", '{"format": 9}', r"format: this version reads recipes of format 1; got 9$"),
        ("yaml", "task: {name: copy, n: many}", r"task\.n: expected a whole number; got 'many'$"),
        ("yaml", "task: {name: copy}\nmodel: {n_heads: 3}", r"model\.n_heads must divide d_model; "),
        ("yaml", "task: {name: copy}\nseed: -1", "seed must be "),
    ],
)
def test_what_is_wrong_in_a_file_names_it_before_the_field(
    tmp_path: Path, suffix: str, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / f"r.{suffix}"
    file.write_text(text)
    with pytest.raises(RecipeError, match=f"^{file}: {message}"):
        Recipe.read(file)
    assert main(["train", str(file), "--out", str(tmp_path / "out")]) == 2
    assert re.match(f"plateau: {file}: {message}", capsys.readouterr().err.strip())


def test_a_plugin_that_is_not_known_stays_that_with_the_file_named(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("task: {name: nobodys}")
    with pytest.raises(UnknownPluginError, match=f"^{tmp_path}/r.yaml: task.name: no task is called 'nobodys'"):
        Recipe.read(tmp_path / "r.yaml")


def test_what_is_not_plain_data_is_refused_with_its_path() -> None:
    @dataclass(frozen=True)
    class Holder:
        source: torch.Tensor

    with pytest.raises(RecipeError, match=r"^value.source: a recipe holds plain data, not Tensor$"):
        encode("tasks", Holder(torch.zeros(1)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": "x"}, r"model must be ModelOptions\(\); got 'x'"),
        ({"training": SGD()}, r"training must be TrainingOptions\(\); got SGD\("),
        ({"measuring": None}, r"measuring must be MeasuringOptions\(\); got None"),
        ({"interventions": BiasAttention()}, r"interventions must be a list, such as .*; got BiasAttention\("),
        ({"interventions": (BiasAttention,)}, r"expected interventions such as .*; got <class"),
        ({"fork_of": Recipe(MovingWindowSum())}, r"fork_of must be a Fork\(recipe, step\) or None; got Recipe\("),
        ({"seed": "x"}, "seed must be a whole number; got 'x'"),
        ({"seed": 2**63}, r"seed must be from 0 to 2\*\*63 - 1; got 9223372036854775808"),
    ],
)
def test_what_is_no_part_of_a_recipe_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=f"^{message}"):
        unchecked(Recipe.__init__)(object.__new__(Recipe), MovingWindowSum(), **fields)


def test_a_list_of_interventions_will_do() -> None:
    recipe, hooks = object.__new__(Recipe), [BiasAttention()]
    unchecked(Recipe.__init__)(recipe, MovingWindowSum(), interventions=hooks)
    assert recipe.interventions == tuple(hooks)


def test_tasks_inside_a_task_are_read_back() -> None:
    recipe = Recipe(Mixture(tasks=(MovingWindowSum(k=3), MovingWindowProduct())))
    assert Recipe.from_json(recipe.to_json()) == recipe


@dataclass(frozen=True)
class Particular(MovingWindowSum):
    """A task with defaults of its own for everything."""

    defaults: ClassVar[Defaults] = Defaults(
        steps=7, n_layers=2, batch_size=9, grad_clip=0.5, optimizer=SGD(momentum=0.5), attention="softmax",
        n_heads=4, d_model=32, measure_every=3,
    )  # fmt: skip


def test_a_task_may_have_a_model_an_optimiser_and_a_measuring_of_its_own() -> None:
    recipe = Recipe(Particular(n=4))
    assert recipe.model == ModelSettings(attention="softmax", n_layers=2, n_heads=4, d_model=32)
    assert recipe.training == TrainingSettings(steps=7, batch_size=9, optimizer=SGD(momentum=0.5), grad_clip=0.5)
    assert (recipe.measuring, recipe.measure_every) == (MeasuringSettings(every=3), 3)
    model = recipe.build_model()
    assert (model.attention, model.cfg.n_layers, model.cfg.n_heads, model.cfg.d_model) == ("softmax", 2, 4, 32)
    assert recipe.build_meter().every == 3


def test_what_is_given_goes_before_the_tasks_defaults() -> None:
    options = ModelOptions("linear", 1, 2, 16, 8, "float64", "decoder", init_std=0.1, mask_embedding="zero")
    training = TrainingOptions(steps=1, batch_size=2, optimizer=Adam(), grad_clip=0.1)
    recipe = Recipe(Particular(n=4), options, training, measuring=MeasuringOptions(every=5))
    assert vars(recipe.model) == vars(options)
    assert vars(recipe.training) == vars(training)
    assert recipe.measure_every == 5


def test_the_other_tasks_recipes_say_what_they_always_said() -> None:
    data = Recipe(MovingWindowSum()).to_dict()
    sizes = {"n_layers": 1, "n_heads": 1, "d_model": 256, "d_mlp": None}
    new = {"architecture": "decoder", "init_std": 0.02, "mask_embedding": "trained", "init": []}
    assert data["model"] == {"attention": "linear", **sizes, "dtype": "float32", **new}
    assert Recipe.from_dict({**data, "model": {"attention": "linear", **sizes, "dtype": "float32"}}).to_dict() == data
    assert data["training"]["optimizer"]["learning_rate"] == 1e-4
    assert data["measuring"]["every"] == 1


@pytest.mark.parametrize(("suffix", "text"), [("json", '{"task": {"name": "copy"}}'), ("yaml", "task: {name: copy}")])
def test_a_byte_order_mark_is_no_part_of_a_recipe(tmp_path: Path, suffix: str, text: str) -> None:
    file = tmp_path / f"recipe.{suffix}"
    file.write_text(f"\ufeff{text}", encoding="utf-8")
    assert Recipe.read(file).task.name == "copy"


@pytest.mark.parametrize(
    ("n_digits", "message"),
    [
        (401, r": training: steps must be a whole number below 2\*\*63; got a whole number of 401 digits$"),
        (5000, r": a whole number of 5,000 digits is too large for any field: 10{19}…$"),
    ],
)
@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_a_number_that_is_too_large_is_told_in_our_words(
    tmp_path: Path, suffix: str, n_digits: int, message: str
) -> None:
    file = tmp_path / f"recipe.{suffix}"
    file.write_text('{"task": {"name": "copy"}, "training": {"steps": ' + "1" + "0" * (n_digits - 1) + "}}")
    with pytest.raises(RecipeError, match=message):
        Recipe.read(file)


@pytest.mark.parametrize(
    ("written", "number"), [("010", "8"), ("0123", "83"), ("-0_17", "-15"), ("1:30", "90"), ("1:30.5", "90.5")]
)
def test_a_number_that_yaml_takes_for_another_is_refused(tmp_path: Path, written: str, number: str) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(f"task: {{name: copy}}\nseed: {written}\n")
    with pytest.raises(
        RecipeError, match=rf"recipe.yaml: {written} is {number} in YAML: write the number that is meant"
    ):
        Recipe.read(file)
    file.write_text("task: {name: copy}\nseed: 0\ntraining: {steps: 0x10, batch_size: 1_0, grad_clip: 0.5}\n")
    recipe = Recipe.read(file)
    assert (recipe.seed, recipe.steps, recipe.batch_size, recipe.training.grad_clip) == (0, 16, 10, 0.5)


@pytest.mark.parametrize("wrong", [5, None, ""])
def test_what_is_no_path_of_a_recipe_is_refused(wrong: Any) -> None:
    with pytest.raises(RecipeError, match=f"^expected the path of a recipe, such as 'recipe.yaml'; got {wrong!r}$"):
        unchecked(Recipe.read)(wrong)


@pytest.mark.parametrize(
    ("name", "reason"),
    [(".", "Is a directory"), ("none.yaml", "No such file or directory"), ("file/r.yaml", "Not a directory")],
)
def test_a_recipe_that_is_not_there_is_told(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "file").write_text("{}")
    path = tmp_path / name
    with pytest.raises(RecipeError, match=f"^{path}: {reason}; expected a recipe, a .json or .yaml file$"):
        Recipe.read(path)


def test_further_checkpoints_are_kept_and_are_part_of_the_recipe(tmp_path):
    recipe = Recipe(
        MovingWindowSum(n=4, p=5),
        ModelOptions(d_model=8),
        TrainingOptions(steps=9, batch_size=2),
        checkpoint_every=5,
        checkpoint_at=[2, 1, 2],
    )
    assert recipe.checkpoint_at == (1, 2)
    assert Recipe.from_json(recipe.to_json()) == recipe
    run = Run.create(tmp_path / "run", recipe)
    for step in run.train():
        if step.step == 3:
            break
    for _step in run.train():
        pass
    assert run.checkpoints == [0, 1, 2, 5, 9]
    plain = Run.create(tmp_path / "plain", replace(recipe, checkpoint_at=()))
    for _step in plain.train():
        pass
    assert list(plain.metrics["loss"]) == list(run.metrics["loss"])


@pytest.mark.parametrize("wrong", [[-1], [1.5], "ab"])
def test_further_checkpoints_that_cannot_be_are_refused(wrong):
    with pytest.raises(RecipeError, match="checkpoint_at must be"):
        unchecked(Recipe.__init__)(Recipe.__new__(Recipe), MovingWindowSum(), checkpoint_at=wrong)
