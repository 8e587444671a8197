"""`intervening`: attach interventions to a model, let them act, put everything back, and say what they did.

An intervention is anything with ``attach(model)``, a context manager that yields a receipt. Activation edits build on
`editing`, schedules on `listening`; both are for authors of interventions. The ready-made ones are in
`plateau_interp.hooks`. To only look at activations, use TransformerLens's ``run_with_cache``: it needs nothing of this.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from plateau_interp.types import HookedModel, Intervention, Receipt

__all__ = [
    "ActivationEdit",
    "EditReceipt",
    "InterventionWarning",
    "advance",
    "editing",
    "intervening",
    "intervention_state",
    "listening",
    "load_intervention_state",
    "resolve_hook_points",
    "resolve_indices",
]

ActivationEdit = Callable[..., Tensor]
"""``edit(act, *, hook) -> act``: a new tensor of the same shape and dtype, made without writing to the old one."""

Listener = Callable[[int, Mapping[str, float]], None]

GATES = {
    "hook_result": "attn_result",
    "hook_q_input": "split_qkv_input",
    "hook_k_input": "split_qkv_input",
    "hook_v_input": "split_qkv_input",
    "hook_attn_in": "attn_in",
    "hook_mlp_in": "hook_mlp_in",
    "hook_tokens": "hook_tokens",
}
"""Hook points that exist but fire only under the flag ``cfg.use_<value>``."""

_listeners: WeakKeyDictionary[Any, list[Listener]] = WeakKeyDictionary()
_steps: WeakKeyDictionary[Any, int] = WeakKeyDictionary()


class InterventionWarning(UserWarning):
    """An intervention did not do what it was attached for."""


@contextmanager
def intervening(model: HookedModel, *interventions: Intervention) -> Iterator[tuple[Receipt, ...]]:
    """Let interventions act on a model while the context is open.

    They act in the order given where they meet at a hook point, those of an outer context before those of an inner one;
    across hook points the model's own order holds. Names, layers and heads are resolved here, once; afterwards hooks
    stay where they are. Everything is put back on exit, also after an exception.

    On a regular exit an `InterventionWarning` reports each intervention that could have acted and never did (also when
    no forward was made; a schedule whose time did not come is not reported), and hooks that somebody removed inside,
    such as a stray ``model.reset_hooks()``. While an exception is on its way nothing is reported.

    Args:
        model: any HookedTransformer.
        interventions: see `plateau_interp.hooks`, or your own.

    Yields:
        One receipt an intervention, in order; they stay readable after the context.

    Raises:
        ValueError: on entry, for a name, layer, head or parameter the model does not have, with the nearest it has.

    Example:
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
        if isinstance(intervention, type) or not isinstance(intervention, Intervention):
            raise ValueError(f"expected interventions such as BiasAttention(factor=10.0); got {intervention!r}")
    with ExitStack() as stack:
        receipts = tuple(stack.enter_context(intervention.attach(model)) for intervention in interventions)
        yield receipts
    for intervention, receipt in zip(interventions, receipts, strict=True):
        for complaint in complaints(receipt):
            # frames: this generator, contextlib's __exit__, the user's with statement
            warnings.warn(f"{intervention!r} {complaint}", InterventionWarning, stacklevel=3)


def complaints(receipt: Receipt) -> Sequence[str]:
    """What went wrong with an intervention, by its receipt's own ``complaints()`` where it has one."""
    if hasattr(receipt, "complaints"):
        return list(receipt.complaints())
    return [] if receipt.fired else ["never fired"]


def advance(model: HookedModel, *, step: int, metrics: Mapping[str, float]) -> None:
    """Tell the schedules attached to a model that a training step begins.

    `plateau_interp.training.train` calls it; call it yourself in a training loop of your own.

    Args:
        model: the model in training.
        step: number of updates made so far.
        metrics: the latest measurements, usually those of the step before; read only by those who ask.
    """
    _steps[model] = step
    for listener in tuple(_listeners.get(model, ())):
        listener(step, metrics)


@contextmanager
def listening(model: HookedModel, listener: Listener) -> Iterator[int]:
    """Have ``listener(step, metrics)`` called at every `advance`, in order of entry.

    Yields:
        The step the model was last told; 0 if it never was.
    """
    listeners = _listeners.setdefault(model, [])
    listeners.append(listener)
    try:
        yield _steps.get(model, 0)
    finally:
        # By identity: two schedules may be equal, and contexts of generators do not always close in reverse order.
        listeners[:] = [kept for kept in listeners if kept is not listener]


