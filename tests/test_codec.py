"""What may stand where in a recipe: the annotation of a field says it, and every misfit is one short line."""

import datetime
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch

from plateau_interp.codec import RecipeError, decode, decode_fields, encode, encode_fields, in_words
from plateau_interp.hooks import BiasAttention, During, FreezeWeights
from plateau_interp.interventions.attached import Intervention
from plateau_interp.plugins import plugin, plugins
from plateau_interp.runs.recipe import Recipe
from plateau_interp.tasks import Histogram, MovingWindowSum
from plateau_interp.training.optimizers import SGD
from plateau_interp.training.settings import TrainingOptions
from plateau_interp.types import OptimizerSpec, Task


@dataclass(frozen=True)
class Part:
    size: int = 1


@dataclass(frozen=True)
class Whole:
    """A field of every kind."""

    count: int = 0
    rate: float = 0.0
    flag: bool = False
    text: str = ""
    maybe: int | None = None
    choice: Literal["one", "two"] = "one"
    numbers: tuple[float, ...] = ()
    pair: tuple[int, str] = (0, "")
    indices: Sequence[int] | None = None
    table: Mapping[str, int] = field(default_factory=dict)
    part: Part = Part()
    parts: tuple[Part, ...] = ()
    task: Task | None = None
    optimizer: OptimizerSpec | None = None
    acts: tuple[Intervention, ...] = ()
    source: str | torch.Tensor = ""
    condition: str | Callable[[int], bool] | None = None


FULL = Whole(
    1, 0.5, True, "x", 2, "two", (1.0, math.inf), (3, "y"), (0, 1), {"a": 1}, Part(2), (Part(3), Part(4)),
    Histogram(n=3), SGD(momentum=0.5), (), "runs/a", "loss < 1",
)  # fmt: skip


def test_keys_that_would_come_back_as_text_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"^table: the keys of a mapping must be text in a recipe; got 1$"):
        encode_fields(Whole(1, table={1: 2}), path="")  # type: ignore[dict-item]


def test_every_kind_of_field_is_written_and_read() -> None:
    data = json.loads(json.dumps(encode_fields(FULL), allow_nan=False))
    assert data["numbers"] == [1.0, "inf"]
    assert data["optimizer"] == {"name": "sgd", "learning_rate": 0.1, "momentum": 0.5}
    assert data["part"] == {"size": 2}
    assert decode_fields(Whole, data, path="") == FULL


@dataclass(frozen=True)
class Either:
    """Fields that hold lists, or mappings, of several kinds."""

    where: tuple[int, ...] | tuple[str, ...] = ()
    pair: tuple[int, int] | tuple[str, str, str] | None = None
    deep: tuple[tuple[int, ...], ...] | list[str] | str = ()
    table: Mapping[str, int] | Mapping[str, str] = field(default_factory=dict)


