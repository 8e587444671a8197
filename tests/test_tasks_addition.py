"""plateau_interp.tasks.addition against plain loops, enumeration and the paper's worked example."""

import re
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference.tasks import addition_sequence, every_addition

from plateau_interp.tasks import MultiDigitAddition
from plateau_interp.types import answer_rows


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def number(digits: list[int], *, base: int) -> int:
    value = 0
    for digit in digits:
        value = value * base + digit
    return value


@st.composite
def any_task(draw: st.DrawFn) -> MultiDigitAddition:
    base = draw(st.integers(2, 40))
    return MultiDigitAddition(n=draw(st.integers(1, 11)), base=base)


def test_the_paper_s_example():
    task = MultiDigitAddition()
    sequence = [4, 2, 0, 2, 10, 0, 2, 1, 7, 11, 9, 1, 4, 4, 0]
    assert addition_sequence(4202, 217, n=4, base=10) == sequence
    a, b = torch.tensor([sequence[:4]]), torch.tensor([sequence[5:9]])
    assert task.solve(a, b).tolist() == [sequence[10:]]
    assert (task.plus, task.separator, task.d_vocab, task.n_pos) == (10, 11, 12, 15)
    assert " ".join(task.tokens_to_text(torch.tensor(sequence))) == "4 2 0 2 + 0 2 1 7 = 9 1 4 4 0"


@given(any_task(), st.integers(0, 2**32))
def test_samples_are_what_plain_loops_say(task, seed):
    n, base = task.n, task.base
    for sequence in task.sample(20, generator=generator(seed)).tokens.tolist():
        a, b = number(sequence[:n], base=base), number(sequence[n + 1 : 2 * n + 1], base=base)
        assert a > 0
        assert b > 0
        assert sequence == addition_sequence(a, b, n=n, base=base)
        assert sequence[task.answer] == sequence[2 * n + 2 :]


def test_the_largest_numbers_do_not_overflow():
    task = MultiDigitAddition(n=62, base=2)
    ones = torch.ones(1, 62, dtype=torch.int64)
    assert task.solve(ones, ones).tolist() == [[0] + [1] * 62]
    task = MultiDigitAddition(n=18)
    nines = torch.full((1, 18), 9)
    assert task.solve(nines, nines).tolist() == [[8] + [9] * 17 + [1]]


def test_pairs_of_summands_are_uniform():
    task = MultiDigitAddition(n=2, base=3)
    drawn = Counter(tuple(row) for row in task.sample(64_000, generator=generator()).tokens.tolist())
    assert set(drawn) == {tuple(sequence) for sequence in every_addition(n=2, base=3)}
    chi_squared = sum((count - 1000) ** 2 / 1000 for count in drawn.values())
    assert chi_squared < 63 + 5 * 126**0.5  # 63 degrees of freedom: mean 63, variance 126


def test_the_paper_s_targets():
    task = MultiDigitAddition()
    (target,) = task.optimal_attention(task.sample(1, generator=generator()))
    keys = [row.nonzero().flatten().tolist() for row in target[0, answer_rows(task)]]
    assert keys == [[3, 8], [2, 3, 7, 8], [1, 2, 6, 7], [0, 1, 5, 6], [0, 5]]
    assert target.sum() == 16


def test_cosine_pairs_leave_the_carry_out():
    assert MultiDigitAddition().cosine_pairs().nonzero().tolist() == [[1, 0], [2, 0], [2, 1], [3, 0], [3, 1], [3, 2]]


def test_the_paper_s_levels():
    levels = MultiDigitAddition().levels
    assert levels.floor == pytest.approx(1.1513, abs=1e-4)
    assert levels.plateau == pytest.approx(1.809, abs=5e-4)
    assert MultiDigitAddition().partial_solution == (4,)


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        ({"n": 0}, "n must be at least 1; got 0"),
        ({"base": 1}, "base must be at least 2; got 1"),
        ({"n": 19}, "n must be at most 18 in base 10, so that sums fit 64 bits; got 19"),
        ({"n": 63, "base": 2}, "n must be at most 62 in base 2, so that sums fit 64 bits; got 63"),
        ({"n": 2, "base": 2**40}, f"n must be at most 1 in base {2**40}, so that sums fit 64 bits; got 2"),
    ],
)
def test_bad_sizes_are_refused(sizes, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        MultiDigitAddition(**sizes)
