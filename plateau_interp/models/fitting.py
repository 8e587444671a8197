"""Whether a task is one, whether a model can read it, and whether the two fit into memory; all checked at once.

The sizes are lower bounds, worked out before anything is allocated: what is refused could not have been trained.
"""

from typing import Any

import torch
from torch import Tensor

from plateau_interp.checks import check_memory, shown, whole_number
from plateau_interp.models.settings import ModelSettings
from plateau_interp.models.tokenizers import differing_vocabulary
from plateau_interp.positions import input_length
from plateau_interp.types import IGNORE, Batch, Defaults, HookedModel, Levels, OfText, Reader, Task

__all__ = [
    "check_attention_mask",
    "check_batch_size",
    "check_device",
    "check_direction",
    "check_entries",
    "check_fits",
    "check_model_size",
    "check_real",
    "check_sequences",
    "check_task",
    "check_tokens",
]

TOKEN_BYTES = 8
REAL = (
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
)
"""Dtypes of what may stand in the place of activations."""


def check_task(task: Any) -> None:
    """Refuse what is no task, such as its name or its class, and a task that leaves out what it must say.

    Raises:
        ValueError: saying what came.
    """
    # By inheritance first: looking for the members would compute the properties among them.
    if Task not in type(task).__mro__ and (isinstance(task, type) or not isinstance(task, Task)):
        raise ValueError(f"task must be a task such as MovingWindowSum(); got {shown(task)}")
    whose = type(task).__name__  # a member that is left out is None, as the protocol's own
    d_vocab, n_pos, answer = task.d_vocab, task.n_pos, task.answer
    least = whole_number(f"lookahead of the task {whose}", task.lookahead, least=0)
    # Something must be left to read: what goes on has two tokens at least, what is filled in may be a single one.
    for name, number, smallest in (("d_vocab", d_vocab, 1), ("n_pos", n_pos, 1 + least)):
        whole_number(f"{name} of the task {whose}", number, least=smallest)
    whole_number(f"d_output of the task {whose}", task.d_output, least=1)
    bounds = (answer.start, answer.stop) if isinstance(answer, slice) else ()
    if not bounds or not all(isinstance(bound, int) for bound in bounds) or not least <= bounds[0] < bounds[1] <= n_pos:
        expected = f"a slice of positions from {least} to n_pos={n_pos}, with start and stop"
        raise ValueError(f"answer of the task {whose} must be {expected}; got {shown(answer)}")
    _check_kind(task, "defaults", task.defaults, Defaults)


def _check_kind(task: Task, name: str, value: Any, kind: type) -> None:
    if not isinstance(value, kind):
        raise ValueError(f"{name} of the task {type(task).__name__} must be {kind.__name__}(...); got {shown(value)}")


def check_tokens(name: str, tokens: Any, *, d_vocab: int | None = None) -> None:
    """Refuse what are no sequences of token ids in one tensor, and ids that a vocabulary does not have.

    Raises:
        ValueError: naming the argument.
    """
    if not isinstance(tokens, Tensor) or tokens.ndim != 2 or tokens.dtype not in (torch.int64, torch.int32):
        came = f"{tokens.dtype} {list(tokens.shape)}" if isinstance(tokens, Tensor) else shown(tokens)
        raise ValueError(f"{name} must be token ids, a tensor of torch.int64 [batch, pos]; got {came}")
    if not tokens.numel():
        raise ValueError(f"{name} must hold a token at least; got the shape {list(tokens.shape)}")
    if d_vocab is not None:
        _check_range(name, tokens, d_vocab)


def check_attention_mask(mask: Any, tokens: Tensor) -> None:
    """Refuse what does not say of each token whether it is real, and sequences without a real one; None is fine.

    TransformerLens counts positions by the sum of a mask: with 2 in the place of 1 it would go on in silence.

    Raises:
        ValueError: for another shape or other numbers, or naming a sequence.
    """
    if mask is None:
        return
    if not isinstance(mask, Tensor) or mask.shape != tokens.shape:
        there = tuple(mask.shape) if isinstance(mask, Tensor) else shown(mask)
        raise ValueError(f"attention_mask must have the shape of the tokens, {tuple(tokens.shape)}; got {there}")
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise ValueError(f"attention_mask must be 1 where a token is real and 0 elsewhere; got {shown(mask)}")
    if bool((empty := (mask == 0).all(dim=1)).any()):
        raise ValueError(f"sequence {int(empty.int().argmax())} has no token that attention_mask calls real")


