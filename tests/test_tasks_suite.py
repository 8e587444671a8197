"""What holds for every task: reproducible samples, targets that determine the answer, closed forms, sizes."""

import math
import random
import re
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import NamedTuple

import numpy as np
import pytest
import torch
from reference.tasks import (
    Sequences,
    concatenated_windows,
    conditional_entropy,
    determines,
    every_addition,
    every_permutation,
    every_sequence,
    histogram,
    marginal_entropy,
    moving_window,
    prefix_sum,
    repeat,
)
from typecheck import unchecked

from plateau_interp import tasks
from plateau_interp.models import toy_model
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
    Text,
)
from plateau_interp.training.loop import train
from plateau_interp.training.meter import Meter
from plateau_interp.types import IGNORE, Batch, Task, answer_rows, is_finite

# Without answers that are generated, or that follow from the prompt: each has a file of tests of its own.
OTHERS = ("DepthTwoNet", "MatrixCompletion", "OneHotArithmetic", "Text", "WrittenCompletion")
KINDS = [getattr(tasks, name) for name in tasks.__all__ if name not in OTHERS]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Sizes(NamedTuple):
    """The papers' defaults: lengths, alphabet, training, cells of the map of one sequence, pairs of the cosine."""

    n_pos: int
    d_vocab: int
    steps: int
    n_layers: int = 1
    cells: tuple[int | None, ...] = (31,)
    pairs: int = 105
    batch_size: int = 256
    grad_clip: float = math.inf


DEFAULTS = {
    MovingWindowSum: Sizes(33, 18, 400),
    MovingWindowDifference: Sizes(33, 18, 1000, batch_size=128),
    MovingWindowProduct: Sizes(33, 18, 1000, batch_size=128),
    MovingWindowQuotient: Sizes(33, 18, 1000, batch_size=128),
    Mixture: Sizes(33, 20, 1000, batch_size=128),
    PrefixSum: Sizes(33, 18, 1000),
    MultiDigitAddition: Sizes(15, 12, 10_000, cells=(16,), pairs=6),
    Permutation: Sizes(50, 33, 2000, n_layers=2, cells=(16, 16), pairs=120),
    Histogram: Sizes(33, 17, 5000, n_layers=2, cells=(16, None), pairs=120, grad_clip=1.0),
    Copy: Sizes(33, 17, 100, cells=(16,), pairs=120),
    Reverse: Sizes(33, 17, 100, cells=(16,), pairs=120),
    Repeat: Sizes(33, 18, 200, cells=(16,)),
    ConcatenatedWindows: Sizes(30, 18, 5000, cells=(4 + 2 * 5 + 3 * 4,), pairs=78),
    ModularArithmetic: Sizes(5, 55, 3000, cells=(2,), pairs=0, batch_size=512),
}


@each_kind
def test_the_papers_sizes(kind):
    task, sizes = kind(), DEFAULTS[kind]
    assert (task.n_pos, task.d_vocab) == (sizes.n_pos, sizes.d_vocab)
    training = task.defaults
    assert (training.steps, training.n_layers, training.batch_size) == (sizes.steps, sizes.n_layers, sizes.batch_size)
    assert (training.grad_clip, training.learning_rate) == (sizes.grad_clip, 1e-4)
    maps = task.optimal_attention(task.sample(1, generator=generator()))
    assert tuple(None if target is None else int(target.sum()) for target in maps) == sizes.cells
    assert int(task.cosine_pairs().sum()) == sizes.pairs
    assert not task.cosine_pairs().triu().any()
    assert task.levels.initial == pytest.approx(math.log(sizes.d_vocab))


