"""plateau_interp.tasks.prefix_sum against plain loops and the papers' worked examples."""

import itertools
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference.tasks import prefix_sum

from plateau_interp.tasks import PrefixSum


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@st.composite
def any_task(draw: st.DrawFn) -> PrefixSum:
    n, p, low = draw(st.integers(1, 9)), draw(st.integers(2, 20)), draw(st.integers(0, 6))
    if draw(st.booleans()):
        return PrefixSum(n=n, p=p, low=low, high=low + n - 1 + draw(st.integers(0, 5)), inputs="distinct")
    return PrefixSum(n=n, p=p, low=low, high=low + draw(st.integers(0, 25)))


@pytest.mark.parametrize(
    ("numbers", "answers"),
    [
        (
            [3, 16, 5, 9, 1, 12, 7, 7, 14, 2, 10, 16, 4, 8, 11, 6],
            [3, 2, 7, 16, 0, 12, 2, 9, 6, 8, 1, 0, 4, 12, 6, 12],
        ),
        (
            [3, 16, 7, 1, 12, 5, 5, 9, 14, 2, 8, 11, 4, 6, 10, 15],
            [3, 2, 9, 10, 5, 10, 15, 7, 4, 6, 14, 8, 12, 1, 11, 9],
        ),
    ],
)
def test_the_papers_examples(numbers, answers):
    assert PrefixSum().solve(torch.tensor([numbers])).tolist() == [answers]
    assert prefix_sum(numbers, p=17) == answers


@given(any_task(), st.integers(0, 2**32))
def test_samples_are_what_plain_loops_say(task, seed):
    for sequence in task.sample(20, generator=generator(seed)).tokens.tolist():
        numbers, separator, answers = sequence[: task.n], sequence[task.n], sequence[task.n + 1 :]
        assert all(task.low <= number <= task.largest for number in numbers)
        assert task.inputs == "independent" or len(set(numbers)) == task.n
        assert separator == task.separator == max(task.p, task.largest + 1)
        assert answers == prefix_sum(numbers, p=task.p) == sequence[task.answer]


def test_distinct_inputs_come_in_every_order_equally_often():
    task = PrefixSum(n=3, p=5, inputs="distinct")
    numbers = task.sample(24_000, generator=generator()).tokens[:, :3]
    found, counts = numbers.unique(dim=0, return_counts=True)
    assert found.tolist() == [list(order) for order in itertools.permutations(range(1, 5), 3)]
    chi_squared = ((counts - 1000) ** 2 / 1000).sum().item()
    assert chi_squared < 23 + 5 * 46**0.5  # 23 degrees of freedom: mean 23, variance 46


def test_all_distinct_numbers_add_up_to_0():
    assert (PrefixSum(inputs="distinct").sample(50, generator=generator()).tokens[:, -1] == 0).all()


def test_each_row_reads_an_input_and_the_answer_before():
    task = PrefixSum()
    (target,) = task.optimal_attention(task.sample(1, generator=generator()))
    expected = {(16, 0)} | {(16 + r, r) for r in range(1, 16)} | {(16 + r, 16 + r) for r in range(1, 16)}
    assert {tuple(pair) for pair in target[0].nonzero().tolist()} == expected
    assert len(expected) == 31


def test_cosine_pairs_leave_the_first_row_out():
    pairs = PrefixSum().cosine_pairs()
    assert {tuple(pair) for pair in pairs.nonzero().tolist()} == {(i, j) for i in range(16) for j in range(1, i)}


def test_the_papers_levels():
    assert PrefixSum().levels.floor == pytest.approx(1.2997, abs=1e-4)
    assert PrefixSum(scored="answer").levels.plateau == pytest.approx(2.656, abs=5e-4)
    assert PrefixSum().partial_solution == (0,)


def test_nothing_is_known_of_the_plateau_of_distinct_inputs():
    task = PrefixSum(inputs="distinct")
    assert task.levels.plateau is None
    assert task.partial_solution == ()


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        ({"n": 0}, "n must be at least 1; got 0"),
        ({"p": 1}, "p must be at least 2; got 1"),
        ({"low": 3, "high": 2}, "high must be at least low=3; got 2"),
        (
            {"n": 17, "inputs": "distinct"},
            "n must be at most 16, as many as there are distinct numbers 1..16; got 17",
        ),
    ],
)
def test_bad_sizes_are_refused(sizes, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        PrefixSum(**sizes)


def test_of_distinct_inputs_two_neighbours_change_places():
    task = PrefixSum(n=4, p=7, low=1, high=6, inputs="distinct")
    batch = task.sample(64, generator=generator())
    other = task.corrupt(batch, generator=generator(1))
    places = set()
    for before, after in zip(batch.tokens[:, :4].tolist(), other.tokens[:, :4].tolist(), strict=True):
        first, second = [place for place in range(4) if before[place] != after[place]]
        assert second == first + 1
        assert (before[first], before[second]) == (after[second], after[first])
        places.add(first)
    assert places == {0, 1, 2}
