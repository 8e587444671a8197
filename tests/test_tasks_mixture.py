"""plateau_interp.tasks.mixture: shares, separators, and each sequence as its own task has it."""

import math
import re
from collections import Counter
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Int
from reference.tasks import moving_window
from torch import Tensor

from plateau_interp.metrics import attention_progress
from plateau_interp.tasks import (
    ConcatenatedWindows,
    Copy,
    Histogram,
    Mixture,
    ModularArithmetic,
    MovingWindowDifference,
    MovingWindowProduct,
    MovingWindowQuotient,
    MovingWindowSum,
    MultiDigitAddition,
    Permutation,
    PrefixSum,
    Repeat,
    Reverse,
    WrittenCompletion,
)
from plateau_interp.types import IGNORE, Batch, Defaults, Task, answer_rows

OPERATIONS = ("sum", "difference", "product")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@dataclass(frozen=True)
class Unseparated(Task):
    """A prompt that ends with a random number."""

    name = "unseparated"
    d_vocab = 17
    n_pos = 33
    answer = slice(17, 33)

    def sample(self, n: int, *, generator: torch.Generator) -> Batch:
        tokens: Int[Tensor, "batch pos"] = torch.randint(17, (n, 33), generator=generator)
        return Batch(tokens, tokens[:, 1:])


@dataclass(frozen=True)
class LastIdTwice(PrefixSum):
    """Its separator, the last id, is also the first token of every sequence."""

    name = "last-id-twice"

    def sample(self, n: int, *, generator: torch.Generator) -> Batch:
        batch = PrefixSum().sample(n, generator=generator)
        tokens = batch.tokens.clone()
        tokens[:, 0] = tokens[:, self.answer.start - 1]
        return Batch(tokens, batch.labels)


@dataclass(frozen=True)
class Rare(Task):
    """Numbers below 5, reversed after the separator 5; one sequence in so many is odd in a way of its own."""

    odd: str = "token"
    every: int = 2000
    d_vocab: int = 6

    name = "rare"
    n_pos = 5
    answer = slice(3, 5)

    def sample(self, n: int, *, generator: torch.Generator) -> Batch:
        numbers = torch.randint(5, (n, 2), generator=generator)
        tokens = torch.cat([numbers, torch.full((n, 1), 5), numbers.flip(1)], dim=1)
        labels = tokens[:, 1:].clone()
        labels[:, :2] = IGNORE
        if self.odd == "foretold":
            labels[:, 1] = 5
        for row in range(self.every - 1, n, self.every):
            match self.odd:
                case "token":
                    tokens[row, 4] = labels[row, 3] = 5
                case "label":
                    labels[row, 2] = 5
                case "separator":
                    tokens[row, 2] = 4
                case "scored":
                    labels[row, 0] = tokens[row, 1]
                case "foretold":
                    labels[row, 1] = 4
        return Batch(tokens, labels)

    def corrupt(self, batch: Batch, *, generator: torch.Generator) -> Batch:
        assert set(batch.labels[:, 1].tolist()) <= {IGNORE, 5}
        tokens = batch.tokens.clone()
        tokens[:, 0] = 5 if self.every == 1999 else 0
        return Batch(tokens, batch.labels)


@pytest.mark.parametrize(
    ("shares", "n", "counts"),
    [
        (None, 128, [42, 42, 44]),
        (None, 64, [21, 21, 22]),
        ((1.0, 1.0, 0.0), 128, [64, 64, 0]),
        ((1.0, 0.0, 0.0), 128, [128, 0, 0]),
        ((0.0, 0.0, 1.0), 128, [0, 0, 128]),
        ((0.0, 1.0, 1.0), 7, [0, 3, 4]),
        ((0.29, 0.0, 0.71), 100, [29, 0, 71]),
        (None, 2, [0, 0, 2]),
    ],
)
def test_each_task_gets_its_share(shares, n, counts):
    task = Mixture(shares=shares)
    assert task.counts(n) == counts
    batch = task.sample(n, generator=generator())
    assert torch.bincount(batch.tokens[:, 16], minlength=20).tolist() == [0] * 17 + counts
    drawn = {
        name: count for name, count, share in zip(task.group_names, counts, shares or (1,) * 3, strict=True) if share
    }
    assert {name: int(mask.sum()) for name, mask in task.groups(batch).items()} == drawn