@each_kind
def test_samples_are_whole_sequences_of_known_tokens(kind):
    task = kind()
    batch = task.sample(500, generator=generator())
    assert batch.tokens.shape == (500, task.n_pos)
    assert batch.labels.shape == (500, task.n_pos - 1)
    assert batch.tokens.dtype == batch.labels.dtype == torch.int64
    assert batch.tokens.min() >= 0
    assert batch.tokens.max() < task.d_vocab
    assert ((batch.labels == batch.tokens[:, 1:]) | (batch.labels == IGNORE)).all()
    assert torch.equal(batch.labels[:, answer_rows(task)], batch.tokens[:, task.answer])
    assert len(task.tokens_to_text(batch.tokens[0])) == task.n_pos
    assert task.sample(0, generator=generator()).tokens.shape == (0, task.n_pos)


@each_kind
def test_the_generator_alone_decides(kind):
    task = kind()
    torch_state, numpy_state, python_state = torch.get_rng_state(), np.random.get_state(), random.getstate()
    first = task.sample(4, generator=generator(1))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert str(np.random.get_state()) == str(numpy_state)
    assert random.getstate() == python_state
    torch.rand(3)
    assert torch.equal(kind().sample(4, generator=generator(1)).tokens, first.tokens)
    assert not torch.equal(task.sample(4, generator=generator(2)).tokens, first.tokens)
    one = generator(1)
    task.sample(4, generator=one)
    assert not torch.equal(task.sample(4, generator=one).tokens, first.tokens)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if hasattr(kind, "scored")], ids=lambda kind: kind.name)
def test_loss_counts_the_answer_alone_if_so_asked(kind):
    whole, answer = (kind(scored=scored).sample(3, generator=generator()) for scored in ("sequence", "answer"))
    rows = answer_rows(kind())
    assert torch.equal(whole.tokens, answer.tokens)
    assert torch.equal(whole.labels, whole.tokens[:, 1:])
    assert (answer.labels[:, : rows.start] == IGNORE).all()
    assert torch.equal(answer.labels[:, rows], whole.labels[:, rows])


@each_kind
def test_no_row_of_a_map_depends_on_later_tokens(kind):
    task = kind()
    batch = task.sample(3, generator=generator())
    full = task.optimal_attention(batch)
    for cut in range(1, task.n_pos):
        tokens = batch.tokens.clone()
        tokens[:, cut:] = 0
        for whole, known in zip(full, task.optimal_attention(Batch(tokens, tokens[:, 1:])), strict=True):
            if whole is not None:
                assert (whole[:, :cut] == known[:, :cut]).all()


@each_kind
def test_maps_are_causal_and_for_answer_rows(kind):
    task = kind()
    for target in task.optimal_attention(task.sample(3, generator=generator())):
        if target is not None:
            assert target.dtype == torch.bool
            assert target.shape[1:] == (task.n_pos - 1, task.n_pos - 1)
            assert not target.triu(1).any()
            assert not target[:, : answer_rows(task).start].any()
            assert target[:, answer_rows(task)].any(dim=2).all()


@each_kind
def test_a_small_model_trains_and_is_measured(kind):
    task = kind()
    model = toy_model(task, n_layers=task.defaults.n_layers, d_model=16)
    meter = Meter(task) if is_finite(task) else Meter(task, n_sequences=3)
    (step,) = train(model, task, steps=1, batch_size=6, meter=meter)
    assert step.loss == pytest.approx(task.levels.initial, abs=0.2)
    assert 0 <= step.metrics["attention_progress"] <= 1
    if task.cosine_pairs().any():
        assert -1 <= step.metrics["cosine"] <= 1


class Small(NamedTuple):
    """A task small enough to list all its sequences, which are equally likely."""

    task: Task
    sequences: Callable[[], Sequences]


def window(task: MovingWindowSum, operation: str) -> Small:
    def answers(numbers: list[int]) -> list[int]:
        return moving_window(numbers, operation=operation, k=task.k, p=task.p, edge=task.edge)

    return with_numbers(task, answers)


def with_numbers(task: PrefixSum, answers: Callable[[list[int]], list[int]]) -> Small:
    numbers = range(task.low, task.largest + 1)
    return Small(task, lambda: every_sequence(numbers, task.n, separator=task.separator, answers=answers))


