"""Which sequences of a training are of which of its task's groups, and what is known and measured of each alone."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor

from plateau_interp.training.batches import samples_before
from plateau_interp.types import Levels, Task, is_finite

__all__ = [
    "OfGroups",
    "answered_means",
    "check_own_columns",
    "column_word",
    "group_means",
    "group_names",
    "group_samples_before",
]


@runtime_checkable
class OfGroups(Protocol):
    """A task of several kinds of sequences, of each of which every batch has a fixed share, such as a mixture."""

    @property
    def group_levels(self) -> Mapping[str, Levels]:
        """Closed-form losses of each of the groups that are drawn, by name."""
        ...

    def group_counts(self, n: int) -> Mapping[str, int]:
        """How many of ``n`` sequences are of each of these groups."""
        ...


def column_word(group: str) -> str:
    """A group's name as columns of metrics have it: what pandas takes as an attribute and `When` as a condition.

    Example:
        >>> column_word("moving-window-sum")
        'moving_window_sum'
    """
    return re.sub(r"\W", "_", group)


def check_own_columns(groups: Sequence[str], kinds: Sequence[str] = ()) -> None:
    """Refuse groups of sequences and kinds of answers of which two would have one column, or one a position's.

    Raises:
        ValueError: naming the two.

    Example:
        >>> check_own_columns(["add", "divide"], ["low"])
    """
    words: dict[str, tuple[str, str]] = {}
    for what, name in [*(("groups", group) for group in groups), *(("answer kinds", kind) for kind in kinds)]:
        word = column_word(name)
        if word.isdigit():
            raise ValueError(f"{what} must have columns of their own: accuracy_{word} is that of an answer position")
        if word in words:
            before, other = words[word]
            whose = what if before == what else f"{before} and {what}"
            called = f"both called {word!r}"
            raise ValueError(f"{whose} must have columns of their own: {other!r} and {name!r} are {called}")
        words[word] = (what, name)


def group_names(task: Task) -> tuple[str, ...]:
    """The groups whose own sequences can be counted; none where there is no more than one kind.

    Example:
        >>> from plateau_interp.tasks import ModularArithmetic
        >>> group_names(ModularArithmetic(operations=("add", "divide"))), group_names(ModularArithmetic())
        (('add', 'divide'), ())
    """
    if isinstance(task, OfGroups):
        names = tuple(task.group_levels)
    else:
        names = tuple(task.groups(task.train_set)) if is_finite(task) else ()
    return names if len(names) > 1 else ()


def group_samples_before(task: Task, group: str, *, step: int, batch_size: int) -> int:
    """Training sequences of one of `group_names` seen in the updates before a step.

    Of a finite task that is its share of the training set times all that was seen: exact at the end of each epoch.

    Example:
        >>> from plateau_interp.tasks import Mixture
        >>> group_samples_before(Mixture(), "moving-window-sum", step=251, batch_size=128)
        10542
    """
    if isinstance(task, OfGroups):
        return step * task.group_counts(batch_size)[group]
    assert is_finite(task)
    own = int(task.groups(task.train_set)[group].sum())
    return round(samples_before(task, step=step, batch_size=batch_size) * own / len(task.train_set))


def group_means(
    measures: Mapping[str, Float[Tensor, " batch"]], groups: Mapping[str, Bool[Tensor, " batch"]]
) -> dict[str, Float[Tensor, ""]]:
    """The mean of each measure over each group; NaN for a group without a sequence."""
    return {
        f"{name}_{column_word(group)}": values.where(mask, 0).sum() / mask.sum()
        for group, mask in groups.items()
        for name, values in measures.items()
    }


def answered_means(
    measures: Mapping[str, Float[Tensor, " batch"]], groups: Mapping[str, Bool[Tensor, " batch"]]
) -> dict[str, Float[Tensor, ""]]:
    """As `group_means`, over the sequences that have answers to measure; of the others the measures are NaN."""
    return {
        f"{name}_{column_word(group)}": values.where(mask, math.nan).nanmean()
        for group, mask in groups.items()
        for name, values in measures.items()
    }
