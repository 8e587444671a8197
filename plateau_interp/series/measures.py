"""What is measured of one checkpoint: how it goes on from the prompts, and how it reads a held-out text.

Free-running measures are of what the model writes itself; teacher-forced ones of a text that is given. The two differ
(the cosine by a tenth), and are named apart.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from plateau_interp import metrics
from plateau_interp.analysis.continuations import WRITING
from plateau_interp.checks import shown
from plateau_interp.decoding import Continuation, continued
from plateau_interp.interventions.attaching import hooking
from plateau_interp.interventions.hook_points import FINAL_STATE
from plateau_interp.positions import read_length
from plateau_interp.series.folder import RECORD_COLUMNS
from plateau_interp.types import HookedModel, Reader

__all__ = ["WINDOW", "OwnMeasure", "check_own_measures", "free_running", "teacher_forced", "windows_of"]

OwnMeasure = Callable[[HookedModel, Continuation], float | Sequence[float] | Tensor]
"""A user's: from the model and what it wrote to one number, or to one a prompt."""

NOT_FREE = frozenset({*WRITING, "held_out_loss", "teacher_forced_cosine"}).union(
    RECORD_COLUMNS, {"prompt", "tokens", "pieces", "text"}
)
"""Names that a measure of the user's cannot have."""
N_WINDOWS, WINDOW = 32, 128
"""Of a held-out text: how many pieces are read, and how many tokens each predicts, at most."""


def free_running(
    model: HookedModel,
    prompts: Sequence[str],
    *,
    n_new: int = 8,
    own: Mapping[str, OwnMeasure] | None = None,
) -> tuple[dict[str, float], pd.DataFrame]:
    """Let a model go on greedily from prompts, and measure what it writes.

    Args:
        model: with a tokenizer, under whatever interventions are attached.
        prompts: texts.
        n_new: tokens to write, never an end of text.
        own: further measures, by name, each of which gives one number, or one a prompt.

    Returns:
        Means over the prompts: ``cosine`` of the states of the new tokens, all pairs; ``cosine_across_prompts``;
        ``repetition``; ``distinct_tokens``; ``entropy`` in nats. And a table with a row a prompt: ``prompt`` (its
        number), ``tokens``, ``pieces`` (each token as text), ``text``, and the same measures, less those of your own
        that gave one number.

    Raises:
        ValueError: if the model has no tokenizer, a prompt and its new tokens do not fit the context, or a measure of
            your own gives something else.

    Source: arXiv 2506.13688, language models: greedy, 8 new tokens at least and at most, so that no end of text is
    written; the state of the last position.

    Example:
        >>> from plateau_interp import toy_model
        >>> from plateau_interp.tasks import Text
        >>> model = toy_model(Text(), d_model=32)
        >>> means, answers = free_running(model, ["Why is the sky blue?", "What is a comet?"])
        >>> sorted(means), len(answers)
        (['cosine', 'cosine_across_prompts', 'distinct_tokens', 'entropy', 'repetition'], 2)
    """
    texts_end = isinstance(model, Reader) and model.tokenizer is not None and model.tokenizer.eos_token_id is not None
    written = continued(model, list(prompts), n_new, never=["end of text"] if texts_end else ())
    assert isinstance(model, Reader)  # it has read the prompts
    lists = written.lists()
    rows = {name: measure(written).double().cpu() for name, measure in WRITING.items()}
    texts = [model.tokenizer.decode(tokens) for tokens in lists]
    pieces = [[model.tokenizer.decode([token]) for token in tokens] for tokens in lists]
    table = pd.DataFrame({"prompt": range(len(lists)), "tokens": lists, "pieces": pieces, "text": texts})
    for name, values in rows.items():
        table[name] = values.numpy()
    means = {name: float(values.mean()) for name, values in rows.items()}
    for name, measure in (own or {}).items():
        numbers = _as_numbers(name, measure(model, _copied(written)), len(lists))
        if numbers.ndim:
            table[name] = numbers.numpy()
        means[name] = float(numbers.mean())
    return means, table