def copying(task: Copy, answers: Callable[[list[int]], list[int]]) -> Small:
    return Small(task, lambda: every_sequence(range(1, task.high + 1), task.n, separator=0, answers=answers))


def distinct_prefix_sum(task: PrefixSum) -> Small:
    every = with_numbers(task, lambda numbers: prefix_sum(numbers, p=task.p)).sequences
    return Small(task, lambda: [sequence for sequence in every() if len(set(sequence[: task.n])) == task.n])


def addition(task: MultiDigitAddition) -> Small:
    return Small(task, lambda: every_addition(n=task.n, base=task.base))


def concatenated(task: ConcatenatedWindows) -> Small:
    sizes = {"windows": task.windows, "lengths": task.lengths, "arrangement": task.arrangement}
    return with_numbers(task, lambda numbers: concatenated_windows(numbers, p=task.p, **sizes))


SMALL = [
    window(MovingWindowSum(n=4, k=2, p=5), "sum"),
    window(MovingWindowSum(n=4, k=3, p=4), "sum"),
    window(MovingWindowSum(n=4, k=3, p=5, edge="partial"), "sum"),
    window(MovingWindowSum(n=5, k=5, p=3, low=0, high=2), "sum"),
    window(MovingWindowSum(n=4, k=2, p=3, low=1, high=6, scored="answer"), "sum"),
    window(MovingWindowSum(n=4, k=1, p=5), "sum"),
    window(MovingWindowSum(n=3, k=2, p=4, low=5, high=9), "sum"),
    window(MovingWindowDifference(n=4, k=2, p=5), "difference"),
    window(MovingWindowDifference(n=4, k=3, p=5, scored="sequence"), "difference"),
    window(MovingWindowDifference(n=4, k=3, p=5, edge="copy"), "difference"),
    window(MovingWindowProduct(n=4, k=2, p=5), "product"),
    window(MovingWindowProduct(n=4, k=3, p=5), "product"),
    window(MovingWindowProduct(n=4, k=2, p=6, low=0, high=5), "product"),
    window(MovingWindowProduct(n=4, k=3, p=4, low=1, high=4, edge="copy"), "product"),
    window(MovingWindowQuotient(n=4, k=2, p=5), "quotient"),
    window(MovingWindowQuotient(n=4, k=3, p=5), "quotient"),
    window(MovingWindowQuotient(n=4, k=4, p=5, edge="copy", scored="sequence"), "quotient"),
    with_numbers(PrefixSum(n=4, p=5), lambda numbers: prefix_sum(numbers, p=5)),
    with_numbers(PrefixSum(n=4, p=3, low=0, high=4, scored="answer"), lambda numbers: prefix_sum(numbers, p=3)),
    distinct_prefix_sum(PrefixSum(n=3, p=7, inputs="distinct")),
    copying(Copy(n=4, high=3), lambda numbers: numbers),
    copying(Reverse(n=4, high=3), lambda numbers: numbers[::-1]),
    with_numbers(Repeat(n=4, k=2, p=5), lambda numbers: repeat(numbers, k=2, p=5, source=0)),
    with_numbers(Repeat(n=4, k=1, p=5, source=2), lambda numbers: repeat(numbers, k=1, p=5, source=2)),
    concatenated(ConcatenatedWindows(n=6, windows=(1, 2, 3), lengths=(1, 1, 1), p=4)),
    concatenated(ConcatenatedWindows(n=4, windows=(1, 2, 3), lengths=(3, 2, 2), p=5, arrangement="stair")),
    addition(MultiDigitAddition(n=2, base=4)),
    addition(MultiDigitAddition(n=3, base=3)),
    addition(MultiDigitAddition(n=4, base=2, scored="answer")),
    addition(MultiDigitAddition(n=1, base=2)),
    addition(MultiDigitAddition(n=1, base=10)),
    Small(Histogram(n=4, high=3), lambda: every_sequence(range(1, 4), 4, separator=0, answers=histogram)),
    Small(Permutation(n=3, n_symbols=2), lambda: every_permutation(n=3, n_symbols=2, compose=1)),
    Small(Permutation(n=4, n_symbols=2, compose=2), lambda: every_permutation(n=4, n_symbols=2, compose=2)),
]
each_small = pytest.mark.parametrize("small", SMALL, ids=lambda small: str(small.task))

