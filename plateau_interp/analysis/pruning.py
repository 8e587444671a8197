"""How much of a circuit is needed, and how far it may be trusted.

A circuit is pruned by cutting all edges but the largest; what is left is faithful if it keeps the metric, and complete
if without it nothing of the metric is left (Wang et al. 2022, arXiv 2211.00593; Hanna et al. 2024, arXiv 2403.17806).
Scores depend on what cut edges carry and on the metric (Miller et al. 2024, arXiv 2407.08734): `robustness` shows how.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from plateau_interp.analysis.circuits import Circuit, Scoring, check_comparison, circuit
from plateau_interp.analysis.edges import CutModel, EdgeAblation, Metric, cutting
from plateau_interp.checks import listed, seed_number, whole_number, whole_numbers
from plateau_interp.types import HookedModel

__all__ = ["agreement", "pruned", "robustness", "smallest_faithful"]

MOST_SIZES = 64
"""So many sizes of circuits are tried unless they are given; of larger models they lie on a geometric grid."""


def pruned(
    model: HookedModel,
    found: Circuit,
    *,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "batch pos"] | None = None,
    metric: Metric,
    sizes: Sequence[int] | int | None = None,
    n_random: int = 8,
    seed: int = 0,
    attention_mask: Shaped[Tensor, "batch pos"] | None = None,
) -> pd.DataFrame:
    """The metric of circuits of several sizes, of what is left without them, and of random ones.

    Args:
        model: the circuit's, under the same interventions.
        found: scores of its edges; ablation and norms are the circuit's.
        clean: tokens, of the length that the circuit was measured at.
        corrupted: for a circuit whose cut edges carry the corrupted input's values.
        metric: of logits.
        sizes: numbers of edges to keep, the largest scores first; by default all, of a large circuit 64.
        n_random: circuits of each size drawn at random.
        seed: of those.
        attention_mask: 1 for tokens, 0 for padding.

    Returns:
        A row a size: ``edges``, ``metric`` (these edges alone), ``faithfulness``, its share of the whole model's metric
        (0 with every edge cut, 1 for the model), ``completeness``, the share that is gone without these edges, and
        ``random`` and ``random_max``, mean and largest faithfulness of random circuits.

    Raises:
        ValueError: for what does not fit together, for roles that share positions, and if cutting every edge does not
            change the metric.

    Example:
        >>> from plateau_interp import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> task = MovingWindowSum(n=4)
        >>> model = toy_model(task, d_model=16)
        >>> clean, corrupted = (task.sample(4, generator=torch.Generator().manual_seed(s)).inputs for s in (0, 1))
        >>> asked = {"clean": clean, "corrupted": corrupted, "metric": lambda logits: logits[:, -1, 0].mean()}
        >>> curve = pruned(model, circuit(model, **asked), **asked)
        >>> curve.faithfulness.iloc[-1].round(6), len(curve)
        (np.float64(1.0), 14)
    """
    chosen = _sizes(found.n_edges, sizes)
    whole_number("n_random", n_random, least=0)
    generator = torch.Generator().manual_seed(seed_number(seed))
    with _as_measured(model, found, clean, corrupted, metric, attention_mask) as cut:
        # Not `cut.ablated`: roles need not hold all positions, and the others are not cut.
        (bottom,) = _metrics(cut, found, [torch.zeros_like(found.exists)])
        if cut.clean == bottom:
            raise ValueError(f"the metric is {cut.clean} with every edge cut, too: there is nothing to keep")

        def shares(kept: Sequence[Tensor]) -> np.ndarray:
            return (np.array(_metrics(cut, found, kept)) - bottom) / (cut.clean - bottom)

        circuits = [found.largest(size) for size in chosen]
        faithful = shares(circuits)
        without = shares([found.exists & ~kept for kept in circuits])
        drawn = shares([_drawn(found, size, generator) for size in chosen for _ in range(n_random)])
    drawn = drawn.reshape(len(chosen), n_random) if n_random else np.full((len(chosen), 1), np.nan)
    return pd.DataFrame(
        {
            "edges": chosen,
            "metric": bottom + faithful * (cut.clean - bottom),
            "faithfulness": faithful,
            "completeness": 1 - without,
            "random": drawn.mean(axis=1),
            "random_max": drawn.max(axis=1),
        }
    )


def smallest_faithful(curve: pd.DataFrame, share: float = 0.9) -> int | None:
    """The smallest tried number of edges from which on a circuit keeps at least a share of the metric; None if none.

    A smaller circuit that is faithful by chance, and loses it again when edges are added, does not count.

    Example:
        >>> smallest_faithful(pd.DataFrame({"edges": [0, 1, 2, 3], "faithfulness": [0, 0.95, 0.4, 1.0]}))
        3
    """
    below = curve.edges[curve.faithfulness < share]
    above = curve.edges[curve.edges > (below.max() if len(below) else -1)]
    return int(above.min()) if len(above) else None


def agreement(one: Circuit, other: Circuit, *, n: int | None = None) -> dict[str, float]:
    """How alike two circuits of one graph are.

    Args:
        one: of a model.
        other: of the same or another model with the same parts and roles.
        n: how many of the largest edges to compare; by default a tenth, at least one.

    Returns:
        ``overlap``, the share of the n largest edges of one that are among those of the other, and ``rank``, Spearman's
        correlation of the sizes of all scores.

    Raises:
        ValueError: if they have different edges.
    """
    parts = [(found.writers, found.readers, found.roles) for found in (one, other)]
    if parts[0] != parts[1] or not torch.equal(one.exists, other.exists):
        raise ValueError("the circuits have different edges: they are of models of two shapes, or of different roles")
    n = max(1, one.n_edges // 10) if n is None else whole_number("n", n, least=1)
    common = int((one.largest(n) & other.largest(n)).sum())
    sizes = [pd.Series(found.scores[found.exists].abs().tolist()).rank() for found in (one, other)]
    constant = any(ranks.nunique() < 2 for ranks in sizes)
    return {"overlap": common / n, "rank": float("nan") if constant else float(sizes[0].corr(sizes[1]))}


def robustness(
    model: HookedModel,
    *,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "batch pos"],
    metrics: Mapping[str, Metric],
    ablations: Sequence[EdgeAblation] = ("resample", "mean", "zero"),
    scorings: Sequence[Scoring] = ("attributed",),
    freeze_norms: Sequence[bool] = (False, True),
    n: int | None = None,
    attention_mask: Shaped[Tensor, "batch pos"] | None = None,
) -> pd.DataFrame:
    """How a circuit changes with the metric, with what cut edges carry and with how it is scored.

    Args:
        model: any that `plateau_interp.analysis.circuits.circuit` takes.
        clean: tokens.
        corrupted: tokens of the same shape.
        metrics: of logits, by name.
        ablations: see `circuit`.
        scorings: see `circuit`.
        freeze_norms: see `circuit`.
        n: how many of the largest edges to compare; by default a tenth.
        attention_mask: 1 for tokens, 0 for padding.

    Returns:
        A row a choice: what was chosen, the metric ``clean`` and ``ablated``, and ``overlap`` and ``rank`` (see
        `agreement`) with the first row.
    """
    rows: list[dict[str, Any]] = []
    first: Circuit | None = None
    for (name, metric), ablation, scoring, frozen in product(metrics.items(), ablations, scorings, freeze_norms):
        found = circuit(
            model,
            clean=clean,
            corrupted=corrupted,
            metric=metric,
            scoring=scoring,
            ablation=ablation,
            freeze_norms=frozen,
            attention_mask=attention_mask,
        )
        first = found if first is None else first
        choice = {"metric": name, "ablation": ablation, "scoring": scoring, "norms": found.norms}
        rows.append({**choice, "clean": found.clean, "ablated": found.ablated, **agreement(first, found, n=n)})
    return pd.DataFrame(rows)


@contextmanager
def _as_measured(
    model: HookedModel,
    found: Circuit,
    clean: Tensor,
    corrupted: Tensor | None,
    metric: Metric,
    attention_mask: Tensor | None,
) -> Iterator[CutModel]:
    """The model ready to be cut as the circuit was measured."""
    check_comparison(model, clean=clean, corrupted=corrupted, metric=metric, attention_mask=attention_mask)
    if clean.shape[1] != found.positions.shape[1]:
        raise ValueError(f"the circuit is of {found.positions.shape[1]} positions; clean has {clean.shape[1]}")
    shared = found.positions.sum(dim=0) > 1
    if shared.any():  # `circuit` scores each by itself; here an edge is cut at a position, or is not
        names = [role for role, row in zip(found.roles, found.positions & shared, strict=True) if row.any()]
        raise ValueError(
            f"roles that share positions cannot be pruned, as one would cut what another keeps: {listed(names)}"
        )
    with cutting(
        model,
        clean=clean,
        corrupted=corrupted,
        metric=metric,
        ablation=found.ablation,
        freeze_norms=found.norms == "frozen",
        attention_mask=attention_mask,
    ) as cut:
        if (cut.graph.writers, cut.graph.readers) != (found.writers, found.readers):
            raise ValueError("the circuit is of a model with other parts")
        yield cut


def _metrics(cut: CutModel, found: Circuit, kept: Sequence[Bool[Tensor, "writer reader role"]]) -> list[float]:
    """The metric of circuits: every other edge is cut."""
    values: list[float] = []
    for start in range(0, len(kept), cut.most_copies):
        gone = torch.stack([found.exists & ~edges for edges in kept[start : start + cut.most_copies]])
        cuts = torch.einsum("cwrg,gp->cwrp", gone.float(), found.positions.float()) > 0
        values += cut.metrics_when_cut(cuts).tolist()
    return values


def _drawn(found: Circuit, size: int, generator: torch.Generator) -> Bool[Tensor, "writer reader role"]:
    places = found.exists.nonzero()
    some = places[torch.randperm(len(places), generator=generator)[:size]]
    chosen = torch.zeros_like(found.exists)
    chosen[some.unbind(dim=1)] = True
    return chosen


def _sizes(n_edges: int, sizes: Any) -> list[int]:
    if sizes is None:
        if n_edges < MOST_SIZES:
            return list(range(n_edges + 1))
        return sorted({0, *map(int, np.geomspace(1, n_edges, MOST_SIZES - 1).round())})
    chosen = whole_numbers("sizes", sizes)
    for size in chosen:
        if not 0 <= size <= n_edges:
            raise ValueError(f"sizes must be from 0 to {n_edges}, the number of edges; got {size}")
    return chosen
