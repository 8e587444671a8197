"""`intervening`: attach interventions to a model, let them act, put everything back, and say what they did.

An intervention is anything with ``attach(model)``, a context manager that yields an `Attached`; whoever attached it
turns its dial up: `intervening` to 1, a schedule to what it asks for, so that nothing acts before its time. Activation
edits build on `editing`, schedules on `plateau_interp.interventions.clock`; both are for authors of interventions. The
ready-made ones are in `plateau_interp.hooks`. To only look at activations, use TransformerLens's ``run_with_cache``:
it needs nothing of this.
"""

import atexit
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import MappingProxyType
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor

from plateau_interp.checks import check_takes, listed, shown
from plateau_interp.interventions.attached import (
    Attached,
    CountedAttached,
    Intervention,
    Receipt,
    check_intervention,
    entering,
)
from plateau_interp.interventions.hook_points import resolve_hook_points
from plateau_interp.interventions.origins import Origin
from plateau_interp.interventions.receipts import EditReceipt, holds_infinities
from plateau_interp.interventions.session import session
from plateau_interp.types import HookedModel

__all__ = [
    "ActivationEdit",
    "EditAttached",
    "InterventionWarning",
    "attaching",
    "editing",
    "hooking",
    "intervening",
    "quietly",
]

ActivationEdit = Callable[..., Tensor]
"""``edit(act, *, hook) -> act``: a new tensor of the same shape and dtype, made without writing to the old one."""


FRAMES = 3
"""From a warning to the user's with statement: the generator of the context, contextlib's ``__exit__``, the user."""

_open: WeakSet[ExitStack] = WeakSet()


class InterventionWarning(UserWarning):
    """An intervention did not do what it was attached for."""


@contextmanager
def quietly() -> Iterator[None]:
    """Without `InterventionWarning`: where steps are made in which interventions need not act."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InterventionWarning)
        yield


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
    stay where they are. Everything is put back on exit, also after an exception. In a training loop of your own call
    ``advance(model, step=...)`` before each forward: schedules know the step by nothing else.

    On a regular exit an `InterventionWarning` reports each intervention that could have acted and never did (also when
    no forward was made; a schedule whose time did not come is not reported), an edit at positions that no forward had,
    a schedule that nobody told a step, and hooks that somebody removed inside, such as a stray
    ``model.reset_hooks()``. While an exception is on its way nothing is reported.

    A ``copy.deepcopy`` of the model made inside goes on being edited: its hooks are copies that only its own
    ``reset_hooks()`` takes away, and weights that were frozen stay so there. Copy before, or load the weights into a
    new model. A model that was compiled and called before may pass by hooks that come now: enter first, then compile.

    Args:
        model: any HookedTransformer.
        interventions: see `plateau_interp.hooks`, or your own; none, as of an empty plan, changes nothing.

    Yields:
        One receipt an intervention, in order; they stay readable after the context.

    Raises:
        ValueError: on entry, if the model is forgotten, and for a name, layer, head or parameter that it does not have,
            with the nearest it has.

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
    _check_arguments(model, interventions)
    with _holding(model, interventions) as attached:
        yield tuple(one.receipt for one in attached)
    for complaint in _complaints(attached):
        warnings.warn(complaint, InterventionWarning, stacklevel=FRAMES)


@contextmanager
def attaching(model: HookedModel, *interventions: Intervention) -> Iterator[tuple[Attached, ...]]:
    """Like `intervening`, for those who need more than receipts: the dials, or the memory that a checkpoint holds.

    Yields:
        What stands for each intervention while it is attached, in order. See `attached_state`.

    Raises:
        ValueError: as `intervening`.

    Example:
        >>> import torch
        >>> from plateau_interp.hooks import FixAttention, When
        >>> from plateau_interp.interventions.attached import attached_state
        >>> from plateau_interp.models import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> model = toy_model(MovingWindowSum(), d_model=32)
        >>> with attaching(model, When(FixAttention(), since="loss < 2")) as attached:
        ...     list(attached_state(attached))
        ['0.when']
    """
    _check_arguments(model, interventions)
    with _holding(model, interventions) as attached:
        yield attached
    for complaint in _complaints(attached):
        warnings.warn(complaint, InterventionWarning, stacklevel=FRAMES)


def _check_arguments(model: object, interventions: Sequence[object]) -> None:
    if isinstance(model, Intervention) or not isinstance(model, torch.nn.Module):
        raise ValueError(f"expected a model first, as in intervening(model, intervention); got {model!r}")
    for intervention in interventions:
        if isinstance(intervention, list | tuple):
            raise ValueError(f"give interventions one by one, as in intervening(model, *plan); got {intervention!r}")
        check_intervention(intervention)


@contextmanager
def _holding(model: HookedModel, interventions: Sequence[Intervention]) -> Iterator[tuple[Attached, ...]]:
    """Everything attached and turned on, without a word on the way out."""
    with ExitStack() as stack:
        _open.add(stack)
        yield tuple(stack.enter_context(_turned_on(model, one)) for one in interventions)


@contextmanager
def _turned_on(model: HookedModel, intervention: Intervention) -> Iterator[Attached]:
    # One after the other: a transplant or freeze acts before the next intervention is attached.
    acting = session(model).attached
    with entering(model, intervention) as attached:
        attached.dial(1.0)
        acting.append(attached)
        try:
            yield attached
        finally:
            acting[:] = [other for other in acting if other is not attached]  # contexts may close in any order


def _complaints(attached: Sequence[Attached]) -> list[str]:
    return [f"{one.intervention!r} {complaint}" for one in attached for complaint in one.complaints()]


def _never() -> bool:
    return False


class EditAttached(CountedAttached):
    """An edit of activations while it is attached.

    A strength between 0 and 1 gives ``act + strength * (edit(act) - act)``.

    Args:
        intervention: who edits.
        sites: full names of the hook points.
        origin: see `editing`.
        places: see `editing`.
        varies: see `editing`.
    """

    receipt: EditReceipt

    def __init__(
        self,
        intervention: object,
        sites: Sequence[str],
        *,
        origin: str | None = None,
        places: Mapping[str, Sequence[int] | None] = MappingProxyType({}),
        varies: Callable[[], bool] = _never,
    ) -> None:
        self._origin = Origin(origin)
        self._varies = varies
        self._places = {kind: [*positions] for kind, positions in places.items() if positions is not None}
        # Attention scores hold -inf, which cannot be interpolated.
        gradual = not any(holds_infinities(name) for name in sites)
        super().__init__(intervention, receipt=EditReceipt(repr(intervention), tuple(sites)), gradual=gradual)

    def state(self) -> dict[str, Tensor]:
        """What the edit takes from, by its digest."""
        return self._origin.state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on, if what the edit takes from is what it was. What an earlier version kept says nothing of that.

        Raises:
            ValueError: if it is not.
        """
        super().load_state(self._origin.known(state, self.intervention))

    def complaints(self) -> list[str]:
        """Those of all that count; that it changed nothing, where it was to act at places that a forward may lack."""
        complaints = super().complaints()
        if self._places and self.receipt.is_idle:
            places = listed([f"{kind} {positions}" for kind, positions in self._places.items()])
            complaints.append(f"changed nothing in {self.receipt.fired} firings: perhaps no forward has {places}")
        return complaints

    def wrap(self, edit: ActivationEdit) -> Callable[..., Tensor | None]:
        """The edit as a hook function that obeys the dial and is counted."""

        def hook_function(act: Tensor, *, hook: Any) -> Tensor | None:
            strength = self.strength
            if strength == 0.0:
                return None
            edited = edit(act, hook=hook)
            if not isinstance(edited, Tensor):
                raise ValueError(
                    f"{self.intervention!r} gave {shown(edited)} at {hook.name}; an edit returns the new activation, a "
                    f"tensor of the same shape and dtype"
                )
            if edited.shape != act.shape or edited.dtype != act.dtype:
                raise ValueError(
                    f"{self.intervention!r} made {edited.dtype} {tuple(edited.shape)} of {act.dtype} "
                    f"{tuple(act.shape)} at {hook.name}; an edit keeps shape and dtype"
                )
            if strength != 1.0:
                edited = torch.lerp(act, edited, strength)
            self.receipt.note(hook.name, act.detach(), edited.detach(), varies=self._varies())
            return edited

        return hook_function


