"""plateau_interp.sweeps.of_series: a sweep whose base is a series, measured in this process and on workers."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml
from measured_series import measured_series
from small_sweeps import rows_of

from plateau_interp import ModelOptions, Recipe, Run, TrainingOptions, sweep
from plateau_interp.cli.main import main
from plateau_interp.hooks import AblateHeads
from plateau_interp.series.folder import SeriesFolder
from plateau_interp.series.recipe import SeriesRecipe
from plateau_interp.sweeps import of_series
from plateau_interp.sweeps.cost import cost_of
from plateau_interp.sweeps.engines import Here, Loky
from plateau_interp.sweeps.jobs import Job
from plateau_interp.sweeps.of_series import OfSeries, measure_series, summary_of_series
from plateau_interp.sweeps.plan import planned, read_sweep
from plateau_interp.tasks import Text
from plateau_interp.views import series_report
from plateau_interp.views.saving import report_mark

ABLATED = {"list": {"plain": {}, "ablated": {"interventions": [AblateHeads([0, 1])]}}}
HERE = Here()


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    monkeypatch.setattr(series_report, "page_picture", lambda draw, name: ("<svg></svg>", report_mark(name).encode()))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A run on text with three checkpoints."""
    training = TrainingOptions(steps=4, batch_size=2)
    recipe = Recipe(
        Text(), model=ModelOptions(n_layers=1, n_heads=2, d_model=16), training=training, checkpoint_every=2
    )
    run = Run.create(tmp_path_factory.mktemp("source") / "text", recipe)
    list(run.train())
    return str(run.path)


@pytest.fixture(scope="module")
def base(source):
    return SeriesRecipe(source, [0, "step4"], first=2, n_new=3)


@pytest.fixture(scope="module")
def kept(base, tmp_path_factory):
    out = tmp_path_factory.mktemp("kept") / "ablations"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(series_report, "page_picture", lambda draw, name: ("<svg></svg>", report_mark(name).encode()))
        sweep(base, ABLATED, out=out, engine=HERE)
    return out


@pytest.fixture
def out(kept, tmp_path):
    return Path(shutil.copytree(kept, tmp_path / "ablations"))


def numbers(folder):
    return [(record.step, record.weights, record.measures) for record in SeriesFolder(folder).records()]


def test_each_series_is_an_ordinary_one_in_a_named_folder(out, base, tmp_path):
    list(base.measure(tmp_path / "alone"))
    assert numbers(out / "plain") == numbers(tmp_path / "alone")
    assert numbers(out / "ablated") != numbers(out / "plain")
    assert SeriesFolder(out / "ablated").settings["interventions"][0]["name"] == "ablate-heads"


def test_the_table_and_the_report_set_them_side_by_side(out, base):
    swept = sweep(base, ABLATED, out=out, engine=HERE)
    pd.testing.assert_frame_equal(pd.read_parquet(out / "summaries.parquet"), swept.table)
    columns = ("run", "setting", "checkpoints", "finished", "error")
    assert rows_of(swept.table, *columns) == [("plain", "plain", 2, True, ""), ("ablated", "ablated", 2, True, "")]
    assert "seed" not in swept.table
    last = swept.series("ablated").metrics()["cosine"].iloc[-1]
    assert swept.table["final_cosine"].tolist()[1] == last
    page = swept.report.read_text()
    assert "2 series: the cosine peaks between" in page
    assert swept.report == out / "report" / "index.html"


def test_a_report_of_many_series_has_the_first_and_says_so(out, base, monkeypatch):
    monkeypatch.setattr(of_series, "MOST_REPORTED", 1)
    swept = sweep(base, ABLATED, out=out, engine=HERE)
    assert swept.reported == ("plain",)
    assert "ablate-heads" not in swept.report.read_text()


def test_what_is_measured_is_not_measured_again_and_more_checkpoints_are_added(out, base):
    before = (out / "plain/checkpoints.jsonl").read_text()
    told = []
    sweep(base, ABLATED, out=out, engine=HERE, telling=told.append)
    assert told == []
    whole = SeriesRecipe(base.source, "all", first=2, n_new=3)
    swept = sweep(whole, ABLATED, out=out, engine=HERE, telling=told.append)
    assert [(event.run, event.ending.how) for event in told] == [("plain", "done"), ("ablated", "done")]
    assert (out / "plain/checkpoints.jsonl").read_text().startswith(before)
    assert swept.table["checkpoints"].tolist() == [3, 3]


def test_a_series_that_fails_stops_no_other_and_is_told(base, tmp_path):
    gone = str(tmp_path / "gone")
    swept = sweep(base, {"list": {"gone": {"source": gone}, "plain": {}}}, out=tmp_path / "out", engine=HERE)
    assert list(swept.failed) == ["gone"]
    assert "there is no folder" in swept.failed["gone"]
    assert rows_of(swept.table, "run", "checkpoints", "finished", "error") == [
        ("gone", 0, False, swept.failed["gone"]),
        ("plain", 2, True, ""),
    ]


def test_a_checkpoint_that_is_not_to_be_had_is_a_failure_and_tried_again(base, source, tmp_path):
    run = Path(shutil.copytree(source, tmp_path / "text"))
    weights = run / "checkpoints/4/model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(b"")
    asked = SeriesRecipe(str(run), [0, "step4"], first=2, n_new=3)
    swept = sweep(asked, {}, out=tmp_path / "out", engine=HERE)
    assert swept.failed["base"].startswith("Step 4 was not to be had: ")
    assert rows_of(swept.table, "checkpoints", "finished") == [(1, False)]
    weights.write_bytes(whole)
    again = sweep(asked, {}, out=tmp_path / "out", engine=HERE)
    assert not again.failed
    assert rows_of(again.table, "checkpoints", "finished", "error") == [(2, True, "")]