READ_IN_ONE_LAYER = [
    small
    for small in SMALL
    if not isinstance(small.task, Histogram | Permutation)  # their two layers are tested with the tasks
    and small.task != PrefixSum(n=3, p=7, inputs="distinct")  # each number tells something of the others
    and small.task.n > 1  # 1 + 1 is all there is in base 2
]


@each_small
def test_samples_are_all_there_are(small):
    drawn = {tuple(row) for row in small.task.sample(6000, generator=generator()).tokens.tolist()}
    everything = {tuple(sequence) for sequence in small.sequences()}
    assert drawn <= everything
    if len(everything) < 500:
        assert drawn == everything


@pytest.mark.parametrize("small", READ_IN_ONE_LAYER, ids=lambda small: str(small.task))
def test_the_targets_determine_the_answer_and_without_any_one_it_is_open(small):
    """A model that reads the target positions can solve the task, and none that misses one of them."""
    task, sequences = small.task, small.sequences()
    (target,) = task.optimal_attention(task.sample(1, generator=generator()))
    for query in range(task.n_pos - 1)[answer_rows(task)]:
        keys = set(target[0, query].nonzero().flatten().tolist())
        # A carry is not read but follows from the answer before it, which stands at the query already.
        own = {query} if isinstance(task, MultiDigitAddition) and query - answer_rows(task).start > 1 else set()
        assert determines(sequences, query + 1, keys | own)
        for key in keys:
            assert not determines(sequences, query + 1, keys - {key} | own), (query, key)


@each_small
def test_levels_by_enumeration(small):
    task, sequences = small.task, small.sequences()
    scored = range(task.n_pos)[task.answer] if task.scored == "answer" else range(1, task.n_pos)
    solved = {task.answer.start + i for i in task.partial_solution}
    best = {position: conditional_entropy(sequences, position) for position in scored}
    assert task.levels.floor == pytest.approx(sum(best.values()) / len(scored), abs=1e-9)
    assert task.levels.initial == pytest.approx(math.log(task.d_vocab))
    if task.levels.plateau is not None:
        unsolved = set(range(task.n_pos)[task.answer]) - solved
        plateau = best | {position: marginal_entropy(sequences, position) for position in unsolved}
        assert task.levels.plateau == pytest.approx(sum(plateau.values()) / len(scored), abs=1e-9)


@pytest.mark.parametrize(
    "task",
    [
        MovingWindowSum(),
        MovingWindowSum(n=8, k=3, p=11, low=0, high=25),
        MovingWindowDifference(k=3),
        MovingWindowProduct(),
        MovingWindowProduct(k=4, p=12, low=0, scored="sequence"),
        MovingWindowQuotient(k=3),
        PrefixSum(),
        MultiDigitAddition(),
        Mixture(),
        Copy(),
        Histogram(),
        ConcatenatedWindows(),
        Repeat(k=4),
    ],
    ids=str,
)
def test_levels_by_monte_carlo(task):
    """The loss of predictors that know just so much, on drawn sequences."""
    batch = task.sample(8_000, generator=generator())
    rows = range(task.n_pos - 1)[answer_rows(task)]
    groups = task.groups(batch).values() if isinstance(task, Mixture) else [slice(None)]
    labels = batch.tokens[:, 1:]
    frequency = torch.zeros(*labels.shape, task.d_vocab, dtype=torch.float64)
    truth = torch.nn.functional.one_hot(labels, task.d_vocab).double()
    for group in groups:
        frequency[group] = truth[group].mean(dim=0)
    knows = {"initial": [], "plateau": [rows[i] for i in task.partial_solution], "floor": rows}
    for level, positions in knows.items():
        expected = getattr(task.levels, level)
        if expected is None:
            continue
        probability = torch.full_like(frequency, 1 / task.d_vocab) if level == "initial" else frequency.clone()
        probability[:, positions] = truth[:, positions]
        loss = task.loss(probability.clamp_min(1e-30).log(), batch)
        assert loss.item() == pytest.approx(expected, abs=4e-3), level


