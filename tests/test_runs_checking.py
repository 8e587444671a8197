import shutil
from pathlib import Path

import pandas as pd
import pytest
from trained_runs import OLD, SHORT, finished

from plateau_interp.runs.checking import check_run
from plateau_interp.runs.folder import RunFolder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(tmp_path_factory.mktemp("made") / "run", SHORT).path


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def test_a_run_that_is_whole(run: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in run.rglob("*")}
    checked = check_run(run)
    assert checked.lines() == [f"{run}: 3 checkpoints, 4 rows: all whole"]
    assert {file: file.stat().st_mtime_ns for file in run.rglob("*")} == before


def test_checkpoints_without_the_optimisers_state_are_counted(run: Path) -> None:
    RunFolder(run).let_go(2)
    checked = check_run(run)
    assert checked.lines() == [f"{run}: 3 checkpoints, 1 of them without the optimiser's state, 4 rows: all whole"]
    assert (checked.checkpoints, checked.resumable, checked.to_dict()["resumable"]) == (3, 2, 2)


def test_runs_of_format_1_are_read_and_their_checkpoints_counted() -> None:
    checked = check_run(OLD / "run")
    assert checked.lines() == [f"{OLD / 'run'}: 3 checkpoints, 3 of them written without digests, 8 rows: all whole"]


def test_every_fault_is_a_line(run: Path) -> None:
    checkpoints = run / "checkpoints"
    shutil.copy(checkpoints / "2" / "optimizer.safetensors", checkpoints / "4" / "optimizer.safetensors")
    (checkpoints / "0" / "model.safetensors").unlink()
    table = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join([*table[:2], "{}\n", table[3]]))
    checked = check_run(run)
    starts = ["checkpoints/0/model.safetensors", "checkpoints/4/optimizer.safetensors", "metrics.jsonl, line 3,"]
    assert len(checked.faults) == 3
    assert all(fault.startswith(f"{run}/{start}") for fault, start in zip(checked.faults, starts, strict=True))
    assert checked.lines()[0] == f"{run}: 3 checkpoints, 0 rows: 3 faults"


def test_recipes_and_tables_that_do_not_belong(run: Path) -> None:
    text = (run / "recipe.json").read_text()
    (run / "recipe.json").write_text(text.replace('"seed": 0', '"seed": 1'))
    assert check_run(run).faults == tuple(
        f"{run}/checkpoints/{step}/state.json belongs to the run of another recipe: it is another run's, or "
        "recipe.json was changed"  # and nobody is told to delete his checkpoints for that
        for step in (0, 2, 4)
    )
    (run / "recipe.json").write_text(text[:50])
    assert len(check_run(run).faults) == 1
    assert check_run(run).faults[0].startswith(f"{run}/recipe.json: not valid JSON")
    (run / "recipe.json").write_text(text)
    table = pd.read_parquet(run / "metrics.parquet")
    table.assign(loss=0.0).to_parquet(run / "metrics.parquet")
    assert check_run(run).faults == (f"{run}/metrics.parquet is damaged: its rows are not those of metrics.jsonl",)
    rows = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(rows.replace('"loss": 1', '"loss": 3').replace('"loss": 2', '"loss": 3'))
    (fault,) = check_run(run).faults
    assert fault.startswith(f"{run}/metrics.jsonl is damaged: its rows are not those that were there when")
    (run / "metrics.jsonl").write_text(rows)
    (run / "metrics.parquet").write_bytes(b"PAR1")
    assert check_run(run).faults[0].startswith(f"{run}/metrics.parquet is damaged: ")
    (run / "metrics.parquet").unlink()
    shutil.rmtree(run / "checkpoints")
    assert check_run(run).faults == (f"{run}/metrics.jsonl has 4 rows, but there is no checkpoint to go on from",)


def test_a_recipe_that_ends_before_the_run_does(run: Path) -> None:
    text = (run / "recipe.json").read_text()
    (run / "recipe.json").write_text(text.replace('"steps": 4', '"steps": 3'))
    message = f"{run}/recipe.json asks for 3 steps, but there is a checkpoint of step 4: it was changed"
    assert check_run(run).faults == (message,)
    (run / "recipe.json").write_text(text.replace('"steps": 4', '"steps": 9'))
    assert check_run(run).faults == (), "a run may be lengthened"


def test_weights_of_another_model_are_a_fault_even_without_digests(tmp_path: Path) -> None:
    old = Path(shutil.copytree(OLD / "run", tmp_path / "run"))
    recipe = (old / "recipe.json").read_text()
    (old / "recipe.json").write_text(recipe.replace('"d_mlp": 8', '"d_mlp": 9'))
    assert len(check_run(old).faults) == 3
    assert "does not fit" in check_run(old).faults[0]


def test_a_path_may_be_text(run: Path) -> None:
    assert check_run(str(run)) == check_run(run)
