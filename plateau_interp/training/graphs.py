"""Training steps of a CUDA device as one graph: a toy model's kernels are shorter than the calls that start them.

A graph repeats kernels and asks no Python: what somebody hooks on a model would not be called, or be called with what
it was at the time of recording. So a step is repeated from a graph only while nothing is hooked on the model, its
weights lie where they lay, and its configuration is what it was. The batch is drawn, the gradient clipped and the
optimiser's update made as always: a graph holds forward and backward alone.
"""

import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Parameter

from plateau_interp.types import Batch, HookedModel

__all__ = ["GradientGraphs", "Recorded", "record_gradients", "runs_python", "with_gradients"]

SHAPES = 2
"""Graphs kept at a time: a finite task's epochs have whole batches and one that is left."""

_log = logging.getLogger(__name__)


def with_gradients(loss: Float[Tensor, ""], *, step: int) -> Float[Tensor, ""]:
    """A loss whose gradients are made: added to the parameters' ``grad``; it comes back without what it came from.

    Raises:
        ValueError: if no parameter behind it requires a gradient, naming the step.
    """
    if not loss.requires_grad:
        raise ValueError(f"nothing is trained at step {step}: no parameter behind the loss requires a gradient")
    torch.autograd.backward(loss)
    return loss.detach()


def runs_python(model: HookedModel) -> bool:
    """Whether a forward or backward of the model would call something that somebody attached to it.

    A hook on a module or a parameter, a forward put in the place of a module's own, a mode such as torch's counter of
    operations.

    Example:
        >>> from plateau_interp.hooks import FixAttention
        >>> from plateau_interp.interventions.attaching import intervening, quietly
        >>> from plateau_interp.models import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> model = toy_model(MovingWindowSum(), d_model=32)
        >>> with quietly(), intervening(model, FixAttention()):
        ...     inside = runs_python(model)
        >>> runs_python(model), inside
        (False, True)
    """
    anything: Any = torch
    return (
        bool(anything._C._len_torch_dispatch_stack())
        or bool(anything.nn.modules.module._has_any_global_hook())
        or any(
            module._forward_hooks
            or module._forward_pre_hooks
            or module._backward_hooks
            or module._backward_pre_hooks
            or "forward" in vars(module)
            for module in model.modules()
        )
        or any(
            parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None)
            for parameter in model.parameters()
        )
    )


@dataclass(frozen=True, eq=False)
class Recorded:
    """A loss and its gradients as a graph: where it reads its batch, and where it leaves what it makes."""

    batch: Batch
    loss: Float[Tensor, ""]
    gradients: tuple[tuple[Parameter, Tensor], ...]
    repeat: Callable[[], None]

    def on(self, batch: Batch) -> Float[Tensor, ""]:
        """The loss of a batch; its gradients are the parameters' ``grad``."""
        self.batch.tokens.copy_(batch.tokens)
        self.batch.labels.copy_(batch.labels)
        self.repeat()
        for parameter, gradient in self.gradients:
            parameter.grad = gradient
        return self.loss.clone()  # the next step writes over this one


class GradientGraphs:
    """Graphs of a model's loss and gradients, recorded when they can be and thrown away when they no longer hold.

    The first step of a shape is made as always, and the second is recorded: libraries get ready in the first.

    Args:
        model: whose gradients they are. They lie where its weights lie; without a CUDA device nothing is recorded.
        loss_of: the loss of a batch, of the model as it is.
    """

    def __init__(self, model: HookedModel, loss_of: Callable[[Batch], Float[Tensor, ""]]) -> None:
        self._model = model
        self._loss_of = loss_of
        self._may_record = next(model.parameters()).device.type == "cuda"
        self._graphs: dict[Hashable, Recorded | None] = {}
        self._basis: object = None

    def loss(self, batch: Batch, *, step: int) -> Float[Tensor, ""]:
        """The loss of a batch, whose gradients are then the parameters' ``grad``, which must be None before.

        Raises:
            ValueError: if no parameter requires a gradient, naming the step.
        """
        if self._may_record and not runs_python(self._model):
            known = self._known(batch, step)
            if known is not None:
                return known.on(batch)
        return with_gradients(self._loss_of(batch), step=step)

    def _known(self, batch: Batch, step: int) -> Recorded | None:
        """The graph for a batch, if there is one by now."""
        basis = self._what_it_rests_on()
        if basis != self._basis:
            self._graphs.clear()
            self._basis = basis
        shape = (batch.tokens.shape, batch.tokens.dtype, batch.labels.shape, batch.labels.dtype)
        if shape not in self._graphs:
            if len(self._graphs) < SHAPES:
                self._graphs[shape] = None
            return None
        if self._graphs[shape] is None:
            try:
                self._graphs[shape] = record_gradients(self._model, self._loss_of, batch, step=step)
            except RuntimeError as error:
                # A task that asks for a number within a step, or too little memory for both kinds of step.
                self._may_record = False
                self._graphs.clear()
                _log.info("steps are not recorded as a CUDA graph: %s", str(error).partition("\n")[0])
                return None
        return self._graphs[shape]

    def _what_it_rests_on(self) -> object:
        """What a graph would not notice if it changed: where weights lie, which are trained, how it is configured."""
        model: Any = self._model
        weights = [(parameter.data_ptr(), parameter.requires_grad) for parameter in model.parameters()]
        buffers = [buffer.data_ptr() for buffer in model.buffers()]
        return weights, buffers, model.training, dict(vars(model.cfg))


def record_gradients(
    model: HookedModel, loss_of: Callable[[Batch], Float[Tensor, ""]], batch: Batch, *, step: int
) -> Recorded:
    """A loss and its gradients recorded on a CUDA device; nothing is computed yet.

    Raises:
        RuntimeError: from torch, for what cannot be recorded: a number asked of the device, memory that is not there.
    """
    # Copies, also of what is a view of somebody's larger tensor: a graph reads where these lie.
    fed = Batch(batch.tokens.clone(), batch.labels.clone())
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        loss = with_gradients(loss_of(fed), step=step)
    made = tuple((parameter, parameter.grad) for parameter in model.parameters() if parameter.grad is not None)
    return Recorded(fed, loss, made, graph.replay)
