"""plateau_interp.sweeps.naming: names that can be read, that any file system takes, and that stay."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plateau_interp.sweeps.changes import Combination
from plateau_interp.sweeps.naming import check_name, name_of

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({}, "base"),
        ({"task.k": 3}, "k=3"),
        ({"training.optimizer.learning_rate": 1e-4}, "optimizer.learning_rate=0.0001"),
        ({"model.attention": "softmax", "model.n_layers": 2}, "attention=softmax,n_layers=2"),
        ({"model.d_mlp": None}, "d_mlp=none"),
        ({"task.n": 4, "model.n": 5}, "task.n=4,model.n=5"),
        (
            {"interventions": [{"name": "fix-attention"}, {"name": "mask-attention"}]},
            "interventions=fix-attention+mask-attention",
        ),
        ({"training.optimizer": {"name": "adamw"}}, "optimizer=adamw"),
    ],
)
def test_names_can_be_read(values, name):
    assert name_of(Combination(values)) == name


def test_what_is_no_single_word_is_marked():
    one = name_of(Combination({"interventions": [{"name": "bias-attention", "factor": 3}]}))
    other = name_of(Combination({"interventions": [{"name": "bias-attention", "factor": 4}]}))
    assert re.fullmatch(r"interventions=bias-attention-factor-3-[0-9a-f]{6}", one)
    assert one != other
    assert name_of(Combination({"a": "W_Q"})) != name_of(Combination({"a": "w_q"}))


def test_a_name_that_was_given_stands_for_what_it_names():
    assert name_of(Combination({"task.k": 3}, {"interventions": []}, "plain")) == "k=3,plain"


@settings(max_examples=40)
@given(st.dictionaries(st.sampled_from(["task.a", "model.b", "interventions"]), PLAIN, min_size=1))
def test_any_name_is_safe_and_not_too_long(values):
    name = name_of(Combination(values))
    assert re.fullmatch(r"[a-z0-9._+=,-]+", name)
    assert len(name) < 200
    assert not name.startswith((".", "-"))


@settings(max_examples=40)
@given(PLAIN, PLAIN)
def test_different_values_have_different_names(one, other):
    same = repr(one) == repr(other)
    assert same or name_of(Combination({"a": one})) != name_of(Combination({"a": other}))


def test_the_same_name_on_every_day():
    """Folders are found again by it."""
    assert name_of(Combination({"task.a": ["Ä", {"b": None}]})) == "a=b-none-50e517"


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a b", "end.", "x" * 200, 3, None])
def test_names_that_no_folder_should_have(name):
    with pytest.raises(ValueError, match="a name is a folder's"):
        check_name(name)
