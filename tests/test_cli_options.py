"""plateau_interp.cli.options: a recipe from the words of a command line."""

import dataclasses
import hashlib
import math
import re

import pytest
import torch

from plateau_interp.cli import options
from plateau_interp.cli.options import read_training
from plateau_interp.cli.parsing import UsageError
from plateau_interp.models.settings import ModelOptions
from plateau_interp.runs.recipe import Recipe
from plateau_interp.tasks import Copy, Histogram, Mixture, MovingWindowSum, OneHotArithmetic, Text
from plateau_interp.training.settings import TrainingOptions


def test_without_options_the_recipe_is_the_default_one():
    recipe, chosen = read_training("moving-window-sum", ["--out", "somewhere"])
    assert recipe == Recipe(MovingWindowSum())
    assert (str(chosen.out), chosen.device, chosen.json) == ("somewhere", "cpu", False)


def test_a_device_that_cannot_compute_is_refused_in_a_sentence(monkeypatch):
    words = ["--out", "somewhere", "--device"]
    assert read_training("moving-window-sum", [*words, "cpu"])[1].device == "cpu"
    with pytest.raises(ValueError, match=r"^device 'meta' cannot be used here: [^\n]+$"):
        read_training("moving-window-sum", [*words, "meta"])

    def fail(*_sizes, device):
        raise ImportError("Nothing drives it. If you know better, tell us.\nAt length.")

    monkeypatch.setattr(torch, "zeros", fail)
    with pytest.raises(ValueError, match=r"^device 'hpu' cannot be used here: Nothing drives it$"):
        read_training("moving-window-sum", [*words, "hpu"])


@pytest.mark.parametrize("words", [["--architecture", "post-norm"], ["--architecture=post-norm"]])
def test_the_kind_of_attention_follows_from_the_architecture(words):
    recipe, _ = read_training("moving-window-sum", [*words, "--out", "x"])
    assert recipe == Recipe(MovingWindowSum(), model=ModelOptions(architecture="post-norm"))
    assert recipe.model.attention == "softmax"
    with pytest.raises(ValueError, match="attention of a post-norm decoder must be softmax; got linear"):
        read_training("moving-window-sum", [*words, "--attention", "linear", "--out", "x"])


def test_layers_steps_and_clipping_are_those_of_the_tasks_in_a_mixture(tmp_path):
    words = ["--tasks", "histogram", "copy", "--out", "x"]
    recipe, _ = read_training("mixture", words)
    assert recipe == Recipe(Mixture((Histogram(), Copy())))
    assert (recipe.model.n_layers, recipe.steps, recipe.training.grad_clip) == (2, 5000, 1.0)
    shallow, _ = read_training("mixture", [*words, "--n-layers", "1", "--steps", "7"])
    assert (shallow.model.n_layers, shallow.steps, shallow.training.grad_clip) == (1, 7, 1.0)
    (tmp_path / "recipe.json").write_text(Recipe(Mixture()).to_json())
    from_file, _ = read_training(str(tmp_path / "recipe.json"), words)
    assert (from_file.model.n_layers, from_file.steps) == (1, 1000)  # what a recipe says stays


