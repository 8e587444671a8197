"""Names to places: hook points, layers, heads and positions that exist, and near ones for those that do not."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Literal

from plateau_interp.checks import nearest, shown
from plateau_interp.types import HookedModel, OfAttentionKind

__all__ = [
    "FINAL_STATE",
    "OUTPUT",
    "AttentionSite",
    "attention_points",
    "check_positions",
    "has_hooks",
    "head_count",
    "output_cap",
    "pattern_name",
    "positions_within",
    "resolve_heads",
    "resolve_hook_points",
    "resolve_indices",
]

FINAL_STATE = "unembed.hook_in"
"""The hidden state of the collapse measure: the final norm's output with gain and bias.

What transformers calls ``hidden_states[-1]``, and the paper's code ``pre_lm_h``.
"""

OUTPUT = "unembed.hook_out"
"""The logits, before a soft cap if the model has one."""

AttentionSite = Literal["pattern", "scores"]
"""Where attention is edited: after the softmax, or before it."""

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

QUERY_HEAD_POINTS = ("hook_q", "hook_z", "hook_result", "hook_rot_q", "hook_q_input")
KEY_HEAD_POINTS = ("hook_k", "hook_v", "hook_rot_k", "hook_k_input", "hook_v_input")


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
        whole = name in model.hook_dict
        matches = [name] if whole else [point for point in model.hook_dict if fnmatchcase(point, name)]
        if not matches:
            raise ValueError(f"the model has no hook point {shown(name)}; {nearest(name, model.hook_dict)}")
        for match in matches:
            flag = GATES.get(match.rsplit(".", 1)[-1])
            if flag is not None and not getattr(model.cfg, f"use_{flag}", False):
                raise ValueError(f"hook point {match!r} does not fire while cfg.use_{flag} is off; {_remedy(flag)}")
        found.update(dict.fromkeys(matches))
    return tuple(found)


def resolve_indices(kind: str, indices: Sequence[int] | None, size: int) -> tuple[int, ...]:
    """Indices of layers or heads, all of them for None; positions may be negative, see `check_positions`.

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
            closest = min(max(index, 0), size - 1)
            raise ValueError(f"there is no {kind} {index}: the model has 0 to {size - 1}; the nearest is {closest}")
    if not indices:
        raise ValueError(f"no {kind} is given; leave the argument out to mean every {kind}")
    return tuple(indices)


def attention_points(model: HookedModel, layers: Sequence[int] | None, at: AttentionSite = "pattern") -> dict[str, int]:
    """The hook points of attention in some layers, all of them for None, with the layer of each.

    Raises:
        ValueError: for a layer that does not exist, and for the scores of linear attention.

    Example:
        >>> from plateau_interp.models import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> attention_points(toy_model(MovingWindowSum(), n_layers=2, d_model=32), [1])
        {'blocks.1.attn.hook_pattern': 1}
    """
    if at == "scores" and isinstance(model, OfAttentionKind) and model.attention == "linear":
        raise ValueError("linear attention has no softmax to renormalise: its scores are the pattern; use at='pattern'")
    hook = "hook_pattern" if at == "pattern" else "hook_attn_scores"
    layers = resolve_indices("layer", layers, model.cfg.n_layers)
    points = {f"blocks.{layer}.attn.{hook}": layer for layer in layers}
    if not points.keys() <= model.hook_dict.keys():
        resolve_hook_points(model, tuple(points))  # names what is missing
    return points


def pattern_name(layer: int) -> str:
    """The hook point of a layer's attention pattern.

    Example:
        >>> pattern_name(0)
        'blocks.0.attn.hook_pattern'
    """
    return f"blocks.{layer}.attn.hook_pattern"


def output_cap(model: HookedModel) -> float | None:
    """What the logits are capped at behind `OUTPUT`: they become ``cap * tanh(logits / cap)``; None for no cap.

    Example:
        >>> from plateau_interp.models import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> output_cap(toy_model(MovingWindowSum(), d_model=32)) is None
        True
    """
    cap = model.cfg.output_logits_soft_cap
    return None if cap is None or cap <= 0 else float(cap)  # TransformerLens has -1 for none


