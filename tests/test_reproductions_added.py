"""plateau_interp.reproductions.added: what is measured of a run afterwards, and by which function it was."""

import functools

import pandas as pd
import pytest
from tiny_paper import recipe

from plateau_interp.reproductions.added import AddedWarning
from plateau_interp.reproductions.running import outcome, train_setting
from plateau_interp.reproductions.settings import Added, Setting
from plateau_interp.runs.run import RunError


def weigh(run, *, factor=1.0, names=frozenset()):
    return pd.DataFrame({"step": [0, 2], "norm": [factor, 2 * factor]})


def weighed(measure, **changes):
    return Setting("weighed", recipe(**changes), adds=Added(measure))


def scaled(**arguments):
    return weighed(functools.update_wrapper(functools.partial(weigh, **arguments), weigh))


def norms(setting, runs):
    return train_setting(setting, 0, runs).metrics["norm"].dropna().tolist()


def test_a_changed_argument_or_function_is_measured_anew(tmp_path):
    """The numbers of before stood under it, for the file is named after the function alone."""

    def other(run):
        return weigh(run, factor=7.0)

    other.__name__ = "weigh"
    assert norms(weighed(weigh), tmp_path) == [1.0, 2.0]
    assert outcome(scaled(factor=3.0), 0, tmp_path) is None
    assert norms(scaled(factor=3.0), tmp_path) == [3.0, 6.0]
    assert norms(weighed(other), tmp_path) == [7.0, 14.0]
    assert outcome(weighed(other), 0, tmp_path) is not None


def test_what_was_measured_before_there_were_notes_is_believed(tmp_path):
    train_setting(weighed(weigh), 0, tmp_path)
    (tmp_path / "weighed" / "seed-0" / "weigh.measured.json").unlink()
    assert norms(scaled(factor=3.0), tmp_path) == [1.0, 2.0]


def test_under_another_python_arguments_alone_tell_whether_it_is_the_same(tmp_path):
    train_setting(weighed(weigh), 0, tmp_path)
    note = tmp_path / "weighed" / "seed-0" / "weigh.measured.json"
    text = note.read_text()
    assert outcome(weighed(weigh), 0, tmp_path) is not None
    other = text.replace('"function": "', '"function": "0')
    note.write_text(other)
    assert outcome(weighed(weigh), 0, tmp_path) is None
    note.write_text(other.replace('"python": "3', '"python": "2'))
    assert outcome(weighed(weigh), 0, tmp_path) is not None
    assert outcome(scaled(factor=3.0), 0, tmp_path) is None


def test_arguments_of_what_is_wrapped_are_those_that_are_bound():
    """As of a measure under ``torch.no_grad``, whose studies are published."""
    wrapped = functools.wraps(weigh)(lambda *args, **kwargs: weigh(*args, **kwargs))
    bound = functools.partial(wrapped, factor=2.0, names=())
    for measure in (bound, functools.update_wrapper(bound, weigh)):
        assert Added(measure).arguments == {"factor": 2.0, "names": []}


def test_arguments_are_told_alike_in_every_process():
    adds = Added(functools.partial(weigh, names={"b", "a"}, factor=weigh))
    assert adds.arguments == {"factor": "<function weigh>", "names": ["'a'", "'b'"]}


def test_what_was_measured_where_the_run_has_no_row_is_told(tmp_path):
    """A run of 6 steps has rows from 0 to 5, and the trained model's checkpoint is that of step 6."""

    def everywhere(run):
        return pd.DataFrame([{"step": step, "norm": float(step)} for step in run.checkpoints])

    with pytest.warns(AddedWarning, match=r"everywhere has rows at steps that the run did not measure, .*: 6; a Study"):
        assert norms(weighed(everywhere), tmp_path) == [0.0, 2.0, 4.0]


def test_a_column_that_the_run_has_measured_itself_is_refused(tmp_path):
    """Both were gone: the one under ``loss_x``, the other under ``loss_y``."""

    def twice(run):
        return pd.DataFrame({"step": [0], "loss": [9.0]})

    with pytest.raises(
        RunError, match=r"twice.parquet has 'loss', which the run has measured itself: name it otherwise"
    ):
        train_setting(weighed(twice), 0, tmp_path)
    renamed = functools.update_wrapper(lambda run: twice(run).rename(columns={"loss": "norm"}), twice)
    assert norms(weighed(renamed), tmp_path) == [9.0]
