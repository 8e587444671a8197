"""What is proved of the regularised loss of a depth-2 net ``f(x) = a^T sigma(W x)``, W alone trained: numbers of it.

The statements are our own derivations, given in full, and need no more than an activation with bounds
(`plateau_interp.activations`). They hold for every penalty above 0. They are about this net: nothing here speaks of
Transformers. Measured on the same net is `plateau_interp.analysis.villani`.

**Drift.** Let ``rho(z) = z sigma'(z) - sigma(z)``, bounded by B_rho, and R = |a|_1 B_rho. Then the gradient of f_i, in
the direction W, is ``f_i + r_i`` with ``|r_i| <= R``. Of the squared loss ``(f - y)(f + r)`` is a parabola in f, least
at f = (y - r)/2, where it is ``-(y + r)²/4``; of the logistic ``-y (f + r) / (1 + exp(y f))`` is at least ``-max m/(1 +
exp(m)) - R``. So with K = (B_y + R)²/4 or K = 0.2785 + R, and ``L = loss + penalty/2 |W|²``, ``<grad L, W> >= penalty
|W|² - K``, and by Cauchy and Schwarz ``|grad L| >= penalty |W| - K/|W|``.

**Laplacian.** ``Lap L = penalty p d + mean_i |x_i|² sum_j (l''_i a_j² sigma'(z_ij)² + l'_i a_j sigma''(z_ij))``, which
grows at most linearly in |W|. So ``|grad L|²/s - Lap L -> infinity``, for every s and every penalty above 0.

**Without a penalty** it does not: if a has pairs of opposite entries, let the gates of a pair have one weight. Then f
is 0 at every radius, l' and l'' stay bounded, and so does Psi along that ray.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from plateau_interp.activations import ACTIVATION_BOUNDS, ActivationBounds, SmoothActivation
from plateau_interp.checks import one_of, shown

__all__ = ["DepthTwoBounds", "depth_two_bounds"]

LARGEST_LOGISTIC = 0.2784645427610738
"""The largest ``m / (1 + exp(m))``, W(1/e) with Lambert's W."""


@dataclass(frozen=True)
class DepthTwoBounds:
    """Bounds of the loss of one net on given points, with ``penalty/2 |W|²`` added; see `depth_two_bounds`.

    Source: the derivations at the head of this module, our own; the programme is that of arXiv 2210.11452 and
    2309.09258 as we understand them. Assumptions: sigma has two derivatives with the bounds of `activation`, a is fixed
    and W alone is trained, and the loss is the mean over the given points. Not covered: trained outer layers, biases,
    deeper nets, ReLU, and how soon SGD on batches comes to a minimum.

    Attributes:
        objective: "squared" or "logistic", as in `plateau_interp.tasks.DepthTwoNet`.
        activation: bounds of sigma and its derivatives.
        at_zero: sigma(0).
        outer: a.
        width: coordinates of a point.
        largest_point: B_x, the largest ``|x_i|``.
        largest_label: B_y, the largest ``|y_i|``.
    """

    objective: Literal["squared", "logistic"]
    activation: ActivationBounds
    at_zero: float
    outer: tuple[float, ...]
    width: int
    largest_point: float
    largest_label: float

    @property
    def drift(self) -> float:
        """K of ``<grad L, W> >= penalty |W|² - K``, for every W and penalty.

        Proved above (Drift). Grows as the width where ``|a|_1`` does; for a_j = ±1/sqrt(p) as its root, or with the
        squared loss as the width itself.
        """
        remainder = self._outer_1 * self.activation.remainder
        return (self.largest_label + remainder) ** 2 / 4 if self._squared else LARGEST_LOGISTIC + remainder

    def gradient_square_least(self, norm: float, *, penalty: float) -> float:
        """A lower bound of ``|grad L|²`` where ``|W|_F`` is ``norm``, above 0: ``(penalty |W| - K/|W|)²``, or 0.

        Proved above (Drift).

        Raises:
            ValueError: for a norm that is not above 0, or a penalty below 0.
        """
        _check("norm", norm, above=0)
        _check("penalty", penalty)
        return max(0.0, penalty * norm - self.drift / norm) ** 2

    def laplacian_most(self, norm: float, *, penalty: float) -> float:
        """An upper bound of ``Lap L`` where ``|W|_F`` is ``norm``.

        Proved above (Laplacian), with ``l'' <= 1``, of the logistic 1/4; ``|l'| <= B_y + |f|``, of the logistic 1; and
        ``|f| <= |a|_1 B_sigma`` or ``|sigma(0) sum_j a_j| + M_D |a|_2 B_x |W|``, whichever is less.
        """
        slope, curvature = self.activation.slope, self.activation.curvature
        outer_2, bend = math.hypot(*self.outer), 1.0 if self._squared else 0.25
        output = min(
            self._outer_1 * self.activation.value,
            abs(self.at_zero * sum(self.outer)) + slope * outer_2 * self.largest_point * norm,
        )
        pull = self.largest_label + output if self._squared else 1.0
        of_loss = self.largest_point**2 * (bend * outer_2**2 * slope**2 + pull * self._outer_1 * curvature)
        return of_loss + penalty * len(self.outer) * self.width

    def psi_least(self, norm: float, *, step_size: float, penalty: float) -> float:
        """A lower bound of ``Psi = |grad L|²/step_size - Lap L`` over all W of one norm.

        Proved, from the two bounds above. It grows as ``penalty² |W|² / step_size`` if the penalty is above 0; at 0 it
        says nothing of growth. Psi itself is `plateau_interp.analysis.villani.villani_diagnostic`, which counts rows of
        ``W_in`` that no point reaches, too: where the model is wider than the points, its Laplacian has ``penalty``
        more for each of their entries, and Psi so much less.
        """
        _check("step_size", step_size, above=0)
        gradient = self.gradient_square_least(norm, penalty=penalty)
        return gradient / step_size - self.laplacian_most(norm, penalty=penalty)

    def smoothness(self, *, penalty: float) -> float:
        """An upper bound of the Lipschitz constant of ``grad L``; infinite where none is proved.

        ``B_x² (|a|_2² M_D² + (|a|_1 B_sigma + B_y) |a|_inf M_D') + penalty``; of the logistic ``B_x² (|a|_2² M_D²/4 +
        |a|_inf M_D') + penalty``. Proved: the Hessian of a point's loss is ``l'' g g^T + l' H``, where g, the gradient
        of f, has ``|g| <= |a|_2 M_D B_x``, and H, that of f, is block diagonal with blocks ``a_j sigma''(z_j) x x^T``.
        Not covered: the squared loss with an activation that is not bounded, where l' is not. With a_j = ±1/sqrt(p)
        it stays bounded, whatever the width p is.
        """
        _check("penalty", penalty)
        slope, curvature = self.activation.slope, self.activation.curvature
        outer_2, largest = math.hypot(*self.outer), max(map(abs, self.outer))
        bend, pull = (1.0, self._outer_1 * self.activation.value + self.largest_label) if self._squared else (0.25, 1.0)
        return self.largest_point**2 * (bend * (outer_2 * slope) ** 2 + pull * largest * curvature) + penalty

    def safe_step(self, *, penalty: float) -> float:
        """``1/smoothness``: up to this step a gradient step, on all points at once, does not raise L; 0 if unknown.

        Proved, by the descent lemma. Of steps on batches it says nothing for a single step.
        """
        return 1 / self.smoothness(penalty=penalty)

    @property
    def recollected_threshold(self) -> float | None:
        """lambda_c as we understand arXiv 2210.11452: ``2 M_D L B_x² |a|_2²``, L = M_D; None for the logistic loss.

        NOT checked against the paper's text, and no fact: do not quote it. It is the penalty from which the papers'
        technique of proof is enough. That of arXiv 2309.09258, for the logistic loss, is not known to us. No transition
        happens there: by the bounds above Psi grows without limit for every penalty above 0.
        """
        if not self._squared:
            return None
        return 2 * self.activation.slope**2 * self.largest_point**2 * math.hypot(*self.outer) ** 2

    @property
    def _squared(self) -> bool:
        return self.objective == "squared"

    @property
    def _outer_1(self) -> float:
        return math.fsum(map(abs, self.outer))


