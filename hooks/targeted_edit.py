"""The base class of edits of attention at target positions: where they act is resolved once, on entry.

The ready-made ones are in `plateau_interp.hooks.targeted_attention`; one of your own is a formula.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from plateau_interp.checks import freeze_indices, listed, one_of
from plateau_interp.hooks.attention_maps import MapFunction, check_map, check_targets
from plateau_interp.hooks.named_maps import NAMED_MAPS, MapName
from plateau_interp.hooks.readable import TakenKeys, check_keys_left, check_rows_left
from plateau_interp.hooks.targets import Targets, TaskMaps, reading_maps, select
from plateau_interp.interventions.attached import Attached
from plateau_interp.interventions.attaching import editing
from plateau_interp.interventions.hook_points import AttentionSite, attention_points, check_positions, resolve_indices
from plateau_interp.interventions.running import following
from plateau_interp.interventions.session import session
from plateau_interp.positions import layer_targets
from plateau_interp.types import BuiltForTask, HookedModel, Task, answer_rows

__all__ = ["TargetedEdit"]


@dataclass(frozen=True, eq=False, kw_only=True)
class TargetedEdit(ABC):
    """An edit of attention at target positions: fields that say where, and a formula.

    Args:
        layers: where; by default every layer that has targets.
        heads: which; by default all.
        rows: query positions, negative ones from the end; by default all.
        targets: map ``[query, key]`` or ``[batch, query, key]``, a function of (tokens, layer) that gives one, or the
            name of one: ``"previous token"``, ``"last occurrence"`` (`plateau_interp.hooks.named_maps`); by default
            those of the task the model was built for.

    Raises:
        ValueError: on entry, for what does not fit the model: layers, heads, rows, maps, rows without a target.

    Example:
        >>> from plateau_interp import intervening, toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> @dataclass(frozen=True, eq=False)
        ... class FlipAttention(TargetedEdit):
        ...     def edit(self, act, target):
        ...         return torch.where(target, -act, act)
        >>> model = toy_model(MovingWindowSum(), d_model=32)
        >>> with intervening(model, FlipAttention(rows=[-1])) as (receipt,):
        ...     logits = model(torch.zeros(2, 32, dtype=torch.long))
        >>> receipt.rows
        1
    """

    layers: Sequence[int] | None = None
    heads: Sequence[int] | None = None
    rows: Sequence[int] | None = None
    targets: Tensor | MapFunction | MapName | None = field(default=None, repr=False)

    takes_weights: ClassVar[bool] = False
    """Whether targets may be weights."""
    spares_first_row: ClassVar[bool] = False
    """Whether a task's first answer row is left alone unless rows are given; nothing is first that is filled in."""
    forbids: ClassVar[bool] = False
    """Whether targets are taken away, so that at the scores no row may lose all it has."""

    def __post_init__(self) -> None:
        freeze_indices(self, "layers", "heads", "rows")
        if isinstance(self.targets, str):
            one_of(MapName, targets=self.targets)
        else:
            check_targets(self.targets, weights=self.takes_weights)

    # What some edits have as fields of these names; for the others there is one choice.

    @property
    def at(self) -> AttentionSite:
        """Before or after the softmax."""
        return "pattern"

    @property
    def keys(self) -> Sequence[int] | None:
        """Key positions in the place of targets, for every row that may read them."""
        return None

    @abstractmethod
    def edit(self, act: Tensor, target: Tensor) -> Tensor:
        """The formula: pattern or scores ``[batch, head, query, key]`` and a map that broadcasts to them."""

    def sites(self, model: HookedModel) -> tuple[str, ...]:
        """The hook points it would act at."""
        return tuple(self.resolve(model).layer_of)

    @contextmanager
    def attach(self, model: HookedModel) -> Iterator[Attached]:
        """Act on the model while the context is open."""
        targets = self.resolve(model)
        with following(model) as running, reading_maps(targets, model) as read:
            taken = session(model).slot(TakenKeys)
            taking = taken.shared() if targets.leaves_a_key else nullcontext()

            def edit(act: Tensor, *, hook: Any) -> Tensor:
                layer = targets.layer_of[hook.name]
                target = read(act, layer)
                if targets.leaves_a_key:
                    taken.take(target, act, hook.name, model=model, layer=layer, running=running)
                return self.edit(act, target)

            def varies() -> bool:
                return targets.depends_on_tokens or running.may_be_padded()

            places = {"rows": self.rows, "keys": self.keys}
            edits = dict.fromkeys(targets.layer_of, edit)
            with taking, editing(model, self, edits, places=places, varies=varies) as attached:
                yield attached

    def resolve(self, model: HookedModel) -> Targets:
        """What it means in a model; of the model's task, if that has the targets, one sample is drawn.

        Raises:
            ValueError: for what does not fit.
        """
        selection = select(model, heads=self.heads, rows=self.rows)
        maps: Mapping[int, Tensor] | tuple[int, ...] | MapFunction | TaskMaps
        layers, is_own = self.layers, False
        if self.keys is not None:
            check_positions("key", self.keys, model.cfg.n_ctx)
            maps = tuple(self.keys)
        elif isinstance(self.targets, str):
            maps = NAMED_MAPS[self.targets]
        elif callable(self.targets):
            maps = self.targets
        elif self.targets is not None:
            check_map(self.targets, model, what="targets")
            square = self.targets.detach().clone()  # as it is now, whatever is written into it later
            # One tensor for all layers: `reading_maps` keeps what it makes of it once.
            maps = dict.fromkeys(range(model.cfg.n_layers), square[None] if square.ndim == 2 else square)
        else:
            task, is_own = _task(model), True
            own = _task_maps(task, model, layers)
            layers = tuple(own)
            if self.spares_first_row and self.rows is None and task.lookahead:  # what is filled in has no first row
                selection = replace(selection, spared=answer_rows(task).start)
            # Two sequences with a map each: it depends on the data.
            depends = any(len(square) > 1 for square in own.values())
            maps = TaskMaps(task, model.cfg.n_layers) if depends else own
        targets = Targets(
            attention_points(model, layers, self.at),
            selection,
            maps,
            goes_on_empty=is_own,
            takes_weights=self.takes_weights,
            leaves_a_key=self.forbids and self.at == "scores",
        )
        if self.rows is not None or selection.spared is not None:
            _check_rows(targets, model)
        if targets.leaves_a_key:
            _check_keys(targets, model)
        return targets


