"""plateau_interp.metrics: each by hand, by a slow reference, at its bounds, and under what must not change it."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import metrics as slow
from typecheck import unchecked

from plateau_interp.metrics import (
    as_float32,
    attention_progress,
    copies_of_first,
    effective_rank,
    head_shares,
    mean_pairwise_cosine,
    pairwise_cosine,
    position_accuracy,
    repetition_frequency,
    sequence_entropy,
    token_accuracy,
)
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.types import IGNORE, answer_rows

seeds = st.integers(0, 2**32)
sizes = st.integers(1, 5)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tokens_of(*shape: int, seed: int = 0, d_vocab: int = 5) -> torch.Tensor:
    return torch.randint(d_vocab, shape, generator=torch.Generator().manual_seed(seed))


def rotation(d_model: int, seed: int = 0) -> torch.Tensor:
    return torch.linalg.qr(normal(d_model, d_model, seed=seed)).Q


def close(value: torch.Tensor, expected: torch.Tensor | list) -> None:
    torch.testing.assert_close(value.double(), torch.as_tensor(expected).double(), rtol=1e-6, atol=1e-6)


def test_attention_progress_by_hand():
    pattern = torch.tensor([[[[3.0, -1.0], [0.0, 4.0]]], [[[1.0, 1.0], [1.0, 1.0]]]])
    close(attention_progress(pattern, torch.eye(2, dtype=torch.bool)[None]), [7 / 8, 1 / 2])
    each = torch.tensor([[[True, False], [False, False]], [[True, True], [True, False]]])
    close(attention_progress(pattern, each), [3 / 8, 3 / 4])


@given(seeds, sizes, sizes, sizes, sizes, st.booleans())
def test_attention_progress_is_the_slow_one(seed, batch, head, row, key, shared):
    pattern = normal(batch, head, row, key, seed=seed)
    target = tokens_of(1 if shared else batch, row, key, seed=seed, d_vocab=2).bool()
    targets = target.expand(batch, -1, -1)
    expected = [slow.attention_progress(p, t) for p, t in zip(pattern.tolist(), targets.tolist(), strict=True)]
    close(attention_progress(pattern, target), expected)


def test_attention_progress_at_its_bounds():
    pattern = normal(3, 2, 4, 5)
    close(attention_progress(pattern, torch.ones(1, 4, 5, dtype=torch.bool)), [1.0] * 3)
    close(attention_progress(pattern, torch.zeros(1, 4, 5, dtype=torch.bool)), [0.0] * 3)
    target = tokens_of(3, 4, 5, d_vocab=2).bool()
    close(attention_progress(pattern * target[:, None], target), [1.0] * 3)
    assert attention_progress(torch.zeros(1, 1, 4, 5), target[:1]).isnan().all()


def test_attention_progress_of_uniform_attention():
    """The paper's starting point: |A| uniform over causal keys gives 0.079."""
    task = MovingWindowSum()
    (target,) = task.optimal_attention(task.sample(1, generator=torch.Generator()))
    rows = answer_rows(task)
    uniform = torch.ones(1, 1, 32, 32).tril()[:, :, rows]
    close(attention_progress(uniform, target[:, rows]), [31 / sum(range(17, 33))])
    assert attention_progress(uniform, target[:, rows]).item() == pytest.approx(0.079, abs=5e-4)


def test_attention_progress_ignores_scale_sign_and_the_order_of_heads():
    pattern, target = normal(3, 4, 5, 6), tokens_of(3, 5, 6, d_vocab=2).bool()
    expected = attention_progress(pattern, target)
    close(attention_progress(-7.0 * pattern, target), expected)
    close(attention_progress(pattern * normal(3, 4, 5, 6, seed=1).sign(), target), expected)
    close(attention_progress(pattern.flip(1), target), expected)
    close(attention_progress(pattern * torch.tensor([1.0, 10.0, 0.1]).double()[:, None, None, None], target), expected)


