import json
from dataclasses import replace
from pathlib import Path

import pytest
from test_runs_pruning import RECIPE, files
from trained_runs import trained

from plateau_interp.cli.main import main
from plateau_interp.runs.pruning import prune_run
from plateau_interp.runs.run import Run

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that keeps more than its recipe asks for."""
    made = trained(Run.create(tmp_path / "run", RECIPE))
    return Run.create(made.path, replace(RECIPE, state_every=6)).path


def test_the_command(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(run)
    assert main(["prune", str(run), "--dry-run"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith(f"{run}: would free ")
    assert told.err == ""
    assert files(run) == before
    assert main(["prune", str(run), str(tmp_path / "nowhere")]) == 2
    told = capsys.readouterr()
    assert told.out.startswith(f"{run}: freed ")
    reason = f"{tmp_path / 'nowhere'} is not a folder; `plateau train` makes a run"
    assert told.err == f"plateau: 1 of 2 runs were left as they are: {reason}\n"
    assert main(["prune", str(run), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["run"], found["steps"], found["freed"], found["steps_made_again"]) == (str(run), [], 0, 5)
    assert main(["prune"]) == 2
    assert capsys.readouterr().err == "plateau: which run? plateau prune RUN [RUN ...]\n"


def test_a_fork_says_which_steps_it_makes_again(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prune_run(run)
    assert main(["fork", str(run), "--at", "4", "--steps", "4", "--out", str(tmp_path / "fork")]) == 0
    line = f"plateau: {run} keeps no optimiser state at step 4: making steps 0 to 3 again"
    assert line in capsys.readouterr().err.splitlines()
