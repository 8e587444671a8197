"""plateau_interp.reproductions.storage: what is kept of runs, beside what was kept before."""

import dataclasses

import pandas as pd
import pytest
from tiny_paper import BASE, BIASED, FIRST, LEFT, PAPER, TAKEN, TRAINING, page_of_statements, paper_of, recipe

from plateau_interp.reproductions.results import publish
from plateau_interp.reproductions.running import train_setting
from plateau_interp.reproductions.storage import stored

pytestmark = pytest.mark.usefixtures("blank_pictures")


def test_other_seeds_stay_and_the_same_seed_is_replaced(runs, tmp_path):
    publish(PAPER, runs, tmp_path)
    before = (tmp_path / "results" / "tiny" / "base.parquet").read_bytes()
    publish(PAPER, tmp_path / "none", tmp_path)
    assert (tmp_path / "results" / "tiny" / "base.parquet").read_bytes() == before
    other = tmp_path / "other"
    train_setting(BASE, 2, other)
    train_setting(BASE, 0, other)
    publish(PAPER, other, tmp_path)
    assert [one.seed for one in stored(PAPER, tmp_path).outcomes["base"]] == [0, 1, 2]


def test_results_are_whole_after_a_kill_between_their_two_files(runs, tmp_path):
    publish(PAPER, runs, tmp_path)
    file = tmp_path / "results" / "tiny" / "base.json"
    about = file.read_text()
    file.unlink()
    assert [one.seed for one in stored(PAPER, tmp_path).outcomes["base"]] == [0, 1]
    publish(PAPER, runs, tmp_path)
    assert file.read_text() == about


def test_results_of_another_recipe_under_the_same_name_do_not_count_and_are_told(runs, tmp_path):
    publish(PAPER, runs, tmp_path)
    changed = dataclasses.replace(BASE, recipe=recipe(training=dataclasses.replace(TRAINING, batch_size=8)))
    paper = paper_of(dataclasses.replace(FIRST, settings=(changed, BIASED)))
    assert stored(paper, tmp_path).outcomes["base"] == []
    assert stored(paper, tmp_path).others == ["base"]
    text = publish(paper, tmp_path / "none", tmp_path).read_text()
    assert "Stored curves of 1 settings do not count: they are of other recipes than now." in text
    assert "of another recipe than the setting has now: `base`." in page_of_statements(tmp_path)


def test_seeds_that_ended_before_they_may_now_do_not_count_and_are_told(runs, tmp_path, monkeypatch):
    """They stayed in the medians when `whole` was set later."""
    short = dataclasses.replace(BASE, whole=False)
    paper = paper_of(dataclasses.replace(FIRST, settings=(short, BIASED)))
    publish(PAPER, runs, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr("plateau_interp.reproductions.settings.AFTERWARDS", 2)
        for module in ("settings", "running"):
            patched.setattr(f"plateau_interp.reproductions.{module}.SOLVED_ACCURACY", 0.0)
        train_setting(short, 1, tmp_path / "short")
        publish(paper, tmp_path / "short", tmp_path)
        assert [one.metrics.step.iloc[-1] for one in stored(paper, tmp_path).outcomes["base"]] == [5, 2]
    there = stored(PAPER, tmp_path)
    assert [one.seed for one in there.outcomes["base"]] == [0]
    assert there.early == ["base"]
    assert len(there.made) == sum(map(len, there.outcomes.values()))
    text = publish(PAPER, tmp_path / "none", tmp_path).read_text()
    assert "Of 1 settings stored runs do not count: they ended before they may now." in text
    assert "ended before they may now, by `whole` or `perfect_steps`: `base`." in page_of_statements(tmp_path)
    publish(PAPER, runs, tmp_path)
    assert stored(PAPER, tmp_path).early == []


@pytest.mark.parametrize("setting", [BASE, TAKEN, LEFT])
def test_results_stored_before_a_recipe_had_all_its_fields_count(setting, runs, tmp_path):
    publish(PAPER, runs, tmp_path)
    file = tmp_path / "results" / "tiny" / f"{setting.name}.parquet"
    curves = pd.read_parquet(file)
    without_defaults(curves.attrs)
    curves.to_parquet(file)
    assert len(stored(PAPER, tmp_path).outcomes[setting.name]) == (2 if setting is BASE else 1)


def without_defaults(data):
    """Drop a field that has a default from every recipe in the data."""
    if isinstance(data, dict):
        data.pop("measuring", None)
        for value in data.values():
            without_defaults(value)
