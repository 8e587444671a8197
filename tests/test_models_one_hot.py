"""plateau_interp.models.one_hot: a HookedTransformer that is an MLP with two hidden layers on one-hot inputs."""

import math
import re

import pytest
import torch

from plateau_interp import intervening
from plateau_interp.hooks import ClipRows, ScaleActivation
from plateau_interp.models import toy_model
from plateau_interp.models.flops import training_flops
from plateau_interp.models.matrix_draws import Sparse
from plateau_interp.models.settings import ModelOptions
from plateau_interp.tasks import MovingWindowSum, OneHotArithmetic
from plateau_interp.training.loop import train
from plateau_interp.training.optimizers import AdamW

TASK = OneHotArithmetic(p=7)
TRAINED = ["blocks.0.mlp.W_in", "blocks.0.mlp.b_in", "blocks.0.mlp.W_out", "blocks.0.mlp.b_out", "unembed.W_U"]


def net(task=TASK, **options):
    return toy_model(task, **{"d_mlp": 6, "dtype": torch.float64, **options})


def by_hand(model, inputs):
    """The three layers, written out."""
    mlp = model.blocks[0].mlp
    hidden = torch.relu(inputs @ mlp.W_in + mlp.b_in)
    return torch.relu(hidden @ mlp.W_out + mlp.b_out) @ model.unembed.W_U + model.unembed.b_U


def test_it_is_the_mlp_of_one_hot_numbers():
    model, tokens = net(), torch.arange(49)[:, None]
    first, second = torch.nn.functional.one_hot(torch.cartesian_prod(torch.arange(7), torch.arange(7))).unbind(1)
    inputs = torch.cat([first, second], dim=1).double()
    assert (model(tokens)[:, 0] - by_hand(model, inputs)).abs().max() < 1e-12
    assert (model(inputs[:, None], start_at_layer=0)[:, 0] - by_hand(model, inputs)).abs().max() < 1e-12


def test_several_operations_have_an_input_each():
    task = OneHotArithmetic(p=5, operations=("add", "multiply"))
    model = net(task)
    assert model.cfg.d_model == 12
    inputs = torch.zeros(2, 12).double()
    inputs[0, [3, 5 + 4, 10]] = 1.0  # 3 + 4
    inputs[1, [3, 5 + 4, 11]] = 1.0  # 3 * 4
    tokens = torch.tensor([[3 * 5 + 4], [25 + 3 * 5 + 4]])
    assert (model(tokens)[:, 0] - by_hand(model, inputs)).abs().max() < 1e-12


def test_the_source_s_sizes_have_its_number_of_weights_and_operations():
    task = OneHotArithmetic()
    model = toy_model(task, d_mlp=128)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 53_985
    assert [name for name, p in model.named_parameters() if p.requires_grad] == [*TRAINED, "unembed.b_U"]
    settings = ModelOptions(d_mlp=128).resolved(task)
    # As the sheet of the source counts, 1.5 GFLOP for all 4,704 equations; attention that gives 0 is 1.5 % more.
    assert training_flops(task, settings) == pytest.approx(6 * (194 * 128 + 128 * 128 + 128 * 97), rel=0.015)
    assert training_flops(task, settings) * 4704 == pytest.approx(1.5e9, rel=0.03)
    assert not any(name.startswith("embed") for name in model.state_dict())


def test_weights_begin_as_those_of_linear_layers():
    model = toy_model(OneHotArithmetic(), d_mlp=128, seed=3)
    for parameter, fan_in in (
        (model.blocks[0].mlp.W_in, 194),
        (model.blocks[0].mlp.b_in, 194),
        (model.blocks[0].mlp.W_out, 128),
        (model.unembed.W_U, 128),
        (model.unembed.b_U, 128),
    ):
        bound = 1 / math.sqrt(fan_in)
        assert parameter.abs().max() <= bound
        assert parameter.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.2)
    again, other = (toy_model(OneHotArithmetic(), d_mlp=128, seed=seed) for seed in (3, 4))
    assert model.W_U.equal(again.W_U)
    assert not model.W_U.equal(other.W_U)


def test_initializers_and_interventions_mean_its_three_layers():
    model = toy_model(OneHotArithmetic(), d_mlp=128, init=[Sparse(0.9)])
    layers = (model.blocks[0].mlp.W_in, model.blocks[0].mlp.W_out, model.unembed.W_U)
    for weight in layers:
        assert (weight == 0).double().mean().item() == pytest.approx(0.9, abs=0.02)
        # Xavier's variance of its own inputs and outputs, which the mask keeps.
        assert weight.std().item() == pytest.approx(math.sqrt(2 / sum(weight.shape)), rel=0.1)
    assert not model.blocks[0].mlp.b_out.any()
    assert ClipRows(1.0).sites(model)[-2:] == ("blocks.0.mlp.W_in", "blocks.0.mlp.W_out")
    tokens = torch.arange(4)[:, None]
    with intervening(model, ScaleActivation("blocks.0.mlp.hook_post", 0.0)):
        assert model(tokens).std(dim=0).max() == 0  # no input comes through


def test_all_of_it_learns_and_nothing_else():
    model = net()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    losses = [
        step.loss for step in train(model, TASK, steps=80, batch_size=24, optimizer=AdamW(1e-2, weight_decay=0.0))
    ]
    assert losses[-1] < 0.5 * losses[0]
    changed = [name for name, parameter in model.named_parameters() if not parameter.equal(before[name])]
    assert changed == [*TRAINED, "unembed.b_U"]


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        (
            TASK,
            {"d_model": 20},
            "d_model must be 14, the features of the task (d_mlp is the width of the hidden layers)",
        ),
        (TASK, {"n_layers": 2}, "n_layers of a one-hot MLP must be 1; got 2"),
        (TASK, {"attention": "linear"}, "attention of a one-hot MLP must be softmax; got linear"),
        (
            MovingWindowSum(n=4),
            {"architecture": "one-hot"},
            "must say its features and n_features, as OneHotArithmetic",
        ),
    ],
)
def test_what_cannot_be_is_told(task, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        net(task, **options)


class Longer(OneHotArithmetic):
    """Of two tokens, which it cannot read."""

    n_pos, answer = 2, slice(1, 2)


def test_it_reads_a_single_token():
    with pytest.raises(ValueError, match=re.escape("reads a single token (n_pos=1, lookahead=0); got n_pos=2")):
        net(Longer(p=7))
