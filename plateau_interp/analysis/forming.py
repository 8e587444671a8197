"""A circuit through training: which edges are there before the loss drops, and which come with the drop.

`circuits` scores the edges at every checkpoint of a run on one fixed set of counterfactual pairs of its task;
`Forming` is what they tell together. Circuits that are kept beside a run are in `plateau_interp.runs.kept_circuits`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from plateau_interp.analysis.circuits import Circuit, Scoring, answer_difference, circuit, task_roles
from plateau_interp.analysis.edges import EdgeAblation
from plateau_interp.analysis.observing import Checkpointed
from plateau_interp.analysis.pruning import agreement
from plateau_interp.analysis.text_pairs import TextPairs, repeated_tokens, text_batches
from plateau_interp.checks import one_of, seed_number, there_steps, whole_number
from plateau_interp.types import Batch, HookedModel, OfText, Task

__all__ = ["CircuitOptions", "Forming", "Pairs", "circuits", "counterfactual_pairs", "task_circuit"]

Pairs = tuple[Batch, Batch, Int[Tensor, "batch query"] | None]
"""Clean and corrupted sequences, and of texts a mask: 1 for tokens, 0 for what fills up."""


@dataclass(frozen=True)
class CircuitOptions:
    """How the circuits of a run are measured.

    Args:
        n_pairs: counterfactual pairs that they are measured on.
        seed: of the pairs; they are in no training stream.
        scoring: see `plateau_interp.analysis.circuits.circuit`, as for those that follow.
        ablation: what cut edges carry.
        by_role: whether edges are scored apart at the prompt, the separator and the answers.
        freeze_norms: whether norms keep the divisors of the clean input.
        n_steps: forwards of ``scoring="integrated"``.
        texts: of a task of text, clean and corrupted texts in place of repeated random tokens; the last token is the
            answer.

    Raises:
        ValueError: naming what is no number, too small, or no choice.
    """

    n_pairs: int = 64
    seed: int = 0
    scoring: Scoring = "attributed"
    ablation: EdgeAblation = "resample"
    by_role: bool = False
    freeze_norms: bool = False
    n_steps: int = 16
    texts: TextPairs = ()

    def __post_init__(self) -> None:
        whole_number("n_pairs", self.n_pairs, least=1)
        seed_number(self.seed)
        one_of(Scoring, scoring=self.scoring)
        one_of(EdgeAblation, ablation=self.ablation)
        whole_number("n_steps", self.n_steps, least=1)
        if self.texts and self.by_role:
            raise ValueError("by_role is for prompts of a task: texts have no roles")


DEFAULTS = CircuitOptions()


@dataclass(frozen=True, eq=False)
class Forming:
    """The circuits of one model through training, all measured alike.

    Attributes:
        steps: of the checkpoints.
        circuits: one a step.
    """

    steps: tuple[int, ...]
    circuits: tuple[Circuit, ...]

    def __repr__(self) -> str:
        return f"Forming of {self.circuits[-1]!r} at {len(self.steps)} steps, {self.steps[0]} to {self.steps[-1]}"

    @cached_property
    def scores(self) -> Float[np.ndarray, "step edge"]:
        """Scores in the order of the rows of `edges`."""
        exists = self.circuits[-1].exists
        return np.array([found.scores[exists].tolist() for found in self.circuits])

    def table(self) -> pd.DataFrame:
        """A row a step and edge: ``step``, ``writer``, ``reader``, ``role``, ``score``."""
        edges = self._edges()
        rows = [edges.assign(score=scores, step=step) for step, scores in zip(self.steps, self.scores, strict=True)]
        return pd.concat(rows, ignore_index=True)[["step", *edges.columns, "score"]]

    def edges(self, *, share: float = 0.5) -> pd.DataFrame:
        """A row an edge, the largest at last first.

        ``writer``, ``reader``, ``role``, ``score`` (at the last step), and ``step``: the first checkpoint from which on
        the score is at least ``share`` of the last one; missing where the last one is 0.
        """
        last = self.scores[-1]
        with np.errstate(divide="ignore", invalid="ignore"):
            has = self.scores / last >= share
        from_here = np.flip(np.logical_and.accumulate(np.flip(has, axis=0), axis=0), axis=0)
        steps = [self.steps[int(column.argmax())] if column.any() else None for column in from_here.T]
        found = self._edges().assign(score=last, step=pd.array(steps, dtype="Int64"))
        return found.sort_values("score", key=lambda score: -score.abs(), kind="stable", ignore_index=True)

    def metrics(self, *, n: int | None = None) -> pd.DataFrame:
        """A row a step, to be joined with the metrics of the run.

        ``step``, ``answer_difference`` of the whole model and ``answer_difference_ablated`` with every edge cut, and
        ``circuit_overlap`` and ``circuit_rank``: how alike the circuit is to the last one (see
        `plateau_interp.analysis.pruning.agreement`, which takes ``n``).
        """
        rows = []
        for step, found in zip(self.steps, self.circuits, strict=True):
            alike = agreement(self.circuits[-1], found, n=n)
            rows.append(
                {
                    "step": step,
                    "answer_difference": found.clean,
                    "answer_difference_ablated": found.ablated,
                    "circuit_overlap": alike["overlap"],
                    "circuit_rank": alike["rank"],
                }
            )
        return pd.DataFrame(rows)

    def _edges(self) -> pd.DataFrame:
        found = self.circuits[-1]
        places = found.exists.nonzero().tolist()
        names = [(found.writers[writer], found.readers[reader], found.roles[role]) for writer, reader, role in places]
        return pd.DataFrame(names, columns=["writer", "reader", "role"])


def circuits(
    run: Checkpointed,
    *,
    steps: Iterable[int] | None = None,
    n_pairs: int = DEFAULTS.n_pairs,
    seed: int = DEFAULTS.seed,
    scoring: Scoring = DEFAULTS.scoring,
    ablation: EdgeAblation = DEFAULTS.ablation,
    by_role: bool = DEFAULTS.by_role,
    freeze_norms: bool = DEFAULTS.freeze_norms,
    n_steps: int = DEFAULTS.n_steps,
    texts: TextPairs = DEFAULTS.texts,
    progress: Callable[[int], None] | None = None,
) -> Forming:
    """The circuit of a run at every checkpoint, on counterfactual pairs of its task.

    The pairs are the same at every step: sequences of the task, and the same after the least change of each prompt that
    changes its answer (`counterfactual_pairs`). The metric is the mean logit difference of clean and corrupted answer
    where they differ (`plateau_interp.analysis.circuits.answer_difference`). The weights are measured by themselves:
    interventions of the run are not applied.

    Args:
        run: with checkpoints.
        steps: which of them, by default all.
        n_pairs: sequences; this and the next seven are explained at `CircuitOptions`.
        seed: of the pairs.
        scoring: how scores are found.
        ablation: what cut edges carry.
        by_role: whether edges are scored apart at the prompt, the separator and the answers.
        freeze_norms: whether norms keep the divisors of the clean input.
        n_steps: forwards of ``scoring="integrated"``.
        texts: pairs of your own, of a task of text.
        progress: called with each step before it is measured.

    Returns:
        The circuits.

    Raises:
        ValueError: for steps without a checkpoint, a task that does not say how to corrupt its prompts or predicts
            numbers, and what `circuit` refuses.

    Example:
        >>> from plateau_interp import ModelOptions, Recipe, Run, TrainingOptions
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> options = {"model": ModelOptions(d_model=16), "training": TrainingOptions(steps=4)}
        >>> run = Run.create("small", Recipe(MovingWindowSum(n=4), **options))
        >>> _ = [*run.train()]
        >>> circuits(run, n_pairs=8)
        Forming of Circuit of 13 edges (attributed, resample, norms live, 8 sequences) at 2 steps, 0 to 4
    """
    options = CircuitOptions(n_pairs, seed, scoring, ablation, by_role, freeze_norms, n_steps, texts)
    chosen = there_steps(steps, run.checkpoints, "checkpoint of step")
    pairs = counterfactual_pairs(run.task, options)
    found = []
    for step in chosen:
        if progress is not None:
            progress(step)
        found.append(task_circuit(run.model(step), run.task, options, pairs=pairs))
    return Forming(tuple(chosen), tuple(found))


def task_circuit(model: HookedModel, task: Task, options: CircuitOptions, *, pairs: Pairs | None = None) -> Circuit:
    """The circuit of a model of a task, as one of `circuits`, on the device of the model.

    Args:
        model: of the task, under whatever interventions are attached.
        task: whose prompts and answers it is measured on.
        options: how it is measured.
        pairs: what `counterfactual_pairs` gives with these options, if it is drawn for several models; else drawn here.

    Raises:
        ValueError: as `circuits`.

    Example:
        >>> from plateau_interp import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> task = MovingWindowSum(n=4)
        >>> task_circuit(toy_model(task, d_model=16), task, CircuitOptions(n_pairs=8))
        Circuit of 13 edges (attributed, resample, norms live, 8 sequences)
    """
    clean, corrupted, mask = counterfactual_pairs(task, options) if pairs is None else pairs
    device = next(iter(model.parameters())).device
    here, there = clean.to(device), corrupted.to(device)
    return circuit(
        model,
        clean=here.inputs,
        corrupted=there.inputs,
        metric=answer_difference(task, here, there),
        scoring=options.scoring,
        ablation=options.ablation,
        roles=task_roles(task) if options.by_role else None,
        freeze_norms=options.freeze_norms,
        n_steps=options.n_steps,
        attention_mask=None if mask is None else mask.to(device),
    )


def counterfactual_pairs(task: Task, options: CircuitOptions = DEFAULTS) -> Pairs:
    """Sequences of a task, and the same after the least change of each prompt that changes its answer; or texts.

    Of a task of text without texts of yours they are random tokens that come twice, half of the task's length, for its
    induction heads: see `plateau_interp.analysis.text_pairs.repeated_tokens`.

    Raises:
        ValueError: for a task that does not say how to corrupt its prompts, or predicts numbers: these have no logits;
            and for roles of a text.

    Example:
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> clean, corrupted, _ = counterfactual_pairs(MovingWindowSum(n=4), CircuitOptions(n_pairs=8))
        >>> (clean.labels != corrupted.labels).any(dim=1).all()
        tensor(True)
    """
    if options.texts:
        return text_batches(task, options.texts)
    generator = torch.Generator().manual_seed(seed_number(options.seed))
    if isinstance(task, OfText):
        if options.by_role:
            raise ValueError("by_role is for prompts of a task: texts have no roles")
        length = min(task.n_pos // 2, task.d_vocab)
        return *repeated_tokens(options.n_pairs, length=length, d_vocab=task.d_vocab, generator=generator), None
    clean = task.sample(options.n_pairs, generator=generator)
    if clean.labels.is_floating_point():
        raise ValueError(f"{type(task).__name__} predicts numbers: a circuit needs the logits of two answers")
    return clean, task.corrupt(clean, generator=generator), None
