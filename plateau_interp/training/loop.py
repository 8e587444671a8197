"""Training as a generator: `train` yields a `Step` after each update, and the caller's loop body is the callback.

Randomness is a function of (seed, stream, step): the batch of any step can be drawn again without the ones before it,
which is what makes resuming and forking bit-exact; so can that of a finite task, which is trained on in epochs. For
runs on disk use `plateau_interp.runs.run`.
"""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Parameter

from plateau_interp.checks import seed_number, shown, whole_number
from plateau_interp.freed_memory import keep_freed_memory
from plateau_interp.interventions.attached import Intervention, check_interventions
from plateau_interp.interventions.attaching import InterventionWarning, intervening
from plateau_interp.interventions.clock import PartialMetrics, advance, check_metrics
from plateau_interp.interventions.measuring import attached_measures, numbered
from plateau_interp.interventions.plan import brief
from plateau_interp.interventions.timing import never_acting
from plateau_interp.models.fitting import check_batch_size, check_fits, check_sequences, check_task
from plateau_interp.training.batches import TrainingBatches, stream_generator
from plateau_interp.training.graphs import GradientGraphs, with_gradients
from plateau_interp.training.meter import Meter
from plateau_interp.training.optimizers import LearningRateSchedule, check_takes_no_closure
from plateau_interp.training.precision import Precision, check_precision, multiplying, output_of
from plateau_interp.training.settings import TrainingOptions
from plateau_interp.types import Batch, HookedModel, OptimizerSpec, Task, check_model

__all__ = ["ROW_COLUMNS", "LatestMetrics", "Step", "train"]

ROW_COLUMNS = ("step", "samples", "loss")
"""The columns that every measured step has of its own; nothing that is measured is called so."""
RATE = "learning_rate"
"""The column that a schedule adds to them."""


@dataclass(frozen=True, eq=False)
class Step:
    """What was seen in one training step.

    The record of step t describes the model after t updates on the batch of step t. When it is yielded, update t has
    been made: the model itself is then at step t + 1.

    Reading `loss` or `metrics` waits for the device the first time; making a `Step` does not.
    """

    step: int
    samples: int
    """Training sequences seen so far, this step's included."""
    loss_tensor: Float[Tensor, ""] = field(repr=False)
    metric_tensors: Mapping[str, Float[Tensor, ""]] = field(default_factory=dict, repr=False)
    epoch: int | None = None
    """How often the whole training set of a finite task was seen before; None where every batch is fresh."""

    @cached_property
    def loss(self) -> float:
        """Training loss, in the task's `unit` a scored position."""
        return self.loss_tensor.item()

    @cached_property
    def metrics(self) -> dict[str, float]:
        """What the meter measured at this step; empty without a meter, or between its steps. Yours to change."""
        return dict(self.measured)

    @cached_property
    def measured(self) -> Mapping[str, float]:
        """The same to read alone: what conditions such as `plateau_interp.hooks.When` look at."""
        if not self.metric_tensors:
            return MappingProxyType({})
        values = torch.stack([value.double() for value in self.metric_tensors.values()]).tolist()
        return MappingProxyType(dict(zip(self.metric_tensors, values, strict=True)))


