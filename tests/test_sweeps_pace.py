"""plateau_interp.sweeps.pace: steps of a kind are timed once, and remembered by machine."""

import dataclasses
import json

import pytest
import torch
from tiny_paper import TRAINING, recipe

from plateau_interp.sweeps.pace import PACE, paces
from plateau_interp.training.optimizers import Adam


@pytest.mark.parametrize(
    ("changes", "n_timed"),
    [
        ({"training": dataclasses.replace(TRAINING, batch_size=8)}, 2),
        ({"training": dataclasses.replace(TRAINING, optimizer=Adam(learning_rate=1.0))}, 1),
    ],
)
def test_a_step_is_of_another_kind_if_it_costs_something_else(changes, n_timed, tmp_path, timed):
    recipes, watching = timed
    paces([recipe(), recipe(**changes)], tmp_path, watching=watching)
    assert len(recipes) == n_timed


@pytest.mark.parametrize("kept", ["", "[]", '{"a": 1}', '{"a": {"b": "c"}}', "\x00"])
def test_a_damaged_file_is_timed_anew(kept, tmp_path, timed):
    recipes, watching = timed
    (tmp_path / PACE).write_text(kept)
    paces([recipe()], tmp_path, watching=watching)
    paces([recipe()], tmp_path, watching=watching)
    assert len(recipes) == 1


def test_another_machine_is_timed_beside_this_one(tmp_path, timed, monkeypatch):
    recipes, watching = timed
    paces([recipe()], tmp_path, watching=watching)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    paces([recipe()], tmp_path, watching=watching)
    assert len(recipes) == 2
    kept = json.loads((tmp_path / PACE).read_text())
    assert [machine.count("77 threads") for machine in kept] == [0, 1]


def test_a_folder_that_cannot_be_written_keeps_nobody_from_being_told(tmp_path):
    (tmp_path / "file").write_text("")
    assert paces([recipe()], tmp_path / "file")[0] > 0


def test_what_was_timed_before_a_stop_is_kept(tmp_path, timed):
    recipes, watching = timed
    recipes_of_both = [recipe(), recipe(training=dataclasses.replace(TRAINING, batch_size=8))]

    def stopping(missing):
        yield missing[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        paces(recipes_of_both, tmp_path, watching=stopping)
    paces(recipes_of_both, tmp_path, watching=watching)
    assert [one.batch_size for one in recipes] == [8]


def test_each_recipe_has_the_pace_of_its_kind_in_its_place(tmp_path, timed):
    recipes, watching = timed
    small, large = recipe(), recipe(training=dataclasses.replace(TRAINING, batch_size=8))
    found = paces([small, large, dataclasses.replace(small, seed=5)], tmp_path, watching=watching)
    assert [one.batch_size for one in recipes] == [small.batch_size, large.batch_size]
    assert found[0] == found[2] > 0
    (kept,) = json.loads((tmp_path / PACE).read_text()).values()
    assert [*kept.values()] == found[:2]
