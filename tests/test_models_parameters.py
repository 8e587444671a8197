"""Groups that no paper's sheet has, and how weights lie; the others are tested with what acts on them."""

import pytest
import torch
from torch import nn
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from plateau_interp import pretrained_model, toy_model
from plateau_interp.models.parameters import fans, parameters_where, row_axes
from plateau_interp.tasks import MovingWindowSum


def test_the_groups_of_transfer_and_initialisation():
    model = toy_model(MovingWindowSum(n=4), d_model=16)
    assert list(parameters_where(model, "embedding tables")) == ["embed.W_E", "pos_embed.W_pos"]
    assert {*parameters_where(model, "linear layers")} == {
        *("blocks.0.attn.W_O", "blocks.0.attn.b_O", "unembed.W_U", "unembed.b_U"),
        *("blocks.0.mlp.W_in", "blocks.0.mlp.b_in", "blocks.0.mlp.W_out", "blocks.0.mlp.b_out"),
    }


def test_norms_of_what_a_layer_adds_are_in_the_groups_of_that_layer():
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 4, "intermediate_size": 8}
    model = pretrained_model(Gemma3ForCausalLM(Gemma3TextConfig(vocab_size=7, num_key_value_heads=1, **sizes)))
    norms = {name for name, _ in model.named_parameters() if ".ln" in name or name.startswith("ln_")}
    assert {*parameters_where(model, "norms")} == norms
    assert {"blocks.1.ln1_post.w", "blocks.1.ln2_post.w"} < norms
    for groups, kind in ((("attention", "attention layers"), "ln1"), (("mlp", "mlp layers"), "ln2")):
        for group in ("attention map", "attention", "attention layers", "mlp", "mlp layers", "linear layers"):
            assert (f"blocks.0.{kind}_post.w" in parameters_where(model, group)) == (group in groups)
    everything = {name for name, _ in model.named_parameters()}
    assert {name for half in ("attention", "mlp") for name in parameters_where(model, half)} == everything


def test_a_group_that_a_model_has_nothing_of_is_not_told_as_the_nearest():
    sizes = {"d_model": 8, "d_head": 4, "n_heads": 2, "n_layers": 1, "n_ctx": 4, "d_vocab": 5, "attn_only": True}
    model = HookedTransformer(HookedTransformerConfig(**sizes, positional_embedding_type="rotary", rotary_dim=4))
    with pytest.raises(
        ValueError, match=r"^'position embedding' means no parameter of the model; there are embed\.W_E, "
    ):
        parameters_where(model, "position embedding")


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
