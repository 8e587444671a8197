"""plateau_interp.decoding.choosing: which token comes next, and when a sequence is finished."""

import math
from collections import Counter

import pytest
import torch
from test_decoding_continuing import N_NEW, PROMPTS, agree, llama, only, words
from torch import Tensor

from plateau_interp.decoding import continued, prompt_seeds
from plateau_interp.decoding.choosing import most_likely


def test_by_default_nothing_stops() -> None:
    model = llama()
    model.tokenizer = words(eos_token="</s>")
    assert continued(model, PROMPTS, N_NEW).mask.all()


@pytest.mark.parametrize("cached", [True, False])
def test_a_sequence_ends_with_the_token_that_stops_it(cached: bool) -> None:
    model = llama()
    free = continued(model, PROMPTS, N_NEW)
    stops = [int(free.tokens[0, 2]), int(free.tokens[1, 5])]
    written = continued(model, PROMPTS, N_NEW, stop=stops, cached=cached)
    for index, tokens in enumerate(free.tokens.tolist()):
        n_real = next((place + 1 for place, token in enumerate(tokens) if token in stops), N_NEW)
        assert written.mask[index].tolist() == [place < n_real for place in range(N_NEW)]
        assert written.tokens[index].tolist() == tokens[:n_real] + [0] * (N_NEW - n_real)
        torch.testing.assert_close(written.states[index, :n_real], free.states[index, :n_real], atol=1e-4, rtol=1e-4)
        assert not written.states[index, n_real:].any()
        agree(continued(model, PROMPTS[index : index + 1], N_NEW, stop=stops, cached=cached), only(index, written))
    assert 0 < written.mask.sum() < 4 * N_NEW


def test_the_end_of_text_is_the_tokenizer_s() -> None:
    model = llama()
    model.tokenizer = words(eos_token="</s>")
    free = continued(model, PROMPTS, N_NEW)
    model.tokenizer.eos_token_id = int(free.tokens[2, 3])
    assert not continued(model, PROMPTS, N_NEW, stop=["end of text"]).mask[2, 4:].any()
    never = continued(model, PROMPTS, N_NEW, stop=["end of text"], never=["end of text"])
    assert never.mask.all()
    assert model.tokenizer.eos_token_id not in never.tokens
    assert never.tokens[2, 3] != free.tokens[2, 3]


def test_a_rule_may_be_a_function_of_the_new_tokens() -> None:
    model, seen = llama(), []

    def repeats_itself(new: Tensor) -> Tensor:
        seen.append(new.shape[1])
        return (new[:, :-1] == new[:, -1:]).any(dim=1)

    written = continued(model, PROMPTS, 20, stop=[repeats_itself, 48])
    for tokens in written.lists():
        counts = Counter(tokens)
        assert max(counts.values()) <= 2
        assert tokens[-1] == 48 or counts[tokens[-1]] == 2 or len(tokens) == 20
    assert seen == list(range(1, len(seen) + 1))
    assert any(counts < 20 for counts in map(len, written.lists()))


def test_a_rule_that_writes_into_the_tokens_changes_none() -> None:
    model, seen = llama(), []

    def spoiling(new: Tensor) -> Tensor:
        new.zero_()
        return torch.zeros(len(new), dtype=torch.bool)

    def watching(new: Tensor) -> Tensor:
        seen.append(new.clone())
        return torch.zeros(len(new), dtype=torch.bool)

    free = continued(model, PROMPTS, N_NEW)
    assert torch.equal(continued(model, PROMPTS, N_NEW, stop=[spoiling, watching]).tokens, free.tokens)
    assert torch.equal(seen[-1], free.tokens)


@pytest.mark.parametrize("cached", [True, False])
def test_a_sample_does_not_depend_on_what_else_is_in_the_batch(cached: bool) -> None:
    model = llama()
    written = continued(model, PROMPTS, N_NEW, temperature=1.5, seed=3, cached=cached)
    seeds = prompt_seeds(3, 4)
    for index, prompt in enumerate(PROMPTS):
        alone = continued(model, [prompt], N_NEW, temperature=1.5, seed=seeds[index : index + 1])
        agree(alone, only(index, written))
    turned = continued(model, PROMPTS[::-1], N_NEW, temperature=1.5, seed=seeds[::-1])
    assert torch.equal(turned.tokens.flip(0), written.tokens)
    assert torch.equal(continued(model, PROMPTS, 20, temperature=1.5, seed=3).tokens[:, :N_NEW], written.tokens)
    assert not torch.equal(continued(model, PROMPTS, N_NEW, temperature=1.5, seed=4).tokens, written.tokens)
    assert not torch.equal(continued(model, PROMPTS, N_NEW).tokens, written.tokens)


def test_sampling_touches_no_other_generator() -> None:
    model, state = llama(), torch.get_rng_state()
    continued(model, PROMPTS, 2, temperature=1.0)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_tokens_are_drawn_as_often_as_their_probability_says(temperature: float) -> None:
    model, n = llama(), 5000
    prompts = torch.tensor(PROMPTS[2]).expand(n, -1)
    drawn = continued(model, prompts, 1, temperature=temperature, states_at=None).tokens.flatten()
    shares = torch.bincount(drawn, minlength=50) / n
    expected = torch.softmax(model(prompts[:1])[0, -1] / temperature, dim=-1)
    assert expected.max() < 0.999
    error = (expected * (1 - expected) / n).sqrt()
    assert ((shares - expected).abs() <= 4 * error + 1e-9).all()


def test_a_low_temperature_is_greedy_and_what_is_left_out_is_never_drawn() -> None:
    model = llama()
    greedy = continued(model, PROMPTS, N_NEW)
    assert torch.equal(continued(model, PROMPTS, N_NEW, temperature=1e-6).tokens, greedy.tokens)
    few = [token for token in range(50) if token not in (5, 9)]
    assert set(continued(model, PROMPTS, N_NEW, temperature=5.0, never=few).tokens.unique().tolist()) == {5, 9}


def test_logits_that_are_no_numbers_cannot_be_drawn_from() -> None:
    model = llama()
    model.unembed.b_U.data[3] = math.nan
    with pytest.raises(ValueError, match="new token 0 cannot be drawn: logits are NaN or infinite"):
        continued(model, PROMPTS, 2, temperature=1.0)


def test_a_tokenizer_without_an_end_of_text_says_so() -> None:
    model = llama()
    model.tokenizer = words()
    with pytest.raises(ValueError, match="a tokenizer without an end of text: give the id of the token to stop at"):
        continued(model, PROMPTS, 2, stop=["end of text"])
    with pytest.raises(ValueError, match="prompt 1 is empty: ''"):
        continued(model, ["to be", ""], 2)


def test_of_equal_logits_the_first_is_taken():
    assert most_likely(torch.tensor([[1.0, 3.0, 3.0], [2.0, 2.0, 0.0]]), 5).tolist() == [1, 0]


def test_each_prompt_has_a_seed_of_its_own_whatever_comes_after_it():
    seeds = prompt_seeds(3, 50)
    assert len({*seeds}) == 50
    assert prompt_seeds(3, 10) == seeds[:10]
    assert not {*seeds} & {*prompt_seeds(4, 50)}
    assert all(0 <= seed < 2**63 for seed in seeds)
