"""Nothing is lost, nothing is silently wrong: forks that fail, checkpoints that are gone, files that were swapped."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from trained_runs import trained
from typecheck import unchecked

from plateau_interp.hooks import AmplifySlowGradient, FixAttention
from plateau_interp.models.settings import ModelOptions
from plateau_interp.runs import forking
from plateau_interp.runs.checkpoints import Checkpoint
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run, RunError
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.training.settings import MeasuringOptions, TrainingOptions

RECIPE = Recipe(
    MovingWindowSum(n=4, p=7),
    model=ModelOptions(d_model=16),
    training=TrainingOptions(steps=8, batch_size=8),
    interventions=(AmplifySlowGradient(),),
    measuring=MeasuringOptions(n_sequences=4),
    checkpoint_every=4,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the finished run ``parent`` and its finished fork ``fork``, left at step 6."""
    folder = tmp_path_factory.mktemp("made")
    trained(trained(Run.create(folder / "parent", RECIPE)).fork(at=6, interventions=[], out=folder / "fork"))
    return folder


@pytest.fixture
def parent(made: Path, tmp_path: Path) -> Run:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return Run(tmp_path / "parent")


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != ".lock"
    }


def reproducible(files: dict[str, bytes]) -> dict[str, bytes]:
    """Those that come out the same each time: tables have a date, and the processor never takes as long again."""
    return {name: content for name, content in files.items() if not name.endswith((".parquet", "seconds.jsonl"))}


def make_fork(parent: Run, out: str = "fork") -> Run:
    return parent.fork(at=6, interventions=[], out=parent.path.with_name(out))


