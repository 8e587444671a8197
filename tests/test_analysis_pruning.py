from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import torch
from test_analysis_circuits import linear, metric, model_of, pair, planted
from typecheck import unchecked

from plateau_interp.analysis.circuits import circuit, task_roles
from plateau_interp.analysis.pruning import agreement, pruned, robustness, smallest_faithful
from plateau_interp.tasks import MovingWindowSum

TASK = MovingWindowSum(n=4, p=5)


def asked(**changes: Any) -> dict[str, Any]:
    clean, corrupted = pair()
    return {"clean": clean, "corrupted": corrupted, "metric": metric} | changes


@pytest.mark.parametrize("roles", [None, task_roles(TASK)])
def test_all_edges_are_the_model_and_none_are_none(roles: Any) -> None:
    model = model_of("softmax", 2)
    found = circuit(model, **asked(), roles=roles)
    curve = pruned(model, found, **asked(), n_random=2)
    assert curve.faithfulness.iloc[[0, -1]].tolist() == pytest.approx([0, 1], abs=1e-9)
    assert curve.completeness.iloc[[0, -1]].tolist() == pytest.approx([0, 1], abs=1e-9)
    assert curve.metric.iloc[[0, -1]].tolist() == pytest.approx([found.ablated, found.clean], abs=1e-12)
    assert (curve.random_max >= curve.random - 1e-12).all()
    assert curve.edges.iloc[-1] == found.n_edges


def test_with_no_edge_kept_nothing_is_left_also_where_roles_hold_some_positions_alone() -> None:
    model = model_of("softmax", 2)
    found = circuit(model, **asked(), roles={"some": range(1, 4)})
    curve = pruned(model, found, **asked(), n_random=2)
    assert curve.faithfulness.iloc[[0, -1]].tolist() == pytest.approx([0, 1], abs=1e-9)
    assert curve.completeness.iloc[[0, -1]].tolist() == pytest.approx([0, 1], abs=1e-9)
    assert abs(curve.metric.iloc[0] - found.ablated) > 1e-3 * abs(found.clean - found.ablated)


def test_roles_that_share_positions_can_be_scored_and_not_pruned() -> None:
    """An edge kept in one role would be cut by the other at the positions of both."""
    model = model_of("softmax", 2)
    found = circuit(model, **asked(), roles={"most": range(1, 7), "tail": [6, 7], "first": 0})
    assert found.scores[found.exists].isfinite().all()
    words = "^roles that share positions cannot be pruned, as one would cut what another keeps: most, tail$"
    with pytest.raises(ValueError, match=words):
        pruned(model, found, **asked())


def test_by_default_there_are_64_sizes_closer_together_where_circuits_are_small() -> None:
    model = model_of("softmax", 2)
    found = circuit(model, **asked(), roles=task_roles(TASK))
    assert found.n_edges > 64
    sizes = pruned(model, found, **asked(), n_random=0).edges.tolist()
    assert sizes == sorted({0, *(round(found.n_edges ** (i / 62)) for i in range(63))})


def test_one_edge_less_is_the_exact_score() -> None:
    """The circuit of all edges but the least is the model with that one cut."""
    model = model_of("linear", 2)
    found = circuit(model, **asked(), scoring="exact")
    curve = pruned(model, found, **asked(), sizes=[found.n_edges - 1], n_random=0)
    assert curve.metric[0] - found.clean == pytest.approx(found.table().score.iloc[-1], abs=1e-9)
    assert curve.random.isna().all()


def test_a_planted_circuit_is_enough_and_random_ones_are_not() -> None:
    clean, corrupted = pair(8)
    wanted: dict[str, Any] = {"clean": clean, "corrupted": corrupted, "metric": lambda logits: logits[:, -1, 1].sum()}
    found = circuit(planted(), **wanted, freeze_norms=True)
    curve = pruned(planted(), found, **wanted, n_random=4)
    assert smallest_faithful(curve, 0.999) == 2
    assert curve.faithfulness[2] == pytest.approx(1, abs=1e-9)
    assert curve.completeness[2] == pytest.approx(1, abs=1e-9)
    assert curve.random[2] < 0.5


def test_the_smallest_faithful_circuit_stays_faithful() -> None:
    curve = pd.DataFrame({"edges": [0, 1, 2, 3], "faithfulness": [0, 0.95, 0.4, 1.0]})
    assert smallest_faithful(curve) == 3
    assert smallest_faithful(curve, 0.3) == 1
    assert smallest_faithful(curve, 1.1) is None


def test_a_circuit_agrees_with_itself_whatever_the_signs() -> None:
    model = model_of("linear", 1)
    found = circuit(model, **asked())
    other = circuit(model, **asked(metric=lambda logits: -metric(logits)))
    assert agreement(found, other) == pytest.approx({"overlap": 1.0, "rank": 1.0})
    exact = circuit(model, **asked(), scoring="exact")
    assert agreement(found, exact, n=found.n_edges)["overlap"] == 1
    assert agreement(found, exact)["rank"] < 1
    with pytest.raises(ValueError, match="the circuits have different edges"):
        agreement(found, circuit(model_of("linear", 2), **asked()))
    with pytest.raises(ValueError, match="the circuits have different edges"):
        agreement(found, replace(found, writers=tuple(reversed(found.writers))))


def test_a_table_tells_how_the_circuit_depends_on_what_was_chosen() -> None:
    model = model_of("linear", 1)
    metrics = {"bent": metric, "straight": linear}
    clean, corrupted = pair()
    table = robustness(model, clean=clean, corrupted=corrupted, metrics=metrics, scorings=("attributed", "exact"))
    assert len(table) == 2 * 3 * 2 * 2
    assert table.iloc[0][["metric", "ablation", "scoring", "norms"]].tolist() == [
        "bent",
        "resample",
        "attributed",
        "live",
    ]
    assert table.iloc[0][["overlap", "rank"]].tolist() == pytest.approx([1, 1])
    assert table["rank"].between(-1, 1).all()
    assert table["rank"].nunique() > 5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sizes": "3"}, "^sizes must be a whole number; got '3'$"),
        ({"sizes": [2.5]}, "^sizes must be a whole number; got 2.5$"),
        ({"sizes": 30}, "sizes must be from 0 to 21, the number of edges; got 30"),
        ({"sizes": [30]}, "sizes must be from 0 to 21, the number of edges; got 30"),
        ({"n_random": -1}, "n_random must be at least 0"),
        ({"seed": -1}, "seed"),
        ({"corrupted": None}, "needs corrupted tokens"),
        ({"metric": lambda logits: 1.0}, "with every edge cut, too"),
        (
            {"clean": torch.zeros(2, 7, dtype=torch.long), "corrupted": None},
            "the circuit is of 8 positions; clean has 7",
        ),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], words: str) -> None:
    model = model_of("linear", 1)
    found = circuit(model, **asked())
    with pytest.raises(ValueError, match=words):
        unchecked(pruned)(model, found, **asked(**changes))


def test_a_circuit_of_another_model_is_refused() -> None:
    found = circuit(model_of("linear", 1), **asked())
    with pytest.raises(ValueError, match="of a model with other parts"):
        pruned(model_of("linear", 2), found, **asked())
