"""What a model does inside on given inputs: its attention and its hidden states, at one step or through training.

`Observations` runs each checkpoint once on a fixed batch, however many pictures are made of it. For tensors recorded
while training use `plateau_interp.interventions.capturing`, for one number a step the meter, for how well an answer can
be read off a state `plateau_interp.analysis.probing`. How it is drawn is in `plateau_interp.views`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plateau_interp import metrics
from plateau_interp.interventions.hook_points import FINAL_STATE, pattern_name, resolve_indices
from plateau_interp.positions import layer_targets
from plateau_interp.types import Batch, HookedModel, Task, answer_rows, check_model

__all__ = [
    "N_EXAMPLES",
    "Checkpointed",
    "Observation",
    "Observations",
    "captured_at",
    "captured_patterns",
    "fixed_batch",
    "mean_share",
    "shared_map",
]

N_EXAMPLES = 64
"""Sequences of the fixed batch that a mean is taken over."""


@runtime_checkable
class Checkpointed(Protocol):
    """A model through training, as far as it is looked at; `plateau_interp.runs.run.Run` is one."""

    @property
    def task(self) -> Task:
        """What is learnt."""
        ...

    @property
    def checkpoints(self) -> list[int]:
        """Steps whose weights are there, in order."""
        ...

    @property
    def metrics(self) -> pd.DataFrame:
        """At least ``step`` and ``loss``; may be empty."""
        ...

    def model(self, step: int | None = None) -> HookedModel:
        """The model at a step; None for the last."""
        ...


@dataclass(frozen=True, eq=False)
class Observation:
    """What one forward showed.

    Attributes:
        model: as it was run, to ask for its sizes.
        shares: by layer the mean share of attention (see `mean_share`).
        firsts: by layer the pattern of the first sequence, as it is.
        cosines: between the final hidden states of each two answer rows, mean over the sequences.
    """

    model: HookedModel = field(repr=False)
    shares: Mapping[int, Float[Tensor, "head query key"]] = field(repr=False)
    firsts: Mapping[int, Float[Tensor, "head query key"]] = field(repr=False)
    cosines: Float[Tensor, "row row"] | None = field(default=None, repr=False)


class Observations:
    """Checkpoints of a run on the same sequences; each is loaded and run once, when it is first asked for.

    The run's interventions are not applied: shown is what the weights do by themselves. What is kept of a step is the
    mean over the batch and the first sequence, ``2 * n_heads * query * key`` numbers a layer.

    Args:
        run: its checkpoints are read.
        batch: the sequences; by default `fixed_batch` of the run's task.
        layers: whose attention is kept; None for all of them.
        cosines: whether hidden states are compared, too.

    Example:
        >>> from plateau_interp import Run
        >>> seen = Observations(Run("runs/mws"))  # doctest: +SKIP
        >>> seen[100].shares[0].shape  # doctest: +SKIP
        torch.Size([1, 32, 32])
    """

    def __init__(
        self,
        run: Checkpointed,
        *,
        batch: Batch | None = None,
        layers: Sequence[int] | None = None,
        cosines: bool = False,
    ) -> None:
        self.run = run
        self.batch = fixed_batch(run.task) if batch is None else batch
        self._layers, self._cosines = layers, cosines
        self._seen: dict[int, Observation] = {}

    def __getitem__(self, step: int) -> Observation:
        if step not in self._seen:
            self._seen[step] = self._observe(self.run.model(step))
        return self._seen[step]

    def shares(self, layer: int, steps: Iterable[int]) -> Float[np.ndarray, "step head query key"]:
        """The mean shares of attention of a layer at some checkpoints."""
        return torch.stack([self[step].shares[layer] for step in steps]).double().cpu().numpy()

    def targets(self, layer: int, step: int) -> Bool[Tensor, "#batch query key"] | None:
        """What the solution reads in a layer of a checkpoint's model; a leading axis of 1 if all sequences share it."""
        return layer_targets(self.run.task, self.batch, n_layers=self[step].model.cfg.n_layers)[layer]

    def _observe(self, model: HookedModel) -> Observation:
        layers = resolve_indices("layer", self._layers, model.cfg.n_layers)
        shares: dict[int, Tensor] = {}
        firsts: dict[int, Tensor] = {}
        cosines: list[Tensor] = []
        rows = answer_rows(self.run.task)

        def keep_attention(layer: int) -> Callable[..., None]:
            def keep(pattern: Tensor, hook: object) -> None:
                shares[layer] = mean_share(pattern)
                firsts[layer] = pattern[0].clone()  # a view would keep the whole batch in memory

            return keep

        def keep_cosines(states: Tensor, hook: object) -> None:
            cosines.append(metrics.pairwise_cosine(states[:, rows]).mean(dim=0))

        hooks = [(pattern_name(layer), keep_attention(layer)) for layer in layers]
        hooks += [(FINAL_STATE, keep_cosines)] if self._cosines else []
        with torch.no_grad(), model.hooks(fwd_hooks=hooks):
            model(self.batch.inputs)
        return Observation(model, shares, firsts, cosines[0] if cosines else None)


