"""Whose a folder is: nothing is written into one of ours, by whatever writes, but where it has a place for it."""

import json
import re
import shutil
from dataclasses import replace

import pytest
from measured_series import measured_series
from small_sweeps import BASE, WINDOWS
from trained_runs import SHORT, finished, trained

from plateau_interp import Run, sweep, toy_model, train
from plateau_interp.analysis.forming import CircuitOptions
from plateau_interp.folders import OF_A_RUN, check_place, staying
from plateau_interp.interventions.capturing import Capture
from plateau_interp.runs.kept_circuits import KeptCircuits
from plateau_interp.series.folder import SeriesFolder
from plateau_interp.sweeps.engines import Here
from plateau_interp.views.circuit_report import Formed, write_circuit_report
from plateau_interp.views.report import write_report
from plateau_interp.views.series_report import write_series_report

pytestmark = pytest.mark.usefixtures("undrawn")
IN_WORDS = {
    "run": "a run",
    "series": "a series",
    "sweep": "a sweep",
    "capture": "a Capture",
    "circuits": "circuits",
    "report": "a report",
}


def capture_at(out):
    return Capture(("hook_embed",), out=str(out), every=2)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of each kind, and runs and a series of which something may be written elsewhere."""
    folder = tmp_path_factory.mktemp("made")
    run = finished(folder / "other", SHORT)
    finished(folder / "run", replace(SHORT, seed=1))
    measured_series(folder / "series", {0: 0.1, 8: 0.9})
    measured_series(folder / "others-series", {0: 0.1, 8: 0.9})
    sweep(BASE, WINDOWS, out=folder / "sweep", engine=Here())
    list(train(toy_model(SHORT.task, d_model=16), SHORT.task, steps=3, interventions=[capture_at(folder / "capture")]))
    assert list(KeptCircuits(run, CircuitOptions(n_pairs=4), folder / "circuits").measure([0])) == [0]
    return folder


@pytest.fixture
def there(made, tmp_path):
    return shutil.copytree(made, tmp_path / "there")


def contents(folder):
    return {file: file.read_bytes() if file.is_file() else None for file in folder.rglob("*")}


def write(written, out, there):
    """By whatever writes such a thing, in Python."""
    run = Run(there / "other")
    if written == "run":
        Run.create(out, replace(SHORT, seed=2))
    elif written == "fork":
        run.fork(at=2, out=out)
    elif written == "series":
        measured_series(out, {0: 0.1})
    elif written == "sweep":
        sweep(BASE, {"grid": {"task.k": [4]}}, out=out, engine=Here())
    elif written == "capture":
        list(train(toy_model(SHORT.task, d_model=16), SHORT.task, steps=1, interventions=[capture_at(out)]))
    elif written == "captured run":
        Run.create(there / "new", replace(SHORT, interventions=(capture_at(out),)))
    elif written == "circuits":
        list(KeptCircuits(run, CircuitOptions(n_pairs=4), out).measure([0]))
    elif written == "circuits of several":
        forming = KeptCircuits(run, CircuitOptions(n_pairs=4), there / "circuits").forming()
        write_circuit_report([Formed("a", run, forming), Formed("b", run, forming)], out)
    elif written == "report":
        write_report(run, out)
    elif written == "report of a series":
        write_series_report(SeriesFolder(there / "others-series"), out)


WRITERS = {
    **{"run": "run", "fork": "run", "series": "series", "sweep": "sweep", "capture": "capture"},
    **{"captured run": "capture", "circuits": "circuits", "circuits of several": "circuits"},
    **{"report": "report", "report of a series": "report"},
}
INSIDE = {
    "run": ["", "checkpoints", "checkpoints/4", "checkpoints/mine", "report", "circuits", "mine", "captured/deeper"],
    "series": ["", "attention", "report", "mine"],
    "sweep": ["", "report", "mine", "k=2", "k=2/mine", "k=2/seed-7"],
    "capture": ["", "0", "mine"],
    "circuits": ["", "scores", "mine"],
}


@pytest.mark.parametrize("written", WRITERS)
@pytest.mark.parametrize("kind", INSIDE)
def test_nothing_is_written_into_a_folder_that_has_no_place_for_it(there, kind, written):
    home, what = there / kind, WRITERS[written]
    before = contents(there)
    for inside in INSIDE[kind]:
        if inside == "" and kind == what:
            continue  # whether it is the same one its own checks say
        expected = (
            f"{home / inside} lies in {home}, the folder of {IN_WORDS[kind]}, which has no place for {IN_WORDS[what]} "
            "there; take another folder"
            if inside
            else f"{home} is the folder of {IN_WORDS[kind]}, no place for {IN_WORDS[what]}; take another"
        )
        with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
            write(written, home / inside, there)
        assert contents(there) == before, inside


def test_what_a_folder_has_a_place_for_is_written_there(there):
    """As by default, and once more over what is there."""
    run = Run(there / "run")
    for _ in range(2):
        for out in (None, run.path / "report", run.path / "report" / "compared"):
            assert write_report(run, out).is_file()
        assert write_series_report(SeriesFolder(there / "series")).parent == there / "series" / "report"
        assert len(list(KeptCircuits(run, CircuitOptions(n_pairs=4)).measure([0, 4]))) in (0, 2)
        assert sweep(BASE, {"grid": {"task.k": [2, 3, 4]}}, out=there / "sweep", engine=Here()).failed == {}
        member = sorted((there / "sweep").glob("*/seed-0"))[0]
        assert write_report(Run(member)).parent == member / "report"
        fork = trained(Run(member).fork(at=3))
        assert fork.path == member.with_name("seed-0-from-3")
        assert trained(fork.fork(at=3)).path == member.with_name("seed-0-from-3-from-3")
        assert write_report([Run(member), fork], there / "sweep" / "report").is_file()


def test_a_report_of_others_is_not_written_over_a_runs_own(there):
    own = write_report(Run(there / "run"))
    with pytest.raises(ValueError, match="which has no place for a report there"):
        write_report(Run(there / "other"), own.parent)


def test_a_capture_goes_where_the_recipe_of_the_run_says(tmp_path):
    """Also within the run's own folder, where the run goes on with it, and so does a fork with the same."""
    recipe = replace(SHORT, interventions=(capture_at(tmp_path / "run" / "captured"),))
    run = Run.create(tmp_path / "run", recipe)
    for step in run.train():
        if step.step == 2:
            break
    assert trained(Run.create(tmp_path / "run", recipe)).finished
    assert trained(run.fork(at=2)).finished
    with pytest.raises(ValueError, match="has no place for a Capture there"):
        run.fork(at=2, interventions=[capture_at(tmp_path / "run" / "mine")], out=tmp_path / "fork")
    assert not (tmp_path / "fork").exists()


