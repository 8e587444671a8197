"""Schedules that can never act: which, told once, when a run is made, lengthened or forked."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from trained_runs import finished

from plateau_interp import MeasuringOptions, ModelOptions, Recipe, Run, TrainingOptions, toy_model, train
from plateau_interp.cli.main import main
from plateau_interp.hooks import BiasAttention, During, FixAttention, MixAttention, When
from plateau_interp.interventions.attaching import InterventionWarning
from plateau_interp.interventions.capturing import Capture
from plateau_interp.interventions.plan import brief
from plateau_interp.runs.recipe import Fork
from plateau_interp.runs.schedules import CheckpointWarning, idle
from plateau_interp.sweeps.jobs import Job, train_run
from plateau_interp.tasks import MovingWindowSum

BIAS = BiasAttention(factor=3.0)
LATE = During(BIAS, start=20)
CAPTURE = Capture(("blocks.0.hook_resid_post",), out="captured", every=4)
RECIPE = Recipe(
    MovingWindowSum(n=4),
    ModelOptions(d_model=8),
    TrainingOptions(steps=10, batch_size=2),
    measuring=MeasuringOptions(n_sequences=2),
    checkpoint_every=2,
)


def acting(*interventions: Any, steps: int = 10) -> Recipe:
    return replace(RECIPE, interventions=interventions, training=replace(RECIPE.training, steps=steps))


def told(work: Callable[[], Any]) -> list[str]:
    """The warnings of interventions that come of it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InterventionWarning)
        work()
    return [str(one.message) for one in caught]


@dataclass(frozen=True, eq=False)
class Pair:
    """Wraps two."""

    several: tuple[Any, ...]

    def attach(self, model: Any) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("intervention", "acts"),
    [
        (During(BIAS, start=9), True),
        (During(BIAS, start=10), False),
        (During(BIAS, start=30, stop=40, ramp=5), False),
        (During(BIAS, every=4, start=3), True),
        (During(During(BIAS, start=5), stop=5), False),
        (During(During(BIAS, start=5), stop=6), True),
        (During(During(BIAS, every=2), start=1, every=2), False),  # even and odd steps
        (During(During(BIAS, every=2), start=1, every=3), True),
        (During(When(BIAS, "loss < 9"), start=10), False),
        (When(During(BIAS, start=10), "loss < 9"), False),
        (When(BIAS, "loss < 9"), True),
        (During(CAPTURE, start=1, every=4), False),  # what the capture is due at is none of its steps
        (During(CAPTURE, start=1, every=3), True),
        (During(CAPTURE, start=9), False),
        (CAPTURE, True),
        (MixAttention(0.5, towards=During(FixAttention(), start=10)), False),
        (Pair((BIAS, During(BIAS, start=10))), False),
        (Pair((BIAS, During(BIAS, start=9))), True),
    ],
)
def test_what_can_act_within_ten_steps(intervention: Any, acts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recipe, "to_dict", lambda recipe: {"interventions": [*recipe.interventions]})
    found = list(idle(acting(intervention)))
    assert [steps for _, steps in found] == ([] if acts else [range(10)])


def test_a_fork_that_makes_no_step_is_not_blamed_on_its_schedules() -> None:
    recipe = acting(During(FixAttention(), start=3))
    assert list(idle(replace(recipe, fork_of=Fork(RECIPE, 9)))) == []
    assert list(idle(replace(recipe, fork_of=Fork(RECIPE, 10)))) == []
    assert list(idle(replace(acting(LATE), fork_of=Fork(RECIPE, 10)))) == []
    assert [steps for _, steps in idle(replace(acting(LATE), fork_of=Fork(RECIPE, 9)))] == [range(9, 10)]


def test_it_is_told_when_the_run_is_made_and_when_it_is_lengthened_in_vain(tmp_path: Path) -> None:
    message = "During(BiasAttention(factor=3.0), start=20) never acts: the run makes steps 0 to 9"
    assert told(lambda: Run.create(tmp_path / "run", acting(BIAS, LATE))) == [message]
    assert told(lambda: finished(tmp_path / "run", acting(BIAS, LATE))) == []  # it was told
    longer = told(lambda: Run.create(tmp_path / "run", acting(BIAS, LATE, steps=20)))
    assert longer == [message.replace("to 9", "to 19")]
    assert told(lambda: finished(tmp_path / "run", acting(BIAS, LATE, steps=21))) == []


