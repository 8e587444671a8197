"""plateau_interp.reproductions.matrix_completion.shoulder: which entries are completed, and from what."""

import itertools

import pandas as pd
import pytest
import torch

from plateau_interp.models import toy_model
from plateau_interp.reproductions.matrix_completion import completed_entries
from plateau_interp.reproductions.matrix_completion.shoulder import (
    COMPLETED,
    SHOULDER,
    between_lines,
    loss_with_attention,
    n_completed,
    rectangles,
    shoulder_figure,
)
from plateau_interp.reproductions.matrix_completion.studies import fresh_matrices
from plateau_interp.reproductions.settings import Outcome
from plateau_interp.tasks import MatrixCompletion

TASK = MatrixCompletion(shapes=((3, 3),))


def test_rectangles_are_counted_corner_by_corner() -> None:
    seen = torch.rand(20, 3, 4, generator=torch.Generator().manual_seed(1)) > 0.3
    counted = rectangles(seen)
    for number, row, column in itertools.product(range(20), range(3), range(4)):
        here = seen[number]
        expected = sum(
            bool(here[row, across] and here[down, column] and here[down, across])
            for down in range(3)
            for across in range(4)
            if down != row and across != column
        )
        assert counted[number, row, column] == expected


class Known:
    """A run of one checkpoint, whose model says what is right in row 0, and 0 elsewhere, and reads rows in one head."""

    task = TASK
    checkpoints = (7,)
    metrics = pd.DataFrame()

    def model(self, step: int | None = None) -> torch.nn.Module:
        model = toy_model(TASK, d_model=8, n_heads=2, n_layers=1)
        labels, place = fresh_matrices(TASK, 64).labels, torch.arange(9)
        rows = (place[:, None] // 3 == place // 3).float() / 3

        def read_rows(pattern: torch.Tensor, hook: object) -> torch.Tensor:
            return torch.stack([rows.expand(len(pattern), -1, -1), pattern[:, 1]], dim=1)

        model.add_hook("blocks.0.attn.hook_pattern", read_rows, is_permanent=True)
        model.unembed.register_forward_hook(lambda *_: torch.where(place < 3, labels, 0.0)[..., None])
        return model


def test_a_model_that_completes_one_row_is_told() -> None:
    table = completed_entries(Known(), n=64).set_index("case")
    assert set(table["step"]) == {7}
    assert table.loc["row 0", "loss_missing"] == 0
    assert table.loc["row 0", "signs_right"] == 1
    assert table.loc["row 1", "loss_missing"] > 0.05
    assert table.loc["row 1", "signs_right"] == 0
    assert table["on_row"].tolist() == pytest.approx([1.0] * len(table))
    assert (table["on_column"] < 0.6).all()
    assert {"all", "column 2", "0 rectangles", "4 or more rectangles"} <= set(table.index)


def outcome(losses: dict[str, float], reads: dict[str, float]) -> Outcome:
    rows = [
        {
            "step": 5000,
            "case": case,
            "loss_missing": loss,
            "signs_right": 0.5,
            "on_row": reads[case],
            "on_column": reads[case],
        }
        for case, loss in losses.items()
    ]
    return Outcome(COMPLETED, 0, pd.DataFrame(rows))


def test_lines_are_compared() -> None:
    losses = {"all": 9.0, "row 0": 0.01, "row 1": 0.09, "column 0": 0.02, "column 1": 0.1, "0 rectangles": 9.0}
    reads = {"all": 0.0, "row 0": 0.9, "row 1": 0.1, "column 0": 0.8, "column 1": 0.0, "0 rectangles": 0.0}
    one = outcome(losses, reads)
    assert between_lines("row", step=5000).of(one) == pytest.approx(0.72)
    assert between_lines("row", step=4000).of(one) is None
    assert n_completed(0.5, step=5000).of(one) == 2
    assert loss_with_attention(step=5000).of(one) == pytest.approx(-1.0, abs=0.01)
    assert loss_with_attention(step=4000).of(one) is None
    empty = Outcome(COMPLETED, 0, pd.DataFrame(columns=["step"]))
    assert n_completed(0.5, step=5000).of(empty) is None
    (verdict, *_) = [statement.finding.verdict for statement in SHOULDER.statements({COMPLETED.name: [one]})]
    assert verdict == "holds"
    assert len(shoulder_figure({COMPLETED.name: [one]}).axes) == 4