def check_sequences(task: Task, batch: Any) -> None:
    """Refuse sequences that are not as the task itself says: of another length, or with tokens that it does not have.

    And levels that are none.

    Reads all of them, which waits for their device: once a training is enough.

    Raises:
        ValueError: naming what the task gave, and what it said that it would.
    """
    # Here, not in `check_task`: closed forms are computed, of sizes that may be beyond the memory.
    _check_kind(task, "levels", task.levels, Levels)
    whose = f"the sequences of {shown(task)}"
    if not isinstance(batch, Batch):
        raise ValueError(f"{whose} must be a Batch(tokens, labels); got {shown(batch)}")
    has_own_loss = type(task).loss is not Task.loss  # and that may read other labels
    ahead = f" - {task.lookahead}" if task.lookahead else ""
    lengths = (("tokens", batch.tokens, task.n_pos, ""), ("labels", batch.labels, input_length(task), ahead))
    for name, tensor, length, less in lengths:
        numbers = has_own_loss and name == "labels" and isinstance(tensor, Tensor) and tensor.is_floating_point()
        if not numbers and (not isinstance(tensor, Tensor) or tensor.dtype not in (torch.int64, torch.int32)):
            came = tensor.dtype if isinstance(tensor, Tensor) else shown(tensor)
            raise ValueError(f"{whose}: {name} must be whole numbers (torch.int64); got {came}")
        # What is filled in may be of several sizes, one in a batch.
        shorter = not task.lookahead and tensor.ndim == 2 and tensor.shape[1] <= length
        if tensor.shape[1:] != (length,) and not shorter:
            raise ValueError(f"{whose}: {name} must be [batch, n_pos{less}={length}]; got {list(tensor.shape)}")
    if batch.labels.shape[1] != batch.tokens.shape[1] - task.lookahead:
        sizes = f"{list(batch.tokens.shape)} and {list(batch.labels.shape)}"
        raise ValueError(f"{whose}: there must be a label for each token that is read; got {sizes}")
    _check_range(f"{whose}: tokens", batch.tokens, task.d_vocab)
    if not has_own_loss:
        _check_range(f"{whose}: labels", batch.labels[batch.labels != IGNORE], task.d_vocab)


def _check_range(what: str, tokens: Tensor, d_vocab: int) -> None:
    if not tokens.numel():
        return
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or high >= d_vocab:
        raise ValueError(f"{what} must be from 0 to d_vocab - 1 = {d_vocab - 1}; got {low} to {high}")


def check_device(device: Any) -> None:
    """Refuse a device that this machine or this torch does not have.

    Raises:
        ValueError: with torch's reason, or with the kinds in common use.
    """
    try:
        torch.device(device)
    except (RuntimeError, TypeError):  # its message lists twenty kinds, most of which nobody has
        raise ValueError(f"unknown device {device!r}; expected cpu, cuda, cuda:1, ... or mps") from None
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:  # torch asserts that it was built for the device
        reason = str(error).splitlines()[0].split(". ")[0]
        raise ValueError(f"device {str(device)!r} cannot be used here: {reason}") from None