@pytest.mark.parametrize(
    "value",
    [
        Either(),
        Either((1, 2), (1, 2), ((1,), (2, 3)), {"a": 1}),
        Either(("a", "b"), ("a", "b", "c"), ["a", "b"], {"a": "b"}),
        Either(deep="x"),
    ],
)
def test_a_list_of_one_kind_or_another_is_written_and_read(value: Either) -> None:
    assert decode_fields(Either, json.loads(json.dumps(encode_fields(value))), path="") == value


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"where": ["a", 1]}, "where: expected a list of whole numbers or a list of texts; got ['a', 1]"),
        ({"where": [1.5]}, "where: expected a list of whole numbers or a list of texts; got [1.5]"),
        ({"pair": [1, 2, 3]}, "pair: expected a list of whole numbers or a list of texts or null; got [1, 2, 3]"),
        ({"table": {"a": 1.5}}, "table: expected fields and values; got {'a': 1.5}"),
    ],
)
def test_a_list_of_neither_kind_is_a_line_with_its_path(data: Any, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        decode_fields(Either, data, path="")
    assert str(caught.value) == message


def test_interventions_are_written_under_their_names_also_within_others() -> None:
    during = During(BiasAttention(factor=2.0), start=3)
    data = encode_fields(Whole(acts=(during, FreezeWeights("mlp"))))["acts"]
    assert [item["name"] for item in data] == ["during", "freeze-weights"]
    assert data[0]["intervention"]["name"] == "bias-attention"
    assert repr(decode("hooks", data[0])) == repr(during)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"count": {"name": "fix-attention"}}, "count: expected a whole number; got {'name': 'fix-attention'}"),
        ({"maybe": {"name": "fix-attention"}}, "maybe: expected a whole number or null; got {'name': 'fix-attention'}"),
        ({"part": {"name": "fix-attention"}}, "part.name: unknown field; there are size"),
        ({"count": True}, "count: expected a whole number; got True"),
        ({"count": 1.0}, "count: expected a whole number; got 1.0"),
        ({"rate": "much"}, "rate: expected a number; got 'much'"),
        ({"rate": 10**400}, "rate: expected a number; got a whole number of 401 digits"),
        ({"flag": 1}, "flag: expected true or false; got 1"),
        ({"text": 3}, "text: expected text; got 3"),
        ({"text": datetime.date(2026, 1, 2)}, "text: expected text; got datetime.date(2026, 1, 2)"),
        ({"text": b"abc"}, "text: expected text; got b'abc'"),
        ({"numbers": {1, 2}}, "numbers: expected a list of numbers; got {1, 2}"),
        ({"numbers": [1, None]}, "numbers[1]: expected a number; got None"),
        ({"indices": [0, "1"]}, "indices[1]: expected a whole number; got '1'"),
        ({"pair": [1]}, "pair: expected 2 values; got 1"),
        ({"choice": "three"}, "choice: expected one of 'one', 'two'; got 'three'"),
        ({"table": {"a": "b"}}, "table.a: expected a whole number; got 'b'"),
        ({"parts": [{"sise": 1}]}, "parts[0].sise: unknown field; the nearest is size"),
        ({"parts": 3}, "parts: expected a list of fields and values; got 3"),
        ({"task": {"name": "sgd"}}, "task.name: no task is called 'sgd'; "),
        ({"task": "copy"}, "task: expected a task as {'name': ...}; got 'copy'"),
        ({"optimizer": 5}, "optimizer: expected an optimizer as {'name': ...}; got 5"),
        ({"acts": [{"name": "sgd"}]}, "acts[0].name: no hook is called 'sgd'; "),
        ({"acts": [3]}, "acts[0]: expected an intervention as {'name': ...}; got 3"),
        ({"acts": {"name": "fix-attention"}}, "acts: expected a list of interventions; got {'name': 'fix-attention'}"),
        ({"source": {"name": "fix-attention"}}, "source: expected text; got {'name': 'fix-attention'}"),
        ({"condition": 1}, "condition: expected text or null; got 1"),
        ({1: 2}, "recipe: expected the names of fields; got 1"),
        ({None: 2}, "recipe: expected the names of fields; got None"),
        ({"part": {True: 2}}, "part: expected the names of fields; got True"),
        ({"a\nb": 2}, r"'a\nb': unknown field; "),
        ({"x" * 1000: 2}, "'xxxxxxxxxxxxxxxxxxxxxxxxxxx...xxxxxxxxxxxxxxxxxxxxxxxxxxxx': unknown field; "),
    ],
)
def test_a_value_of_the_wrong_kind_is_a_line_with_its_path(data: Any, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        decode_fields(Whole, data, path="")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


def test_what_is_no_plain_data_is_said() -> None:
    with pytest.raises(RecipeError, match=r"^source: a recipe holds plain data, not Tensor$"):
        encode_fields(Whole(source=torch.zeros(1)))
    with pytest.raises(RecipeError, match=r"^value: expected a task that is a dataclass; got 3$"):
        encode("tasks", 3)


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (tuple[float, ...] | None, "a list of numbers or null"),
        (tuple[Task, ...], "a list of tasks"),
        (Intervention, "an intervention"),
        (str | torch.Tensor, "text"),
        (Part, "fields and values"),
    ],
)
def test_annotations_in_words(annotation: Any, words: str) -> None:
    assert in_words(annotation) == words


class Unnamed(MovingWindowSum):
    """Inherits a name, and has none."""


class Impostor(MovingWindowSum):
    name: ClassVar[str] = "copy"


def test_a_class_without_a_name_of_its_own_is_not_written_as_what_it_inherits_from() -> None:
    with pytest.raises(RecipeError, match=rf"^task: {__name__}:Unnamed has no name of its own: give the class one"):
        Recipe(Unnamed()).to_dict()
    with pytest.raises(RecipeError, match=rf"^task: 'copy' is the name of .*:Copy; {__name__}:Impostor needs another"):
        Recipe(Impostor()).to_dict()


@pytest.mark.parametrize("kind", ["tasks", "hooks", "optimizers"])
def test_every_plugin_of_ours_is_registered_under_its_own_name(kind: Any) -> None:
    assert {name: vars(plugin(kind, name)).get("name") for name in plugins(kind)} == {n: n for n in plugins(kind)}


