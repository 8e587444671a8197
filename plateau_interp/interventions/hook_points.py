"""Names to places: hook points, layers and heads that exist, and near ones for those that do not."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from plateau_interp.checks import nearest
from plateau_interp.types import HookedModel

__all__ = ["resolve_hook_points", "resolve_indices"]

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
            raise ValueError(f"the model has no hook point {name!r}; {nearest(name, model.hook_dict)}")
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


def _remedy(flag: str) -> str:
    return "build the model with it" if flag == "hook_tokens" else f"call model.set_use_{flag}(True) first"
