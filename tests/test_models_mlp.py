"""plateau_interp.models.mlp: what models that are MLPs have beside them."""

import pytest

from plateau_interp.models import toy_model
from plateau_interp.tasks import DepthTwoNet, OneHotArithmetic


@pytest.mark.parametrize("task", [DepthTwoNet(d=4, n=8), OneHotArithmetic(p=5)], ids=["depth-2", "one-hot"])
def test_the_head_that_gives_nothing_is_as_small_as_can_be(task):
    model = toy_model(task, d_mlp=6)
    assert model.W_Q.shape == (1, 1, model.cfg.d_model, 1)
    assert (model.cfg.n_layers, model.cfg.d_mlp, model.cfg.d_vocab_out) == (1, 6, task.d_output)