def has_hooks(model: HookedModel) -> bool:
    """Whether anything acts at a hook point of a model now, which may look at the whole batch: a mean over it, say.

    A forward in pieces, or with copies of the batch, would then be one of another batch.

    Example:
        >>> from plateau_interp.models import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> has_hooks(toy_model(MovingWindowSum(), d_model=32))
        False
    """
    return any(point.fwd_hooks for point in model.hook_dict.values())


def head_count(model: HookedModel, point: str) -> int:
    """How many heads the activation at a hook point has, on an axis of their own.

    Raises:
        ValueError: for a hook point without a head axis.

    Example:
        >>> from plateau_interp.models import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> head_count(toy_model(MovingWindowSum(), n_heads=4, d_model=32), "blocks.0.attn.hook_z")
        4
    """
    kind = point.rsplit(".", 1)[-1]
    if kind in KEY_HEAD_POINTS:
        shared = model.cfg.n_key_value_heads
        # Ungrouped, each query head has a copy of its keys and values.
        return int(model.cfg.n_heads if shared is None or model.cfg.ungroup_grouped_query_attention else shared)
    if kind in QUERY_HEAD_POINTS:
        return int(model.cfg.n_heads)
    raise ValueError(
        f"{point} has no head axis; those with one end in {', '.join(QUERY_HEAD_POINTS + KEY_HEAD_POINTS)}"
    )


def resolve_heads(model: HookedModel, point: str, heads: Sequence[int] | None) -> tuple[int, ...]:
    """Heads at a hook point, all of them for None; with grouped queries, keys and values have fewer than queries.

    Raises:
        ValueError: for a hook point without a head axis, and for a head that it does not have.

    Example:
        >>> from plateau_interp.models import toy_model
        >>> from plateau_interp.tasks import MovingWindowSum
        >>> resolve_heads(toy_model(MovingWindowSum(), n_heads=4, d_model=32), "blocks.0.attn.hook_z", None)
        (0, 1, 2, 3)
    """
    size = head_count(model, point)
    is_grouped = point.endswith(KEY_HEAD_POINTS) and size != model.cfg.n_heads
    return resolve_indices("key/value head" if is_grouped else "head", heads, size)


def check_positions(kind: str, positions: Sequence[int], n_ctx: int) -> None:
    """Refuse positions that no sequence has, of a model that reads ``n_ctx`` tokens.

    Raises:
        ValueError: for one outside ``-n_ctx .. n_ctx - 1``, and for none at all.

    Example:
        >>> check_positions("row", [0, -1], 8)
    """
    if not positions:
        raise ValueError(f"no {kind} is given; leave the argument out to mean every {kind}")
    for position in positions:
        if position >= n_ctx:
            raise ValueError(
                f"there is no {kind} {position}: the model has 0 to {n_ctx - 1}; the nearest is {n_ctx - 1}"
            )
        if position < -n_ctx:
            raise ValueError(
                f"there is no {kind} {position}: from the end the model has -1 to {-n_ctx}; the nearest is {-n_ctx}"
            )


def positions_within(positions: Sequence[int], *, start: int, stop: int) -> list[int]:
    """Where positions of a whole sequence lie in an activation that shows ``start`` to ``stop`` of it.

    The sequence ends at ``stop``: with a key/value cache it is what the cache holds and what the running forward adds.
    From there negative positions count, so that a forward that goes on from a cache means by -1 what a forward of
    the same tokens at once means.

    Example:
        >>> positions_within([0, 5, -1], start=5, stop=8)  # three tokens after five in the cache
        [0, 2]
    """
    from_start = (position + stop if position < 0 else position for position in positions)
    return [position - start for position in from_start if start <= position < stop]


def _remedy(flag: str) -> str:
    return "build the model with it" if flag == "hook_tokens" else f"call model.set_use_{flag}(True) first"
