"""How gradients are edited: of parameters and at hook points, as a backward pass comes to them.

The interventions are in `plateau_interp.hooks.gradients`, `penalties` and `cosine_penalty`. An activation that is to be
edited is edited in the forward: see `plateau_interp.interventions.attaching.editing`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

__all__ = ["SiteGradientEdit", "edited_in_backward", "editing_parameters"]

SiteGradientEdit = Callable[[Tensor, str], Tensor | None]
"""``edit(gradient, site) -> gradient`` of a parameter or hook point; None leaves it as it is."""

MARK = "_plateau_edited_at"
"""The attribute of a tensor that says at which hook point its gradient is edited."""


@contextmanager
def editing_parameters(parameters: Mapping[str, torch.nn.Parameter], edit: SiteGradientEdit) -> Iterator[None]:
    """Edit each parameter's gradient as it is computed, while the context is open.

    Args:
        parameters: by name.
        edit: from a gradient and its parameter's name to the new gradient; None leaves it as it is.
    """
    with ExitStack() as stack:
        for name, parameter in parameters.items():
            requires_grad = parameter.requires_grad
            parameter.requires_grad_(True)  # torch takes no hook otherwise; it stays through a freeze and its release
            handle = parameter.register_hook(_named(edit, name))  # type: ignore[no-untyped-call]
            parameter.requires_grad_(requires_grad)
            stack.callback(handle.remove)
        yield


def edited_in_backward(act: Tensor, name: str, edit: SiteGradientEdit) -> Tensor:
    """An activation of the same values, whose gradient is edited when it comes; for a forward hook to give.

    Edits that meet at one value of one hook point act in the order of these calls, which is that of the hooks: a view
    for each would have them act in reverse, as a gradient comes to the last one first. A TransformerLens backward hook
    would be slower, and would have to be there when the forward is made all the same.

    Example:
        >>> act = edited_in_backward(torch.ones(1, requires_grad=True) * 1, "hook_embed", lambda g, name: 10 * g)
        >>> again = edited_in_backward(act, "hook_embed", lambda g, name: g + 1)
        >>> again is act
        True
    """
    seen: Any = act
    # The next hook point may be given the very tensor that this one gave: what is edited there comes before.
    if getattr(act, MARK, None) != name:
        seen = act.view_as(act)
        setattr(seen, MARK, name)
    seen.register_hook(_named(edit, name))
    edited: Tensor = seen
    return edited


def _named(edit: SiteGradientEdit, name: str) -> Callable[[Tensor], Tensor | None]:
    return lambda gradient: edit(gradient, name)
