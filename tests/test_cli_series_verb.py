"""`plateau series`: what it tells, goes on with and refuses; and series in `plateau report` and `plateau compare`."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
import torch
import transformers
from hub_cache import put_into_cache
from hub_server import serving
from huggingface_hub import constants
from measured_series import measured_series

from plateau_interp.cli.main import main
from plateau_interp.series import series as series_module
from plateau_interp.series.folder import SeriesFolder
from plateau_interp.tasks import Text
from plateau_interp.views import series_report
from plateau_interp.views.saving import report_mark

STEPS = (0, 1, 4)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Small models with a tokenizer, in folders that are named by their step; the first two are one."""
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    task = Text()
    for step in STEPS:
        transformers.set_seed(max(step, 1))
        config = transformers.GPTNeoXConfig(
            vocab_size=task.d_vocab, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
        )
        transformers.GPTNeoXForCausalLM(config).save_pretrained(folder / f"step{step}")
        task.tokenizer.save_pretrained(folder / f"step{step}")
    return folder


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    monkeypatch.setattr(series_report, "page_picture", lambda draw, name: ("<svg></svg>", report_mark(name).encode()))


@pytest.fixture
def plateau(saved, tmp_path, capsys):
    """Run a command in which @saved and @out stand for folders; returns status, stdout and stderr."""

    def run(words):
        status = main([word.replace("@saved", str(saved)).replace("@out", str(tmp_path)) for word in words.split()])
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


def test_a_series_is_measured_told_and_reported(plateau, tmp_path):
    (tmp_path / "text.txt").write_text("Once upon a time there was a sea, and in the sea there was a fish. " * 20)
    status, out, err = plateau("series @saved --first 2 --n-new 3 --held-out @out/text.txt --out @out/series")
    assert status == 0
    table = [line.split() for line in out.splitlines() if re.match(r" *\d", line)]
    assert [row[0] for row in table] == ["0", "1", "4"]
    assert [" ".join(row[5:]) for row in table] == ["shares its weights", "shares its weights", ""]
    assert "held out loss" in out
    assert f"Report: {tmp_path / 'series' / 'report' / 'index.html'}" in out.replace("\n", "")
    assert (tmp_path / "series" / "report" / "index.html").is_file()
    assert "plateau: step 4  cosine " in err
    assert "plateau: Steps 0 and 1 have the very same weights" in err
    folder = SeriesFolder(tmp_path / "series")
    assert folder.prompts.origin == "general questions of plateau-interp, the first 2"
    assert folder.settings["n_new"] == 3


def test_the_same_command_goes_on_and_more_revisions_are_added(plateau, tmp_path):
    assert plateau("series @saved --revisions 4 --first 2 --out @out/series")[0] == 0
    lines = (tmp_path / "series" / "checkpoints.jsonl").read_text()
    status, out, err = plateau("series @saved --revisions 4 --first 2 --out @out/series")
    assert status == 0
    assert "cosine" not in err
    assert (tmp_path / "series" / "checkpoints.jsonl").read_text() == lines
    assert re.search(r"^ +4 ", out, flags=re.MULTILINE)
    status, _, err = plateau("series @saved --revisions step1 4 --first 2 --out @out/series")
    assert (status, re.findall(r"step (\d+)  cosine", err)) == (0, ["1"])


def test_json_is_all_of_stdout(plateau, tmp_path):
    status, out, err = plateau("series @saved --first 2 --hook ablate-heads:heads=[1] --out @out/series --json")
    told = json.loads(out)
    assert status == 0
    assert set(told) == {"series", "checkpoints", "report"}
    assert [(row["step"], row["duplicate"], row["error"]) for row in told["checkpoints"]] == [
        (0, True, ""),
        (1, True, ""),
        (4, False, ""),
    ]
    assert told["checkpoints"][2]["cosine"] == pytest.approx(SeriesFolder(tmp_path / "series").metrics()["cosine"][2])
    assert "have the very same weights" in err
    assert SeriesFolder(tmp_path / "series").settings["interventions"][0]["name"] == "ablate-heads"


def test_what_is_no_data_makes_no_report(plateau, tmp_path):
    status, out, err = plateau("series @saved --revisions 0 1 --first 2 --out @out/series --json")
    assert (status, json.loads(out)["report"]) == (0, None)
    assert "neither is drawn" in err
    assert not (tmp_path / "series" / "report").exists()


