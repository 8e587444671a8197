import json
from pathlib import Path

import pytest
from measured_series import measured_series
from trained_runs import OLD, SHORT, finished

from plateau_interp.cli.main import main


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return finished(tmp_path / "run", SHORT).path


def test_the_command(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(run)]) == 0
    assert capsys.readouterr().out == f"{run}: 3 checkpoints, 4 rows: all whole\n"
    (run / "checkpoints" / "2" / "state.json").write_text("")
    assert main(["check", str(run), str(OLD / "run"), str(tmp_path / "nowhere")]) == 2
    out, err = capsys.readouterr()
    assert err == f"plateau: damaged: {run} (1 of 2); there is no such folder: {tmp_path / 'nowhere'}\n"
    told = out.splitlines()
    assert told[0] == f"{run}: 3 checkpoints, 4 rows: 1 fault"
    assert told[1].startswith(f"{run}/checkpoints/2/state.json is damaged")
    assert told[2].endswith("all whole")
    assert len(told) == 3
    assert main(["check", str(run)]) == 2
    assert capsys.readouterr().err == f"plateau: damaged: {run}\n"
    assert main(["check", str(run), "--json"]) == 2
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["run"], found["checkpoints"], len(found["faults"])) == (str(run), 3, 1)
    assert main(["check"]) == 2


def test_a_folder_that_is_missing_is_no_damaged_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "nowhere"]) == 2
    assert capsys.readouterr() == ("", "plateau: there is no such folder: nowhere\n")


def test_a_series_that_is_damaged_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = measured_series(tmp_path / "series", {0: 0.1, 1: 0.2}).path
    assert main(["check", str(folder)]) == 0
    capsys.readouterr()
    (folder / "answers.parquet").unlink()
    assert main(["check", str(folder)]) == 2
    assert capsys.readouterr().err == f"plateau: damaged: {folder}\n"