def train(
    model: HookedModel,
    task: Task,
    *,
    steps: int | None = None,
    batch_size: int | None = None,
    optimizer: OptimizerSpec | torch.optim.Optimizer | None = None,
    seed: int = 0,
    interventions: Sequence[Intervention] = (),
    meter: Meter | None = None,
    start: int = 0,
    latest: Mapping[str, float] | None = None,
    grad_clip: float | None = None,
    schedule: LearningRateSchedule | None = None,
    precision: Precision = "float32",
) -> Iterator[Step]:
    """Train on fresh sequences, or a finite task's training set, and yield a record after each update.

    Between two records the caller may do anything: enter or leave `intervening`, save, stop. Measuring draws from a
    random stream of its own and never changes the run.

    What is left open is as the task has it in `Task.defaults`, as in a recipe and on the command line: ``train(model,
    task)`` is the training of ``plateau train TASK``.

    Args:
        model: changed in place; any HookedTransformer over the task's vocabulary.
        task: where the sequences and the loss come from.
        steps: train up to this step: ``steps - start`` records come; by default the task's.
        batch_size: sequences a step, by default the task's. A finite task is gone through in epochs, each in an order
            of its own, and the last batch of an epoch is what is left; from the training set's size on, every batch is
            the whole set.
        optimizer: plain data such as `Adam`, built here; or a live PyTorch optimiser over the model's parameters, to
            go on with its state. By default the task's, which is Adam for most.
        seed: of the batches; the batch of step t depends on the seed and t alone.
        interventions: attached, in this order, while the generator runs; a warning names one whose time never comes.
        meter: what to measure; None measures nothing.
        start: the step to go on from; the model must be the one of that step.
        latest: the numbers of step ``start - 1``, for interventions whose condition reads them.
        grad_clip: largest norm of the gradient of all that the optimiser has; ``math.inf`` for no clipping, None for
            the task's.
        schedule: of the learning rate; None keeps it constant. With one, measured steps have the metric
            ``learning_rate``: that of their update, of the optimiser's first parameter group.
        precision: of the forward and its gradient; the loss and all that is measured are float32 (`Precision`).

    Yields:
        `Step` records of the steps ``start`` to ``steps - 1``.

    Raises:
        ValueError: at the first ``next``, for an argument that cannot be, a meter of another task, a model too small
            for it or with another tokenizer than a task of text, an optimiser with parameters that are none of its own
            or that asks for a closure, sizes that need more memory than there is, a precision that weights or device do
            not have, or sequences that are not as the task says; at a step where every parameter is frozen, or where
            the optimiser itself changes a rate that the schedule scales.

    Example:
        >>> from plateau_interp.models import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> task = MovingWindowSum(n=4)
        >>> [round(step.loss, 1) for step in train(toy_model(task, d_model=32), task, steps=2)]
        [2.9, 2.9]
    """
    check_model(model)
    check_task(task)
    live = optimizer if isinstance(optimizer, torch.optim.Optimizer) else None
    plain = optimizer if isinstance(optimizer, OptimizerSpec) and not isinstance(optimizer, type) else None
    if optimizer is not None and live is None and plain is None:
        raise ValueError(f"optimizer must be plain data such as Adam(), or a PyTorch optimiser; got {shown(optimizer)}")
    _check_meter(meter, task)
    check_interventions(interventions)
    latest = {} if latest is None else latest
    check_metrics("latest", latest)
    seed = seed_number(seed)
    schedule = LearningRateSchedule() if schedule is None else schedule
    weight = next(model.parameters())
    check_precision(precision, weight.dtype, weight.device)
    settings = TrainingOptions(None, batch_size, plain, grad_clip, schedule).resolved(task)
    start = whole_number("start", start)
    # May be 0: a fork's parent is trained up to where it leaves.
    steps = settings.steps if steps is None else whole_number("steps", steps)
    batch_size = settings.batch_size
    if not 0 <= start <= steps:
        raise ValueError(f"start must be between 0 and steps={steps}; got {start}")
    check_fits(model, task)
    check_batch_size(task, batch_size, name="batch_size", model=model)
    if live is None:
        optimizer = settings.optimizer.build(model.named_parameters())
    else:
        _check_of_model(live, model)
        optimizer = live
    check_takes_no_closure(optimizer)
    device = next(model.parameters()).device
    if device.type == "cpu":
        keep_freed_memory()
    reserved = ROW_COLUMNS if schedule.constant else (*ROW_COLUMNS, RATE)
    graphs = GradientGraphs(model, lambda batch: task.loss(output_of(model, batch, precision), batch))
    for intervention in interventions:
        # From step 0, wherever it goes on: its time may have been before.
        if (never := never_acting(intervention, range(steps))) is not None:
            message = f"{brief(never)} never acts: training makes steps 0 to {steps - 1}"
            warnings.warn(message, InterventionWarning, stacklevel=2)
    batches = TrainingBatches(task, seed, batch_size, device)
    with ExitStack() as stack:
        if interventions:
            stack.enter_context(intervening(model, *interventions))
        for step in range(start, steps):
            whole = meter is None or meter.is_due(step - 1)
            advance(model, step=step, metrics=latest if whole else PartialMetrics(latest))
            batch = batches.at(step)
            if step == start:
                check_sequences(task, batch)
            measuring = meter is not None and meter.is_due(step)
            for parameter in model.parameters():  # those, too, that a live optimiser does not have
                parameter.grad = None
            with multiplying(precision, device):
                if meter is not None and measuring:
                    generator = stream_generator(seed, "measuring", step, device)
                    loss, metrics = _measured(model, task, batch, precision, meter, generator, reserved=reserved)
                    loss = with_gradients(loss, step=step)
                else:
                    loss, metrics = graphs.loss(batch, step=step), {}
                if settings.grad_clip < math.inf:
                    torch.nn.utils.clip_grad_norm_(_trained(model, optimizer), settings.grad_clip)
                with schedule.applied(optimizer, step=step):
                    if measuring and not schedule.constant:
                        rate = float(optimizer.param_groups[0]["lr"])
                        metrics = {**metrics, RATE: torch.full((), rate, dtype=torch.float64, device=device)}
                    optimizer.step()
            record = Step(step, batches.samples_before(step + 1), loss, metrics, batches.epoch(step))
            latest = LatestMetrics(record)
            yield record