@dataclass(eq=False)
class EditReceipt:
    """What an activation edit did. Reading a number waits for the device; collecting it does not.

    Attributes:
        intervention: whose receipt this is.
        sites: the hook points it acts at.
        fired: how often it edited a tensor: once a forward and hook point (more where a hook point fires more often).
        strength: 0 is off, 1 is the edit, in between ``act + strength * (edit(act) - act)``.
    """

    intervention: Intervention = field(repr=False)
    sites: tuple[str, ...]
    fired: int = 0
    strength: float = 1.0
    lost: tuple[str, ...] = ()
    _squares: Tensor | None = field(default=None, repr=False)
    _touched: dict[tuple[str, torch.Size], list[Any]] = field(default_factory=dict, repr=False)

    @property
    def rows(self) -> int:
        """Most positions (of a pattern: query rows) that one firing changed."""
        return max((int(rows) for _, rows, _, _ in self._touched.values()), default=0)

    @property
    def heads(self) -> int:
        """Most heads that one firing changed; 0 at hook points without a head axis."""
        return max((int(heads) for _, _, heads, _ in self._touched.values()), default=0)

    @property
    def entries(self) -> int:
        """Tensor entries changed, over all firings.

        Counted at the first firing of each hook point and shape, and taken to be the same at the later ones.
        """
        return sum(fired * int(entries) for fired, _, _, entries in self._touched.values())

    @property
    def change(self) -> float:
        """Root-mean-square size of the change over the changed entries of all firings (infinite ones left out)."""
        return 0.0 if self._squares is None else (float(self._squares) / max(self.entries, 1)) ** 0.5

    def dial(self, strength: float) -> None:
        """Set the strength; schedules call this."""
        self.strength = strength

    def complaints(self) -> list[str]:
        """Why the edit was not what it seems."""
        found = [] if self.fired else [f"never fired: no forward reached {_listed(self.sites)} inside the context"]
        if self.lost:
            found.append(f"lost its hooks at {_listed(self.lost)}, perhaps to a stray model.reset_hooks()")
        return found

    def describe(self) -> str:
        """One line for people."""
        return (
            f"{self.intervention!r} fired {self.fired} times at {_listed(self.sites)}: {self.rows} rows, "
            f"{self.heads} heads, {self.entries} entries, root-mean-square change {self.change:.3g}"
        )

    def wrap(self, edit: ActivationEdit) -> Callable[..., Tensor | None]:
        """The edit as a hook function that obeys the dial and is counted here."""

        def hook_function(act: Tensor, *, hook: Any) -> Tensor | None:
            if self.strength == 0.0:
                return None
            edited = edit(act, hook=hook)
            if edited.shape != act.shape or edited.dtype != act.dtype:
                raise ValueError(
                    f"{self.intervention!r} made {edited.dtype} {tuple(edited.shape)} of {act.dtype} "
                    f"{tuple(act.shape)} at {hook.name}; an edit keeps shape and dtype"
                )
            if self.strength != 1.0:
                edited = torch.lerp(act, edited, self.strength)
            self._note(hook.name, act.detach(), edited.detach())
            return edited

        return hook_function

    @torch.no_grad()
    def _note(self, name: str, before: Tensor, after: Tensor) -> None:
        self.fired += 1
        delta = after - before
        if name.endswith("hook_attn_scores"):
            delta = delta.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)  # masked scores are -inf
        square = torch.linalg.vector_norm(delta, dtype=torch.promote_types(delta.dtype, torch.float32)).square()
        self._squares = square if self._squares is None else self._squares + square
        touched = self._touched.get((name, before.shape))
        if touched is None:
            self._touched[name, before.shape] = [1, *_count_touched(name, before != after)]
        else:
            touched[0] += 1


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
    attached: list[tuple[Any, Any]] = []
    try:
        for name, edit in edits.items():
            point = model.hook_dict[name]
            # Not model.hooks(): it counts context levels and cleans up those of others if contexts close out of order.
            point.add_hook(receipt.wrap(edit))
            attached.append((point, point.fwd_hooks[-1]))
        yield receipt
    finally:
        for point, handle in attached:
            others = [kept for kept in point.fwd_hooks if kept is not handle]
            if len(others) == len(point.fwd_hooks):
                receipt.lost = (*receipt.lost, point.name)
            point.fwd_hooks = others
            handle.hook.remove()