@pytest.mark.parametrize(("name", "content"), [("sweep.json", {"grid": {}}), ("series.json", {"source": "a/b"})])
def test_a_file_that_somebody_called_so_makes_no_folder_ours(tmp_path, name, content):
    (tmp_path / name).write_text(json.dumps(content))
    (tmp_path / "recipe.json").write_text(SHORT.to_json())
    (tmp_path / "origin-of-species.txt").touch()
    for text in (None, "[1]", "{", "3"):
        if text is not None:
            (tmp_path / name).write_text(text)
        for written in IN_WORDS:
            check_place(tmp_path / "mine", written)


def test_a_link_to_a_folder_of_ours_is_that_folder(there, tmp_path):
    (tmp_path / "link").symlink_to(there / "run" / "checkpoints")
    with pytest.raises(ValueError, match=r"link lies in .*run, the folder of a run, which has no place for a series"):
        check_place(tmp_path / "link", "series")


@pytest.mark.parametrize("kind", ["run", "series", "sweep"])
@pytest.mark.parametrize("mine", ["index.html", "loss.png", None])
def test_a_link_in_the_place_of_a_report_is_never_written_through(there, tmp_path, kind, mine):
    home, theirs = there / kind, tmp_path / "theirs"
    theirs.mkdir()
    if mine is not None:
        (theirs / mine).write_text("mine")
    shutil.rmtree(home / "report", ignore_errors=True)
    (home / "report").symlink_to(theirs)

    def by_default():
        if kind == "run":
            return write_report(Run(home))
        if kind == "series":
            return write_series_report(SeriesFolder(home))
        return sweep(BASE, WINDOWS, out=home, engine=Here())

    runs = [Run(there / "run")]
    told = f"^{re.escape(str(home / 'report'))} is a link to {re.escape(str(theirs))}, which no report made: remove"
    for report in (by_default, lambda: write_report(runs, home / "report" / "compared")):
        with pytest.raises(ValueError, match=told):
            report()
    assert contents(theirs) == ({} if mine is None else {theirs / mine: b"mine"})


def test_everything_that_a_run_has_is_known(there):
    run = Run(there / "run")
    write_report(run)
    list(KeptCircuits(run, CircuitOptions(n_pairs=4)).measure([0]))
    names = {path.name for path in run.path.iterdir()} | {".lock", "tensorboard", "wandb"}
    assert names == {*OF_A_RUN}


def test_a_file_stays_until_it_is_moved_and_another_is_none(tmp_path):
    with (tmp_path / "lock").open("w"):
        is_there = staying(tmp_path / "lock")
        assert is_there()
        (tmp_path / "lock").rename(tmp_path / "elsewhere")
        assert not is_there()
        (tmp_path / "lock").touch()
        assert not is_there()
        (tmp_path / "elsewhere").rename(tmp_path / "lock")
        assert is_there()