def test_head_shares_are_those_of_plain_loops():
    pattern, target = normal(2, 3, 4, 5), normal(2, 4, 5, seed=1) > 0
    shares = [
        [
            sum(
                sum(abs(pattern[b, h, q, k].item()) for k in range(5) if target[b, q, k])
                / sum(abs(pattern[b, h, q, k].item()) for k in range(5))
                for q in range(4)
            )
            / 4
            for h in range(3)
        ]
        for b in range(2)
    ]
    close(head_shares(pattern, target), shares)


def test_repetition_by_hand():
    close(repetition_frequency(torch.tensor([[5, 5, 5, 2, 2], [1, 2, 1, 2, 1]])), [0.75, 0.0])


@given(seeds, sizes, st.integers(2, 9))
def test_repetition_is_the_slow_one(seed, batch, answer):
    tokens = tokens_of(batch, answer, seed=seed, d_vocab=3)
    close(repetition_frequency(tokens), [slow.repetition_frequency(sequence) for sequence in tokens.tolist()])


def test_repetition_at_its_bounds():
    close(repetition_frequency(torch.full((2, 6), 3)), [1.0, 1.0])
    close(repetition_frequency(torch.arange(6)[None]), [0.0])
    assert repetition_frequency(torch.ones(1, 1, dtype=torch.int64)).isnan().all()


def test_repetition_ignores_names_and_direction():
    tokens = tokens_of(20, 9, d_vocab=4)
    close(repetition_frequency(torch.tensor([9, 2, 7, 0])[tokens]), repetition_frequency(tokens))
    close(repetition_frequency(tokens.flip(1)), repetition_frequency(tokens))


def test_repetition_of_true_answers():
    """The moving-window sum repeats in one of 17 neighbours, but never in the first two answers: 0.0583."""
    task = MovingWindowSum()
    batch = task.sample(20_000, generator=torch.Generator().manual_seed(0))
    assert repetition_frequency(batch.tokens[:, task.answer]).mean().item() == pytest.approx(0.0583, abs=2e-3)


def test_cosine_by_hand():
    states = torch.tensor([[[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]])
    half = math.sqrt(0.5)
    expected = [[1, 1, 0, -half], [1, 1, 0, -half], [0, 0, 1, -half], [-half, -half, -half, 1]]
    close(pairwise_cosine(states), [expected])
    close(mean_pairwise_cosine(states), [(1 - 3 * half) / 6])
    pairs = torch.zeros(4, 4, dtype=torch.bool)
    pairs[1, 0] = pairs[3, 2] = True
    close(mean_pairwise_cosine(states, pairs), [(1 - half) / 2])


@given(seeds, sizes, st.integers(2, 6), sizes)
def test_cosine_is_the_slow_one(seed, batch, row, d_model):
    states = normal(batch, row, d_model, seed=seed)
    each = [[[slow.cosine(a, b) for b in sequence] for a in sequence] for sequence in states.tolist()]
    close(pairwise_cosine(states), each)
    below = {(i, j) for i in range(row) for j in range(i)}
    close(mean_pairwise_cosine(states), [slow.mean_pairwise_cosine(sequence, below) for sequence in states.tolist()])
    chosen = tokens_of(row, row, seed=seed, d_vocab=2).bool()
    chosen[1, 0] = True
    pairs = {tuple(pair) for pair in chosen.nonzero().tolist()}
    expected = [slow.mean_pairwise_cosine(sequence, pairs) for sequence in states.tolist()]
    close(mean_pairwise_cosine(states, chosen), expected)


def test_cosine_over_the_paper_s_105_pairs():
    """As the authors' code does it: torch's cosine of each pair of rows but the first, the sum over 105."""
    states = normal(4, 16, 8)
    total = sum(
        torch.cosine_similarity(states[:, i], states[:, j], dim=-1, eps=1e-8) for i in range(16) for j in range(1, i)
    )
    close(mean_pairwise_cosine(states, MovingWindowSum().cosine_pairs()), total / 105)


def test_cosine_at_its_bounds():
    direction = normal(1, 1, 6).expand(2, 5, 6)
    lengths = torch.arange(1.0, 6.0).double()[None, :, None]
    close(mean_pairwise_cosine(direction * lengths), [1.0, 1.0])
    close(mean_pairwise_cosine(direction[:, :2] * torch.tensor([[[1.0], [-2.0]]])), [-1.0, -1.0])
    close(mean_pairwise_cosine(torch.eye(5)[None]), [0.0])
    close(mean_pairwise_cosine(torch.zeros(1, 3, 4)), [0.0])
    assert mean_pairwise_cosine(torch.ones(1, 1, 4)).isnan().all()


@pytest.mark.parametrize("size", [1e-35, 1e-20, 1e-10, 1e-7, 1.0, 1e16, 1e30])
def test_cosine_is_that_of_small_and_of_large_states(size):
    states = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))
    states[1, 2] = 0
    torch.testing.assert_close(pairwise_cosine(states * size), pairwise_cosine(states), atol=1e-5, rtol=0)
    mixed = states * torch.tensor([1.0, size, 1.0, size, 1.0])[:, None]
    torch.testing.assert_close(mean_pairwise_cosine(mixed), mean_pairwise_cosine(states), atol=1e-5, rtol=0)


