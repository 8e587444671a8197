"""Interventions on activations at any hook point: patch, ablate, scale, add a direction.

For attention patterns use `plateau_interp.hooks.targeted_attention`: scores and patterns have rules of their own and
are refused here. To measure what each activation contributes, see `plateau_interp.analysis.patching`.

Positions count from the start of the sequence also when a key/value cache is in use (with one, an edit of the
embeddings is refused in ``run_with_hooks``, which does not let it know the cache: call the model itself). Negative ones
count from its end: -1 is the last position that the running forward knows, whether it reads all tokens at once or goes
on from a cache. So the end moves while a model writes: with a cache, a position that was edited when it was the last
one stays as it was then. Where an attention mask marks padding, they count from each sequence's first and last real
token. Padding itself is edited where no positions are given; a causal model reads none of it.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from plateau_interp.checks import check_number, check_whole, freeze_indices, freeze_names, one_of
from plateau_interp.hooks.sources import Source, check_batch, check_source, reading_source
from plateau_interp.interventions.attached import Attached
from plateau_interp.interventions.attaching import ActivationEdit, editing
from plateau_interp.interventions.hook_points import (
    check_positions,
    positions_within,
    resolve_heads,
    resolve_hook_points,
)
from plateau_interp.interventions.padding import Layout, like
from plateau_interp.interventions.running import RunningForward, following
from plateau_interp.models.fitting import check_entries
from plateau_interp.types import PLACE, HookedModel

__all__ = [
    "AblateActivation",
    "AddDirection",
    "PatchActivation",
    "ScaleActivation",
]

Ablation = Literal["zero", "mean", "common", "resample"]


@dataclass(frozen=True, eq=False)
class _PlacedEdit(ABC):
    """An edit at hook points, at all positions and heads or at some."""

    at: str | Sequence[str]
    positions: Sequence[int] | None = field(default=None, kw_only=True)
    heads: Sequence[int] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        freeze_names(self, "at")
        freeze_indices(self, "positions", "heads")

    @abstractmethod
    def bind(
        self, model: HookedModel, points: tuple[str, ...], running: RunningForward, stack: ExitStack
    ) -> tuple[ActivationEdit, str | None]:
        """An edit of whole activations ``[batch, pos, ...]``, and the digest of what it takes from.

        Contexts it needs go on the stack.
        """

    def sites(self, model: HookedModel) -> tuple[str, ...]:
        """The hook points it would act at."""
        points = resolve_hook_points(model, self.at)
        for point in points:
            if point.endswith(("hook_pattern", "hook_attn_scores")):
                raise ValueError(f"{point} holds attention: use an edit of attention there, such as BiasAttention")
            if self.heads is not None:
                resolve_heads(model, point, self.heads)
        if self.positions is not None:
            check_positions("position", self.positions, model.cfg.n_ctx)
        return points

    @contextmanager
    def attach(self, model: HookedModel) -> Iterator[Attached]:
        """Act on the model while the context is open."""
        points = self.sites(model)
        with ExitStack() as stack:
            running = stack.enter_context(following(model))
            edit, origin = self.bind(model, points, running, stack)

            def edit_chosen(act: Tensor, *, hook: Any) -> Tensor:
                chosen = None
                if self.positions is not None:
                    chosen = _meant(self.positions, act, running)
                    if chosen is None:
                        return act
                if self.heads is not None:
                    heads = _axis_mask(self.heads, act, axis=2)
                    chosen = heads if chosen is None else chosen & heads
                edited = edit(act, hook=hook)
                return edited if chosen is None or edited is act else torch.where(chosen, edited, act)

            edits = dict.fromkeys(points, edit_chosen)
            places, varies = {"positions": self.positions}, running.may_be_padded
            yield stack.enter_context(editing(model, self, edits, origin=origin, places=places, varies=varies))


@dataclass(frozen=True, eq=False)
class _FormulaEdit(_PlacedEdit):
    """An edit that needs nothing but the activation."""

    @abstractmethod
    def edit(self, act: Tensor) -> Tensor:
        """The formula."""

    def bind(
        self, model: HookedModel, points: tuple[str, ...], running: RunningForward, stack: ExitStack
    ) -> tuple[ActivationEdit, str | None]:
        """The formula as a hook function."""
        return (lambda act, *, hook: self.edit(act)), None


@dataclass(frozen=True, eq=False)
class PatchActivation(_PlacedEdit):
    """Replace activations by those of another input, model or run: ``where(chosen, source, act)``.

    A model as source (or a run, by name) is run on the very tokens of the forward it patches, under its attention mask;
    a cache or tensor holds the activations of some input once and for all: of one sequence, which in a padded batch
    begins at each one's first real token, or of a batch that lies as the forward's does. No gradient flows through what
    is replaced.

    Args:
        at: hook point or points; a ``*`` stands for anything.
        source: a model; a run as ``"RUN"`` or ``"RUN@STEP"``; an `ActivationCache` or other mapping from hook point to
            tensor; or a tensor ``[pos, ...]`` or ``[batch, pos, ...]`` for every hook point.
        positions: which, negative ones from the end; by default all.
        heads: which, at hook points with a head axis; by default all. With grouped queries, keys and values have heads
            of their own, fewer than queries.

    Raises:
        ValueError: on entry, for a hook point, position or head that does not exist; in a forward, if the source is
            shorter or of another batch size.

    Example:
        >>> from plateau_interp import intervening, toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> task = MovingWindowSum()
        >>> model = toy_model(task, d_model=32)
        >>> clean, corrupted = (task.sample(4, generator=torch.Generator().manual_seed(s)).inputs for s in (0, 1))
        >>> logits, cache = model.run_with_cache(clean)
        >>> with intervening(model, PatchActivation("blocks.0.hook_resid_post", cache)):
        ...     torch.allclose(model(corrupted), logits, atol=1e-6)
        True
    """

    source: Source = field(repr=False, metadata=PLACE)

    name: ClassVar[str] = "patch-activation"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_source(self.source)
        if isinstance(self.source, Tensor) and self.source.ndim < 2:
            raise ValueError(
                f"a source must be [pos, ...] or [batch, pos, ...], as activations are; got {tuple(self.source.shape)}"
            )

    def bind(
        self, model: HookedModel, points: tuple[str, ...], running: RunningForward, stack: ExitStack
    ) -> tuple[ActivationEdit, str | None]:
        """An edit that takes the source's activations of the running positions."""
        source = stack.enter_context(
            reading_source(self.source, model, points, check=partial(check_entries, what="the source"))
        )

        def edit(act: Tensor, *, hook: Any) -> Tensor:
            start = running.start(act.shape[1])
            stop = start + act.shape[1]
            patch = check_batch(source.read(hook.name, len(act), stop), act)
            layout, alone = running.layout(act.device), source.of_one_sequence(patch, act)
            patch = patch if patch.ndim == act.ndim else patch[None]
            longest = stop if layout is None or alone is None else layout.longest
            if patch.shape[1] < longest or patch.shape[2:] != act.shape[2:]:
                raise ValueError(f"at {hook.name} the source is {tuple(patch.shape)}, the forward {tuple(act.shape)}")
            if layout is not None and alone is not None:
                return layout.placed(alone.to(act), act, start=start)
            # A copy: whoever writes into what a forward gives out changes neither the source nor other sequences.
            return patch[:, start:stop].to(act).expand_as(act).clone()

        return edit, source.origin


