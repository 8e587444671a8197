"""The settings of toy models: resolved from a task, and what they refuse."""

import pytest
from filled import FilledNumbers
from hook_cases import recheck

from plateau_interp.models.settings import ModelOptions
from plateau_interp.tasks import Histogram, MovingWindowSum


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
