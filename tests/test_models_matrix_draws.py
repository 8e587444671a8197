"""Draws of weight matrices: moments of every tensor by hand, what becomes 0, what stays, streams."""

import math

import pytest
import torch
from drawn_models import biased, parameters
from filled import FilledNumbers
from hook_cases import recheck

from plateau_interp import toy_model
from plateau_interp.models.matrix_draws import Dense, LowRank, Small, Sparse

# By hand: sqrt(2 / (inputs + outputs)). 2 / (128 + 128), 2 / (128 + 512) and 2 / (128 + 99).
XAVIER = {
    "blocks.0.attn.W_O": 0.08839,
    "blocks.0.mlp.W_in": 0.05590,
    "blocks.0.mlp.W_out": 0.05590,
    "blocks.1.attn.W_O": 0.08839,
    "blocks.1.mlp.W_in": 0.05590,
    "blocks.1.mlp.W_out": 0.05590,
    "unembed.W_U": 0.09386,
}
# By hand: s² sqrt(rank), with ranks 64, 64 and 49.
LOW_RANK = {"attn.W_O": 0.06250, "mlp.W_in": 0.02500, "mlp.W_out": 0.02500, "unembed.W_U": 0.06167}
BIASES = {
    *(f"blocks.{layer}.{bias}" for layer in (0, 1) for bias in ("attn.b_O", "mlp.b_in", "mlp.b_out")),
    "unembed.b_U",
}


PAPERS = parameters()


def test_the_sheet_s_tensors_are_seven():
    changed = {name for name, value in parameters(Dense()).items() if not torch.equal(value, PAPERS[name])}
    assert changed == {*XAVIER}


@pytest.mark.parametrize("name", XAVIER)
@pytest.mark.parametrize(
    ("init", "scale"), [(Dense(), 1.0), (Sparse(0.9), 1.0), (Sparse(0.5), 1.0), (Small(0.01), 0.01), (Small(0.5), 0.5)]
)
def test_mean_and_deviation_of_every_tensor_that_is_drawn(name, init, scale):
    drawn, expected = parameters(init)[name].double(), scale * XAVIER[name]
    n = drawn.numel()
    # Of the deviation of n numbers, whose fourth moment is 3 / (1 - sparsity) times the variance squared: 4 sigma.
    kurtosis = 3 / (1 - init.sparsity) if isinstance(init, Sparse) else 3
    assert drawn.std().item() == pytest.approx(expected, rel=2 * math.sqrt((kurtosis - 1) / n))
    assert abs(drawn.mean().item()) < 4 * expected / math.sqrt(n)


@pytest.mark.parametrize("name", XAVIER)
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9])
def test_the_share_that_is_0_and_the_variance_of_the_rest(name, sparsity):
    drawn = parameters(Sparse(sparsity))[name].double()
    n = drawn.numel()
    assert (drawn == 0).double().mean().item() == pytest.approx(sparsity, abs=4 * math.sqrt(0.25 / n))
    rest = drawn[drawn != 0]
    assert rest.std().item() == pytest.approx(XAVIER[name] / math.sqrt(1 - sparsity), rel=4 / math.sqrt(len(rest)))


@pytest.mark.parametrize("name", XAVIER)
def test_a_product_of_thin_matrices_has_their_rank_and_moments(name):
    drawn = parameters(LowRank(0.5))[name].double()
    matrix = drawn.flatten(0, 1) if drawn.ndim == 3 else drawn
    assert int(torch.linalg.matrix_rank(matrix, rtol=1e-4)) == min(matrix.shape) // 2
    expected = next(value for ending, value in LOW_RANK.items() if name.endswith(ending))
    assert drawn.std().item() == pytest.approx(expected, rel=0.05)
    assert abs(drawn.mean().item()) < 0.05 * expected


def test_heads_of_queries_are_one_matrix_of_low_rank():
    drawn = parameters(LowRank(0.25, where="blocks.0.attn.W_Q"))["blocks.0.attn.W_Q"]
    assert int(torch.linalg.matrix_rank(drawn.movedim(0, 1).flatten(1), rtol=1e-4)) == 32
    table = parameters(LowRank(0.25, where="embed.*"))["embed.W_E"]
    assert int(torch.linalg.matrix_rank(table, rtol=1e-4)) == 24  # of 99 tokens and width 128
    assert int(torch.linalg.matrix_rank(parameters(LowRank(1e-9))["unembed.W_U"], rtol=1e-4)) == 1


@pytest.mark.parametrize("init", [Dense(), Sparse(0.9), Small(0.01), LowRank(0.5)], ids=repr)
def test_biases_become_0_and_nothing_else_is_touched(init):
    after, before = biased(init), biased()
    for name, value in after.items():
        if name in BIASES - {"unembed.b_U"}:
            assert not value.any(), name
        elif name not in XAVIER:
            assert torch.equal(value, before[name]), name  # the bias of the unembedding, too: it is never trained


def test_the_bias_of_a_read_out_that_is_trained_becomes_0():
    before, after = (toy_model(FilledNumbers(), d_model=16, n_heads=2, init=init) for init in ((), (Dense(),)))
    assert before.unembed.b_U.abs().min() > 0
    assert not after.unembed.b_U.any()


def test_streams_are_of_tensors_so_that_initializers_differ_in_scale_and_mask_alone():
    dense, small, sparse = (parameters(init, seed=3) for init in (Dense(), Small(0.01), Sparse(0.75)))
    for name in XAVIER:
        assert torch.allclose(small[name], 0.01 * dense[name], rtol=1e-5)
        kept = sparse[name] != 0
        assert torch.allclose(sparse[name][kept], 2 * dense[name][kept], rtol=1e-5)
    alone = parameters(Sparse(0.75, where="blocks.1.mlp.W_in"), seed=3)
    assert torch.equal(alone["blocks.1.mlp.W_in"], sparse["blocks.1.mlp.W_in"])
    assert not torch.equal(dense["blocks.0.mlp.W_in"], dense["blocks.1.mlp.W_in"])
    assert not torch.equal(dense["unembed.W_U"], parameters(Dense(), seed=4)["unembed.W_U"])


@pytest.mark.parametrize(
    ("init", "message"),
    [
        (lambda: Sparse(1.0), r"sparsity must be from 0 to below 1; got 1\.0"),
        (lambda: recheck(Sparse(), sparsity="most"), "sparsity must be a number; got 'most'"),
        (lambda: Small(0.0), r"scale must be a positive number; got 0\.0"),
        (lambda: LowRank(1.5), r"share must be above 0 and at most 1; got 1\.5"),
        (
            lambda: recheck(Dense(), where=3),
            "where must be a group, a pattern over names or a function of the name; got 3",
        ),
        (lambda: parameters(Dense(where="norms"), d_model=16), "'norms' means no weight matrix that is trained; it m"),
        (lambda: parameters(Dense(where="mpl"), d_model=16), "'mpl' means no parameter of the model; the nearest"),
    ],
)
def test_bad_input(init, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        init()