def test_the_second_paper_s_vocabulary():
    assert (Mixture().first_separator, Mixture().d_vocab, Mixture().separator_position) == (17, 20, 16)
    assert Mixture(shares=(1.0, 0.0, 0.0)).d_vocab == 20
    four = Mixture((*Mixture().tasks, MovingWindowQuotient()))
    assert (four.first_separator, four.d_vocab) == (17, 21)


@given(st.integers(1, 6), st.integers(0, 100), st.integers(0, 2**32))
def test_samples_are_what_plain_loops_say(k, n, seed):
    task = Mixture((MovingWindowSum(k=k, scored="answer"), MovingWindowDifference(k=k), MovingWindowProduct(k=k)))
    batch = task.sample(n, generator=generator(seed))
    assert (batch.labels[:, :16] == IGNORE).all()
    assert torch.equal(batch.labels[:, 16:], batch.tokens[:, 17:])
    found = Counter()
    for sequence in batch.tokens.tolist():
        index = sequence[16] - 17
        found[index] += 1
        edge = "copy" if index == 0 else "partial"
        expected = moving_window(sequence[:16], operation=OPERATIONS[index], k=k, p=17, edge=edge)
        assert sequence[17:] == expected
    assert [found[i] for i in range(3)] == task.counts(n)


def test_rows_are_shuffled():
    task = Mixture()
    orders = [task.task_index(task.sample(128, generator=generator(seed)).tokens).tolist() for seed in range(3)]
    assert all(order != sorted(order) for order in orders)
    assert orders[0] != orders[1] != orders[2]


def test_a_scored_prompt_foretells_the_separator_of_the_mixture():
    task = Mixture((MovingWindowSum(), PrefixSum()))
    batch = task.sample(10, generator=generator())
    assert torch.equal(batch.labels, batch.tokens[:, 1:])
    assert task.levels.plateau is None
    assert task.levels.floor is None


def test_a_prompt_of_one_number_foretells_it_too():
    task = Mixture((MovingWindowSum(n=1, k=1), PrefixSum(n=1)))
    batch = task.sample(10, generator=generator())
    assert batch.tokens[:, 1].unique().tolist() == [task.first_separator, task.first_separator + 1]
    assert torch.equal(batch.labels, batch.tokens[:, 1:])


def test_separators_are_ids_that_no_task_uses():
    assert Mixture((Copy(), Reverse())).first_separator == 17  # 0 stays unused: it is not the last id
    assert Mixture((PrefixSum(),)).first_separator == PrefixSum().d_vocab - 1 == 17
    assert Mixture((LastIdTwice(),)).first_separator == 18  # the last id is a token, too
    assert Mixture((Histogram(), MovingWindowSum(p=23))).first_separator == 23
    assert Mixture((MovingWindowSum(p=11, high=30), PrefixSum())).first_separator == 31


def test_each_sequence_has_the_targets_of_its_task():
    task = Mixture((MovingWindowSum(k=2), MovingWindowProduct(k=5), PrefixSum()))
    batch = task.sample(12, generator=generator())
    (target,) = task.optimal_attention(batch)
    for row, index in enumerate(task.task_index(batch.tokens).tolist()):
        (expected,) = task.tasks[index].optimal_attention(batch)
        assert torch.equal(target[row], expected[0])


def test_one_map_where_all_tasks_have_the_same():
    task = Mixture()
    (target,) = task.optimal_attention(task.sample(12, generator=generator()))
    (expected,) = MovingWindowSum().optimal_attention(MovingWindowSum().sample(1, generator=generator()))
    assert torch.equal(target, expected)


