"""plateau_interp.sweeps.sweep: what is trained, kept, refused and told, in this process and beside others."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from small_sweeps import BASE, WINDOWS, longer, results, rows_of

from plateau_interp import Recipe, Run, RunError, sweep
from plateau_interp.sweeps import of_runs
from plateau_interp.sweeps import sweep as sweep_module
from plateau_interp.sweeps.cluster import ClusterError, Slurm
from plateau_interp.sweeps.endings import Ending
from plateau_interp.sweeps.engines import Here
from plateau_interp.sweeps.sweep import Event

pytestmark = pytest.mark.usefixtures("undrawn")

HERE = Here()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(sweep_module, "WAIT", 0.01)


@pytest.fixture(autouse=True)
def reported(monkeypatch):
    """What reports were asked for: drawing them takes most of the time, and is tested elsewhere."""
    asked = []

    def write(runs, out):
        asked.append([f"{run.path.parent.name}/{run.path.name}" for run in runs])
        return out / "index.html"

    monkeypatch.setattr(of_runs, "write_report", write)
    return asked


@pytest.fixture
def told():
    return []


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A sweep of two runs, for tests that copy it."""
    out = tmp_path_factory.mktemp("kept") / "windows"
    sweep(BASE, WINDOWS, out=out, engine=HERE)
    return out


@pytest.fixture
def out(kept, tmp_path):
    return Path(shutil.copytree(kept, tmp_path / "windows"))


def test_each_run_is_an_ordinary_run_in_a_named_folder(out):
    run = Run(out / "k=3" / "seed-0")
    assert run.finished
    assert run.recipe == Recipe.from_dict({**BASE, "task": {**BASE["task"], "k": 3}})


def test_the_table_says_what_was_changed_and_what_came_out(out, reported):
    swept = sweep(BASE, WINDOWS, out=out, engine=HERE)
    table = pd.read_parquet(out / "summaries.parquet")
    pd.testing.assert_frame_equal(table, swept.table)
    columns = ("run", "setting", "seed", "task.k", "steps", "finished", "error")
    assert rows_of(table, *columns) == [
        ("k=2/seed-0", "k=2", 0, 2, 6, True, ""),
        ("k=3/seed-0", "k=3", 0, 3, 6, True, ""),
    ]
    summary = swept.run("k=3/seed-0").summary
    assert table["final_loss"].tolist()[1] == summary.final_loss
    assert table["peak_cosine"].tolist()[1] == summary.peak_cosine
    assert swept.report == out / "report" / "index.html"
    assert reported == [["k=2/seed-0", "k=3/seed-0"]]


NAMED = {"list": {"plain": {}, "helped": {"interventions": [{"name": "fix-attention"}]}}}


@pytest.mark.parametrize(
    "now",
    [
        {"helped": {"interventions": [{"name": "ablate-heads", "heads": [0]}]}, "plain": {}},
        {"plain": NAMED["list"]["helped"], "helped": NAMED["list"]["plain"]},
        {"plain": {"training.batch_size": 5}, "helped": NAMED["list"]["helped"]},
        {"plain": {"training.steps": 4}, "helped": NAMED["list"]["helped"]},
    ],
)
def test_another_setting_under_a_name_that_is_taken_is_refused(now, tmp_path):
    out = tmp_path / "named"
    sweep(BASE, NAMED, out=out, engine=HERE)
    before = {file: file.read_bytes() for file in out.rglob("*.*") if file.is_file()}
    with pytest.raises(
        RunError, match=r"holds another sweep: .*/seed-0 is another run there, see .*sweep\.json; take "
    ):
        sweep(BASE, {"list": now}, out=out, engine=HERE)
    assert {file: file.read_bytes() for file in before} == before
    spelled = {"plain": {}, "helped": {"interventions": [{"name": "fix-attention", "total": 1.0}]}}
    assert len(sweep(BASE, {"list": spelled}, out=out, engine=HERE).table) == 2  # the same in other words


def test_a_new_seed_runs_alone(out, told):
    before = {name: (out / name).stat().st_mtime_ns for name in results(out)}
    swept = sweep(BASE, {**WINDOWS, "seeds": 2}, out=out, engine=HERE, telling=told.append)
    assert [event.run for event in told] == ["k=2/seed-1", "k=3/seed-1"]
    assert swept.others == ()
    assert {name: (out / name).stat().st_mtime_ns for name in before} == before
    assert len(swept.table) == 4


def test_a_column_of_words_some_of_which_are_left_open_is_of_words(tmp_path):
    changes = {"grid": {"model.attention": [None, "softmax"]}}
    swept = sweep(BASE, changes, out=tmp_path / "words", engine=HERE)
    assert swept.table["model.attention"].isna().tolist() == [True, False]
    assert swept.table["model.attention"].iloc[1] == "softmax"
    stored = pd.read_parquet(tmp_path / "words" / "summaries.parquet")["model.attention"]
    assert (stored.isna().tolist(), stored.iloc[1]) == ([True, False], "softmax")


