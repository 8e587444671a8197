"""The settings of toy models: resolved from a task, and what they refuse."""

import dataclasses
from contextlib import suppress

import pytest
from filled import FilledNumbers
from hook_cases import recheck

from plateau_interp.models import toy_model
from plateau_interp.models.initializers import Scaled
from plateau_interp.models.settings import ModelOptions, check_used
from plateau_interp.tasks import DepthTwoNet, Histogram, ModularArithmetic, MovingWindowSum, OneHotArithmetic

ARCHITECTURES = {
    "decoder": MovingWindowSum(n=4),
    "encoder": FilledNumbers(),
    "post-norm": ModularArithmetic(p=5),
    "depth-2": DepthTwoNet(n=8),
    "one-hot": OneHotArithmetic(p=5),
}
"""With a task of each."""
OTHER = {
    "attention": "linear",
    "n_layers": 3,
    "n_heads": 8,
    "d_model": 40,
    "d_mlp": 24,
    "init_std": 0.3,
    "mask_embedding": "zero",
    "init": (Scaled(0.5),),
}
"""Of each option of a model a value that no task has by default."""


def test_what_is_left_open_is_the_tasks():
    assert ModelOptions().resolved(Histogram()).n_layers == Histogram().defaults.n_layers == 2
    assert ModelOptions(n_layers=1).resolved(Histogram()).n_layers == 1


def test_attention_is_linear_or_softmax():
    settings = ModelOptions().resolved(MovingWindowSum())
    with pytest.raises(ValueError, match=r"^attention must be one of linear, softmax; got 'quadratic'$"):
        recheck(settings, attention="quadratic")


def test_an_encoder_has_softmax_attention_whatever_the_task_has():
    assert ModelOptions(architecture="encoder").resolved(MovingWindowSum()).attention == "softmax"
    assert ModelOptions(architecture="decoder").resolved(FilledNumbers()).architecture == "decoder"
    assert ModelOptions().resolved(FilledNumbers()).mask_embedding == "zero"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "architecture",
            "bert",
            "architecture must be one of decoder, encoder, post-norm, depth-2, one-hot; got 'bert'",
        ),
        ("mask_embedding", "one", "mask_embedding must be one of trained, zero; got 'one'"),
        ("init_std", 0.0, "init_std must be a positive number; got 0.0"),
        ("attention", "linear", "attention of an encoder must be softmax; got linear"),
    ],
)
def test_what_no_model_is_like_is_refused(field, value, message):
    settings = ModelOptions().resolved(FilledNumbers())
    with pytest.raises(ValueError, match=f"^{message}$"):
        recheck(settings, **{field: value})


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("option", OTHER)
def test_an_option_changes_the_model_or_is_refused(architecture, option):
    task, others = ARCHITECTURES[architecture], {"architecture": architecture, "seed": 1}
    if option == "mask_embedding" and task.defaults.mask_embedding == "zero":
        others["mask_embedding"] = "trained"
    if architecture == "decoder" and option == "attention":
        others["attention"] = "softmax"
    plain = toy_model(task, **others)
    with suppress(ValueError):
        made = toy_model(task, **{**others, option: OTHER[option]})
        assert _told_of(made) != _told_of(plain)


def _told_of(model):
    weights = {name: (tuple(value.shape), value.flatten().tolist()) for name, value in model.state_dict().items()}
    return repr(model.cfg), model.attention, model.untrained, weights


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        (OneHotArithmetic(p=5), {"init_std": 0.5}, "init_std says nothing to a one-hot MLP: leave it out; got 0.5"),
        (
            ModularArithmetic(p=5),
            {"init_std": 0.5, "architecture": "post-norm"},
            "init_std says nothing to a post-norm decoder: leave it out; got 0.5",
        ),
        (
            MovingWindowSum(n=4),
            {"mask_embedding": "zero"},
            "mask_embedding says nothing where the task has no mask_token: leave it out; got zero",
        ),
    ],
)
def test_what_would_come_to_nothing_is_refused(task, options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        toy_model(task, **options)
    with pytest.raises(ValueError, match=f"^{message}$"):
        check_used(ModelOptions(**options).resolved(task), task)


def test_what_the_task_has_by_default_is_not_asked_for():
    """Its `init_std` is that of its own architecture, and stands in the recipe of another, too."""
    assert FilledNumbers().defaults.init_std == 0.12
    settings = ModelOptions().resolved(FilledNumbers())
    for options in ({"architecture": "post-norm"}, {"architecture": "one-hot", "n_layers": 1, "n_heads": 1}):
        check_used(dataclasses.replace(settings, **options), FilledNumbers())