def test_cosine_ignores_lengths_and_rotations():
    states = normal(3, 5, 6)
    lengths = normal(3, 5, 1, seed=1).abs()
    close(pairwise_cosine(states * lengths), pairwise_cosine(states))
    close(pairwise_cosine(states @ rotation(6)), pairwise_cosine(states))
    order = torch.tensor([3, 1, 0, 4, 2])
    close(mean_pairwise_cosine(states[:, order]), mean_pairwise_cosine(states))


def test_accuracies_by_hand():
    answers, truth = torch.tensor([[1, 2, 3, 4], [1, 2, 0, 0]]), torch.tensor([[1, 2, 3, 5], [1, 1, 1, 1]])
    close(token_accuracy(answers, truth), [0.75, 0.25])
    close(position_accuracy(answers, truth), [1.0, 0.5, 0.5, 0.0])


@given(seeds, sizes, sizes)
def test_accuracies_are_the_slow_ones(seed, batch, answer):
    answers = tokens_of(batch, answer, seed=seed, d_vocab=3)
    truth = tokens_of(batch, answer, seed=seed + 1, d_vocab=3)
    rows = zip(answers.tolist(), truth.tolist(), strict=True)
    close(token_accuracy(answers, truth), [slow.token_accuracy(*row) for row in rows])
    close(position_accuracy(answers, truth), slow.position_accuracy(answers.tolist(), truth.tolist()))


def test_accuracies_at_their_bounds():
    truth = tokens_of(3, 4)
    close(token_accuracy(truth, truth), [1.0] * 3)
    close(position_accuracy(truth, truth), [1.0] * 4)
    close(token_accuracy(truth + 1, truth), [0.0] * 3)
    close(position_accuracy(truth + 1, truth), [0.0] * 4)


def test_accuracies_have_one_mean_and_ignore_order():
    answers, truth = tokens_of(30, 7, d_vocab=3), tokens_of(30, 7, seed=1, d_vocab=3)
    close(token_accuracy(answers, truth).mean(), position_accuracy(answers, truth).mean())
    close(token_accuracy(answers.flip(1), truth.flip(1)), token_accuracy(answers, truth))
    close(position_accuracy(answers.flip(0), truth.flip(0)), position_accuracy(answers, truth))
    close(token_accuracy(truth, answers), token_accuracy(answers, truth))