def test_maps_that_depend_on_the_tokens_stay_with_their_sequence():
    task = Mixture((Permutation(n=4), Permutation(n=4, n_symbols=16, compose=1)))
    batch = task.sample(6, generator=generator())
    first, second = task.optimal_attention(batch)
    expected = Permutation(n=4).optimal_attention(batch)
    assert torch.equal(first, expected[0])
    assert torch.equal(second, expected[1])


def test_no_map_where_one_task_has_none():
    task = Mixture((Histogram(), Copy()))
    assert task.optimal_attention(task.sample(4, generator=generator())) == [None, None]


def test_the_separator_s_share_of_attention():
    task = Mixture()
    rows = answer_rows(task)
    pattern = torch.zeros(1, 1, 32, 32)
    pattern[0, 0, rows, 16] = 3.0
    pattern[0, 0, rows, 0] = 1.0
    separator = task.separator_map()[:, rows]
    assert attention_progress(pattern[:, :, rows], separator).tolist() == [0.75]
    (target,) = task.optimal_attention(task.sample(1, generator=generator()))
    without = pattern[:, :, rows] * ~separator
    assert attention_progress(without, target[:, rows]).tolist() == [2 / 16]  # rows 0 and 1 read input 0


def test_levels_are_the_weighted_means():
    task = Mixture()
    assert task.levels.initial == pytest.approx(math.log(20))
    assert task.levels.plateau == pytest.approx((2 * 2.6560 + 2.5993) / 3, abs=1e-4)
    assert task.levels.floor == 0
    assert Mixture(shares=(0.0, 1.0, 3.0)).levels.plateau == pytest.approx((2.6560 + 3 * 2.5993) / 4, abs=1e-4)
    unknown = Mixture((MovingWindowProduct(), Copy(scored="answer")))
    assert unknown.levels.plateau is None
    assert unknown.levels.floor == 0
    assert replace(unknown, shares=(1.0, 0.0)).levels.plateau == pytest.approx(2.5993, abs=1e-4)


def test_partial_solution_and_pairs_are_common_to_all():
    assert Mixture().partial_solution == (0,)
    assert Mixture().cosine_pairs().sum() == 105
    mixed = Mixture((MovingWindowSum(k=3), Copy(), PrefixSum()))
    assert mixed.partial_solution == ()
    assert replace(mixed, shares=(1.0, 0.0, 1.0)).partial_solution == (0,)
    assert mixed.cosine_pairs().sum() == 105


def test_training_is_as_the_most_demanding_task_needs_it():
    assert Mixture().defaults == Defaults(steps=1000, batch_size=128)
    two_layers = Mixture((Histogram(), Copy(), MovingWindowSum())).defaults
    assert two_layers == Defaults(steps=5000, n_layers=2, batch_size=128, grad_clip=1.0)


def test_group_names_are_unique():
    assert Mixture().group_names == ("moving-window-sum", "moving-window-difference", "moving-window-product")
    twice = Mixture((MovingWindowSum(), MovingWindowSum(k=4), Copy()))
    assert twice.group_names == ("moving-window-sum-0", "moving-window-sum-1", "copy")


def test_text_is_the_task_s_own():
    task = Mixture((MovingWindowSum(n=2), Copy(n=2, high=5)))
    assert task.first_separator == 17
    assert task.tokens_to_text(torch.tensor([3, 1, 17, 3, 4])) == ["3", "1", "|0", "3", "4"]
    assert task.tokens_to_text(torch.tensor([3, 1, 18, 3, 0])) == ["3", "1", "|1", "3", "|"]
    assert task.tokens_to_text(torch.tensor([3, 1])) == ["3", "1"]
    assert task.tokens_to_text(torch.tensor([3, 1, 4])) == ["3", "1", "4"]


def test_a_task_alone_is_itself():
    batch = Mixture((PrefixSum(),)).sample(5, generator=generator())
    assert Mixture((PrefixSum(),)).d_vocab == 18
    assert batch.tokens.tolist() == sorted_like(PrefixSum().sample(5, generator=generator()).tokens, batch.tokens)


