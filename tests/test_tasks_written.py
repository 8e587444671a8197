"""Matrices completed in writing: sequences, what is scored, kinds of answers, counterfactuals, a run."""

import math

import pytest
import torch
from typecheck import unchecked

from plateau_interp.models import toy_model
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.tasks import MatrixCompletion, WrittenCompletion
from plateau_interp.training.loop import train
from plateau_interp.training.meter import Meter
from plateau_interp.training.settings import MeasuringOptions, TrainingOptions
from plateau_interp.types import IGNORE, answer_rows
from plateau_interp.views import write_report

TASK = WrittenCompletion()
PAPER = WrittenCompletion(shape=(7, 7), rank=2, grid_step=0.01)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_paper_s_sizes():
    # 405 in the paper, of which two ids are nobody's; a value's id is 201 + 100 x, as there.
    assert (PAPER.n_pos, PAPER.d_vocab, PAPER.separator) == (99, 403, 402)
    assert PAPER.ids(torch.tensor([-2.0, 0.0, 2.0])).tolist() == [1, 201, 401]
    model = toy_model(PAPER, d_model=256)
    trained = sum(weights.numel() for weights in model.parameters() if weights.requires_grad)
    assert trained + 2 * 2 * 256 == 1_812_736  # two ids more to read and to write


def test_sequences_are_gaps_separator_whole():
    batch = TASK.sample(200, generator=generator())
    n = TASK.n_entries
    seen, middle, whole = batch.tokens[:, :n], batch.tokens[:, n], batch.tokens[:, TASK.answer]
    assert batch.tokens.shape == (200, 33)
    assert (middle == TASK.separator).all()
    assert (whole > 0).all()
    assert (whole < TASK.separator).all()
    assert ((seen == whole) | (seen == TASK.mask_token)).all()
    assert (seen == TASK.mask_token).float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert torch.equal(batch.labels, batch.tokens[:, 1:])
    assert int(batch.tokens.max()) == TASK.d_vocab - 1


def test_matrices_are_those_of_the_encoder_s_task():
    written = TASK.sample(8, generator=generator(4))
    filled_in = MatrixCompletion().sample(8, generator=generator(4))
    assert torch.equal(written.tokens[:, : TASK.n_entries], filled_in.tokens)
    torch.testing.assert_close(TASK.values(written.tokens[:, TASK.answer]), filled_in.labels)


def test_the_loss_counts_the_answer_alone_if_so_asked():
    answer = WrittenCompletion(scored="answer").sample(3, generator=generator())
    whole = TASK.sample(3, generator=generator())
    rows = answer_rows(TASK)
    assert torch.equal(answer.tokens, whole.tokens)
    assert (answer.labels[:, : rows.start] == IGNORE).all()
    assert torch.equal(answer.labels[:, rows], whole.labels[:, rows])


def test_each_row_reads_the_entry_that_it_writes():
    batch = TASK.sample(1, generator=generator())
    maps = TASK.optimal_attention(batch)
    assert len(maps) == TASK.defaults.n_layers
    (cells,) = {tuple(map(tuple, found[0].nonzero().tolist())) for found in maps}
    assert cells == tuple((TASK.n_entries + entry, entry) for entry in range(TASK.n_entries))


def test_the_separator_stands_between():
    cells = TASK.separator_map()[0].nonzero().tolist()
    assert cells == [[TASK.n_entries + entry, TASK.n_entries] for entry in range(TASK.n_entries)]


def test_an_answer_is_seen_or_missing():
    kinds = TASK.answer_kinds(TASK.sample(50, generator=generator()))
    assert [*kinds] == ["observed", "missing"]
    assert (kinds["observed"] ^ kinds["missing"]).all()
    assert kinds["missing"].float().mean().item() == pytest.approx(0.3, abs=0.05)


