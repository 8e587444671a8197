"""What each task's answers, targets and losses are, said slowly: loops, dictionaries and enumeration."""

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence

Sequences = list[list[int]]


def moving_window(numbers: list[int], *, operation: str, k: int, p: int, edge: str) -> list[int]:
    answers = []
    for i in range(len(numbers)):
        if i + 1 < k and edge == "copy":
            answers.append(numbers[i])
            continue
        window = []
        for j in range(len(numbers)):
            if i - k < j <= i:
                window.append(numbers[j])
        answers.append(combine(window, operation=operation, p=p))
    return answers


def combine(window: list[int], *, operation: str, p: int) -> int:
    """Numbers, oldest first, combined modulo p."""
    if operation == "sum":
        return sum(window) % p
    if operation == "difference":
        return (window[0] - sum(window[1:])) % p
    if operation == "product":
        return math.prod(window) % p
    (quotient,) = [y for y in range(p) if (y * math.prod(window[:-1]) - window[-1]) % p == 0]
    return quotient


def moving_window_targets(*, n: int, k: int, edge: str) -> set[tuple[int, int]]:
    """The (query, key) pairs of the solution; answer r is predicted at query n + r."""
    pairs = set()
    for r in range(n):
        first = r - k + 1
        if first < 0:
            first = r if edge == "copy" else 0
        pairs |= {(n + r, key) for key in range(first, r + 1)}
    return pairs


def prefix_sum(numbers: list[int], *, p: int) -> list[int]:
    answers, total = [], 0
    for number in numbers:
        total += number
        answers.append(total % p)
    return answers


def repeat(numbers: list[int], *, k: int, p: int, source: int) -> list[int]:
    answers = []
    for block in range(k):
        for _ in range(len(numbers) // k):
            answers.append((numbers[source] + block) % p)
    return answers


def histogram(numbers: list[int]) -> list[int]:
    return [numbers.count(number) for number in numbers]


def permuted(inputs: list[int], places: list[int], *, compose: int) -> list[int]:
    answers = []
    for i in range(len(inputs)):
        place = i
        for _ in range(compose):
            place = places[place]
        answers.append(inputs[place])
    return answers


def permutation_sequence(inputs: Iterable[int], places: Iterable[int], *, compose: int) -> list[int]:
    inputs, places = list(inputs), list(places)
    return [*inputs, 0, *(place + 1 for place in places), 0, *permuted(inputs, places, compose=compose)]


def addition_sequence(a: int, b: int, *, n: int, base: int) -> list[int]:
    return [
        *reversed(digits(a, n, base=base)),
        base,
        *reversed(digits(b, n, base=base)),
        base + 1,
        *digits(a + b, n + 1, base=base),
    ]


def digits(number: int, n: int, *, base: int) -> list[int]:
    """The n digits of a number, last first."""
    found = []
    for _ in range(n):
        found.append(number % base)
        number //= base
    assert number == 0
    return found


def equation(a: int, b: int, *, operation: str, p: int) -> int | None:
    """The residue c with a OP b = c; None where there is none."""
    if operation == "add":
        return (a + b) % p
    if operation == "multiply":
        return (a * b) % p
    if operation == "subtract":
        return next(c for c in range(p) if (c + b) % p == a)
    quotients = [c for c in range(p) if (c * b) % p == a]
    return quotients[0] if len(quotients) == 1 else None


def every_equation(operations: Sequence[str], *, p: int, layout: str) -> Sequences:
    """All equations, operation after operation."""
    first_operator, sequences = p, []
    for index, operation in enumerate(operations):
        operator = first_operator + index
        for a, b in itertools.product(range(p), repeat=2):
            c = equation(a, b, operation=operation, p=p)
            if c is not None:
                after = first_operator + len(operations)
                if layout == "infix":
                    sequences.append([a, operator, b, after, c])
                else:
                    sequences.append([operator, a, after, b, after + 1, c])
    return sequences


def concatenated_windows(
    numbers: list[int], *, windows: Iterable[int], lengths: Iterable[int], arrangement: str, p: int
) -> list[int]:
    return [sum(numbers[key] for key in keys) % p for keys in concatenated_targets(windows, lengths, arrangement)]


def concatenated_targets(windows: Iterable[int], lengths: Iterable[int], arrangement: str) -> list[list[int]]:
    """The inputs that each answer sums."""
    targets, start, furthest = [], 0, 0
    for window, length in zip(windows, lengths, strict=True):
        for j in range(length):
            targets.append([start + j + step for step in range(window)])
            furthest = max(furthest, start + j + window)
        if arrangement == "disjoint":
            start = furthest
    return targets


def every_sequence(
    numbers: Iterable[int], n: int, *, separator: int, answers: Callable[[list[int]], list[int]]
) -> Sequences:
    """All equally likely sequences of a task with independent inputs and one separator."""
    return [[*inputs, separator, *answers(list(inputs))] for inputs in itertools.product(numbers, repeat=n)]


def every_addition(*, n: int, base: int) -> Sequences:
    summands = range(1, base**n)
    return [addition_sequence(a, b, n=n, base=base) for a in summands for b in summands]


def every_permutation(*, n: int, n_symbols: int, compose: int) -> Sequences:
    symbols = range(n + 1, n + 1 + n_symbols)
    return [
        permutation_sequence(inputs, places, compose=compose)
        for inputs in itertools.product(symbols, repeat=n)
        for places in itertools.permutations(range(n))
    ]


def determines(sequences: Sequences, position: int, keys: Collection[int]) -> bool:
    """Whether the tokens at the keys leave no choice for the token at a position."""
    found: dict[tuple[int, ...], int] = {}
    return all(
        found.setdefault(tuple(sequence[key] for key in sorted(keys)), sequence[position]) == sequence[position]
        for sequence in sequences
    )


def entropy(counts: Counter[int]) -> float:
    total = sum(counts.values())
    return -sum(count / total * math.log(count / total) for count in counts.values())


def marginal_entropy(sequences: Sequences, position: int) -> float:
    """Nats a predictor pays at a position if it knows how often each token comes there, and nothing else."""
    return entropy(Counter(sequence[position] for sequence in sequences))


def conditional_entropy(sequences: Sequences, position: int) -> float:
    """Nats the best predictor pays at a position, given all tokens before it."""
    after = defaultdict(Counter)
    for sequence in sequences:
        after[tuple(sequence[:position])][sequence[position]] += 1
    return sum(sum(counts.values()) / len(sequences) * entropy(counts) for counts in after.values())
