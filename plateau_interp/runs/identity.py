"""Which run a checkpoint belongs to: a digest of the recipe that stays the same while the run is the same."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from plateau_interp.runs.recipe import Recipe
from plateau_interp.training.settings import TrainingSettings

__all__ = ["digest", "recipe_digest"]

PLACES = ("source", "out")
"""Fields that name a folder. Folders are moved, and recipes then name them anew: the folder's own name counts alone."""


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal, as the command ``sha256sum`` prints it.

    (It is faster than BLAKE2 where the processor has instructions for it, as nearly all do.)

    Example:
        >>> digest(b"")[:16]
        'e3b0c44298fc1c14'
    """
    return hashlib.sha256(content).hexdigest()


def recipe_digest(recipe: Recipe) -> str:
    """A digest that differs where two runs differ, and not where one and the same is lengthened, moved or read later.

    Left out are the number of steps, where folders lie, and fields at their default: a field that a later version adds
    has its default in the recipes of earlier ones.

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


def _essence(value: Any, field: str = "") -> Any:
    """Plain data of what makes a value that value."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        name = getattr(type(value), "name", None)  # plug-ins carry one; options, such as a training's, have none
        essence = {item.name: _essence(getattr(value, item.name), item.name) for item in _told(value)}
        return {"name": name, **essence}
    if isinstance(value, tuple | list):
        return [_essence(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _essence(item) for key, item in value.items()}
    return PurePath(value).name if field in PLACES and isinstance(value, str) else value


def _told(value: Any) -> list["dataclasses.Field[Any]"]:
    """The fields that count: those that are not at their default, nor the steps of a training."""
    return [
        item
        for item in dataclasses.fields(value)
        if item.init
        and not _at_default(item, getattr(value, item.name))
        and not (isinstance(value, TrainingSettings) and item.name == "steps")
    ]


def _at_default(item: "dataclasses.Field[Any]", value: Any) -> bool:
    if item.default is not dataclasses.MISSING:
        return bool(_essence(item.default) == _essence(value))
    if item.default_factory is not dataclasses.MISSING:
        return bool(_essence(item.default_factory()) == _essence(value))
    return False
