"""What is written of circuits: names, numbers and pictures of one run or several, and their place in a report."""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from trained_runs import finished

from plateau_interp import ModelOptions, Recipe, Run, TrainingOptions
from plateau_interp.analysis.forming import Forming, circuits
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.views import circuit_report
from plateau_interp.views.circuit_report import (
    CIRCUIT_PANELS,
    Formed,
    beside_progress,
    circuit_sections,
    compared_edges,
    overlap_drawings,
    write_circuit_report,
)
from plateau_interp.views.report_curves import Drawing

RECIPE = Recipe(MovingWindowSum(n=4, p=5), ModelOptions(d_model=12), TrainingOptions(steps=4, batch_size=4))


@pytest.fixture(scope="module")
def formed(tmp_path_factory: pytest.TempPathFactory) -> Formed:
    run = finished(tmp_path_factory.mktemp("runs") / "one", RECIPE)
    return Formed("one", run, circuits(run, n_pairs=4))


def test_a_tenth_of_the_edges_is_compared_and_of_a_small_model_five() -> None:
    class Sized:
        def __init__(self, n_edges: int) -> None:
            self.n_edges = n_edges

    sizes: Any = [Sized(n) for n in (3, 13, 50, 51, 1000)]
    unchecked: Any = getattr(compared_edges, "__wrapped__", compared_edges)
    assert [unchecked(one) for one in sizes] == [3, 5, 5, 5, 100]


def test_metrics_of_the_run_and_of_its_circuits_are_one_table(formed: Formed) -> None:
    table = formed.metrics
    assert table.step.tolist() == [0, 1, 2, 3, 4]  # after the last step there is a checkpoint, and no measured step
    overlap = table.set_index("step").circuit_overlap.dropna()
    assert overlap.to_dict()[4] == 1
    assert list(overlap.index) == list(formed.forming.steps)
    assert table.loss.notna().tolist() == [True] * 4 + [False]
    assert {"circuit_overlap", "circuit_rank", "answer_difference"} == {*CIRCUIT_PANELS} & {*table.columns}


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The figures that would be written, by file: writing takes longer than all the rest."""
    figures: dict[str, Any] = {}
    monkeypatch.setattr(
        circuit_report, "save_figure", lambda figure, path, title: figures.setdefault(path.name, figure)
    )
    return figures


@pytest.mark.parametrize(("n", "drawn"), [(3, 3), (10**6, 13)])
def test_a_still_picture_has_as_many_edges_as_are_asked_for(
    formed: Formed, tmp_path: Path, saved: dict[str, Any], n: int, drawn: int
) -> None:
    write_circuit_report([formed], tmp_path, n=n)
    assert [*saved] == ["circuit.svg", "circuit.png", "forming.svg", "forming.png"]
    assert saved["circuit.svg"].axes[0].get_xlabel().startswith(f"{drawn} of 13 edges")
    titles = [axes.get_title(loc="left") for axes in saved["forming.svg"].axes]
    assert titles[0] == "Training loss"
    assert titles[-1] == "Overlap with the last circuit"
    assert titles[-2] == "Clean against corrupted answer"


def test_one_step_has_no_curve(formed: Formed, tmp_path: Path, saved: dict[str, Any]) -> None:
    alone = replace(formed, forming=Forming((4,), formed.forming.circuits[-1:]))
    write_circuit_report([alone], tmp_path)
    assert [*saved] == ["circuit.svg", "circuit.png"]
    assert overlap_drawings([alone]) == []


def test_of_several_runs_there_is_a_picture_each(formed: Formed, tmp_path: Path, saved: dict[str, Any]) -> None:
    write_circuit_report([formed, replace(formed, name="two <b>")], tmp_path)
    assert [*saved][::2] == ["circuit-1.svg", "circuit-2.svg", "forming.svg"]
    assert saved["circuit-1.svg"].axes[0].get_title(loc="left") == "one, step 4"
    assert pd.read_parquet(tmp_path / "metrics.parquet").run.unique().tolist() == ["one", "two <b>"]
    assert "two <b>" not in (tmp_path / "index.html").read_text()
    with pytest.raises(ValueError, match="there is no circuit to draw"):
        write_circuit_report([], tmp_path)


def test_overlap_stands_beside_attention_progress() -> None:
    draw: Any = partial(dict)
    one, other, more = (Drawing(name, draw, "") for name in ("loss", "attention_progress", "more"))
    assert beside_progress([one, other, one], [more]) == [one, other, more, one]
    assert beside_progress([one], [more]) == [one, more]


def test_a_section_leads_to_the_page_from_where_the_report_lies(formed: Formed, tmp_path: Path) -> None:
    page = tmp_path / "a run #1" / "circuits" / "index.html"
    (section,) = circuit_sections([replace(formed, page=page)], tmp_path / "reports" / "all")
    assert section.links == [("Circuit through training", "../../a%20run%20%231/circuits/index.html")]
    assert section.title == "Circuit"
    titles = [section.title for section in circuit_sections([formed] * 6, tmp_path)]
    assert titles == ["Circuit of one"] * 4


def test_without_a_measured_step_there_are_the_numbers_of_the_circuits(
    formed: Formed, tmp_path: Path, saved: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "metrics", pd.DataFrame())
    assert formed.metrics.step.tolist() == list(formed.forming.steps)
    write_circuit_report([formed], tmp_path)
    assert len(saved["forming.svg"].axes) == 2


def test_a_picture_of_somebody_s_makes_no_folder_a_page_s(
    formed: Formed, tmp_path: Path, saved: dict[str, Any]
) -> None:
    for name in ("circuit-1.svg", "index.html", "metrics.parquet"):
        (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=r"holds other things: circuit-1.svg, index.html, metrics.parquet; take"):
        write_circuit_report([formed, replace(formed, name="two")], tmp_path)
    assert {file.read_text() for file in tmp_path.iterdir()} == {"mine"}
    assert saved == {}


def test_circuits_of_other_runs_are_never_written_over(
    formed: Formed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_circuit_report([formed, replace(formed, name="two")], tmp_path)
    earlier = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    write_circuit_report([formed, replace(formed, name="two")], tmp_path)
    monkeypatch.setattr(Run, "recipe", replace(formed.run.recipe, seed=9))
    expected = f"^{re.escape(str(tmp_path))} holds circuits of other runs: take another folder, or remove that one$"
    with pytest.raises(ValueError, match=expected):
        write_circuit_report([formed, replace(formed, name="two")], tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == earlier


def test_pictures_of_an_earlier_page_go_and_no_others(formed: Formed, tmp_path: Path) -> None:
    three = [replace(formed, name=name) for name in ("one", "two", "three")]
    write_circuit_report(three, tmp_path)
    (tmp_path / "circuit-9.png").write_bytes(b"mine")
    last = Forming((4,), formed.forming.circuits[-1:])
    write_circuit_report([replace(one, forming=last) for one in three[:2]], tmp_path)
    pictures = sorted(file.name for file in tmp_path.iterdir() if file.suffix in (".svg", ".png"))
    assert pictures == ["circuit-1.png", "circuit-1.svg", "circuit-2.png", "circuit-2.svg", "circuit-9.png"]
