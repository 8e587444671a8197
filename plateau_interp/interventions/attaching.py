"""`intervening`: attach interventions to a model, let them act, put everything back, and say what they did.

An intervention is anything with ``attach(model)``, a context manager that yields a receipt. If the receipt has a
``dial``, whoever attached it turns it up: `intervening` to 1, a schedule to what it asks for, so that nothing acts
before its time. Activation edits build on `editing`, schedules on `listening`; both are for authors of interventions.
The ready-made ones are in `plateau_interp.hooks`. To only look at activations, use TransformerLens's
``run_with_cache``: it needs nothing of this.
"""

import atexit
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakSet

from torch import Tensor

from plateau_interp.interventions.receipts import (
    ActivationEdit,
    EditReceipt,
    complaints,
    intervention_state,
    load_intervention_state,
)
from plateau_interp.types import HookedModel, Intervention, Receipt

__all__ = [
    "InterventionWarning",
    "check_intervention",
    "editing",
    "hooking",
    "intervening",
    "intervention_state",
    "load_intervention_state",
]


_open: WeakSet[ExitStack] = WeakSet()


class InterventionWarning(UserWarning):
    """An intervention did not do what it was attached for."""


@atexit.register
def _close() -> None:
    """Leave contexts that are still open, such as that of a training generator nobody finished.

    Otherwise they are left when the interpreter is half gone, which prints tracebacks.
    """
    for stack in tuple(_open):
        stack.close()


@contextmanager
def intervening(model: HookedModel, *interventions: Intervention) -> Iterator[tuple[Receipt, ...]]:
    """Let interventions act on a model while the context is open.

    They act in the order given where they meet at a hook point, those of an outer context before those of an inner one;
    across hook points the model's own order holds. Names, layers and heads are resolved here, once; afterwards hooks
    stay where they are. Everything is put back on exit, also after an exception.

    On a regular exit an `InterventionWarning` reports each intervention that could have acted and never did (also when
    no forward was made; a schedule whose time did not come is not reported), and hooks that somebody removed inside,
    such as a stray ``model.reset_hooks()``. While an exception is on its way nothing is reported.

    A ``copy.deepcopy`` of the model made inside goes on being edited: its hooks are copies that only its own
    ``reset_hooks()`` takes away. A model that was compiled and called before may pass by hooks that come now: enter
    first, then compile.

    Args:
        model: any HookedTransformer.
        interventions: see `plateau_interp.hooks`, or your own.

    Yields:
        One receipt an intervention, in order; they stay readable after the context.

    Raises:
        ValueError: on entry, for a name, layer, head or parameter the model does not have, with the nearest it has.

    Example:
        >>> import torch
        >>> from plateau_interp.hooks import BiasAttention
        >>> from plateau_interp.models import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> task = MovingWindowSum()
        >>> model = toy_model(task, d_model=32)
        >>> batch = task.sample(8, generator=torch.Generator().manual_seed(0))
        >>> with intervening(model, BiasAttention(factor=10.0)) as (receipt,):
        ...     logits = model(batch.inputs)
        >>> receipt.fired, receipt.rows, receipt.entries
        (1, 15, 240)
    """
    for intervention in interventions:
        check_intervention(intervention)
    with ExitStack() as stack:
        _open.add(stack)
        receipts = tuple(_enter(stack, intervention, model) for intervention in interventions)
        yield receipts
    for intervention, receipt in zip(interventions, receipts, strict=True):
        for complaint in complaints(receipt):
            # frames: this generator, contextlib's __exit__, the user's with statement
            warnings.warn(f"{intervention!r} {complaint}", InterventionWarning, stacklevel=3)


def _enter(stack: ExitStack, intervention: Intervention, model: HookedModel) -> Receipt:
    receipt = stack.enter_context(intervention.attach(model))
    if hasattr(receipt, "dial"):
        receipt.dial(1.0)
    return receipt


def check_intervention(value: object) -> None:
    """Refuse what is no intervention, a class of them among it.

    Raises:
        ValueError: with an example of one.
    """
    if isinstance(value, type) or not isinstance(value, Intervention):
        raise ValueError(f"expected interventions such as BiasAttention(factor=10.0); got {value!r}")


@contextmanager
def editing(
    model: HookedModel, intervention: Intervention, edits: Mapping[str, ActivationEdit]
) -> Iterator[EditReceipt]:
    """Run edits at hook points while the context is open: what the ``attach`` of an activation edit returns.

    Args:
        model: any HookedTransformer.
        intervention: who edits; for the receipt and for error messages.
        edits: the edit of each hook point, by full name; resolve names with `resolve_hook_points` first.

    Yields:
        The receipt.
    """
    receipt = EditReceipt(intervention, tuple(edits))
    with hooking(model, {name: receipt.wrap(edit) for name, edit in edits.items()}) as receipt.lost:
        yield receipt


@contextmanager
def hooking(model: HookedModel, functions: Mapping[str, Callable[..., Tensor | None]]) -> Iterator[list[str]]:
    """Keep hook functions at hook points while the context is open, and notice if somebody takes them away.

    For what `editing` does not cover. Unlike ``model.hooks()``, which removes whatever was added at its own depth, such
    contexts may close in any order, as those of a generator and its caller do.

    Args:
        model: any HookedTransformer.
        functions: ``function(act, *, hook)`` of each hook point, by full name.

    Yields:
        A list to which the exit adds the hook points whose hook is gone.
    """
    attached: list[tuple[Any, Any]] = []
    lost: list[str] = []
    try:
        for name, function in functions.items():
            point = model.hook_dict[name]
            point.add_hook(function)
            attached.append((point, point.fwd_hooks[-1]))
        yield lost
    finally:
        for point, handle in attached:
            others = [kept for kept in point.fwd_hooks if kept is not handle]
            if len(others) == len(point.fwd_hooks):
                lost.append(point.name)
            point.fwd_hooks[:] = others
            handle.hook.remove()