def test_the_meter_tells_the_accuracy_of_each_kind_of_answer(monkeypatch):
    drawn = TASK.sample(64, generator=generator(9))
    seen, whole = drawn.tokens[:, : TASK.n_entries], drawn.tokens[:, TASK.answer]
    written = torch.where(seen == TASK.mask_token, TASK.separator, whole)
    written[0, int((seen[0] != TASK.mask_token).nonzero()[0])] = TASK.separator  # one slip
    monkeypatch.setattr("plateau_interp.training.meter.known_answers", lambda *_: written)
    monkeypatch.setattr(WrittenCompletion, "sample", lambda self, n, *, generator: drawn)
    model = toy_model(TASK, d_model=8)
    step = next(train(model, TASK, steps=1, batch_size=4, meter=Meter(TASK, n_sequences=64)))
    n_seen = int((seen != TASK.mask_token).sum())
    assert float(step.metrics["accuracy_observed"]) == pytest.approx((n_seen - 1) / n_seen)
    assert float(step.metrics["accuracy_missing"]) == 0
    assert float(step.metrics["accuracy"]) == pytest.approx((n_seen - 1) / whole.numel())


def test_what_has_no_kinds_of_answers_has_no_columns_of_them():
    assert MatrixCompletion().answer_kinds(MatrixCompletion().sample(1, generator=generator())) == {}


def test_corrupting_negates_a_line_in_both_halves():
    batch = TASK.sample(40, generator=generator(2))
    corrupted = TASK.corrupt(batch, generator=generator(3))
    before, after = (TASK.values(each.tokens[:, TASK.answer]) for each in (batch, corrupted))
    assert torch.equal(before.abs(), after.abs())
    assert ((before != after).any(dim=1)).all()
    for each in (batch, corrupted):
        seen, whole = each.tokens[:, : TASK.n_entries], each.tokens[:, TASK.answer]
        assert ((seen == whole) | (seen == TASK.mask_token)).all()
        assert torch.equal(each.labels, each.tokens[:, 1:])
    gaps = [each.tokens[:, : TASK.n_entries] == TASK.mask_token for each in (batch, corrupted)]
    assert torch.equal(*gaps)
    with pytest.raises(ValueError, match="full rank"):
        WrittenCompletion(entries="full rank").corrupt(batch, generator=generator())


def test_text():
    tokens = torch.tensor([TASK.mask_token, TASK.separator, *TASK.ids(torch.tensor([-0.3])).tolist()])
    assert TASK.tokens_to_text(tokens) == ["?", "|", "-0.3"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shape": (0, 4)}, "shape must be at least 1; got 0"),
        ({"shape": ((4, 4),)}, r"shape must be rows and columns, such as \(4, 4\); got \(\(4, 4\),\)"),
        ({"shape": (1, 1)}, "shape must have 2 entries at least"),
        ({"missing": 0.01, "masking": "count"}, "something to see and something to fill in; got 0.01"),
        ({"missing": 1.0}, "missing must be above 0 and below 1"),
        ({"scored": "prompt"}, "scored"),
        ({"rank": 0}, "rank must be at least 1"),
    ],
)
def test_what_is_no_task_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        unchecked(WrittenCompletion.__init__)(object.__new__(WrittenCompletion), **fields)


@pytest.mark.parametrize("attention", ["softmax", "linear"])
def test_an_untrained_model_is_at_its_initial_loss(attention):
    model = toy_model(TASK, attention=attention, d_model=32)
    batch = TASK.sample(64, generator=generator())
    assert float(TASK.loss(model(batch.inputs), batch).detach()) == pytest.approx(math.log(TASK.d_vocab), rel=0.02)


def test_a_run_from_beginning_to_report(tmp_path, undrawn):
    task = WrittenCompletion(shape=(2, 2))
    recipe = Recipe(
        task,
        training=TrainingOptions(steps=4, batch_size=4),
        measuring=MeasuringOptions(every=2, n_sequences=4),
        checkpoint_every=2,
    )
    run = Run.create(tmp_path / "run", recipe)
    for _ in run.train():
        pass
    assert {"accuracy", "accuracy_observed", "accuracy_missing", "attention_progress_1"} <= set(run.metrics)
    page = write_report(run).read_text(encoding="utf-8")
    assert "Share of the entries, in greedy answers, that are right, of those that are seen." in page