def test_what_was_not_to_be_had_is_told_and_is_a_mistake_until_it_is_had(plateau, saved, tmp_path):
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "step4").symlink_to(saved / "step4")
    (tmp_path / "some" / "step9").mkdir()
    status, out, err = plateau("series @out/some --first 2 --out @out/series")
    assert status == 2
    assert re.search(r"^ +9 +- +- +- +not to be had", out, flags=re.MULTILINE)
    assert "Report: " in out
    assert "plateau: step 9  not to be had\n" in err
    assert err.count("plateau: Step 9 was not to be had: ") == 1
    assert err.endswith("plateau: 1 of 2 checkpoints not to be had; the same command tries again\n")
    status, out, err = plateau("series @out/some --first 2 --out @out/series --json")
    assert (status, [row["error"] == "" for row in json.loads(out)["checkpoints"]]) == (2, [True, False])
    assert plateau("series @out/some --revisions 4 --first 2 --out @out/series")[0] == 0  # it is not asked for
    (tmp_path / "some" / "step9").rmdir()
    (tmp_path / "some" / "step9").symlink_to(saved / "step0")
    assert plateau("series @out/some --first 2 --out @out/series")[0] == 0


NAME = "someone/pythia"


@pytest.fixture
def cache(saved, tmp_path, monkeypatch):
    """A cache of the hub's with two of the three checkpoints, written by hand, and no hub."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for step in (0, 4):
        put_into_cache(tmp_path / "hub", NAME, f"step{step}", f"{step:040x}", saved / f"step{step}")
    return tmp_path / "hub" / "models--someone--pythia"


def test_a_cache_serves_a_series_without_a_hub(plateau, cache):
    there = sorted(cache.rglob("*"))
    status, out, _ = plateau(f"series {NAME} --first 2 --out @out/series --json")
    assert (status, [row["step"] for row in json.loads(out)["checkpoints"]]) == (0, [0, 4])
    assert sorted(cache.rglob("*")) == there
    status, _, err = plateau(f"series {NAME} --revisions step1 --first 2 --out @out/other")
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith(f"plateau: {NAME} has no revision 'step1'; the nearest ")


@pytest.mark.slow
def test_a_series_on_a_cache_that_is_killed_anywhere_ends_as_one_that_is_not(saved, pickled, tmp_path):
    """Offline, as a process: two checkpoints with the same weights, one in pickles alone, and one that is a name alone.

    The last is what is left in a cache of a revision that was gated: nothing there says why its files are missing.
    """
    hub = tmp_path / "hub"
    for step, files in {**{step: saved / f"step{step}" for step in STEPS}, 8: pickled}.items():
        put_into_cache(hub, NAME, f"step{step}", f"{step:040x}", files)
    (hub / "models--someone--pythia" / "refs" / "step9").write_text("9" * 40)
    there = {file: file.lstat().st_mtime_ns for file in hub.rglob("*")}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(hub)}

    def start(out):
        words = ["series", NAME, "--first", "20", "--revisions", "step*", "--out", str(tmp_path / out)]
        command = [sys.executable, "-m", "plateau_interp.cli.main", *words]
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    begin = time.monotonic()
    whole = start("whole")
    _, told = whole.communicate(timeout=300)
    seconds = time.monotonic() - begin
    assert whole.returncode == 2
    rows = {record.step: record for record in SeriesFolder(tmp_path / "whole").records()}
    assert [step for step, record in rows.items() if record.error] == [8, 9]
    assert "pickle" in rows[8].error
    assert rows[9].error.startswith(
        f"{NAME}: its files of revision 'step9' are not in the cache {hub}, and HF_HUB_OFFLI"
    )
    assert f"; of {NAME} the cache has step0, step1, step4, step8; " in rows[9].error
    assert all(f"Step {step} was not to be had: {rows[step].error}\n" in told for step in (8, 9))
    assert [step for step, record in rows.items() if record.duplicate_of] == [1]

    draw = random.Random(0)
    for _ in range(4):
        killed = start("killed")
        time.sleep(draw.uniform(0.5, 1.0) * seconds)
        killed.kill()
        killed.communicate()
    last = start("killed")
    last.communicate(timeout=300)
    assert last.returncode == 2
    tables = [SeriesFolder(tmp_path / out).metrics().drop(columns="seconds") for out in ("whole", "killed")]
    pd.testing.assert_frame_equal(*(table.sort_values("step", ignore_index=True) for table in tables))
    assert {file: file.lstat().st_mtime_ns for file in hub.rglob("*")} == there


@pytest.fixture
def pickled(saved, tmp_path):
    """A checkpoint with its weights in a pickle alone."""
    folder = shutil.copytree(saved / "step4", tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    weights = transformers.GPTNeoXForCausalLM.from_pretrained(saved / "step4").state_dict()
    torch.save(weights, folder / "pytorch_model.bin")
    return folder


@pytest.fixture
def gated(saved, pickled, tmp_path, monkeypatch):
    """A hub on this machine, and an empty cache; yields which revisions are gated."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    folders = {f"step{step}": saved / f"step{step}" for step in STEPS}
    folders |= {"main": saved / "step4", "step8": pickled, "step9": tmp_path / "listed and gone"}
    refused = {"step1"}
    with serving(folders, refused) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield refused


