"""plateau_interp.models.mlp: what models that are MLPs have beside them."""

import pytest
import torch

from plateau_interp.models import toy_model
from plateau_interp.models.depth_two import depth_two_net
from plateau_interp.models.one_hot import one_hot_net
from plateau_interp.models.settings import ModelOptions
from plateau_interp.tasks import DepthTwoNet, OneHotArithmetic


@pytest.mark.parametrize("task", [DepthTwoNet(d=4, n=8), OneHotArithmetic(p=5)], ids=["depth-2", "one-hot"])
def test_the_head_that_gives_nothing_is_as_small_as_can_be(task):
    model = toy_model(task, d_mlp=6)
    assert model.W_Q.shape == (1, 1, model.cfg.d_model, 1)
    assert (model.cfg.n_layers, model.cfg.d_mlp, model.cfg.d_vocab_out) == (1, 6, task.d_output)


@pytest.mark.parametrize(
    ("build", "task"),
    [(depth_two_net, DepthTwoNet(d=4, n=8)), (one_hot_net, OneHotArithmetic(p=5))],
    ids=["depth-2", "one-hot"],
)
def test_tokens_are_brought_to_where_the_model_will_live(build, task):
    """TransformerLens asks the configuration for it; on a GPU a model whose own says cpu cannot be run."""
    settings = ModelOptions(d_mlp=6).resolved(task)
    model = build(task, settings, n_ctx=1, dtype=torch.float32, device="cuda:1")
    assert str(model.cfg.device) == "cuda:1"
