"""Counted operations: against counts by hand and against torch's own counter, forwards and whole training steps."""

import pytest
import torch
from every_hook import llama
from filled import FilledNumbers
from torch.utils.flop_counter import FlopCounterMode

from plateau_interp import ModelOptions, toy_model
from plateau_interp.models.flops import FORWARDS_IN_TRAINING, forward_flops, model_flops, training_flops
from plateau_interp.positions import input_length
from plateau_interp.tasks import DepthTwoNet, Mixture, ModularArithmetic, MovingWindowSum, OneHotArithmetic
from plateau_interp.training.batches import training_batch


def test_the_poster_s_model_by_hand() -> None:
    """1 layer, 1 head, width 256, 20 tokens; 32 positions are read."""
    projections = 4 * (2 * 256 * 256)  # queries, keys, values, output
    attention = 2 * (2 * 32 * 256)  # a row of scores, and the values that they weight
    mlp = 2 * (2 * 256 * 1024)
    unembedding = 2 * 256 * 20
    by_hand = 32 * (projections + attention + mlp + unembedding)
    assert by_hand == 51_707_904  # the 51.7 MFLOP of the sheet
    task = Mixture()
    assert model_flops(toy_model(task), n_positions=32) == by_hand
    assert training_flops(task, ModelOptions().resolved(task)) == 3 * by_hand


def test_the_grokking_model_by_hand() -> None:
    """2 layers, 4 heads, width 128, MLP 512, 99 tokens; 4 positions are read."""
    task = ModularArithmetic(p=97, train_fraction=0.5)
    options = ModelOptions(n_layers=2, n_heads=4, d_model=128)
    layer = 4 * (2 * 128 * 128) + 2 * (2 * 4 * 128) + 2 * (2 * 128 * 512)
    by_hand = 4 * (2 * layer + 2 * 128 * 99)
    assert by_hand == 3_263_488
    model = toy_model(task, n_layers=2, n_heads=4, d_model=128)
    assert model_flops(model, n_positions=4) == by_hand
    assert training_flops(task, options.resolved(task)) == 3 * by_hand


@pytest.mark.parametrize(
    ("task", "options"),
    [
        (MovingWindowSum(n=6), ModelOptions(d_model=16)),
        (MovingWindowSum(n=6), ModelOptions(d_model=16, attention="softmax", n_layers=2, n_heads=4, d_mlp=24)),
        (ModularArithmetic(p=11), ModelOptions()),
        (FilledNumbers(), ModelOptions()),  # an encoder
        (ModularArithmetic(p=11), ModelOptions(architecture="post-norm", n_layers=2, d_model=16, n_heads=2)),
    ],
    ids=["linear", "softmax", "default", "encoder", "post-norm"],
)
def test_a_training_step_is_what_torch_counts(task, options) -> None:
    settings = options.resolved(task)
    fields = ("attention", "n_layers", "n_heads", "d_model", "d_mlp", "architecture")
    model = toy_model(task, **{name: getattr(settings, name) for name in fields})
    batch = training_batch(task, seed=0, step=0, batch_size=5)
    with FlopCounterMode(display=False) as counter:
        loss = task.loss(model(batch.inputs), batch)
    forward = counter.get_total_flops()
    assert forward == 5 * model_flops(model, n_positions=input_length(task))
    with FlopCounterMode(display=False) as counter:
        loss.backward()
    assert counter.get_total_flops() == (FORWARDS_IN_TRAINING - 1) * forward
    assert training_flops(task, settings) * 5 == FORWARDS_IN_TRAINING * forward


@pytest.mark.parametrize(
    ("task", "d_mlp"),
    [(DepthTwoNet(), None), (OneHotArithmetic(p=7), None), (OneHotArithmetic(p=7, operations=("add", "multiply")), 6)],
    ids=["depth-2", "one-hot", "one-hot, narrow"],
)
def test_of_an_mlp_the_forward_is_what_torch_counts(task, d_mlp) -> None:
    """Of the way back it makes less: what is no part of the MLP is frozen."""
    model = toy_model(task, d_mlp=d_mlp)
    with FlopCounterMode(display=False) as counter:
        model(task.train_set.inputs[:5])
    assert counter.get_total_flops() == 5 * model_flops(model, n_positions=input_length(task))
    settings = ModelOptions(d_mlp=d_mlp).resolved(task)
    assert training_flops(task, settings) * 5 == FORWARDS_IN_TRAINING * counter.get_total_flops()


def test_the_one_hot_mlp_by_hand() -> None:
    """Inputs of 194, two hidden layers of 128, 97 logits; and a head of width 1, which gives 0."""
    task = OneHotArithmetic()
    layers = 2 * (194 * 128 + 128 * 128 + 128 * 97)
    head = 4 * (2 * 194) + 2 * 2  # queries, keys, values, output; a score and its value
    assert model_flops(toy_model(task, d_mlp=128), n_positions=1) == layers + head == 108_820
    assert training_flops(task, ModelOptions(d_mlp=128).resolved(task)) == 3 * (layers + head)


def test_shared_keys_and_gated_mlps_are_what_torch_counts() -> None:
    model = llama()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(3, 7, dtype=torch.long))
    assert counter.get_total_flops() == 3 * model_flops(model, n_positions=7)


def test_what_cannot_be_counted_is_refused() -> None:
    model = toy_model(MovingWindowSum(n=4), d_model=16)
    with pytest.raises(ValueError, match=r"^n_positions must be at least 1; got 0$"):
        model_flops(model, n_positions=0)
    model.cfg.num_experts = 2
    with pytest.raises(ValueError, match=r"^the operations of a mixture of experts depend on its tokens"):
        model_flops(model, n_positions=4)


def test_a_model_without_mlps_has_none_to_count() -> None:
    model = toy_model(MovingWindowSum(n=4), d_model=16)
    with_mlp = model_flops(model, n_positions=4)
    model.cfg.attn_only = True
    assert with_mlp - model_flops(model, n_positions=4) == 4 * 2 * 2 * 16 * 64
    sizes = {"n_layers": 1, "n_heads": 1, "d_head": 16, "d_model": 16, "d_output": 18, "n_positions": 4}
    assert model_flops(model, n_positions=4) == forward_flops(**sizes, d_mlp=0)
