"""plateau_interp.reproductions.side_by_side: a paper's runs on an engine, the same as one after the other."""

from importlib.metadata import EntryPoint

import pytest
import tiny_paper
from tiny_paper import BASE, LEFT, PAPER, SOLUTION, TAKEN, train_all

from plateau_interp.plugins import plugins
from plateau_interp.reproductions import side_by_side
from plateau_interp.reproductions.running import outcome, plan
from plateau_interp.reproductions.side_by_side import SettingJob, left_to_train, train_job, train_side_by_side
from plateau_interp.sweeps.engines import Here


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    """The paper, as if a package had it."""
    point = EntryPoint("tiny", f"{tiny_paper.__name__}:PAPER", "plateau_interp.experiments")
    monkeypatch.setitem(plugins("experiments"), "tiny", point)


def curves(runs):
    return {
        str(file.relative_to(runs)): file.read_text().splitlines() for file in sorted(runs.glob("*/*/metrics.jsonl"))
    }


@pytest.mark.slow
def test_what_comes_out_is_what_comes_out_one_after_the_other(tmp_path):
    todo = plan(PAPER.experiments)
    ended = list(train_side_by_side(PAPER, todo, tmp_path / "side", engine=Here()))
    assert [ending.how for _, _, ending in ended] == ["done"] * len(todo)
    train_all(tmp_path / "turn")
    assert curves(tmp_path / "side") == curves(tmp_path / "turn")
    assert left_to_train(todo, tmp_path / "side") == []


def test_what_others_take_from_is_trained_before_them(tmp_path):
    order = [
        (setting, seed)
        for setting, seed, _ in train_side_by_side(PAPER, plan(PAPER.experiments), tmp_path, engine=Here())
    ]
    assert order.index((SOLUTION, 9)) < order.index((TAKEN, 0))
    assert order.index((BASE, 0)) < order.index((LEFT, 0))


def test_a_run_that_fails_is_told_and_stops_no_other(tmp_path):
    (tmp_path / "biased" / "seed-0").mkdir(parents=True)
    (tmp_path / "biased" / "seed-0" / "mine.txt").touch()
    ended = list(train_side_by_side(PAPER, plan(PAPER.experiments), tmp_path, engine=Here()))
    [failed] = [ending for _, _, ending in ended if ending.how == "failed"]
    assert "is not empty and holds no run" in failed.reason
    assert sum(ending.how == "done" for _, _, ending in ended) == len(ended) - 1


def test_a_job_that_is_stopped_goes_on_where_it_was(tmp_path):
    job = SettingJob("tiny", "base", 0, str(tmp_path))
    assert train_job(job, lambda: True).how == "stopped"
    assert outcome(BASE, 0, tmp_path) is None
    assert train_job(job).how == "done"
    assert outcome(BASE, 0, tmp_path) is not None


@pytest.mark.parametrize(
    ("paper", "setting", "reason"),
    [
        ("tinny", "base", "no experiment is called 'tinny'"),
        ("tiny", "bass", "tiny has no setting 'bass' on"),
    ],
)
def test_what_a_worker_does_not_know_is_named(paper, setting, reason, tmp_path):
    ending = train_job(SettingJob(paper, setting, 0, str(tmp_path)))
    assert ending.how == "failed"
    assert reason in ending.reason


def test_nothing_to_train_opens_no_engine(tmp_path):
    assert list(side_by_side.train_side_by_side(PAPER, [], tmp_path, engine=Here())) == []
