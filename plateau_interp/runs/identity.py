"""Which run a checkpoint belongs to: digests of the recipe, the same while the run is the same, and of weights."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from plateau_interp.files import digest
from plateau_interp.plugins import PluginError, kind_of, plugin_name
from plateau_interp.runs.checkpoints import FILES, place_of
from plateau_interp.runs.recipe import Recipe
from plateau_interp.training.settings import TrainingSettings

__all__ = ["goes_on_with", "recipe_digest", "weights_file_digest"]


def recipe_digest(recipe: Recipe) -> str:
    """A digest that differs where two runs differ, and not where one and the same is lengthened, moved or read later.

    Left out are the number of steps, how much of their state is kept, where folders lie (of fields that are marked with
    `PLACE`), and fields at their default: a field that a later version adds has its default in the recipes of earlier
    ones.

    Example:
        >>> from dataclasses import replace
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> recipe = Recipe(MovingWindowSum())
        >>> recipe_digest(recipe) == recipe_digest(replace(recipe, training=replace(recipe.training, steps=800)))
        True
        >>> recipe_digest(recipe) == recipe_digest(replace(recipe, seed=1))
        False
    """
    return digest(json.dumps(_essence(recipe), sort_keys=True).encode())


def goes_on_with(recipe: Recipe, other: Recipe) -> bool:
    """Whether a recipe is another's, as long or longer, wherever the folders are that they name.

    Example:
        >>> from dataclasses import replace
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> recipe = Recipe(MovingWindowSum())
        >>> longer = replace(recipe, training=replace(recipe.training, steps=800))
        >>> goes_on_with(longer, recipe), goes_on_with(recipe, longer)
        (True, False)
    """
    return recipe.steps >= other.steps and recipe_digest(recipe) == recipe_digest(other)


def weights_file_digest(path: Path, step: int) -> str:
    """SHA-256 of the file with the weights of a run folder's checkpoint; empty if it is gone.

    Another run of the same recipe may have others, as where what its interventions take from has.
    """
    file = place_of(path, step) / FILES[0]
    return digest(file.read_bytes()) if file.is_file() else ""


def _essence(value: Any) -> Any:
    """Plain data of what makes a value that value."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"name": _plugin_name(value), **{item.name: _field_content(item, value) for item in _told(value)}}
    if isinstance(value, tuple | list):
        return [_essence(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _essence(item) for key, item in value.items()}
    return value


def _field_content(item: "dataclasses.Field[Any]", value: Any) -> Any:
    content = getattr(value, item.name)
    is_place = item.metadata.get("place", False) and isinstance(content, str)
    return PurePath(content).name if is_place else _essence(content)


def _plugin_name(value: Any) -> str | None:
    """Of a plug-in the name it is registered under, or where its class stands; options have none."""
    kind = kind_of(value)
    if kind is None:
        return None
    try:
        return plugin_name(kind, type(value))
    except PluginError:  # of a script that makes no folder: it cannot be written down
        return f"{type(value).__module__}:{type(value).__qualname__}"


def _told(value: Any) -> list["dataclasses.Field[Any]"]:
    """The fields that count: not at their default, nor the steps of a training, nor how much a run keeps of them."""
    return [
        item
        for item in dataclasses.fields(value)
        if item.init
        and not _at_default(item, getattr(value, item.name))
        and not (isinstance(value, TrainingSettings) and item.name == "steps")
        and not (isinstance(value, Recipe) and item.name == "state_every")
    ]


def _at_default(item: "dataclasses.Field[Any]", value: Any) -> bool:
    if item.default is not dataclasses.MISSING:
        return bool(_essence(item.default) == _essence(value))
    if item.default_factory is not dataclasses.MISSING:
        return bool(_essence(item.default_factory()) == _essence(value))
    return False