def damage_parent(parent: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (parent.path / "checkpoints" / "4" / "model.safetensors").write_bytes(b"")


def fail_at(function: str, error: BaseException) -> Callable[[Run, pytest.MonkeyPatch], None]:
    def break_it(parent: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*args: Any, **kwargs: Any) -> None:
            raise error

        owner = Checkpoint if function == "save" else forking
        monkeypatch.setattr(owner, function, broken)

    return break_it


FAILURES = pytest.mark.parametrize(
    ("fail", "error"),
    [
        (damage_parent, RunError),
        (fail_at("handed_on", KeyboardInterrupt()), KeyboardInterrupt),
        (fail_at("write_environment", OSError(28, "No space left on device")), OSError),
        (fail_at("write_environment", KeyboardInterrupt()), KeyboardInterrupt),
        (fail_at("save", KeyboardInterrupt()), KeyboardInterrupt),
    ],
    ids=["damaged parent", "Ctrl-C early", "full disk", "Ctrl-C", "Ctrl-C late"],
)


@FAILURES
def test_a_fork_that_fails_leaves_no_folder(
    parent: Run, monkeypatch: pytest.MonkeyPatch, fail: Any, error: type[BaseException]
) -> None:
    fail(parent, monkeypatch)
    with pytest.raises(error):
        make_fork(parent, "new")
    assert not parent.path.with_name("new").exists()
    assert make_fork(parent).finished  # what is there is not made again


@FAILURES
@pytest.mark.parametrize("linked", [False, True])
def test_a_fork_that_fails_keeps_the_files_that_were_there(
    parent: Run, monkeypatch: pytest.MonkeyPatch, fail: Any, error: type[BaseException], linked: bool
) -> None:
    fork = parent.path.with_name("fork")
    shutil.rmtree(fork / "checkpoints")
    (fork / "metrics.jsonl").rename(fork / "old.jsonl")
    (fork / "notes.txt").write_text("mine")
    if linked:
        fork.rename(parent.path.with_name("elsewhere"))
        fork.symlink_to(parent.path.with_name("elsewhere"))
    before = contents(fork)
    fail(parent, monkeypatch)
    with pytest.raises(error) as caught:
        make_fork(parent)
    assert "symbolic link" not in str(caught.value)
    assert contents(fork) == before
    assert fork.is_symlink() == linked
    assert not (fork / "checkpoints").exists()


def test_files_that_came_into_a_new_fork_meanwhile_are_kept(parent: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    new = parent.path.with_name("new")

    def interrupted(*args: Any, **kwargs: Any) -> None:
        (new / "notes.txt").write_text("mine")
        raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_fork(parent, "new")
    assert contents(new) == {"notes.txt": b"mine"}


def test_a_fork_with_rows_and_no_checkpoints_is_refused_and_the_remedy_works(parent: Run) -> None:
    fork = parent.path.with_name("fork")
    whole = Run(fork).metrics
    shutil.rmtree(fork / "checkpoints")
    before = contents(fork)
    with pytest.raises(RunError, match=r"fork/metrics.jsonl has rows, but there is no checkpoint to go on from: put"):
        make_fork(parent)
    with pytest.raises(RunError, match="the fork was not finished; make it again with the same command"):
        next(Run(fork).train())
    assert contents(fork) == before
    (fork / "metrics.jsonl").rename(fork / "old.jsonl")
    assert trained(make_fork(parent)).metrics.equals(whole)


def test_a_fork_that_was_killed_before_its_first_checkpoint_is_made_by_the_same_command(parent: Run) -> None:
    fork = parent.path.with_name("fork")
    whole = contents(fork)
    shutil.rmtree(fork / "checkpoints")
    lines = (fork / "metrics.jsonl").read_text().splitlines(keepends=True)
    (fork / "metrics.jsonl").write_text("".join(lines[:6]))
    trained(make_fork(parent))
    assert reproducible(contents(fork)) == reproducible(whole)


def test_a_run_with_rows_and_no_checkpoints_keeps_its_rows_and_the_remedy_works(parent: Run) -> None:
    weights = parent.model().state_dict()
    shutil.rmtree(parent.path / "checkpoints")
    before = contents(parent.path)
    with pytest.raises(RunError, match=r"metrics.jsonl has 8 rows, but there is no checkpoint to go on from: put the"):
        next(parent.train())
    assert contents(parent.path) == before
    assert len(parent.metrics) == 8
    (parent.path / "metrics.jsonl").rename(parent.path / "old.jsonl")
    again = trained(parent).model().state_dict()
    assert all(torch.equal(again[name], weights[name]) for name in weights)


def test_a_finished_run_whose_last_weights_are_gone_says_so(parent: Run) -> None:
    (parent.path / "checkpoints" / "8" / "model.safetensors").unlink()
    told = (
        r"8/model.safetensors is damaged: No such file or directory; move .*8 away to go on from the checkpoint before"
    )
    for act in (lambda: list(parent.train()), parent.model):
        with pytest.raises(RunError, match=told):
            act()


def test_checkpoints_of_other_steps_and_runs_are_refused(parent: Run) -> None:
    checkpoints, fork = parent.path / "checkpoints", Run(parent.path.with_name("fork"))
    shutil.copy(checkpoints / "4" / "model.safetensors", checkpoints / "8" / "model.safetensors")
    with pytest.raises(RunError, match=r"8/model.safetensors is damaged: it was changed, or is another step's"):
        parent.model()
    shutil.rmtree(checkpoints / "8")
    shutil.copytree(fork.path / "checkpoints" / "8", checkpoints / "8")
    with pytest.raises(RunError, match=r"8/state.json belongs to the run of another recipe"):
        parent.model()
    shutil.rmtree(checkpoints / "8")
    (checkpoints / "4").rename(checkpoints / "6")
    with pytest.raises(RunError, match=r"6/state.json is damaged: it is the state of step 4, not of 6"):
        next(parent.train())


def test_a_damaged_checkpoint_with_none_before_it_has_no_remedy(parent: Run) -> None:
    (parent.path / "checkpoints" / "0" / "model.safetensors").write_bytes(b"")
    with pytest.raises(RunError, match=r"0/model.safetensors is damaged: [^;]*$"):
        parent.model(0)


def test_what_is_no_checkpoint_is_left_alone(parent: Run) -> None:
    whole = contents(parent.path)
    folder = parent.path / "checkpoints"
    shutil.rmtree(folder / "8")
    (folder / "².txt").write_text("mine")
    for name in ("²", "007", ".mine.tmp", ".9.tmp"):
        (folder / name).mkdir()
    assert parent.checkpoints == [0, 4]
    trained(parent)
    assert {child.name for child in folder.iterdir()} == {"0", "4", "8", "².txt", "²", "007", ".mine.tmp"}
    now = contents(parent.path)
    assert reproducible({name: now[name] for name in whole}) == reproducible(whole)


@pytest.mark.parametrize("step", [4.0, "4", True, "last"])
def test_steps_are_whole_numbers(parent: Run, step: Any) -> None:
    with pytest.raises(ValueError, match="step must be a whole number; got"):
        unchecked(Run.model)(parent, step)
    with pytest.raises(ValueError, match="at must be a whole number; got"):
        unchecked(Run.fork)(parent, at=step)
    with pytest.raises(ValueError, match="steps must be a whole number; got"):
        unchecked(Run.fork)(parent, at=4, steps=step)


@pytest.mark.parametrize(
    ("interventions", "told"),
    [
        (FixAttention(), r"interventions must be a list, such as \[FixAttention\(\)\]; got FixAttention"),
        ("fix-attention", "interventions must be a list"),
        ([FixAttention], "expected interventions such as"),
        (["fix-attention"], "expected interventions such as"),
    ],
)
def test_interventions_are_a_list_of_them(parent: Run, interventions: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        unchecked(Run.fork)(parent, at=4, interventions=interventions, out=parent.path.with_name("new"))
    assert not parent.path.with_name("new").exists()


def test_a_full_disk_is_told_with_the_file_wherever_it_is_noticed(parent: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    longer = replace(RECIPE, training=replace(RECIPE.training, steps=12))
    run = Run.create(parent.path, longer)
    told = set()
    for free in range(9):
        left = iter(range(free))

        def full(descriptor: int, left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space left on device: '") as caught:
            trained(run)
        told.add(Path(caught.value.filename).name)
        shutil.rmtree(parent.path / "checkpoints" / "12", ignore_errors=True)
    assert {"metrics.jsonl", "model.safetensors", "state.json", "checkpoints"} <= told


def test_making_a_run_that_fails_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*recipe.json'"):
        Run.create(tmp_path / "run", RECIPE)
    assert list(tmp_path.iterdir()) == []


def test_files_that_a_kill_left_half_written_beside_the_others_go(parent: Run) -> None:
    whole = contents(parent.path)
    shutil.rmtree(parent.path / "checkpoints" / "8")
    for name in ("metrics.jsonl", "metrics.parquet", "recipe.json", "seconds.jsonl", "environment.json"):
        (parent.path / f".{name}.0123abcd.tmp").write_text("{")
    mine = (".metrics.jsonl.tmp", ".notes.txt.0123abcd.tmp", ".metrics.jsonl.0123abcd.tmp.txt")
    for name in mine:
        (parent.path / name).write_text("mine")
    trained(parent)
    now = contents(parent.path)
    assert {*now} == {*whole, *mine}
