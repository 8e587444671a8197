"""plateau_interp.sweeps.changes: what is changed, in which combinations, and at which places of a recipe."""

import pytest
from typecheck import unchecked

from plateau_interp.hooks import BiasAttention
from plateau_interp.runs.recipe import Recipe
from plateau_interp.sweeps.changes import Changes, changed, field_at

BASE = {"task": {"name": "moving-window-sum"}}
BIASED = {**BASE, "interventions": [{"name": "bias-attention", "factor": 2}]}


def change(base, values):
    return changed(base, values, filled=lambda data: Recipe.from_dict(data).to_dict())


def values(changes):
    return [each.values for each in changes.combinations()]


def test_a_grid_is_each_with_each_and_a_zip_is_side_by_side():
    changes = Changes(grid={"a": [1, 2], "b": [3, 4]})
    assert values(changes) == [{"a": 1, "b": 3}, {"a": 1, "b": 4}, {"a": 2, "b": 3}, {"a": 2, "b": 4}]
    assert values(Changes(zip={"a": [1, 2], "b": [3, 4]})) == [{"a": 1, "b": 3}, {"a": 2, "b": 4}]


def test_grid_zip_and_list_are_combined():
    changes = Changes(grid={"a": [1, 2]}, zip={"b": [3], "c": [4]}, list=[{}, {"d": 5}])
    assert values(changes) == [{"a": a, "b": 3, "c": 4, **single} for a in (1, 2) for single in ({}, {"d": 5})]


def test_nothing_changed_is_one_combination():
    assert values(Changes()) == [{}]


def test_plugins_become_plain_data_without_their_defaults():
    [change] = values(Changes(list=[{"interventions": [BiasAttention(factor=3.0)]}]))
    assert change == {"interventions": [{"name": "bias-attention", "factor": 3.0}]}


@pytest.mark.parametrize(("seeds", "expected"), [(None, (7,)), (3, (0, 1, 2)), ([5, 1], (5, 1))])
def test_seeds(seeds, expected):
    assert Changes(seeds=seeds).seed_numbers(7) == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"grid": {"a": 3}}, "grid: a: expected a list of values, such as .*; got 3"),
        ({"grid": {"a": "ab"}}, "grid: a: expected a list of values"),
        ({"grid": {"a": []}}, "grid: a: expected a list of values"),
        ({"grid": [1]}, "grid: expected fields and values"),
        ({"grid": {3: [1]}}, "grid: expected the paths of fields, such as task.k; got 3"),
        ({"zip": {"a": [1], "b": [1, 2]}}, "zip: the lists must be of one length; a has 1, b has 2"),
        ({"list": "ab"}, "list: expected a list of changes, or changes by name"),
        ({"list": [3]}, "list: expected fields and values, or {} for none; got 3"),
        ({"list": {"one": 3}}, "list: one: expected fields and values, or {} for none; got 3"),
        ({"grid": {"a": [1]}, "list": [{"a": 2}]}, "a stands in two of grid, zip and list"),
        ({"grid": {"a": [1]}, "zip": {"a": [2]}}, "a stands in two of grid, zip and list"),
        ({"seeds": 0}, "seeds must be at least 1; got 0"),
        ({"seeds": []}, "seeds: expected some, each once"),
        ({"seeds": [1, 1]}, "seeds: expected some, each once"),
        ({"seeds": "ab"}, "seeds must be a whole number"),
        ({"seeds": [-1]}, "seeds must be at least 0"),
    ],
)
def test_what_cannot_be_is_refused(fields, message):
    changes = Changes()
    for name, value in fields.items():
        object.__setattr__(changes, name, value)
    with pytest.raises(ValueError, match=message):
        unchecked(Changes.__post_init__)(changes)


def test_an_unknown_field_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="'gird': unknown field; the nearest is grid"):
        Changes.from_dict({"gird": {}})


def test_a_change_goes_to_its_place_and_leaves_the_base_alone():
    data = change(BIASED, {"interventions[0].factor": 3, "task.k": 4, "training.steps": 7})
    assert data["interventions"] == [{"name": "bias-attention", "factor": 3}]
    assert data["task"] == {"name": "moving-window-sum", "k": 4}
    assert data["training"] == {"steps": 7}, "the rest stays open"
    assert BIASED["interventions"][0]["factor"] == 2
    assert "k" not in BASE["task"]


def test_a_plugin_that_was_left_open_is_taken_whole():
    assert change(BASE, {"training.optimizer.beta1": 0.5})["training"]["optimizer"] == {
        "name": "adam",
        "learning_rate": 0.0001,
        "beta1": 0.5,
        "beta2": 0.999,
        "eps": 1e-08,
    }


def test_the_whole_comes_before_its_parts_whatever_the_order():
    data = change(BASE, {"task.n": 9, "task": {"name": "copy"}})
    assert data["task"] == {"name": "copy", "n": 9}


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("learning_rate", "learning_rate: unknown field; did you mean 'training.optimizer.learning_rate'"),
        ("training.optimzer", "the nearest is training.optimizer"),
        ("task.kk", "task.kk: unknown field; the nearest is task.k"),
        ("task.k.more", "unknown field"),
        ("interventions[1].factor", "the nearest is interventions"),
        ("seed", "seed: the seeds of a sweep are given as seeds"),
        ("fork_of.step", "a sweep trains from step 0"),
        ("format", "format"),
        (".", "unknown field"),
    ],
)
def test_a_path_that_leads_nowhere_is_answered_with_the_nearest(path, message):
    with pytest.raises(ValueError, match=message.replace("[", r"\[").replace("]", r"\]")):
        change(BIASED, {path: 1})


def test_what_stands_at_a_path():
    assert field_at(BIASED, "interventions[0].factor") == 2
    assert field_at(BIASED, "interventions.0.factor") == 2
    assert field_at(BIASED, "interventions[7].factor") is None
    assert field_at(BIASED, "task.name.more") is None


@pytest.mark.parametrize(
    "values", [{"task.k": 12, "task.n": 16}, {"task.n": 16, "task.k": 12}, {"model.d_model": 50, "model.n_heads": 5}]
)
def test_changes_may_be_possible_only_together(values):
    base = {"task": {"name": "moving-window-sum", "n": 8}, "model": {"d_model": 64, "n_heads": 4}}
    data = Recipe.from_dict(change(base, values)).to_dict()
    assert {path: field_at(data, path) for path in values} == values
