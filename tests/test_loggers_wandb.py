import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from test_loggers_run_log import RECIPE, logged

from plateau_interp.loggers.run_log import logging_to
from plateau_interp.loggers.wandb import WeightsAndBiases, logged_items
from plateau_interp.runs.run import Run

OFFLINE = WeightsAndBiases(mode="offline")


def steps_of(run: Run, name: str) -> list[int]:
    return [step for found, step in logged_items(run.path) if found == name]


def sessions(run: Run) -> list[Path]:
    return sorted((run.path / "wandb").glob("offline-run-*"))


def test_rows_and_pictures_are_there_once_and_the_recipe_is_the_configuration(tmp_path: Path) -> None:
    from wandb.proto.wandb_internal_pb2 import Record

    from plateau_interp.loggers.wandb import records

    picture = tmp_path / "curves.png"
    matplotlib.image.imsave(picture, np.zeros((5, 9, 3)))
    run = Run.create(tmp_path / "run", RECIPE)
    for _ in range(2):  # the same command again
        with logging_to(run, OFFLINE) as log:
            for step in run.train():
                log.step(step)
            log.picture("curves", picture)
    (session,) = sessions(run)
    for name in ("loss", "samples", "accuracy_0"):
        assert steps_of(run, name) == list(run.metrics["step"])
    assert steps_of(run, "report/curves.path") == [10]
    (file,) = session.glob("*.wandb")
    there = [Record.FromString(content) for content in records(file.read_bytes())]
    losses = [
        json.loads(item.value_json)
        for record in there
        for item in record.history.item
        if "loss" in (item.key, *item.nested_key)
    ]
    assert losses == pytest.approx(list(run.metrics["loss"]))
    (begun,) = (record.run for record in there if record.WhichOneof("record_type") == "run")
    assert (begun.project, begun.display_name) == ("plateau-interp", "run")
    config = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in begun.config.update}
    assert config["training"]["batch_size"] == 8
    assert config["task"] == run.recipe.to_dict()["task"]


KILLED = """
import os, signal, sys
from plateau_interp import Run
from plateau_interp.loggers.run_log import logging_to
from plateau_interp.loggers.wandb import WeightsAndBiases

run = Run(sys.argv[1])
with logging_to(run, WeightsAndBiases(mode="offline")) as log:
    for step in run.train():
        log.step(step)
        if step.step == 9:
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_and_repeats_nothing(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", RECIPE)
    # Without the name of this process's server, which would go on when the other process is killed.
    own = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    environment = {**own, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", KILLED, str(run.path)], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    there = steps_of(run, "loss")
    assert there == list(range(0, 10, 2))[: len(there)]
    logged(Run(run.path), OFFLINE)
    assert steps_of(run, "loss") == list(run.metrics["step"]) == list(range(0, 12, 2))
    assert len(sessions(run)) == 2
    assert len({session.name.rpartition("-")[2] for session in sessions(run)}) == 1


def test_a_mode_that_cannot_be_is_refused() -> None:
    logger = object.__new__(WeightsAndBiases)
    object.__setattr__(logger, "mode", "off")
    with pytest.raises(ValueError, match="mode must be online, offline or None; got 'off'"):
        logger.__post_init__()
