import re

import pytest

from plateau_interp.codec import RecipeError
from plateau_interp.plugins import PluginError, plugin, plugins, register
from plateau_interp.runs.recipe import Recipe
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.training.optimizers import Adam


class Walk(MovingWindowSum):
    name = "walk"


@pytest.fixture
def _registry():
    """Leaves what is registered as it was."""
    before = dict(plugins("tasks"))
    yield
    plugins("tasks").clear()
    plugins("tasks").update(before)


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
            "no task is called 'moving-window-summ'; the nearest is moving-window-sum; see `plateau list tasks`",
        ),
        (
            "zzz",
            "no task is called 'zzz'; there are concatenated-windows, copy, histogram, mixture and 10 more; "
            "see `plateau list tasks`",
        ),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name, message):
    with pytest.raises(PluginError, match=f"^{re.escape(message)}$"):
        plugin("tasks", name)


@pytest.mark.usefixtures("_registry")
def test_a_class_of_a_script_can_be_registered():
    with pytest.raises(RecipeError, match=r"task\.name"):
        Recipe.from_json(Recipe(Walk()).to_json())
    register("tasks", Walk)
    assert plugin("tasks", "walk") is Walk
    assert Recipe.from_json(Recipe(Walk(n=4)).to_json()).task == Walk(n=4)
    register("tasks", Walk)  # the cell of a notebook runs twice
    register("tasks", Walk, name="stroll")
    assert plugin("tasks", "stroll") is Walk


@pytest.mark.usefixtures("_registry")
def test_a_name_that_is_taken_is_refused():
    before = plugins("tasks")["copy"]
    message = f"'copy' is the name of {before.value}; {__name__}:Walk needs another"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        register("tasks", Walk, name="copy")
    assert plugins("tasks")["copy"] is before
