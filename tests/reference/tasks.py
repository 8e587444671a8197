"""What each task's answers, targets and losses are, said slowly: loops, dictionaries and enumeration."""

import itertools
import math
from collections import Counter, defaultdict


def moving_window_sum(numbers: list[int], *, k: int, p: int) -> list[int]:
    answers = []
    for i in range(len(numbers)):
        if i + 1 < k:
            answers.append(numbers[i])
        else:
            total = 0
            for j in range(i - k + 1, i + 1):
                total += numbers[j]
            answers.append(total % p)
    return answers


def moving_window_targets(*, n: int, k: int) -> set[tuple[int, int]]:
    """The (query, key) pairs of the solution; answer r is predicted at query n + r."""
    pairs = set()
    for r in range(n):
        keys = [r] if r + 1 < k else range(r - k + 1, r + 1)
        pairs |= {(n + r, key) for key in keys}
    return pairs


def entropy(counts: Counter[int]) -> float:
    total = sum(counts.values())
    return -sum(count / total * math.log(count / total) for count in counts.values())


def marginal_entropy(sequences: list[list[int]], position: int) -> float:
    """Nats a predictor pays at a position if it knows how often each token comes there, and nothing else."""
    return entropy(Counter(sequence[position] for sequence in sequences))


def conditional_entropy(sequences: list[list[int]], position: int) -> float:
    """Nats the best predictor pays at a position, given all tokens before it."""
    after = defaultdict(Counter)
    for sequence in sequences:
        after[tuple(sequence[:position])][sequence[position]] += 1
    return sum(sum(counts.values()) / len(sequences) * entropy(counts) for counts in after.values())


def every_window_sequence(*, n: int, k: int, p: int, low: int, high: int, separator: int) -> list[list[int]]:
    """All equally likely sequences of a small moving-window sum."""
    return [
        [*numbers, separator, *moving_window_sum(list(numbers), k=k, p=p)]
        for numbers in itertools.product(range(low, high + 1), repeat=n)
    ]
