"""plateau_interp.tasks._layouts: what a task gets that says only its inputs and their answer."""

import math
import re
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from test_tasks_suite import KINDS, generator
from torch import Tensor
from typecheck import unchecked

from plateau_interp.tasks import Copy, Histogram, MovingWindowSum, PrefixSum, Text
from plateau_interp.tasks._layouts import Residues, Scored, distinct
from plateau_interp.types import IGNORE, Batch


@pytest.mark.parametrize("task", [MovingWindowSum(n=4), Histogram(n=4), PrefixSum(n=4), Copy(n=4)], ids=str)
def test_answers_are_those_of_the_changed_inputs(task: Any) -> None:
    corrupted = task.corrupt(task.sample(32, generator=generator()), generator=generator(1))
    assert torch.equal(corrupted.tokens[:, task.answer], task.solve(corrupted.tokens[:, : task.n]))


def test_every_input_is_changed_in_turn() -> None:
    task = MovingWindowSum(n=4)
    batch = task.sample(400, generator=generator())
    places = (batch.tokens != task.corrupt(batch, generator=generator(1)).tokens)[:, :4].sum(dim=0)
    assert (places > 60).all()


@pytest.mark.parametrize("kind", [*KINDS, Text], ids=lambda kind: kind.name)
@pytest.mark.parametrize(
    ("n", "source", "text"),
    [
        ("x", generator(), "n must be a whole number; got 'x'"),
        (2.0, generator(), "n must be a whole number; got 2.0"),
        (-1, generator(), "n must be at least 0; got -1"),
        (2**70, generator(), "n must be below 2**63; got"),
        (2, 5, "generator must be a torch.Generator; got 5"),
        (2, None, "generator must be a torch.Generator; got None"),
    ],
)
def test_draws_that_cannot_be_are_refused(kind, n, source, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}"):
        unchecked(kind.sample)(kind(), n, generator=source)


@dataclass(frozen=True)
class Doubled(Residues):
    """``x_1 … x_n SEP 2 x_1 … 2 x_n``, modulo p."""

    name: ClassVar[str] = "doubled"
    n: int = 3
    p: int = 5
    low: int = 1
    high: int | None = None
    scored: Scored = "sequence"

    def solve(self, numbers: Tensor) -> Tensor:
        return self._combine(numbers, numbers)

    def optimal_attention(self, batch: Batch) -> list[Tensor]:
        return [self._map(torch.eye(self.n, dtype=torch.bool)[None])]


def test_a_task_that_says_its_answer_has_the_layout() -> None:
    task = Doubled()
    assert (task.n_prompt, task.n_pos, task.answer, task.separator, task.d_vocab) == (4, 7, slice(4, 7), 5, 6)
    tokens = task.sample(50, generator=generator()).tokens
    assert (tokens[:, 3] == 5).all()
    assert set(tokens[:, :3].flatten().tolist()) == {1, 2, 3, 4}
    assert torch.equal(tokens[:, 4:], 2 * tokens[:, :3] % 5)
    assert task.tokens_to_text(torch.tensor([1, 4, 2, 5, 2, 3, 4])) == ["1", "4", "2", "|", "2", "3", "4"]
    assert Doubled(high=9).separator == 10  # which no number uses


def test_the_prompt_counts_in_labels_and_levels_only_if_it_is_scored() -> None:
    everything, answers = Doubled(), Doubled(scored="answer")
    tokens = everything.sample(4, generator=generator()).tokens
    assert torch.equal(everything.sample(4, generator=generator()).labels, tokens[:, 1:])
    labels = answers.sample(4, generator=generator()).labels
    assert (labels[:, :3] == IGNORE).all()
    assert torch.equal(labels[:, 3:], tokens[:, 4:])
    assert everything.levels.floor == pytest.approx(2 * math.log(4) / 6)  # of six tokens two are drawn and unknown
    assert answers.levels.floor == 0
    assert everything.levels.initial == answers.levels.initial == math.log(6)


def test_a_map_stands_in_the_rows_that_answer() -> None:
    task = Doubled()
    (target,) = task.optimal_attention(task.sample(2, generator=generator()))
    assert target.shape == (1, 6, 6)
    assert target[0].nonzero().tolist() == [[3, 0], [4, 1], [5, 2]]


def test_every_order_of_distinct_numbers_is_drawn_as_often() -> None:
    drawn = distinct(6000, 3, generator=generator())
    orders, counts = drawn.unique(dim=0, return_counts=True)
    assert orders.tolist() == [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]
    assert ((counts - 1000).abs() < 120).all()  # four standard deviations


def test_a_change_that_leaves_the_answer_is_made_again():
    task = MovingWindowSum(n=1, k=1)
    batch = task.sample(500, generator=generator())
    other = task.corrupt(batch, generator=generator(1))
    assert bool((other.tokens[:, task.answer] != batch.tokens[:, task.answer]).all())
