"""Groups that no paper's sheet has, and how weights lie; the others are tested with what acts on them."""

import pytest
import torch
from torch import nn

from plateau_interp import toy_model
from plateau_interp.models.parameters import fans, parameters_where, row_axes
from plateau_interp.tasks import MovingWindowSum


def test_the_groups_of_transfer_and_initialisation():
    model = toy_model(MovingWindowSum(n=4), d_model=16)
    assert list(parameters_where(model, "embedding tables")) == ["embed.W_E", "pos_embed.W_pos"]
    assert {*parameters_where(model, "linear layers")} == {
        *("blocks.0.attn.W_O", "blocks.0.attn.b_O", "unembed.W_U", "unembed.b_U"),
        *("blocks.0.mlp.W_in", "blocks.0.mlp.b_in", "blocks.0.mlp.W_out", "blocks.0.mlp.b_out"),
    }


@pytest.mark.parametrize(
    ("name", "shape", "layer"),
    [
        ("blocks.0.attn.W_Q", (4, 12, 5), nn.Linear(12, 20)),
        ("blocks.0.attn._W_K", (4, 12, 5), nn.Linear(12, 20)),
        ("blocks.1.attn.W_V", (4, 12, 5), nn.Linear(12, 20)),
        ("blocks.0.attn.W_O", (4, 5, 12), nn.Linear(20, 12)),
        ("blocks.0.mlp.W_in", (12, 48), nn.Linear(12, 48)),
        ("blocks.0.mlp.W_gate", (12, 48), nn.Linear(12, 48)),
        ("blocks.0.mlp.W_out", (48, 12), nn.Linear(48, 12)),
        ("unembed.W_U", (12, 7), nn.Linear(12, 7)),
        ("embed.W_E", (7, 12), nn.Embedding(7, 12)),
        ("pos_embed.W_pos", (9, 12), nn.Embedding(9, 12)),
    ],
)
def test_weights_lie_as_pytorch_s_layers_once_their_heads_are_joined(name, shape, layer):
    rows, width = layer.weight.shape
    assert fans(name, shape) == nn.init._calculate_fan_in_and_fan_out(layer.weight) == (width, rows)
    sizes = torch.ones(shape).sum(row_axes(name))
    assert sizes.numel() == rows
    assert (sizes == width).all()


def test_what_is_no_weight_matrix_has_no_rows():
    with pytest.raises(ValueError, match=r"^blocks\.0\.ln1\.w is no weight matrix; such are called W_Q, W_K, "):
        row_axes("blocks.0.ln1.w")