def test_gated_missing_and_pickled_revisions_are_told_and_the_others_measured(plateau, gated, tmp_path):
    """By the hub's own client, which has a name for a gated revision before it is refused its files."""
    status, out, err = plateau(f"series {NAME} --revisions step* --first 2 --out @out/series --json")
    rows = {row["step"]: row for row in json.loads(out)["checkpoints"]}
    assert (status, [*rows]) == (2, [0, 1, 4, 8, 9])
    assert [row["cosine"] is None for row in rows.values()] == [False, True, False, True, True]
    errors = {step: row["error"] for step, row in rows.items() if row["error"]}
    assert errors[1].startswith(f"revision 'step1' of {NAME} is gated: accept its licence at http")
    assert errors[1].endswith(
        f"/{NAME}, where its owner grants access; then log in with `hf auth login`, or set HF_TOKEN"
    )
    assert "has its weights as pickle files alone (pytorch_model.bin)" in errors[8]
    assert errors[9].startswith(f"{NAME} has no revision 'step9'; the nearest ")
    assert not any("\n" in error for error in errors.values())
    for step, error in errors.items():
        assert err.count(f"plateau: Step {step} was not to be had: {error}\n") == 1
    assert err.endswith("plateau: 3 of 5 checkpoints not to be had; the same command tries again\n")
    cache = tmp_path / "hub" / "models--someone--pythia"
    assert [file for file in cache.rglob("*") if file.is_file()] == []

    gated.clear()  # access was granted
    status, out, err = plateau(f"series {NAME} --revisions step* --first 2 --out @out/series --json")
    assert status == 2
    assert [row["step"] for row in json.loads(out)["checkpoints"] if row["error"]] == [8, 9]
    assert re.findall(r"step (\d+)  ", err) == ["1", "8", "9"]


def test_a_model_that_is_gated_is_told_as_such(plateau, gated, saved, tmp_path):
    put_into_cache(tmp_path / "hub", "someone/gated", "step4", f"{4:040x}", saved / "step4")
    assert plateau("series someone/gated --first 2 --out @out/series")[0] == 0  # what is in the cache is measured
    shutil.rmtree(tmp_path / "hub")
    status, out, err = plateau("series someone/gated --first 2 --out @out/other")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("plateau: someone/gated is gated: accept its licence at http")
    assert "of someone/gated the cache has nothing" in err
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("series", "SOURCE, --out DIR are missing; see `plateau series --help`"),
        ("series @saved", "--out DIR is missing; see `plateau series --help`"),
        ("series @out/nowhere --out @out/series", "there is no folder '@out/nowhere'"),
        ("series @saved --revisions 2 --out @out/series", "@saved has no step 2; the nearest are 0, 1"),
        ("series @saved --revisions step5 --out @out/series", "@saved has no revision 'step5'; the nearest "),
        ("series @saved --revisions paper --out @out/series", "the paper measured eleutherai/pythia-*"),
        ("series @saved --prompts generall --out @out/series", "'generall' is no file; prompts are a .txt"),
        ("series @saved --first 0 --out @out/series", "first must be at least 1; got 0"),
        ("series @saved --first 101 --out @out/series", "first=101 of the 100 prompts in general questions"),
        ("series @saved --n-new many --out @out/series", "--n-new: expected a whole number; got 'many'"),
        ("series @saved --n-new 0 --out @out/series", "n_new must be at least 1; got 0"),
        ("series @saved --held-out @out/no.txt --out @out/series", "the held-out text @out/no.txt cannot be read"),
        (
            "series @saved --hook ablate-head --out @out/series",
            "no hook is called 'ablate-head'; the nearest is ablate-",
        ),
        ("series @saved --dtype float8 --out @out/series", "dtype must be one of float32, bfloat16, float16, float64"),
        ("series @saved --device nowhere --out @out/series", "unknown device 'nowhere'; expected cpu, cuda"),
        ("series @saved --out @saved/step0/config.json", "@saved/step0/config.json is a file; a folder is needed"),
        ("series @saved --outt @out/series", "there is no option --outt; the nearest is --out"),
    ],
)
def test_mistakes_are_told_in_a_line_and_write_nothing(plateau, saved, tmp_path, words, told):
    status, out, err = plateau(words)
    assert (status, out) == (2, "")
    assert err.startswith("plateau: " + told.replace("@saved", str(saved)).replace("@out", str(tmp_path)))
    assert err.count("\n") == 1
    assert not (tmp_path / "series").exists()


