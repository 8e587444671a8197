"""plateau_interp.reproductions.costs: what is done and left, and a pace that is timed once."""

import dataclasses
import json

import pytest
import torch
from tiny_paper import BASE, FIRST, PAPER, TRAINING, recipe, train_all

from plateau_interp.reproductions.costs import costs
from plateau_interp.training.optimizers import Adam


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return train_all(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def timed():
    """What was timed, and how to watch it."""
    recipes = []

    def watching(missing):
        for one in missing:
            recipes.append(one)
            yield one

    return recipes, watching


def test_costs_say_what_is_done_and_what_is_left(runs, tmp_path):
    done, half = costs(PAPER.experiments, runs), costs(PAPER.experiments, tmp_path)
    assert [(cost["runs"], cost["done"]) for cost in done] == [(4, 4), (4, 4)]
    assert [cost["seconds"] for cost in done] == [0, 0]
    assert all(cost["seconds"] > 0 and cost["done"] == 0 for cost in half)


def test_what_was_run_is_not_timed(runs, timed):
    recipes, watching = timed
    costs(PAPER.experiments, runs, watching=watching)
    assert recipes == []
    assert not (runs / ".pace.json").exists()


def test_each_kind_of_step_is_timed_once_and_remembered(tmp_path, timed):
    recipes, watching = timed
    first = costs(PAPER.experiments, tmp_path, watching=watching)
    assert len(recipes) == 1, "all settings are of one size"
    assert costs(PAPER.experiments, tmp_path, watching=watching) == first
    assert len(recipes) == 1


@pytest.mark.parametrize(
    ("changes", "n_timed"),
    [
        ({"training": dataclasses.replace(TRAINING, batch_size=8)}, 2),
        ({"training": dataclasses.replace(TRAINING, optimizer=Adam(learning_rate=1.0))}, 1),
    ],
)
def test_a_step_is_of_another_kind_if_it_costs_something_else(changes, n_timed, tmp_path, timed):
    recipes, watching = timed
    other = dataclasses.replace(BASE, name="other", recipe=recipe(**changes))
    experiment = dataclasses.replace(FIRST, settings=(BASE, other), key=(FIRST.key[0], BASE))
    costs([experiment], tmp_path, watching=watching)
    assert len(recipes) == n_timed


@pytest.mark.parametrize("kept", ["", "[]", '{"a": 1}', '{"a": {"b": "c"}}', "\x00"])
def test_a_damaged_file_is_timed_anew(kept, tmp_path, timed):
    recipes, watching = timed
    (tmp_path / ".pace.json").write_text(kept)
    costs([FIRST], tmp_path, watching=watching)
    costs([FIRST], tmp_path, watching=watching)
    assert len(recipes) == 1


def test_another_machine_is_timed_beside_this_one(tmp_path, timed, monkeypatch):
    recipes, watching = timed
    costs([FIRST], tmp_path, watching=watching)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    costs([FIRST], tmp_path, watching=watching)
    assert len(recipes) == 2
    kept = json.loads((tmp_path / ".pace.json").read_text())
    assert [machine.count("77 threads") for machine in kept] == [0, 1]


def test_a_folder_that_cannot_be_written_keeps_nobody_from_being_told(tmp_path):
    (tmp_path / "file").write_text("")
    assert costs([FIRST], tmp_path / "file")[0]["seconds"] > 0


def test_what_was_timed_before_a_stop_is_kept(tmp_path, timed):
    recipes, watching = timed
    other = dataclasses.replace(BASE, name="other", recipe=recipe(training=dataclasses.replace(TRAINING, batch_size=8)))
    experiment = dataclasses.replace(FIRST, settings=(BASE, other), key=(FIRST.key[0], BASE))

    def stopping(missing):
        yield missing[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        costs([experiment], tmp_path, watching=stopping)
    costs([experiment], tmp_path, watching=watching)
    assert [one.batch_size for one in recipes] == [8]