def captured_patterns(
    model: HookedModel, tokens: Int[Tensor, "batch query"], *, layer: int = 0
) -> Float[Tensor, "batch head query key"]:
    """A layer's attention pattern on some inputs, under whatever hooks the model has.

    Raises:
        ValueError: for a layer that the model does not have.

    Example:
        >>> from plateau_interp.models import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> captured_patterns(toy_model(MovingWindowSum(), d_model=16), torch.ones(2, 5, dtype=torch.long)).shape
        torch.Size([2, 1, 5, 5])
    """
    resolve_indices("layer", [layer], model.cfg.n_layers)
    return captured_at(model, tokens, pattern_name(layer))


def captured_at(model: HookedModel, tokens: Int[Tensor, "batch query"], name: str) -> Tensor:
    """What one hook point sees of some inputs, under whatever hooks the model has.

    Example:
        >>> from plateau_interp.models import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> model = toy_model(MovingWindowSum(), d_model=16)
        >>> captured_at(model, torch.ones(2, 5, dtype=torch.long), "blocks.0.hook_resid_post").shape
        torch.Size([2, 5, 16])
    """
    check_model(model)
    seen: list[Tensor] = []

    def keep(act: Tensor, hook: object) -> None:
        seen.append(act.detach())

    with torch.no_grad(), model.hooks(fwd_hooks=[(name, keep)]):
        model(tokens)
    return seen[0]


def mean_share(pattern: Float[Tensor, "batch head query key"]) -> Float[Tensor, "head query key"]:
    """Mean over the sequences of ``|A| / sum over keys |A|``; 0 for a query without attention.

    It compares linear attention, whose rows sum to anything, with softmax attention, and early with late steps. In
    float32 at least.

    Example:
        >>> mean_share(torch.tensor([[[[-1.0, 0.0], [1.0, 3.0]]]])).tolist()
        [[[1.0, 0.0], [0.25, 0.75]]]
    """
    sizes = pattern.abs().to(torch.promote_types(pattern.dtype, torch.float32))
    total = sizes.sum(dim=-1, keepdim=True)
    return (sizes / total.clamp(min=torch.finfo(sizes.dtype).tiny)).mean(dim=0)


def fixed_batch(task: Task) -> Batch:
    """The sequences that a run is looked at on: the same for every checkpoint, and in no training stream.

    Example:
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> len(fixed_batch(MovingWindowSum()))
        64
    """
    return task.sample(N_EXAMPLES, generator=torch.Generator().manual_seed(0))


def shared_map(targets: Bool[Tensor, "#batch query key"] | None) -> Bool[Tensor, "query key"] | None:
    """The target positions, unless they differ between the sequences."""
    return targets[0] if targets is not None and len(targets) == 1 else None
