import re

import pytest

from plateau_interp.optimizers import Adam
from plateau_interp.plugins import PluginError, plugin, plugins
from plateau_interp.tasks import MovingWindowSum


def test_plugins_are_found_by_name():
    assert "moving-window-sum" in plugins("tasks")
    assert plugin("tasks", "moving-window-sum") is MovingWindowSum
    assert plugin("optimizers", "adam") is Adam


def test_names_come_sorted():
    assert list(plugins("optimizers")) == sorted(plugins("optimizers"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "moving-window-summ",
            "no task is called 'moving-window-summ': did you mean 'moving-window-sum'? see `plateau list tasks`",
        ),
        ("zzz", "no task is called 'zzz': see `plateau list tasks`"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name, message):
    with pytest.raises(PluginError, match=f"^{re.escape(message)}$"):
        plugin("tasks", name)
