"""Matrix completion: matrices, tokens, losses by entry, what heads read, and a run from beginning to report."""

import math

import pandas as pd
import pytest
import torch
from scipy import integrate, special
from typecheck import unchecked

from plateau_interp.analysis.plateaus import summarise
from plateau_interp.hooks import BiasAttention
from plateau_interp.models import toy_model
from plateau_interp.models.settings import ModelOptions
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.tasks import MatrixCompletion
from plateau_interp.training.loop import train
from plateau_interp.training.settings import MeasuringOptions, TrainingOptions
from plateau_interp.types import Batch
from plateau_interp.views import write_report

TASK = MatrixCompletion()
PAPER = MatrixCompletion(shapes=((7, 7),), rank=2, grid_step=0.01, largest=10.0)
MIXTURE = MatrixCompletion(shapes=((2, 3), (4, 4), (3, 3)))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_paper_s_tokens():
    assert (PAPER.d_vocab, PAPER.n_pos, PAPER.mask_token, PAPER.d_output) == (2002, 49, 0, 1)
    assert PAPER.ids(torch.tensor([0.0, 0.44, -0.24, -1.5, 1.5])).tolist() == [1001, 1045, 977, 851, 1151]
    assert PAPER.ids(torch.tensor([-10.0, 10.0, 11.0, -99.0])).tolist() == [1, 2001, 2001, 1]
    grid = torch.arange(-1000, 1001) / 100
    assert torch.equal(PAPER.ids(grid), torch.arange(1, 2002))
    assert torch.equal(PAPER.ids(-grid), 2002 - PAPER.ids(grid))
    torch.testing.assert_close(PAPER.values(PAPER.ids(grid)), grid)
    assert PAPER.values(torch.tensor([0])).isnan().all()
    assert PAPER.tokens_to_text(torch.tensor([1045, 0, 977])) == ["0.44", "?", "-0.24"]


def test_the_paper_s_moments():
    matrices, seen = PAPER.draw_matrices(40_000, (7, 7), generator=generator())
    assert matrices.var().item() == pytest.approx(2 / 9, rel=0.01)
    assert matrices.abs().mean().item() == pytest.approx(10 / 27, rel=0.01)
    assert matrices.abs().max() <= 2
    assert seen.float().mean().item() == pytest.approx(0.7, abs=0.002)
    assert (~seen).sum(dim=(1, 2)).float().std().item() == pytest.approx(math.sqrt(49 * 0.21), rel=0.02)
    assert (torch.linalg.matrix_rank(matrices[:50].double(), atol=1e-5) == 2).all()


@pytest.mark.parametrize(
    ("entries", "scale", "variance"),
    [("uniform", 1.0, 2 / 9), ("normal", 0.5, 0.125), ("laplace", 0.25, 0.03125), ("full rank", 1.0, 1 / 3)],
)
def test_the_variance_is_known_for_every_law(entries, scale, variance):
    task = MatrixCompletion(shapes=((5, 5),), rank=2, entries=entries, scale=scale, grid_step=0.01)
    assert task.variance == pytest.approx(variance)
    matrices, _ = task.draw_matrices(40_000, (5, 5), generator=generator())
    assert matrices.var().item() == pytest.approx(variance, rel=0.04)
    # Of Laplace entries a hundredth of the variance lies beyond ten deviations, and is clipped.
    assert task.levels.plateau == pytest.approx(0.3 * variance, rel=0.02 if entries == "laplace" else 1e-3)
    assert (matrices.abs() <= task.bound + task.grid_step / 2).float().mean() > 0.999


def clipped_mean(density, end):
    """``E min(|x|, end)²`` of ``|x|`` with a density, by quadrature."""
    within, _ = integrate.quad(lambda x: x * x * density(x), 0, end)
    beyond, _ = integrate.quad(density, end, math.inf)
    return within + end**2 * beyond


OF_PRODUCTS = {
    "uniform": lambda x: -math.log(x) if x < 1 else 0.0,
    "normal": lambda x: 2 / math.pi * special.k0(x),
    "laplace": lambda x: 2 * special.k0(2 * math.sqrt(x)),
}
"""Density of ``|u v|``, u and v independent of one law of scale 1."""


