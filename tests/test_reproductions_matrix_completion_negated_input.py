"""plateau_interp.reproductions.matrix_completion.negated_input: the exact oracle, and a model that copies."""

import pytest
from planted_encoders import TASK, Checkpoints, copier, untrained

from plateau_interp.reproductions.matrix_completion import patched_into_negated
from plateau_interp.reproductions.matrix_completion.studies import fresh_matrices


def test_with_all_layers_patched_missing_entries_are_answered_as_for_the_clean_matrix() -> None:
    table = patched_into_negated(Checkpoints({0: untrained()}), n=16).set_index("case")
    assert list(table.index) == ["no patch", "layer 0", "layer 1", "all layers"]
    assert table.loc["all layers", "missing_to_clean_run"] < 1e-6
    assert table.loc["no patch", "missing_to_clean_run"] > 1e-3
    assert table.loc["layer 1", "missing_to_clean_run"] > 1e-3


def test_what_is_copied_is_copied_from_the_negated_matrix_under_any_patch() -> None:
    table = patched_into_negated(Checkpoints({0: copier()}), n=16)
    batch = fresh_matrices(TASK, 16)
    opposite = (2 * batch.labels[batch.tokens != 0]).square().mean()
    assert table["observed_to_negated"].max() < 1e-10
    assert table["observed_to_clean"].tolist() == pytest.approx([float(opposite)] * 4, rel=1e-4)
    assert table["missing_to_clean"].tolist() == pytest.approx(table["missing_to_negated"].tolist())