def _task(model: HookedModel) -> Task:
    if not isinstance(model, BuiltForTask) or model.task is None:
        raise ValueError(
            "the model has no task to take target positions from; give targets: a map [query, key], or a function of "
            "(tokens, layer)"
        )
    return model.task


def _task_maps(task: Task, model: HookedModel, layers: Sequence[int] | None) -> dict[int, Tensor]:
    """The task's maps for two sequences of its own: of the layers chosen, or of all that have one."""
    chosen = resolve_indices("layer", layers, model.cfg.n_layers)
    batch = task.sample(2, generator=torch.Generator().manual_seed(0))
    maps = enumerate(layer_targets(task, batch, n_layers=model.cfg.n_layers))
    having = {layer: square for layer, square in maps if square is not None}
    for square in having.values():
        check_map(square, model, what=f"optimal_attention of {task}")
    lacking = [layer for layer in chosen if layer not in having]
    if not having or (layers is not None and lacking):
        raise ValueError(
            f"the task has target positions in layers {list(having)}, not in {lacking}; give targets of your own"
        )
    return {layer: having[layer] for layer in chosen if layer in having}


def _check_rows(targets: Targets, model: HookedModel) -> None:
    """Refuse rows without a target, unless no row has any: an empty map is meant.

    Where positions count from the end of a forward, none can be told from another before it runs.
    """
    rows, maps, n_ctx = targets.selection.rows, targets.maps, model.cfg.n_ctx
    if not isinstance(maps, Mapping | tuple) or (rows is not None and targets.counts_from_end):
        return
    if isinstance(maps, Mapping):
        squares = {id(square): square for square in maps.values()}
        having = {int(row) for square in squares.values() for row in square.any(dim=-1).nonzero()[:, -1]}
    else:
        having = {*range(min(maps) if model.cfg.attention_dir == "causal" else 0, n_ctx)}
    if having and having <= {targets.selection.spared}:
        raise ValueError(
            f"row {targets.selection.spared}, the first of the answer, is the only one with targets and is left alone "
            "unless rows are given"
        )
    if having and rows is not None and not having & {*rows}:
        these, those = (listed(list(map(str, some)), most=16) for some in (rows, sorted(having)))
        raise ValueError(f"rows [{these}] have no target; those that do are [{those}]")


def _check_keys(targets: Targets, model: HookedModel) -> None:
    """Refuse what takes all keys from a row, where that can be told before a forward runs."""
    selection, maps = targets.selection, targets.maps
    if targets.counts_from_end:
        return
    for layer in targets.layer_of.values():
        if isinstance(maps, tuple):
            check_rows_left(maps, selection.rows, model, layer, start=0, stop=model.cfg.n_ctx)
        elif isinstance(maps, Mapping):
            size = maps[layer].shape[-1]
            rows = replace(selection, heads=None).mask(query=size, key=size)
            check_keys_left(maps[layer] & rows[:, 0].to(maps[layer].device), model, layer)