def test_what_is_not_labelled_counts_nowhere():
    answers = torch.tensor([[1, 2, 3, 3], [1, 2, 4, 4], [5, 5, 5, 5]])
    truth = torch.tensor([[1, 0, 3, IGNORE], [1, 2, IGNORE, IGNORE], [IGNORE] * 4])
    torch.testing.assert_close(
        token_accuracy(answers, truth), torch.tensor([2 / 3, 1.0, math.nan]), rtol=0, atol=1e-7, equal_nan=True
    )
    torch.testing.assert_close(
        position_accuracy(answers, truth), torch.tensor([1.0, 0.5, 1.0, math.nan]), rtol=0, atol=1e-7, equal_nan=True
    )
    written = torch.tensor([[IGNORE, 3, 3, 4], [3, IGNORE, 3, 3], [3, IGNORE, IGNORE, 3]])
    nothing = torch.full((1, 4), IGNORE)
    close(repetition_frequency(written[:2]), [0.5, 1.0])
    assert repetition_frequency(torch.cat([written[2:], nothing])).isnan().all()
    close(copies_of_first(written), [2 / 3, 1.0, 1.0])
    close(sequence_entropy(written, d_vocab=5), [slow.sequence_entropy([3, 3, 4]), 0.0, 0.0])
    for measure in (token_accuracy, position_accuracy):
        assert measure(nothing, nothing).isnan().all()
    assert copies_of_first(nothing).isnan().all()
    assert sequence_entropy(nothing, d_vocab=5).isnan().all()


def test_sequence_entropy_by_hand():
    tokens = torch.tensor([[1, 1, 2, 2], [0, 0, 0, 1], [3, 1, 2, 0]])
    quarter = 0.25 * math.log(4) + 0.75 * math.log(4 / 3)
    torch.testing.assert_close(
        sequence_entropy(tokens, d_vocab=4), torch.tensor([math.log(2), quarter, math.log(4)]), rtol=0, atol=1e-5
    )


@given(seeds, sizes, st.integers(1, 9))
def test_sequence_entropy_is_the_slow_one(seed, batch, answer):
    tokens = tokens_of(batch, answer, seed=seed)
    close(sequence_entropy(tokens, d_vocab=7), [slow.sequence_entropy(sequence) for sequence in tokens.tolist()])


def test_sequence_entropy_at_its_bounds():
    constant, distinct = torch.full((1, 8), 2), torch.arange(8)[None]
    assert sequence_entropy(constant, d_vocab=8).item() == pytest.approx(0.0, abs=2e-6)
    assert sequence_entropy(distinct, d_vocab=8).item() == pytest.approx(math.log(8), abs=1e-5)
    every = sequence_entropy(tokens_of(50, 8, d_vocab=8), d_vocab=8)
    assert (every > -2e-6).all()
    assert (every < math.log(8) + 1e-6).all()


def test_sequence_entropy_ignores_names_and_order():
    tokens = tokens_of(10, 9, d_vocab=4)
    expected = sequence_entropy(tokens, d_vocab=10)
    close(sequence_entropy(torch.tensor([9, 2, 7, 0])[tokens], d_vocab=10), expected)
    close(sequence_entropy(tokens[:, torch.randperm(9, generator=torch.Generator())], d_vocab=10), expected)


def test_effective_rank_by_hand():
    states = torch.tensor([[[3.0, 0.0], [0.0, 1.0]], [[1.0, 1.0], [2.0, 2.0]]])
    expected = math.exp(0.75 * math.log(4 / 3) + 0.25 * math.log(4))
    close(effective_rank(states), [expected, 1.0])


@given(seeds, sizes, sizes, sizes)
def test_effective_rank_is_the_slow_one(seed, batch, row, d_model):
    states = normal(batch, row, d_model, seed=seed)
    expected = torch.tensor([slow.effective_rank(sequence) for sequence in states.tolist()])
    torch.testing.assert_close(effective_rank(states).float(), expected, rtol=1e-4, atol=1e-4)


def test_effective_rank_at_its_bounds():
    close(effective_rank(torch.zeros(1, 3, 4)), [1.0])
    close(effective_rank(normal(1, 1, 4).expand(1, 3, 4)), [1.0])
    close(effective_rank(rotation(5)[None, :3]), [3.0])
    ranks = effective_rank(normal(20, 3, 7))
    assert (ranks >= 1).all()
    assert (ranks <= 3).all()


def test_effective_rank_ignores_scale_and_rotations():
    states = normal(3, 5, 6)
    expected = effective_rank(states)
    close(effective_rank(-4.0 * states), expected)
    close(effective_rank(states @ rotation(6)), expected)
    close(effective_rank(rotation(5) @ states), expected)


