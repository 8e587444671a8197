"""Completion by nuclear-norm minimisation: what a model that completes matrices is held against.

Of all matrices with the entries that are seen, the one whose singular values have the smallest sum; it tends to be of
low rank, and a convex problem finds it (Candès and Recht 2009, arXiv 0805.4471). The solver is Clarabel, by CVXPY:
``pip install 'plateau-interp[convex]'``.
"""

import math
import warnings
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from plateau_interp.checks import shown

__all__ = ["complete_by_nuclear_norm", "nuclear_norms"]


def nuclear_norms(matrices: Float[Tensor, "batch row column"]) -> Float[Tensor, " batch"]:
    """The sum of each matrix's singular values; NaN of one that is not finite.

    Example:
        >>> nuclear_norms(torch.tensor([[[3.0, 0.0], [0.0, -4.0]]]))
        tensor([7.])
    """
    values: Tensor = torch.linalg.svdvals(matrices.nan_to_num(0, 0, 0))
    return values.sum(dim=-1).where(matrices.isfinite().all(dim=-1).all(dim=-1), torch.nan)


def complete_by_nuclear_norm(
    matrices: Float[Tensor, "batch row column"],
    seen: Bool[Tensor, "batch row column"],
    *,
    weight: float | None = None,
) -> Float[Tensor, "batch row column"]:
    """Fill in each matrix so that its nuclear norm is least.

    ``min ‖Z‖_* with Z = X where X is seen``; with a weight
    ``min (mean of (Z - X)² over what is seen) + weight · ‖Z‖_*``.

    Args:
        matrices: read where they are seen; what stands elsewhere does not matter.
        seen: which entries are known.
        weight: of the norm, above 0, where what is seen need not be met exactly; None where it must.

    Returns:
        The whole matrices, in float32: the objective is exact to about 1e-6, an entry to about 1e-4.

    Raises:
        ValueError: for shapes that differ, a weight that is not above 0, a matrix of which nothing is seen, or a
            number that is seen and not finite.
        ModuleNotFoundError: if CVXPY or Clarabel is not installed.

    Source: arXiv 2410.22244, section on the nuclear norm, authors' code.

    Example:
        >>> matrix = torch.tensor([[[1.0, 2.0], [2.0, 4.0]]])
        >>> seen = torch.tensor([[[True, False], [True, True]]])
        >>> complete_by_nuclear_norm(matrix, seen)[0, 0, 1] > 1.0  # doctest: +SKIP
        tensor(True)
    """
    if matrices.shape != seen.shape:
        raise ValueError(f"matrices and seen must have one shape; got {(*matrices.shape,)} and {(*seen.shape,)}")
    if weight is not None and not 0 < weight < math.inf:
        raise ValueError(f"weight must be above 0, or None; got {shown(weight)}")
    if not seen.any(dim=(1, 2)).all():
        raise ValueError(f"of matrix {int((~seen.any(dim=(1, 2))).int().argmax())} nothing is seen")
    if not matrices[seen].isfinite().all():
        raise ValueError("what is seen of the matrices must be finite")
    solve = _solver((matrices.shape[1], matrices.shape[2]), weight)
    known = seen.double().cpu().numpy()
    values = matrices.double().where(seen, 0.0).cpu().numpy()
    filled = [torch.from_numpy(solve(*each)) for each in zip(values, known, strict=True)]
    if not filled:
        return matrices.float()
    return torch.stack(filled).float().to(matrices.device)


def _solver(shape: tuple[int, int], weight: float | None) -> Any:
    """A function from what is seen of a matrix (0 elsewhere), and where that is, to the whole; compiled once."""
    try:
        import clarabel  # noqa: F401  # CVXPY would take another solver, or say that there is none
        import cvxpy
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"completion by nuclear norm needs {error.name}: pip install 'plateau-interp[convex]'", name=error.name
        ) from None
    # A parameter for the mask, and one for the share of each entry in the mean: so the problem is compiled once.
    whole, value, known = cvxpy.Variable(shape), cvxpy.Parameter(shape), cvxpy.Parameter(shape, nonneg=True)
    masked = cvxpy.multiply(known, whole)
    if weight is None:
        problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.normNuc(whole)), [masked == value])
    else:
        problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(masked - value) + weight * cvxpy.normNuc(whole)))

    def solve(values: Any, seen: Any) -> Any:
        scale = 1.0 if weight is None else 1 / math.sqrt(seen.sum())
        value.value, known.value = scale * values, scale * seen
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "solution may be inaccurate" at 1e-6, of the objective
            problem.solve(solver=cvxpy.CLARABEL)
        if whole.value is None:
            raise ValueError(f"the solver found no completion: {problem.status}")
        return whole.value

    return solve
