"""`plateau sweep`: what it tells, goes on with and refuses."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import yaml
from small_sweeps import BASE, WINDOWS, longer, results

from plateau_interp.cli.main import main
from plateau_interp.cli.sweep_verb import chosen_engine, duration
from plateau_interp.sweeps import of_runs
from plateau_interp.sweeps.cluster import Dask, Slurm
from plateau_interp.sweeps.engines import Loky

pytestmark = pytest.mark.usefixtures("undrawn")

COMMAND = [sys.executable, "-c", "import sys; from plateau_interp.cli.main import main; sys.exit(main(sys.argv[1:]))"]


@pytest.fixture
def plateau(tmp_path, capsys, monkeypatch):
    """Run a command in a folder with the file sweep.yaml; returns status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(of_runs, "write_report", lambda runs, out: out / "index.html")

    def run(words, data=None):
        (tmp_path / "sweep.yaml").write_text(yaml.safe_dump({"base": BASE, **WINDOWS} if data is None else data))
        status = main(words.split())
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


def test_a_sweep_is_trained_told_and_kept(plateau, tmp_path):
    words = "sweep sweep.yaml --out out --engine here"
    status, out, err = plateau(words)
    assert status == 0
    assert [line.split()[:2] for line in out.splitlines() if line.strip().startswith("k=")] == [
        ["k=2", "1/1"],
        ["k=3", "1/1"],
    ]
    assert "Table: out/summaries.parquet" in out
    assert "Report: out/report/index.html" in out
    assert "plateau: k=3/seed-0: done" in err
    before = results(tmp_path / "out")
    status, out, err = plateau(f"{words} --json", {"base": BASE, **WINDOWS, "seeds": 2})
    assert [(row["run"], row["finished"]) for row in json.loads(out)["runs"]][2:] == [
        ("k=2/seed-1", True),
        ("k=3/seed-1", True),
    ]
    assert before.items() <= results(tmp_path / "out").items()


def test_a_part_of_a_sweep_says_what_the_table_leaves_out(plateau):
    words = "sweep sweep.yaml --out out --engine here"
    plateau(words, {"base": BASE, **WINDOWS, "seeds": 2})
    _, out, _ = plateau(words)
    told = "The table and the report have these 2 runs alone: the folder's sweep has 2 more, such as k=2/seed-1"
    assert told in out.splitlines()
    assert json.loads(plateau(f"{words} --json")[1])["others"] == ["k=2/seed-1", "k=3/seed-1"]
    _, out, _ = plateau(words, {"base": BASE, **WINDOWS, "seeds": 2})
    assert "alone" not in out


def test_a_report_of_one_seed_a_setting_is_told_as_such(plateau, monkeypatch):
    words = "sweep sweep.yaml --out out --engine here"
    data = {"base": BASE, **WINDOWS, "seeds": 2}
    assert "Report: out/report/index.html" in plateau(words, data)[1].splitlines()
    monkeypatch.setattr(of_runs, "MOST_REPORTED", 2)
    assert "Report: out/report/index.html, with one seed of each setting" in plateau(words, data)[1].splitlines()
    monkeypatch.setattr(of_runs, "MOST_REPORTED", 1)
    assert "Report: out/report/index.html, with 1 of the 4 runs" in plateau(words, data)[1].splitlines()
    assert json.loads(plateau(f"{words} --json", data)[1])["reported"] == ["k=2/seed-0"]


def test_a_dry_run_tells_what_is_left_and_what_it_costs(plateau, tmp_path):
    status, out, err = plateau("sweep sweep.yaml --out out --dry-run --jobs 2")
    assert status == 0
    assert "0 of 2 runs done; the others take about" in out
    assert "on 2 workers" in out
    assert "timing 2 kinds of training step" in err
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == [".pace.json"]
    status, out, err = plateau("sweep sweep.yaml --out out --dry-run --jobs 2 --json")
    cost = json.loads(out)
    assert (cost["runs"], cost["done"], cost["workers"], sorted(cost["seconds"])) == (
        2,
        0,
        2,
        ["k=2/seed-0", "k=3/seed-0"],
    )
    assert err == ""