def sorted_like(rows: Tensor, order: Tensor) -> list[list[int]]:
    """The same rows, in the other's order; fails if they are not the same."""
    assert sorted(rows.tolist()) == sorted(order.tolist())
    return order.tolist()


@dataclass(frozen=True)
class Smoothed(Copy):
    name = "smoothed"

    def loss(self, output, batch):
        return super().loss(output, batch) / 2


@pytest.mark.parametrize(
    ("tasks", "shares", "text"),
    [
        ((), None, "tasks must hold at least one task; got none"),
        (
            (MovingWindowSum(), Copy(n=4)),
            None,
            "tasks must have their answers at the same positions: 17 to 32 of 33 in moving-window-sum; "
            "got 5 to 8 of 9 in copy",
        ),
        (
            (MovingWindowSum(), ConcatenatedWindows()),
            None,
            "tasks must have their answers at the same positions: 17 to 32 of 33 in moving-window-sum; "
            "got 17 to 29 of 30 in concatenated-windows",
        ),
        ((Copy(), Reverse()), (1.0,), "shares must hold one number a task, 2; got 1"),
        ((Copy(), Reverse()), (1.0, -1.0), "shares must be at least 0 and not all 0; got (1.0, -1.0)"),
        ((Copy(), Reverse()), (0.0, 0.0), "shares must be at least 0 and not all 0; got (0.0, 0.0)"),
        ((Copy(), Reverse()), (1.0, math.nan), "shares must be at least 0 and not all 0; got (1.0, nan)"),
        ((Copy(), Smoothed()), None, "tasks must have the usual loss, cross-entropy; Smoothed has its own"),
        ((Copy(), Unseparated()), None, "tasks must end their prompts with a separator; in unseparated it varies"),
    ],
)
def test_what_does_not_fit_together_is_refused(tasks, shares, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        Mixture(tasks, shares)


TASKS = "tasks must be as their first 1024 sequences are; rare has drawn"


@pytest.mark.parametrize(
    ("odd", "text"),
    [
        ("token", "the id 5, but separators have those from 5 on: make d_vocab larger"),
        ("label", "the id 5, but separators have those from 5 on: make d_vocab larger"),
        ("separator", "the id 4 at the end of a prompt, which is the separator 5 otherwise"),
        ("foretold", "the label 4 for the end of a prompt, which is the separator 5"),
        ("scored", "a prompt that is scored"),
    ],
)
def test_what_first_sequences_do_not_tell_is_refused_when_it_is_drawn(odd: str, text: str) -> None:
    task = Mixture((Copy(n=2, high=4, scored="answer"), Rare(odd)))
    assert task.first_separator == 5
    task.sample(3998, generator=generator())
    with pytest.raises(ValueError, match=f"^{re.escape(f'{TASKS} {text}')}$"):
        task.sample(4000, generator=generator())


def test_what_a_larger_vocabulary_leaves_free_is_drawn() -> None:
    task = Mixture((Rare(d_vocab=7), Copy(n=2, high=4)))
    assert task.first_separator == 7
    assert int((task.sample(4000, generator=generator()).tokens == 5).sum()) == 1


def test_a_corrupted_sequence_with_a_separators_id_is_refused_and_a_task_gets_labels_of_its_own() -> None:
    for every in (2000, 1999):
        task = Mixture((Rare(every=every), Rare("foretold", every)))
        batch = task.sample(8, generator=generator())
        if every == 2000:
            other = task.corrupt(batch, generator=generator())
            assert torch.equal(other.labels, batch.labels)
            assert torch.equal(other.tokens[:, 1:], batch.tokens[:, 1:])
            continue
        with pytest.raises(ValueError, match=r"^tasks must be as their first .* rare has drawn the id 5, but"):
            task.corrupt(batch, generator=generator())


@pytest.mark.parametrize("odd", ["token", "label"])
def test_what_a_thousand_sequences_tell_is_known_from_the_beginning(odd: str) -> None:
    assert Mixture((Rare(odd, every=500),)).first_separator == 6
    assert Mixture((Rare("scored", every=500),)).levels.floor is None
    with pytest.raises(ValueError, match=r"^tasks must end their prompts with a separator; in rare it varies$"):
        Mixture((Rare("separator", every=500),))
    with pytest.raises(ValueError, match=f"^{TASKS} the label 4 for the end of a prompt"):
        Mixture((Rare("foretold", every=500),))


def facts(task: Task, n: int) -> tuple[Tensor, bool, bool]:
    """Separator, whether it frees the last id, and whether prompts are scored, as ``n`` sequences tell: until this
    was a thousand, 32 of them told it, and no label was asked."""
    batch, at = task.sample(n, generator=generator()), task.answer.start - 1
    elsewhere, last = torch.arange(task.n_pos) != at, task.d_vocab - 1
    frees = bool((batch.tokens[:, at] == last).all() and (batch.tokens[:, elsewhere] < last).all())
    return batch.tokens[:, at].unique(), frees, bool((batch.labels[:, :at] != IGNORE).any())


OWN = [
    *(Copy(), Copy(scored="answer"), Copy(n=4, high=5), Reverse(), Repeat(), ConcatenatedWindows(), Histogram()),
    *(MultiDigitAddition(), ModularArithmetic(), ModularArithmetic(operations=("add", "divide")), WrittenCompletion()),
    *(
        MovingWindowSum(),
        MovingWindowSum(k=5, scored="answer"),
        MovingWindowSum(p=11, high=30),
        MovingWindowDifference(),
    ),
    *(MovingWindowProduct(), MovingWindowQuotient(), PrefixSum(), PrefixSum(scored="answer"), PrefixSum(p=97)),
    *(Permutation(), Permutation(n=4, n_symbols=16, compose=1), MovingWindowSum(n=64, k=3, p=101)),
]


@pytest.mark.parametrize("task", OWN, ids=str)
def test_a_thousand_sequences_of_the_suites_own_tasks_tell_what_32_told(task: Task) -> None:
    separator, frees_last, is_scored = facts(task, 32)
    assert len(separator) == 1
    mixed = Mixture((task,))
    assert mixed.first_separator == task.d_vocab - frees_last
    assert mixed.levels.floor == (None if is_scored else task.levels.floor)
    assert [facts(task, 1024)[i] for i in (1, 2)] == [frees_last, is_scored]
    mixed.sample(5000, generator=generator(1))


@dataclass(frozen=True)
class Kinds(Copy):
    """Copies whose answers are of two kinds; an id that it does not have is refused."""

    shared: bool = True

    name = "kinds"

    def answer_kinds(self, batch: Batch) -> dict[str, Tensor]:
        assert int(batch.tokens.max()) < self.d_vocab
        assert torch.equal(batch.labels, batch.tokens[:, 1:])
        low = batch.tokens[:, self.answer] < 3
        return {"low": low, "high": ~low} if self.shared else {"small": low}


def test_answers_are_of_the_kinds_that_each_task_alone_has():
    task = Mixture((Kinds(n=4, high=5), Copy(n=4, high=16), Kinds(n=4, high=9, shared=False)))
    batch = task.sample(30, generator=generator())
    kinds = task.answer_kinds(batch)
    assert [*kinds] == ["low", "high", "small"]
    index, low = task.task_index(batch.tokens), batch.tokens[:, task.answer] < 3
    assert torch.equal(kinds["low"], low & (index == 0)[:, None])
    assert torch.equal(kinds["high"], ~low & (index == 0)[:, None])
    assert torch.equal(kinds["small"], low & (index == 2)[:, None])


def test_kinds_of_one_name_are_told_apart_by_their_group_and_what_is_never_drawn_has_none():
    tasks = (Kinds(n=4, high=5), Kinds(n=4, high=9), Kinds(n=4, high=9, shared=False))
    task = Mixture(tasks, shares=(1, 1, 0))
    kinds = task.answer_kinds(task.sample(30, generator=generator()))
    assert [*kinds] == ["low-kinds-0", "high-kinds-0", "low-kinds-1", "high-kinds-1"]
    assert Mixture().answer_kinds(Mixture().sample(3, generator=generator())) == {}