def _check_of_model(optimizer: torch.optim.Optimizer, model: HookedModel) -> None:
    own = set(map(id, model.parameters()))
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if foreign := sum(id(parameter) not in own for parameter in held):
        raise ValueError(
            f"optimizer has {foreign} parameters, of its {len(held)}, that are none of this model: build it anew over "
            "model.parameters(); a model that was made or copied again has others"
        )


def _check_meter(meter: Any, task: Task) -> None:
    if meter is None:
        return
    if not isinstance(meter, Meter):
        raise ValueError(f"meter must be a Meter(task); got {shown(meter)}")
    if meter.task != task:
        raise ValueError(f"the meter is for another task: {meter.task}, but the training task is {task}")
    check_batch_size(task, meter.n_sequences, name="n_sequences")


def _measured(
    model: HookedModel,
    task: Task,
    batch: Batch,
    precision: Precision,
    meter: Meter,
    generator: torch.Generator,
    *,
    reserved: Sequence[str],
) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
    """The loss of a batch, what a meter measures of the same forward, and what interventions measure of the model."""
    with meter.watching(model):
        loss = task.loss(output_of(model, batch, precision), batch)
    # A task's own measures may have any name.
    measured = numbered(meter.measure(model, batch, generator=generator), taken=reserved)
    return loss, {**measured, **attached_measures(model, taken=[*reserved, *measured])}


def _trained(model: HookedModel, optimizer: torch.optim.Optimizer) -> list[Parameter]:
    """The parameters that the optimiser has, in the model's order."""
    owned = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    return [parameter for parameter in model.parameters() if id(parameter) in owned]


class LatestMetrics(Mapping[str, float]):
    """The numbers of a record under their names, read from the device when somebody asks."""

    def __init__(self, record: Step) -> None:
        self._record = record

    def __getitem__(self, name: str) -> float:
        return self._record.loss if name == "loss" else self._record.measured[name]

    def __iter__(self) -> Iterator[str]:
        return iter(("loss", *self._record.metric_tensors))

    def __len__(self) -> int:
        return 1 + len(self._record.metric_tensors)
