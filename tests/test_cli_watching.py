"""plateau_interp.cli.watching: progress that is read from folders, whoever trains the runs."""

import json
import time

import pytest

from plateau_interp.cli import watching
from plateau_interp.cli.watching import watching_runs


@pytest.fixture
def folders(tmp_path):
    return {tmp_path / name: steps for name, steps in (("one", 10), ("two", 20))}


def write(folder, *steps):
    folder.mkdir(exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps({"step": step}) + "\n" for step in steps))


def test_lines_tell_runs_steps_and_the_time_left(folders, monkeypatch, capsys):
    monkeypatch.setattr(watching, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(watching, "PLAIN_SECONDS", 0.02)
    one, two = folders
    with watching_runs("both", folders) as show:
        write(one, *range(10))
        write(two, *range(5))
        show(one, "one: done")
        deadline = time.monotonic() + 30
        while "1/2 runs, step 15/30" not in (err := capsys.readouterr().err):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert " s left" in err


def test_a_killed_run_that_goes_on_from_its_checkpoint_takes_no_negative_time(folders, monkeypatch, capsys):
    monkeypatch.setattr(watching, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(watching, "PLAIN_SECONDS", 0.02)
    _, two = folders
    write(two, *range(15))

    def read_until(what):
        deadline = time.monotonic() + 30
        while what not in (told := capsys.readouterr().err):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return told

    with watching_runs("both", folders):
        read_until("step 15/30")
        write(two, *range(10))
        read_until("step 10/30")
        write(two, *range(12))
        told = read_until("step 12/30, ")
    assert "-" not in told


def test_ctrl_c_tells_how_many_are_done(folders):
    one, two = folders
    write(one, *range(10))
    write(two)
    told = "after 1 of 2 runs; the others go on from a checkpoint"
    with pytest.raises(KeyboardInterrupt, match=told), watching_runs("both", folders):
        raise KeyboardInterrupt


def test_ctrl_c_when_no_run_is_left_tells_what_is_missing(folders):
    """The table and the report are written within the same context."""
    told = "when no run was left, before what is made of them was written"
    one, two = folders
    write(one, *range(10))
    write(two, *range(20))
    for runs in (folders, {}):
        with pytest.raises(KeyboardInterrupt, match=f"^{told}$"), watching_runs("both", runs):
            raise KeyboardInterrupt


def test_ctrl_c_before_any_run_has_begun_tells_of_no_checkpoint(folders):
    told = "^after 0 of 2 runs; none had begun$"
    with pytest.raises(KeyboardInterrupt, match=told), watching_runs("both", folders):
        raise KeyboardInterrupt
    write(next(iter(folders)), *range(10))
    told = "^after 1 of 2 runs; no other had begun$"
    with pytest.raises(KeyboardInterrupt, match=told), watching_runs("both", folders):
        raise KeyboardInterrupt


def test_what_is_half_written_is_no_step(folders):
    one, two = folders
    write(one, 3)
    with (one / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9')
    write(two)
    with pytest.raises(KeyboardInterrupt, match="after 0 of 2"), watching_runs("both", folders):
        raise KeyboardInterrupt
