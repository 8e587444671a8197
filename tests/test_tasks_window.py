"""plateau_interp.tasks.window against plain loops, enumeration and the paper's worked example."""

import math
import random
import re
from importlib.metadata import entry_points

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference.tasks import (
    conditional_entropy,
    every_window_sequence,
    marginal_entropy,
    moving_window_sum,
    moving_window_targets,
)

from plateau_interp.tasks import MovingWindowSum
from plateau_interp.types import answer_rows


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@st.composite
def any_task(draw: st.DrawFn) -> MovingWindowSum:
    n, p, low = draw(st.integers(1, 9)), draw(st.integers(2, 20)), draw(st.integers(0, 6))
    highs = st.integers(low, low + 25)
    return MovingWindowSum(
        n=n,
        k=draw(st.integers(1, n)),
        p=p,
        low=low,
        high=draw(highs if low >= p else st.none() | highs),
    )


def test_the_paper_s_example():
    numbers = [3, 16, 5, 9, 1, 12, 7, 7, 14, 2, 10, 16, 4, 8, 11, 6]
    answers = [3, 2, 4, 14, 10, 13, 2, 14, 4, 16, 12, 9, 3, 12, 2, 0]
    task = MovingWindowSum()
    assert task.solve(torch.tensor([numbers])).tolist() == [answers]
    assert moving_window_sum(numbers, k=2, p=17) == answers
    assert (task.separator, task.d_vocab, task.n_pos) == (17, 18, 33)
    text = task.tokens_to_text(torch.tensor([*numbers, 17, *answers]))
    assert text[:3] == ["3", "16", "5"]
    assert text[16] == "|"
    assert "|" not in text[:16] + text[17:]
    assert MovingWindowSum(p=23).tokens_to_text(torch.tensor([17, 22, 23])) == ["17", "22", "|"]


def test_a_window_of_three():
    numbers = [3, 16, 5, 9, 1, 12]
    assert MovingWindowSum(n=6, k=3).solve(torch.tensor([numbers])).tolist() == [[3, 16, 7, 13, 15, 5]]


@given(any_task(), st.integers(0, 2**32))
def test_samples_are_what_plain_loops_say(task, seed):
    batch = task.sample(5, generator=generator(seed))
    assert batch.tokens.dtype == torch.int64
    assert batch.tokens.shape == (5, task.n_pos)
    assert torch.equal(batch.labels, batch.tokens[:, 1:])
    highest = task.p - 1 if task.high is None else task.high
    for sequence in batch.tokens.tolist():
        numbers, separator, answers = sequence[: task.n], sequence[task.n], sequence[task.n + 1 :]
        assert all(task.low <= number <= highest for number in numbers)
        assert separator == task.separator
        assert answers == moving_window_sum(numbers, k=task.k, p=task.p)
        assert sequence[task.answer] == answers


@given(any_task())
def test_the_separator_is_the_last_id_and_no_number(task):
    largest_answer = max(task.p - 1, task.largest)
    assert task.separator == largest_answer + 1 == task.d_vocab - 1
    assert answer_rows(task) == slice(task.n, 2 * task.n)


def test_inputs_are_uniform_and_independent():
    task = MovingWindowSum(n=3, p=5, low=2, high=6)
    numbers = task.sample(50_000, generator=generator()).tokens[:, :3]
    triples, counts = numbers.unique(dim=0, return_counts=True)
    assert len(triples) == 5**3
    expected = 50_000 / 5**3
    chi_squared = ((counts - expected) ** 2 / expected).sum().item()
    assert chi_squared < 124 + 5 * math.sqrt(2 * 124)  # 124 degrees of freedom: mean 124, variance 248


def test_the_generator_alone_decides():
    task = MovingWindowSum()
    torch_state, numpy_state, python_state = torch.get_rng_state(), np.random.get_state(), random.getstate()
    first = task.sample(4, generator=generator(1))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert str(np.random.get_state()) == str(numpy_state)
    assert random.getstate() == python_state
    torch.rand(3)
    assert torch.equal(task.sample(4, generator=generator(1)).tokens, first.tokens)
    assert not torch.equal(task.sample(4, generator=generator(2)).tokens, first.tokens)
    one = generator(1)
    task.sample(4, generator=one)
    assert not torch.equal(task.sample(4, generator=one).tokens, first.tokens)


@given(any_task())
def test_optimal_attention_is_the_window(task):
    batch = task.sample(2, generator=generator())
    (target,) = task.optimal_attention(batch)
    assert target.shape == (1, 2 * task.n, 2 * task.n)
    assert target.dtype == torch.bool
    assert {tuple(pair) for pair in target[0].nonzero().tolist()} == moving_window_targets(n=task.n, k=task.k)


def test_optimal_attention_of_the_defaults():
    (target,) = MovingWindowSum().optimal_attention(MovingWindowSum().sample(1, generator=generator()))
    assert target.sum() == 31
    assert target[0, 16].nonzero().flatten().tolist() == [0]
    assert target[0, 17].nonzero().flatten().tolist() == [0, 1]
    assert target[0, 31].nonzero().flatten().tolist() == [14, 15]
    assert not target[0, :16].any()


