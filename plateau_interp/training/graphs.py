"""Training steps of a CUDA device as one graph: a toy model's kernels are shorter than the calls that start them.

A graph repeats kernels and asks no Python: what somebody hooks on a model would not be called, or be called with what
it was at the time of recording. So a step is repeated from a graph only while nothing is hooked on the model, its
weights lie where they lay, and its modules, their attributes and its configuration are what they were. The batch is
drawn, the gradient clipped and the optimiser's update made as always: a graph holds forward and backward alone.

What is not noticed: a task's loss that reads anything but its arguments and the task's fields, a list or a dictionary
in the configuration that is changed in place, hooks on gradient accumulators and on saved tensors.
"""

import logging
import operator
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Parameter
from transformer_lens.hook_points import HookPoint

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
        bool(anything._C._len_torch_dispatch_stack() or anything._C._len_torch_function_stack())
        or torch.is_anomaly_enabled()
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
            parameter.grad = gradient.clone()  # somebody may keep it, or give it other data
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
        self._basis = _Basis([], [])

    def loss(self, batch: Batch, *, step: int) -> Float[Tensor, ""]:
        """The loss of a batch, whose gradients are then the parameters' ``grad``, which must be None before.

        Raises:
            ValueError: if no parameter requires a gradient, naming the step.
        """
        if self._may_record and type(batch) is Batch and not runs_python(self._model):
            known = self._known(batch, step)
            if known is not None:
                return known.on(batch)
        return with_gradients(self._loss_of(batch), step=step)

    def _known(self, batch: Batch, step: int) -> Recorded | None:
        """The graph for a batch, if there is one by now."""
        basis = _what_it_rests_on(self._model)
        if not basis.is_that_of(self._basis):
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
                for parameter in self._model.parameters():
                    parameter.grad = None  # what is there lies in the graph, and was never computed
                _log.info("steps are not recorded as a CUDA graph: %s", str(error).partition("\n")[0])
                return None
        return self._graphs[shape]


@dataclass(frozen=True, eq=False)
class _Basis:
    """What a graph would not notice if it changed; what is held is compared by identity, and is kept for that."""

    held: list[object]
    numbers: list[object]

    def is_that_of(self, other: "_Basis") -> bool:
        same = len(self.held) == len(other.held) and all(map(operator.is_, self.held, other.held))
        return same and self.numbers == other.numbers


def _what_it_rests_on(model: HookedModel) -> _Basis:
    """Modules, their forwards and all their attributes; where tensors lie, which are trained; torch's modes."""
    held: list[object] = [*vars(model.cfg).values()]
    tensors: list[Tensor] = []
    for module in model.modules():
        held += (module, type(module).forward)
        if isinstance(module, HookPoint):
            continue  # gives what it gets, and is cleared whenever a hook goes; hooks are looked for elsewhere
        held += vars(module).values()
        tensors += (one for one in (*module._parameters.values(), *module._buffers.values()) if one is not None)
    held += tensors
    lie = [(one.data_ptr(), one.stride(), one.requires_grad) for one in tensors]
    modes = (
        torch.is_grad_enabled(),
        torch.is_autocast_enabled("cuda"),
        torch.get_autocast_dtype("cuda"),
        torch.are_deterministic_algorithms_enabled(),
    )
    return _Basis(held, [*lie, *modes])


def record_gradients(
    model: HookedModel, loss_of: Callable[[Batch], Float[Tensor, ""]], batch: Batch, *, step: int
) -> Recorded:
    """A loss and its gradients recorded on a CUDA device; nothing is computed yet.

    Raises:
        RuntimeError: from torch, for what cannot be recorded: a number asked of the device, memory that is not there.
    """
    # Copies, also of what is a view of somebody's larger tensor: a graph reads where these lie.
    fed = Batch(batch.tokens.clone(), batch.labels.clone())
    device = batch.tokens.device
    graph = torch.cuda.CUDAGraph()
    # torch records on the current device, whichever that is, and stays on its own stream where recording fails.
    own: Any = torch.cuda.Stream
    with (
        torch.cuda.device(device),
        torch.cuda.stream(torch.cuda.current_stream(device)),
        torch.cuda.graph(graph, stream=own(device), capture_error_mode="thread_local"),
    ):
        loss = with_gradients(loss_of(fed), step=step)
    made = tuple((parameter, parameter.grad) for parameter in model.parameters() if parameter.grad is not None)
    return Recorded(fed, loss, made, graph.replay)
