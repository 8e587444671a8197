"""What a task means position by position: what is read, where the answers stand, which attention solves it.

Small functions of a task and a batch, for whoever measures, edits or draws a model of a task.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plateau_interp.checks import shown
from plateau_interp.types import IGNORE, Batch, BuiltForTask, HookedModel, Task, answer_rows

__all__ = ["answers_in", "input_length", "layer_targets", "read_length", "true_answers"]


def true_answers(task: Task, batch: Batch) -> Int[Tensor, "batch answer"] | Float[Tensor, "batch answer"]:
    """What is right at the answer positions: the tokens that stand there or, where they are filled in, the labels.

    `IGNORE` where the label is, as after the end of an answer shorter than others: there is nothing to be right about.

    Example:
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> task = MovingWindowSum()
        >>> true_answers(task, task.sample(2, generator=torch.Generator())).shape
        torch.Size([2, 16])
    """
    labels = batch.labels[:, answer_rows(task)]
    if not task.lookahead:
        return labels
    unscored = labels.isnan() if labels.is_floating_point() else labels == IGNORE
    return batch.tokens[:, task.answer].masked_fill(unscored, IGNORE)


def answers_in(task: Task, output: Float[Tensor, "batch query d_output"]) -> Int[Tensor, "batch answer"]:
    """The answers that a model gives in one forward: at each answer row the likeliest token.

    Example:
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> answers_in(MovingWindowSum(), torch.zeros(2, 32, 18)).shape
        torch.Size([2, 16])
    """
    return output[:, answer_rows(task)].argmax(dim=-1)


def input_length(task: Task) -> int:
    """How many tokens of a sequence a model reads: all that have a label.

    Example:
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> task = MovingWindowSum()
        >>> task.n_pos, input_length(task)
        (33, 32)
    """
    return task.n_pos - task.lookahead


def read_length(model: HookedModel) -> int:
    """How many tokens a model may be given: its context, without a last position that training never reads.

    A toy model has a position for each token of its task's sequences, also for the one that is only ever predicted: its
    embedding stays as it was drawn. Whoever asks for another ``n_ctx`` means it.

    Example:
        >>> from plateau_interp import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> model = toy_model(MovingWindowSum(), d_model=32)
        >>> model.cfg.n_ctx, read_length(model)
        (33, 32)
    """
    n_ctx: int = model.cfg.n_ctx
    task = model.task if isinstance(model, BuiltForTask) else None
    if task is None or n_ctx != task.n_pos or model.cfg.positional_embedding_type != "standard":
        return n_ctx
    return input_length(task)


def layer_targets(task: Task, batch: Batch, *, n_layers: int) -> list[Bool[Tensor, "#batch query key"] | None]:
    """The task's optimal attention for a model of any depth: its maps belong to the last layers.

    A one-map task on a two-layer model has its map in the second layer (as in the authors' code, which measures the
    last layer); a model with fewer layers than maps has the last maps.

    Raises:
        ValueError: for what is no map over the batch's queries and keys.

    Example:
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> task = MovingWindowSum()
        >>> batch = task.sample(1, generator=torch.Generator())
        >>> [target is None for target in layer_targets(task, batch, n_layers=2)]
        [True, False]
    """
    maps = list(task.optimal_attention(batch))
    for found in maps:
        _check_map(found, task, batch)
    return ([None] * n_layers + maps)[-n_layers:]


def _check_map(found: Any, task: Task, batch: Batch) -> None:
    if found is None:
        return
    n_sequences, n_queries = batch.inputs.shape
    shape = tuple(found.shape) if isinstance(found, Tensor) else ()
    if len(shape) != 3 or shape[0] not in (1, n_sequences) or shape[1:] != (n_queries, n_queries):
        came = f"a tensor {list(shape)}" if isinstance(found, Tensor) else shown(found)
        raise ValueError(
            f"optimal_attention of {shown(task)} must list, for each layer, None or a map [batch, query, key], here "
            f"[1 or {n_sequences}, {n_queries}, {n_queries}]; got {came}"
        )
    if found.dtype != torch.bool:
        raise ValueError(f"optimal_attention of {shown(task)} must give maps of true and false; got {found.dtype}")
