"""Circuits: which edges between the parts of a model carry an answer, with a score each.

An edge's score is what the metric changes by when that edge alone is cut, exactly or by a linear approximation. What
edges are, and what cutting is, stands in `plateau_interp.analysis.edges`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import pandas as pd
import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from plateau_interp.analysis.edges import CutModel, EdgeAblation, Metric, cutting, one_number
from plateau_interp.checks import check_takes, one_of, shown, whole_number, whole_numbers
from plateau_interp.models.fitting import check_attention_mask, check_tokens
from plateau_interp.types import IGNORE, Batch, HookedModel, Task, answer_rows, check_model

__all__ = [
    "Circuit",
    "Roles",
    "Scoring",
    "answer_difference",
    "check_comparison",
    "circuit",
    "label_difference",
    "task_roles",
]

Scoring = Literal["attributed", "exact", "integrated"]
Roles = Mapping[str, Iterable[int] | slice | int] | Literal["positions"]
"""Groups of positions, or single ones, by name; every position by itself."""

ALL_POSITIONS = "all"


@dataclass(frozen=True, eq=False)
class Circuit:
    """The edges of a model and what each carries of a metric.

    Attributes:
        writers: what writes to the residual stream.
        readers: what reads from it.
        roles: groups of positions that have scores of their own; one group, ``all``, unless asked for.
        scores: the change of the metric when an edge is cut at the positions of a role; NaN where there is no edge.
        scoring: how the scores were found.
        ablation: what cut edges carry.
        norms: whether norms divide by what they divided by on the clean input, "frozen", or by what comes, "live".
        clean: the metric of the whole model.
        ablated: the metric with every edge of the model cut, also at positions that no role holds.
        n_sequences: how many sequences they were measured on.
        positions: which positions each role has.
    """

    writers: tuple[str, ...]
    readers: tuple[str, ...]
    roles: tuple[str, ...]
    scores: Float[Tensor, "writer reader role"]
    scoring: Scoring
    ablation: EdgeAblation
    norms: Literal["frozen", "live"]
    clean: float
    ablated: float
    n_sequences: int
    positions: Bool[Tensor, "role pos"]

    def __repr__(self) -> str:
        norms = f"norms {self.norms}"
        return (
            f"Circuit of {self.n_edges} edges ({self.scoring}, {self.ablation}, {norms}, {self.n_sequences} sequences)"
        )

    @property
    def exists(self) -> Bool[Tensor, "writer reader role"]:
        """Where there is an edge."""
        return ~self.scores.isnan()

    @property
    def n_edges(self) -> int:
        """How many edges there are, each role counted."""
        return int(self.exists.sum())

    def table(self) -> pd.DataFrame:
        """A row an edge, ``writer``, ``reader``, ``role``, ``score``, the largest change first."""
        places = self.exists.nonzero().tolist()
        rows = pd.DataFrame(
            {
                "writer": [self.writers[writer] for writer, _, _ in places],
                "reader": [self.readers[reader] for _, reader, _ in places],
                "role": [self.roles[role] for _, _, role in places],
                "score": self.scores[self.exists].tolist(),
            }
        )
        return rows.sort_values("score", key=lambda score: -score.abs(), kind="stable", ignore_index=True)

    def largest(self, n: int) -> Bool[Tensor, "writer reader role"]:
        """The ``n`` edges whose scores are largest, whatever their sign.

        Raises:
            ValueError: if there are not so many.
        """
        if whole_number("n", n, least=0) > self.n_edges:
            raise ValueError(f"n must be at most {self.n_edges}, the number of edges; got {n}")
        sizes = self.scores.abs().nan_to_num(nan=-1.0).flatten()
        chosen = torch.zeros_like(sizes, dtype=torch.bool)
        # Stable: of equal scores the earlier edge, on every machine.
        chosen[sizes.argsort(descending=True, stable=True)[:n]] = True
        return chosen.view_as(self.scores)


def circuit(
    model: HookedModel,
    *,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "batch pos"] | None = None,
    metric: Metric,
    scoring: Scoring = "attributed",
    ablation: EdgeAblation = "resample",
    roles: Roles | None = None,
    freeze_norms: bool = False,
    n_steps: int = 16,
    attention_mask: Shaped[Tensor, "batch pos"] | None = None,
) -> Circuit:
    """Score every edge of a model by what the metric changes when the edge is cut.

    ``"exact"`` cuts one edge after the other (path patching: Wang et al. 2022, arXiv 2211.00593). ``"attributed"`` is
    its linear approximation at the clean input, one forward on either side and one backward: what an edge would carry
    more, times the gradient of its reader's input (edge attribution patching: Syed et al. 2023, arXiv 2310.10348, after
    Nanda 2023). ``"integrated"`` averages that gradient over embeddings on the way from those that cut edges carry to
    the clean ones (Hanna et al. 2024, arXiv 2403.17806).

    Scores depend on what cut edges carry, on the metric and on positions (Miller et al. 2024, arXiv 2407.08734): the
    result says which were chosen.

    Args:
        model: any HookedTransformer whose residual stream is the sum of its parts, under whatever interventions are
            attached; it is left as it was.
        clean: tokens whose answer is asked for.
        corrupted: tokens of the same shape with another answer, for ``ablation="resample"``.
        metric: from logits ``[batch, pos, d_vocab]`` to a number, such as a mean logit difference; but for
            ``scoring="exact"`` one that torch can differentiate.
        scoring: how scores are found.
        ablation: what a cut edge carries: the writer's value on ``corrupted``, its mean over ``clean`` by position in
            each sequence, whatever padding is before it, or 0.
        roles: groups of positions to be scored apart, by name (see `task_roles`), or ``"positions"`` for each.
            Each is one position, several or a slice, of the columns of ``clean``, so padding must be on the right.
        freeze_norms: whether norms keep the divisors of the clean input, so that a reader is linear in front of it.
        n_steps: forwards of ``"integrated"``.
        attention_mask: 1 for tokens, 0 for padding.

    Returns:
        Scores of all edges, and how they were found.

    Raises:
        ValueError: for what are no model, tokens, metric or roles, for roles of sequences that are padded on the left,
            for tokens of two shapes, without corrupted tokens where they are needed, and for a model whose residual
            stream is not the sum of its parts, and for a metric without a finite gradient.

    Example:
        >>> from plateau_interp import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> task = MovingWindowSum(n=4)
        >>> model = toy_model(task, d_model=16)
        >>> clean, corrupted = (task.sample(4, generator=torch.Generator().manual_seed(s)).inputs for s in (0, 1))
        >>> found = circuit(model, clean=clean, corrupted=corrupted, metric=lambda logits: logits[:, -1, 0].mean())
        >>> found
        Circuit of 13 edges (attributed, resample, norms live, 4 sequences)
        >>> list(found.table().columns)
        ['writer', 'reader', 'role', 'score']
    """
    check_comparison(model, clean=clean, corrupted=corrupted, metric=metric, attention_mask=attention_mask)
    one_of(Scoring, scoring=scoring)
    one_of(EdgeAblation, ablation=ablation)
    names, members = _members(roles, clean.shape[1], clean.device)
    if roles is not None and attention_mask is not None and bool((attention_mask[:, 0] == 0).any()):
        raise ValueError("roles are columns of all sequences, and padding on the left moves each one's: pad right")
    whole_number("n_steps", n_steps, least=1)
    with cutting(
        model,
        clean=clean,
        corrupted=corrupted,
        metric=metric,
        ablation=ablation,
        freeze_norms=freeze_norms,
        attention_mask=attention_mask,
    ) as cut:
        if scoring == "exact":
            scores = _exact(cut, members)
        else:
            scores = _attributed(cut, members, n_steps=n_steps if scoring == "integrated" else None)
    norms: Literal["frozen", "live"] = "frozen" if freeze_norms else "live"
    if not scores[cut.graph.edges].isfinite().all():
        raise ValueError(f"scores are no finite numbers: the metric {metric!r} has no finite gradient there")
    scores = scores.masked_fill(~cut.graph.edges[:, :, None], float("nan"))
    found = (cut.graph.writers, cut.graph.readers, names, scores, scoring, ablation, norms)
    return Circuit(*found, cut.clean, cut.ablated, len(clean), members.cpu())


def task_roles(task: Task) -> dict[str, range]:
    """The positions of a task's prompt, of what comes just before its first answer, and of its answers but the last.

    A role without a position, as where there is one answer, is left out. They are positions of a model's input, where
    position p predicts position p + 1: the separator's predicts the first answer.

    Example:
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> task_roles(MovingWindowSum(n=4))
        {'prompt': range(0, 4), 'separator': range(4, 5), 'answer': range(5, 8)}
    """
    rows = answer_rows(task)
    roles = {
        "prompt": range(rows.start),
        "separator": range(rows.start, rows.start + 1),
        "answer": range(rows.start + 1, rows.stop),
    }
    return {name: positions for name, positions in roles.items() if positions}


def answer_difference(task: Task, clean: Batch, corrupted: Batch) -> Metric:
    """The metric of a task's counterfactual pairs: how much likelier than the corrupted answer the clean one is.

    `label_difference` of the answers alone: what else is predicted, such as the rest of a prompt, does not count.

    Args:
        task: whose answers they are.
        clean: sequences.
        corrupted: the same after `plateau_interp.types.Task.corrupt`.

    Raises:
        ValueError: if no answer differs.

    Example:
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> task, generator = MovingWindowSum(n=4), torch.Generator().manual_seed(0)
        >>> clean = task.sample(8, generator=generator)
        >>> corrupted = task.corrupt(clean, generator=generator)
        >>> float(answer_difference(task, clean, corrupted)(torch.zeros(8, 8, task.d_vocab)))
        0.0
    """
    rows = answer_rows(task)
    return label_difference(*(_scored_within(rows, batch) for batch in (clean, corrupted)))


def label_difference(clean: Batch, corrupted: Batch) -> Metric:
    """How much likelier than the corrupted label the clean one is, for pairs of any model, also without a task.

    The mean, over the labels that differ, of the clean label's logit minus that of the corrupted one. Negative where a
    model prefers the corrupted ones.

    Args:
        clean: sequences; what is not scored has the label `plateau_interp.types.IGNORE`.
        corrupted: as many of the same length, as from `plateau_interp.analysis.text_pairs.repeated_tokens`.

    Raises:
        ValueError: if no label differs.

    Example:
        >>> from plateau_interp.analysis.text_pairs import repeated_tokens
        >>> pairs = repeated_tokens(2, length=4, d_vocab=50, generator=torch.Generator().manual_seed(0))
        >>> float(label_difference(*pairs)(torch.zeros(2, 7, 50)))
        0.0
    """
    right, wrong = clean.labels, corrupted.labels
    differ = (right != wrong) & (right != IGNORE) & (wrong != IGNORE)
    if not differ.any():
        raise ValueError("no answer of the corrupted sequences differs from the clean ones")
    sequence, row = differ.nonzero(as_tuple=True)
    these, those = right[sequence, row], wrong[sequence, row]

    def difference(logits: Float[Tensor, "batch pos d_vocab"]) -> Float[Tensor, ""]:
        chosen = logits[sequence, row]
        return (chosen.gather(1, these[:, None]) - chosen.gather(1, those[:, None])).mean()

    return difference


def _scored_within(rows: slice, batch: Batch) -> Batch:
    """The batch with labels in some rows alone."""
    labels = torch.full_like(batch.labels, IGNORE)
    labels[:, rows] = batch.labels[:, rows]
    return Batch(batch.tokens, labels)


def check_comparison(model: Any, *, clean: Any, corrupted: Any, metric: Any, attention_mask: Any) -> None:
    """Refuse what a circuit cannot be measured with.

    Raises:
        ValueError: naming it.
    """
    check_model(model)
    check_takes(metric, "metric", "logits")
    for name, tokens in (("clean", clean), ("corrupted", corrupted)):
        if tokens is not None or name == "clean":
            check_tokens(name, tokens, d_vocab=model.cfg.d_vocab)
    if corrupted is not None and corrupted.shape != clean.shape:
        raise ValueError(f"clean and corrupted must have one shape; got {(*clean.shape,)}, {(*corrupted.shape,)}")
    check_attention_mask(attention_mask, clean)


def _members(roles: Any, n_pos: int, device: torch.device) -> tuple[tuple[str, ...], Bool[Tensor, "role pos"]]:
    """Names of the roles, and which positions each has."""
    if roles is None:
        return (ALL_POSITIONS,), torch.ones(1, n_pos, dtype=torch.bool, device=device)
    if roles == "positions":
        return tuple(map(str, range(n_pos))), torch.eye(n_pos, dtype=torch.bool, device=device)
    if not isinstance(roles, Mapping) or not roles:
        raise ValueError(
            f'roles must be positions by name, such as {{"prompt": range(4)}}, or "positions"; got {roles!r}'
        )
    members = torch.zeros(len(roles), n_pos, dtype=torch.bool, device=device)
    for name, row in zip(roles, members, strict=True):
        row[_positions(name, roles[name], n_pos)] = True
    return tuple(roles), members


def _positions(role: Any, given: Any, n_pos: int) -> list[int]:
    """The positions of a role, checked."""
    if not isinstance(role, str):
        raise ValueError(f"a role's name must be text; got {shown(role)}")
    what = f"role {role!r}"
    try:
        positions = list(range(n_pos)[given]) if isinstance(given, slice) else whole_numbers(what, given)
    except (TypeError, ValueError):
        raise ValueError(f"{what} must be a whole number, several, or a slice; got {shown(given)}") from None
    wrong: object = [position for position in positions if not 0 <= position < n_pos]
    if isinstance(given, slice):  # which Python cuts to what there is
        is_beyond = any(end is not None and not -n_pos <= end <= n_pos for end in (given.start, given.stop))
        wrong = given if is_beyond or not positions else None
    if wrong or not positions:
        raise ValueError(f"{what} must have positions from 0 to {n_pos - 1}; got {shown(wrong or positions)}")
    return positions


def _exact(cut: CutModel, members: Bool[Tensor, "role pos"]) -> Float[Tensor, "writer reader role"]:
    """The change of the metric by each edge, cut alone."""
    graph, n_roles = cut.graph, len(members)
    scores = torch.full((*graph.edges.shape, n_roles), float("nan"), dtype=torch.float64)
    places = [(*edge, role) for edge in graph.edges.nonzero().tolist() for role in range(n_roles)]
    for start in range(0, len(places), cut.most_copies):
        some = places[start : start + cut.most_copies]
        choice = torch.zeros(len(some), *graph.edges.shape, members.shape[1], dtype=torch.bool)
        for copy, (writer, reader, role) in enumerate(some):
            choice[copy, writer, reader] = members[role]
        for place, value in zip(some, cut.metrics_when_cut(choice).tolist(), strict=True):
            scores[place] = value - cut.clean
    return scores


def _attributed(
    cut: CutModel, members: Bool[Tensor, "role pos"], *, n_steps: int | None
) -> Float[Tensor, "writer reader role"]:
    """What each edge would carry more, times the gradient of its reader's input; summed as the backward goes by."""
    graph = cut.graph
    more = cut.difference()
    # Positions outermost and the rest flat: one product a reader, without a copy of all that was written.
    more = rearrange(more, "writer batch pos d -> pos writer (batch d)").contiguous()
    total = torch.zeros(*graph.edges.shape, len(members), dtype=torch.float64)
    share = members.to(more.dtype)
    points = [None] if n_steps is None else [(step + 1) / n_steps for step in range(n_steps)]

    def take(gradient: Tensor, *, start: int, stop: int, upstream: int) -> None:
        each = gradient if gradient.ndim == 4 else gradient.unsqueeze(2)
        each = rearrange(each.to(more.dtype), "batch pos reader d -> pos (batch d) reader")
        found = einsum(more[:, :upstream] @ each, share, "pos writer reader, role pos -> writer reader role")
        total[:upstream, start:stop] += found.double().cpu() / len(points)

    def watch(act: Tensor, *, hook: Any, read: Any) -> None:
        here = partial(take, start=read.start, stop=read.stop, upstream=read.upstream)
        act.register_hook(here)  # type: ignore[no-untyped-call]

    hooks = [(reading.point, partial(watch, read=reading)) for reading in graph.readings]
    for point in points:
        leaves: list[Tensor] = []
        with cut.model.hooks(fwd_hooks=[*cut.frozen(), *_starting(cut, leaves, point), *hooks]), torch.enable_grad():
            value = one_number(cut.metric(cut.model(cut.tokens, **cut.options)))
        if not value.requires_grad:
            raise ValueError(
                f'the metric cannot be differentiated; score with "exact", or use torch alone: {cut.metric!r}'
            )
        torch.autograd.grad(value, leaves, allow_unused=True)
    return total


def _starting(cut: CutModel, leaves: list[Tensor], point: float | None) -> list[tuple[str, Any]]:
    """Hooks from which the gradient is asked for: the embeddings, moved back towards what cut edges carry."""

    def start(act: Tensor, *, hook: Any, writer: int) -> Tensor:
        value = act.detach()
        if point is not None:
            instead = cut.instead[writer]
            value = instead + point * (cut.written[writer] - instead)
        leaves.append(value.clone().requires_grad_())
        return leaves[-1]

    embeddings = [writing for writing in cut.graph.writings if writing.point.startswith("hook_")]
    return [(writing.point, partial(start, writer=writing.start)) for writing in embeddings]