def test_a_failure_of_what_nobody_asks_for_any_more_is_none(base, source, tmp_path):
    """And what the folder says of its base is the last that was asked for."""
    copy = Path(shutil.copytree(source, tmp_path / "text"))
    broken, out = copy / "checkpoints" / "4" / "model.safetensors", tmp_path / "out"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:100])
    asked = replace(base, source=str(copy))
    assert list(sweep(asked, {}, out=out, engine=HERE).failed)
    swept = sweep(replace(asked, revisions=[0, "step2"]), {}, out=out, engine=HERE)
    assert swept.failed == {}
    assert swept.table["finished"].tolist() == [True]
    assert json.loads((out / "sweep.json").read_text())["base"]["revisions"] == [0, "step2"]


def test_what_is_damaged_does_not_keep_the_cost_from_being_told(base, out):
    (out / "ablated" / "series.json").write_text("{")
    cost = cost_of(planned(replace(base, revisions="all"), ABLATED), out, HERE)
    assert cost.seconds["plain"] > 0


def test_a_sweep_of_runs_is_another_sweep(out):
    with pytest.raises(ValueError, match="holds another sweep: its base recipe is another one"):
        sweep({"task": {"name": "copy"}}, {}, out=out, engine=HERE)


def test_a_series_has_no_seeds(base):
    with pytest.raises(ValueError, match="seeds: a series draws nothing, so it has none"):
        planned(base, {"seeds": 3})


def test_a_series_that_another_process_writes_is_told_as_busy(base, out):
    (out / "sweep.json").touch()
    job = Job(str(out / "plain"), OfSeries().text(base), str(out / "sweep.json"))
    with SeriesFolder(out / "plain").writing():
        ending = measure_series(job)
    assert ending.how == "busy"
    assert "is being written already" in ending.reason
    assert measure_series(job).how == "done"


def test_a_series_that_nobody_wants_any_more_stops_after_a_checkpoint(base, tmp_path):
    job = Job(str(tmp_path / "series"), OfSeries().text(base), str(tmp_path))
    assert measure_series(job, lambda: True).how == "stopped"
    assert [step for step, *_ in numbers(tmp_path / "series")] == [0]


def test_the_cost_is_known_once_a_checkpoint_is_measured(base, out, tmp_path):
    cost = cost_of(planned(base, ABLATED), tmp_path / "new", HERE)
    assert (cost.runs, cost.done, cost.total, cost.wall) == (2, 0, None, None)
    assert cost.seconds == {"plain": None, "ablated": None}
    more = planned(SeriesRecipe(base.source, "all", first=2, n_new=3), ABLATED)
    seconds = [record.seconds for name in ("plain", "ablated") for record in SeriesFolder(out / name).records()]
    assert cost_of(more, out, HERE).seconds["plain"] == pytest.approx(sum(seconds) / 4)


def test_the_peak_and_the_end_leave_out_what_is_no_data(tmp_path):
    cosines = {0: 0.9, 1: 0.9, 2: 0.2, 8: 0.6, 16: 0.3, 32: 0.8}
    table = measured_series(tmp_path / "series", cosines, same=(0, 1), failed=(32,), own={"norm": 7.0}).metrics()
    found = summary_of_series(table)
    assert (found["peak_cosine"], found["peak_cosine_step"], found["final_cosine"]) == (0.6, 8.0, 0.3)
    assert found["final_norm"] == 7.0
    assert summary_of_series(table.iloc[:2]) == {}


def test_a_file_may_have_a_series_as_its_base(source, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    base = {"source": source, "revisions": [0, "step4"], "first": 2, "n_new": 3}
    ablated = {"interventions": [{"name": "ablate-heads", "heads": [0]}]}
    data = {"base": base, "list": {"plain": {}, "ablated": ablated}}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    assert [run.name for run in read_sweep("sweep.yaml").runs] == ["plain", "ablated"]
    assert main(["sweep", "sweep.yaml", "--out", "out", "--dry-run"]) == 0
    assert "known once a checkpoint of their model is measured" in capsys.readouterr().out
    assert main(["sweep", "sweep.yaml", "--out", "out", "--engine", "here"]) == 0
    told = capsys.readouterr()
    assert "peak cosine" in told.out
    assert [line.split()[:2] for line in told.out.splitlines() if line.split()[:1] in (["plain"], ["ablated"])] == [
        ["plain", "1/1"],
        ["ablated", "1/1"],
    ]
    assert main(["sweep", "sweep.yaml", "--out", "out", "--engine", "here", "--json"]) == 0
    assert [row["checkpoints"] for row in json.loads(capsys.readouterr().out)["runs"]] == [2, 2]


@pytest.mark.slow
def test_workers_measure_the_same(base, out, tmp_path, monkeypatch):
    """Paths are whole where the workers are, wherever this process works."""
    monkeypatch.chdir(Path(base.source).parent)
    near = SeriesRecipe("text", [0, "step4"], first=2, n_new=3)
    swept = sweep(near, ABLATED, out=tmp_path / "out", engine=Loky(workers=2))
    assert not swept.failed
    for name in ("plain", "ablated"):
        assert numbers(tmp_path / "out" / name) == numbers(out / name)
