"""None means the task's default: Python, recipe and command line train one model for one task."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hook_cases import recheck
from typecheck import unchecked

from plateau_interp.cli.main import main
from plateau_interp.models import ToyTransformer, toy_model
from plateau_interp.models.one_hot import OfFeatures
from plateau_interp.models.settings import ModelOptions
from plateau_interp.plugins import plugin, plugins
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.tasks import Histogram, ModularArithmetic, MovingWindowDifference, MovingWindowSum
from plateau_interp.training.loop import train
from plateau_interp.training.meter import Meter
from plateau_interp.training.optimizers import SGD, Adam, AdamW
from plateau_interp.training.settings import MeasuringOptions, TrainingOptions
from plateau_interp.types import Defaults

pytestmark = pytest.mark.usefixtures("undrawn")

STEPS, WIDTH = 2, 16


def weights(model: ToyTransformer) -> dict[str, torch.Tensor]:
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", plugins("tasks"))
def test_python_recipe_and_command_line_train_the_same_model(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("plateau_interp.views.report.write_report", lambda run: run.path)  # takes longer than the steps
    task = plugin("tasks", name)()
    width = task.n_features if isinstance(task, OfFeatures) else WIDTH
    model = toy_model(task, d_model=width)
    losses = [(step.loss, step.metrics) for step in train(model, task, steps=STEPS, meter=Meter(task))]

    recipe = Recipe(task, ModelOptions(d_model=width), TrainingOptions(steps=STEPS))
    run = Run.create(tmp_path / "recipe", recipe)
    of_recipe = [(step.loss, step.metrics) for step in run.train()]
    assert repr(of_recipe) == repr(losses)  # repr: a group without a sequence is NaN, which equals nothing
    assert_same(weights(run.model()), weights(model))

    words = ["train", name, "--d-model", str(width), "--steps", str(STEPS), "--out", str(tmp_path / "words"), "--json"]
    assert main(words) == 0
    capsys.readouterr()
    of_words = Run(tmp_path / "words")
    assert of_words.recipe == recipe
    assert list(of_words.metrics["loss"]) == [loss for loss, metrics in losses if metrics]
    assert_same(weights(of_words.model()), weights(model))


class Particular(MovingWindowSum):
    """A task whose every default is its own."""

    defaults = Defaults(
        steps=3, batch_size=5, grad_clip=1e-3, optimizer=SGD(learning_rate=1.0), d_model=16, measure_every=2
    )


def test_steps_batches_clipping_and_optimiser_are_the_tasks() -> None:
    task = Particular(n=4)
    model, before = toy_model(task), toy_model(task)
    records = list(train(model, task, meter=Meter(task)))
    assert [record.samples for record in records] == [5, 10, 15]
    assert [bool(record.metrics) for record in records] == [True, False, True]
    moved = math.dist(*(torch.cat([p.flatten() for p in m.parameters()]).tolist() for m in (model, before)))
    assert 0 < moved <= 3.001e-3  # three updates of SGD with rate 1, each clipped


def test_clipping_can_be_refused_where_the_task_clips() -> None:
    assert TrainingOptions(grad_clip=math.inf).resolved(Histogram()).grad_clip == math.inf
    moved = {}
    for grad_clip in (None, math.inf):
        model, before = toy_model(Particular(n=4)), toy_model(Particular(n=4))
        list(train(model, Particular(n=4), steps=1, grad_clip=grad_clip))
        moved[grad_clip] = math.dist(
            *(torch.cat([p.flatten() for p in m.parameters()]).tolist() for m in (model, before))
        )
    assert moved[None] == pytest.approx(1e-3, rel=1e-3)
    assert moved[math.inf] > 10 * moved[None]


def test_what_is_left_open_is_filled_in_and_what_is_said_stays() -> None:
    assert TrainingOptions().resolved(MovingWindowSum()).optimizer == Adam(learning_rate=1e-4)
    assert isinstance(TrainingOptions().resolved(ModularArithmetic()).optimizer, AdamW)
    assert TrainingOptions(optimizer=SGD()).resolved(ModularArithmetic()).optimizer == SGD()
    assert TrainingOptions().resolved(MovingWindowDifference()).batch_size == 128
    assert (Meter(ModularArithmetic()).every, Meter(ModularArithmetic(), every=3).every) == (10, 3)
    settings = TrainingOptions(steps=7).resolved(MovingWindowSum())
    assert settings.resolved(Histogram()) is settings


TRAINING = TrainingOptions().resolved(MovingWindowSum())
MEASURING = MeasuringOptions().resolved(MovingWindowSum())
MODEL = ModelOptions().resolved(MovingWindowSum())


@pytest.mark.parametrize(
    ("settings", "changes", "message"),
    [
        (TRAINING, {"steps": 0}, r"^steps must be at least 1; got 0$"),
        (TRAINING, {"batch_size": 1.5}, r"^batch_size must be a whole number; got 1.5$"),
        (TRAINING, {"optimizer": "adam"}, r"^optimizer must be plain data such as Adam\(\); got 'adam'$"),
        (TRAINING, {"grad_clip": "x"}, r"^grad_clip must be a number, math.inf for no clipping; got 'x'$"),
        (TRAINING, {"grad_clip": math.nan}, r"^grad_clip must be positive; got nan$"),
        (TRAINING, {"optimizer": Adam}, r"^optimizer must be plain data such as Adam\(\); got <class"),
        (TRAINING, {"schedule": 3}, r"^schedule must be a LearningRateSchedule\(\); got 3$"),
        (MEASURING, {"cosine_at": "hook_embed"}, r"^cosine_at must be several .*, such as \('hook_embed',\); got one"),
        (MEASURING, {"cosine_at": 3}, r"^cosine_at must be several hook points, such as \('hook_embed',\); got 3$"),
        (MEASURING, {"every": 0}, r"^every must be at least 1; got 0$"),
        (MEASURING, {"n_sequences": "x"}, r"^n_sequences must be a whole number; got 'x'$"),
        (MODEL, {"d_model": "x"}, r"^d_model must be a whole number; got 'x'$"),
        (MODEL, {"d_mlp": 0}, r"^d_mlp must be at least 1; got 0$"),
        (MODEL, {"dtype": "float16"}, r"^dtype must be one of float32, float64; got 'float16'$"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_in_our_words(settings: Any, changes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recheck(dataclasses.replace(settings), **changes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TrainingOptions(steps=-1), "^steps must be at least 1; got -1$"),
        (lambda: TrainingOptions(batch_size=0), "^batch_size must be at least 1; got 0$"),
        (lambda: TrainingOptions(grad_clip=0.0), "^grad_clip must be positive; got 0.0$"),
        (lambda: MeasuringOptions(every=0), "^every must be at least 1; got 0$"),
        (lambda: ModelOptions(d_model=-1), "^d_model must be at least 1; got -1$"),
        (lambda: ModelOptions(n_heads=0), "^n_heads must be at least 1; got 0$"),
        (lambda: ModelOptions(n_heads=3, d_model=8), "^n_heads must divide d_model; got n_heads=3 and d_model=8$"),
        (lambda: TrainingOptions(steps=10**400), r"^steps must be .* below 2\*\*63; got a whole number of 401 digits$"),
        (lambda: TrainingOptions(steps=10**5000), r"^steps must be .*; got a whole number of 5001 digits$"),
        (lambda: TrainingOptions(grad_clip=10**400), r"^grad_clip must be .*; got a whole number of 401 digits$"),
    ],
)
def test_an_option_that_cannot_be_is_refused_where_it_is_written(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("options", [ModelOptions(n_heads=3), ModelOptions(n_heads=300), TrainingOptions(grad_clip=2)])
def test_an_option_that_some_task_allows_is_taken(options: Any) -> None:
    assert options == dataclasses.replace(options)


@pytest.mark.parametrize("task", ["copy", MovingWindowSum, None, 3])
def test_what_is_no_task_is_refused(task: Any) -> None:
    model = toy_model(MovingWindowSum(n=4), d_model=16)
    message = r"^task must be a task such as MovingWindowSum\(\); got "
    for build in (unchecked(toy_model), lambda task: next(unchecked(train)(model, task))):
        with pytest.raises(ValueError, match=message):
            build(task)
    for made in (Meter(MovingWindowSum()), Recipe(MovingWindowSum())):
        with pytest.raises(ValueError, match=message):
            unchecked(type(made).__init__)(made, task)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: toy_model(MovingWindowSum(n=10**6)), r"attention over n_ctx=2000001 tokens of MovingWindowSum"),
        (lambda: toy_model(MovingWindowSum(), d_model=10**7), r"a model with n_layers=1, d_model=10000000, d_mlp="),
        (lambda: toy_model(MovingWindowSum(p=10**12)), r"a model with .* d_vocab=1000000000001, "),
        (
            lambda: next(train(toy_model(MovingWindowSum(n=4), d_model=16), MovingWindowSum(n=4), batch_size=10**10)),
            r"batch_size=10000000000 sequences of MovingWindowSum\(n=4, ",
        ),
        (lambda: Recipe(MovingWindowSum(n=5000)).rehearse(), r"attention over batch_size=256 sequences of Moving"),
        (lambda: ModularArithmetic(p=1_000_003).train_set, r"the [0-9,]+ equations of p=1000003"),
    ],
)  # fmt: skip
def test_sizes_beyond_the_memory_are_refused_at_once(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^not enough memory: {message}.* would need [\d,]+ bytes; this machine has"):
        make()
