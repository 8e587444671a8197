"""Seconds of the processor: counted, written, gone on with, handed to forks, unknown where nobody wrote them."""

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from kept_runs import copy_kept
from trained_runs import contents, finished, trained

from plateau_interp import MeasuringOptions, ModelOptions, Recipe, Run, RunError, TrainingOptions
from plateau_interp.cli.main import main
from plateau_interp.runs.checking import check_run
from plateau_interp.runs.errors import DamagedFile
from plateau_interp.runs.seconds import Stopwatch, read_seconds, up_to, write_seconds
from plateau_interp.tasks import MovingWindowSum

RECIPE = Recipe(
    MovingWindowSum(n=4, p=5),
    model=ModelOptions(d_model=8),
    training=TrainingOptions(steps=12, batch_size=4),
    measuring=MeasuringOptions(every=4, n_sequences=2),
    checkpoint_every=6,
)


def work(seconds: float) -> None:
    """Keep the processor busy; sleeping costs it nothing."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_a_stopwatch_counts_the_processor_and_not_who_waits(tmp_path: Path) -> None:
    file = tmp_path / "seconds.jsonl"
    with Stopwatch(file, ()) as watch:
        work(0.03)
        watch.note(1)
        with watch.paused():
            work(0.2)
        time.sleep(0.1)
        watch.note(2)
    (first, one), (second, two) = read_seconds(file)
    assert (first, second) == (1, 2)
    assert 0.03 <= one <= two < 0.1
    with Stopwatch(file, ((1, 100.0),)) as watch:
        work(0.01)
        assert 100.01 <= watch.seconds < 100.2
    with Stopwatch(None, ()) as watch:
        watch.note(3)
    assert len(read_seconds(file)) == 2


def test_a_run_writes_them_when_it_measures_and_saves(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", RECIPE)
    for step in run.train():
        if step.step == 2:
            work(0.5)  # the caller's own
    known = read_seconds(run.path / "seconds.jsonl")
    assert [updates for updates, _ in known] == [1, 5, 6, 9, 12]
    assert [seconds for _, seconds in known] == sorted(seconds for _, seconds in known)
    assert 0 < known[-1][1] - known[0][1] < 0.45
    budget = run.prices.budget(12)
    assert (budget.steps, budget.sequences, budget.seconds) == (12, 48, known[-1][1])
    assert budget.flops == 48 * 3 * 8 * (4 * 2 * 8 * 8 + 2 * 2 * 8 * 8 + 2 * 2 * 8 * 32 + 2 * 8 * 6)


def test_a_stopped_run_goes_on_counting_and_its_rows_are_those_of_the_other(tmp_path: Path) -> None:
    whole = finished(tmp_path / "whole", RECIPE)
    run = Run.create(tmp_path / "run", RECIPE)
    for step in run.train():
        if step.step == 9:
            break
    before = read_seconds(run.path / "seconds.jsonl")
    assert [updates for updates, _ in before] == [1, 5, 6, 9]
    trained(run)
    after = read_seconds(run.path / "seconds.jsonl")
    assert after[:3] == before[:3]  # what came after the checkpoint was made, and counted, again
    assert [updates for updates, _ in after] == [1, 5, 6, 9, 12]
    assert contents(run.path) == contents(whole.path)


def test_a_fork_takes_its_parent_s_up_to_where_it_leaves(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", RECIPE)
    known = dict(read_seconds(run.path / "seconds.jsonl"))
    fork = run.fork(at=7, out=tmp_path / "fork")
    first = dict(read_seconds(fork.path / "seconds.jsonl"))
    assert {updates: first[updates] for updates in (1, 5, 6)} == {updates: known[updates] for updates in (1, 5, 6)}
    assert known[6] <= first[7] <= known[9]
    next(step for step in fork.train() if step.metrics)
    assert [updates for updates, _ in read_seconds(fork.path / "seconds.jsonl")] == [1, 5, 6, 7, 9]
    (run.path / "seconds.jsonl").unlink()
    unknown = run.fork(at=6, out=tmp_path / "unknown")
    next(iter(unknown.train()))
    assert not (unknown.path / "seconds.jsonl").exists()
    assert unknown.prices.budget(3).seconds is None


@pytest.mark.slow
def test_a_run_of_an_earlier_version_says_that_nobody_wrote_them(tmp_path, monkeypatch, capsys, undrawn) -> None:
    copy_kept(3, tmp_path, monkeypatch)
    run = Run("run")
    elbow = next(one for one in run.summary.reached if one.rule == "right_95")
    assert elbow.budget is None or elbow.describe().endswith("processor time not recorded")
    assert run.prices.seconds == ()
    trained(run)
    assert not (run.path / "seconds.jsonl").exists()
    new = trained(Run.create("new", RECIPE))
    assert main(["compare", "run", str(new.path)]) == 0
    assert "not reached" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{}", "is no count of seconds"),
        ("[1]", "is no count of seconds"),
        ('{"updates": 1.5, "seconds": 2}', "is no count of seconds"),
        ('{"updates": 9, "seconds": null}', "is no count of seconds"),
        ('{"updates": 9, "seconds": Infinity}', "is no count of seconds"),
        ('{"updates": 3, "seconds": 9}', "comes after 5 updates and 2.5 seconds"),
        ('{"updates": 6, "seconds": 1}', "comes after 5 updates and 2.5 seconds"),
    ],
)
def test_a_line_that_is_none_is_named(tmp_path: Path, line: str, why: str) -> None:
    run = finished(tmp_path / "run", RECIPE)
    file = run.path / "seconds.jsonl"
    file.write_text('{"updates": 5, "seconds": 2.5}\n' + line + "\n")
    with pytest.raises(DamagedFile, match=rf"seconds\.jsonl, line 2, is damaged: .*{why}.*; remove the file if nobody"):
        read_seconds(file)
    with pytest.raises(RunError, match="line 2"):
        _ = run.summary
    assert len(check_run(run.path).faults) == 1
    with pytest.raises(RunError, match="line 2"):
        run.fork(at=6, out=tmp_path / "fork")
    assert not (tmp_path / "fork").exists()
    file.write_text('{"updates": 5, "seconds": 2.5}\n{"upd')  # cut off by a kill
    assert read_seconds(file) == ((5, 2.5),)
    file.unlink()
    assert run.summary.reached


def test_a_damaged_line_is_refused_before_a_step_is_made_or_a_row_goes(tmp_path: Path, caplog) -> None:
    run = Run.create(tmp_path / "run", replace(RECIPE, checkpoint_every=2))
    for step in run.train():
        if step.step == 9:
            break
    shutil.rmtree(run.path / "checkpoints" / str(run.step))
    assert run.step not in run.resumable  # steps before are to be made again, which is said
    (run.path / "seconds.jsonl").write_text("{}\n")
    before = contents(run.path)
    with caplog.at_level("INFO"), pytest.raises(DamagedFile, match="line 1"):
        next(run.train())
    assert contents(run.path) == before
    assert caplog.records == []


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / "seconds.jsonl"
    write_seconds(file, ((2, 1.0), (4, 2.25)))
    assert read_seconds(file) == ((2, 1.0), (4, 2.25))
    assert json.loads(file.read_text().splitlines()[1]) == {"updates": 4, "seconds": 2.25}
    assert up_to(read_seconds(file), 3) == ((2, 1.0), (3, 1.625))
    assert up_to(read_seconds(file), 0) == up_to(read_seconds(file), 5) == ()
    write_seconds(file, ())
    assert not file.exists()