@torch.no_grad()
def teacher_forced(model: HookedModel, windows: Int[Tensor, "batch pos"]) -> dict[str, float]:
    """How a model reads a given text: ``held_out_loss`` in nats a token, and ``teacher_forced_cosine`` of its states.

    Args:
        model: under whatever interventions are attached.
        windows: pieces of the text; all tokens but the first of each are predicted.

    Example:
        >>> from plateau_interp import toy_model
        >>> from plateau_interp.tasks import Text
        >>> task = Text(n=16)
        >>> sorted(teacher_forced(toy_model(task, d_model=32), task.held_out(4).tokens))
        ['held_out_loss', 'teacher_forced_cosine']
    """
    states: list[Tensor] = []

    def keep(act: Tensor, *, hook: Any) -> None:
        states.append(act)

    device = next(iter(model.parameters())).device
    windows = windows.to(device)
    with hooking(model, {FINAL_STATE: keep}):
        logits = model(windows[:, :-1])
    loss = F.cross_entropy(logits.float().flatten(0, 1), windows[:, 1:].flatten())
    cosine = metrics.mean_pairwise_cosine(states[0].float())
    return {"held_out_loss": float(loss), "teacher_forced_cosine": float(cosine.mean())}


def windows_of(model: HookedModel, text: str) -> Int[Tensor, "batch pos"]:
    """Pieces of a text in a model's own tokens, evenly spaced from its beginning to its end, always the same.

    Each predicts 128 tokens, or as many as the model reads (`plateau_interp.positions.read_length`); 32 pieces at most,
    and of a text that they can cover so many that they do: where they overlap, tokens count twice. So models with other
    tokens or contexts read other parts of a long text.

    Raises:
        ValueError: if the model has no tokenizer, or the text is shorter than two tokens.
    """
    if not isinstance(model, Reader) or model.tokenizer is None:
        raise ValueError("the model has no tokenizer to read a held-out text with")
    tokens = torch.tensor(model.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"], dtype=torch.long)
    size = min(WINDOW, read_length(model), len(tokens) - 1) + 1
    if size < 2:
        raise ValueError(f"a held-out text of {len(tokens)} tokens has nothing to predict")
    n_windows = min(N_WINDOWS, math.ceil((len(tokens) - 1) / (size - 1)))
    starts = (torch.arange(n_windows) * (len(tokens) - size)) // max(n_windows - 1, 1)
    return tokens[starts[:, None] + torch.arange(size)]


def check_own_measures(measures: Mapping[Any, object]) -> None:
    """Refuse measures that are not functions by names of their own: each becomes a column and a figure.

    Raises:
        ValueError: for a name that is no word or is taken, and for what cannot be called.

    Example:
        >>> check_own_measures({"cosine": lambda model, written: 0.0})
        Traceback (most recent call last):
            ...
        ValueError: a measure of your own cannot be called 'cosine': the series has a column of that name
    """
    for name, measure in measures.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"a measure's name must be a word, such as state_norm; got {shown(name)}")
        if name in NOT_FREE:
            raise ValueError(f"a measure of your own cannot be called {name!r}: the series has a column of that name")
        if not callable(measure):
            raise ValueError(f"the measure {name!r} must be a function of model and continuation; got {shown(measure)}")


def _copied(written: Continuation) -> Continuation:
    """The same in tensors of its own: a measure that works in place changes nothing for the next."""
    tensors: dict[str, Any] = {
        name: value.clone() for name, value in vars(written).items() if isinstance(value, Tensor)
    }
    return replace(written, **tensors)


def _as_numbers(name: str, measured: Any, n_prompts: int) -> Float[Tensor, "*batch"]:
    """What a measure of the user's gave: a number without an axis, or one a prompt."""
    try:
        values = _as_tensor(measured)
    except (TypeError, ValueError, RuntimeError):  # in PyTorch's words, which say nothing of a measure
        values = torch.empty(0)
    if values.shape == (n_prompts,):
        return values
    if values.numel() == 1:
        return values.squeeze()
    got = f"a tensor of shape {list(measured.shape)}" if isinstance(measured, Tensor) else shown(measured)
    raise ValueError(f"the measure {name!r} must give one number, or one a prompt ({n_prompts}); got {got}")


def _as_tensor(measured: Any) -> Tensor:
    if isinstance(measured, pd.Series):  # its index may have no place 0
        measured = measured.tolist()
    if isinstance(measured, list | tuple):
        return torch.stack([_as_tensor(each) for each in measured])
    if isinstance(measured, Tensor):
        if measured.is_complex():
            raise ValueError("complex")
        return measured.detach().cpu().double()
    return torch.as_tensor(measured, dtype=torch.float64)
