"""plateau_interp.analysis.capacity: the published formula by loops, norms by definition, a bound by draws."""

import math

import pytest
import torch
from every_hook import llama
from hook_cases import gpt_neox, toy

from plateau_interp.analysis.capacity import (
    capacity_slopes,
    embedding_norms,
    product_capacity,
    query_key_capacity,
    rademacher_bound,
)


def drawn(*shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def by_loops(branch, trunk):
    """As it is published: three loops for C_1, the operator norm of an outer product for each C_k."""
    n = len(branch)
    total = 0.0
    for k1 in range(branch[-1].shape[1]):
        for k2 in range(trunk[-1].shape[1]):
            product = sum(float(branch[-1][j, k1] * trunk[-1][j, k2]) for j in range(len(branch[-1])))
            total += abs(product) * float(branch[-2][k1].norm() * trunk[-2][k2].norm())
    for k in range(2, n):
        outer = torch.outer(branch[n - k - 1].norm(dim=1), trunk[n - k - 1].norm(dim=1))
        total *= float(torch.linalg.matrix_norm(outer, ord=2))
    return total


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_the_formula_is_the_published_one(depth):
    branch = drawn(*[(4, 3), (5, 4), (6, 5), (2, 6)][-depth:], seed=1)
    trunk = drawn(*[(3, 2), (7, 3), (5, 7), (2, 5)][-depth:], seed=2)
    assert product_capacity(branch, trunk).item() == pytest.approx(by_loops(branch, trunk), rel=1e-12)


def test_nets_that_do_not_fit_are_refused():
    eye = torch.eye(2)
    with pytest.raises(ValueError, match="equally many weights, 2 at least; got 1 and 1"):
        product_capacity([eye], [eye])
    with pytest.raises(ValueError, match="got 2 and 3"):
        product_capacity([eye, eye], [eye, eye, eye])


@pytest.mark.parametrize("model", [toy(n_layers=2, n_heads=4), gpt_neox(), llama()], ids=["toy", "gpt-neox", "llama"])
@torch.no_grad()
def test_every_head_by_its_definition(model):
    found = query_key_capacity(model)
    embeddings = model.W_E.double()
    if model.cfg.positional_embedding_type == "standard":
        embeddings = torch.cat([embeddings, model.W_pos.double()])
    columns = embeddings.norm(dim=0)
    for layer in range(model.cfg.n_layers):
        for head in range(model.cfg.n_heads):
            queries, keys = model.W_Q[layer, head].double(), model.W_K[layer, head].double()
            product = queries @ keys.T
            capacity = sum(
                abs(float(product[i, j])) * float(columns[i] * columns[j]) for i in range(16) for j in range(16)
            ) / math.sqrt(model.cfg.d_head)
            assert found.capacity[layer, head].item() == pytest.approx(capacity, rel=1e-9)
            singular = torch.linalg.svdvals(product)
            norms = {
                "frobenius": singular.square().sum().sqrt(),
                "nuclear": singular.sum(),
                "operator": singular.max(),
                "stable_rank": singular.square().sum() / singular.max() ** 2,
                "weights": (queries.square().sum() + keys.square().sum()) / 2,
            }
            for name, expected in norms.items():
                assert getattr(found, name)[layer, head].item() == pytest.approx(expected.item(), rel=1e-9), name
    assert found.scale.tolist() == pytest.approx([math.sqrt(model.cfg.d_head)] * model.cfg.n_layers)
    assert (found.nuclear <= found.weights).all()


def test_balanced_factors_have_half_the_weight_of_their_product():
    model = toy()
    (product,) = drawn((16, 16))
    left, singular, right = torch.linalg.svd(product)
    with torch.no_grad():
        model.blocks[0].attn.W_Q[0] = left * singular.sqrt()
        model.blocks[0].attn.W_K[0] = right.T * singular.sqrt()
    found = query_key_capacity(model)
    assert found.nuclear.item() == pytest.approx(found.weights.item(), rel=1e-5)
    assert found.nuclear.item() == pytest.approx(singular.sum().item(), rel=1e-5)
    with torch.no_grad():  # the same product, by factors that are out of balance
        model.blocks[0].attn.W_Q[0] *= 3
        model.blocks[0].attn.W_K[0] /= 3
    skewed = query_key_capacity(model)
    assert skewed.nuclear.item() == pytest.approx(found.nuclear.item(), rel=1e-5)
    assert skewed.weights.item() > 2 * found.weights.item()


def test_norms_depend_on_no_basis_and_the_capacity_does():
    model = toy(dtype=torch.float64)
    before = query_key_capacity(model)
    turn, _ = torch.linalg.qr(drawn((16, 16))[0])
    with torch.no_grad():
        for weights in (model.blocks[0].attn.W_Q, model.blocks[0].attn.W_K):
            weights.copy_(turn @ weights)
        for embedding in (model.embed.W_E, model.pos_embed.W_pos):
            embedding.copy_(embedding @ turn.T)
    after = query_key_capacity(model)
    for name in ("frobenius", "nuclear", "operator", "stable_rank", "weights"):
        assert getattr(after, name).allclose(getattr(before, name), rtol=1e-9), name
    assert abs(after.capacity / before.capacity - 1) > 0.01


def test_a_product_that_is_0_has_no_stable_rank():
    model = toy()
    with torch.no_grad():
        model.blocks[0].attn.W_Q.zero_()
    found = query_key_capacity(model)
    assert found.capacity.item() == found.operator.item() == 0
    assert found.stable_rank.isnan().all()


def test_the_bound_holds_in_the_mean_over_signs_and_is_tight():
    n_pairs, width, c = 100, 8, 1.5
    queries, keys = (rows / rows.norm(dim=1, keepdim=True) for rows in drawn((n_pairs, width), (n_pairs, width)))
    signs = torch.randint(2, (2000, n_pairs), generator=torch.Generator().manual_seed(0)).double() * 2 - 1
    sums = torch.einsum("sp,pi,pj->sij", signs, queries, keys)
    supremum = c / n_pairs * sums.flatten(1).norm(dim=1)  # over all M of norm c
    bound = rademacher_bound(c, largest_query=1.0, largest_key=1.0, n_pairs=n_pairs)
    assert bound == pytest.approx(0.15)
    assert 0.95 * bound < supremum.mean() < bound
    with pytest.raises(ValueError, match="frobenius must be a finite number, at least 0; got nan"):
        rademacher_bound(math.nan, largest_query=1.0, largest_key=1.0, n_pairs=1)


def test_slopes_are_autograds():
    queries, keys, norms = drawn((3, 5, 2), (3, 5, 2), (5,), seed=4)
    norms = norms.abs()
    leaves = [each.clone().requires_grad_() for each in (queries, keys, norms)]
    products = leaves[0] @ leaves[1].mT
    capacity = (products.abs() * torch.outer(leaves[2], leaves[2])).sum(dim=(1, 2)) / 1.7
    found = capacity_slopes(queries, keys, norms, scale=1.7)
    assert found.capacity.allclose(capacity.detach(), rtol=1e-12)
    for head in range(3):
        by_queries, by_keys, by_norms = torch.autograd.grad(capacity[head], leaves, retain_graph=True)
        assert found.queries[head].allclose(by_queries[head], rtol=1e-12)
        assert found.keys[head].allclose(by_keys[head], rtol=1e-12)
        assert found.norms[head].allclose(by_norms, rtol=1e-12)


def test_norms_are_of_the_columns_of_tokens_above_positions():
    model = toy(n_layers=1)
    columns = torch.cat([model.W_E, model.W_pos]).detach().norm(dim=0)
    assert embedding_norms(model).allclose(columns)
    assert embedding_norms(llama()).allclose(llama().W_E.detach().norm(dim=0))
    assert not embedding_norms(model).requires_grad
