"""plateau_interp.tasks.permutation against plain loops, enumeration and the paper's worked example."""

import itertools
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference.tasks import determines, every_permutation, permutation_sequence

from plateau_interp.tasks import Permutation
from plateau_interp.types import Batch, answer_rows


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@st.composite
def any_task(draw: st.DrawFn) -> Permutation:
    return Permutation(n=draw(st.integers(1, 10)), n_symbols=draw(st.integers(1, 20)), compose=draw(st.integers(1, 5)))


def batch_of(sequences: list[list[int]]) -> Batch:
    tokens = torch.tensor(sequences)
    return Batch(tokens, tokens[:, 1:])


def test_the_paper_s_example():
    inputs = [28, 21, 18, 23, 31, 25, 30, 18, 24, 25, 23, 27, 20, 25, 32, 28]
    places = [place - 1 for place in [15, 9, 3, 16, 8, 7, 13, 11, 4, 14, 6, 2, 12, 5, 1, 10]]
    answers = [32, 24, 18, 28, 18, 30, 20, 23, 23, 25, 25, 21, 27, 31, 28, 25]
    task = Permutation()
    assert task.solve(torch.tensor([inputs]), torch.tensor([places])).tolist() == [answers]
    sequence = permutation_sequence(inputs, places, compose=1)
    assert sequence[task.answer] == answers
    assert (task.d_vocab, task.n_pos, task.answer.start) == (33, 50, 34)
    text = task.tokens_to_text(torch.tensor(sequence))
    assert [i for i, word in enumerate(text) if word == "|"] == [16, 33]
    assert text[17] == "15"


@given(any_task(), st.integers(0, 2**32))
def test_samples_are_what_plain_loops_say(task, seed):
    n = task.n
    for sequence in task.sample(20, generator=generator(seed)).tokens.tolist():
        inputs, places = sequence[:n], [token - 1 for token in sequence[n + 1 : 2 * n + 1]]
        assert all(n < token < task.d_vocab for token in inputs)
        assert sorted(places) == list(range(n))
        assert sequence == permutation_sequence(inputs, places, compose=task.compose)


def test_permutations_are_uniform():
    tokens = Permutation(n=4, n_symbols=1).sample(24_000, generator=generator()).tokens[:, 5:9]
    found, counts = tokens.unique(dim=0, return_counts=True)
    assert found.tolist() == [list(order) for order in itertools.permutations(range(1, 5))]
    chi_squared = ((counts - 1000) ** 2 / 1000).sum().item()
    assert chi_squared < 23 + 5 * 46**0.5  # 23 degrees of freedom: mean 23, variance 46


def test_the_paper_s_targets():
    task = Permutation()
    batch = task.sample(3, generator=generator())
    first, second = task.optimal_attention(batch)
    assert first.nonzero().tolist() == [[0, 33 + i, 17 + i] for i in range(16)]
    places = (batch.tokens[:, 17:33] - 1).tolist()
    expected = {(row, 33 + i, places[row][i]) for row in range(3) for i in range(16)}
    assert {tuple(cell) for cell in second.nonzero().tolist()} == expected

    first, second = task.alternative_attention(batch)
    expected = {(row, 17 + i, places[row][i]) for row in range(3) for i in range(16)}
    assert {tuple(cell) for cell in first.nonzero().tolist()} == expected
    assert second.nonzero().tolist() == [[0, 33 + i, 17 + i] for i in range(16)]


@pytest.mark.parametrize("route", ["optimal_attention", "alternative_attention"])
def test_two_reads_along_the_targets_copy_the_answer(route):
    """What each position holds after the two layers, if every layer moves what its target holds."""
    task = Permutation(n=3, n_symbols=2)
    sequences = every_permutation(n=3, n_symbols=2, compose=1)
    first, second = (target.expand(len(sequences), -1, -1) for target in getattr(task, route)(batch_of(sequences)))
    for i, sequence in enumerate(sequences):
        for query in range(task.n_pos - 1)[answer_rows(task)]:
            (key,) = second[i, query].nonzero().flatten().tolist()
            if route == "alternative_attention":
                (key,) = first[i, key].nonzero().flatten().tolist()  # what layer 1 brought to the key
            else:
                (pointer,) = first[i, query].nonzero().flatten().tolist()
                assert key == sequence[pointer] - 1  # where layer 1 says that layer 2 must look
            assert sequence[key] == sequence[query + 1]


def test_without_the_pointer_or_without_the_input_the_answer_is_open():
    n = 3
    sequences = every_permutation(n=n, n_symbols=2, compose=1)
    inputs, pointers = set(range(n)), set(range(n + 1, 2 * n + 1))
    for i in range(n):
        answer, pointer = 2 * n + 2 + i, n + 1 + i
        assert determines(sequences, answer, inputs | {pointer})
        assert not determines(sequences, answer, inputs | pointers - {pointer, n + 1 + (i + 1) % n})
        for source in range(n):
            here = [sequence for sequence in sequences if sequence[pointer] == source + 1]
            assert determines(here, answer, {source})
            assert not determines(here, answer, (inputs | pointers) - {source})


def test_no_targets_are_published_for_powers():
    task = Permutation(compose=2)
    assert task.optimal_attention(task.sample(1, generator=generator())) == [None, None]
    with pytest.raises(ValueError, match=r"^alternative_attention is known for compose=1 only; got 2$"):
        task.alternative_attention(task.sample(1, generator=generator()))


def test_the_paper_s_levels():
    task = Permutation()
    assert task.levels.floor == pytest.approx(1.475, abs=5e-4)
    assert task.levels.plateau is None
    assert task.partial_solution == ()
    labels = task.sample(20_000, generator=generator()).labels
    frequency = torch.stack([(labels == token).double().mean(dim=0) for token in range(task.d_vocab)])
    assert torch.special.entr(frequency).sum(dim=0).mean().item() == pytest.approx(2.659, abs=2e-3)


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        ({"n": 0}, "n must be at least 1; got 0"),
        ({"n_symbols": 0}, "n_symbols must be at least 1; got 0"),
        ({"compose": 0}, "compose must be at least 1; got 0"),
    ],
)
def test_bad_sizes_are_refused(sizes, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        Permutation(**sizes)
