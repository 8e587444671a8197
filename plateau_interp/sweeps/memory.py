"""How much memory a run will need, roughly, from its sizes: how many runs fit side by side.

Nothing is allocated. What cannot fit at all is refused by `plateau_interp.runs.recipe.Recipe.rehearse`.
"""

from collections.abc import Iterable

from plateau_interp.positions import input_length
from plateau_interp.runs.recipe import Recipe

__all__ = ["memory_of", "most_memory"]

PROCESS = 600 * 2**20
"""Bytes of a process with torch and TransformerLens loaded (measured: 0.5 GiB)."""
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


def most_memory(recipes: Iterable[Recipe]) -> int:
    """Bytes of the largest of some recipes."""
    return max(map(memory_of, recipes), default=PROCESS)
