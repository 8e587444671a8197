"""Greedy decoding of a task's answers; to continue texts see `plateau_interp.decoding.continuing`, which does it."""

import torch
from jaxtyping import Int
from torch import Tensor

from plateau_interp.decoding.choosing import most_likely
from plateau_interp.decoding.continuing import continue_tokens, continued
from plateau_interp.positions import answers_in
from plateau_interp.types import HookedModel, Task, check_model

__all__ = ["greedy_answers", "known_answers"]


def greedy_answers(
    model: HookedModel, task: Task, tokens: Int[Tensor, "batch pos"], *, cached: bool = True
) -> Int[Tensor, "batch answer"]:
    """The model's own answers to the prompts of some sequences, decoded greedily.

    Where sequences are filled in (`Task.lookahead` is 0) they are read off one forward.

    Interventions that are attached act in every forward.

    Args:
        model: any HookedTransformer over the task's vocabulary.
        task: says where the prompt ends and how long the answer is; all token ids may be produced.
        tokens: whole sequences or prompts; what stands after the prompt is not looked at. Those that are filled in are
            read whole.
        cached: see `plateau_interp.decoding.continued`.

    Returns:
        The answers, to be compared with `plateau_interp.positions.true_answers`.

    Raises:
        ValueError: for what are no model, task or tokens, for fewer tokens than a prompt has, for a task whose answers
            are no tokens, and as `continued`.

    Source: arXiv 2506.13688, authors' code: free-running argmax, not restricted to the task's output alphabet.

    Example:
        >>> import torch
        >>> from plateau_interp.models import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> task = MovingWindowSum(n=4)
        >>> tokens = task.sample(3, generator=torch.Generator()).tokens
        >>> greedy_answers(toy_model(task, d_model=16), task, tokens).shape
        torch.Size([3, 4])
    """
    # Here, since models load TransformerLens: tasks, which measure themselves by decoding, need it not.
    from plateau_interp.models.fitting import check_task, check_tokens

    check_model(model)
    check_task(task)
    check_tokens("tokens", tokens)
    if task.d_output != task.d_vocab:
        raise ValueError(f"the answers of {task.name} are no tokens: they stand in the output, model(tokens)")
    if not task.lookahead:
        return answers_in(task, model(tokens))
    if tokens.shape[1] < task.answer.start:
        raise ValueError(f"tokens must hold the prompt's {task.answer.start} positions; got {list(tokens.shape)}")
    n_answers = task.answer.stop - task.answer.start
    return continued(model, tokens[:, : task.answer.start], n_answers, states_at=None, cached=cached).tokens


def known_answers(model: HookedModel, task: Task, tokens: Int[Tensor, "batch pos"]) -> Int[Tensor, "batch answer"]:
    """As `greedy_answers`, of sequences that the task itself made, on the model's device.

    Nobody looks through them, for which a training step on a GPU would have to wait.

    Example:
        >>> from plateau_interp.models import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> task = MovingWindowSum(n=4)
        >>> tokens = task.sample(3, generator=torch.Generator()).tokens
        >>> model = toy_model(task, d_model=16)
        >>> torch.equal(known_answers(model, task, tokens), greedy_answers(model, task, tokens))
        True
    """
    prompts = tokens[:, : task.answer.start]
    real = torch.ones_like(prompts, dtype=torch.bool)
    n_answers = task.answer.stop - task.answer.start
    return continue_tokens(model, prompts, real, n_answers, choose=most_likely).tokens