def test_what_a_file_leaves_open_is_that_of_the_task_that_is_trained(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("task: {name: one-hot-arithmetic, p: 7}\ntraining: {steps: 3}\n")
    words = ["--p", "5", "--train-fraction", "0.9", "--out", "x"]
    recipe, _ = read_training(str(file), words)
    assert recipe == Recipe(OneHotArithmetic(p=5, train_fraction=0.9), training=TrainingOptions(steps=3))
    assert (recipe.model.d_model, recipe.batch_size) == (10, len(recipe.task.train_set))
    assert read_training(str(file), [*words, "--batch-size", "4"])[0].batch_size == 4
    file.write_text("task: {name: mixture}\ntraining: {steps: 9, grad_clip: null}\n")
    mixed, _ = read_training(str(file), ["--tasks", "histogram", "copy", "--out", "x"])
    assert (mixed.model.n_layers, mixed.steps, mixed.training.grad_clip) == (2, 9, math.inf)  # as a run writes it


def test_the_kind_of_attention_follows_from_the_architecture_where_a_file_leaves_it_open(tmp_path):
    words = ["--architecture", "post-norm", "--out", "x"]
    file = tmp_path / "mine.yaml"
    file.write_text("task: {name: moving-window-sum}\nmodel: {d_model: 8}\n")
    options = ModelOptions(d_model=8, architecture="post-norm")
    assert read_training(str(file), words)[0] == Recipe(MovingWindowSum(), model=options)
    file.write_text("task: {name: moving-window-sum}\nmodel: {attention: linear}\n")
    with pytest.raises(ValueError, match="attention of a post-norm decoder must be softmax; got linear"):
        read_training(str(file), words)
    assert read_training(str(file), [*words, "--attention", "softmax"])[0].model.attention == "softmax"


def test_a_corpus_is_known_by_its_own_digest(tmp_path):
    file = tmp_path / "words.txt"
    file.write_text("one two three four five\n" * 40)
    words = ["--n", "8", "--out", "x"]
    recipe, _ = read_training("text", ["--corpus", str(file), *words])
    assert recipe.task.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert read_training("text", ["--corpus", "tiny-shakespeare", *words])[0].task == Text("tiny-shakespeare", n=8)
    (tmp_path / "recipe.json").write_text(recipe.to_json())
    assert read_training(str(tmp_path / "recipe.json"), words)[0].task == recipe.task
    with pytest.raises(
        ValueError, match="the SHA-256 of tiny-shakespeare is"
    ):  # what a recipe says of its corpus stays
        read_training(str(tmp_path / "recipe.json"), ["--corpus", "tiny-shakespeare", *words])


def test_every_field_of_a_recipe_has_an_option(capsys):
    with pytest.raises(SystemExit):
        read_training("moving-window-sum", ["--help"])
    told = set(re.findall(r"--([a-z][a-z-]*)", capsys.readouterr().out))
    recipe = Recipe(MovingWindowSum())
    parts = [recipe.task, recipe.model, recipe.training, recipe.training.schedule, recipe.measuring]
    fields = {item.name for part in parts for item in dataclasses.fields(part)} - {"schedule"}
    assert {name.replace("_", "-") for name in fields | {"checkpoint_every", "seed", "hook"}} <= told


@pytest.mark.parametrize("field", ["steps", "warm_up"])
def test_a_task_with_a_field_of_a_common_name_keeps_a_prefix(field, monkeypatch):
    Walk = dataclasses.make_dataclass(
        "Walk", [(field, int, 3)], bases=(MovingWindowSum,), namespace={"name": "walk", "__doc__": "x"}, frozen=True
    )
    monkeypatch.setattr(options, "plugin", lambda kind, name: Walk)
    flag = field.replace("_", "-")
    words = [f"--task.{flag}", "5", "--task.n", "8", f"--{flag}", "7", "--d-model", "16", "--out", "x"]
    recipe, _ = read_training("walk", words)
    assert recipe.task == Walk(n=8, **{field: 5})
    assert {"steps": recipe.steps, "warm_up": recipe.training.schedule.warm_up}[field] == 7


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("nonsense", "no task is called 'nonsense'; "),
        (
            "moving-window-summ",
            "no task is called 'moving-window-summ'; the nearest is moving-window-sum; see `plateau list tasks`",
        ),
        ("copy:m=4", "copy.m: unknown field; there are n, high, scored"),
        ("moving-window-sum:k=40", "moving-window-sum: k must be between 1 and n=16; got 40"),
    ],
)
@pytest.mark.parametrize("before", [["--tasks", "histogram"], ["--tasks"], ["--seed", "1", "--tasks"]])
def test_a_mistake_in_a_task_of_a_mixture_keeps_its_reason(before, word, message):
    with pytest.raises(UsageError, match=f"^--tasks: {re.escape(message)}"):
        read_training("mixture", [*before, word, "--out", "x"])


def test_other_mistakes_beside_tasks_are_told_as_ever():
    with pytest.raises(UsageError, match=r"^there is no option --stepss; the nearest is --steps; see"):
        read_training("mixture", ["--tasks", "histogram", "--out", "x", "--stepss", "3"])