@pytest.mark.parametrize("end", [0.1, 0.3, 1.0, 3.0, 10.0, 20.0])
@pytest.mark.parametrize("entries", OF_PRODUCTS)
def test_the_level_on_the_plateau_is_that_of_clipped_entries(entries, end):
    expected = clipped_mean(OF_PRODUCTS[entries], end)
    task = MatrixCompletion(entries=entries, largest=end, grid_step=0.01)
    assert task.levels.plateau == pytest.approx(0.3 * expected, rel=0.005)
    assert task.closed_forms["zero"].all == pytest.approx(expected, rel=0.005)
    wider = MatrixCompletion(entries=entries, scale=2.0, largest=4 * end, grid_step=0.01)
    assert wider.levels.plateau == pytest.approx(16 * 0.3 * expected, rel=0.005)


@pytest.mark.parametrize("rank", [2, 40])
@pytest.mark.parametrize("entries", [*OF_PRODUCTS, "full rank"])
def test_a_copier_of_clipped_entries_pays_the_level(entries, rank):
    free = MatrixCompletion(entries=entries, rank=rank, grid_step=0.001)
    task = MatrixCompletion(entries=entries, rank=rank, grid_step=0.001, largest=round(free.variance**0.5, 3))
    labels = task.sample(40_000, generator=generator(5)).labels
    assert task.levels.plateau == pytest.approx(0.3 * labels.square().mean().item(), rel=0.01)
    assert task.levels.plateau < 0.7 * free.levels.plateau
    assert task.variance == free.variance


@pytest.mark.parametrize(("end", "expected"), [(0.5, 0.25 - 2 * 0.125 / 3), (0.2, 0.04 - 2 * 0.008 / 3)])
def test_of_full_rank_the_clipped_level_is_exact(end, expected):
    task = MatrixCompletion(entries="full rank", largest=end)
    assert task.closed_forms["zero"].missing == pytest.approx(expected, rel=1e-12)


def test_laws_without_end_are_clipped_at_ten_deviations():
    expected = clipped_mean(OF_PRODUCTS["laplace"], 20.0)
    assert expected == pytest.approx(3.9, abs=0.05)
    assert MatrixCompletion(entries="laplace").levels.plateau == pytest.approx(0.3 * expected, rel=0.005)


@pytest.mark.parametrize("task", [TASK, PAPER, MIXTURE, MatrixCompletion(scale=0.7, grid_step=0.07)])
def test_levels_are_the_closed_ones_to_the_bit_where_nothing_is_clipped(task):
    assert task.clipped_variance == task.variance == task.rank * (task.scale**2 / 3) ** 2
    assert task.levels.plateau == task.mean_missing * task.variance


def test_a_run_on_the_clipped_plateau_has_not_dropped():
    task = MatrixCompletion(entries="normal", largest=1.0)
    paid = 0.3 * task.sample(20_000, generator=generator()).labels.square().mean().item()
    loss = paid * (1 + 0.02 * torch.randn(200, generator=generator(), dtype=torch.float64))
    loss[:3] = torch.tensor([0.5, 0.35, 0.2])
    table = pd.DataFrame({"step": range(0, 1000, 5), "loss": loss.tolist()})
    summary = summarise(table, task=task, batch_size=64)
    assert summary.level == pytest.approx(paid, rel=0.01)
    assert summary.level_expected == pytest.approx(paid, rel=0.02)
    assert (summary.has_plateau, summary.drop_step) == (True, None)


def test_a_batch_is_the_rounded_matrix_row_by_row():
    batch = TASK.sample(200, generator=generator())
    matrices, seen = TASK.draw_matrices(200, (4, 4), generator=generator())
    for matrix, mask, tokens, labels in zip(matrices, seen, batch.tokens, batch.labels, strict=True):
        for place in range(16):
            row, column = divmod(place, 4)
            value = round(float(matrix[row, column]) * 10)
            assert float(labels[place]) == pytest.approx(value / 10)
            assert int(tokens[place]) == (value + 11 if mask[row, column] else 0)


def test_as_many_entries_of_each_matrix_are_missing_if_counted():
    batch = MatrixCompletion(masking="count").sample(300, generator=generator())
    assert {int(n) for n in (batch.tokens == 0).sum(dim=1)} == {round(0.3 * 16)}
    assert (batch.tokens == 0).float().mean(dim=0).std() < 0.05


