"""plateau_interp.reproductions.matrix_completion.drop: what is its own; claims and pages are tested for all papers."""

from pathlib import Path

import pandas as pd
import pytest

from plateau_interp.cli.main import main
from plateau_interp.reproductions.matrix_completion import PAPER
from plateau_interp.reproductions.matrix_completion.drop import (
    LARGE,
    LARGE_LEVEL,
    SMALL,
    SMALL_LEVEL,
    heads_that_read,
    once_fallen,
)
from plateau_interp.reproductions.quantities import final
from plateau_interp.reproductions.settings import NotHereError, Outcome
from plateau_interp.runs.recipe import Recipe

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_the_levels_are_the_task_s_closed_forms() -> None:
    for setting, level in ((SMALL, SMALL_LEVEL), (LARGE, LARGE_LEVEL)):
        # Rounding to the grid adds up to a twelfth of its step, squared, to the variance.
        assert setting.recipe.task.levels.plateau == pytest.approx(level, rel=1e-2)


def test_the_paper_s_own_size_is_the_example_s() -> None:
    assert Recipe.read(EXAMPLES / "matrix_completion_full_size.yaml") == LARGE.recipe


def row(step: int, **shares: tuple[float, float, float, float]) -> dict[str, float]:
    """A measured row with a head for each word: shares on row, column, self and what is seen."""
    kinds = ("row", "column", "self", "observed")
    heads = {
        f"attention_on_{kind}_0_{head}": share
        for head, each in enumerate(shares.values())
        for kind, share in zip(kinds, each, strict=True)
    }
    best = {f"attention_on_{kind}": max(each[place] for each in shares.values()) for place, kind in enumerate(kinds)}
    return {"step": step, **heads, **best}


def test_heads_that_read_rows_and_columns_are_counted_at_a_step_and_at_the_end() -> None:
    uniform, on_row, on_column = (0.25, 0.25, 0.06, 0.7), (0.9, 0.2, 0.1, 0.7), (0.2, 0.9, 0.1, 0.7)
    rows = [row(0, one=uniform, other=uniform), row(10, one=on_row, other=on_row), row(20, one=on_row, other=on_column)]
    outcome = Outcome(SMALL, 0, pd.DataFrame(rows))
    counted = {kind: [heads_that_read(kind, step=s).of(outcome) for s in (5, 10, None)] for kind in ("row", "column")}
    assert counted == {"row": [0, 2, 1], "column": [0, 0, 1]}
    assert heads_that_read("row").of(Outcome(SMALL, 0, pd.DataFrame([{"step": 0, "loss": 1.0}]))) is None
    assert heads_that_read("row").of(Outcome(SMALL, 0, pd.DataFrame(columns=["step"]))) is None


def test_the_paper_s_own_size_needs_another_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(NotHereError, match="precision tf32 is that of CUDA devices; got device 'cpu'"):
        LARGE.check_here()
    SMALL.check_here()
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", PAPER.name, "full-size"]) == 2
    assert "full-size not run: needs a CUDA device (--device cuda)" in capsys.readouterr().err
    assert main(["reproduce", PAPER.name, "full-size", "--list"]) == 0
    assert "needs a CUDA device" in " ".join(capsys.readouterr().out.split())


def test_what_is_claimed_of_the_end_is_unknown_until_the_loss_has_fallen() -> None:
    def found(*losses: float) -> float | None:
        rows = pd.DataFrame({"step": range(0, 100 * len(losses), 100), "loss": losses, "mask_value": 0.3})
        return once_fallen(final("mask_value", rows=1)).of(Outcome(LARGE, 0, rows))

    assert found(1.0, LARGE_LEVEL, 0.3 * LARGE_LEVEL) is None
    assert found(1.0, LARGE_LEVEL, 0.2 * LARGE_LEVEL) == 0.3
