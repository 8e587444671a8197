import dataclasses
import hashlib
import re

import pytest
import torch

from plateau_interp.cli import options, parsing
from plateau_interp.cli.options import read_training
from plateau_interp.cli.parsing import UsageError
from plateau_interp.cli.words import read_plugin, write_plugin
from plateau_interp.hooks import BiasAttention, During, FixAttention, FreezeWeights, PatchAttention
from plateau_interp.runs.recipe import Recipe
from plateau_interp.tasks import Copy, Histogram, Mixture, MovingWindowSum, Text
from plateau_interp.training.optimizers import SGD, Adam


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
    ("kind", "word", "value"),
    [
        ("optimizers", "adam", Adam()),
        ("optimizers", "sgd:learning_rate=1e-3,momentum=0.9", SGD(learning_rate=1e-3, momentum=0.9)),
        ("optimizers", "sgd:learning-rate=1", SGD(learning_rate=1)),
        ("tasks", "moving-window-sum:n=8,high=null", MovingWindowSum(n=8)),
    ],
)
def test_words_are_read_as_plugins(kind, word, value):
    assert read_plugin(kind, word) == value


def test_values_are_lists_text_and_other_plugins():
    bias = read_plugin("hooks", "bias-attention:layers=[0,1],factor=2")
    assert (bias.layers, bias.factor) == ((0, 1), 2)
    assert read_plugin("hooks", "freeze-weights:where=attention map").where == "attention map"
    during = read_plugin("hooks", 'during:intervention={"name": "bias-attention", "factor": 3},start=5')
    assert isinstance(during.intervention, BiasAttention)
    assert (during.intervention.factor, during.start) == (3, 5)
    word = 'during:start=5,intervention="bias-attention:factor=3,layers=[0]"'
    assert repr(read_plugin("hooks", word)) == repr(During(BiasAttention(factor=3.0, layers=[0]), start=5))
    word = "during:intervention=fix-attention,stop=2"
    assert repr(read_plugin("hooks", word)) == repr(During(FixAttention(), stop=2))
    with pytest.raises(ValueError, match=r"^during\.intervention: expected an intervention as .*; got 5"):
        read_plugin("hooks", "during:intervention=5")
    for path in ('"runs/n=4,k=2@6"', "runs/n4,7@6", "[runs]@6"):
        patch = read_plugin("hooks", f"patch-attention:source={path},heads= [1]")
        assert (patch.source, patch.heads) == (path.strip('"'), (1,))


@pytest.mark.parametrize(
    ("listed", "names"),
    [
        ("[blocks.0.hook_resid_post]", ("blocks.0.hook_resid_post",)),
        ("[blocks.0.hook_mlp_out, blocks.1.hook_mlp_out]", ("blocks.0.hook_mlp_out", "blocks.1.hook_mlp_out")),
        ('["blocks.0.hook_mlp_out"]', ("blocks.0.hook_mlp_out",)),
    ],
)
@pytest.mark.parametrize("rest", ["", ",every=2"])
def test_names_within_a_list_need_no_quotes(listed, names, rest):
    capture = read_plugin("hooks", f"capture:out=runs/x,names={listed}{rest}")
    assert (capture.names, capture.out, capture.every) == (names, "runs/x", 2 if rest else 1)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("optimizers", SGD(momentum=0.5)),
        ("hooks", BiasAttention(factor=2.0, layers=[0])),
        ("hooks", During(FreezeWeights("mlp"), start=3)),
        ("hooks", PatchAttention(source="runs/n=4,k=2@6", heads=[0])),
    ],
)
def test_what_is_written_is_read_as_the_same(kind, value):
    word = write_plugin(kind, value)
    assert write_plugin(kind, read_plugin(kind, word)) == word
    assert repr(read_plugin(kind, word)) == repr(value)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("sgd:momentum", "'sgd:momentum': expected NAME or NAME:FIELD=VALUE,FIELD=VALUE,..."),
        ("sgd:momentun=1", "sgd.momentun: unknown field; the nearest is momentum"),
        ("sgd:momentum=much", "sgd.momentum: expected a number; got 'much'"),
        ("sgd:momentum=1,momentum=2", "'sgd:momentum=1,momentum=2': momentum is given twice"),
        ("sgd:learning_rate=-1", "sgd: learning_rate must be a positive number; got -1"),
        ("sgdd", "no optimizer is called 'sgdd'; the nearest is sgd; see `plateau list optimizers`"),
    ],
)
def test_words_that_do_not_fit(word, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        read_plugin("optimizers", word)


def test_mistakes_are_told_in_one_line(capsys):
    @dataclasses.dataclass
    class Words:
        """Some words."""

        size: int
        """How many of them there are, told at such length that the explanation takes more than a single line here."""

    for words, line in [
        ([], "--size INT is missing; see `words --help`"),
        (["--size", "much"], "--size: expected a whole number; got 'much'; see `words --help`"),
        (["--size", "1", "--sizes", "2"], "there is no option --sizes; the nearest is --size; see `words --help`"),
        (["--sizes", "2"], "there is no option --sizes; the nearest is --size; see `words --help`"),
        (["--size", "1", "more", "of it"], "nothing is expected where 'more of it' stands; see `words --help`"),
        (["--size"], "--size: a value is missing; see `words --help`"),
    ]:
        with pytest.raises(UsageError) as caught:
            parsing.parse(Words, words, prog="words")
        assert str(caught.value) == line
    assert capsys.readouterr() == ("", "")  # tyro draws no box beside it


def test_a_mistake_that_only_a_later_tyro_knows_is_told_in_its_words(monkeypatch, capsys):
    @dataclasses.dataclass
    class Words:
        size: int

    monkeypatch.setattr(parsing, "mistake_in_a_line", lambda mistake, known: None)
    with pytest.raises(SystemExit) as stop:
        parsing.parse(Words, [], prog="words")
    assert stop.value.code == 2
    assert "--size" in capsys.readouterr().err


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