@dataclass(frozen=True, eq=False)
class AblateActivation(_PlacedEdit):
    """Take information out of activations.

    "zero": 0. "mean": the mean over the batch, which keeps what depends on position alone. "common": what is left
    without that mean, which all sequences have in common; of a single sequence nothing. "resample": the activation of
    another sequence of the batch, the one ``1 + seed % (batch - 1)`` further on. Zero stops the gradient; the others
    send it to the sequences they took from, too. Under padding they go by the position in each sequence: the mean is of
    the sequences that have it, and of the others the next that has it is taken (where none has, nothing changes).

    Args:
        at: hook point or points; a ``*`` stands for anything.
        by: "zero", "mean", "common" or "resample".
        seed: of "resample".
        positions: which, negative ones from the end; by default all.
        heads: which, at hook points with a head axis; by default all. With grouped queries, keys and values have heads
            of their own, fewer than queries.

    Raises:
        ValueError: on entry, for a hook point, position or head that does not exist; in a forward, for "resample" with
            a single sequence, and for all but "zero" if it goes on from a key/value cache with padding.

    Example:
        >>> from plateau_interp import intervening, toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> model, tokens = toy_model(MovingWindowSum(), d_model=32), torch.zeros(2, 5, dtype=torch.long)
        >>> with intervening(model, AblateActivation("blocks.0.hook_mlp_out", positions=[3])) as (receipt,):
        ...     out = model.run_with_cache(tokens)[1]["mlp_out", 0]
        >>> (out == 0).all(dim=-1)[0].tolist()
        [False, False, False, True, False]
    """

    by: Ablation = "zero"
    seed: int = field(default=0, kw_only=True)

    name: ClassVar[str] = "ablate-activation"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(Ablation, by=self.by)
        check_whole(self, "seed")

    def bind(
        self, model: HookedModel, points: tuple[str, ...], running: RunningForward, stack: ExitStack
    ) -> tuple[ActivationEdit, str | None]:
        """What is left, as a hook function."""
        if self.by == "zero":
            return (lambda act, *, hook: torch.zeros_like(act)), None
        left = {"mean": self._mean, "common": self._without_mean, "resample": self._resampled}[self.by]
        return (lambda act, *, hook: left(act, running.layout_for_mean(act.device))), None

    def _mean(self, act: Tensor, layout: Layout | None) -> Tensor:
        if layout is None:
            return act.mean(dim=0, keepdim=True).expand_as(act).clone()  # each sequence in memory of its own
        return layout.placed(layout.mean(act), act)

    def _without_mean(self, act: Tensor, layout: Layout | None) -> Tensor:
        if layout is None:
            return act - self._mean(act, None)
        mean = layout.mean(act)
        return act - layout.placed(mean, act) + layout.placed(torch.zeros_like(mean), act)  # padding stays

    def _resampled(self, act: Tensor, layout: Layout | None) -> Tensor:
        if len(act) < 2:
            raise ValueError("resampling needs at least 2 sequences in the batch; got 1")
        shift = 1 + self.seed % (len(act) - 1)
        return act.roll(-shift, dims=0) if layout is None else layout.resampled(act, shift=shift)


