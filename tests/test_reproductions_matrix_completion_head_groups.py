"""plateau_interp.reproductions.matrix_completion.head_groups, on a head that reads its row by hand-set weights."""

import pytest
import torch
from planted_encoders import Checkpoints, row_reader, untrained

from plateau_interp.reproductions.matrix_completion import ablated_groups, structured_attention
from plateau_interp.reproductions.matrix_completion.head_groups import hidden_rows


def test_a_head_whose_pattern_depends_on_position_alone_is_its_own_mean() -> None:
    table = ablated_groups(Checkpoints({0: row_reader()}), n=32).set_index("case")
    assert list(table.index) == [
        "whole model",
        *(f"{group}, {by}"
          for group in ("row heads", "row and column heads", "all other heads", "all heads")
          for by in ("uniform", "mean")),
    ]  # fmt: skip
    assert table["n_heads"].tolist() == [0, 1, 1, 1, 1, 1, 1, 2, 2]
    whole = table.loc["whole model", "loss"]
    assert table.loc[[case for case in table.index if case.endswith("mean")], "loss"].tolist() == pytest.approx(
        [whole] * 4
    )
    # Head 0.1 is uniform as it is, head 0.0 is not.
    assert table.loc["all other heads, uniform", "loss"] == pytest.approx(whole)
    assert abs(table.loc["row heads, uniform", "loss"] - whole) > 1e-4
    assert table.loc["all heads, uniform", "loss"] == pytest.approx(table.loc["row heads, uniform", "loss"])


def test_groups_are_those_of_the_last_checkpoint() -> None:
    table = ablated_groups(Checkpoints({0: row_reader(), 5: row_reader()}), steps=[0], n=8)
    assert "row heads, uniform" in set(table["case"])
    # Untrained heads read all alike, more or less: they are in no group but the others.
    none = ablated_groups(Checkpoints({0: row_reader(), 5: untrained(1)}), steps=[0], n=8)
    assert set(none["case"]) == {
        "whole model",
        *(f"all {which}heads, {by}" for which in ("", "other ") for by in ("uniform", "mean")),
    }


def test_hidden_rows_are_the_paper_s() -> None:
    seen = hidden_rows((7, 7), {3: 1, 6: 5})
    assert seen.sum() == 5 * 7 + 2
    assert seen[3].nonzero().flatten().tolist() == [1]
    assert seen[6].nonzero().flatten().tolist() == [5]
    assert torch.equal(hidden_rows((7, 7), {-4: 1, -1: -2}), seen)
    with pytest.raises(ValueError, match=r"rows and columns of a 2x2 matrix; got \{2: 0\}"):
        hidden_rows((2, 2), {2: 0})


def test_what_heads_read_for_missing_entries_is_counted_by_hand() -> None:
    table = structured_attention(Checkpoints({0: row_reader()}), kept={1: 0, 3: 2}, n=4).set_index("case")
    # Six entries are missing: (1, 1), (1, 2), (1, 3), (3, 0), (3, 1), (3, 3). Each sees one entry of its row, and 2, 3,
    # 2, 3, 2 and 2 of its column. Head 0 spreads over the four entries of the row, head 1 over all sixteen.
    first, second = table.loc["rows hidden, head 0.0"], table.loc["rows hidden, head 0.1"]
    assert first[["on_row", "on_column", "on_observed"]].tolist() == pytest.approx([1 / 4, 0, 1 / 4], abs=1e-6)
    assert second[["on_row", "on_column", "on_observed"]].tolist() == pytest.approx([1 / 16, 14 / 6 / 16, 10 / 16])
    assert second["chance"] == pytest.approx(20 / 6 / 16)
    # With columns 1 and 3 hidden instead, missing entries see 2 or 3 others of their row.
    assert table.loc["columns hidden, head 0.0", "on_row"] == pytest.approx(14 / 6 / 4)