def test_samples_follow_from_the_generator_alone():
    first, again, other = (TASK.sample(9, generator=generator(seed)).tokens for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert TASK.sample(0, generator=generator()).tokens.shape == (0, 16)


def test_losses_by_entry():
    batch = Batch(torch.tensor([[0, 12], [11, 0]]), torch.tensor([[0.5, 0.1], [0.0, -0.2]]))
    output = torch.tensor([[0.3, 0.1], [0.2, -0.4]])[..., None]
    losses = TASK.entry_losses(output, batch)
    assert losses.observed.item() == pytest.approx((0.0 + 0.04) / 2)
    assert losses.missing.item() == pytest.approx((0.04 + 0.04) / 2)
    assert losses.all.item() == pytest.approx(0.12 / 4)
    assert losses.mask_value.item() == pytest.approx(0.35)
    assert TASK.loss(output, batch).item() == pytest.approx(0.12 / 4)


HUBER = MatrixCompletion(delta=0.25)


def test_the_loss_of_huber_is_square_up_to_delta_and_then_straight():
    errors = [0.0, 0.1, -0.25, 0.3, -1.0]
    batch = Batch(torch.full((1, 5), 11), torch.zeros(1, 5))
    output = torch.tensor(errors)[None, :, None].requires_grad_()
    by_hand = [e * e / 2 if abs(e) <= 0.25 else 0.25 * (abs(e) - 0.125) for e in errors]
    loss = HUBER.loss(output, batch)
    assert loss.item() == pytest.approx(sum(by_hand) / 5)
    loss.backward()
    slopes = [max(-0.25, min(0.25, e)) / 5 for e in errors]
    assert output.grad.flatten().tolist() == pytest.approx(slopes)
    assert MatrixCompletion(delta=9.0).loss(output, batch).item() == pytest.approx(TASK.loss(output, batch).item() / 2)


def test_beside_huber_the_squared_errors_are_told():
    batch = TASK.sample(50, generator=generator())
    output = torch.zeros(50, 16, 1)
    assert HUBER.entry_losses(output, batch) == TASK.entry_losses(output, batch)
    assert (HUBER.unit, HUBER.levels.plateau, HUBER.closed_forms) == ("Huber", None, TASK.closed_forms)
    model = toy_model(HUBER, d_model=16, n_heads=2)
    ours, theirs = (task.measures(model, generator=generator()) for task in (HUBER, TASK))
    assert ours.pop("squared_error").item() == pytest.approx(
        0.7 * ours["loss_observed"].item() + 0.3 * ours["loss_missing"].item(), rel=0.05
    )
    assert ours == theirs
    assert "squared_error" in HUBER.captions


@pytest.mark.parametrize("delta", [0.0, -1.0, math.nan, math.inf])
def test_a_delta_that_is_no_positive_number_is_refused(delta):
    with pytest.raises(ValueError, match="delta must be a positive number"):
        MatrixCompletion(delta=delta)


def test_what_is_not_scored_has_no_part_in_loss_and_gradient():
    batch = TASK.sample(4, generator=generator())
    output = torch.zeros(4, 16, 1, requires_grad=True)
    loss = TASK.loss(output, batch.scoring(torch.tensor([True, False, True, False])))
    assert loss.item() == pytest.approx(batch.labels[::2].square().mean().item())
    loss.backward()
    assert output.grad[1::2].abs().max() == 0
    assert output.grad[::2].isfinite().all()


@pytest.mark.parametrize("task", [PAPER, MatrixCompletion(masking="count", grid_step=0.01)], ids=["drawn", "counted"])
def test_closed_forms_are_the_losses_of_models_that_copy_and_that_say_nothing(task):
    batch = task.sample(20_000, generator=generator())
    copied = task.values(batch.tokens).nan_to_num()[..., None]
    for name, output in (("zero", torch.zeros_like(copied)), ("copy", copied)):
        losses, expected = task.entry_losses(output, batch), task.closed_forms[name]
        for kind in ("all", "observed", "missing"):
            assert getattr(losses, kind).item() == pytest.approx(getattr(expected, kind), rel=0.02, abs=1e-9)


@pytest.mark.parametrize(("value", "expected"), [(None, 0.0667), (0.44, 0.1247), (-0.24, 0.0839)])
def test_a_model_that_copies_fails_by_what_stands_in_the_gaps(value, expected):
    """The oracle of the copy check (the paper's table 1): L against X with a number in the place of the mask."""
    batch = PAPER.sample(20_000, generator=generator())
    filled = (
        batch.tokens if value is None else torch.where(batch.tokens == 0, PAPER.ids(torch.tensor(value)), batch.tokens)
    )
    copied = PAPER.values(filled).nan_to_num()[..., None]
    assert PAPER.loss(copied, batch).item() == pytest.approx(expected, rel=0.02)


def test_targets_are_what_is_seen_of_row_and_column():
    task = MatrixCompletion(shapes=((2, 3),))
    batch = task.sample(20, generator=generator())
    maps = task.optimal_attention(batch)
    assert len(maps) == 2
    for tokens, square in zip(batch.tokens, maps[0], strict=True):
        for query in range(6):
            for key in range(6):
                shares = query // 3 == key // 3 or query % 3 == key % 3
                assert bool(square[query, key]) == (shares and int(tokens[key]) != 0)


def test_shapes_are_mixed_a_batch_at_a_time():
    shapes = [MIXTURE.shape_of(MIXTURE.sample(2, generator=generator(seed))) for seed in range(60)]
    assert {*shapes} == {*MIXTURE.shapes}
    assert MIXTURE.n_pos == 16
    model = toy_model(MIXTURE, n_layers=1, d_model=16)
    found = MIXTURE.measures(model, generator=generator())
    assert {"loss_missing_2x3", "loss_missing_4x4", "loss_observed_3x3"} <= found.keys()
    parts = torch.stack([found[f"loss_missing_{shape}"] for shape in ("2x3", "4x4", "3x3")])
    assert found["loss_missing"].item() == pytest.approx(parts.mean().item())
    losses = [step.loss for step in train(model, MIXTURE, steps=6, batch_size=4, interventions=[BiasAttention()])]
    assert all(map(math.isfinite, losses))


def test_measures_of_heads_that_read_one_thing():
    model = toy_model(TASK, n_layers=1)
    kinds = TASK.kinds_of_attention(TASK.sample(1, generator=generator()))
    flat = torch.full((16, 16), 1 / 16)
    maps = [kinds["row"][0] / 4, kinds["column"][0] / 4, torch.eye(16), flat]

    def replace(pattern, *, hook):
        return torch.stack(maps).expand_as(pattern)

    with model.hooks(fwd_hooks=[("blocks.0.attn.hook_pattern", replace)]):
        found = {name: value.item() for name, value in TASK.measures(model, generator=generator()).items()}
    expected = {"row": [1, 0.25, 1, 0.25], "column": [0.25, 1, 1, 0.25], "self": [0.25, 0.25, 1, 1 / 16]}
    for kind, shares in expected.items():
        assert [found[f"attention_on_{kind}_0_{head}"] for head in range(4)] == pytest.approx(shares)
        assert found[f"attention_on_{kind}"] == pytest.approx(1)
    assert found["attention_on_observed_0_3"] == pytest.approx(0.7, abs=0.05)
    assert TASK.head_groups(found) == {"row": [(0, 0)], "column": [(0, 1)], "self": [(0, 2)], "observed": []}
    assert TASK.remark(found) == "heads (layer.head) that read mainly row 0.0; column 0.1; self 0.2"
    assert TASK.remark(
        {**found, **{f"attention_on_{kind}_0_{head}": 0.3 for kind in expected for head in range(4)}}
    ) == ("no head reads one thing mainly")


def test_a_head_that_avoids_what_is_missing_is_found():
    shares = {
        "attention_on_row_1_3": 0.3,
        "attention_on_column_1_3": 0.3,
        "attention_on_self_1_3": 0.1,
        "attention_on_observed_1_3": 0.9,
    }
    assert TASK.head_groups(shares) == {"row": [], "column": [], "self": [], "observed": [(1, 3)]}


def test_measuring_draws_from_its_own_stream_and_leaves_the_model():
    model = toy_model(TASK, d_model=16)
    first, again = (TASK.measures(model, generator=generator(3)) for _ in range(2))
    assert {name: value.item() for name, value in first.items()} == {
        name: value.item() for name, value in again.items()
    }
    assert not any(point.fwd_hooks for point in model.hook_dict.values())
    batch = TASK.batch(*TASK.draw_matrices(TASK.n_matrices, (4, 4), generator=generator(3)))
    losses = TASK.entry_losses(model(batch.inputs), batch)
    assert first["loss_missing"].item() == pytest.approx(losses.missing.item())
    assert first["mask_value"].item() == pytest.approx(losses.mask_value.item())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shapes": ()}, "shapes must be one or several pairs"),
        ({"shapes": ((4, 4, 4),)}, "shapes must be pairs of rows and columns"),
        ({"shapes": ((2, 6), (3, 4))}, "shapes must differ in how many entries they have"),
        ({"shapes": ((1, 1),)}, "shapes must have 2 entries at least"),
        ({"shapes": ((0, 4),)}, "shapes must be"),
        ({"rank": 0}, "rank must be"),
        ({"missing": 0.0}, "missing must be above 0 and below 1; got 0.0"),
        ({"missing": 1.0}, "missing must be above 0 and below 1; got 1.0"),
        ({"masking": "some"}, "masking must be one of"),
        ({"masking": "count", "shapes": ((1, 2),), "missing": 0.2}, "missing must leave every matrix something to see"),
        ({"entries": "cauchy"}, "entries must be one of"),
        ({"scale": 0.0}, "scale must be a positive number"),
        ({"grid_step": -0.1}, "grid_step must be a positive number"),
        ({"grid_step": 3.0}, "grid_step must be at most the largest value, 1; got 3.0"),
        ({"largest": 0.0}, "largest must be a positive number"),
    ],
)
def test_what_is_no_matrix_task_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        unchecked(MatrixCompletion.__init__)(object.__new__(MatrixCompletion), **fields)


