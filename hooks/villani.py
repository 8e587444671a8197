"""An intervention that changes nothing and measures the Villani diagnostic through training: `VillaniDiagnostic`."""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from plateau_interp.analysis.villani import check_twice_differentiable, probes_for, villani_diagnostic
from plateau_interp.checks import check_not_negative, check_positive, check_whole, shown
from plateau_interp.interventions.attached import Attached
from plateau_interp.interventions.measuring import Gauge
from plateau_interp.interventions.session import session
from plateau_interp.training.batches import stream_generator
from plateau_interp.types import Batch, BuiltForTask, HookedModel, Task, is_finite

__all__ = ["VillaniDiagnostic"]

BACKWARDS = 3
"""As many backward passes as a product with the Hessian takes, about."""


@dataclass(frozen=True, eq=False)
class VillaniDiagnostic:
    """Measure ``Psi = |grad F|²/s - Lap F`` of the loss F with a penalty, along the ray through the weights.

    Columns: ``psi`` and its parts ``psi_gradient``, ``|grad F|²/s``, and ``psi_laplacian``; ``psi@2`` at twice the
    weights, and so on; where the trace is estimated ``psi_error`` and ``psi_error@2``, the standard error, without
    which the number says nothing. The sequences of F are the same at every step: the training set of a finite task that
    is no larger than ``n_sequences``, else as many drawn sequences. At its first measurement it tells the log what one
    costs. The formula, and what is proved of it and what not: `plateau_interp.analysis.villani`.

    Edits of activations that act are part of F. Edits of gradients, of parameters and at hook points, are not, and do
    not act on what is measured; so of penalties F has but its own.

    Args:
        step_size: s, the learning rate of the SGD that is asked about; it is not read from the optimiser.
        penalty: lambda of F's ``lambda/2 |theta|²`` over all trained parameters. F is the loss that is trained if the
            run's `FrobeniusPenalty` has this coefficient, and ``where="*"`` but for a depth-2 net.
        probes: random vectors for the trace; None for an exact one below 5,000 trained parameters, else 64.
        radii: of the ray; 1 is where the weights are.
        every: measure at measured steps that are divisible by this.
        n_sequences: at most as many are F's.
        seed: of the drawn sequences and the probes.

    Raises:
        ValueError: for a number that cannot be; on entry, for a model without a task, and an activation without two
            derivatives, such as relu.

    Source: as `plateau_interp.analysis.villani.villani_diagnostic`.

    Example:
        >>> from plateau_interp import intervening, toy_model
        >>> from plateau_interp.interventions.measuring import attached_measures
        >>> from plateau_interp.tasks import DepthTwoNet
        >>> model = toy_model(DepthTwoNet(d=3, n=20), d_mlp=4, dtype=torch.float64)
        >>> with intervening(model, VillaniDiagnostic(penalty=0.01, radii=(1.0, 8.0))):
        ...     list(attached_measures(model))
        ['psi', 'psi_gradient', 'psi_laplacian', 'psi@8']
    """

    step_size: float = 0.1
    penalty: float = 0.0
    probes: int | None = None
    radii: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
    every: int = 1
    n_sequences: int = 256
    seed: int = 0

    name: ClassVar[str] = "villani-diagnostic"

    def __post_init__(self) -> None:
        check_positive(self, "step_size")
        check_not_negative(self, "penalty")
        check_whole(self, "every", "n_sequences", least=1)
        check_whole(self, "seed")
        if self.probes is not None:
            check_whole(self, "probes", least=2)
        several = isinstance(self.radii, tuple | list) and len(self.radii) > 0
        numbers = several and all(isinstance(r, int | float) and not isinstance(r, bool) for r in self.radii)
        if not numbers or not all(0 < r < math.inf for r in self.radii):
            raise ValueError(f"radii must be numbers above 0, such as (1.0, 2.0); got {shown(self.radii)}")
        object.__setattr__(self, "radii", tuple(map(float, self.radii)))

    @contextmanager
    def attach(self, model: HookedModel) -> Iterator[Attached]:
        """Measure while the context is open, whenever somebody asks."""
        check_twice_differentiable(model)
        if not isinstance(model, BuiltForTask) or model.task is None:
            raise ValueError("whose loss? the model has no task: set model.task")
        task = model.task
        device = next(model.parameters()).device
        batch = self._batch(task, device)
        untold = [True]  # what a measurement costs
        yield Gauge(self, [], measure=lambda: self._measured(model, task, batch, untold))

    def _batch(self, task: Task, device: torch.device) -> Batch:
        if is_finite(task) and len(task.train_set) <= self.n_sequences:
            return task.train_set.to(device)
        return task.sample(self.n_sequences, generator=stream_generator(self.seed, "sequences of psi", 0)).to(device)

    def _measured(self, model: HookedModel, task: Task, batch: Batch, untold: list[bool]) -> dict[str, Tensor]:
        step = session(model).step
        if step % self.every:
            return {}
        if untold and untold.pop():
            self._tell_cost(model)
        # Of each step its own: errors of neighbouring steps are then independent, as those of a curve should be.
        seed = int(torch.randint(2**62, (), generator=stream_generator(self.seed, "probes of psi", step)))
        readings = villani_diagnostic(
            model,
            task,
            batch,
            step_size=self.step_size,
            penalty=self.penalty,
            radii=self.radii,
            probes=self.probes,
            seed=seed,
        )
        found: dict[str, float] = {}
        for reading in readings:
            at = "" if reading.radius == 1 else f"@{reading.radius:g}"
            found[f"psi{at}"] = reading.psi
            if reading.n_probes:
                found[f"psi_error{at}"] = reading.error
            if not at:
                found |= {
                    "psi_gradient": reading.gradient_square / reading.step_size,
                    "psi_laplacian": reading.laplacian,
                }
        device = batch.tokens.device
        return {name: torch.full((), value, dtype=torch.float64, device=device) for name, value in found.items()}

    def _tell_cost(self, model: HookedModel) -> None:
        n_parameters = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        probes = probes_for(n_parameters, self.probes)
        how = f"exact over {n_parameters:,} parameters" if probes is None else f"by {probes} probes"
        n_backwards = len(self.radii) * BACKWARDS * (probes or n_parameters)
        told = logging.getLogger(__name__)
        told.info("psi, its trace %s: the arithmetic of about %s backward passes each time", how, f"{n_backwards:,}")