def depth_two_bounds(
    activation: SmoothActivation,
    objective: Literal["squared", "logistic"],
    *,
    outer: Float[Tensor, " gate"],
    points: Float[Tensor, "batch width"],
    labels: Float[Tensor, " batch"],
) -> DepthTwoBounds:
    """The bounds for a net on the points that its loss is the mean over.

    Args:
        activation: sigma.
        objective: "squared", ``1/2 (y - f(x))²``, or "logistic", ``ln(1 + exp(-y f(x)))`` with y = ±1.
        outer: a, fixed.
        points: x_i.
        labels: y_i.

    Raises:
        ValueError: for an unknown activation or objective; without points or labels of them; for an outer layer of 0.

    Example:
        >>> from plateau_interp.tasks import DepthTwoNet
        >>> task = DepthTwoNet(activation="sigmoid")
        >>> points, labels = task.points[: task.n], task.train_set.labels[:, 0]
        >>> bounds = depth_two_bounds("sigmoid", "squared", outer=task.outer_layer(32), points=points, labels=labels)
        >>> round(bounds.recollected_threshold, 3), round(bounds.safe_step(penalty=0.01), 1)
        (0.125, 5.4)
    """
    one_of(SmoothActivation, activation=activation)
    one_of(Literal["squared", "logistic"], objective=objective)
    if not (len(points) and len(points) == len(labels)):
        raise ValueError(f"there must be points, and a label of each; got {len(points)} and {len(labels)}")
    if not outer.any():
        raise ValueError("outer must have an entry other than 0, or the net says nothing")
    return DepthTwoBounds(
        objective,
        ACTIVATION_BOUNDS[activation],
        at_zero={"sigmoid": 0.5, "softplus": math.log(2)}.get(activation, 0.0),
        outer=tuple(outer.double().tolist()),
        width=points.shape[1],
        largest_point=float(torch.linalg.vector_norm(points, dim=1).max()),
        largest_label=float(labels.abs().max()),
    )


def _check(name: str, number: float, *, above: float = -math.ulp(0.0)) -> None:
    if not above < number < math.inf:
        raise ValueError(f"{name} must be a finite number {'above' if above == 0 else 'from'} 0; got {shown(number)}")
