"""Names to places: hook points, layers and heads that exist, and near ones for those that do not."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from plateau_interp.types import HookedModel, Task

__all__ = ["check_fits", "listed", "nearest", "resolve_hook_points", "resolve_indices"]

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


def nearest(name: str, valid: Iterable[str]) -> str:
    """The end of an error message: the valid names that look most like a wrong one, or some if none does.

    Example:
        >>> nearest("mpl", ["mlp", "attention"])
        'the nearest is mlp'
    """
    valid = list(valid)
    near = get_close_matches(name, valid, n=3, cutoff=0.4)
    if not near:
        return f"there are {listed(valid)}"
    return f"the nearest {'is' if len(near) == 1 else 'are'} {listed(near)}"


def listed(names: Sequence[str], *, most: int = 4) -> str:
    """Some names and how many more, for messages.

    Example:
        >>> listed(["a", "b", "c"], most=2)
        'a, b and 1 more'
    """
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


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


def check_fits(model: HookedModel, task: Task) -> None:
    """Refuse a model that is too small for a task's sequences or its vocabulary.

    Raises:
        ValueError: naming both sizes.
    """
    if model.cfg.n_ctx < task.n_pos - 1:
        raise ValueError(f"the model reads n_ctx={model.cfg.n_ctx} tokens; {task.name}'s inputs have {task.n_pos - 1}")
    if model.cfg.d_vocab < task.d_vocab:
        raise ValueError(f"the model knows d_vocab={model.cfg.d_vocab} tokens; {task.name} has {task.d_vocab}")


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
