"""plateau_interp.tasks.histogram against plain loops, enumeration and the paper's worked example."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference.tasks import determines, every_sequence, histogram

from plateau_interp.tasks import Histogram


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_paper_s_example():
    numbers = [3, 12, 5, 9, 1, 12, 7, 7, 4, 2, 10, 6, 4, 8, 11, 6]
    answers = [1, 2, 1, 1, 1, 2, 2, 2, 2, 1, 1, 2, 2, 1, 1, 2]
    task = Histogram()
    assert task.solve(torch.tensor([numbers])).tolist() == [answers]
    assert histogram(numbers) == answers
    assert (task.separator, task.d_vocab, task.n_pos) == (0, 17, 33)
    assert task.tokens_to_text(torch.tensor([12, 0, 1])) == ["12", "|", "1"]


@given(st.integers(1, 14), st.integers(1, 20), st.integers(0, 2**32))
def test_samples_are_what_plain_loops_say(n, high, seed):
    task = Histogram(n=n, high=high)
    for sequence in task.sample(20, generator=generator(seed)).tokens.tolist():
        assert all(1 <= number <= high for number in sequence[:n])
        assert sequence[n:] == [0, *histogram(sequence[:n])]
        assert max(sequence) < task.d_vocab


def test_layer_1_reads_the_number_to_count():
    task = Histogram()
    first, second = task.optimal_attention(task.sample(1, generator=generator()))
    assert first[0].nonzero().tolist() == [[16 + r, r] for r in range(16)]
    assert second is None


def test_without_the_number_to_count_the_answer_is_open():
    n = 4
    sequences = every_sequence(range(1, 4), n, separator=0, answers=histogram)
    for r in range(n):
        assert determines(sequences, n + 1 + r, range(n))
        assert not determines(sequences, n + 1 + r, set(range(n)) - {r})


def test_all_pairs_count():
    assert Histogram().cosine_pairs().sum() == 120


def test_the_paper_s_levels():
    task = Histogram()
    assert task.levels.floor == pytest.approx(1.165, abs=5e-4)
    assert task.levels.plateau is None
    assert task.partial_solution == ()
    batch = task.sample(50_000, generator=generator())
    counts = torch.bincount(batch.tokens[:, task.answer].flatten()).double()
    law = counts / counts.sum()
    assert law[1:5].tolist() == pytest.approx([0.271, 0.370, 0.235, 0.093], abs=2e-3)
    answers = float(torch.special.entr(law).sum())
    assert task.levels.floor + answers / 2 == pytest.approx(1.869, abs=2e-3)  # half of the predictions are answers


@pytest.mark.parametrize(
    ("sizes", "text"),
    [({"n": 0}, "n must be at least 1; got 0"), ({"high": 0}, "high must be at least 1; got 0")],
)
def test_bad_sizes_are_refused(sizes, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        Histogram(**sizes)