def test_a_dry_run_of_a_sweep_that_is_done_says_what_is_left_to_write(plateau):
    plateau("sweep sweep.yaml --out out --engine here")
    status, out, err = plateau("sweep sweep.yaml --out out --dry-run --jobs 2")
    assert (status, err) == (0, "")
    assert out == "2 of 2 runs done; there is only the table and the report to write\n"


def test_a_dry_run_tells_what_could_not_be_trained(plateau, tmp_path):
    gone = {"interventions": [{"name": "ablate-heads", "heads": [7]}]}
    data = {"base": BASE, "list": {"plain": {}, "gone": gone}, "seeds": 2}
    status, out, err = plateau("sweep sweep.yaml --out out --dry-run --jobs 2", data)
    assert status == 2
    assert "timing one kind of training step, once" in err
    assert "gone" not in out
    assert "0 of 4 runs done; the others, but 2 that cannot be trained, take about" in out
    last = err.splitlines()[-1]
    assert last.startswith("plateau: gone cannot be trained, as tried on this machine: ")
    assert last.count("head") == err.count("head") > 0
    status, out, err = plateau("sweep sweep.yaml --out out --dry-run --jobs 2 --json", data)
    assert status == 2
    cost = json.loads(out)
    assert sorted(cost["seconds"]) == ["plain/seed-0", "plain/seed-1"]
    assert list(cost["refused"]) == ["gone"]
    data["list"] = {"gone": gone}
    status, out, err = plateau("sweep sweep.yaml --out other --dry-run --jobs 2", data)
    assert (status, out) == (2, "0 of 2 runs done; the others cannot be trained\n")
    assert not (tmp_path / "other").exists()


def test_a_failure_that_nobody_told_is_told_with_its_reason_at_the_end(plateau, tmp_path):
    plateau("sweep sweep.yaml --out out --engine here")
    (tmp_path / "out/k=2/seed-0/recipe.json").write_text("{")
    status, _, err = plateau("sweep sweep.yaml --out out --engine here")
    assert status == 2
    [line] = err.splitlines()
    assert line.startswith("plateau: 1 of 2 runs failed: k=2/seed-0: ")
    assert "recipe.json" in line


def test_failures_are_told_at_the_end(plateau):
    data = {"base": longer(40), "grid": {"training.optimizer.learning_rate": [1e30, 1e-3]}}
    status, out, err = plateau("sweep sweep.yaml --out out --engine here", data)
    assert status == 2
    name = "optimizer.learning_rate=1e+30/seed-0"
    assert err.splitlines()[-1] == f"plateau: 1 of 2 runs failed: {name}; why is told above and stands in the table"
    assert f"{name}: failed: " in err
    assert err.count("training diverged at step") == 1
    assert "optimizer.learning_rate=0.001   1/1" in out