@given(any_task(), st.integers(0, 2**32))
def test_an_answer_depends_on_exactly_its_targets(task, seed):
    (target,) = task.optimal_attention(task.sample(1, generator=generator()))
    numbers = task.sample(1, generator=generator(seed)).tokens[:, : task.n]
    before = task.solve(numbers)
    for key in range(task.n):
        changed = numbers.clone()
        changed[0, key] += 1
        moved = (task.solve(changed) != before)[0]
        assert torch.equal(moved, target[0, answer_rows(task), key])


def test_cosine_pairs_leave_the_first_row_out():
    pairs = MovingWindowSum().cosine_pairs()
    assert pairs.sum() == 105
    assert {tuple(pair) for pair in pairs.nonzero().tolist()} == {(i, j) for i in range(16) for j in range(1, i)}


def test_the_paper_s_levels():
    levels = MovingWindowSum().levels
    assert levels.initial == pytest.approx(2.8904, abs=1e-4)
    assert levels.plateau == pytest.approx(2.6277, abs=1e-4)
    assert levels.floor == pytest.approx(1.2997, abs=1e-4)
    assert MovingWindowSum().partial_solution == (0,)


@pytest.mark.parametrize(
    "task",
    [
        MovingWindowSum(n=4, k=2, p=5),
        MovingWindowSum(n=4, k=3, p=4),
        MovingWindowSum(n=5, k=5, p=3, low=0, high=2),
        MovingWindowSum(n=4, k=2, p=3, low=1, high=6),
        MovingWindowSum(n=4, k=1, p=5),
        MovingWindowSum(n=3, k=2, p=4, low=5, high=9),
        MovingWindowSum(n=3, k=2, p=7, low=2, high=2),
    ],
    ids=str,
)
def test_levels_by_enumeration(task):
    sequences = every_window_sequence(
        n=task.n, k=task.k, p=task.p, low=task.low, high=task.largest, separator=task.separator
    )
    scored = range(1, task.n_pos)
    solved = {task.answer.start + i for i in task.partial_solution}
    best = [conditional_entropy(sequences, position) for position in scored]
    plateau = [
        marginal_entropy(sequences, position)
        if position >= task.answer.start and position not in solved
        else conditional_entropy(sequences, position)
        for position in scored
    ]
    assert task.levels.floor == pytest.approx(sum(best) / len(best), abs=1e-9)
    if task.k == 1:
        assert task.levels.plateau is None
    else:
        assert task.levels.plateau == pytest.approx(sum(plateau) / len(plateau), abs=1e-9)
    assert task.levels.initial == pytest.approx(math.log(task.d_vocab))


@pytest.mark.parametrize("task", [MovingWindowSum(), MovingWindowSum(n=8, k=3, p=11, low=0, high=25)], ids=str)
def test_levels_by_monte_carlo(task):
    """The loss of predictors that know just so much, on drawn sequences."""
    batch = task.sample(20_000, generator=generator())
    answers = range(task.n, 2 * task.n)
    frequency = torch.stack([(batch.labels == token).double().mean(dim=0) for token in range(task.d_vocab)], dim=-1)
    truth = torch.nn.functional.one_hot(batch.labels, task.d_vocab).double()
    knows = {"initial": [], "plateau": [task.n + i for i in task.partial_solution], "floor": answers}
    for level, positions in knows.items():
        probability = frequency.expand_as(truth).clone()
        if level == "initial":
            probability[:] = 1 / task.d_vocab
        for position in positions:
            probability[:, position] = truth[:, position]
        loss = task.loss(probability.clamp_min(1e-30).log(), batch)
        assert loss.item() == pytest.approx(getattr(task.levels, level), abs=2e-3), level


@given(any_task())
def test_levels_are_ordered(task):
    levels = task.levels
    assert 0 <= levels.floor <= levels.initial
    if levels.plateau is not None:
        assert levels.floor <= levels.plateau <= levels.initial + 1e-9


def test_found_by_its_entry_point():
    (point,) = entry_points(group="plateau_interp.tasks", name="moving-window-sum")
    assert point.load() is MovingWindowSum
    assert MovingWindowSum.name == point.name


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        ({"n": 0}, "n must be at least 1; got 0"),
        ({"k": 0}, "k must be between 1 and n=16; got 0"),
        ({"n": 4, "k": 5}, "k must be between 1 and n=4; got 5"),
        ({"p": 1}, "p must be at least 2; got 1"),
        ({"low": -1}, "low must be at least 0; got -1"),
        ({"low": 5, "high": 4}, "high must be at least low=5; got 4"),
        ({"low": 20}, "high must be at least low=20; got 16"),
    ],
)
def test_bad_sizes_are_refused(sizes, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        MovingWindowSum(**sizes)
