"""plateau_interp.sweeps.of_runs: when a run is done, how far it is, and what the table has of it."""

import shutil
from pathlib import Path

import pytest
from small_sweeps import BASE

from plateau_interp import Recipe, Run, RunError
from plateau_interp.sweeps.of_runs import OfRuns, steps_made

KIND = OfRuns()
RECIPE = Recipe.from_dict(BASE)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run = Run.create(tmp_path_factory.mktemp("trained") / "run", RECIPE)
    list(run.train())
    return run.path


@pytest.fixture
def folder(trained, tmp_path):
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_a_run_is_made_once_all_its_steps_are(folder, tmp_path):
    assert KIND.made(RECIPE, folder)
    assert not KIND.made(RECIPE, tmp_path / "nowhere")
    assert not KIND.made(Recipe.from_dict({**BASE, "training": {"steps": 9, "batch_size": 4}}), folder)


def test_a_run_whose_last_checkpoint_is_damaged_is_not_done(folder):
    (folder / "checkpoints/6/model.safetensors").write_bytes(b"")
    with pytest.raises(RunError, match=r"checkpoints/6/model\.safetensors is damaged"):
        KIND.made(RECIPE, folder)


def test_steps_are_read_off_the_last_whole_line(folder):
    assert steps_made(folder) == 4  # measured every third step: 0 and 3
    table = folder / "metrics.jsonl"
    *lines, _last = table.read_bytes().splitlines(keepends=True)
    table.write_bytes(b"".join(lines) + b'{"step": 3, "lo')
    assert steps_made(folder) == 1
    assert steps_made(folder / "nowhere") == 0


def test_the_table_has_what_was_made_and_what_came_out(folder, tmp_path):
    row = KIND.row(RECIPE, folder)
    assert (row["steps"], row["finished"], row["final_loss"]) == (6, True, Run(folder).summary.final_loss)
    assert row["final_step"] == 3  # the last that was measured
    assert KIND.row(RECIPE, tmp_path / "nowhere") == {"steps": 0, "finished": False}