def test_a_part_of_a_sweep_may_be_run_again(out):
    sweep(BASE, {**WINDOWS, "seeds": 2}, out=out, engine=HERE)
    swept = sweep(BASE, WINDOWS, out=out, engine=HERE)
    assert len(swept.table) == 2
    assert swept.others == ("k=2/seed-1", "k=3/seed-1")
    assert len(json.loads((out / "sweep.json").read_text())["runs"]) == 4


@pytest.mark.parametrize(
    ("base", "changes", "message"),
    [
        ({**BASE, "checkpoint_every": 2}, WINDOWS, "its base recipe is another one, .*; take another folder, or rem"),
        (BASE, {"grid": {"task.k": [2, 4]}}, "k=3/seed-0 is there alone, and k=4/seed-0 here"),
        (BASE, {"grid": {"task.p": [7]}}, "a part of it run; take another folder, or remove this one"),
    ],
)
def test_another_sweep_is_refused(base, changes, message, out):
    before = results(out)
    with pytest.raises(RunError, match=message):
        sweep(base, changes, out=out, engine=HERE)
    assert results(out) == before


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match=r"is not empty and holds no sweep: there is 'mine.txt'"):
        sweep(BASE, WINDOWS, out=tmp_path, engine=HERE)
    assert [*tmp_path.iterdir()] == [tmp_path / "mine.txt"]
    with pytest.raises(ValueError, match="is a file"):
        sweep(BASE, WINDOWS, out=tmp_path / "mine.txt", engine=HERE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "sweep.json is damaged: not valid JSON: Expecting property name"),
        ("[]", "sweep.json is damaged: expected the fields format, base and runs"),
        ('{"format": 1}', "sweep.json is damaged: expected the fields format, base and runs"),
        ('{"format": 1, "base": 3, "runs": {}}', "sweep.json is damaged: expected the fields format, base and runs"),
        ('{"format": [], "base": {}, "runs": {}}', "sweep.json is damaged: expected the fields format, base and runs"),
        ('{"format": 7, "base": {}, "runs": {}}', "reads sweeps up to format 1; got 7"),
        ('{"format": 1, "base": {}, "runs": {}}', "sweep.json: base.task: missing"),
    ],
)
def test_a_damaged_folder_is_refused(text, message, out):
    (out / "sweep.json").write_text(text)
    with pytest.raises(RunError, match=message):
        sweep(BASE, WINDOWS, out=out, engine=HERE)


def test_nothing_is_written_where_a_recipe_cannot_be(tmp_path):
    with pytest.raises(ValueError, match="n_heads must divide d_model"):
        sweep(BASE, {"grid": {"model.n_heads": [1, 3]}}, out=tmp_path / "out", engine=HERE)
    with pytest.raises(ValueError, match="unknown device"):
        sweep(BASE, WINDOWS, out=tmp_path / "out", engine=HERE, device="gpu")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no folder in which nobody may write")
def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    with pytest.raises(RunError, match="/proc/sweep cannot be made: No such file or directory"):
        sweep(BASE, WINDOWS, out="/proc/sweep", engine=HERE)


@pytest.mark.skipif(shutil.which("sbatch") is not None, reason="SLURM is here")
def test_nothing_is_written_where_there_are_no_workers(tmp_path):
    """So that the next try, with what was mended in the file, finds a new folder."""
    with pytest.raises(ClusterError, match="sbatch is not on this machine"):
        sweep(BASE, WINDOWS, out=tmp_path / "out", engine=Slurm("short"))
    assert not (tmp_path / "out").exists()


def test_a_failed_run_is_told_at_the_end_and_stops_no_other(tmp_path, told):
    changes = {"grid": {"training.optimizer.learning_rate": [1e30, 1e-3]}}
    swept = sweep(longer(40), changes, out=tmp_path / "out", engine=HERE, telling=told.append)
    [(name, reason)] = swept.failed.items()
    assert name == "optimizer.learning_rate=1e+30/seed-0"
    assert "training diverged at step" in reason
    assert [(event.run, event.ending.how) for event in told] == [
        (name, "failed"),
        ("optimizer.learning_rate=0.001/seed-0", "done"),
    ]
    assert rows_of(swept.table, "finished", "error") == [(False, reason), (True, "")]


