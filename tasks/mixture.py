"""Several tasks in one batch, each with a separator of its own."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Real
from typing import Any, ClassVar

import torch
from einops import rearrange
from jaxtyping import Bool, Int
from torch import Tensor

from plateau_interp.checks import shown
from plateau_interp.positions import layer_targets
from plateau_interp.tasks._layouts import below_diagonal, check_draw
from plateau_interp.tasks._separators import Separator, ids_elsewhere
from plateau_interp.tasks.window import MovingWindowDifference, MovingWindowProduct, MovingWindowSum
from plateau_interp.types import IGNORE, Batch, Defaults, Levels, Task

__all__ = ["Mixture"]

N_FIRST = 1024
"""Sequences of each task by which a mixture knows it; what they do not tell is refused when it is drawn."""


@dataclass(frozen=True)
class Mixture(Task):
    """Tasks mixed by sequence: the separator alone tells which task a sequence is of.

    Each batch holds a fixed share of each task, rows shuffled. The last prompt token of task i becomes the id
    ``first_separator + i``, the first ids that none of the tasks uses otherwise, so the default mixture has the ids 17,
    18, 19. Everything else is left as the tasks draw it, also which positions they score.

    A mixture draws fresh sequences at every step, also from finite tasks, whose training sets it draws from with
    replacement: it has no epochs and no validation set. Several operations that are split for good are one task,
    ``ModularArithmetic(operations=("add", "divide"))``.

    Args:
        tasks: what to mix; prompts and answers must be equally long.
        shares: how much of a batch each task gets, in relation to the others; by default the same. Counts are rounded
            down, the last task takes the rest: 128 sequences are 42 + 42 + 44. A task with share 0 is never drawn but
            keeps its id: the source's runs of one or two tasks, such as ``shares=(1, 0, 0)``, have all 20 ids.

    Raises:
        ValueError: if the tasks do not fit together, or one has a loss of its own; the message names the one.

    Source: "Shortening the Loss Plateau", multi-task batches; defaults of its three-task run.

    Example:
        >>> task = Mixture()
        >>> tokens = task.sample(128, generator=torch.Generator().manual_seed(0)).tokens
        >>> torch.bincount(tokens[:, task.separator_position]).tolist()[17:]
        [42, 42, 44]
    """

    tasks: tuple[Task, ...] = (MovingWindowSum(scored="answer"), MovingWindowDifference(), MovingWindowProduct())
    shares: tuple[float, ...] | None = None

    name: ClassVar[str] = "mixture"

    def __post_init__(self) -> None:
        if not isinstance(self.tasks, tuple | list):
            raise ValueError(f"tasks must be several tasks, such as (Copy(), Reverse()); got {shown(self.tasks)}")
        if not self.tasks:
            raise ValueError("tasks must hold at least one task; got none")
        for task in self.tasks:
            if Task not in type(task).__mro__:
                # Here, since models load TransformerLens: to name and sample a task, it need not load.
                from plateau_interp.models.fitting import check_task

                check_task(task)
            if type(task).loss is not Task.loss:
                raise ValueError(f"tasks must have the usual loss, cross-entropy; {type(task).__name__} has its own")
        if self.shares is not None and not _are_numbers(self.shares):
            raise ValueError(f"shares must be numbers, one a task, such as (1, 1, 2); got {shown(self.shares)}")
        first = self.tasks[0]
        for task in self.tasks[1:]:
            if (task.answer, task.n_pos) != (first.answer, first.n_pos):
                raise ValueError(
                    f"tasks must have their answers at the same positions: {_where(first)} in {first.name}; "
                    f"got {_where(task)} in {task.name}"
                )
        shares = self._shares
        if len(shares) != len(self.tasks):
            raise ValueError(f"shares must hold one number a task, {len(self.tasks)}; got {len(shares)}")
        if not (all(0 <= share < math.inf for share in shares) and any(shares)):
            raise ValueError(f"shares must be at least 0 and not all 0; got {shares}")
        for task, sample in zip(self.tasks, self._samples, strict=True):
            separator = sample.tokens[:, self.separator_position]
            if (separator != separator[0]).any():
                raise ValueError(f"tasks must end their prompts with a separator; in {task.name} it varies")
        self._check_drawn(self._samples)

    @property
    def defaults(self) -> Defaults:
        """The source's 128 sequences a step; layers, steps and clipping as the most demanding task needs them."""
        each = [task.defaults for task in self.tasks]
        return replace(
            each[0],
            steps=max(one.steps for one in each),
            n_layers=max(one.n_layers for one in each),
            batch_size=128,
            learning_rate=min(one.learning_rate for one in each),
            grad_clip=min(one.grad_clip for one in each),
        )

    @property
    def separator_position(self) -> int:
        """Where the token stands that tells the task."""
        start: int = self.answer.start
        return start - 1

    @cached_property
    def first_separator(self) -> int:
        """Token id of the first task's separator; the others follow."""
        return max(self._alphabet(index) for index in range(len(self.tasks)))

    @property
    def d_vocab(self) -> int:
        """The tasks' ids without their own separators, and one separator a task."""
        return self.first_separator + len(self.tasks)

    @property
    def n_pos(self) -> int:
        """As of each task."""
        return self.tasks[0].n_pos

    @property
    def answer(self) -> slice:
        """As of each task."""
        return self.tasks[0].answer

    def sample(self, n: int, *, generator: torch.Generator) -> Batch:
        """Draw ``n`` sequences, each task its share of them, in random order.

        Raises:
            ValueError: if a task draws a separator's id, or another end of its prompt than before; naming both.
        """
        check_draw(n, generator)
        batches = [
            task.sample(count, generator=generator) for task, count in zip(self.tasks, self.counts(n), strict=True)
        ]
        order = torch.randperm(n, generator=generator, device=generator.device)
        return self._joined(batches).take(order)

    def corrupt(self, batch: Batch, *, generator: torch.Generator) -> Batch:
        """Each sequence as its task corrupts it; the separator, which tells the task, stays.

        Raises:
            ValueError: if a task does not say how, or finds no such change.
        """
        check_draw(len(batch), generator)
        index = self.task_index(batch.tokens)
        rows = [(index == i).nonzero().flatten() for i in range(len(self.tasks))]
        batches = [
            task.corrupt(
                self._foretelling(self._own_tokens(batch.tokens[some], i), batch.labels[some]), generator=generator
            )
            if len(some)
            else batch.take(some)
            for i, (task, some) in enumerate(zip(self.tasks, rows, strict=True))
        ]
        return self._joined(batches).take(torch.cat(rows).argsort())

    def _joined(self, batches: Sequence[Batch]) -> Batch:
        """What the tasks drew, one after the other, with the separators that tell them."""
        self._check_drawn(batches)
        tokens = torch.cat([self._with_separator(batch.tokens, i) for i, batch in enumerate(batches)])
        labels = torch.cat([batch.labels for batch in batches])
        return self._foretelling(tokens, labels)

    def _foretelling(self, tokens: Int[Tensor, "batch pos"], labels: Int[Tensor, "batch query"]) -> Batch:
        """With the separators that stand there as labels, where those are scored; writes into the labels."""
        before = self.separator_position - 1
        if before >= 0:
            labels[:, before] = torch.where(labels[:, before] == IGNORE, IGNORE, tokens[:, before + 1])
        return Batch(tokens, labels)

    def counts(self, n: int) -> list[int]:
        """How many of ``n`` sequences are of each task."""
        shares = self._shares
        # The small number keeps 0.29 of 100, which is 28.999…, from losing a sequence.
        counts = [math.floor(n * share / sum(shares) + 1e-9) for share in shares]
        counts[max(i for i, share in enumerate(shares) if share)] += n - sum(counts)
        return counts

    def group_counts(self, n: int) -> dict[str, int]:
        """`counts` by name, of the tasks that are ever drawn."""
        return {
            name: count
            for name, count, share in zip(self.group_names, self.counts(n), self._shares, strict=True)
            if share
        }

    @property
    def group_levels(self) -> dict[str, Levels]:
        """Closed-form losses of each task that is ever drawn; known if the answers alone are scored, as in `levels`."""
        known = not self._scores_prompts
        drawn = zip(self.group_names, self.tasks, self._shares, strict=True)
        return {name: task.levels if known else Levels() for name, task, share in drawn if share}

    @cached_property
    def _scores_prompts(self) -> bool:
        return any((sample.labels[:, : self.answer.start - 1] != IGNORE).any() for sample in self._samples)

    def task_index(self, tokens: Int[Tensor, "batch pos"]) -> Int[Tensor, " batch"]:
        """Which task each sequence is of, read off its separator (0 before one is there)."""
        return (tokens[:, self.separator_position] - self.first_separator).clamp(0, len(self.tasks) - 1)

    @property
    def group_names(self) -> tuple[str, ...]:
        """A name for each task, for columns and legends; numbered where tasks share theirs."""
        names = [task.name for task in self.tasks]
        return tuple(name if names.count(name) == 1 else f"{name}-{index}" for index, name in enumerate(names))

    def groups(self, batch: Batch) -> dict[str, Bool[Tensor, " batch"]]:
        """The sequences of each task that is ever drawn, for measures by task."""
        index = self.task_index(batch.tokens)
        return {name: index == i for i, name in enumerate(self.group_names) if self._shares[i]}

    def answer_kinds(self, batch: Batch) -> dict[str, Bool[Tensor, "batch answer"]]:
        """The kinds of each task that is ever drawn, in its own sequences; ``KIND-GROUP`` where tasks share a kind."""
        index = self.task_index(batch.tokens)
        by_task = {
            name: self._own_kinds(batch, i, rearrange(index == i, "batch -> batch 1"))
            for i, name in enumerate(self.group_names)
            if self._shares[i]
        }
        names = [kind for kinds in by_task.values() for kind in kinds]
        return {
            kind if names.count(kind) == 1 else f"{kind}-{name}": those
            for name, kinds in by_task.items()
            for kind, those in kinds.items()
        }

    def _own_kinds(
        self, batch: Batch, index: int, is_own: Bool[Tensor, "batch 1"]
    ) -> Mapping[str, Bool[Tensor, "batch answer"]]:
        # In the place of others' sequences it gets one of its own: theirs may have tokens that it does not know.
        one = self._samples[index].to(batch.tokens.device)
        tokens = self._own_tokens(batch.tokens, index).where(is_own, one.tokens[:1])
        labels = batch.labels.where(is_own, one.labels[:1])
        kinds = self.tasks[index].answer_kinds(self._foretelling(tokens, labels))
        return {kind: those & is_own for kind, those in kinds.items()}

    @property
    def levels(self) -> Levels:
        """Closed-form losses; plateau: every task on its own.

        Plateau and floor are the tasks', weighted by their shares, and known only if all tasks score the answer alone:
        a scored prompt also contains the separator, which nothing foretells, and may give the task away.
        """
        initial = math.log(self.d_vocab)
        if self._scores_prompts:
            return Levels(initial=initial)
        levels = [task.levels for task in self.tasks]
        return Levels(
            initial=initial,
            plateau=self._mean([level.plateau for level in levels]),
            floor=self._mean([level.floor for level in levels]),
        )

    @property
    def partial_solution(self) -> tuple[int, ...]:
        """The answers that are right on the plateau of every task that is drawn."""
        drawn = [task for task, share in zip(self.tasks, self._shares, strict=True) if share]
        common = set.intersection(*(set(task.partial_solution) for task in drawn))
        return tuple(sorted(common))

    def optimal_attention(self, batch: Batch) -> list[Bool[Tensor, "#batch query key"] | None]:
        """Each sequence has the map of its task; None in a layer where one of the tasks has none.

        Every answer row must also learn the task from the separator, which no map counts: `separator_map`.
        """
        index = self.task_index(batch.tokens)
        by_task = [
            layer_targets(task, Batch(self._own_tokens(batch.tokens, i), batch.labels), n_layers=self.defaults.n_layers)
            for i, task in enumerate(self.tasks)
        ]
        return [_choose(list(maps), index) for maps in zip(*by_task, strict=True)]

    def separator_map(self) -> Bool[Tensor, "1 query key"]:
        """The separator's column in the answer rows.

        The meter reports the share of attention on it as ``attention_separator``, and the progress of the rest, which
        is how the source takes progress, as ``attention_progress_without_separator``.
        """
        size = self.n_pos - 1
        column = torch.zeros(1, size, size, dtype=torch.bool)
        column[:, self.answer.start - 1 : self.answer.stop - 1, self.separator_position] = True
        return column

    def cosine_pairs(self) -> Bool[Tensor, "row row"]:
        """The pairs that every task takes."""
        pairs = below_diagonal(self.answer.stop - self.answer.start)
        for task in self.tasks:
            pairs &= task.cosine_pairs()
        return pairs

    def tokens_to_text(self, tokens: Int[Tensor, " pos"]) -> list[str]:
        """As the task writes them, with the separator of task i as ``|i``."""
        at = self.separator_position
        if len(tokens) <= at or tokens[at] < self.first_separator:
            return [str(token) for token in tokens.tolist()]
        index = int(tokens[at]) - self.first_separator
        texts = self.tasks[index].tokens_to_text(self._own_tokens(tokens[None], index)[0])
        texts[at] = f"|{index}"
        return texts

    @property
    def _shares(self) -> tuple[float, ...]:
        return (1.0,) * len(self.tasks) if self.shares is None else self.shares

    @cached_property
    def _samples(self) -> list[Batch]:
        """Some sequences of each task, to see where it has a separator and what it scores."""
        return [task.sample(N_FIRST, generator=torch.Generator().manual_seed(0)) for task in self.tasks]

    @cached_property
    def _own_separators(self) -> list[int]:
        return [int(sample.tokens[0, self.separator_position]) for sample in self._samples]

    def _alphabet(self, index: int) -> int:
        """Ids that a task uses apart from its separator, if that is the last id and stands nowhere else."""
        last, elsewhere = self.tasks[index].d_vocab - 1, ids_elsewhere(self._samples[index], self.separator_position)
        frees_last = self._own_separators[index] == last and (elsewhere < last).all()
        return last if frees_last else last + 1

    @cached_property
    def _separators(self) -> list[Separator]:
        first, is_scored = self.first_separator, self._scores_prompts
        return [Separator(self.separator_position, own, first, is_scored) for own in self._own_separators]

    def _check_drawn(self, batches: Sequence[Batch]) -> None:
        """Refuse sequences of the tasks that are not as their first ones.

        They are looked at once, all tasks together, since asking waits for their device.
        """
        unfit = [own.is_unfit(batch) for own, batch in zip(self._separators, batches, strict=True)]
        if not torch.cat(unfit).any():
            return
        for task, own, batch, rows in zip(self.tasks, self._separators, batches, unfit, strict=True):
            if rows.any():
                raise ValueError(
                    f"tasks must be as their first {N_FIRST} sequences are; {task.name} has drawn "
                    f"{own.oddity(batch.take(rows.nonzero()[0]))}"
                )

    def _with_separator(self, tokens: Int[Tensor, "batch pos"], index: int) -> Int[Tensor, "batch pos"]:
        tokens = tokens.clone()
        tokens[:, self.separator_position] = self.first_separator + index
        return tokens

    def _own_tokens(self, tokens: Int[Tensor, "batch pos"], index: int) -> Int[Tensor, "batch pos"]:
        """The tokens with the separator that the task itself draws."""
        tokens = tokens.clone()
        tokens[:, self.separator_position] = self._samples[index].tokens[0, self.separator_position]
        return tokens

    def _mean(self, values: list[float | None]) -> float | None:
        """The mean by shares; None if one of the values is that counts."""
        total = 0.0
        for share, value in zip(self._shares, values, strict=True):
            if not share:
                continue
            if value is None:
                return None
            total += share / sum(self._shares) * value
        return total


def _are_numbers(given: Any) -> bool:
    return isinstance(given, tuple | list) and all(isinstance(one, Real) for one in given)


def _where(task: Task) -> str:
    return f"{task.answer.start} to {task.answer.stop - 1} of {task.n_pos}"


def _choose(
    maps: list[Bool[Tensor, "_ query key"] | None], index: Int[Tensor, " batch"]
) -> Bool[Tensor, "_ query key"] | None:
    """For each sequence the map of its task; a single one where it is the same for all tasks and sequences."""
    known = [target for target in maps if target is not None]
    if len(known) < len(maps):
        return None
    if all(len(target) == 1 and torch.equal(target, known[0]) for target in known):
        return known[0]
    chosen = known[0].expand(len(index), -1, -1)
    for i, target in enumerate(known[1:], start=1):
        chosen = torch.where((index == i)[:, None, None], target, chosen)
    return chosen
