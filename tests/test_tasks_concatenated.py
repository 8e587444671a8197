"""plateau_interp.tasks.concatenated against plain loops and the paper's four mixes."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference.tasks import concatenated_targets, concatenated_windows

from plateau_interp.tasks import ConcatenatedWindows
from plateau_interp.types import answer_rows

MIXES = {
    "123_disjoint_454": ConcatenatedWindows(),
    "124_stair_653": ConcatenatedWindows(windows=(1, 2, 4), lengths=(6, 5, 3), arrangement="stair"),
    "124_disjoint_444": ConcatenatedWindows(windows=(1, 2, 4), lengths=(4, 4, 4)),
    "124_disjoint_453": ConcatenatedWindows(windows=(1, 2, 4), lengths=(4, 5, 3)),
}
WINDOWS = {
    "123_disjoint_454": {1: range(4), 2: range(4, 9), 3: range(10, 14)},
    "124_stair_653": {1: range(6), 2: range(5), 4: range(3)},
    "124_disjoint_444": {1: range(4), 2: range(4, 8), 4: range(9, 13)},
    "124_disjoint_453": {1: range(4), 2: range(4, 9), 4: range(10, 13)},
}
"""The paper's table: for each window the first inputs of its sums."""


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@st.composite
def any_task(draw: st.DrawFn) -> ConcatenatedWindows:
    segments = draw(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=4))
    windows, lengths = (tuple(sizes) for sizes in zip(*segments, strict=True))
    arrangement = draw(st.sampled_from(["disjoint", "stair"]))
    needed = 1 + max(max(keys) for keys in concatenated_targets(windows, lengths, arrangement))
    low = draw(st.integers(0, 6))
    return ConcatenatedWindows(
        n=needed + draw(st.integers(0, 3)),
        windows=windows,
        lengths=lengths,
        arrangement=arrangement,
        p=draw(st.integers(2, 20)),
        low=low,
        high=low + draw(st.integers(0, 25)),
    )


def test_the_paper_s_example():
    numbers = [3, 16, 5, 9, 1, 12, 7, 7, 14, 2, 10, 16, 4, 8, 11, 6]
    answers = [3, 16, 5, 9, 13, 2, 14, 4, 16, 13, 11, 6, 8]
    task = ConcatenatedWindows()
    assert task.solve(torch.tensor([numbers])).tolist() == [answers]
    assert (task.separator, task.d_vocab, task.n_pos) == (17, 18, 30)
    assert task.segments == (slice(0, 4), slice(4, 9), slice(9, 13))


@pytest.mark.parametrize("name", MIXES)
def test_the_paper_s_mixes(name):
    task = MIXES[name]
    expected = [list(range(j, j + window)) for window, firsts in WINDOWS[name].items() for j in firsts]
    assert concatenated_targets(task.windows, task.lengths, task.arrangement) == expected
    (target,) = task.optimal_attention(task.sample(1, generator=generator()))
    assert [row.nonzero().flatten().tolist() for row in target[0, answer_rows(task)]] == expected
    assert task.n_answers == {"123_disjoint_454": 13, "124_stair_653": 14}.get(name, 12)


def test_the_natural_targets_in_words():
    task = ConcatenatedWindows()
    (target,) = task.optimal_attention(task.sample(1, generator=generator()))
    rows = [row.nonzero().flatten().tolist() for row in target[0, 16:]]
    assert rows[:4] == [[r] for r in range(4)]
    assert rows[4:9] == [[r, r + 1] for r in range(4, 9)]
    assert rows[9:] == [[r + 1, r + 2, r + 3] for r in range(9, 13)]


@given(any_task(), st.integers(0, 2**32))
def test_samples_are_what_plain_loops_say(task, seed):
    sizes = {"windows": task.windows, "lengths": task.lengths, "arrangement": task.arrangement}
    batch = task.sample(20, generator=generator(seed))
    for sequence in batch.tokens.tolist():
        numbers, separator, answers = sequence[: task.n], sequence[task.n], sequence[task.n + 1 :]
        assert all(task.low <= number <= task.largest for number in numbers)
        assert separator == task.separator == max(task.p, task.largest + 1)
        assert answers == concatenated_windows(numbers, p=task.p, **sizes) == sequence[task.answer]
    (target,) = task.optimal_attention(batch)
    rows = [row.nonzero().flatten().tolist() for row in target[0, answer_rows(task)]]
    assert rows == concatenated_targets(**sizes)


def test_segment_cosine_pairs_are_the_paper_s():
    task = ConcatenatedWindows()
    by_segment = task.segment_cosine_pairs()
    assert [int(pairs.sum()) for pairs in by_segment] == [42, 30, 6]
    assert all((pairs.nonzero()[:, 0] > pairs.nonzero()[:, 1]).all() for pairs in by_segment)
    earlier = [pairs.nonzero()[:, 1].unique().tolist() for pairs in by_segment]
    assert earlier == [[0, 1, 2, 3], [4, 5, 6, 7, 8], [9, 10, 11]]
    assert torch.equal(torch.stack(by_segment).any(dim=0), task.cosine_pairs())


def test_the_paper_s_levels():
    assert ConcatenatedWindows().levels.floor == pytest.approx(1.434, abs=5e-4)
    assert ConcatenatedWindows().levels.plateau is None
    assert ConcatenatedWindows().partial_solution == ()


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        ({"n": 15}, "n must be at least 16, the inputs that the segments read; got 15"),
        ({"n": 5, "arrangement": "stair"}, "n must be at least 6, the inputs that the segments read; got 5"),
        ({"windows": ()}, "windows and lengths must have one number a segment; got 0 and 3"),
        ({"windows": (), "lengths": ()}, "windows and lengths must have one number a segment; got 0 and 0"),
        ({"lengths": (4, 5)}, "windows and lengths must have one number a segment; got 3 and 2"),
        ({"windows": (1, 0, 3)}, "windows[1] must be at least 1; got 0"),
        ({"lengths": (4, 5, 0)}, "lengths[2] must be at least 1; got 0"),
        ({"p": 1}, "p must be at least 2; got 1"),
    ],
)
def test_bad_sizes_are_refused(sizes, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        ConcatenatedWindows(**sizes)