def test_a_damaged_run_fails_and_the_others_go_on(out):
    (out / "k=2/seed-0/recipe.json").write_text("{")
    swept = sweep(BASE, {**WINDOWS, "seeds": 2}, out=out, engine=HERE)
    assert list(swept.failed) == ["k=2/seed-0"]
    assert swept.table["finished"].tolist() == [False, True, True, True]


def test_a_longer_sweep_lengthens_its_runs(out):
    swept = sweep({**BASE, "training": {"steps": 8, "batch_size": 4}}, WINDOWS, out=out, engine=HERE)
    assert swept.table["steps"].tolist() == [8, 8]


def test_a_shorter_sweep_is_refused_whatever_is_missing(out):
    """What is missing would have fewer steps than the runs it is set beside."""
    sweep({**BASE, "training": {"steps": 8, "batch_size": 4}}, WINDOWS, out=out, engine=HERE)
    shutil.rmtree(out / "k=2")
    before = sorted(out.rglob("*"))
    message = r"holds a sweep of 8 steps, and this one has 6: it may get more, not fewer; take another folder"
    with pytest.raises(RunError, match=message):
        sweep(BASE, {**WINDOWS, "seeds": 2}, out=out, engine=HERE)
    assert sorted(out.rglob("*")) == before


def test_warnings_of_a_run_are_told_with_it(tmp_path, told):
    waiting = {"name": "when", "intervention": {"name": "fix-attention"}, "since": "acuracy > 2"}
    changes = {"list": {"waiting": {"interventions": [waiting]}}}
    sweep(BASE, changes, out=tmp_path / "out", engine=HERE, telling=told.append)
    [(warning,)] = [event.ending.warned for event in told]
    assert "waited for acuracy, which nobody measured" in warning


def test_a_run_that_another_process_writes_is_waited_for(out, told):
    """And made by whoever gets hold of it."""
    shutil.rmtree(out / "k=2/seed-0/checkpoints")
    os.remove(out / "k=2/seed-0/metrics.jsonl")
    code = (
        "import sys; from pathlib import Path; from plateau_interp.runs.folder import only_writer\n"
        "with only_writer(Path(sys.argv[1])): print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(out / "k=2/seed-0")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()

        def tell(event):
            told.append(event)
            if event.ending.how == "busy":
                other.stdin.close()

        swept = sweep(BASE, {**WINDOWS, "seeds": 2}, out=out, engine=HERE, telling=tell)
    assert swept.table["finished"].all()
    assert [(event.run, event.ending.how) for event in told] == [
        ("k=2/seed-0", "busy"),
        ("k=2/seed-1", "done"),
        ("k=3/seed-1", "done"),
        ("k=2/seed-0", "done"),
    ]
    assert told[0] == Event("k=2/seed-0", Ending("busy", told[0].ending.reason))


def test_a_report_of_many_runs_takes_one_seed(out, monkeypatch, reported):
    monkeypatch.setattr(of_runs, "MOST_REPORTED", 3)
    swept = sweep(BASE, {**WINDOWS, "seeds": 2}, out=out, engine=HERE)
    assert reported == [["k=2/seed-0", "k=3/seed-0"]]
    assert swept.reported == ("k=2/seed-0", "k=3/seed-0")
    (out / "k=2/seed-0/recipe.json").write_text("{")  # of this setting the next seed stands for it
    swept = sweep(BASE, {**WINDOWS, "seeds": 3}, out=out, engine=HERE)
    assert set(reported[-1]) == set(swept.reported) == {"k=3/seed-0", "k=2/seed-1"}


@pytest.mark.parametrize("file", ["metrics.jsonl", "checkpoints/6/model.safetensors"])
def test_a_run_that_was_damaged_after_its_end_is_told(file, tmp_path):
    sweep(BASE, WINDOWS, out=tmp_path, engine=Here())
    (tmp_path / "k=2" / "seed-0" / file).write_bytes(b"")
    again = sweep(BASE, WINDOWS, out=tmp_path, engine=Here())
    assert [*again.failed] == ["k=2/seed-0"]
    assert file in again.failed["k=2/seed-0"]
    assert rows_of(again.table, "run", "error")[0] == ("k=2/seed-0", again.failed["k=2/seed-0"])
    assert again.table.error[1] == ""


def test_a_folder_that_is_moved_meanwhile_is_not_made_again(tmp_path):
    def move(event):
        if (tmp_path / "windows").exists():
            (tmp_path / "windows").rename(tmp_path / "moved")

    with pytest.raises(
        RunError, match="windows is gone: it was moved or removed while its runs were made; sweep where"
    ):
        sweep(BASE, WINDOWS, out=tmp_path / "windows", engine=HERE, telling=move)
    assert [path.name for path in tmp_path.iterdir()] == ["moved"]
    assert sweep(BASE, WINDOWS, out=tmp_path / "moved", engine=HERE).failed == {}
