import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from kept_runs import copy_kept
from trained_runs import trained

from plateau_interp.models.settings import ModelOptions
from plateau_interp.runs.checking import check_run
from plateau_interp.runs.errors import RunError
from plateau_interp.runs.folder import RunFolder, only_writer
from plateau_interp.runs.pruning import prune_run
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.training.settings import MeasuringOptions, TrainingOptions

RECIPE = Recipe(
    MovingWindowSum(n=4, p=7),
    model=ModelOptions(d_model=16),
    training=TrainingOptions(steps=12, batch_size=8),
    measuring=MeasuringOptions(n_sequences=4),
    checkpoint_every=2,
    state_every=1,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that keeps everything, though its recipe asks for less since it was trained."""
    run = trained(Run.create(tmp_path_factory.mktemp("made") / "run", RECIPE))
    return Run.create(run.path, replace(RECIPE, state_every=6)).path


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def files(path: Path) -> dict[str, bytes]:
    inside = [file for file in path.rglob("*") if file.is_file() and file.name != ".lock"]
    return {str(file.relative_to(path)): file.read_bytes() for file in inside}


def size(path: Path) -> int:
    return sum(file.stat().st_size for file in (path / "checkpoints").rglob("*") if file.is_file())


def test_what_nobody_needs_goes_and_a_rehearsal_says_the_same(run: Path) -> None:
    before, n_bytes = files(run), size(run)
    rehearsed = prune_run(run, rehearsing=True)
    assert files(run) == before
    pruned = prune_run(run)
    assert replace(rehearsed, is_rehearsed=False) == pruned
    assert Run(run).resumable == [0, 6, 12]
    assert (pruned.steps, pruned.checkpoints, pruned.again, pruned.n_bytes) == ((2, 4, 8, 10), 7, 5, n_bytes)
    optimizers = sum(len(before[f"checkpoints/{step}/optimizer.safetensors"]) for step in pruned.steps)
    assert pruned.freed == optimizers
    assert n_bytes - size(run) == pytest.approx(optimizers, rel=0.01)  # state.json is shorter, too
    assert pruned.line() == (
        f"{run}: freed {optimizers / 1e6:.1f} MB of {n_bytes / 1e6:.1f} MB, "
        "the optimiser's state of 4 of 7 checkpoints; a fork makes at most 5 steps again"
    )
    after = files(run)
    assert {*before} - {*after} == {f"checkpoints/{step}/optimizer.safetensors" for step in pruned.steps}
    assert {name for name in after if after[name] != before[name]} == {
        f"checkpoints/{step}/state.json" for step in pruned.steps
    }
    assert check_run(run).faults == ()
    assert prune_run(run).freed == 0
    assert files(run) == after


def test_a_pruned_run_goes_on_and_is_forked_to_the_same_bits(made: Path, run: Path, tmp_path: Path) -> None:
    begun = Run(run).fork(at=4, out=tmp_path / "begun")
    shutil.rmtree(begun.path / "checkpoints")
    (begun.path / "metrics.jsonl").unlink()  # its folder promises to be made again from its parent
    prune_run(run)
    longer = replace(Run(made).recipe, training=replace(RECIPE.training, steps=16))
    whole = Run(shutil.copytree(made, tmp_path / "whole"))
    assert Run(run).fork(at=4, out=begun.path).step == 4
    for at in (4, 11):
        forks = [trained(parent.fork(at=at)) for parent in (Run(run), whole)]
        assert_same(*forks)
    assert_same(trained(begun), whole)
    assert_same(*(trained(Run.create(path, longer)) for path in (run, whole.path)))


def assert_same(one: Run, other: Run) -> None:
    assert one.metrics.equals(other.metrics)
    assert all(torch.equal(a, b) for a, b in zip(one.model().parameters(), other.model().parameters(), strict=True))


@pytest.mark.parametrize("number", [1, 2])
def test_folders_of_earlier_versions_are_pruned(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy_kept(number, tmp_path, monkeypatch)
    weights = [list(Run("run").model(step).parameters()) for step in (0, 4, 8)]
    pruned = prune_run(Path("run"))
    assert (pruned.steps, pruned.again) == ((4,), 7)
    assert Run("run").resumable == [0, 8]
    again = [list(Run("run").model(step).parameters()) for step in (0, 4, 8)]
    assert all(
        torch.equal(a, b) for one, other in zip(weights, again, strict=True) for a, b in zip(one, other, strict=True)
    )
    checked = check_run(Path("run"))
    assert (checked.faults, checked.undigested, checked.resumable) == ((), 2 if number == 1 else 0, 2)
    assert prune_run(Path("run")).steps == ()
    trained(Run("run").fork(at=4, out="forked"))


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_a_damaged_folder_is_left_as_it_is(run: Path, name: str) -> None:
    for step in (2, 6):
        (run / "checkpoints" / str(step) / name).write_bytes(b"{")
    before = files(run)
    for rehearsing in (True, False):
        with pytest.raises(RunError, match=rf"run: nothing was pruned: .*2/{name} is damaged.*\(and 1 more: see"):
            prune_run(run, rehearsing=rehearsing)
    assert files(run) == before


def test_one_fault_is_told_alone(run: Path) -> None:
    (run / "checkpoints" / "2" / "state.json").write_bytes(b"{")
    with pytest.raises(RunError, match=r"run: nothing was pruned: .*2/state.json is damaged") as refused:
        prune_run(run)
    assert "more" not in str(refused.value)


def test_what_is_no_run_and_what_is_being_written_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="nowhere is not a folder"):
        prune_run(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"holds no recipe\.json"):
        prune_run(tmp_path)
    before = files(run)
    with only_writer(run), pytest.raises(RunError, match="this process is writing to"):
        prune_run(run)
    assert files(run) == before


@pytest.mark.parametrize("linked", ["checkpoints", "checkpoints/4"])
def test_through_a_link_another_run_is_not_made_thinner(run: Path, tmp_path: Path, linked: str) -> None:
    other = Path(shutil.copytree(run, tmp_path / "other"))
    shutil.rmtree(other / linked)
    (other / linked).symlink_to(run / linked)
    told = f"^{re.escape(str(other / linked))} is a link: .*; put a copy in its place$"
    before, recipe = files(run), (other / "recipe.json").read_bytes()
    longer = replace(RECIPE, training=TrainingOptions(steps=14, batch_size=8), state_every=100)
    for change in (
        lambda: prune_run(other),
        lambda: prune_run(other, rehearsing=True),
        lambda: list(Run(other).train()),
        lambda: Run.create(other, longer),
    ):
        with pytest.raises(RunError, match=told):
            change()
    assert files(run) == before
    assert (other / "recipe.json").read_bytes() == recipe
    assert Run(other).metrics.equals(Run(run).metrics)
    assert Run(other).model(4).cfg.d_model == 16
    assert Run(other).fork(at=4, out=tmp_path / "fork").checkpoints == [4]


def test_a_run_may_itself_be_reached_through_a_link(run: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(run)
    assert prune_run(tmp_path / "link").steps == (2, 4, 8, 10)
    assert list(Run(tmp_path / "link").train()) == []


def test_what_a_kill_left_goes_too(run: Path) -> None:
    checkpoints = run / "checkpoints"
    optimizer = (checkpoints / "2" / "optimizer.safetensors").read_bytes()
    prune_run(run)
    (checkpoints / "2" / "optimizer.safetensors").write_bytes(optimizer)
    (checkpoints / "4" / ".state.json.0123abcd.tmp").write_bytes(b"x" * 10)
    shutil.copytree(checkpoints / "6", checkpoints / ".14.tmp")
    left = 10 + len(optimizer) + sum(file.stat().st_size for file in (checkpoints / ".14.tmp").iterdir())
    assert prune_run(run, rehearsing=True).freed == prune_run(run).freed == left
    assert sorted(child.name for child in checkpoints.iterdir()) == sorted(map(str, range(0, 13, 2)))
    assert sorted(child.name for child in (checkpoints / "4").iterdir()) == sorted(
        ["interventions.safetensors", "model.safetensors", "state.json"]
    )


KILLED = """
import os, signal, sys
from pathlib import Path
from plateau_interp.runs import pruning

def killed_at(function):
    def call(*words, **more):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*words, **more)
    return call

for number, run in enumerate(map(Path, sys.argv[1:])):
    left, child = number, os.fork()
    if not child:
        os.fsync, Path.replace, Path.unlink = map(killed_at, (os.fsync, Path.replace, Path.unlink))
        pruning.prune_run(run)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
"""Prunes each folder in a child that is killed before its first call that changes a disk, its second, and so on."""


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_a_folder_that_is_whole(made: Path, tmp_path: Path) -> None:
    pruned, *runs = (Path(shutil.copytree(made, tmp_path / str(number))) for number in range(18))
    prune_run(pruned)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLED, *map(str, runs)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert list(map(int, done.stdout.split())) == [*[-signal.SIGKILL] * 16, 0], done.stderr
    for run in runs:
        assert check_run(run).faults == ()
        assert Run(run).resumable[-1] == 12
        prune_run(run)
        assert files(run) == files(pruned)


def test_a_folder_that_may_not_be_written_is_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    before = files(run)
    with pytest.raises(OSError, match=r"No space left on device: '.*2/state.json'"):
        prune_run(run)
    assert files(run) == before
    assert RunFolder(run).resumable == [*range(0, 13, 2)]
