"""plateau_interp.reproductions.matrix_completion.linear_reading: targets by a plain loop, and a model that copies."""

import pytest
import torch
from planted_encoders import TASK, Checkpoints, copier

from plateau_interp.reproductions.matrix_completion import linear_readings
from plateau_interp.reproductions.matrix_completion.linear_reading import probe_targets
from plateau_interp.reproductions.matrix_completion.studies import fresh_matrices
from plateau_interp.tasks import MatrixCompletion


def test_targets_are_the_entry_its_row_and_the_singular_vector() -> None:
    task = MatrixCompletion(shapes=((2, 3),), rank=2)
    batch = task.sample(5, generator=torch.Generator().manual_seed(0))
    targets = probe_targets(task, batch)
    for index in range(5):
        matrix = batch.labels[index].view(2, 3)
        vector = torch.linalg.eigh(matrix @ matrix.T).eigenvectors[:, -1]
        for place in range(6):
            row = place // 3
            shown = [0.0 if batch.tokens[index, 3 * row + i] == 0 else float(matrix[row, i]) for i in range(3)]
            assert targets.element[index, place].item() == batch.labels[index, place]
            assert targets.row[index, place].tolist() == shown
            assert abs(float(targets.vector[index, place] @ vector)) == pytest.approx(1, abs=1e-4)


def test_a_copy_is_read_and_a_gap_is_not() -> None:
    table = linear_readings(Checkpoints({0: copier()}), n_train=32, n_test=16).set_index("case")
    assert list(table.index[:3]) == ["element, embeddings", "row, embeddings", "vector, embeddings"]
    others = fresh_matrices(TASK, 16, number=5)
    square = others.labels[others.tokens == 0].square().mean()
    for place in ("embeddings", "layer 0", "layer 1"):
        element = table.loc[f"element, {place}"]
        assert element["error_observed"] < 1e-8
        assert element["error_missing"] == pytest.approx(float(square), rel=1e-5)
        assert 0 < table.loc[f"row, {place}", "cosine"] < 1
    assert table.loc["element, layer 0", ["cosine"]].isna().all()
