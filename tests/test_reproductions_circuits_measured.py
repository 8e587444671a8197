"""plateau_interp.reproductions.circuits.measured: columns of a run, and what is read off them."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from trained_runs import finished

from plateau_interp import ModelOptions, Recipe, Run, TrainingOptions
from plateau_interp.analysis.forming import circuits
from plateau_interp.analysis.pruning import agreement
from plateau_interp.reproductions.circuits import measured
from plateau_interp.reproductions.circuits.measured import (
    CIRCUIT_COLUMNS,
    EDGE,
    among_largest,
    attributed_columns,
    before,
    edge_scores,
    forming_columns,
    half_way,
    main_edges,
    n_main_edges,
    permutation_columns,
    rise,
    share_before,
    share_of_scores,
    there_from,
)
from plateau_interp.reproductions.quantities import NEVER, Quantity, falls_to
from plateau_interp.reproductions.settings import Outcome, Setting
from plateau_interp.tasks import MovingWindowSum, Permutation

SETTING: Any = Setting("any", Recipe(MovingWindowSum(n=4, p=5)))
SMALL: Any = {"training": TrainingOptions(steps=9, batch_size=4), "checkpoint_every": 4}


def outcome(**columns: list[Any]) -> Outcome:
    """Four measured steps, the third without a checkpoint; edges a>b and so on."""
    named = {(EDGE + name if ">" in name else name): values for name, values in columns.items()}
    return Outcome(SETTING, 0, pd.DataFrame({"step": [0, 10, 20, 30], **named}))


GAP = float("nan")
GROWING = outcome(
    **{
        "a>b": [0.0, 3.0, GAP, -6.0],
        "a>c": [0.0, -2.0, GAP, -3.0],
        "b>c": [0.0, 0.1, GAP, 1.0],
        "c>d": [0.0, 0.0, GAP, 0.0],
    },
    loss=[3.0, 2.9, 2.0, 1.0],
    answer_difference=[0.1, 2.0, GAP, 4.0],
    circuit_overlap=[0.0, 0.5, GAP, 1.0],
    attention_progress=[0.1, 0.2, 0.55, 0.9],
)
BARE = outcome(loss=[3.0, 2.9, 2.0, 1.0])
LATE, NEVER_IS = falls_to("loss", 2.0), Quantity("never", lambda _: NEVER)


def test_main_edges_are_the_fewest_that_carry_nine_tenths() -> None:
    assert edge_scores(GROWING).index.tolist() == [0, 10, 30]
    assert main_edges(GROWING) == ["a>b", "a>c"]  # 9 of 10
    assert n_main_edges().of(GROWING) == 2
    assert n_main_edges().of(BARE) is None


def test_an_edge_is_there_once_it_keeps_half_of_its_last_score() -> None:
    steps = {edge: there_from(edge).of(GROWING) for edge in ("a>b", "a>c", "b>c", "c>d", "x>y")}
    assert steps == {"a>b": 30, "a>c": 10, "b>c": 30, "c>d": NEVER, "x>y": None}
    assert rise().of(GROWING) == 10
    assert rise().of(BARE) is None


def test_shares_of_scores_at_last_and_before_a_moment() -> None:
    assert share_of_scores(("a>c",), ("a>b", "a>c"), name="").of(GROWING) == pytest.approx(3 / 9)
    assert share_of_scores(("c>d",), ("c>d",), name="").of(GROWING) is None
    assert share_of_scores(("x>y",), ("a>b",), name="").of(GROWING) is None
    assert share_before("a>b", ("a>b", "a>c"), LATE, name="").of(GROWING) == pytest.approx(3 / 5)
    assert share_before("a>b", ("a>b", "x>y"), LATE, name="").of(GROWING) is None
    assert share_before("a>b", ("a>b",), NEVER_IS, name="").of(GROWING) is None


def test_how_many_edges_are_among_the_largest() -> None:
    assert among_largest(("a>b", "b>c")).of(GROWING) == 1
    assert among_largest(("a>c", "a>b", "b>c")).of(GROWING) == 3
    assert among_largest(("a>b",)).of(BARE) is None


def test_a_column_before_a_moment_and_half_way() -> None:
    assert before("circuit_overlap", LATE, name="").of(GROWING) == 0.5
    assert before("circuit_overlap", falls_to("loss", 3.0), name="").of(GROWING) is None
    assert before("circuit_overlap", NEVER_IS, name="").of(GROWING) is None
    assert before("circuit_overlap", LATE, name="").of(BARE) is None
    assert half_way("attention_progress").of(GROWING) == 20
    assert half_way("attention_progress").of(BARE) is None


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    recipe = Recipe(MovingWindowSum(n=4, p=5), model=ModelOptions(d_model=12), **SMALL)
    return finished(tmp_path_factory.mktemp("runs") / "run", recipe)


def test_the_columns_of_a_run_are_its_circuits(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "PAIRS", measured.CircuitOptions(n_pairs=8))
    found = forming_columns(run)
    assert found.step.tolist() == [0, 4, 8]  # the last checkpoint, of step 9, has no row in the metrics
    expected = circuits(run, steps=[0, 4, 8], n_pairs=8)
    names = [
        f"{EDGE}{writer}>{reader}" for _, writer, reader in expected.table()[["writer", "reader"]][:13].itertuples()
    ]
    assert np.array_equal(found[names].to_numpy(), expected.scores)
    n = int(n_main_edges().of(Outcome(SETTING, 0, found)) or 0)
    assert found.circuit_overlap.tolist() == expected.metrics(n=n).circuit_overlap.tolist()
    exact = circuits(run, steps=[8], n_pairs=8, scoring="exact").circuits[0]
    assert found.exact_rank.iloc[-1] == agreement(exact, expected.circuits[-1], n=n)["rank"]
    assert found.exact_overlap.isna().tolist() == [True, True, False]
    there = [
        [
            (there_from(edge).of(Outcome(SETTING, 0, found)) or 0) <= step
            for edge in main_edges(Outcome(SETTING, 0, found))
        ]
        for step in (0, 4, 8)
    ]
    assert found.main_edges_there.tolist() == [pytest.approx(np.mean(each)) for each in there]
    assert {*attributed_columns(run)} == {*found} - {"exact_overlap", "exact_rank"}
    assert CIRCUIT_COLUMNS.name == "forming_columns"


def test_of_permutation_the_other_strategy_is_measured_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "PAIRS", measured.CircuitOptions(n_pairs=2))
    run = finished(tmp_path / "run", Recipe(Permutation(n=2, n_symbols=2), model=ModelOptions(d_model=8), **SMALL))
    found = permutation_columns(run)
    assert found.step.tolist() == [0, 4, 8]
    assert found[["alternative_0", "alternative_1"]].gt(0).all(axis=None)
    assert torch.tensor(found[f"{EDGE}L0H0>L1H0.v"].to_numpy()).isfinite().all()