@dataclass(frozen=True, eq=False)
class ScaleActivation(_FormulaEdit):
    """Multiply activations: ``factor * act``; factor 1 changes nothing, bit for bit. The gradient is scaled too.

    Args:
        at: hook point or points; a ``*`` stands for anything.
        factor: what to multiply with.
        positions: which, negative ones from the end; by default all.
        heads: which, at hook points with a head axis; by default all. With grouped queries, keys and values have heads
            of their own, fewer than queries.

    Raises:
        ValueError: for a factor that is not finite; on entry, for a hook point, position or head that does not exist.

    Example:
        >>> from plateau_interp import intervening, toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> model = toy_model(MovingWindowSum(), n_heads=4, d_model=32)
        >>> with intervening(model, ScaleActivation("blocks.0.attn.hook_z", 0.5, heads=[1])):
        ...     model(torch.zeros(2, 5, dtype=torch.long)).shape
        torch.Size([2, 5, 18])
    """

    factor: float

    name: ClassVar[str] = "scale-activation"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "factor")

    def edit(self, act: Tensor) -> Tensor:
        """``factor * act``; the very tensor for factor 1, so that a LayerNorm sees it unedited."""
        return act if self.factor == 1 else self.factor * act


@dataclass(frozen=True, eq=False)
class AddDirection(_FormulaEdit):
    """Add a vector: ``act + scale * direction``. The gradient passes unchanged.

    A direction is a tensor, which no recipe and no command line can hold: attach this in a loop of your own.

    Args:
        at: hook point or points; a ``*`` stands for anything.
        direction: of the activation's last axis, or its last two (a direction for each head); used as it is, not
            normalised, and without a gradient of its own.
        scale: what to multiply it with; 0 changes nothing.
        positions: which, negative ones from the end; by default all.
        heads: which, at hook points with a head axis; by default all. With grouped queries, keys and values have heads
            of their own, fewer than queries.

    Raises:
        ValueError: for a direction or scale that is not finite; on entry, for a hook point, position or head that does
            not exist; in a forward, if the direction does not fit.

    Example:
        >>> from plateau_interp import intervening, toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> model = toy_model(MovingWindowSum(), d_model=32)
        >>> with intervening(model, AddDirection("blocks.0.hook_resid_pre", torch.ones(32), scale=3.0)) as (receipt,):
        ...     logits = model(torch.zeros(2, 5, dtype=torch.long))
        >>> round(receipt.change, 3)
        3.0
    """

    direction: Tensor = field(repr=False)
    scale: float = 1.0

    name: ClassVar[str] = "add-direction"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.direction, Tensor):
            raise ValueError(f"direction must be a tensor; got {self.direction!r}")
        if self.direction.ndim == 0:
            raise ValueError("direction must be [width] or [head, width]; got a single number")
        check_entries(self.direction, "direction")
        check_number(self, "scale")

    def bind(
        self, model: HookedModel, points: tuple[str, ...], running: RunningForward, stack: ExitStack
    ) -> tuple[ActivationEdit, str | None]:
        """The formula with the direction as it is now, whatever is written into it later."""
        now = replace(self, direction=self.direction.detach().clone())
        return (lambda act, *, hook: now.edit(act)), None

    def edit(self, act: Tensor) -> Tensor:
        """``act + scale * direction``."""
        if self.direction.shape != act.shape[act.ndim - self.direction.ndim :] or self.direction.ndim > act.ndim - 2:
            raise ValueError(f"a direction of {tuple(self.direction.shape)} does not fit {tuple(act.shape)}")
        return act if self.scale == 0 else act + self.scale * self.direction.detach().to(act)


def _meant(positions: Sequence[int], act: Tensor, running: RunningForward) -> Tensor | None:
    """A mask ``[batch|1, pos, 1, ...]`` of positions in an activation; None if it shows none of them."""
    start = running.start(act.shape[1])
    stop = start + act.shape[1]
    layout = running.layout(act.device)
    if layout is not None:
        return like(layout.meant(positions)[:, start:stop], act)
    shown = positions_within(positions, start=start, stop=stop)
    return _axis_mask(shown, act, axis=1) if shown else None


def _axis_mask(indices: Sequence[int], act: Tensor, *, axis: int) -> Tensor:
    """A Bool mask over one axis, with size 1 along the others."""
    shape = [1] * act.ndim
    shape[axis] = act.shape[axis]
    mask = torch.zeros(act.shape[axis], dtype=torch.bool, device=act.device)
    mask[list(indices)] = True
    return mask.reshape(shape)