@contextmanager
def editing(
    model: HookedModel,
    intervention: object,
    edits: Mapping[str, ActivationEdit],
    *,
    origin: str | None = None,
    places: Mapping[str, Sequence[int] | None] = MappingProxyType({}),
    varies: Callable[[], bool] = _never,
) -> Iterator[EditAttached]:
    """Run edits at hook points while the context is open: what the ``attach`` of an activation edit returns.

    Args:
        model: any HookedTransformer.
        intervention: who edits; for the receipt and for error messages.
        edits: the edit of each hook point, by full name; resolve names with `resolve_hook_points` first.
        origin: SHA-256, in hexadecimal, of what the edit takes from, if that lies on disk and may change there: a run
            that is resumed or forked refuses another.
        places: positions at which alone it acts, by what they are called; None for all. A forward may be too short to
            have them: if none had, so that nothing was changed, that is reported as the context is left.
        varies: asked at each firing: whether it may change other rows and heads than one of the same shape before, as
            where places depend on tokens or padding. Then its receipt looks at each, which otherwise it does seldom.

    Yields:
        The edit's live side, turned off.

    Example:
        >>> from dataclasses import dataclass
        >>> import torch
        >>> from plateau_interp.models import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> @dataclass(frozen=True, eq=False)
        ... class Shrink:
        ...     factor: float
        ...     def attach(self, model):
        ...         return editing(model, self, {"hook_embed": lambda act, hook: self.factor * act})
        >>> model = toy_model(MovingWindowSum(n=4), d_model=32)
        >>> with intervening(model, Shrink(0.5)) as (receipt,):
        ...     logits = model(torch.zeros(1, 8, dtype=torch.long))
        >>> receipt.fired, receipt.rows
        (1, 8)
    """
    if not isinstance(edits, Mapping):
        raise ValueError(f"edits must be functions by hook point, such as {{'hook_embed': edit}}; got {shown(edits)}")
    for name, edit in edits.items():
        check_takes(edit, f"the edit of {intervention!r} at {name}", "act", keyword="hook")
    if not getattr(model, "attends", True):
        idle = [name for name in edits if ".attn." in name or name.endswith("hook_attn_out")]
        if idle:
            raise ValueError(f"{intervention!r} edits {listed(idle)}, and the attention of an MLP gives nothing")
    attached = EditAttached(intervention, tuple(edits), origin=origin, places=places, varies=varies)
    with hooking(model, {name: attached.wrap(edit) for name, edit in edits.items()}) as attached.lost:
        yield attached


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
            check_takes(function, f"the hook function at {name}", "act", keyword="hook")
            if name not in model.hook_dict:
                found = resolve_hook_points(model, name)  # an error that lists near names, if there is none
                raise ValueError(f"{name!r} stands for {listed(found)}: resolve names with resolve_hook_points first")
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
