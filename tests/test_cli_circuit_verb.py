"""`plateau circuit`: what it measures, keeps, writes, goes on with and refuses; and circuits in `plateau report`."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from trained_runs import finished

from plateau_interp import ModelOptions, Recipe, Run, TrainingOptions
from plateau_interp.analysis.forming import circuits
from plateau_interp.cli.main import main
from plateau_interp.runs import kept_circuits as module
from plateau_interp.runs.kept_circuits import kept_circuits
from plateau_interp.tasks import MatrixCompletion, MovingWindowSum, Text
from plateau_interp.views import circuit_report, report
from plateau_interp.views.saving import report_mark

SMALL = {"model": ModelOptions(d_model=12), "training": TrainingOptions(steps=6, batch_size=4), "checkpoint_every": 1}
RECIPE = Recipe(MovingWindowSum(n=4, p=5), **SMALL)
EDGES = 13


@pytest.fixture
def run(tmp_path):
    return finished(tmp_path / "run", RECIPE)


@pytest.fixture
def undrawn(monkeypatch):
    """No pictures, which take longer than all the rest."""
    monkeypatch.setattr(circuit_report, "save_figure", lambda figure, path, title: path)
    monkeypatch.setattr(report, "page_picture", lambda draw, name: (f"<svg>{name}</svg>", report_mark(name).encode()))
    monkeypatch.setattr(report, "report_picture", lambda figure, name: report_mark(name).encode())
    monkeypatch.setattr(report, "themed_svg", lambda draw, name: "<svg></svg>")


@pytest.fixture
def plateau(tmp_path, capsys):
    """Run a command in which @ stands for the folder of the test; returns status, stdout and stderr."""

    def call(words):
        status = main([word.replace("@", f"{tmp_path}/") for word in words.split()])
        told = capsys.readouterr()
        return status, told.out, told.err

    return call


def test_circuits_are_measured_told_kept_and_drawn(plateau, run):
    status, out, err = plateau("circuit @run --steps 0 2 6 --n-pairs 4")
    assert status == 0
    assert re.findall(r"step (\d+)", err) == ["0", "2", "6"]
    folder = run.path / "circuits"
    assert out.endswith(f"Page: {folder / 'index.html'}\n")
    rows = [line.split() for line in out.splitlines() if re.match(r" *\d", line)]
    assert [row[0] for row in rows] == ["0", "2", "6"]
    assert rows[-1][-1] == "1.00"
    written = {path.name for path in folder.iterdir()}
    pictures = {f"{name}.{kind}" for name in ("circuit", "forming") for kind in ("svg", "png")}
    assert written == {*pictures, ".lock", "circuits.json", "edges.parquet", "index.html", "metrics.parquet", "scores"}
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in page
    assert f"Circuit of {EDGES} edges (attributed, resample, norms live, 4 sequences)" in page
    assert "attention through training, layer 0" in page
    expected = circuits(run, steps=[0, 2, 6], n_pairs=4)
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "edges.parquet"), expected.table())
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "metrics.parquet"), expected.metrics(n=5))
    assert (folder / "circuit.png").read_bytes().startswith(b"\x89PNG")


def test_options_are_those_of_the_measurement(plateau, run, tmp_path, undrawn):
    how = "--scoring integrated --n-points 2 --ablation mean --by-role --freeze-norms --seed 3"
    status, out, _ = plateau(f"circuit @run --steps 6 --n-pairs 4 {how} --out @other --json")
    assert status == 0
    told = json.loads(out)
    assert told["page"] == str(tmp_path / "other" / "index.html")
    expected = circuits(
        run,
        steps=[6],
        n_pairs=4,
        scoring="integrated",
        n_steps=2,
        ablation="mean",
        by_role=True,
        freeze_norms=True,
        seed=3,
    )
    (only,) = told["runs"]
    assert [edge["score"] for edge in only["edges"]] == pytest.approx(expected.edges().score.tolist())
    assert [step["step"] for step in only["steps"]] == [6]
    assert kept_circuits(run) is None


def test_some_checkpoints_are_measured_unless_all_are_asked_for(plateau, tmp_path, undrawn):
    run = finished(tmp_path / "run", replace(RECIPE, training=TrainingOptions(steps=13, batch_size=4)))
    assert len(run.checkpoints) == 14
    assert plateau("circuit @run --n-pairs 2")[0] == 0
    steps = kept_circuits(run).steps
    assert (len(steps), steps[0], steps[-1]) == (12, 0, 13)
    _, out, err = plateau("circuit @run --n-pairs 2 --steps all --json")
    assert [row["step"] for row in json.loads(out)["runs"][0]["steps"]] == run.checkpoints
    assert len(re.findall(r"step \d+", err)) == 2


def test_an_interrupt_keeps_what_was_measured_and_the_command_goes_on(plateau, run, monkeypatch, undrawn):
    measured, asked = module.task_circuit, []

    def interrupted(*args, **options):
        asked.append(options)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return measured(*args, **options)

    monkeypatch.setattr(module, "task_circuit", interrupted)
    words = "circuit @run --steps 0 1 2 6 --n-pairs 4"
    status, out, err = plateau(words)
    assert (status, out) == (130, "")
    again = f"plateau circuit {run.path} --steps 0 1 2 6 --n-pairs 4"
    assert err.splitlines()[-1] == f"plateau: stopped after 2 of 4; they are kept; go on with: {again}"
    assert not (run.path / "circuits" / "index.html").exists()
    assert plateau(words)[0] == 0
    assert len(asked) == 5
    assert kept_circuits(run).steps == [0, 1, 2, 6]


@pytest.mark.slow
def test_killed_the_same_command_goes_on(run):
    words = ["circuit", str(run.path), "--steps", "all", "--scoring", "exact", "--n-pairs", "512"]
    command = [sys.executable, "-m", "plateau_interp.cli.main", *words]
    scores = run.path / "circuits" / "scores"
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not [*scores.glob("*.safetensors")] and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    there = {file: file.stat().st_mtime_ns for file in scores.glob("*.safetensors")}
    assert there
    assert main(words) == 0
    assert {file: file.stat().st_mtime_ns for file in there} == there
    assert kept_circuits(run).steps == run.checkpoints
    whole = circuits(run, scoring="exact", n_pairs=512)
    pd.testing.assert_frame_equal(kept_circuits(run).forming().table(), whole.table())


def test_several_runs_stand_side_by_side(plateau, run, tmp_path, undrawn):
    other = finished(tmp_path / "other", replace(RECIPE, seed=1))
    words = "circuit @run @other --steps 0 6 --n-pairs 4 --out @both"
    status, out, _ = plateau(words)
    assert status == 0
    assert re.search(r"^other at step 6 has \d+% of the largest edges of run at step 6$", out, flags=re.MULTILINE)
    assert out.endswith(f"Page: {tmp_path / 'both' / 'index.html'}\n")
    assert [kept_circuits(each).steps for each in (run, other)] == [[0, 6], [0, 6]]
    table = pd.read_parquet(tmp_path / "both" / "edges.parquet")
    assert table.groupby("run", sort=False).size().to_dict() == {"run": 2 * EDGES, "other": 2 * EDGES}
    page = (tmp_path / "both" / "index.html").read_text(encoding="utf-8")
    widest = {float(value) for value in re.findall(r'"widest":([\d.e-]+)', page)}
    assert len(widest) == 1  # one scale for both
    assert widest.pop() == pytest.approx(table.score.abs().max())
    _, out, _ = plateau(f"{words} --json")
    assert 0 <= json.loads(out)["runs"][1]["overlap_with_the_first"] <= 1


def test_runs_of_other_shapes_are_drawn_and_not_compared(plateau, run, tmp_path, undrawn):
    finished(tmp_path / "deep", replace(RECIPE, model=ModelOptions(d_model=12, n_layers=2)))
    status, out, _ = plateau("circuit @run @deep --steps 6 --n-pairs 2 --out @both")
    assert status == 0
    assert "of the largest edges of" not in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("circuit", "which run? plateau circuit RUN [RUN ...]"),
        ("circuit @nowhere", "@nowhere is not a folder; `plateau train` makes a run"),
        ("circuit @run @other", "a page of several runs needs a folder of its own: --out DIR"),
        ("circuit @run @run --out @both", "@run is given twice"),
        ("circuit @run @other --out @run/report", "@run/report holds other things: index.html; take another folder"),
        ("circuit @run --out @run", "@run is the folder of a run, no place for circuits; take another"),
        (
            "circuit @run --out @run/report",
            "@run/report lies in @run, the folder of a run, which has no place for circuits",
        ),
        ("circuit @run --out @run/recipe.json", "@run/recipe.json is a file; a folder is needed"),
        ("circuit @run --steps 9", "there is no checkpoint in @run of step 9; the nearest is 6"),
        ("circuit @run --steps last", "--steps: expected whole numbers, or all; got 'last'"),
        ("circuit @run --steps all 3", "--steps: expected whole numbers, or all; got 'all'"),
        ("circuit @run --scoring guessed", "scoring must be one of attributed, exact, integrated; got 'guessed'"),
        ("circuit @run --ablation none", "ablation must be one of resample, mean, zero; got 'none'"),
        ("circuit @run --n-pairs 0", "n_pairs must be at least 1; got 0"),
        ("circuit @run --n-pairs many", "--n-pairs: expected a whole number; got 'many'; see "),
        ("circuit @run --n-points 0", "n_points must be at least 1; got 0"),
        ("circuit @run --edges 0", "edges must be at least 1; got 0"),
        ("circuit @run --seed -1", "seed must be at least 0; got -1"),
        ("circuit @run --device nowhere", "unknown device 'nowhere'; expected cpu, cuda"),
        ("circuit @run --prompts @nowhere.tsv", "@nowhere.tsv: No such file or directory"),
        ("circuit @run --prompts @run/metrics.jsonl", "@run/metrics.jsonl, line 1: expected a clean text, a tab, "),
        ("circuit @run --prompts @run/pairs.tsv", "MovingWindowSum is not of text: its pairs are made by itself"),
        ("circuit @run --prompts @run/pairs.tsv --by-role", "by_role is for prompts of a task: texts have no roles"),
        (
            "circuit @run --stepps 0",
            "there is no option --stepps; the nearest is --steps; see `plateau circuit --help`",
        ),
    ],
)
def test_mistakes_are_told_in_a_line_and_write_nothing(plateau, run, tmp_path, words, told):
    (run.path / "report").mkdir()
    (run.path / "report" / "index.html").write_text("a report")
    (run.path / "pairs.tsv").write_text("one\ttwo")
    status, out, err = plateau(words)
    assert (status, out) == (2, "")
    assert err.startswith("plateau: " + told.replace("@", f"{tmp_path}/"))
    assert err.count("\n") == 1
    assert not (run.path / "circuits").exists()


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        (Recipe(MatrixCompletion(), **SMALL), "MatrixCompletion predicts numbers: a circuit needs the logits of two"),
    ],
)
def test_a_task_without_counterfactual_prompts_is_refused(plateau, tmp_path, recipe, told):
    run = Run.create(tmp_path / "other", recipe)
    status, out, err = plateau("circuit @other")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"plateau: {told}")
    assert not (run.path / "circuits").exists()


def test_a_run_on_text_is_measured_on_pairs_of_the_user_s(plateau, tmp_path, undrawn):
    run = finished(tmp_path / "text", Recipe(Text(n=8, vocabulary=256), **SMALL))
    (tmp_path / "pairs.tsv").write_text("abcab\taccac\nxyx\tzyz\n")
    words = "circuit @text --prompts @pairs.tsv --steps 0 6 --json"
    status, out, _ = plateau(words)
    assert status == 0
    expected = circuits(run, steps=[0, 6], texts=(("abcab", "accac"), ("xyx", "zyz")))
    (only,) = json.loads(out)["runs"]
    assert [edge["score"] for edge in only["edges"]] == pytest.approx(expected.edges().score.tolist())
    assert kept_circuits(run).options.texts == (("abcab", "accac"), ("xyx", "zyz"))
    assert "2 sequences" in (run.path / "circuits" / "index.html").read_text()
    (tmp_path / "pairs.tsv").write_text("abcab\taccac\n")
    status, _, err = plateau(words)
    assert status == 2
    assert (
        "circuits holds circuits of texts=[['abcab', 'accac'], ['xyx', 'zyz']], not [['abcab', 'accac']]; take" in err
    )


def test_a_run_on_text_without_pairs_is_measured_on_repeated_tokens(plateau, tmp_path, undrawn):
    run = finished(tmp_path / "text", Recipe(Text(n=8, vocabulary=256), **SMALL))
    assert plateau("circuit @text --steps 6 --n-pairs 4")[0] == 0
    kept = kept_circuits(run)
    assert (kept.options.texts, kept.options.n_pairs) == ((), 4)
    pd.testing.assert_frame_equal(kept.forming().table(), circuits(run, steps=[6], n_pairs=4).table())
    status, _, err = plateau("circuit @text --steps 6 --n-pairs 4 --by-role --out @roles")
    assert (status, err) == (2, "plateau: by_role is for prompts of a task: texts have no roles\n")


def test_circuits_are_measured_on_the_device_that_is_asked_for(plateau, run, monkeypatch, undrawn):
    asked = []
    model = Run.model
    monkeypatch.setattr(Run, "model", lambda self, step, *, device="cpu": asked.append(device) or model(self, step))
    monkeypatch.setattr("plateau_interp.models.fitting.check_device", lambda device: None)
    assert plateau("circuit @run --steps 0 6 --n-pairs 4 --device cuda")[0] == 0
    assert asked[:2] == ["cuda", "cuda"]
    assert {*asked[2:]} == {"cpu"}  # the maps beside the circuit


def test_a_run_that_has_not_begun_and_a_series_are_refused(plateau, tmp_path):
    Run.create(tmp_path / "new", RECIPE)
    assert plateau("circuit @new")[2] == f"plateau: {tmp_path / 'new'} has no checkpoint yet\n"
    (tmp_path / "series").mkdir()
    (tmp_path / "series" / "series.json").write_text("{}")
    assert "is a series: circuits are measured of runs" in plateau("circuit @series")[2]


def test_what_was_measured_otherwise_is_refused(plateau, run, undrawn):
    assert plateau("circuit @run --steps 6 --n-pairs 4")[0] == 0
    status, _, err = plateau("circuit @run --steps 6 --n-pairs 4 --scoring exact")
    told = (
        f"plateau: {run.path / 'circuits'} holds circuits of scoring='attributed', not 'exact'; take another folder\n"
    )
    assert (status, err) == (2, told)


def test_a_report_has_the_circuits_that_were_measured(plateau, run, undrawn):
    index = run.path / "report" / "index.html"
    assert plateau("report @run")[0] == 0
    assert "circuit" not in re.sub(r"<(script|style).*?</\1>", "", index.read_text(), flags=re.DOTALL)
    assert plateau("circuit @run --steps 0 6 --n-pairs 4")[0] == 0
    assert plateau("report @run")[0] == 0
    page = index.read_text()
    assert re.findall(r'<figure id="figure-([\w-]+)">', page)[2:4] == ["attention_progress", "circuit_overlap"]
    assert "5 of 13 edges: 0.38 by chance" in page
    assert '<a href="../circuits/index.html">Circuit through training</a>' in page
    assert {"circuit.png", "circuit_overlap.png"} <= {path.name for path in index.parent.iterdir()}
    clean = kept_circuits(run).forming().circuits[-1].clean
    assert f"The answer's logit is {clean:.2f} above that of the corrupted prompt's answer" in page.replace(
        "&#39;", "'"
    )
    (run.path / "circuits" / "index.html").unlink()
    assert plateau("report @run")[0] == 0
    assert "Circuit through training" not in index.read_text()


def test_a_report_of_several_runs_has_the_circuits_of_each(plateau, run, tmp_path, undrawn):
    finished(tmp_path / "other", replace(RECIPE, seed=1))
    finished(tmp_path / "third", replace(RECIPE, seed=2))
    assert plateau("circuit @run --steps 6 --n-pairs 4")[0] == 0
    assert plateau("circuit @other --steps 0 6 --n-pairs 4")[0] == 0
    assert plateau("report @run @other @third --out @all")[0] == 0
    page = Path(tmp_path / "all" / "index.html").read_text()
    assert [title for title in re.findall("<h2>(.+?)</h2>", page) if "Circuit" in title] == [
        "Circuit of run",
        "Circuit of other",
    ]
    assert page.count('id="figure-circuit_overlap"') == 1  # of the one that has two steps
    assert '<a href="../other/circuits/index.html">' in page
