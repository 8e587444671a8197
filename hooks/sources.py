"""Where patches and transplants come from: another model, a step of a run, a cache, a tensor."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from plateau_interp.checks import nearest, shown
from plateau_interp.folders import named_run
from plateau_interp.interventions.running import following
from plateau_interp.models.tokenizers import check_same_vocabulary
from plateau_interp.models.weights import weights_digest
from plateau_interp.types import HookedModel

__all__ = [
    "ActivationReader",
    "NamedTensors",
    "Source",
    "check_batch",
    "check_source",
    "open_source",
    "reading_source",
]


@runtime_checkable
class NamedTensors(Protocol):
    """Tensors by name: a dict, or TransformerLens's `ActivationCache`."""

    def __getitem__(self, name: str, /) -> Tensor: ...
    def __iter__(self) -> Iterator[str]: ...
    def keys(self) -> Iterable[str]:
        """The names."""


Source = str | Tensor | NamedTensors | HookedModel
"""A run (``"RUN"`` for its last checkpoint, ``"RUN@STEP"`` for another), a tensor, tensors by name, or a model."""


@dataclass(frozen=True)
class ActivationReader:
    """A source's activations, for whatever forward is running.

    Attributes:
        read: ``read(hook point, batch, length)``, the activation for the ``length`` positions up to the running ones.
        runs_along: whether a model makes them in a forward of the very same tokens, padding among them.
        origin: digest of the weights of a run that is named: it may be trained on while somebody takes from it.
    """

    read: Callable[[str, int, int], Tensor]
    runs_along: bool = False
    origin: str | None = None

    def of_one_sequence(self, patch: Tensor, act: Tensor) -> Tensor | None:
        """The patch without a batch axis, if it is of one sequence; None if it lies as the forward's batch does."""
        if patch.ndim < act.ndim:
            return patch
        return patch[0] if len(patch) == 1 and not self.runs_along else None


def check_source(source: Any) -> None:
    """Refuse what nothing can be taken from.

    Raises:
        ValueError: naming what a source can be.
    """
    # A class has its instances' methods, which is all that a protocol asks.
    if isinstance(source, type) or not isinstance(source, str | Tensor | NamedTensors | torch.nn.Module):
        raise ValueError(
            f"source must be a model, a run ('RUN' or 'RUN@STEP'), tensors by name or a tensor; got {shown(source)}"
        )


def open_source(source: Source) -> Any:
    """The source itself, or the model of a run where a run is named.

    Raises:
        ValueError: for what is no source, a step that is not a number, a name that means two runs; and what
            `plateau_interp.runs.run.Run` raises.
    """
    check_source(source)
    if not isinstance(source, str):
        return source
    from plateau_interp.runs.run import Run  # runs know recipes, and recipes know interventions: not at import time

    path, step = named_run(source)
    if step is None and "@" in source and not path.is_dir():
        raise ValueError(f"expected a run as 'RUN' or 'RUN@STEP'; got {shown(source)}")
    return Run(path).model(step)


@contextmanager
def reading_source(
    source: Source, model: HookedModel, points: tuple[str, ...], *, check: Callable[[Tensor], None]
) -> Iterator[ActivationReader]:
    """Read a source's activations at hook points, for whatever forward of ``model`` is running.

    A model as source is run, without gradients, on the tokens that ``model`` reads and under the same attention mask;
    anything else is read and checked once, here. What is of one sequence begins, in a padded batch, at each sequence's
    first real token; what is of a batch lies as that batch does.

    Raises:
        ValueError: if the source lacks a hook point, is a model with other heads or another vocabulary (by
            its size, or what a tokenizer says that a token is), or a bidirectional one whose patterns a causal one
            would get; in a forward, if it is too long for the source, or
            the source in its turn takes from this model.
    """
    opened = open_source(source)
    if callable(opened):
        check_same_vocabulary(model, opened, name=source if isinstance(source, str) else "the source")
        with _running_along(opened, model, points) as reader:
            yield replace(reader, origin=weights_digest(opened)) if isinstance(source, str) else reader
        return
    if not isinstance(opened, Tensor):
        for point in points:
            if point not in opened:
                raise ValueError(f"the source has no {point}; {nearest(point, list(opened))}")
    given = {point: opened if isinstance(opened, Tensor) else opened[point] for point in points}
    for point, tensor in given.items():
        if not isinstance(tensor, Tensor):
            raise ValueError(f"the source's {point} must be a tensor; got {shown(tensor)}")
        check(tensor)
    fixed = {point: tensor.detach().clone() for point, tensor in given.items()}

    def read(name: str, batch: int, length: int) -> Tensor:
        return fixed[name]

    yield ActivationReader(read)


def check_batch(patch: Tensor, act: Tensor) -> Tensor:
    """The patch, if it holds one sequence (or none in particular) or as many as the activation.

    Raises:
        ValueError: otherwise.
    """
    if patch.ndim == act.ndim and len(patch) not in (1, len(act)):
        raise ValueError(f"the source has {len(patch)} sequences, but the forward has {len(act)}")
    return patch


@contextmanager
def _running_along(source: Any, model: HookedModel, points: tuple[str, ...]) -> Iterator[ActivationReader]:
    if source is model:
        raise ValueError("the source is the model itself; for another input give a cache of it")
    missing = [point for point in points if point not in source.hook_dict]
    if missing or source.cfg.n_heads != model.cfg.n_heads or source.cfg.d_vocab != model.cfg.d_vocab:
        mine, its = ((m.cfg.n_layers, m.cfg.n_heads, m.cfg.d_vocab) for m in (model, source))
        raise ValueError(f"layers, heads and vocabulary must fit: the model has {mine}, the source {its}")
    is_pattern = any(point.endswith("hook_pattern") for point in points)
    if is_pattern and model.cfg.attention_dir == "causal" != source.cfg.attention_dir:
        raise ValueError(f"the source is {source.cfg.attention_dir}: its patterns look into a causal model's future")
    layers = [int(point.split(".")[1]) if point.startswith("blocks.") else None for point in points]
    last = None if None in layers else max(layer for layer in layers if layer is not None) + 1
    seen: dict[str, Tensor] = {}
    ran: tuple[int, Tensor | None] = (0, None)
    is_running = False

    def keep(act: Tensor, *, hook: Any) -> None:
        seen[hook.name] = act.detach()

    with following(model) as running:

        def read(name: str, batch: int, length: int) -> Tensor:
            nonlocal ran, is_running
            if is_running:  # the source's forward came back here
                raise ValueError(
                    "models take from each other in a circle: each would have to run first; give a cache of one, as in "
                    "model.run_with_cache(tokens)[1], in the place of the model"
                )
            forward, mask = running.forwards, running.mask
            if ran[0] != forward or ran[1] is not mask:
                tokens = running.tokens(batch, length).to(next(source.parameters()).device)
                _check_length(source, length)
                is_running = True
                try:
                    with torch.no_grad(), source.hooks(fwd_hooks=[(point, keep) for point in points]):
                        source(tokens, stop_at_layer=last, attention_mask=mask)
                finally:
                    is_running = False
                ran = (forward, mask)
            return seen[name]

        yield ActivationReader(read, runs_along=True)


def _check_length(source: Any, length: int) -> None:
    """Refuse more tokens than a source with learned positions has positions for; rotary ones go on."""
    if length > source.cfg.n_ctx and source.cfg.positional_embedding_type in ("standard", "shortformer"):
        raise ValueError(f"the source reads {source.cfg.n_ctx} tokens at most, but the forward has {length}")