def check_fits(model: HookedModel, task: Task) -> None:
    """Refuse a model that is too small for a task's sequences or its vocabulary, or is of the wrong kind for it.

    A larger one is fine, as a pretrained one is on a toy task. One whose tokenizer has another vocabulary than a task
    of text, also a larger one, would read texts otherwise than it is trained on them.

    Raises:
        ValueError: naming both sizes, or the first token that is another.
    """
    n_inputs = input_length(task)
    if model.cfg.n_ctx < n_inputs:
        raise ValueError(f"the model reads n_ctx={model.cfg.n_ctx} tokens; {task.name}'s inputs have {n_inputs}")
    if model.cfg.d_vocab < task.d_vocab:
        raise ValueError(f"the model knows d_vocab={model.cfg.d_vocab} tokens; {task.name} has {task.d_vocab}")
    own = model.tokenizer if isinstance(model, Reader) else None
    if own is not None and isinstance(task, OfText) and (words := differing_vocabulary(own, task.tokenizer)):
        raise ValueError(
            f"the vocabularies of the model and of {shown(task)} differ: {words}; keep_tokenizer_(model, "
            "task.tokenizer) has it read texts as the task does"
        )
    gives_logits = task.d_output == task.d_vocab
    if model.cfg.d_vocab_out < task.d_output or (not gives_logits and model.cfg.d_vocab_out != task.d_output):
        raise ValueError(
            f"the model gives d_vocab_out={model.cfg.d_vocab_out} numbers a position; {task.name} needs {task.d_output}"
        )
    check_direction(model.cfg.attention_dir == "bidirectional", task)


def check_direction(bidirectional: bool, task: Task) -> None:
    """Refuse a model that reads in both directions for a task whose next token it is to predict.

    Raises:
        ValueError: naming the task.
    """
    if bidirectional and task.lookahead:
        raise ValueError(
            f"an encoder, which reads in both directions, sees what it would have to predict of {task.name}; use a "
            "decoder, or a task whose sequences are filled in"
        )


def check_model_size(task: Task, settings: ModelSettings, *, n_ctx: int, dtype: torch.dtype) -> None:
    """Refuse a model whose weights, or the causal masks of its layers, no memory of this machine could hold.

    Raises:
        ValueError: naming the arguments, the bytes it would need and those there are.
    """
    check_memory(settings.n_layers * n_ctx**2, f"attention over n_ctx={n_ctx} tokens of {shown(task, most=60)}")
    width, mlp_width = settings.d_model, settings.mlp_width
    n_parameters = (task.d_vocab + task.d_output + n_ctx) * width + settings.n_layers * (
        4 * width**2 + 2 * width * mlp_width
    )
    sizes = f"n_layers={settings.n_layers}, d_model={width}, d_mlp={mlp_width}, d_vocab={task.d_vocab}, n_ctx={n_ctx}"
    check_memory(n_parameters * dtype.itemsize, f"a model with {sizes}")


def check_batch_size(task: Task, n_sequences: int, *, name: str, model: HookedModel | None = None) -> None:
    """Refuse so many sequences of a task that their tokens, or a model's attention over them, fill the memory.

    Args:
        task: whose sequences they are.
        n_sequences: how many at a time.
        name: of the argument that said so.
        model: what reads them all at once, keeping each layer's attention for the gradient; None for nobody.

    Raises:
        ValueError: naming the argument, the bytes it would need and those there are.
    """
    what = f"{name}={n_sequences} sequences of {shown(task, most=60)}"
    check_memory(n_sequences * task.n_pos * TOKEN_BYTES, what)
    parameter = None if model is None else next(model.parameters())
    if model is not None and parameter is not None and parameter.device.type == "cpu":
        cells = model.cfg.n_layers * model.cfg.n_heads * input_length(task) ** 2
        check_memory(n_sequences * cells * parameter.element_size(), f"attention over {what}")


def check_entries(tensor: Tensor, what: str) -> None:
    """Refuse a tensor that cannot stand in the place of activations.

    Raises:
        ValueError: naming it, as `check_real`, and for NaN or infinite entries.

    Example:
        >>> check_entries(torch.eye(2), "direction")
    """
    check_real(tensor, what)
    if not tensor.isfinite().all():
        raise ValueError(f"{what} holds NaN or infinite entries")


def check_real(tensor: Tensor, what: str) -> None:
    """Refuse a tensor whose entries torch cannot compare, or make an activation's without a loss of kind.

    Raises:
        ValueError: naming it, for complex numbers and rare formats, for what is sparse, and for what is on no device.

    Example:
        >>> check_real(torch.eye(2), "direction")
    """
    if tensor.dtype not in REAL or tensor.layout != torch.strided or tensor.is_meta:
        kind = f"{tensor.dtype}{'' if tensor.layout == torch.strided else ', sparse,'} on {tensor.device}"
        raise ValueError(f"{what} must be a dense tensor of real numbers, such as torch.float32; got {kind}")
