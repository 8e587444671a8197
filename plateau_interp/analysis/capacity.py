"""How large the query-key product of a head is: a capacity by the formula of a theory of operator nets, and norms.

A score is an inner product of two nets, like the output of a DeepONet: ``score = x^T M x' / scale`` with ``M = W_Q
W_K^T`` of rank d_head at most. `product_capacity` is the published formula, `query_key_capacity` takes it over to every
head of a model, with norms that depend on no basis; `rademacher_bound` is a statement that is proved. To have them
through training use the intervention `plateau_interp.hooks.QueryKeyCapacity`; how they go with what a model generalises
is `plateau_interp.analysis.generalisation`.

Left out of M are the biases of queries and keys, the gain of the norm before them, and rotary positions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from plateau_interp.checks import shown, whole_number
from plateau_interp.types import HookedModel, check_model

__all__ = [
    "CapacitySlopes",
    "HeadCapacities",
    "capacity_slopes",
    "embedding_norms",
    "product_capacity",
    "query_key_capacity",
    "rademacher_bound",
]


@dataclass(frozen=True, eq=False)
class HeadCapacities:
    """Of each head: the capacity of its query-key product M, and norms of M. All in float64.

    Attributes:
        capacity: C_QK; depends on the basis of the residual stream.
        frobenius: ``|M|_F``, as the three after it the same in every basis.
        nuclear: ``|M|_*``, the sum of the singular values.
        operator: ``|M|_op``, the largest of them.
        stable_rank: ``|M|_F²/|M|_op²``, from 1 to d_head; NaN of a product that is 0.
        weights: ``(|W_Q|_F² + |W_K|_F²)/2``, at least ``|M|_*``.
        scale: what scores are divided by.
    """

    capacity: Float[Tensor, "layer head"]
    frobenius: Float[Tensor, "layer head"]
    nuclear: Float[Tensor, "layer head"]
    operator: Float[Tensor, "layer head"]
    stable_rank: Float[Tensor, "layer head"]
    weights: Float[Tensor, "layer head"]
    scale: Float[Tensor, " layer"]


def product_capacity(
    branch: Sequence[Float[Tensor, "_ _"]], trunk: Sequence[Float[Tensor, "_ _"]]
) -> Float[Tensor, ""]:
    """The capacity of ``<branch(x), trunk(x')>``, two nets of equal depth n without biases: ``prod_k C_k``.

    ``C_1 = r(B_(n-1))^T |B_n^T T_n| r(T_(n-1))`` with the entrywise absolute value and r the Euclidean norms of rows;
    ``C_k = |B_(n-k)|_F |T_(n-k)|_F`` for k from 2 to n - 1. Divided by the root of how many numbers were trained on it
    is what the paper draws its generalisation gaps against.

    Args:
        branch: its weights B_1 … B_n, 2 at least.
        trunk: T_1 … T_n.

    Raises:
        ValueError: for nets of unequal depth, or of one layer.

    Source: the code of the authors of arXiv 2205.11359, whose C_k is the operator norm of an outer product of row
    norms; that is the product of two Frobenius norms exactly. The theorem's assumptions, as far as we know them:
    activations that are symmetric, such as ``|x|``. Not in the code, and not known to us: a factor for the size of
    inputs, and one that grows with the depth. So it is the code's number, not a bound.

    Example:
        >>> eye = torch.eye(2)
        >>> product_capacity([eye, eye], [2 * eye, eye]).item()  # |M_ij| is the identity; rows of norm 1 and 2
        4.0
    """
    if len(branch) != len(trunk) or len(branch) < 2:
        raise ValueError(
            f"branch and trunk must be equally many weights, 2 at least; got {len(branch)} and {len(trunk)}"
        )
    (*_, branch_rows, branch_last), (*_, trunk_rows, trunk_last) = branch, trunk
    rows = [torch.linalg.vector_norm(weights, dim=1) for weights in (branch_rows, trunk_rows)]
    first: Tensor = rows[0] @ (branch_last.T @ trunk_last).abs() @ rows[1]
    for earlier in (*branch[:-2], *trunk[:-2]):
        first = first * torch.linalg.matrix_norm(earlier)
    return first


@torch.no_grad()
def query_key_capacity(model: HookedModel) -> HeadCapacities:
    """The capacity and the norms of the query-key product of every head.

    ``C_QK = 1/scale sum_ij |M_ij| |E_:i|_2 |E_:j|_2``, E the token embeddings above the position embeddings, if the
    model adds any. That is `product_capacity` with ``B_2 = W_Q^T``, ``T_2 = W_K^T``, ``B_1 = T_1 = E^T``: inputs are
    one-hot tokens.

    It is the exact analogue of the formula and OUTSIDE the paper's theorem: there is no ``|x|`` between the layers, a
    norm may stand there, both nets share E, a softmax comes after, and beyond the first layer E is not what a head
    reads. It depends on the basis of the residual stream: compare it through the training of one model, not across
    models. The norms do not. Proved: ``|M|_* <= (|W_Q|_F² + |W_K|_F²)/2``, since M is the sum of ``q_k k_k^T`` over the
    columns of W_Q and W_K and ``|q_k| |k_k| <= (|q_k|² + |k_k|²)/2``; it is equal for ``W_Q = U S^½``, ``W_K = V S^½``
    of a singular value decomposition. So the least weight decay that gives one M is its nuclear norm. Not covered:
    biases of queries and keys, and rotary positions, which are in the scores and not in M.

    Memory of ``d_model²`` numbers. Singular values come from products of d_head times d_head; of weights that are not
    finite they are NaN.

    Args:
        model: any HookedTransformer; of grouped keys each query head has its group's.

    Source: as `product_capacity`; that it is taken over to heads is our own. Nuclear norm and factors: Srebro, Rennie
    and Jaakkola, Maximum-Margin Matrix Factorization (2004).

    Example:
        >>> from plateau_interp import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> heads = query_key_capacity(toy_model(MovingWindowSum(), d_model=16, n_heads=2))
        >>> heads.capacity.shape, bool((heads.nuclear <= heads.weights).all())
        (torch.Size([1, 2]), True)
    """
    check_model(model)
    anything: Any = model
    embeddings = torch.cat([table.double() for table in _embedding_tables(model)])
    measured: list[list[list[Tensor]]] = []
    scales = []
    for block in anything.blocks:
        scales.append(float(block.attn.attn_scale))
        queries, keys = block.attn.W_Q.double(), block.attn.W_K.double()
        measured.append([_of_head(*pair, embeddings, scales[-1]) for pair in zip(queries, keys, strict=True)])
    layers = [torch.stack([torch.stack(head) for head in heads]) for heads in measured]
    capacity, frobenius, nuclear, operator, stable_rank, weights = torch.stack(layers).unbind(dim=-1)
    scale = torch.tensor(scales, dtype=torch.float64)
    return HeadCapacities(capacity, frobenius, nuclear, operator, stable_rank, weights, scale)


class CapacitySlopes(NamedTuple):
    """C_QK of the heads of a layer, and its derivatives."""

    capacity: Float[Tensor, " head"]
    queries: Float[Tensor, "head d_model d_head"]
    """By W_Q of the head."""
    keys: Float[Tensor, "head d_model d_head"]
    """By W_K."""
    norms: Float[Tensor, "head d_model"]
    """By the norms ``|E_:i|_2`` of the embeddings' columns."""


def capacity_slopes(
    queries: Float[Tensor, "head d_model d_head"],
    keys: Float[Tensor, "head d_model d_head"],
    norms: Float[Tensor, " d_model"],
    *,
    scale: float,
) -> CapacitySlopes:
    """``C = 1/scale sum_ij |M_ij| e_i e_j`` of each head, ``M = W_Q W_K^T``, with its derivatives in closed form.

    With ``G_ij = sign(M_ij) e_i e_j / scale`` they are ``G W_K`` by W_Q, ``G^T W_Q`` by W_K and ``sum_j (|M_ij| +
    |M_ji|) e_j / scale`` by e_i. Where an entry of M is 0 C has no derivative, and 0 stands for it: one of its
    subgradients. Memory of ``heads d_model²`` numbers.

    Args:
        queries: W_Q.
        keys: W_K, one a query head.
        norms: e, as `embedding_norms` gives them.
        scale: what scores are divided by.

    Source: our own; of the formula of `query_key_capacity`, with what is said there of its meaning.

    Example:
        >>> eye = torch.eye(2)[None]
        >>> slopes = capacity_slopes(eye, 2 * eye, torch.tensor([1.0, 3.0]), scale=1.0)
        >>> slopes.capacity.item(), slopes.queries.tolist(), slopes.norms.tolist()
        (20.0, [[[2.0, 0.0], [0.0, 18.0]]], [[4.0, 12.0]])
    """
    product = einsum(queries, keys, "head row d_head, head column d_head -> head row column")
    signs = product.sign() * torch.outer(norms, norms) / scale
    sizes = product.abs()
    by_norms = (sizes @ norms + sizes.mT @ norms) / scale
    return CapacitySlopes((product * signs).sum(dim=(1, 2)), signs @ keys, signs.mT @ queries, by_norms)


@torch.no_grad()
def embedding_norms(model: HookedModel) -> Float[Tensor, " d_model"]:
    """``|E_:i|_2``, E the token embeddings above the position embeddings, if the model adds any; in float32 at least.

    Example:
        >>> from plateau_interp import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> embedding_norms(toy_model(MovingWindowSum(), d_model=16)).shape
        torch.Size([16])
    """
    squares = [
        table.to(torch.promote_types(table.dtype, torch.float32)).square().sum(dim=0)
        for table in _embedding_tables(model)
    ]
    return torch.stack(squares).sum(dim=0).sqrt()


def _embedding_tables(model: HookedModel) -> list[Float[Tensor, "_ d_model"]]:
    anything: Any = model
    added = [anything.pos_embed.W_pos] if model.cfg.positional_embedding_type == "standard" else []
    return [anything.embed.W_E, *added]


def _of_head(
    queries: Float[Tensor, "d_model d_head"],
    keys: Float[Tensor, "d_model d_head"],
    embeddings: Float[Tensor, "token d_model"],
    scale: float,
) -> list[Float[Tensor, ""]]:
    """In the order of the attributes of `HeadCapacities`."""
    capacity = product_capacity([embeddings.T, queries.T], [embeddings.T, keys.T]) / scale
    # Of two thin matrices the product has the singular values of that of their triangular factors.
    triangles = [torch.linalg.qr(weights)[1] for weights in (queries, keys)]
    product = triangles[0] @ triangles[1].T
    # Of weights that are not finite any more the norms are NaN; torch's SVD would end the training that is measured.
    singular = torch.linalg.svdvals(product.nan_to_num(0, 0, 0)).where(product.isfinite().all(), torch.nan)
    squares = singular.square().sum()
    weights = (queries.square().sum() + keys.square().sum()) / 2
    return [capacity, squares.sqrt(), singular.sum(), singular[0], squares / singular[0].square(), weights]


def rademacher_bound(frobenius: float, *, largest_query: float, largest_key: float, n_pairs: int) -> float:
    """``c B B'/sqrt(m)``: a bound of the empirical Rademacher complexity of scores with ``|M|_F`` at most c.

    Of ``{(x, x') -> x^T M x' : |M|_F <= c}`` on m pairs. Proved: the supremum over M is ``c/m |sum_i eps_i x_i
    x_i'^T|_F``; by Jensen its mean over signs is at most ``c/m sqrt(sum_i |x_i|² |x_i'|²) <= c B B'/sqrt(m)``. Measured
    are c and the norms. Not covered: that c was chosen before the data were seen, that pairs of one sequence are not
    independent, biases of queries and keys, rotary positions, the softmax and all that follows it. So it bounds no
    loss.

    Args:
        frobenius: c; for scores divide ``|M|_F`` by the model's scale.
        largest_query: B, the largest ``|x_i|``.
        largest_key: B'.
        n_pairs: m.

    Raises:
        ValueError: for a number that cannot be.

    Source: the standard argument for linear classes of bounded norm, as in Bartlett and Mendelson (2002).

    Example:
        >>> rademacher_bound(2.0, largest_query=1.0, largest_key=3.0, n_pairs=36)
        1.0
    """
    whole_number("n_pairs", n_pairs, least=1)
    for name, number in (("frobenius", frobenius), ("largest_query", largest_query), ("largest_key", largest_key)):
        if not 0 <= number < math.inf:
            raise ValueError(f"{name} must be a finite number, at least 0; got {shown(number)}")
    return frobenius * largest_query * largest_key / math.sqrt(n_pairs)
