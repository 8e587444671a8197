"""plateau_interp.reproductions.study: a run that has ended is read, once, and by nobody else's name."""

import dataclasses
import json
from functools import partial

import pandas as pd
import pytest
from tiny_paper import BASE, PAPER, paper_of, recipe

from plateau_interp.reproductions.costs import costs
from plateau_interp.reproductions.experiments import Experiment
from plateau_interp.reproductions.pictures import cases_figure
from plateau_interp.reproductions.quantities import final
from plateau_interp.reproductions.running import collect, made_with, outcome, plan, train_setting
from plateau_interp.reproductions.settings import Added, NotHereError, Outcome
from plateau_interp.reproductions.storage import folder_of, store, stored
from plateau_interp.reproductions.study import Study, value_of
from plateau_interp.runs.errors import RunError
from plateau_interp.views.panels import Panel

CALLS = []


def last_losses(run):
    """Two cases at the last checkpoint."""
    CALLS.append(run.path)
    loss = float(run.metrics["loss"].iloc[-1])
    return pd.DataFrame({"step": run.checkpoints[-1], "case": ["as it is", "doubled"], "loss": [loss, 2 * loss]})


STUDY = Study("losses", BASE, Added(last_losses, {"loss": Panel("The loss", "nats")}), about="of the baseline")
EXPERIMENT = Experiment(
    name="study",
    title="A study",
    figures="table 1",
    settings=(STUDY,),
    claims=(),
    key=(final("loss"), STUDY),
    n_seeds=2,
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        train_setting(BASE, seed, folder)
    return folder


def test_the_run_comes_before_the_study():
    assert plan([EXPERIMENT]) == [(BASE, 0), (STUDY, 0), (BASE, 1), (STUDY, 1)]


def test_a_run_is_read_once(runs):
    assert outcome(STUDY, 0, runs) is None
    (cost,) = costs([EXPERIMENT], runs)
    assert (cost["runs"], cost["done"], cost["seconds"]) == (4, 2, 0)
    CALLS.clear()
    first = STUDY.measure(runs, 0)
    again = STUDY.measure(runs, 0)
    assert [BASE.folder(runs, 0)] == CALLS
    assert first.metrics.equals(again.metrics)
    assert outcome(STUDY, 0, runs).metrics.equals(first.metrics)
    assert [one.seed for one in collect([STUDY], runs)["losses"]] == [0]
    made = made_with(STUDY, 0, runs)
    assert made["steps"] == 0
    assert made["seconds"] > 0
    assert made["threads"] >= 1
    loss = first.metrics["loss"].iloc[0]
    assert value_of("loss", "doubled", step=6).of(first) == 2 * loss
    assert value_of("loss", "doubled", step=5).of(first) is None
    assert value_of("loss", "halved", step=6).of(first) is None
    assert value_of("accuracy", "doubled", step=6).of(first) is None
    assert value_of("loss_all", "doubled", step=6).name == "loss all, doubled, step 6"


def test_what_was_measured_of_another_run_is_refused(runs, tmp_path):
    STUDY.measure(runs, 1)
    other = dataclasses.replace(STUDY, of=dataclasses.replace(BASE, recipe=recipe(checkpoint_every=3)))
    with pytest.raises(RunError, match="was measured of another run than 'base' is now"):
        other.outcome(runs, 1)
    with pytest.raises(RunError, match=r"seed-0 is not a folder"):
        STUDY.measure(tmp_path, 0)
    next(BASE.open(tmp_path, 0).train())
    with pytest.raises(RunError, match="has not ended: losses reads its last checkpoint"):
        STUDY.measure(tmp_path, 0)


def scaled_losses(run, *, steps, factor=1.0):
    """With arguments of its own."""
    return last_losses(run).assign(loss=lambda rows: factor * rows["loss"], step=steps[0])


def scaled(**arguments):
    return Study("scaled", BASE, Added(partial(scaled_losses, **arguments)))


def test_what_was_measured_with_other_arguments_is_refused(runs, tmp_path):
    study = scaled(steps=(6,))
    assert study.identity(0)["arguments"] == {"steps": [6], "factor": 1.0}
    study.measure(runs, 0)
    assert study.outcome(runs, 0) is not None
    for other in (scaled(steps=(6,), factor=2.0), scaled(steps=(3, 6))):
        with pytest.raises(
            RunError, match=r"measured with \{'factor': 1.0, 'steps': \[6\]\}, other arguments than 'scaled' has"
        ):
            other.measure(runs, 0)
        assert collect([other], runs) == {"scaled": []}
    # Nor are they taken from where results are kept.
    store(study, [study.measure(runs, 0)], runs, folder_of(PAPER, tmp_path))
    for one, n_seeds in ((study, 1), (scaled(steps=(6,), factor=2.0), 0)):
        paper = paper_of(dataclasses.replace(EXPERIMENT, settings=(one,), key=(final("loss"), one)))
        assert len(stored(paper, tmp_path).outcomes["scaled"]) == n_seeds


def test_what_was_measured_before_arguments_were_written_down_is_taken(runs):
    study = dataclasses.replace(scaled(steps=(6,)), name="older")
    study.measure(runs, 0)
    about = study.folder(runs, 0) / "study.json"
    told = json.loads(about.read_text())
    del told["identity"]["arguments"]
    about.write_text(json.dumps(told))
    assert study.outcome(runs, 0) is not None


def test_a_package_that_is_missing_is_told_as_such(runs):
    def lacking(run):
        raise ModuleNotFoundError("needs cvxpy: pip install 'plateau-interp[convex]'")

    study = Study("lacking", BASE, Added(lacking))
    with pytest.raises(NotHereError, match="needs cvxpy"):
        study.measure(runs, 0)
    assert not study.folder(runs, 0).exists()


def test_a_kill_before_the_last_file_leaves_nothing_measured(runs):
    study = dataclasses.replace(STUDY, name="killed")
    study.measure(runs, 0)
    about = study.folder(runs, 0) / "study.json"
    assert json.loads(about.read_text())["identity"]["study"] == "killed"
    about.unlink()
    assert study.outcome(runs, 0) is None
    assert study.measure(runs, 0).metrics is not None


def test_cases_are_drawn_one_below_the_other(runs):
    figure = cases_figure({"losses": [STUDY.measure(runs, seed) for seed in (0, 1)]}, ["loss"])
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["as it is", "doubled"]
    assert (axes.get_title(loc="left"), axes.get_xlabel()) == ("The loss", "nats")
    assert [line.get_ydata().tolist() for line in axes.get_lines()] == [[0, 1], [0, 1]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["step 6"]
    rows = pd.DataFrame({"step": [0, 6, 6], "case": ["a", "a", "b"], "loss": [1.0, 2.0, None]})
    (axes,) = cases_figure({"losses": [Outcome(STUDY, 0, rows)]}, ["loss"]).axes
    assert [line.get_ydata().tolist() for line in axes.get_lines()] == [[-0.125], [0.125]]
