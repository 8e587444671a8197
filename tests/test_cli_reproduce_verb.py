"""`plateau reproduce` on the tiny paper."""

import json
from importlib.metadata import EntryPoint

import pytest
from filelock import FileLock
from tiny_paper import PAPER, recipe

from plateau_interp.cli import reproduce_verb
from plateau_interp.cli.main import main
from plateau_interp.plugins import plugins
from plateau_interp.reproductions import running
from plateau_interp.reproductions.storage import stored
from plateau_interp.runs.run import Run


@pytest.fixture
def tiny(monkeypatch):
    """The command line knows the tiny paper as loss-plateau."""
    monkeypatch.setattr("plateau_interp.cli.reproduce_verb.plugin", lambda kind, name: PAPER)


@pytest.mark.usefixtures("tiny")
def test_the_command_trains_tells_and_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "tiny", "first", "--seeds", "1", "--json"]) == 0
    told = capsys.readouterr()
    answer = json.loads(told.out)
    assert answer["results"] == "runs/tiny/RESULTS.md"
    assert answer["claims"][0]["verdict"] == "holds"
    assert "step 6/6" in told.err
    assert main(["reproduce", "tiny", "first", "--seeds", "1", "--publish", "."]) == 0
    told = capsys.readouterr()
    assert "It is never" in told.out
    assert "Results: RESULTS.md" in told.out
    assert told.err == ""
    assert (tmp_path / "results" / "tiny" / "base.parquet").is_file()


@pytest.mark.usefixtures("tiny")
def test_the_command_lists_costs_and_trains_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "tiny", "--list"]) == 0
    told = capsys.readouterr().out
    assert "first" in told
    assert "0/4" in told
    assert [str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()] == [
        "runs/tiny/.pace.json"
    ]
    Run.create("runs/tiny/base/seed-0", recipe(checkpoint_every=5))
    assert main(["reproduce", "tiny", "--list"]) == 0
    told = capsys.readouterr()
    assert "0/4" in told.out
    assert told.err.endswith("to be moved (or use another --out): runs/tiny/base/seed-0\n")


@pytest.mark.usefixtures("tiny")
def test_the_command_says_what_takes_so_long_the_first_time(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "tiny", "--list", "--json"]) == 0
    first = capsys.readouterr()
    assert first.err.startswith("plateau: timing one kind of training step, once on this machine: the figures are kept")
    assert main(["reproduce", "tiny", "--list", "--json"]) == 0
    second = capsys.readouterr()
    assert second.err == ""
    assert json.loads(second.out) == json.loads(first.out)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("frist", "tiny has no experiment 'frist'"),
        ("first --device nonsense", "unknown device 'nonsense'"),
        ("--seeds 0", "seeds must be"),
    ],
)
def test_the_command_tells_a_mistake_in_one_line(words, line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "tiny", *words.split()]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"plateau: {line}")
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("tiny")
def test_a_file_of_somebody_else_is_told_before_anything_is_trained(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results" / "tiny").mkdir(parents=True)
    (tmp_path / "results" / "tiny" / "first.png").write_text("mine")
    assert main(["reproduce", "tiny", "first", "--publish", "."]) == 2
    assert capsys.readouterr().err.startswith("plateau: results/tiny/first.png was not written by `plateau reproduce`")
    assert [file.name for file in tmp_path.iterdir()] == ["results"]


@pytest.mark.usefixtures("tiny")
def test_a_run_that_fails_keeps_no_other_from_being_made(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Run.create("runs/tiny/base/seed-0", recipe(checkpoint_every=5))
    assert main(["reproduce", "tiny", "first", "--seeds", "2", "--json"]) == 2
    told = capsys.readouterr()
    assert "1 of 4 runs failed: base seed 0: runs/tiny/base/seed-0 holds a run of another recipe" in told.err
    assert len(json.loads(told.out)["claims"]) == 2
    assert [one.seed for one in stored(PAPER, tmp_path / "runs" / "tiny").outcomes["base"]] == [1]
    assert main(["reproduce", "tiny", "first", "--seeds", "2", "--draw"]) == 2
    assert "1 of 4 runs failed" in capsys.readouterr().err


@pytest.mark.usefixtures("tiny")
def test_what_another_process_makes_is_waited_for_behind_the_others(tmp_path, monkeypatch, capsys):
    """One at a time: also what takes from it, which is nothing's failure."""
    monkeypatch.chdir(tmp_path)
    made, waited = [], []
    train = running.train_setting

    def making(setting, seed, runs, **options):
        train(setting, seed, runs, **options)
        made.append(f"{setting.name} {seed}")

    monkeypatch.setattr(running, "train_setting", making)
    run = Run.create("runs/tiny/base/seed-0", recipe())
    lock = FileLock(run.path / ".lock", is_singleton=False)
    lock.acquire()

    def wait(seconds):
        waited.append(seconds)
        lock.release()

    monkeypatch.setattr(reproduce_verb.time, "sleep", wait)
    assert main(["reproduce", "tiny", "--seeds", "1", "--json"]) == 0
    told = capsys.readouterr()
    assert told.err.count("base seed 0: another process is at it; it is waited for\n") == 1
    assert "failed" not in told.err
    assert len(waited) == 1
    assert made[-2:] == ["base 0", "left 0"]
    assert sorted(made) == ["base 0", "biased 0", "left 0", "solution 9", "taken 0"]
    assert json.loads(told.out)["claims"][0]["verdict"] == "holds"


def test_a_failure_side_by_side_is_told_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(
        plugins("experiments"), "tiny", EntryPoint("tiny", "tiny_paper:PAPER", "plateau_interp.experiments")
    )
    monkeypatch.chdir(tmp_path)
    Run.create("runs/tiny/base/seed-0", recipe(checkpoint_every=5))
    assert main(["reproduce", "tiny", "first", "--seeds", "1", "--engine", "here"]) == 2
    err = capsys.readouterr().err
    assert err.count("holds a run of another recipe") == 1
    assert err.endswith("plateau: 1 of 2 runs failed: base seed 0 (why is told above)\n")


def test_a_paper_that_has_another_name_than_its_plug_in_is_refused(tmp_path, monkeypatch, capsys):
    point = EntryPoint("other", "tiny_paper:PAPER", "plateau_interp.experiments")
    monkeypatch.setitem(plugins("experiments"), "other", point)
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "other", "--list"]) == 2
    told = "plateau: 'other' leads to a paper that is called 'tiny': its name and that of its entry point must be one"
    assert capsys.readouterr().err.startswith(told)
    assert list(tmp_path.iterdir()) == []


def test_the_command_trains_side_by_side_what_it_trains_in_turn(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(
        plugins("experiments"), "tiny", EntryPoint("tiny", "tiny_paper:PAPER", "plateau_interp.experiments")
    )
    monkeypatch.chdir(tmp_path)
    words = "reproduce tiny first --seeds 1 --json --out"
    assert main([*words.split(), "turn"]) == 0
    in_turn = json.loads(capsys.readouterr().out)["claims"]
    assert main([*words.split(), "side", "--engine", "here"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["claims"] == in_turn
    assert "plateau: biased seed 0: done" in told.err
    for file in (tmp_path / "turn").glob("*/*/metrics.jsonl"):
        assert file.read_bytes() == (tmp_path / "side" / file.relative_to(tmp_path / "turn")).read_bytes()
