"""The depth-2 net: a HookedTransformer that is ``a^T sigma(W x)``, with its inner layer W alone trained.

As we understand them, the net that theorems on the global convergence of SGD are about, in the form that the suite's
interventions, measures and views work on. It is built of what a HookedTransformer has: a point is a token, its
coordinates the token's frozen embedding; attention gives 0; the MLP reads the first coordinates of the residual stream
and writes to the last, which alone is read out. For Transformers see `plateau_interp.models.decoder`.
"""

from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens import HookedTransformerConfig

from plateau_interp.activations import SMOOTH_ACTIVATIONS, SmoothActivation
from plateau_interp.checks import shown
from plateau_interp.models.base import ToyTransformer
from plateau_interp.models.mlp import mlp_config
from plateau_interp.models.settings import ModelSettings
from plateau_interp.types import Task

__all__ = ["OfPoints", "ToyDepthTwo", "depth_two_net"]

INNER_LAYER = "blocks.0.mlp.W_in"
"""W^T, and below it rows for axes in which points are 0: they are 0, get no gradient and so stay 0."""


@runtime_checkable
class OfPoints(Protocol):
    """A task whose tokens stand for points of a space: what it says beside being a task."""

    @property
    def activation(self) -> SmoothActivation:
        """Of the net's gates."""
        ...

    @property
    def points(self) -> Float[Tensor, "d_vocab width"]:
        """The point of each token, in float64."""
        ...

    def outer_layer(self, n_gates: int) -> Float[Tensor, "{n_gates}"]:
        """What each gate is multiplied by: fixed, in float64."""
        ...


class ToyDepthTwo(ToyTransformer):
    """``f(x) = a^T sigma(W x)`` for the points x of a task; a is fixed and W is trained. It has no biases.

    ``cfg.act_fn`` is the name of the activation, which may be one that TransformerLens does not know.
    """

    attends: ClassVar[bool] = False

    def __init__(self, cfg: HookedTransformerConfig, *, task: Task, points: OfPoints) -> None:
        """Use `plateau_interp.models.toy_model`; this leaves the weight matrices uninitialised.

        Args:
            cfg: its sizes.
            task: what it is for.
            points: the same task, as far as it says what the points are.
        """
        super().__init__(cfg, task=task, attention="softmax")
        self._points = points
        # TransformerLens refuses names that it does not know where a configuration is made.
        self.cfg.act_fn = points.activation
        self.blocks[0].mlp.act_fn = SMOOTH_ACTIVATIONS[points.activation]
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name == INNER_LAYER)

    def draw_(self, name: str, parameter: Tensor, *, std: float, generator: torch.Generator) -> None:
        """Entries of W are N(0, std²); points and outer layer are the task's, all else is 0."""
        parameter.zero_()
        n_gates, width = self.cfg.d_mlp, self._points.points.shape[1]
        assert n_gates is not None  # it has an MLP
        match name:
            case "blocks.0.mlp.W_in":
                parameter[:width] = torch.randn(width, n_gates, generator=generator, dtype=torch.float32) * std
            case "blocks.0.mlp.W_out":
                parameter[:, -1] = self._points.outer_layer(n_gates)
            case "embed.W_E":
                parameter[:, :width] = self._points.points
            case "unembed.W_U":
                parameter[-1] = 1.0

    @torch.no_grad()
    def clear_untrained_(self) -> None:
        """Set the rows of W that no point reaches to 0, whoever drew them."""
        self.blocks[0].mlp.W_in[self._points.points.shape[1] :] = 0.0


def depth_two_net(
    task: Task, settings: ModelSettings, *, n_ctx: int, dtype: torch.dtype, device: str | torch.device
) -> ToyDepthTwo:
    """A depth-2 net for a task of points, its weights not drawn yet; use `plateau_interp.models.toy_model`.

    Raises:
        ValueError: if the task has no points, reads more than one, wants more than one number of them, or has points of
            more coordinates than the model holds.
    """
    if not isinstance(task, OfPoints):
        raise ValueError(
            f"a depth-2 net reads points: {shown(task, most=60)} must say its points, activation and outer_layer, as "
            "DepthTwoNet does"
        )
    if (task.n_pos, task.d_output, task.lookahead) != (1, 1, 0):
        sizes = f"n_pos={task.n_pos}, d_output={task.d_output}, lookahead={task.lookahead}"
        raise ValueError(
            f"a depth-2 net gives one number for one point (n_pos=1, d_output=1, lookahead=0); got {sizes}"
        )
    n_points, width = task.points.shape
    if n_points != task.d_vocab:
        raise ValueError(f"there must be a point for each token, d_vocab={task.d_vocab}; got {n_points}")
    if width >= settings.d_model:
        raise ValueError(
            f"d_model must be at least {width + 1}, an axis for each coordinate of a point and one to read out; got "
            f"{settings.d_model}"
        )
    if task.activation not in SMOOTH_ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(SMOOTH_ACTIVATIONS)}; got {shown(task.activation)}")
    cfg = mlp_config(task, settings, n_ctx=n_ctx, dtype=dtype, device=device, act_fn="gelu")
    return ToyDepthTwo(cfg, task=task, points=task)
