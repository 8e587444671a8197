"""What is measured of one checkpoint, against plain loops."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from plateau_interp import toy_model
from plateau_interp.hooks import AblateHeads
from plateau_interp.interventions.attaching import intervening
from plateau_interp.series.measures import check_own_measures, free_running, teacher_forced, windows_of
from plateau_interp.tasks import MovingWindowSum, Text

PROMPTS = ["Why is the sky blue?", "What is a comet?", "How do bees find a flower?"]


@pytest.fixture
def model():
    return toy_model(Text(), d_model=32, n_heads=2, seed=3)


def test_answers_are_greedy_and_a_row_a_prompt(model):
    means, table = free_running(model, PROMPTS, n_new=4)
    assert list(table["prompt"]) == [0, 1, 2]
    for prompt, row in zip(PROMPTS, table.to_dict(orient="records"), strict=True):
        tokens = model.tokenizer.encode(prompt)
        for new in row["tokens"]:
            assert int(model(torch.tensor([tokens]))[0, -1].argmax()) == new
            tokens.append(new)
        assert "".join(row["pieces"]) == row["text"] == model.tokenizer.decode(row["tokens"])
        assert row["distinct_tokens"] == len(set(row["tokens"])) / 4
    assert means["cosine"] == pytest.approx(table["cosine"].mean())


def test_a_measure_of_ones_own_sees_the_model_and_what_it_wrote(model):
    own = {
        "width": lambda seen, written: seen.cfg.d_model + len(written),
        "size": lambda seen, written: seen.W_E.norm(),  # with a gradient, which is nobody's concern here
    }
    means, _ = free_running(model, PROMPTS, own=own)
    assert means["width"] == 35
    assert means["size"] == pytest.approx(float(model.W_E.detach().norm()))


@pytest.mark.parametrize(
    "given",
    [
        lambda numbers: torch.tensor(numbers),
        lambda numbers: torch.tensor(numbers, dtype=torch.float32, requires_grad=True),
        lambda numbers: numbers,
        lambda numbers: tuple(torch.tensor(number, requires_grad=True) for number in numbers),
        lambda numbers: np.array(numbers),
        lambda numbers: pd.Series(numbers, index=[7, 8, 9]),
    ],
)
def test_a_measure_of_ones_own_may_be_of_each_prompt(model, given):
    means, table = free_running(model, PROMPTS, own={"mine": lambda model, written: given([1.0, 2.5, 4.0])})
    assert list(table["mine"]) == [1.0, 2.5, 4.0]
    assert means["mine"] == 2.5


def test_a_measure_that_works_in_place_changes_no_other_s_number(model):
    def length(seen, written):
        return written.states.norm(dim=-1).mean(dim=-1)

    def sums(seen, written):
        return sum(float(tensor.double().sum()) for tensor in (written.prompts, written.tokens, written.mask))

    def spoiling(seen, written):
        for tensor in (written.states, written.tokens, written.prompts, written.mask, written.prompt_mask):
            tensor.zero_()
        return 0.0

    alone, _ = free_running(model, PROMPTS, own={"length": length, "sums": sums})
    means, _ = free_running(model, PROMPTS, own={"spoiling": spoiling, "length": length, "sums": sums})
    assert (means["length"], means["sums"]) == (alone["length"], alone["sums"])
    assert means["sums"] > 0


def test_a_measure_of_all_prompts_together_is_no_column(model):
    for one_number in (3, 3.0, True, torch.tensor(3.0), torch.tensor([3.0]), np.float32(3), [3.0]):
        means, table = free_running(model, PROMPTS, own={"mine": lambda model, written, one=one_number: one})
        assert means["mine"] == float(torch.as_tensor(one_number))
        assert "mine" not in table
    means, _ = free_running(model, PROMPTS, own={"mine": lambda model, written: 0.1})
    assert means["mine"] == 0.1  # not the nearest of single precision
    means, table = free_running(model, PROMPTS[:1], own={"mine": lambda model, written: [3.0]})
    assert (means["mine"], list(table["mine"])) == (3.0, [3.0])


def test_a_prompt_without_a_number_leaves_the_mean_open_as_with_our_own(model):
    means, table = free_running(model, PROMPTS, own={"mine": lambda model, written: [1.0, math.nan, 2.0]})
    assert math.isnan(means["mine"])
    assert table["mine"].isna().tolist() == [False, True, False]


@pytest.mark.parametrize(
    "given",
    [
        [1, 2],
        [],
        torch.zeros(3, 2),
        torch.zeros(3, 1),
        "3.0",
        None,
        ["a", "b", "c"],
        {"a": 1},
        1j,
        torch.zeros(3) + 1j,
        [[1], [1, 2], [3]],
    ],
)
def test_a_measure_of_ones_own_that_is_something_else_is_named(model, given):
    with pytest.raises(
        ValueError, match=r"the measure 'mine' must give one number, or one a prompt \(3\); got "
    ) as told:
        free_running(model, PROMPTS, own={"mine": lambda model, written: given})
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["prompt", "tokens", "pieces", "text"])
def test_a_measure_of_ones_own_takes_no_column_of_the_answers(name):
    with pytest.raises(ValueError, match=f"a measure of your own cannot be called '{name}': the series has a column"):
        check_own_measures({name: len})


def test_the_held_out_loss_is_that_of_plain_counting(model):
    windows = windows_of(model, "Once upon a time there was a sea, and in it a fish. " * 40)
    loss, tokens = 0.0, 0
    for window in windows:
        log_p = model(window[None, :-1])[0].detach().log_softmax(dim=-1)
        for position, token in enumerate(window[1:]):
            loss, tokens = loss - float(log_p[position, token]), tokens + 1
    measured = teacher_forced(model, windows)
    assert measured["held_out_loss"] == pytest.approx(loss / tokens, abs=1e-4)
    with intervening(model, AblateHeads([0, 1])):
        assert teacher_forced(model, windows) != measured


def test_windows_go_from_the_beginning_to_the_end(model):
    text = "a b c d e f g h i j k l m n o p q r s t u v w x y z " * 30
    tokens = model.tokenizer(text)["input_ids"]
    windows = windows_of(model, text)
    assert windows.shape[1] == Text().n + 1 == model.cfg.n_ctx  # the model's last position is never trained
    assert windows[0].tolist() == tokens[: windows.shape[1]]
    assert windows[-1].tolist() == tokens[-windows.shape[1] :]
    for n_words in (2, 30, 60, 61, 62, 90, 119, 150):  # a short text is read to its last token
        tokens = model.tokenizer("a " * n_words)["input_ids"]
        windows = windows_of(model, "a " * n_words)
        size = windows.shape[1]
        starts = [(place * (len(tokens) - size)) // max(len(windows) - 1, 1) for place in range(len(windows))]
        assert windows.tolist() == [tokens[start : start + size] for start in starts]
        predicted = {start + place for start in starts for place in range(1, size)}
        assert predicted == set(range(1, len(tokens)))
        assert len(windows) == 1 or (len(windows) - 1) * (size - 1) < len(tokens) - 1
    assert windows_of(model, "a b").shape == (1, len(model.tokenizer("a b")["input_ids"]))
    with pytest.raises(ValueError, match="a held-out text of 0 tokens has nothing to predict"):
        windows_of(model, "")
    with pytest.raises(ValueError, match="the model has no tokenizer"):
        windows_of(toy_model(MovingWindowSum(), d_model=16), text)