def test_as_an_error_it_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(InterventionWarning, match="never acts"):
        Run.create(tmp_path / "run", acting(LATE))
    assert not (tmp_path / "run").exists()


def test_a_fork_is_told_of_a_window_before_it(tmp_path: Path) -> None:
    early = During(BIAS, stop=4)
    parent = finished(tmp_path / "parent", acting(early))
    message = "During(FixAttention(), stop=4) never acts: the fork makes steps 4 to 9"
    assert told(lambda: parent.fork(at=4, interventions=[During(FixAttention(), stop=4)])) == [message]
    assert told(lambda: parent.fork(at=2, interventions=[During(FixAttention(), stop=4)])) == []
    # What it kept has acted in the parent.
    kept = parent.fork(at=6, out=tmp_path / "kept")
    finished(kept.path, kept.recipe)
    assert told(lambda: kept.fork(at=8, interventions=[early, BIAS], out=tmp_path / "again")) == []
    assert told(lambda: kept.fork(at=8, interventions=[BIAS], out=tmp_path / "other")) == []


def test_the_command_line_and_sweeps_tell_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--n", "4", "--d-model", "8", "--steps", "2", "--batch-size", "2", "--n-sequences", "2"]
    words = ["train", "moving-window-sum", *sizes, "--out"]
    warnings.simplefilter("default", InterventionWarning)  # pytest puts its own back
    assert main([*words, str(tmp_path / "run"), "--hook", "during:intervention=fix-attention,start=500"]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    never = "During(FixAttention(), start=500) never acts: the run makes steps 0 to 1"
    assert lines == [f"plateau: warning: {never}"]
    recipe = Run(tmp_path / "run").recipe
    ending = train_run(Job(str(tmp_path / "swept"), recipe.to_json(), str(tmp_path)))
    assert (ending.how, ending.warned) == ("done", (never,))


def test_checkpoints_after_the_last_step_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = replace(RECIPE, checkpoint_at=(3, 10, 11, 5000))
    with pytest.warns(CheckpointWarning, match="^checkpoint_at 11, 5000 comes to nothing: the run ends at step 10$"):
        Run.create(tmp_path / "run", recipe)
    Run.create(tmp_path / "run", recipe)  # it was told
    with pytest.warns(CheckpointWarning, match="^checkpoint_at 5000 comes to nothing: the run ends at step 11$"):
        Run.create(tmp_path / "run", replace(recipe, training=replace(recipe.training, steps=11)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CheckpointWarning)
        parent = finished(tmp_path / "parent", recipe)
    parent.fork(at=4, out=tmp_path / "fork")  # what it has of its parent it was not asked for
    sizes = ["--n", "4", "--d-model", "8", "--steps", "2", "--batch-size", "2", "--n-sequences", "2"]
    with warnings.catch_warnings():
        warnings.simplefilter("default", CheckpointWarning)
        words = ["train", "moving-window-sum", *sizes, "--checkpoint-at", "2", "3", "--out", str(tmp_path / "cli")]
        assert main(words) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert lines == ["plateau: warning: checkpoint_at 3 comes to nothing: the run ends at step 2"]


def test_training_without_a_folder_tells_it(tmp_path: Path) -> None:
    def training(*interventions: Any, **options: Any) -> list[str]:
        model = toy_model(RECIPE.task, d_model=8)
        return told(lambda: [*train(model, RECIPE.task, batch_size=2, interventions=interventions, **options)])

    assert training(LATE, steps=3) == [f"{brief(LATE)} never acts: training makes steps 0 to 2"]
    assert training(During(BIAS, start=2), BIAS, steps=3) == []
    assert training(During(BIAS, stop=2), steps=5, start=3) == []  # it was before, for all that is known
    never = During(replace(CAPTURE, out=str(tmp_path / "captured")), start=1, every=4)
    assert training(never, steps=9) == [f"{brief(never)} never acts: training makes steps 0 to 8"]
    assert "every=4), start=1, every=4)" in brief(never)
    with pytest.raises(InterventionWarning, match="never acts"):
        next(train(toy_model(RECIPE.task, d_model=8), RECIPE.task, steps=3, interventions=[LATE]))