RECIPE = {"task": {"name": "copy"}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"seed": 1, "seed": 2}', "the field 'seed' is given twice"),
        ('{"task": {"name": "copy", "n": 1, "n": 1}}', "the field 'n' is given twice"),
        ('{"a": ' * 3000 + "1" + "}" * 3000, "recipe: nested too deeply"),
        ("[" * 100_000, "recipe: nested too deeply"),
        ('{"seed": ' + "9" * 5000 + "}", "a whole number of 5,000 digits is too large"),
        (json.dumps({**RECIPE, "seed": 10**300}), "seed must be from 0 to 2**63 - 1; got a whole number of 301"),
        (json.dumps({**RECIPE, "seed": {"name": "fix-attention"}}), "seed: expected a whole number; got {'name': "),
        (json.dumps({**RECIPE, "model": {"d_mlp": {"name": "fix-attention"}}}), "model.d_mlp: expected a whole number"),
    ],
)
def test_json_that_is_no_recipe_is_one_line(text: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.from_json(text)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_chain_of_forks_too_long_for_python_is_one_line() -> None:
    data: dict[str, Any] = Recipe(MovingWindowSum()).to_dict()
    del data["format"]
    for _ in range(1000):
        data = {**RECIPE, "fork_of": {"parent": data, "step": 1}}
    with pytest.raises(RecipeError, match=r"^recipe: nested too deeply$"):
        Recipe.from_dict(data)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)
)
"""A few hundred bytes that stand for a hundred million values."""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task: {name: copy}\n1: 2", "recipe: expected the names of fields; got 1"),
        ("task: {name: copy}\nnull: 2", "recipe: expected the names of fields; got None"),
        ("task: {name: copy}\ntrue: 2", "recipe: expected the names of fields; got True"),
        ("task: {name: copy, 3: 2}", "task: expected the names of fields; got 3"),
        ("task: {name: copy}\nseed: 2026-01-02", "seed: expected a whole number; got datetime.date(2026, 1, 2)"),
        ("task: {name: copy}\nseed: 2026-13-45", "not valid YAML: "),
        ("task: {name: copy}\nseed: !!binary aGFsbG8=", "seed: expected a whole number; got b'hallo'"),
        ("task: {name: copy}\nmeasuring: {cosine_at: !!set {a, b}}", "measuring.cosine_at: expected a list of texts"),
        ("task: {name: copy}\n? [a, b]\n: 2", "not valid YAML: "),
        ("seed: 1\nseed: 2", "the field 'seed' is given twice"),
        ("task: " + "[" * 3000 + "]" * 3000, "recipe: nested too deeply"),
        ("task: {name: copy}\nseed: &a [*a]", "seed: expected a whole number; got [[["),
        (f"{BOMB}task: {{name: copy, n: *h}}", "a: unknown field"),
        (f"task: {{name: copy, n: {{{BOMB.strip().replace(chr(10), ', ')}}}}}", "task.n: expected a whole number; got"),
        ("task: {name: copy}\nmeasuring:\n  cosine_at: &a [&b [x, x], *b]", "measuring.cosine_at[0]: expected text"),
        ("- 1\n- 2", "recipe: expected fields and values; got [1, 2]"),
        ("", "recipe: expected fields and values; got None"),
        ("\x00", "not valid YAML: "),
        ("a: [", "not valid YAML: "),
    ],
)
def test_yaml_that_is_no_recipe_is_one_short_line_at_once(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(text)
    begin = time.monotonic()
    with pytest.raises(RecipeError) as caught:
        Recipe.read(tmp_path / "r.yaml")
    assert str(caught.value).startswith(f"{tmp_path}/r.yaml: {message}")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert time.monotonic() - begin < 20


def test_yaml_may_share_parts(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(
        "task: {name: copy}\nmodel: &small {d_model: 16}\nfork_of:\n  step: 1\n"
        "  parent: {task: {name: copy}, model: {<<: *small, d_model: 32}}\n"
    )
    recipe = Recipe.read(tmp_path / "r.yaml")
    assert recipe.fork_of is not None
    assert (recipe.model.d_model, recipe.fork_of.parent.model.d_model) == (16, 32)


def test_bytes_that_are_no_text_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeError, match=r"r\.json: no UTF-8 text: invalid start byte at byte 0$"):
        Recipe.read(tmp_path / "r.json")


def test_no_clipping_is_written_so_that_it_reads_back() -> None:
    # Null is the task's default: recipes of tasks that do not clip have always said so.
    plain, unclipped = Recipe(MovingWindowSum()), Recipe(Histogram(), training=TrainingOptions(grad_clip=math.inf))
    assert (plain.training.grad_clip, plain.to_dict()["training"]["grad_clip"]) == (math.inf, None)
    assert (unclipped.training.grad_clip, unclipped.to_dict()["training"]["grad_clip"]) == (math.inf, "inf")
    for recipe in (plain, unclipped, Recipe(Histogram())):
        assert Recipe.from_json(recipe.to_json()) == recipe
        json.loads(recipe.to_json(), parse_constant=pytest.fail)