@each_kind
def test_found_by_its_entry_point(kind):
    (point,) = entry_points(group="plateau_interp.tasks", name=kind.name)
    assert point.load() is kind


@pytest.mark.parametrize(
    ("task", "field", "text"),
    [
        (MovingWindowSum(), "edge", "edge must be one of copy, partial; got 'wrong'"),
        (MovingWindowQuotient(), "scored", "scored must be one of sequence, answer; got 'wrong'"),
        (Permutation(), "scored", "scored must be one of sequence, answer; got 'wrong'"),
        (PrefixSum(), "inputs", "inputs must be one of independent, distinct; got 'wrong'"),
        (ConcatenatedWindows(), "arrangement", "arrangement must be one of disjoint, stair; got 'wrong'"),
    ],
    ids=str,
)
def test_choices_that_are_none_are_refused(task, field, text):
    # The shape checker of the tests would refuse the value first, in words of its own.
    object.__setattr__(task, field, "wrong")
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        unchecked(type(task).__post_init__)(task)


@pytest.mark.parametrize(
    ("task", "field", "value", "text"),
    [
        (MovingWindowSum(), "n", "x", "n must be a whole number; got 'x'"),
        (MovingWindowSum(), "n", 4.0, "n must be a whole number; got 4.0"),
        (MovingWindowSum(), "n", True, "n must be a whole number; got True"),
        (MovingWindowSum(), "k", "x", "k must be a whole number; got 'x'"),
        (MovingWindowSum(), "high", "x", "high must be a whole number; got 'x'"),
        (MovingWindowQuotient(), "low", None, "low must be a whole number; got None"),
        (MultiDigitAddition(), "base", "x", "base must be a whole number; got 'x'"),
        (Text(), "n", "x", "n must be a whole number; got 'x'"),
        (Histogram(), "high", "x", "high must be a whole number; got 'x'"),
        (Repeat(), "source", 0.5, "source must be a whole number; got 0.5"),
        (Permutation(), "n", None, "n must be a whole number; got None"),
        (ModularArithmetic(), "p", "x", "p must be a whole number; got 'x'"),
        (ModularArithmetic(), "p", 97.0, "p must be a whole number; got 97.0"),
        (ModularArithmetic(), "operations", 5, "operations must be one or several, each once; got 5"),
        (ModularArithmetic(), "operations", "add", "operations must be one or several, each once; got 'add'"),
        (ModularArithmetic(), "train_fraction", "x", "train_fraction must be above 0 and below 1; got 'x'"),
        (ConcatenatedWindows(), "windows", 5, "windows must be whole numbers, such as (1, 2, 3); got 5"),
        (ConcatenatedWindows(), "lengths", "x", "lengths must be whole numbers, such as (1, 2, 3); got 'x'"),
        (ConcatenatedWindows(), "windows", (1, "x", 3), "windows[1] must be a whole number; got 'x'"),
        (Mixture(), "tasks", 5, "tasks must be several tasks, such as (Copy(), Reverse()); got 5"),
        (Mixture(), "tasks", (5,), "task must be a task such as MovingWindowSum(); got 5"),
        (Mixture(), "shares", 5, "shares must be numbers, one a task, such as (1, 1, 2); got 5"),
        (Mixture(), "shares", (1, "x", 1), "shares must be numbers, one a task, such as (1, 1, 2); got (1, 'x', 1)"),
    ],
    ids=str,
)
def test_values_of_another_kind_are_refused(task, field, value, text):
    object.__setattr__(task, field, value)
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        unchecked(type(task).__post_init__)(task)
