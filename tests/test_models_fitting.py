"""What a task gives must be what it says that it gives: told when training begins, not by torch in a forward."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from filled import FilledNumbers, FilledTokens
from two_texts import two_texts
from typecheck import unchecked

from plateau_interp.models.fitting import check_fits, check_sequences, check_task, check_tokens
from plateau_interp.models.settings import ModelOptions
from plateau_interp.models.tokenizers import keep_tokenizer_
from plateau_interp.models.toy import toy_model
from plateau_interp.runs.recipe import Recipe
from plateau_interp.tasks import Copy, ModularArithmetic, MovingWindowSum
from plateau_interp.training.loop import train
from plateau_interp.training.meter import Meter
from plateau_interp.types import IGNORE, Batch, Task

TASK = MovingWindowSum(n=4, p=7)
BATCH = TASK.sample(3, generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True)
class Beyond(MovingWindowSum):
    """Its tokens begin at 100."""

    name: ClassVar[str] = "beyond"

    def sample(self, n: int, *, generator: torch.Generator) -> Batch:
        batch = super().sample(n, generator=generator)
        return Batch(batch.tokens + 100, batch.labels)


@dataclass(frozen=True)
class Narrow(MovingWindowSum):
    """Its map has the size of the answer alone."""

    name: ClassVar[str] = "narrow"

    def optimal_attention(self, batch: Batch) -> list[torch.Tensor | None]:
        return [torch.ones(1, 4, 4, dtype=torch.bool)]


def test_what_a_task_of_ours_gives_is_taken() -> None:
    check_sequences(TASK, BATCH)
    check_sequences(TASK, Batch(BATCH.tokens.int(), torch.full_like(BATCH.labels, IGNORE)))
    check_sequences(ModularArithmetic(), ModularArithmetic().train_set)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (BATCH.tokens, r"must be a Batch\(tokens, labels\); got tensor"),
        (Batch(BATCH.tokens + 1, BATCH.labels), r": tokens must be from 0 to d_vocab - 1 = 7; got 1 to 8$"),
        (Batch(BATCH.tokens - 1, BATCH.labels), r": tokens must be from 0 to d_vocab - 1 = 7; got -1 to 6$"),
        (Batch(BATCH.tokens, BATCH.labels + 1), r": labels must be from 0 to d_vocab - 1 = 7; got 1 to 8$"),
        (Batch(BATCH.tokens[:, :-2], BATCH.labels), r": tokens must be \[batch, n_pos=9\]; got \[3, 7\]$"),
        (Batch(BATCH.tokens, BATCH.tokens), r": labels must be \[batch, n_pos - 1=8\]; got \[3, 9\]$"),
    ],
)
def test_what_is_not_as_the_task_says_is_refused(batch: Any, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^the sequences of MovingWindowSum\(n=4, .*{message}"):
        unchecked(check_sequences)(TASK, batch)


class Bare(Task):
    """With all that must be there."""

    name: ClassVar[str] = "bare"
    d_vocab, n_pos, answer = 8, 9, slice(5, 9)

    def sample(self, n: int, *, generator: torch.Generator) -> Batch:
        return TASK.sample(n, generator=generator)


@pytest.mark.parametrize(
    ("member", "value", "message"),
    [
        ("d_vocab", None, r"^d_vocab of the task Bare must be a whole number; got None$"),
        ("n_pos", None, r"^n_pos of the task Bare must be a whole number; got None$"),
        ("n_pos", 1, r"^n_pos of the task Bare must be at least 2; got 1$"),
        ("answer", None, r"^answer of the task Bare must be a slice of .* from 1 to n_pos=9, .*; got None$"),
        ("answer", 8, r"^answer of the task Bare must be a slice"),
        ("answer", slice(-4, None), r"^answer of the task Bare must be a slice .*; got slice\(-4, None, None\)$"),
        ("answer", slice(0, 4), r"^answer of the task Bare must be a slice"),
        ("answer", slice(5, 10), r"^answer of the task Bare must be a slice"),
        ("answer", slice(5, 5), r"^answer of the task Bare must be a slice"),
        ("defaults", {"steps": 5}, r"^defaults of the task Bare must be Defaults\(...\); got \{'steps': 5\}$"),
    ],
)
def test_a_task_that_leaves_out_what_it_must_say_is_told(
    member: str, value: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_task(Bare())
    monkeypatch.setattr(Bare, member, value, raising=False)
    with pytest.raises(ValueError, match=message):
        check_task(Bare())


def test_levels_that_are_none_are_told_with_the_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bare, "levels", (1, 2, 3), raising=False)
    with pytest.raises(ValueError, match=r"^levels of the task Bare must be Levels\(...\); got \(1, 2, 3\)$"):
        check_sequences(Bare(), BATCH)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_memory_that_a_model_would_need_is_that_of_its_weights(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    task, options = MovingWindowSum(n=4, p=19), ModelOptions(d_model=16, n_layers=2, d_mlp=24, dtype=dtype)
    model = Recipe(task, model=options).build_model()
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    monkeypatch.setattr("plateau_interp.checks.machine_memory", lambda: 500)
    with pytest.raises(ValueError, match=r"^not enough memory: a model with .* would need [\d,]+ bytes") as refused:
        Recipe(task, model=options).build_model()
    told = int(re.findall(r"need ([\d,]+) bytes", str(refused.value))[0].replace(",", ""))
    assert told == pytest.approx(weights, rel=0.1)  # less its biases and norms


def test_token_ids_are_whole_numbers_of_32_or_64_bits() -> None:
    for dtype in (torch.int64, torch.int32):
        check_tokens("tokens", BATCH.tokens.to(dtype))
    for tokens in (BATCH.tokens.float(), BATCH.tokens.bool(), BATCH.tokens[0], BATCH.tokens.tolist()):
        with pytest.raises(ValueError, match=r"^tokens must be token ids, a tensor of torch.int64 \[batch, pos\]; got"):
            check_tokens("tokens", tokens)


def test_numbers_that_are_no_tokens_are_refused() -> None:
    floats = object.__new__(Batch)
    object.__setattr__(floats, "tokens", BATCH.tokens.float())
    object.__setattr__(floats, "labels", BATCH.labels)
    with pytest.raises(ValueError, match=r"tokens must be whole numbers \(torch.int64\); got torch.float32$"):
        check_sequences(TASK, floats)


def test_labels_of_a_loss_of_its_own_are_its_own_affair() -> None:
    class Counting(MovingWindowSum):
        def loss(self, output: torch.Tensor, batch: Batch) -> torch.Tensor:
            return output.mean()

    check_sequences(Counting(n=4, p=7), Batch(BATCH.tokens, BATCH.labels + 100))


def test_tokens_beyond_the_vocabulary_are_told_when_training_begins() -> None:
    task = Beyond(n=4, p=7)
    message = r"^the sequences of Beyond\(.*tokens must be from 0 to d_vocab - 1 = 7; got 10[0-9] to 107$"
    with pytest.raises(ValueError, match=message):
        next(train(toy_model(task, d_model=8), task, steps=1, batch_size=8))
    with pytest.raises(ValueError, match=r"tokens must be from 0 to d_vocab - 1 = 7"):
        Recipe(task, model=ModelOptions(d_model=8)).rehearse()


def test_a_meter_tells_it_in_a_loop_of_one_s_own() -> None:
    model, meter = toy_model(TASK, d_model=8), Meter(Beyond(n=4, p=7), n_sequences=2)
    with meter.watching(model):
        model(BATCH.inputs)
    with pytest.raises(ValueError, match=r"^the sequences of Beyond\(.*tokens must be"):
        meter.measure(model, BATCH, generator=torch.Generator())


def test_a_map_of_the_wrong_size_is_told_before_anything_is_written() -> None:
    message = r"^optimal_attention of Narrow\(.*here \[1 or 1, 8, 8\]; got a tensor \[1, 4, 4\]$"
    with pytest.raises(ValueError, match=message):
        Recipe(Narrow(n=4, p=7), model=ModelOptions(d_model=8)).rehearse()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": torch.zeros(2, 5)}, r"labels must be \[batch, n_pos=6\]|a label for each token"),
        ({"tokens": torch.zeros(2, 7, dtype=torch.long)}, r"tokens must be \[batch, n_pos=6\]; got \[2, 7\]"),
        ({"tokens": torch.full((2, 6), 9)}, "tokens must be from 0 to d_vocab - 1 = 8; got 9 to 9"),
    ],
)
def test_sequences_that_are_filled_in_are_checked(change, message):
    batch = {"tokens": torch.zeros(2, 6, dtype=torch.long), "labels": torch.zeros(2, 6)}
    check_sequences(FilledNumbers(), Batch(**batch))
    check_sequences(FilledNumbers(n=7), Batch(**batch))  # of several sizes, one in a batch
    with pytest.raises(ValueError, match=message):
        check_sequences(FilledNumbers(), Batch(**(batch | change)))


def test_numbers_need_a_loss_of_their_own():
    batch = Batch(torch.zeros(2, 6, dtype=torch.long), torch.zeros(2, 6))
    with pytest.raises(ValueError, match="labels must be whole numbers"):
        check_sequences(FilledTokens(), batch)


def test_a_model_must_give_the_numbers_that_a_task_asks_for():
    with pytest.raises(ValueError, match="the model gives d_vocab_out=9 numbers a position; filled-numbers needs 1"):
        check_fits(toy_model(FilledTokens()), FilledNumbers())
    with pytest.raises(ValueError, match="sees what it would have to predict of copy"):
        check_fits(toy_model(FilledTokens(n=6, d_vocab=40), n_ctx=40), Copy(n=2))


def test_a_lookahead_is_a_number_of_positions():
    class Behind(FilledNumbers):
        lookahead = -1

    with pytest.raises(ValueError, match="lookahead of the task Behind must be"):
        check_task(Behind())


def test_a_model_that_reads_with_another_vocabulary_is_refused(tmp_path: Path) -> None:
    sea, sky = two_texts(tmp_path)
    model = toy_model(sea, d_model=8, n_heads=1, n_layers=1)
    told = (
        r"^the vocabularies of the model and of Text\(.* differ: token 256 is '.*' and '.*'; keep_tokenizer_\(model, "
    )
    with pytest.raises(ValueError, match=told):
        next(train(model, sky, steps=1, batch_size=2))
    with pytest.raises(ValueError, match="they have 262 and 260 tokens"):  # the last two would never be trained
        next(train(toy_model(replace(sea, vocabulary=262), d_model=8), sea, steps=1, batch_size=2))
    next(train(model, replace(sea, n=4), steps=1, batch_size=2))
    keep_tokenizer_(model, sky.tokenizer)
    next(train(model, sky, steps=1, batch_size=2))


def test_a_task_without_text_may_be_any_model_s(tmp_path: Path) -> None:
    model = toy_model(two_texts(tmp_path)[0], d_model=8)
    next(train(model, MovingWindowSum(n=2), steps=1, batch_size=2))
