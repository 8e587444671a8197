from collections.abc import Mapping
from pathlib import Path

import pytest

from plateau_interp.loggers.contract import Log, Logger, check_installed
from plateau_interp.loggers.tensorboard import TensorBoard
from plateau_interp.loggers.wandb import WeightsAndBiases
from plateau_interp.plugins import plugin, plugin_kind, plugins


def test_one_method_makes_a_log_and_pictures_and_a_memory_are_left_to_it(tmp_path: Path) -> None:
    class Counting(Log):
        rows = 0

        def row(self, step: int, numbers: Mapping[str, float]) -> None:
            self.rows += 1

    log = Counting()
    log.row(0, {"loss": 1.0})
    log.picture(1, "curves", tmp_path / "no-such-file.png")
    assert (log.rows, log.last_step) == (1, None)
    with pytest.raises(TypeError, match="abstract method"):
        Log()


def test_loggers_are_plug_ins_of_their_kind() -> None:
    assert plugin_kind(Logger) == "loggers"
    assert list(plugins("loggers")) == ["tensorboard", "wandb"]
    assert (plugin("loggers", "tensorboard"), plugin("loggers", "wandb")) == (TensorBoard, WeightsAndBiases)


def test_a_package_that_is_missing_is_told_with_the_remedy() -> None:
    line = r"the logger tensorboard needs the package no_such_thing, .*: pip install 'plateau-interp\[logging\]'"
    with pytest.raises(ValueError, match=line):
        check_installed("no_such_thing", logger="tensorboard")
