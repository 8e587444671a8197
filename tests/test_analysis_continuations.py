"""What was written in numbers: the paper's, as transformers alone gives them, and what real tokens change."""

import math
from itertools import combinations, pairwise
from typing import Any

import pytest
import torch
from reference.published import by_transformers
from test_decoding_continuing import N_NEW, PROMPTS, lively
from torch import Tensor

from plateau_interp import metrics
from plateau_interp.analysis.continuations import (
    cosine_across_prompts,
    distinct_tokens,
    repetition,
    state_cosine,
    token_entropy,
)
from plateau_interp.decoding import Continuation, continued
from plateau_interp.models import pretrained_model

ALL = (cosine_across_prompts, distinct_tokens, repetition, state_cosine, token_entropy)


def written(tokens: list[list[int]], lengths: list[int] | None = None, states: Tensor | None = None) -> Continuation:
    """By hand: sequences that end after some tokens."""
    new = torch.tensor(tokens)
    n_real = torch.tensor([new.shape[1]] * len(new) if lengths is None else lengths)
    mask = torch.arange(new.shape[1]) < n_real[:, None]
    prompts = torch.ones(len(new), 1, dtype=torch.long)
    kept = None if states is None else states.where(mask[..., None], 0)
    return Continuation(prompts, prompts.bool(), new.where(mask, 0), mask, kept, None)


def some_states(batch: int, new: int) -> Tensor:
    return torch.randn(batch, new, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("case", ["GPT-2", "GPT-NeoX", "Llama, grouped", "OLMo-2, grouped"])
def test_cosine_and_repetition_are_those_of_the_published_method(case: str) -> None:
    """States of ``generate``, one prompt at a time, without a cache; no code of ours in between."""
    theirs: Any = lively(case)
    cosines, repeated = [], []
    for prompt in PROMPTS:
        tokens, states = by_transformers(theirs, prompt, n_new=N_NEW)
        pairs = [torch.cosine_similarity(one, other, dim=0) for one, other in combinations(states, 2)]
        assert len(pairs) == 28
        cosines.append(sum(pairs) / 28)
        repeated.append(sum(one == other for one, other in pairwise(tokens)) / 7)
    ours = continued(pretrained_model(theirs), PROMPTS, 8, never=[2])
    torch.testing.assert_close(state_cosine(ours), torch.stack(cosines), atol=1e-4, rtol=0)
    torch.testing.assert_close(repetition(ours), torch.tensor(repeated), atol=1e-4, rtol=0)


def test_whole_sequences_are_measured_as_answers_are() -> None:
    full = written([[5, 5, 2, 5], [1, 2, 3, 4], [9, 9, 9, 9]], states=some_states(3, 4))
    torch.testing.assert_close(state_cosine(full), metrics.mean_pairwise_cosine(full.states))
    torch.testing.assert_close(repetition(full), metrics.repetition_frequency(full.tokens))
    torch.testing.assert_close(token_entropy(full), metrics.sequence_entropy(full.tokens, d_vocab=10))
    assert distinct_tokens(full).tolist() == [0.5, 1.0, 0.25]


def test_what_stands_after_the_end_does_not_count() -> None:
    """A short sequence has the numbers that it has without the padding of the batch."""
    tokens, lengths, states = [[0, 0, 7, 1], [4, 0, 0, 0], [3, 8, 3, 9]], [2, 4, 3], some_states(3, 4)
    batch = written(tokens, lengths, states)
    for measure in (distinct_tokens, repetition, state_cosine, token_entropy):
        for index, n_real in enumerate(lengths):
            alone = written([tokens[index][:n_real]], states=states[index : index + 1, :n_real])
            torch.testing.assert_close(measure(batch)[index], measure(alone)[0])
    assert repetition(batch).tolist() == pytest.approx([1.0, 2 / 3, 0.0])
    assert distinct_tokens(batch).tolist() == pytest.approx([0.5, 0.5, 2 / 3])
    assert token_entropy(batch)[0] == pytest.approx(0, abs=1e-5)
    assert token_entropy(batch)[2] == pytest.approx(math.log(3) - 2 / 3 * math.log(2), abs=1e-5)


def test_prompts_are_compared_at_the_same_new_token() -> None:
    lengths, states = [2, 4, 3], some_states(3, 4)
    batch = written([[1] * 4] * 3, lengths, states)
    for index in range(3):
        pairs = [
            torch.cosine_similarity(states[index, at], states[other, at], dim=0)
            for other in range(3)
            for at in range(min(lengths[index], lengths[other]))
            if other != index
        ]
        torch.testing.assert_close(cosine_across_prompts(batch)[index], sum(pairs) / len(pairs))


def test_what_has_nothing_to_compare_is_nan() -> None:
    single = written([[3, 1], [4, 1]], [1, 2], some_states(2, 2))
    assert [bool(measure(single)[0].isnan()) for measure in (repetition, state_cosine)] == [True, True]
    assert not repetition(single)[1].isnan()
    assert cosine_across_prompts(written([[3, 1]], states=some_states(1, 2))).isnan().all()


def test_cosines_are_in_float32_whatever_the_states_are() -> None:
    close = torch.tensor([[[1.0, 0.0], [1.0, 0.047]]])  # cosine 0.9989
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        assert state_cosine(written([[1, 2]], states=close.to(dtype))).item() == pytest.approx(0.9989, abs=1e-4)
    assert state_cosine(written([[1, 2]], states=close.double())).dtype == torch.float64


@pytest.mark.parametrize("measure", [state_cosine, cosine_across_prompts])
def test_states_that_were_not_kept_are_missed(measure: Any) -> None:
    with pytest.raises(ValueError, match=r"no states were kept to compare: continue with states_at='unembed\.hook_in'"):
        measure(written([[1, 2]]))


def test_there_is_a_number_a_prompt() -> None:
    batch = written([[1, 2, 2], [3, 3, 1]], states=some_states(2, 3))
    assert [measure(batch).shape for measure in ALL] == [(2,)] * len(ALL)
