"""plateau_interp.runs.folder: a run's folder knows its own rows."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from trained_runs import RECIPE, contents, finished

from plateau_interp.runs.run import RunError


@pytest.mark.parametrize(
    ("number", "change", "whole_step"),
    [(12, ('"loss": 2', '"loss": 3'), 10), (19, ("}\n", ', "x": 1}\n'), 10), (20, ("}\n", ', "x": 1}\n'), 20)],
)
def test_rows_that_were_changed_are_noticed_and_made_again(
    tmp_path: Path, number: int, change: tuple[str, str], whole_step: int
) -> None:
    run = finished(tmp_path / "run", RECIPE)
    whole = contents(run.path)
    file = run.path / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    changed = [*lines[:number], lines[number].replace(*change), *lines[number + 1 :]]
    assert changed != lines
    file.write_text("".join(changed))
    (run.path / "metrics.parquet").unlink()
    before = contents(run.path)
    words = rf"jsonl is damaged: its rows are not those .*25 was written; move the check.*step {whole_step} away to"
    for act in (lambda: list(run.train()), lambda: run.metrics, lambda: run.summary, lambda: run.fork(at=20)):
        with pytest.raises(RunError, match=words):
            act()
    assert contents(run.path) == before
    assert not (run.path / "metrics.parquet").exists()
    for step in [step for step in (20, 25) if step > whole_step]:
        shutil.rmtree(run.path / "checkpoints" / str(step))
    assert contents(finished(run.path, RECIPE).path) == whole


def test_the_rows_of_another_run_are_noticed(tmp_path: Path) -> None:
    run, other = finished(tmp_path / "run", RECIPE), finished(tmp_path / "other", replace(RECIPE, seed=1))
    shutil.copy(other.path / "metrics.jsonl", run.path / "metrics.jsonl")
    parquet = (run.path / "metrics.parquet").read_bytes()
    with pytest.raises(RunError, match=r"run/metrics.jsonl is damaged: its rows are not those that were there"):
        list(run.train())
    assert (run.path / "metrics.parquet").read_bytes() == parquet


def test_spaces_between_numbers_are_no_damage(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", RECIPE)
    file = run.path / "metrics.jsonl"
    file.write_text(file.read_text().replace(": ", ":").replace("\n", " \n"))
    assert len(run.metrics) == 25
