"""What is measured of one checkpoint, against plain loops."""

import pytest
import torch

from plateau_interp import toy_model
from plateau_interp.hooks import AblateHeads
from plateau_interp.interventions.attaching import intervening
from plateau_interp.series.measures import free_running, teacher_forced, windows_of
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
    assert windows.shape[1] == model.cfg.n_ctx + 1
    assert windows[0].tolist() == tokens[: windows.shape[1]]
    assert windows[-1].tolist() == tokens[-windows.shape[1] :]
    assert windows_of(model, "a b").shape == (1, len(model.tokenizer("a b")["input_ids"]))
    with pytest.raises(ValueError, match="a held-out text of 0 tokens has nothing to predict"):
        windows_of(model, "")
    with pytest.raises(ValueError, match="the model has no tokenizer"):
        windows_of(toy_model(MovingWindowSum(), d_model=16), text)
