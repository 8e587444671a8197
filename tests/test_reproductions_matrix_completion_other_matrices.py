"""plateau_interp.reproductions.matrix_completion.other_matrices: kinds of matrices, and a model that copies beside."""

import pytest
import torch
from planted_encoders import TASK, Checkpoints, copier

from plateau_interp.analysis.nuclear_norm import complete_by_nuclear_norm, nuclear_norms
from plateau_interp.reproductions.matrix_completion import beside_nuclear_norm, masking_levels, other_kinds
from plateau_interp.reproductions.matrix_completion.other_matrices import SHARES_MISSING
from plateau_interp.tasks import MatrixCompletion
from plateau_interp.training.batches import stream_generator


def test_the_paper_s_levels() -> None:
    assert SHARES_MISSING == [0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6]
    assert [kind.missing for kind in masking_levels(TASK, SHARES_MISSING).values()] == SHARES_MISSING


def test_other_kinds_keep_grid_and_variance() -> None:
    kinds = other_kinds(TASK)
    assert [*kinds] == [
        "as trained",
        "rank 2",
        "rank 3",
        "3 rows",
        "2 rows",
        "3 columns",
        "2 columns",
        "normal",
        "laplace",
    ]
    assert {kind.d_vocab for kind in kinds.values()} == {TASK.d_vocab}
    for kind in kinds.values():
        matrices, _ = kind.draw_matrices(20_000, kind.shapes[0], generator=torch.Generator().manual_seed(0))
        assert matrices.var().item() == pytest.approx(1 / 9, rel=0.06)
    with pytest.raises(ValueError, match="must have one shape, and factors"):
        other_kinds(MatrixCompletion(entries="full rank"))


def test_a_model_that_copies_beside_nuclear_norm() -> None:
    few = masking_levels(TASK, [0.3])
    (row,) = beside_nuclear_norm(Checkpoints({2: copier()}), few, n=6).to_dict("records")
    assert (row["step"], row["case"]) == (2, "30 % missing")
    matrices, seen = TASK.draw_matrices(6, (4, 4), generator=stream_generator(0, "studies of completion", 6))
    truth = TASK.rounded(matrices)
    assert row["loss_observed"] < 1e-10
    assert row["loss_missing"] == pytest.approx(float(truth[~seen].square().mean()), rel=1e-4)
    assert row["norm"] == pytest.approx(float(nuclear_norms(truth * seen).mean()), rel=1e-4)
    assert row["norm_true"] == pytest.approx(float(nuclear_norms(truth).mean()), rel=1e-4)
    square = (complete_by_nuclear_norm(truth, seen) - truth).square()
    assert row["loss_nuclear"] == pytest.approx(float(square.mean()))
    assert row["loss_missing_nuclear"] == pytest.approx(float(square[~seen].mean()))


def test_a_grid_that_the_model_cannot_read_is_refused() -> None:
    with pytest.raises(ValueError, match="finer has 202 tokens and 16 entries, the run's task 22 and 16"):
        beside_nuclear_norm(Checkpoints({0: copier()}), {"finer": MatrixCompletion(grid_step=0.01)})
