"""Metrics, recipe and pictures for TensorBoard: ``tensorboard --logdir runs``.

The files are written by TensorBoard's own package, without TensorFlow. For pages that need no server use ``plateau
report``.
"""

import json
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from plateau_interp.loggers.contract import Log, check_installed
from plateau_interp.runs.run import Run

__all__ = ["TensorBoard"]

FOLDER = "tensorboard"
FLUSH_SECONDS = 10
"""So old may be what a browser shows."""


@dataclass(frozen=True)
class TensorBoard:
    """Write event files for TensorBoard to RUN/tensorboard: metrics, the recipe, the report's pictures at the end.

    ``tensorboard --logdir runs`` shows all runs over each other. A run that goes on adds a file, and no step twice.

    Raises:
        ValueError: if the package tensorboard is not installed.

    Example:
        >>> TensorBoard()
        TensorBoard()
    """

    name: ClassVar[str] = "tensorboard"

    def __post_init__(self) -> None:
        check_installed("tensorboard", logger=self.name)

    @contextmanager
    def open_log(self, run: Run) -> Iterator[Log]:
        """The event files of a run."""
        log = _EventFiles(run.path / FOLDER, run.recipe.to_dict())
        try:
            yield log
        finally:
            log.close()


class _EventFiles(Log):
    """One more event file in a folder, made when there is something to write."""

    def __init__(self, folder: Path, recipe: Mapping[str, Any]) -> None:
        self._folder = folder
        self._recipe = recipe
        self._is_open = False
        there = list(_tags_and_steps(folder))
        self._has_recipe = any(tag == "recipe/text_summary" for tag, _ in there)
        self._pictures = {(tag, step) for tag, step in there if tag.startswith("report/")}
        self.last_step = max((step for tag, step in there if tag == "loss"), default=-1)

    def row(self, step: int, numbers: Mapping[str, float]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
        self._add(step, Summary(value=values))

    def picture(self, step: int, name: str, file: Path) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        tag = f"report/{name}"
        if (tag, step) in self._pictures:
            return
        content = file.read_bytes()
        width, height = struct.unpack(">II", content[16:24])  # of a PNG's first chunk
        image = Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=content)
        self._add(step, Summary(value=[Summary.Value(tag=tag, image=image)]))

    def close(self) -> None:
        if self._is_open:
            self._writer.close()

    @cached_property
    def _writer(self) -> Any:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        while any(self._folder.glob(f"events.out.tfevents.{int(time.time()):010d}.*")):
            time.sleep(0.05)  # they are read in the order of their names: of one second, the tenth before the ninth
        writer = EventFileWriter(str(self._folder), flush_secs=FLUSH_SECONDS)
        self._is_open = True
        return writer

    def _add(self, step: int, summary: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        if not self._has_recipe:
            self._has_recipe = True
            for about in _about(self._recipe):
                self._writer.add_event(Event(wall_time=time.time(), step=0, summary=about))
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))


def _about(recipe: Mapping[str, Any]) -> Iterator[Any]:
    """The recipe as a text to read, and as hyperparameters to sort runs by."""
    # PyTorch's: TensorBoard's own makers of these records want TensorFlow.
    from torch.utils.tensorboard import summary

    makers: Any = summary  # its functions have no annotations
    yield makers.text("recipe", f"```json\n{json.dumps(recipe, indent=2)}\n```")
    yield from makers.hparams(dict(_flat(recipe)), {"loss": 0.0})


def _flat(data: Any, path: str = "") -> Iterator[tuple[str, bool | float | str]]:
    """Single values by their path in a recipe."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from _flat(value, f"{path}.{key}".lstrip("."))
    else:
        yield path, data if isinstance(data, bool | int | float | str) else json.dumps(data)


def _tags_and_steps(folder: Path) -> Iterator[tuple[str, int]]:
    """What event files hold; the last record of one whose writer was killed may be cut off, and does not count."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    for file in sorted(folder.glob("events.out.tfevents.*")):
        for event in EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                yield value.tag, event.step