@pytest.mark.parametrize("measure", [mean_pairwise_cosine, effective_rank])
def test_measures_of_states_have_finite_gradients(measure):
    states = normal(2, 4, 6).requires_grad_()
    measure(states).sum().backward()
    assert states.grad.isfinite().all()
    assert states.grad.any()


def test_copies_of_first_by_hand_and_at_its_bounds():
    close(copies_of_first(torch.tensor([[7, 7, 3, 7], [1, 2, 3, 4], [5, 5, 5, 5]])), [0.75, 0.25, 1.0])


@given(seeds, sizes, sizes)
def test_copies_of_first_is_a_count_and_does_not_care_for_the_order_of_the_others(seed, batch, answer):
    tokens = tokens_of(batch, answer, seed=seed)
    close(copies_of_first(tokens), [row.count(row[0]) / answer for row in tokens.tolist()])
    close(copies_of_first(torch.cat([tokens[:, :1], tokens[:, 1:].flip(1)], dim=1)), copies_of_first(tokens))


@pytest.mark.parametrize(
    ("measure", "given", "words"),
    [
        (repetition_frequency, (torch.zeros(3),), r"tokens must be a tensor \[batch, answer\]; got \(3,\)"),
        (copies_of_first, ([1, 2],), r"tokens must be a tensor \[batch, answer\]; got \[1, 2\]"),
        (pairwise_cosine, (torch.zeros(3),), r"states must be a tensor \[batch, row, d_model\]; got \(3,\)"),
        (mean_pairwise_cosine, (torch.zeros(3, 2),), r"states must be a tensor \[batch, row, d_model\]; got \(3, 2\)"),
        (
            mean_pairwise_cosine,
            (torch.zeros(2, 3, 4), torch.ones(2, 2, dtype=torch.bool)),
            r"pairs must be \[row, row\] for 3 rows; got \(2, 2\)",
        ),
        (effective_rank, (torch.zeros(3),), r"states must be a tensor \[batch, row, d_model\]; got \(3,\)"),
        (
            token_accuracy,  # by broadcasting it would be a number
            (torch.zeros(2, 3), torch.zeros(2, 1)),
            r"answers and truth must be of one shape; got \(2, 3\) and \(2, 1\)",
        ),
        (position_accuracy, (torch.zeros(2, 3), 1), r"answers and truth must be of one shape; got \(2, 3\) and 1"),
        (
            attention_progress,
            (torch.zeros(2, 1, 3, 3), torch.ones(1, 4, 4, dtype=torch.bool)),
            r"target must be \[1 or 2, 3, 3\], as the pattern's rows and keys are; got \(1, 4, 4\)",
        ),
        (
            head_shares,
            (torch.zeros(2, 3, 3), torch.ones(1, 3, 3, dtype=torch.bool)),
            r"pattern must be a tensor \[batch, head, row, key\]; got \(2, 3, 3\)",
        ),
    ],
)
def test_a_tensor_of_another_shape_is_told(measure, given, words):
    with pytest.raises(ValueError, match=words):
        unchecked(measure)(*given)


def test_entropy_of_another_shape_is_told():
    with pytest.raises(ValueError, match=r"tokens must be a tensor \[batch, answer\]; got \(3,\)"):
        unchecked(sequence_entropy)(torch.zeros(3), d_vocab=3)


@pytest.mark.parametrize(("right", "of"), [(19, 20), (95, 100), (99, 100), (9, 10)])
def test_a_share_is_at_least_itself_in_float32(right, of):
    answers = torch.zeros(1, of, dtype=torch.long)
    answers[0, :right] = 1
    share = token_accuracy(answers, torch.ones_like(answers)).mean().double().item()
    assert as_float32(share) >= as_float32(right / of)
    assert not as_float32(share - 1e-6) >= as_float32(right / of)


def test_what_is_beyond_float32_is_infinite_without_a_warning():
    assert as_float32([1e300, -1e300, 1e-300]).tolist() == [math.inf, -math.inf, 0.0]