def test_the_printed_numbers_are_of_runs_that_are_done(plateau, tmp_path):
    """A seed that stopped half-way, or holds another run, has no part in a median."""
    data = {"base": BASE, "seeds": 3}
    _, out, _ = plateau("sweep sweep.yaml --out out --engine here --json", data)
    losses = {row["run"]: row["final_loss"] for row in json.loads(out)["runs"]}
    recipe = tmp_path / "out/base/seed-1/recipe.json"
    recipe.write_text(recipe.read_text().replace('"n_sequences": 4', '"n_sequences": 5'))
    status, out, _ = plateau("sweep sweep.yaml --out out --engine here", data)
    (row,) = [line for line in out.splitlines() if line.strip().startswith("base")]
    low, high = sorted((losses["base/seed-0"], losses["base/seed-2"]))
    assert status == 2
    assert "2/3" in row
    assert f"{(low + high) / 2:.4f} ({low:.4f} to" in row


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("sweep none.yaml --out out", "none.yaml: No such file or directory; expected a sweep"),
        ("sweep sweep.yaml", "--out DIR is missing"),
        ("sweep sweep.yaml --out out --engine lokky", "no engine is called 'lokky'; the nearest is loky"),
        ("sweep sweep.yaml --out out --engine here --jobs 2", "the engine here takes no --jobs: it has threads"),
        ("sweep sweep.yaml --out out --scheduler x", "the engine loky takes no --scheduler"),
        ("sweep sweep.yaml --out out --engine loky:worker=2", "loky.worker: unknown field; the nearest is workers"),
        ("sweep sweep.yaml --out out --jobs 0", "--jobs must be at least 1; got 0"),
        (
            "sweep sweep.yaml --out out --jobs 2 --engine loky:threads=1,workers=3",
            "--jobs is the workers= of --engine:",
        ),
        ("sweep sweep.yaml --out out --jobs 2 --engine loky:workers=2", "--jobs is the workers= of --engine: give one"),
        ("sweep sweep.yaml --out out --engine slurm", "slurm.queue: missing"),
        ("sweep sweep.yaml --out out --device gpu", "unknown device 'gpu'"),
        ("sweep sweep.yaml --out sweep.yaml", "sweep.yaml cannot be a folder"),
    ],
)
def test_a_mistake_is_told_in_one_line_and_nothing_is_written(words, line, plateau, tmp_path):
    status, out, err = plateau(words)
    assert status == 2
    assert err.startswith("plateau: ")
    assert line in err
    assert len(err.splitlines()) == 1
    assert out == ""
    assert [entry.name for entry in tmp_path.iterdir()] == ["sweep.yaml"]


@pytest.mark.parametrize(
    ("word", "options", "engine"),
    [
        (None, {}, Loky()),
        (None, {"jobs": 3}, Loky(workers=3)),
        ("loky:threads=2", {"jobs": 3}, Loky(workers=3, threads=2)),
        ("dask", {"scheduler": "tcp://h:1"}, Dask(scheduler="tcp://h:1")),
        ("dask", {"jobs": 2}, Dask(workers=2)),
        ("slurm", {"queue": "short", "jobs": 8}, Slurm("short", workers=8)),
        ('slurm:queue=long,before=["a=1"]', {}, Slurm("long", before=("a=1",))),
    ],
)
def test_options_name_the_engine(word, options, engine):
    assert chosen_engine(word, **{"jobs": None, "scheduler": None, "queue": None, **options}) == engine


def test_lengths_of_time_for_people():
    assert [duration(seconds) for seconds in (0, 59, 60, 3600, 9000)] == ["0 s", "59 s", "1 min", "1.0 h", "2.5 h"]


def alive_in_group(group):
    """Processes that run; one that ended stays in the list until its parent, here nobody, asks for it."""
    found = []
    for process in psutil.process_iter(["status"]):
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(process.pid) == group and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["here", "loky:workers=2", "dask:workers=2"])
def test_ctrl_c_leaves_all_resumable(engine, tmp_path):
    """Sent to the command alone, as by `kill -INT`: it ends its workers, and says how to go on."""
    for folder in ("whole", "killed"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "sweep.yaml").write_text(yaml.safe_dump({"base": longer(300), **WINDOWS}))
    words = [*COMMAND, "sweep", "sweep.yaml", "--out", "out", "--engine", engine]
    subprocess.run(words, cwd=tmp_path / "whole", check=True, capture_output=True)
    process = subprocess.Popen(
        words, cwd=tmp_path / "killed", stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 300
    while not list((tmp_path / "killed/out").glob("*/*/checkpoints/20")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=120)[1]
    assert process.returncode == 130
    assert "of 2 runs; the others go on from a checkpoint; go on with: plateau sweep sweep.yaml" in err.splitlines()[-1]
    deadline = time.monotonic() + 30  # helpers of the engines end a moment after the command
    while alive_in_group(process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    subprocess.run(words, cwd=tmp_path / "killed", check=True, capture_output=True)
    assert results(tmp_path / "killed/out") == results(tmp_path / "whole/out")
