"""Points on a sphere and a teacher's labels, for the net ``a^T sigma(W x)``: `DepthTwoNet`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from plateau_interp.activations import SMOOTH_ACTIVATIONS, SmoothActivation
from plateau_interp.checks import check_memory, check_not_negative, one_of
from plateau_interp.tasks._layouts import at_least, check_draw
from plateau_interp.training.batches import stream_generator
from plateau_interp.training.optimizers import SGD
from plateau_interp.types import Batch, Defaults, FiniteTask, HookedModel, Levels

__all__ = ["DepthTwoNet", "Objective", "alternating"]

Objective = Literal["squared", "logistic"]
"""Half the squared error of a number, or the logistic loss of a class."""
Teacher = Literal["sine", "net"]
"""What gives a point its label: a wave along one direction, or a net of `TEACHER_GATES` gates."""
TEACHER_GATES = 4
STEEP = 3.0
"""Of a teacher: how often a wave turns between 0 and 1, or the deviation of a net's weights."""
NUMBER_BYTES = 8


@dataclass(frozen=True)
class DepthTwoNet(FiniteTask):
    """Regression or classification of points on the unit sphere by ``f(x) = a^T sigma(W x)``.

    ``n`` points uniform on the sphere of R^d are trained on, ``n_validation`` more are held out; a token stands for a
    point. The labels are a teacher's. Squared: ``1/2 (y - f(x))²``. Logistic: ``ln(1 + exp(-y f(x)))`` with y = 1 where
    the teacher is above its median, else -1. The outer layer is ``a_j = ±1/sqrt(n_gates)``, signs in turn, so that its
    Euclidean norm is 1 whatever the width; it is not trained. ``d_mlp`` is the number of gates, ``init_std`` the
    deviation of W's initial entries. For a Frobenius norm in the loss add the intervention `FrobeniusPenalty`.

    Args:
        d: dimension of the points.
        n: points to train on.
        n_validation: points that are held out.
        objective: "squared" or "logistic".
        activation: sigma: "tanh", "sigmoid", "softplus", "gelu" or "silu".
        teacher: "sine", ``sin(3 <w, x>)`` with a unit vector w; or "net", 4 gates of the same activation with weights
            N(0, 9).
        label_noise: of the points that are trained on. Squared: deviation of a normal error. Logistic: the share of
            labels that is turned round, expected.
        data_seed: of points, teacher and noise; independent of a run's seed.

    Raises:
        ValueError: if a size or choice cannot be; the message names the argument and the bound.

    Source: the net and the two losses of arXiv 2210.11452 and 2309.09258 as we understand them. Their data, widths and
    learning rates are not known to us: points, teachers and all defaults are ours, and nothing that is trained here is
    a reproduction of a figure of theirs.

    Example:
        >>> task = DepthTwoNet(d=3)
        >>> batch = task.sample(2, generator=torch.Generator().manual_seed(0))
        >>> batch.tokens.shape, task.points.shape
        (torch.Size([2, 1]), torch.Size([400, 3]))
    """

    d: int = 10
    n: int = 200
    n_validation: int = 200
    objective: Objective = "squared"
    activation: SmoothActivation = "tanh"
    teacher: Teacher = "sine"
    label_noise: float = 0.0
    data_seed: int = 0

    name: ClassVar[str] = "depth-2-net"
    lookahead: ClassVar[int] = 0
    d_output: ClassVar[int] = 1
    n_pos: ClassVar[int] = 1
    answer: ClassVar[slice] = slice(0, 1)

    def __post_init__(self) -> None:
        at_least(1, d=self.d, n=self.n, n_validation=self.n_validation)
        at_least(0, data_seed=self.data_seed)
        one_of(Objective, objective=self.objective)
        one_of(SmoothActivation, activation=self.activation)
        one_of(Teacher, teacher=self.teacher)
        check_not_negative(self, "label_noise")
        if self.objective == "logistic" and self.label_noise > 1:
            raise ValueError(f"label_noise of a logistic loss is a share, at most 1; got {self.label_noise:g}")

    @property
    def unit(self) -> str:  # type: ignore[override]  # of most tasks that of the class; here the objective decides
        """Of the loss."""
        return "half a square" if self.objective == "squared" else "nats"

    @property
    def defaults(self) -> Defaults:
        """SGD with batches of 16 and a step of 0.1, as in our own checks of the theory."""
        return Defaults(
            steps=6000,
            batch_size=16,
            optimizer=SGD(learning_rate=0.1),
            attention="softmax",
            d_model=self.d + 1,
            measure_every=50,
            architecture="depth-2",
            init_std=1.0,
        )

    @property
    def d_vocab(self) -> int:
        """A token for each point."""
        return self.n + self.n_validation

    @property
    def points(self) -> Float[Tensor, "d_vocab width"]:
        """The points, those that are trained on first."""
        return self._data[0].clone()

    @property
    def train_set(self) -> Batch:
        """The points to train on, with their labels as the net is told them."""
        return self._batch(slice(0, self.n))

    @property
    def validation_set(self) -> Batch:
        """The points that are held out, with the teacher's labels."""
        return self._batch(slice(self.n, None))

    @property
    def levels(self) -> Levels:
        """On the plateau all points are given one number: the best constant."""
        return Levels(plateau=self.constant_loss)

    @property
    def constant_loss(self) -> float:
        """The least loss on the training points of a model that says the same of all.

        Squared: half the labels' variance. Logistic: the entropy of the two classes.
        """
        labels = self.train_set.labels
        if self.objective == "squared":
            return float(labels.var(correction=0)) / 2
        share = (labels > 0).double().mean()
        return float(torch.special.entr(torch.stack([share, 1 - share])).sum())

    def outer_layer(self, n_gates: int) -> Float[Tensor, "{n_gates}"]:
        """``±1/sqrt(n_gates)``, signs in turn."""
        return alternating(n_gates)

    def sample(self, n: int, *, generator: torch.Generator) -> Batch:
        """Draw ``n`` of the points that are trained on, with replacement."""
        check_draw(n, generator)
        rows = torch.randint(self.n, (n,), generator=generator, device=generator.device)
        return self.train_set.to(generator.device).take(rows)

    def loss(self, output: Float[Tensor, "batch query 1"], batch: Batch) -> Float[Tensor, ""]:
        """Mean over the scored points of half the squared error, or of the logistic loss; in float32 at least."""
        precise = output[..., 0].to(torch.promote_types(output.dtype, torch.float32))
        scored = ~batch.labels.isnan()
        labels = batch.labels.nan_to_num().to(precise.dtype)
        if self.objective == "squared":
            losses = (precise - labels).square() / 2
        else:
            losses = torch.nn.functional.softplus(-labels * precise)
        return (losses * scored).sum() / scored.sum()

    @torch.no_grad()
    def measures(self, model: HookedModel, *, generator: torch.Generator) -> dict[str, Float[Tensor, ""]]:
        """The loss of all training points, what share of a constant's that is, and how large the trained weights are.

        Returns:
            ``train_loss``; ``share_of_constant``, `train_loss` over `constant_loss`; ``weight_norm``, the Euclidean
            norm of all that is trained, of the depth-2 net ``|W|_F``; and of a logistic loss ``train_accuracy`` and
            ``validation_accuracy``.
        """
        trained = [parameter.double() for parameter in model.parameters() if parameter.requires_grad]
        squares = torch.stack([parameter.square().sum() for parameter in trained]) if trained else torch.zeros(1)
        device = next(model.parameters()).device
        batch = self.train_set.to(device)
        output = model(batch.inputs)
        train_loss = self.loss(output, batch)
        measured = {
            "train_loss": train_loss,
            "share_of_constant": train_loss / self.constant_loss if self.constant_loss else train_loss * math.nan,
            "weight_norm": squares.sum().sqrt().to(device),
        }
        if self.objective == "logistic":
            held_out = self.validation_set.to(device)
            measured["train_accuracy"] = _agreement(output, batch).double().mean()
            measured["validation_accuracy"] = _agreement(model(held_out.inputs), held_out).double().mean()
        return measured

    @property
    def captions(self) -> Mapping[str, str]:
        """What reports say below the curves of `measures`."""
        return {
            "train_loss": "Loss of all training points, without what a penalty adds.",
            "share_of_constant": "The same over that of the best constant: at 1 nothing was learnt.",
            "weight_norm": "Euclidean norm of all that is trained.",
            "train_accuracy": "Share of the training points whose class is right.",
            "validation_accuracy": "Share of the points held out whose class is right.",
        }

    def remark(self, measured: Mapping[str, float]) -> str:
        """How far the net is from having learnt nothing."""
        share = measured.get("share_of_constant", math.nan)
        return "" if math.isnan(share) else f"the training points' loss is {100 * share:.0f} % of the best constant's"

    @cached_property
    def _data(self) -> tuple[Float[Tensor, "point width"], Float[Tensor, " point"]]:
        """Points, and the labels that go with them."""
        n_points = self.n + self.n_validation
        check_memory(NUMBER_BYTES * n_points * (self.d + 1), f"{n_points:,} points of d={self.d}")
        generator = stream_generator(self.data_seed, "points of a sphere", 0)
        points = _unit(torch.randn(n_points, self.d, generator=generator, dtype=torch.float64))
        told = self._teach(points, stream_generator(self.data_seed, f"teacher {self.teacher}", 0))
        noise = stream_generator(self.data_seed, "label noise", 0)
        if self.objective == "squared":
            errors = torch.randn(self.n, generator=noise, dtype=torch.float64)
            return points, told + torch.cat([self.label_noise * errors, torch.zeros(self.n_validation)])
        turned = torch.rand(self.n, generator=noise, dtype=torch.float64) < self.label_noise
        signs = torch.where(told > told.median(), 1.0, -1.0).double()
        return points, torch.cat([torch.where(turned, -signs[: self.n], signs[: self.n]), signs[self.n :]])

    def _teach(self, points: Float[Tensor, "point width"], generator: torch.Generator) -> Float[Tensor, " point"]:
        n_gates = 1 if self.teacher == "sine" else TEACHER_GATES
        weights = torch.randn(n_gates, self.d, generator=generator, dtype=torch.float64)
        if self.teacher == "sine":
            return torch.sin(STEEP * points @ _unit(weights)[0])
        gates = SMOOTH_ACTIVATIONS[self.activation](STEEP * points @ weights.T)
        told: Tensor = einsum(gates, alternating(n_gates), "point gate, gate -> point")
        return told

    def _batch(self, rows: slice) -> Batch:
        tokens = torch.arange(self.d_vocab)[rows]
        return Batch(rearrange(tokens, "point -> point 1"), rearrange(self._data[1][rows].clone(), "point -> point 1"))


def alternating(n_gates: int) -> Float[Tensor, "{n_gates}"]:
    """An outer layer of Euclidean norm 1: ``1/sqrt(n_gates)`` and ``-1/sqrt(n_gates)`` in turn.

    Example:
        >>> alternating(4).tolist()
        [0.5, -0.5, 0.5, -0.5]
    """
    return (1 - 2 * (torch.arange(n_gates) % 2)).double() / math.sqrt(n_gates)


def _unit(vectors: Float[Tensor, "row width"]) -> Float[Tensor, "row width"]:
    return torch.nn.functional.normalize(vectors, dim=1)


def _agreement(output: Float[Tensor, "batch query 1"], batch: Batch) -> Bool[Tensor, "batch query"]:
    """Whether output and label have one sign."""
    return output[..., 0] * batch.labels.to(output.dtype) > 0
