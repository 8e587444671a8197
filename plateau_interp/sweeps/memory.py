"""How much memory a run or a series will need, roughly, from its sizes: how many fit side by side.

Nothing is allocated. What cannot fit at all is refused by `plateau_interp.runs.recipe.Recipe.rehearse`.
"""

from collections.abc import Iterable
from glob import glob
from pathlib import Path

from plateau_interp.positions import input_length
from plateau_interp.runs.recipe import Recipe
from plateau_interp.series.recipe import SeriesRecipe

__all__ = ["PROCESS", "memory_of", "memory_of_series", "most_memory"]

PROCESS = 600 * 2**20
"""Bytes of a process with torch and TransformerLens loaded (measured: 0.5 GiB)."""
WEIGHTS, WEIGHT_COPIES = (".safetensors", ".bin"), 4
"""Files with weights; and how often they are in memory: as read, as transformers has them, as we do, in float32."""
STATES, COPIES = 16, 4
"""Numbers a position and layer of width d_model that the backward pass needs; weights, gradients and two of Adam's."""


def memory_of(recipe: Recipe) -> int:
    """Bytes that a process needs to train a recipe; within a factor of two.

    Example:
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> 0.5 < memory_of(Recipe(MovingWindowSum())) / 2**30 < 2
        True
    """
    model, task, n_query = recipe.model, recipe.task, input_length(recipe.task)
    width, n_layers = model.d_model, model.n_layers
    n_parameters = (2 * task.d_vocab + n_query) * width + n_layers * (4 * width**2 + 2 * width * model.mlp_width)
    a_layer = STATES * width + 3 * model.mlp_width + 3 * model.n_heads * n_query
    a_position = n_layers * a_layer + 4 * task.d_vocab
    numbers = COPIES * n_parameters + recipe.batch_size * n_query * a_position
    return PROCESS + numbers * (8 if model.dtype == "float64" else 4)


def memory_of_series(recipe: SeriesRecipe) -> int:
    """Bytes that a process needs to measure a series; within a factor of two.

    The files of a checkpoint say it, or the recipe of a run. Of a model that is on the hub alone nobody knows before:
    then as little as a small one needs.
    """
    source = Path(recipe.source).expanduser()
    if (source / "recipe.json").is_file():
        return memory_of(Recipe.read(source / "recipe.json"))
    pattern = str(source) if set("*?[") & set(recipe.source) else f"{source}/*"
    sizes: dict[str, int] = {}
    for file in map(Path, glob(f"{pattern}/*")):
        if file.suffix in WEIGHTS:
            sizes[str(file.parent)] = sizes.get(str(file.parent), 0) + file.stat().st_size
    return PROCESS + WEIGHT_COPIES * max(sizes.values(), default=0)


def most_memory(recipes: Iterable[Recipe]) -> int:
    """Bytes of the largest of some recipes."""
    return max(map(memory_of, recipes), default=PROCESS)
