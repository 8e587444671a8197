import base64
from typing import Any

import numpy as np
import pytest
import torch
from test_views_circuit_figures import found
from typecheck import unchecked

from plateau_interp import ModelOptions, Recipe, Run, TrainingOptions
from plateau_interp.analysis.forming import Forming, circuits
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.views import circuit_page, circuit_view, circuit_views
from plateau_interp.views.page import packed


def through_training() -> Forming:
    first = found(scores=torch.linspace(0.0, 0.001, found().n_edges))
    return Forming((0, 10), (first, found()))


def test_the_page_gets_the_scores_of_each_step() -> None:
    forming = through_training()
    spec = circuit_view(forming, title="a circuit").spec()
    assert spec["kind"] == "circuit"
    assert spec["steps"] == [0, 10]
    assert len(spec["edges"]) == spec["total"] == forming.circuits[0].n_edges
    assert spec["shown"] == spec["total"]
    assert spec["data"] == packed(forming.scores)["data"]
    assert [part["name"] for part in spec["parts"]][:3] == ["embed", "pos_embed", "L0H0"]
    assert spec["parts"][2] == {"name": "L0H0", "row": 1, "layer": 0, "head": 0}
    names = [
        f"{spec['parts'][writer]['name']} {spec['parts'][reader]['name']} {entry}"
        for writer, reader, entry, _ in spec["edges"]
    ]
    rows = forming.table().head(len(names))
    readers = rows.reader.str.partition(".")
    assert names == (rows.writer + " " + readers[0] + " " + readers[2]).tolist()


def test_of_a_large_model_the_largest_edges_at_any_step_are_kept() -> None:
    forming = through_training()
    view = circuit_view(forming, most=4)
    largest = np.abs(forming.scores).max(axis=0)
    assert sorted(view.kept) == sorted(np.argsort(-largest, kind="stable")[:4])
    assert len(view.spec()["edges"]) == 4
    assert f"{forming.circuits[0].n_edges - 4} smaller edges are left out" in view.note
    assert "left out" not in circuit_view(forming).note


def test_one_circuit_has_no_time() -> None:
    spec = circuit_view(found()).spec()
    assert spec["steps"] is None
    assert spec["curve"] is None
    assert "A cut edge carries zero." in spec["note"]


def test_without_scripts_there_is_a_figure() -> None:
    view = circuit_view(found(), title="a circuit <b>")
    assert view.still().count("<svg") == 2  # for a light and a dark ground
    assert "<b>" not in view.html
    assert "plateauCircuit" in view.html


def test_a_run_has_its_loss_and_its_attention_beside_the_circuit(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: Any = {"model": ModelOptions(d_model=12, n_layers=2, n_heads=2), "training": TrainingOptions(steps=3)}
    run = Run.create(tmp_path / "run", Recipe(MovingWindowSum(n=4), **options))
    for _ in run.train():
        pass
    forming = circuits(run, n_pairs=4)
    page = circuit_page(run, forming, title="how it forms")
    circuit, *maps = [view.spec() for view in page.views]
    assert circuit["curve"]["step"] == [0, 1, 2]
    assert [spec["layer"] for spec in maps] == [0, 1]
    assert all(spec["steps"] == circuit["steps"] == [0, 3] for spec in maps)
    assert page.title == "how it forms"
    assert len(circuit_page(run, forming, layers=[1]).views) == 2
    assert "weights by themselves: interventions are not applied" in circuit["note"]
    n_values = 2 * 2 * circuit_views.N_READINGS * 8 * 8  # of two layers with two heads, at a step
    for room, steps in ((2 * n_values, [0, 3]), (2 * n_values - 1, [3]), (n_values - 1, None)):
        monkeypatch.setattr(circuit_views, "MAX_VALUES", room)
        _, *maps = [view.spec() for view in circuit_page(run, forming).views]
        assert [spec["steps"] or [3] for spec in maps] == ([] if steps is None else [steps] * 2)


def test_what_is_no_circuit_is_refused() -> None:
    with pytest.raises(ValueError, match="expected what circuit"):
        unchecked(circuit_view)("circuit")
    with pytest.raises(ValueError, match="run needs circuits through training"):
        unchecked(circuit_view)(found(), run="run")
    with pytest.raises(ValueError, match="most must be at least 1"):
        circuit_view(found(), most=0)


@pytest.mark.parametrize("largest", [1e-9, 1.0, 3e5, 4e9])
def test_numbers_of_any_size_come_back(largest: float) -> None:
    values = np.array([largest, -largest / 3, 0.0])
    numbers = packed(values)
    whole = np.frombuffer(base64.b64decode(numbers["data"]), dtype="<i2" if numbers["bits"] == 16 else "<i4")
    unit = 10.0 ** -numbers["decimals"]
    assert unit <= max(1e-3 * largest, 1e-4)
    assert np.abs(whole * unit - values).max() <= 0.501 * unit
