"""plateau_interp.tasks.copying against plain loops and the paper's worked examples."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference.tasks import repeat

from plateau_interp.tasks import Copy, Repeat, Reverse

SIZES = {"n": st.integers(1, 12), "high": st.integers(1, 25), "seed": st.integers(0, 2**32)}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@st.composite
def any_repeat(draw: st.DrawFn) -> Repeat:
    k, length, low = draw(st.integers(1, 5)), draw(st.integers(1, 4)), draw(st.integers(0, 6))
    n = k * length
    source = draw(st.integers(0, n - 1))
    return Repeat(n=n, k=k, source=source, p=draw(st.integers(2, 20)), low=low, high=low + draw(st.integers(0, 25)))


@given(**SIZES)
def test_copy_is_what_plain_loops_say(n, high, seed):
    for sequence in Copy(n=n, high=high).sample(20, generator=generator(seed)).tokens.tolist():
        assert all(1 <= number <= high for number in sequence[:n])
        assert sequence[n:] == [0, *sequence[:n]]


@given(**SIZES)
def test_reverse_is_what_plain_loops_say(n, high, seed):
    for sequence in Reverse(n=n, high=high).sample(20, generator=generator(seed)).tokens.tolist():
        assert all(1 <= number <= high for number in sequence[:n])
        assert sequence[n:] == [0, *reversed(sequence[:n])]


@given(any_repeat(), st.integers(0, 2**32))
def test_repeat_is_what_plain_loops_say(task, seed):
    for sequence in task.sample(20, generator=generator(seed)).tokens.tolist():
        numbers, separator, answers = sequence[: task.n], sequence[task.n], sequence[task.n + 1 :]
        assert all(task.low <= number <= task.largest for number in numbers)
        assert separator == task.separator == max(task.p, task.largest + 1)
        assert answers == repeat(numbers, k=task.k, p=task.p, source=task.source)


@pytest.mark.parametrize(
    ("k", "first", "answers"),
    [(2, 16, [16] * 8 + [0] * 8), (4, 15, [15] * 4 + [16] * 4 + [0] * 4 + [1] * 4), (1, 7, [7] * 16)],
)
def test_the_paper_s_repeats(k, first, answers):
    numbers = [first, *range(1, 16)]
    assert Repeat(k=k).solve(torch.tensor([numbers])).tolist() == [answers]
    assert repeat(numbers, k=k, p=17, source=0) == answers


def test_sixteen_numbers_again_and_backwards():
    numbers = [3, 16, 5, 9, 1, 12, 7, 7, 14, 2, 10, 16, 4, 8, 11, 6]
    assert Copy().solve(torch.tensor([numbers])).tolist() == [numbers]
    backwards = [6, 11, 8, 4, 16, 10, 2, 14, 7, 7, 12, 1, 9, 5, 16, 3]
    assert Reverse().solve(torch.tensor([numbers])).tolist() == [backwards]
    assert (Copy().separator, Copy().d_vocab, Copy().n_pos) == (0, 17, 33)


def test_the_paper_s_targets():
    def keys(task):
        (target,) = task.optimal_attention(task.sample(2, generator=generator()))
        assert not target[0, :16].any()
        return [row.nonzero().flatten().tolist() for row in target[0, 16:]]

    assert keys(Copy()) == [[r] for r in range(16)]
    assert keys(Reverse()) == [[15 - r] for r in range(16)]
    assert keys(Repeat(k=2)) == [[0]] * 16
    assert keys(Repeat(source=5)) == [[5]] * 16


def test_cosine_pairs_stay_in_one_block_of_a_repeat():
    assert Copy().cosine_pairs().sum() == Reverse().cosine_pairs().sum() == 120
    blocks = {1: [range(1, 16)], 2: [range(1, 8), range(9, 16)], 4: [range(i, i + 3) for i in (1, 5, 9, 13)]}
    for k, ranges in blocks.items():
        expected = {(i, j) for rows in ranges for i in rows for j in rows if i > j}
        assert {tuple(pair) for pair in Repeat(k=k).cosine_pairs().nonzero().tolist()} == expected
        assert len(expected) == {1: 105, 2: 42, 4: 12}[k]


@pytest.mark.parametrize("task", [Copy(), Reverse(), Repeat(k=2), Repeat(k=1)], ids=str)
def test_nothing_is_known_of_the_plateau(task):
    assert task.levels.floor == pytest.approx(1.2997, abs=1e-4)
    assert task.levels.plateau is None
    assert task.partial_solution == ()


@pytest.mark.parametrize(
    ("kind", "sizes", "text"),
    [
        (Copy, {"n": 0}, "n must be at least 1; got 0"),
        (Copy, {"high": 0}, "high must be at least 1; got 0"),
        (Reverse, {"high": 0}, "high must be at least 1; got 0"),
        (Repeat, {"k": 0}, "k must be at least 1; got 0"),
        (Repeat, {"k": 3}, "k must divide n=16; got 3"),
        (Repeat, {"k": 32}, "k must divide n=16; got 32"),
        (Repeat, {"source": 16}, "source must be between 0 and n - 1 = 15; got 16"),
        (Repeat, {"source": -1}, "source must be between 0 and n - 1 = 15; got -1"),
        (Repeat, {"p": 1}, "p must be at least 2; got 1"),
    ],
)
def test_bad_sizes_are_refused(kind, sizes, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        kind(**sizes)