def intervention_state(receipts: Sequence[Receipt]) -> dict[str, Tensor]:
    """What attached interventions must remember for a run to go on bit for bit, as named tensors.

    Most have nothing to remember. See `load_intervention_state`.
    """
    return {
        f"{index}.{name}": value
        for index, receipt in enumerate(receipts)
        if hasattr(receipt, "state")
        for name, value in receipt.state().items()
    }


def load_intervention_state(receipts: Sequence[Receipt], state: Mapping[str, Tensor]) -> None:
    """Give freshly attached interventions the memory of earlier ones, before the first `advance`.

    Load the model's and the optimiser's state after attaching and before this: some interventions act on entry.

    Raises:
        ValueError: if the state is that of other interventions.
    """
    remembering = {str(index): receipt for index, receipt in enumerate(receipts) if hasattr(receipt, "load_state")}
    strangers = sorted({key.split(".", 1)[0] for key in state} - set(remembering))
    if strangers:
        raise ValueError(f"the state remembers interventions {strangers}, which these do not: {list(receipts)}")
    for index, receipt in remembering.items():
        own = {key.split(".", 1)[1]: value for key, value in state.items() if key.split(".", 1)[0] == index}
        receipt.load_state(own)  # type: ignore[attr-defined]  # hasattr, above


def resolve_hook_points(model: HookedModel, names: str | Sequence[str]) -> tuple[str, ...]:
    """Full names of hook points that exist and fire; a ``*`` stands for anything.

    Raises:
        ValueError: if a name matches nothing (with the nearest that exist), or a hook point that is switched off.

    Example:
        >>> from plateau_interp.models import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> model = toy_model(MovingWindowSum(), n_layers=2, d_model=32)
        >>> resolve_hook_points(model, "blocks.*.attn.hook_pattern")
        ('blocks.0.attn.hook_pattern', 'blocks.1.attn.hook_pattern')
    """
    found: dict[str, None] = {}
    for name in [names] if isinstance(names, str) else names:
        matches = [point for point in model.hook_dict if point == name or fnmatchcase(point, name)]
        if not matches:
            near = get_close_matches(name, list(model.hook_dict), n=3, cutoff=0.4)
            hint = f"the nearest are {_listed(near)}" if near else f"the first are {_listed(list(model.hook_dict)[:3])}"
            raise ValueError(f"the model has no hook point {name!r}; {hint}")
        for match in matches:
            flag = GATES.get(match.rsplit(".", 1)[-1])
            if flag is not None and not getattr(model.cfg, f"use_{flag}", False):
                raise ValueError(f"hook point {match!r} does not fire while cfg.use_{flag} is off; {_remedy(flag)}")
        found.update(dict.fromkeys(matches))
    return tuple(found)


def resolve_indices(kind: str, indices: Sequence[int] | None, size: int) -> tuple[int, ...]:
    """Indices of layers, heads or positions, all of them for None.

    Raises:
        ValueError: for an index outside ``0 .. size - 1``.

    Example:
        >>> resolve_indices("head", None, 2)
        (0, 1)
    """
    if indices is None:
        return tuple(range(size))
    for index in indices:
        if not 0 <= index < size:
            nearest = min(max(index, 0), size - 1)
            raise ValueError(f"there is no {kind} {index}: the model has 0 to {size - 1}; the nearest is {nearest}")
    if not indices:
        raise ValueError(f"no {kind} is given; leave the argument out to mean every {kind}")
    return tuple(indices)


def _count_touched(name: str, changed: Tensor) -> tuple[Tensor | int, Tensor | int, Tensor]:
    """Rows, heads and entries with a change, from the layout that the hook point's name says."""
    is_square = name.endswith(("hook_pattern", "hook_attn_scores"))
    rows = 2 if is_square else 1
    heads = None if changed.ndim != 4 else 1 if is_square else 2
    return _count_along(changed, rows), 0 if heads is None else _count_along(changed, heads), changed.sum()


def _count_along(changed: Tensor, axis: int) -> Tensor | int:
    return changed.transpose(0, axis).flatten(1).any(dim=1).sum() if changed.ndim > axis else 0


def _remedy(flag: str) -> str:
    return "build the model with it" if flag == "hook_tokens" else f"call model.set_use_{flag}(True) first"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"