def test_a_batch_of_other_matrices_is_told():
    with pytest.raises(ValueError, match=r"sequences of 5 tokens are no matrices of the shapes \[\(4, 4\)\]"):
        TASK.optimal_attention(Batch(torch.ones(1, 5, dtype=torch.long), torch.zeros(1, 5)))


def recipe_of(**training) -> Recipe:
    return Recipe(
        TASK,
        ModelOptions(n_heads=2, d_model=16),
        TrainingOptions(**{"steps": 12, "batch_size": 8, **training}),
        measuring=MeasuringOptions(every=3),
        checkpoint_every=4,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    made = Run.create(tmp_path_factory.mktemp("runs") / "whole", recipe_of())
    list(made.train())
    return made


def same_weights(one: Run, other: Run, step: int) -> bool:
    pairs = zip(one.model(step).parameters(), other.model(step).parameters(), strict=True)
    return all(torch.equal(mine, its) for mine, its in pairs)


def test_a_run_is_resumed_and_forked_bit_for_bit(run, tmp_path):
    halted = Run.create(tmp_path / "halted", recipe_of())
    for step in halted.train():
        if step.step == 6:
            break
    list(Run(tmp_path / "halted").train())
    assert same_weights(run, Run(tmp_path / "halted"), 12)
    fork = run.fork(at=4, interventions=[], out=tmp_path / "fork")
    list(fork.train())
    assert same_weights(run, fork, 12)
    assert (
        fork.metrics.query("step >= 4")["loss_missing"].tolist()
        == run.metrics.query("step >= 4")["loss_missing"].tolist()
    )


def test_a_fork_under_an_intervention_goes_another_way(run, tmp_path):
    fork = run.fork(at=4, interventions=[BiasAttention(factor=5.0)], out=tmp_path / "biased")
    list(fork.train())
    assert not same_weights(run, fork, 12)
    before, after = (each.metrics.query("step == 6")["attention_progress"].item() for each in (run, fork))
    assert after > before + 0.1


def test_a_report_tells_losses_by_entry_and_heads(run, undrawn):
    text = write_report(run).read_text()
    assert "mean square" in text
    assert "nats" not in text
    assert "Thin lines: its parts." in text
    assert "Mean absolute output at missing entries" in text
    assert "Share of attention, mean over queries and matrices, that is on the query&#39;s row." in text
    assert "Step 0: " in text
    assert run.summary.level_expected == pytest.approx(0.3 / 9)


@pytest.mark.parametrize("task", [TASK, PAPER, MIXTURE, MatrixCompletion(shapes=((2, 5),))], ids=str)
def test_corrupting_negates_one_line_and_what_is_missing_in_it(task):
    batch = task.sample(200, generator=generator(3))
    before = batch.tokens.clone()
    corrupted = task.corrupt(batch, generator=generator(4))
    assert torch.equal(batch.tokens, before)
    n_rows, n_columns = task.shape_of(batch)
    for old, new, old_labels, new_labels in zip(
        batch.tokens, corrupted.tokens, batch.labels, corrupted.labels, strict=True
    ):
        matrix, changed = old_labels.view(n_rows, n_columns), new_labels.view(n_rows, n_columns)
        flipped = (matrix != changed).nonzero()
        assert len(flipped[:, 0].unique()) == 1 or len(flipped[:, 1].unique()) == 1
        assert all(changed[place] == -matrix[place] for place in map(tuple, flipped.tolist()))
        assert ((old == 0) == (new == 0)).all()
        assert (old != new).any()
        assert torch.equal(new, torch.where(old == 0, 0, task.ids(new_labels)))
        gaps = old == 0
        if gaps.any():
            # Only a matrix none of whose lines has both a gap and a number keeps what it is asked for.
            seen_in = [line for line in (*(~gaps).view(n_rows, n_columns), *(~gaps).view(n_rows, n_columns).T)]
            numbers = [*matrix, *matrix.T]
            asked = [((~a) & (b != 0)).any() and (a & (b != 0)).any() for a, b in zip(seen_in, numbers, strict=True)]
            assert (old_labels[gaps] != new_labels[gaps]).any() == any(asked)
    assert torch.equal(corrupted.tokens, task.corrupt(batch, generator=generator(4)).tokens)
    assert not torch.equal(corrupted.tokens, task.corrupt(batch, generator=generator(5)).tokens)


def test_of_the_lines_with_a_gap_that_one_is_negated_of_which_least_is_seen():
    task = MatrixCompletion(shapes=((2, 3),))
    matrix = torch.tensor([[[0.1, 0.2, 0.3], [0.2, 0.4, 0.6]]])
    seen = torch.tensor([[[True, True, False], [True, True, True]]])
    corrupted = task.corrupt(
        task.batch(matrix, seen), generator=generator()
    )  # two are seen in the row, one in the column
    assert task.tokens_to_text(corrupted.tokens[0]) == ["0.1", "0.2", "?", "0.2", "0.4", "-0.6"]
    torch.testing.assert_close(corrupted.labels[0], torch.tensor([0.1, 0.2, -0.3, 0.2, 0.4, -0.6]))
    lines = torch.stack(
        [task.corrupt(task.batch(matrix, seen | True), generator=generator(seed)).labels[0] for seed in range(40)]
    )
    assert len(lines.unique(dim=0)) == 3  # nothing is missing: each column, of two entries, in turn


def test_what_cannot_be_corrupted_is_refused():
    zeros = TASK.batch(torch.zeros(1, 4, 4), torch.ones(1, 4, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="nothing is seen but zeros"):
        TASK.corrupt(zeros, generator=generator())
    task = MatrixCompletion(entries="full rank")
    with pytest.raises(ValueError, match="entries of full rank say nothing"):
        task.corrupt(task.sample(2, generator=generator()), generator=generator())


def test_numbers_in_gaps_and_negated_matrices():
    batch = PAPER.batch(torch.tensor([[[0.44, -0.24], [1.5, 0.0]]]), torch.tensor([[[True, False], [True, True]]]))
    filled = PAPER.with_number(batch, -1.5)
    assert filled.tokens.tolist() == [[1045, 851, 1151, 1001]]
    assert torch.equal(filled.labels, batch.labels)
    negated = PAPER.negated(batch)
    assert negated.tokens.tolist() == [[957, 0, 851, 1001]]
    torch.testing.assert_close(negated.labels, torch.tensor([[-0.44, 0.24, -1.5, 0.0]]))
    again = PAPER.negated(negated)
    assert torch.equal(again.tokens, batch.tokens)
    assert torch.equal(again.labels, batch.labels)
