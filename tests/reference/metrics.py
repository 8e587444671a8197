"""The measures once more, for one sequence at a time, in plain Python numbers."""

import math

import numpy as np

Matrix = list[list[float]]


def attention_progress(pattern: list[Matrix], target: list[list[bool]]) -> float:
    """Pattern [head][row][key], target [row][key]."""
    on_target, everywhere = 0.0, 0.0
    for head in pattern:
        for row, row_target in zip(head, target, strict=True):
            for weight, wanted in zip(row, row_target, strict=True):
                everywhere += abs(weight)
                on_target += abs(weight) if wanted else 0.0
    return on_target / everywhere


def repetition_frequency(tokens: list[int]) -> float:
    repeats = 0
    for i in range(len(tokens) - 1):
        if tokens[i] == tokens[i + 1]:
            repeats += 1
    return repeats / (len(tokens) - 1)


def cosine(a: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    length_a, length_b = math.sqrt(sum(x * x for x in a)), math.sqrt(sum(y * y for y in b))
    return dot / (max(length_a, 1e-8) * max(length_b, 1e-8))


def mean_pairwise_cosine(states: Matrix, pairs: set[tuple[int, int]]) -> float:
    return sum(cosine(states[i], states[j]) for i, j in pairs) / len(pairs)


def token_accuracy(answer: list[int], truth: list[int]) -> float:
    right = 0
    for given, wanted in zip(answer, truth, strict=True):
        if given == wanted:
            right += 1
    return right / len(truth)


def position_accuracy(answers: list[list[int]], truths: list[list[int]]) -> list[float]:
    shares = []
    for position in range(len(truths[0])):
        right = [answer[position] == truth[position] for answer, truth in zip(answers, truths, strict=True)]
        shares.append(sum(right) / len(right))
    return shares


def sequence_entropy(tokens: list[int]) -> float:
    shares = [tokens.count(token) / len(tokens) for token in set(tokens)]
    return sum(share * math.log(1 / (share + 1e-6)) for share in shares)


def effective_rank(states: Matrix) -> float:
    """By the eigenvalues of the Gram matrix, whose roots are the singular values."""
    x = np.array(states, dtype=np.float64)
    gram = x @ x.T if len(x) < len(x[0]) else x.T @ x
    singular = [math.sqrt(max(value, 0.0)) for value in np.linalg.eigvalsh(gram)]
    shares = [value / sum(singular) for value in singular if value > 0]
    return math.exp(-sum(share * math.log(share) for share in shares))
