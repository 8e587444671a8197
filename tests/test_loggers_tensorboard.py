from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import IMAGES, TENSORS, EventAccumulator
from test_loggers_run_log import RECIPE, logged

from plateau_interp.loggers.run_log import logging_to
from plateau_interp.loggers.tensorboard import TensorBoard
from plateau_interp.runs.run import Run


def accumulated(run: Run) -> EventAccumulator:
    """What TensorBoard shows of a run."""
    there = EventAccumulator(str(run.path / "tensorboard"), size_guidance={IMAGES: 0, TENSORS: 0})
    there.Reload()
    return there


def scalars(run: Run, name: str) -> list[tuple[int, float]]:
    there = accumulated(run)
    events = there.Scalars(name) if name in there.Tags()["scalars"] else []
    return [(event.step, event.value) for event in events]


def assert_has_all(run: Run) -> None:
    there = accumulated(run)
    assert set(there.Tags()["scalars"]) == {*run.metrics.columns} - {"step"}
    for name in ("loss", "samples", "accuracy_0"):
        expected = list(zip(run.metrics["step"], run.metrics[name].astype(np.float32), strict=True))
        assert [(event.step, np.float32(event.value)) for event in there.Scalars(name)] == expected


def test_rows_recipe_and_pictures_are_there_once(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", RECIPE)
    picture = tmp_path / "curves.png"
    matplotlib.image.imsave(picture, np.zeros((5, 9, 3)))
    for _ in range(2):  # the same command again
        logged(run, TensorBoard())
        with logging_to(run, TensorBoard()) as log:
            log.picture("curves", picture)
    assert_has_all(run)
    there = accumulated(run)
    (image,) = there.Images("report/curves")
    assert (image.step, image.width, image.height) == (12, 9, 5)
    assert image.encoded_image_string == picture.read_bytes()
    (recipe,) = there.Tensors("recipe/text_summary")
    assert '"batch_size": 8' in recipe.tensor_proto.string_val[0].decode()
    hparams = there.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"training.batch_size" in hparams


@pytest.mark.parametrize("until", [1, 7, 9])
def test_a_run_that_goes_on_adds_to_it_and_repeats_nothing(tmp_path: Path, until: int) -> None:
    run = logged(Run.create(tmp_path / "run", RECIPE), TensorBoard(), until=until)
    assert [step for step, _ in scalars(run, "loss")] == list(range(0, until + 1, 2))
    (first,) = (run.path / "tensorboard").iterdir()
    first.write_bytes(first.read_bytes()[:-20])  # a kill cut the last record off
    assert [step for step, _ in scalars(run, "loss")] == list(range(0, until + 1, 2))[:-1]
    assert_has_all(logged(Run(run.path), TensorBoard()))
    longer = replace(RECIPE, training=replace(RECIPE.training, steps=16))
    assert_has_all(logged(Run.create(run.path, longer), TensorBoard()))
    assert len(accumulated(run).Tensors("recipe/text_summary")) == 1
