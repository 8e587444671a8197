"""The settings of toy models: resolved from a task, and what they refuse."""

import pytest
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
