"""plateau_interp.runs.resuming: what no run on a processor shows; the rest is in test_runs_run."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from trained_runs import finished

from plateau_interp.interventions.capturing import Capture
from plateau_interp.models.settings import ModelOptions
from plateau_interp.runs import resuming
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run, RunError
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.training.loop import Step
from plateau_interp.training.settings import MeasuringOptions, TrainingOptions

RECIPE = Recipe(
    MovingWindowSum(n=4, p=5),
    model=ModelOptions(d_model=8),
    training=TrainingOptions(steps=30, batch_size=4),
    measuring=MeasuringOptions(every=10, n_sequences=4),
    checkpoint_every=30,
)


class Elsewhere:
    """Has a run take its device for another than the processor, and notes the steps whose loss was read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, wrong_at: int | None = None) -> None:
        self.read: list[int] = []
        steps = resuming.LiveRun.steps

        def watched(run: Any, *, stop: int) -> Any:
            for step in steps(run, stop=stop):
                yield Unread(step, self.read, is_wrong=step.step == wrong_at)

        monkeypatch.setattr(resuming.LiveRun, "steps", watched)
        most = resuming.most_unread("cuda")
        monkeypatch.setattr(resuming, "most_unread", lambda device: most)


class Unread(Step):
    def __init__(self, step: Step, read: list[int], *, is_wrong: bool) -> None:
        super().__init__(step.step, step.samples, step.loss_tensor, step.metric_tensors, step.epoch)
        self.__dict__.update(read=read, is_wrong=is_wrong)

    @property
    def loss(self) -> float:  # type: ignore[override]
        self.__dict__["read"].append(self.step)
        return float("nan") if self.__dict__["is_wrong"] else self.loss_tensor.item()


def last_read_when_yielded(run: Run, read: list[int]) -> list[int]:
    return [max(read, default=-1) for _ in run.train()]


def test_losses_are_read_where_a_step_is_measured_and_at_least_every_twentieth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.create(tmp_path / "run", RECIPE)
    elsewhere = Elsewhere(monkeypatch)
    reached = last_read_when_yielded(run, elsewhere.read)
    assert reached == [0] * 10 + [10] * 10 + [20] * 9 + [29]
    seldom = replace(RECIPE, measuring=MeasuringOptions(every=100, n_sequences=4))
    elsewhere.read.clear()
    assert last_read_when_yielded(Run.create(tmp_path / "seldom", seldom), elsewhere.read) == [0] * 20 + [20] * 9 + [29]


def test_the_first_loss_that_is_no_number_is_told_however_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run.create(tmp_path / "run", RECIPE)
    Elsewhere(monkeypatch, wrong_at=13)
    steps = run.train()
    assert [next(steps).step for _ in range(20)] == [*range(20)]
    with pytest.raises(RunError, match=r"training diverged at step 13: the loss is nan\. Checkpoint 0 is kept"):
        next(steps)
    assert run.checkpoints == [0]
    assert torch.isfinite(torch.tensor([row for row in run.metrics.loss])).all()


@pytest.mark.parametrize("again", [None, "empty", "a run"])
@pytest.mark.parametrize("during", [False, True], ids=["between steps", "during a step"])
@pytest.mark.parametrize("at", [3, 9, 29])
def test_a_folder_that_is_moved_meanwhile_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, during: bool, again: str | None
) -> None:
    """Nor is anything written into another that has its name now; where it was moved to, the run goes on as it was."""
    path, captured = tmp_path / "run", tmp_path / "run" / "captured"
    recipe = replace(RECIPE, checkpoint_every=10, interventions=(Capture(("hook_embed",), out=str(captured), every=4),))

    def move() -> None:
        path.rename(tmp_path / "moved")
        if again is not None:
            path.mkdir()
        if again == "a run":
            Run.create(path, replace(RECIPE, seed=1))

    steps = resuming.LiveRun.steps

    def moving(run: Any, *, stop: int) -> Any:
        for step in steps(run, stop=stop):
            if step.step == at:
                move()
            yield step

    if during:
        monkeypatch.setattr(resuming.LiveRun, "steps", moving)
    training = Run.create(path, recipe).train()
    while not during and next(training).step < at:
        pass
    if not during:
        move()
    with pytest.raises(RunError, match=r"run is gone: it was moved or removed while it was written to; go on where it"):
        list(training)
    monkeypatch.undo()
    there = {file.name for file in path.rglob("*")}
    assert there == {None: set(), "empty": set(), "a run": {"recipe.json", ".lock"}}[again]
    shutil.rmtree(path, ignore_errors=True)
    (tmp_path / "moved").rename(path)
    undisturbed = finished(tmp_path / "undisturbed", replace(recipe, interventions=()))
    assert finished(path, recipe).metrics.equals(undisturbed.metrics)


def test_a_run_that_is_moved_after_its_last_step_is_not_made_again(tmp_path: Path) -> None:
    finished(tmp_path / "run", RECIPE)
    run = Run(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "moved")
    with pytest.raises(RunError, match=r"holds no recipe\.json any more: it was moved or removed after it was opened"):
        list(run.train())
    assert not (tmp_path / "run").exists()
