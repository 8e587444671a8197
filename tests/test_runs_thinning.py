import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from trained_runs import contents, finished

from plateau_interp.hooks import AmplifySlowGradient, BiasAttention
from plateau_interp.interventions.capturing import Capture, Captured
from plateau_interp.models.settings import ModelOptions
from plateau_interp.runs.checkpoints import Checkpoint
from plateau_interp.runs.errors import DamagedFile, RunError
from plateau_interp.runs.folder import RunFolder
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.resuming import state_at
from plateau_interp.runs.run import Run
from plateau_interp.runs.thinning import Thinning, dispensable
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.training.settings import MeasuringOptions, TrainingOptions

RECIPE = Recipe(
    MovingWindowSum(n=4, p=7),
    model=ModelOptions(d_model=16),
    training=TrainingOptions(steps=25, batch_size=8),
    measuring=MeasuringOptions(n_sequences=4),
    checkpoint_every=2,
    state_every=10,
    seed=3,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs that differ in nothing but how much of their state they keep: ``thin`` and ``whole``."""
    folder = tmp_path_factory.mktemp("made")
    for name, every in (("thin", 10), ("whole", 1)):
        finished(folder / name, replace(RECIPE, state_every=every))
    return folder


@pytest.fixture
def runs(made: Path, tmp_path: Path) -> Callable[[str], Run]:
    return lambda name: Run(shutil.copytree(made / name, tmp_path / name))


@pytest.mark.parametrize(
    ("steps", "every", "gone"),
    [
        ([], 10, []),
        ([0], 10, []),
        ([0, 20], 10, []),
        ([0, 20, 40], 100, [20]),
        (list(range(0, 401, 20)), 100, [step for step in range(0, 401, 20) if step % 100]),
        (list(range(0, 401, 30)), 100, [30, 60, 120, 150, 210, 240, 300, 330]),
        ([0, 1, 2, 4, 8, 100, 200, 260], 100, [1, 2, 4, 8]),
        ([50, 60, 80, 100, 120, 160], 100, [60, 80, 100]),  # a fork
        ([0, 200, 400], 100, []),
        ([0, 1, 2, 3], 1, []),
    ],
)
def test_the_first_the_last_and_some_between_stay(steps: list[int], every: int, gone: list[int]) -> None:
    assert dispensable(steps, every=every) == gone
    kept = [step for step in steps if step not in gone]
    widest = max((b - a for a, b in pairwise(steps)), default=0)
    assert all(b - a <= max(every, widest) for a, b in pairwise(kept))


def test_a_default_run_fits_in_110_megabytes_and_loses_little() -> None:
    """A kill loses at most 20 steps; a fork from anywhere makes at most 100 again."""
    recipe = Recipe(MovingWindowSum())
    weights = 4 * sum(parameter.numel() for parameter in recipe.build_model().parameters())
    there = [step for step in range(recipe.steps + 1) if recipe.keeps(step)]
    gone = {*dispensable(there, every=recipe.state_every)}
    states = [step for step in there if step not in gone]
    assert max(b - a for a, b in pairwise(there)) <= 20
    assert max(b - a for a, b in pairwise(states)) <= 100
    assert weights * (len(there) + 2 * len(states)) < 108e6  # a report and metrics take the rest


def test_a_run_keeps_what_its_recipe_asks_for(made: Path) -> None:
    thin, whole = Run(made / "thin"), Run(made / "whole")
    assert thin.checkpoints == whole.checkpoints == [*range(0, 25, 2), 25]
    assert thin.resumable == [0, 10, 20, 25]
    assert whole.resumable == whole.checkpoints
    assert not (made / "thin" / "checkpoints" / "12" / "optimizer.safetensors").exists()
    mine, theirs = contents(thin.path), contents(whole.path)
    assert {name for name in mine if mine[name] != theirs[name]} == {
        f"checkpoints/{step}/state.json" for step in range(2, 25, 2) if step % 10
    }
    assert {*theirs} - {*mine} == {f"checkpoints/{step}/optimizer.safetensors" for step in range(2, 25, 2) if step % 10}


@pytest.mark.parametrize("stop_after", [1, 2, 11, 12, 13, 24])
def test_it_loses_no_more_when_stopped_and_its_folder_ends_the_same(
    made: Path, tmp_path: Path, stop_after: int
) -> None:
    steps = Run.create(tmp_path / "run", RECIPE).train()
    for _ in range(stop_after):
        next(steps)
    steps.close()
    run = Run(tmp_path / "run")
    assert run.resumable[-1] == run.step == stop_after // 2 * 2
    assert contents(finished(run.path, RECIPE).path) == contents(made / "thin")


@pytest.mark.parametrize("killed_at", ["let_go", "unlink"])
@pytest.mark.parametrize("step", [14, 25])
def test_what_a_kill_left_is_let_go_by_the_next_call(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: str, step: int
) -> None:
    run = Run.create(tmp_path / "run", RECIPE)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    steps = run.train()
    while next(steps).step < step - 2:
        pass
    monkeypatch.setattr(RunFolder if killed_at == "let_go" else Path, killed_at, killed)
    with pytest.raises(KeyboardInterrupt):
        next(steps)
    monkeypatch.undo()
    assert run.step == step
    assert (run.path / "checkpoints" / str((step - 1) // 2 * 2) / "optimizer.safetensors").exists()
    assert contents(finished(run.path, RECIPE).path) == contents(made / "thin")


@pytest.mark.parametrize("at", [2, 4, 8, 10, 13, 18, 24])
def test_a_fork_from_anywhere_has_the_bits_of_one_with_the_whole_state(made: Path, tmp_path: Path, at: int) -> None:
    folders = []
    for name in ("thin", "whole"):
        fork = Run(made / name).fork(at=at, interventions=[BiasAttention(factor=3.0)], out=tmp_path / name)
        for _ in fork.train():
            pass
        folders.append(fork)
    thin, whole = folders
    assert thin.metrics.equals(whole.metrics)
    assert all(torch.equal(a, b) for a, b in zip(thin.model().parameters(), whole.model().parameters(), strict=True))
    first = [state_at(RunFolder(fork.path), at, device="cpu") for fork in folders]
    assert same_optimizer(*first)


def same_optimizer(one: Checkpoint, other: Checkpoint) -> bool:
    assert one.optimizer is not None
    assert other.optimizer is not None
    pairs = [(value, other.optimizer[name]) for name, value in one.optimizer.items()]
    return one.optimizer.keys() == other.optimizer.keys() and all(
        torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in pairs
    )


def test_what_is_kept_is_taken_and_only_the_optimisers_state_is_made_again(runs: Callable[[str], Run]) -> None:
    folder = RunFolder(runs("thin").path)
    whole = state_at(RunFolder(runs("whole").path), 18, device="cpu")
    again = state_at(folder, 18, device="cpu")
    assert folder.load(18).optimizer is None
    assert same_optimizer(again, whole)
    assert again.latest == whole.latest == folder.load(18).latest


def test_which_steps_are_made_again_is_told(made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "plateau_interp")
    run = Run(made / "thin")
    run.fork(at=10, out=tmp_path / "a")
    assert caplog.messages == []
    run.fork(at=18, out=tmp_path / "b")
    assert caplog.messages == [f"{run.path} keeps no optimiser state at step 18: making steps 10 to 17 again"]
    caplog.clear()
    run.fork(at=18, out=tmp_path / "b")  # it is there
    assert caplog.messages == []


def test_nothing_is_told_of_steps_that_cannot_be_made(
    runs: Callable[[str], Run], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "plateau_interp")
    run = runs("thin")
    (run.path / "checkpoints" / "10" / "optimizer.safetensors").write_bytes(b"")
    with pytest.raises(RunError, match=r"10/optimizer\.safetensors is damaged"):
        run.fork(at=18, out=tmp_path / "fork")
    assert caplog.messages == []


def test_nothing_is_told_of_a_fork_whose_parents_seconds_are_damaged(
    runs: Callable[[str], Run], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "plateau_interp")
    run = runs("thin")
    (run.path / "seconds.jsonl").write_text("{}\n")
    with pytest.raises(DamagedFile, match=r"seconds\.jsonl, line 1, is damaged"):
        run.fork(at=18, out=tmp_path / "fork")
    assert caplog.messages == []
    assert not (tmp_path / "fork").exists()


def test_memory_and_recordings_of_interventions_are_those_that_were_kept(tmp_path: Path) -> None:
    capture = Capture(("blocks.0.hook_resid_post",), out=str(tmp_path / "captured"), every=3)
    recipe = replace(RECIPE, interventions=(AmplifySlowGradient(), capture))
    run = finished(tmp_path / "run", recipe)
    recorded = {file: file.stat().st_mtime_ns for file in (tmp_path / "captured").rglob("*.safetensors")}
    assert len(Captured(tmp_path / "captured").steps) == 9
    fork = run.fork(at=18, out=tmp_path / "fork")
    assert {file: file.stat().st_mtime_ns for file in recorded} == recorded
    mine = RunFolder(run.path).load(18).memory
    assert mine.keys() == (theirs := RunFolder(fork.path).load(18).memory).keys()
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())
    for _ in fork.train():
        pass
    assert fork.metrics.equals(run.metrics)


def test_a_run_whose_last_checkpoint_was_removed_goes_on_from_the_one_before(
    made: Path, runs: Callable[[str], Run], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "plateau_interp")
    run = runs("thin")
    for step in (20, 22, 24, 25):
        shutil.rmtree(run.path / "checkpoints" / str(step))
    assert run.step == 18
    first = next(steps := run.train())
    assert first.step == 18
    assert caplog.messages == [f"{run.path} keeps no optimiser state at step 18: making steps 10 to 17 again"]
    for _ in steps:
        pass
    theirs = contents(made / "thin")
    assert {name for name, content in contents(run.path).items() if theirs.get(name) != content} == set()


def test_without_any_state_it_says_what_to_do(runs: Callable[[str], Run], tmp_path: Path) -> None:
    run = runs("thin")
    for step in (0, 10):
        shutil.rmtree(run.path / "checkpoints" / str(step))
    with pytest.raises(RunError, match=r"has no checkpoint with the optimiser's state before step 18: put its first"):
        run.fork(at=18, out=tmp_path / "fork")
    assert not (tmp_path / "fork").exists()


def test_another_rule_holds_from_then_on(runs: Callable[[str], Run]) -> None:
    run = runs("thin")
    longer = replace(RECIPE, state_every=2, training=replace(RECIPE.training, steps=32))
    assert finished(run.path, longer).resumable == [0, 10, 20, 25, 26, 28, 30, 32]
    assert Recipe.read(run.path / "recipe.json").state_every == 2
    assert finished(run.path, replace(longer, state_every=10)).resumable == [0, 10, 20, 25, 26, 28, 32]


def test_a_fork_goes_on_though_its_parent_keeps_more_now(runs: Callable[[str], Run], tmp_path: Path) -> None:
    run = runs("thin")
    run.fork(at=18, out=tmp_path / "fork")
    Run.create(run.path, replace(RECIPE, state_every=5))
    assert Run(run.path).fork(at=18, out=tmp_path / "fork").step == 18


def test_what_an_earlier_version_wrote_is_not_thinned_by_itself(runs: Callable[[str], Run]) -> None:
    run = runs("whole")
    recipe = replace(RECIPE, training=replace(RECIPE.training, steps=30))
    for file in run.path.glob("checkpoints/*/state.json"):
        as_format_1(file)
    assert finished(run.path, recipe).resumable == [*range(0, 25, 2), 25, 30]
    Thinning(RunFolder(run.path)).thin()
    assert Run(run.path).resumable == [*range(0, 25, 2), 25, 30]


def as_format_1(file: Path) -> None:
    state = json.loads(file.read_text())
    kept = {name: state[name] for name in ("step", "latest", "optimizer")}
    file.write_text(json.dumps({"format": 1, **kept}, indent=2) + "\n")


@pytest.mark.parametrize("every", [0, -1])
def test_a_number_that_cannot_be_is_refused(every: int) -> None:
    with pytest.raises(ValueError, match="state_every must be at least 1"):
        replace(RECIPE, state_every=every)
