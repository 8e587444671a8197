"""plateau_interp.reproductions.costs: what is done and left, and a pace that is timed once."""

from tiny_paper import PAPER

from plateau_interp.reproductions.costs import costs


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
