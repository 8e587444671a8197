"""plateau_interp.reproductions.same_runs: one run, whichever version wrote down what it is."""

import copy

import pytest
from tiny_paper import BASE, TAKEN

from plateau_interp.reproductions.same_runs import is_same_run


@pytest.mark.parametrize("setting", [BASE, TAKEN], ids=lambda setting: setting.name)
def test_a_field_that_came_later_has_its_default(setting):
    ours = setting.identity(0)
    older = copy.deepcopy(ours)
    del older["recipe"]["measuring"]
    assert is_same_run(older, ours)
    assert not is_same_run(setting.identity(1), ours)
    older["recipe"]["training"]["batch_size"] += 1
    assert not is_same_run(older, ours)


def test_what_is_taken_counts():
    ours = TAKEN.identity(0)
    other = copy.deepcopy(ours)
    other["taken"]["recipe"]["seed"] += 1
    assert not is_same_run(other, ours)


def test_arguments_of_a_study_count_where_both_say_theirs():
    ours = {**BASE.identity(0), "arguments": {"steps": [1]}}
    assert is_same_run(BASE.identity(0), ours)
    assert is_same_run({**BASE.identity(0), "arguments": {"steps": [1]}}, ours)
    assert not is_same_run({**BASE.identity(0), "arguments": {"steps": [2]}}, ours)


def test_what_is_no_identity_is_equal_to_its_own_copy_alone():
    assert is_same_run({"model": "a"}, {"model": "a"})
    assert not is_same_run({"model": "a"}, {"model": "b"})
    assert not is_same_run(None, BASE.identity(0))
