"""plateau_interp.tasks.window against plain loops, enumeration and the worked examples of both papers."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference.tasks import moving_window, moving_window_targets

from plateau_interp.tasks import MovingWindowDifference, MovingWindowProduct, MovingWindowQuotient, MovingWindowSum
from plateau_interp.types import IGNORE, answer_rows

FAMILY = {
    "sum": MovingWindowSum,
    "difference": MovingWindowDifference,
    "product": MovingWindowProduct,
    "quotient": MovingWindowQuotient,
}
EDGES = st.sampled_from(["copy", "partial"])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@st.composite
def any_task(draw: st.DrawFn, operations: tuple[str, ...] = ("sum", "difference", "product")) -> MovingWindowSum:
    n, p, low = draw(st.integers(1, 9)), draw(st.integers(2, 20)), draw(st.integers(0, 6))
    highs = st.integers(low, low + 25)
    return FAMILY[draw(st.sampled_from(operations))](
        n=n,
        k=draw(st.integers(1, n)),
        p=p,
        low=low,
        high=draw(highs if low >= p else st.none() | highs),
        edge=draw(EDGES),
    )


@st.composite
def any_quotient(draw: st.DrawFn) -> MovingWindowQuotient:
    n, p = draw(st.integers(1, 9)), draw(st.sampled_from([2, 3, 5, 7, 11, 13, 17, 19, 25, 35]))
    low = draw(st.integers(1, 4 if p > 4 else 1)) + p * draw(st.integers(0, 2))
    high = low + draw(st.integers(0, 3 if low % p == 1 and p > 4 else 0))
    return MovingWindowQuotient(n=n, k=draw(st.integers(1, n)), p=p, low=low, high=high, edge=draw(EDGES))


def test_the_paper_s_example():
    numbers = [3, 16, 5, 9, 1, 12, 7, 7, 14, 2, 10, 16, 4, 8, 11, 6]
    answers = [3, 2, 4, 14, 10, 13, 2, 14, 4, 16, 12, 9, 3, 12, 2, 0]
    task = MovingWindowSum()
    assert task.solve(torch.tensor([numbers])).tolist() == [answers]
    assert moving_window(numbers, operation="sum", k=2, p=17, edge="copy") == answers
    assert (task.separator, task.d_vocab, task.n_pos) == (17, 18, 33)
    text = task.tokens_to_text(torch.tensor([*numbers, 17, *answers]))
    assert text[:3] == ["3", "16", "5"]
    assert text[16] == "|"
    assert "|" not in text[:16] + text[17:]
    assert MovingWindowSum(p=23).tokens_to_text(torch.tensor([17, 22, 23])) == ["17", "22", "|"]


@pytest.mark.parametrize(
    ("name", "answers"),
    [
        ("sum", [3, 2, 6, 8, 13, 0, 10, 14, 6, 16, 10, 2, 15, 10, 16, 8]),
        ("difference", [3, 4, 9, 6, 6, 7, 0, 13, 12, 12, 11, 14, 7, 15, 13, 12]),
        ("product", [3, 14, 10, 7, 12, 9, 8, 11, 7, 11, 16, 3, 10, 7, 9, 14]),
        ("quotient", [3, 11, 10, 5, 12, 16, 1, 12, 11, 5, 4, 12, 5, 10, 13, 10]),
    ],
)
def test_the_second_paper_s_examples(name, answers):
    numbers = [3, 16, 7, 1, 12, 5, 5, 9, 14, 2, 8, 11, 4, 6, 10, 15]
    assert FAMILY[name]().solve(torch.tensor([numbers])).tolist() == [answers]
    assert moving_window(numbers, operation=name, k=2, p=17, edge="partial") == answers


@pytest.mark.parametrize(
    ("task", "numbers", "answers"),
    [
        (MovingWindowSum(n=4, k=3, edge="partial"), [12, 9, 1, 3], [12, 4, 5, 13]),
        (MovingWindowProduct(n=4, k=3), [13, 6, 8, 2], [13, 10, 12, 11]),
        (MovingWindowDifference(n=4, k=3), [1, 9, 14, 11], [1, 9, 12, 1]),
        (MovingWindowDifference(n=4, k=4), [1, 9, 14, 11], [1, 9, 12, 1]),
        (MovingWindowQuotient(n=4, k=3), [10, 2, 9, 2], [10, 7, 3, 2]),
        (MovingWindowSum(n=6, k=3), [3, 16, 5, 9, 1, 12], [3, 16, 7, 13, 15, 5]),
        (MovingWindowProduct(n=4, k=3, edge="copy"), [13, 6, 8, 2], [13, 6, 12, 11]),
        # 16^15 is beyond what the published float32 product keeps: (-1)^15 = -1 mod 17
        (MovingWindowProduct(n=15, k=15), [16] * 15, [16, 1] * 7 + [16]),
    ],
    ids=str,
)
def test_longer_windows(task, numbers, answers):
    assert task.solve(torch.tensor([numbers])).tolist() == [answers]


@pytest.mark.parametrize("name", FAMILY)
@given(st.data(), st.integers(0, 2**32))
def test_samples_are_what_plain_loops_say(name, data, seed):
    task = data.draw(any_quotient() if name == "quotient" else any_task((name,)))
    batch = task.sample(20, generator=generator(seed))
    assert batch.tokens.dtype == torch.int64
    assert batch.tokens.shape == (20, task.n_pos)
    highest = task.p - 1 if task.high is None else task.high
    for sequence in batch.tokens.tolist():
        numbers, separator, answers = sequence[: task.n], sequence[task.n], sequence[task.n + 1 :]
        assert all(task.low <= number <= highest for number in numbers)
        assert separator == task.separator
        assert answers == moving_window(numbers, operation=name, k=task.k, p=task.p, edge=task.edge)
        assert sequence[task.answer] == answers


@given(any_task())
def test_the_separator_is_the_last_id_and_no_number(task):
    largest_answer = max(task.p - 1, task.largest)
    assert task.separator == largest_answer + 1 == task.d_vocab - 1
    assert answer_rows(task) == slice(task.n, 2 * task.n)


def test_the_sum_scores_the_sequence_the_others_their_answers():
    batch = MovingWindowSum().sample(2, generator=generator())
    assert torch.equal(batch.labels, batch.tokens[:, 1:])
    for kind in (MovingWindowDifference, MovingWindowProduct, MovingWindowQuotient):
        batch = kind().sample(2, generator=generator())
        assert (batch.labels[:, :16] == IGNORE).all()
        assert torch.equal(batch.labels[:, 16:], batch.tokens[:, 17:])


def test_all_four_draw_the_same_inputs():
    drawn = [kind().sample(8, generator=generator(3)).tokens[:, :16] for kind in FAMILY.values()]
    assert all(torch.equal(numbers, drawn[0]) for numbers in drawn)


@given(any_task() | any_quotient())
def test_optimal_attention_is_the_window(task):
    batch = task.sample(2, generator=generator())
    (target,) = task.optimal_attention(batch)
    assert target.shape == (1, 2 * task.n, 2 * task.n)
    expected = moving_window_targets(n=task.n, k=task.k, edge=task.edge)
    assert {tuple(pair) for pair in target[0].nonzero().tolist()} == expected


def test_optimal_attention_of_the_defaults():
    (target,) = MovingWindowSum().optimal_attention(MovingWindowSum().sample(1, generator=generator()))
    assert target.sum() == 31
    assert target[0, 16].nonzero().flatten().tolist() == [0]
    assert target[0, 17].nonzero().flatten().tolist() == [0, 1]
    assert target[0, 31].nonzero().flatten().tolist() == [14, 15]
    assert not target[0, :16].any()


@given(any_task(operations=("sum", "difference")), st.integers(0, 2**32))
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
    assert {tuple(pair) for pair in pairs.nonzero().tolist()} == {(i, j) for i in range(16) for j in range(1, i)}


@pytest.mark.parametrize(
    ("task", "initial", "plateau", "floor"),
    [
        (MovingWindowSum(), 2.8904, 2.6277, 1.2997),
        (MovingWindowSum(scored="answer"), 2.8904, 2.6560, 0),
        (MovingWindowDifference(), 2.8904, 2.6560, 0),
        (MovingWindowDifference(scored="sequence"), 2.8904, 2.6277, 1.2997),
        (MovingWindowProduct(), 2.8904, 2.5993, 0),
        (MovingWindowQuotient(), 2.8904, 2.5993, 0),
    ],
    ids=str,
)
def test_the_papers_levels(task, initial, plateau, floor):
    levels = task.levels
    assert levels.initial == pytest.approx(initial, abs=1e-4)
    assert levels.plateau == pytest.approx(plateau, abs=1e-4)
    assert levels.floor == pytest.approx(floor, abs=1e-4)
    assert task.partial_solution == (0,)


def test_what_is_right_on_the_plateau_is_a_copy():
    assert MovingWindowSum(k=4).partial_solution == (0, 1, 2)
    assert MovingWindowSum(k=4, edge="partial").partial_solution == (0,)
    assert MovingWindowSum(k=1).partial_solution == MovingWindowProduct(k=1).partial_solution == ()
    assert MovingWindowSum(k=1).levels.plateau is None


@given(any_task() | any_quotient())
def test_levels_are_ordered(task):
    levels = task.levels
    assert 0 <= levels.floor <= levels.initial
    if levels.plateau is not None:
        assert levels.floor <= levels.plateau <= levels.initial + 1e-9


@pytest.mark.parametrize("kind", FAMILY.values())
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
def test_bad_sizes_are_refused(kind, sizes, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        kind(**sizes)


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        ({"p": 16}, "p must share no factor with the inputs 1..15; got 16, which has no inverse of 2"),
        ({"low": 0}, "p must share no factor with the inputs 0..16; got 17, which has no inverse of 0"),
        ({"high": 20}, "p must share no factor with the inputs 1..20; got 17, which has no inverse of 17"),
    ],
)
def test_a_quotient_needs_inverses(sizes, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        MovingWindowQuotient(**sizes)