def test_another_series_is_refused(plateau):
    assert plateau("series @saved --revisions 4 --first 2 --out @out/series")[0] == 0
    status, out, err = plateau("series @saved --revisions 4 --first 3 --out @out/series")
    assert (status, out) == (2, "")
    assert "holds a series with other prompts, prompts_origin, prompts_sha256; take another folder" in err


def test_a_mistaken_head_is_told_and_can_be_put_right(plateau):
    status, _, err = plateau("series @saved --first 2 --hook ablate-heads:heads=[7] --out @out/series")
    assert status == 2
    assert "there is no head 7: the model has 0 to 1" in err
    assert plateau("series @saved --first 2 --hook ablate-heads:heads=[1] --out @out/series")[0] == 0


def test_an_interrupt_says_how_to_go_on(plateau, saved, tmp_path, monkeypatch):
    there, calls = series_module.free_running, []

    def interrupted(*words, **options):
        calls.append(words)
        if len(calls) >= 2:
            raise KeyboardInterrupt
        return there(*words, **options)

    monkeypatch.setattr(series_module, "free_running", interrupted)
    status, out, err = plateau("series @saved --first 2 --out @out/series")
    assert (status, out) == (130, "")
    again = f"plateau series {saved} --first 2 --out {tmp_path / 'series'}"
    assert err.splitlines()[-1] == f"plateau: stopped after 1 of 3; they are kept; go on with: {again}"
    assert [record.step for record in SeriesFolder(tmp_path / "series").records()] == [0]
    status, out, err = plateau("series @saved --first 2 --out @out/series")
    assert f"stopped after 1 of 3; they are kept; go on with: {again}" in err  # what was there before counts
    monkeypatch.undo()
    assert main(again.split()[1:]) == 0
    assert [record.step for record in SeriesFolder(tmp_path / "series").records()] == list(STEPS)


@pytest.mark.slow
def test_killed_the_same_command_goes_on(saved, tmp_path):
    words = ["series", str(saved), "--first", "40", "--out", str(tmp_path / "series")]
    command = [sys.executable, "-m", "plateau_interp.cli.main", *words]
    file = tmp_path / "series" / "checkpoints.jsonl"
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (file.exists() and file.read_text().count("\n")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    first = file.read_text().splitlines()[0]
    assert main(words) == 0
    assert file.read_text().splitlines()[0] == first
    assert [record.step for record in SeriesFolder(tmp_path / "series").records()] == list(STEPS)


def test_report_takes_series(plateau, tmp_path):
    one, other = (measured_series(tmp_path / name, {0: 0.1, 8: 0.9}) for name in ("one", "other"))
    pages = [str(folder.path / "report" / "index.html") for folder in (one, other)]
    assert plateau("report @out/one @out/other") == (0, "\n".join(pages) + "\n", "")
    together = str(tmp_path / "both" / "index.html")
    status, out, _ = plateau("report @out/one @out/other --out @out/both --json")
    assert (status, json.loads(out)) == (0, [together])
    assert "2 series: the cosine peaks between 0.90 and 0.90." in (tmp_path / "both" / "index.html").read_text()


def test_series_where_runs_are_needed_are_told(plateau, tmp_path):
    measured_series(tmp_path / "one", {0: 0.1, 8: 0.9})
    status, out, err = plateau("compare @out/one @out/one")
    assert (status, out) == (2, "")
    told = "is a series: plateau report SERIES [SERIES ...] --out DIR sets them side by side"
    assert err == f"plateau: {tmp_path / 'one'} {told}\n"
    (tmp_path / "run").mkdir()
    status, _, err = plateau("report @out/run @out/one")
    assert status == 2
    assert f"{tmp_path / 'one'} is a series, {tmp_path / 'run'} is none: a report is of runs or of series" in err
