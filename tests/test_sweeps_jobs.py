"""plateau_interp.sweeps.jobs: a job never raises, and its ending says what went wrong, where and for whom."""

import json
import os
import platform
import warnings

import pytest
import torch
from small_sweeps import BASE

from plateau_interp import Recipe, Run
from plateau_interp.interventions.attaching import InterventionWarning
from plateau_interp.runs.errors import BusyFolder
from plateau_interp.runs.folder import only_writer
from plateau_interp.sweeps.endings import Ending, Interrupted
from plateau_interp.sweeps.jobs import Job, check_same_disk, ending_of, train_run

RECIPE = Recipe.from_dict(BASE)
WHO = f"the worker on {platform.node()} (process {os.getpid()})"


def job(folder, recipe=None, **options):
    return Job(str(folder / "run"), RECIPE.to_json() if recipe is None else recipe, str(folder), **options)


def test_a_run_is_trained_to_its_end_and_gone_on_with(tmp_path):
    asked = iter([False, False, True])
    assert train_run(job(tmp_path), lambda: next(asked)).how == "stopped"
    run = Run(tmp_path / "run")
    assert not run.finished
    assert train_run(job(tmp_path)) == Ending("done")
    alone = Run.create(tmp_path / "alone", RECIPE)
    list(alone.train())
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == (tmp_path / "alone/metrics.jsonl").read_bytes()


def test_a_run_that_somebody_else_writes_is_busy(tmp_path):
    Run.create(tmp_path / "run", RECIPE)
    with only_writer(tmp_path / "run"):
        ending = train_run(job(tmp_path))
    assert ending.how == "busy"
    assert str(tmp_path / "run") in ending.reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"recipe": json.dumps({"task": {"name": "elsewhere"}})}, f"{WHO} needs the package that has it, as this"),
        ({"recipe": "{"}, "not valid JSON"),
        ({"device": "gpu"}, "unknown device 'gpu'"),
    ],
    ids=["no such plug-in", "no recipe", "no such device"],  # the same in every process that collects
)
def test_what_goes_wrong_is_the_reason_of_a_failure(change, reason, tmp_path):
    ending = train_run(job(tmp_path, **change))
    assert ending.how == "failed"
    assert reason in ending.reason
    assert not (tmp_path / "run").exists()


def test_a_worker_that_sees_another_disk_says_so_and_writes_nothing(tmp_path):
    ending = train_run(Job(str(tmp_path / "run"), RECIPE.to_json(), str(tmp_path / "sweep.json")))
    assert ending.how == "failed"
    assert ending.reason.startswith(f"{WHO} does not see {tmp_path / 'sweep.json'}: all workers need the same folders")
    assert not (tmp_path / "run").exists()
    check_same_disk(tmp_path)


def raising(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (Interrupted(), Ending("stopped")),
        (BusyFolder("somebody writes"), Ending("busy", "somebody writes")),
        (ValueError("one\n  two"), Ending("failed", "one two")),
        (OSError("disk full"), Ending("failed", "disk full")),
        (KeyError("x"), Ending("failed", "KeyError: 'x'")),  # its text alone would say nothing
    ],
)
def test_what_work_raises_is_its_ending(error, ending):
    assert ending_of(raising(error), threads=1) == ending


def test_ctrl_c_goes_through():
    with pytest.raises(KeyboardInterrupt):
        ending_of(raising(KeyboardInterrupt()), threads=1)


def test_our_warnings_are_in_the_ending_once_and_others_go_on():
    def work():
        for _ in range(2):
            warnings.warn("it never acted", InterventionWarning, stacklevel=1)
        warnings.warn("of somebody else", UserWarning, stacklevel=1)
        return Ending("done")

    with pytest.warns(UserWarning, match="of somebody else") as caught:
        ending = ending_of(work, threads=1)
    assert ending == Ending("done", "", ("it never acted",))
    assert [str(one.message) for one in caught] == ["of somebody else"]


def test_a_job_has_its_threads_and_leaves_them_as_they_were():
    before, there = torch.get_num_threads(), []

    def work():
        there.append(torch.get_num_threads())
        return Ending("done")

    ending_of(work, threads=before + 1)
    assert there == [before + 1]
    assert torch.get_num_threads() == before
