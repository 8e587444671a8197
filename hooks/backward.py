"""How gradients are edited: of parameters and at hook points, as a backward pass comes to them, or to be made to come.

The interventions are in `plateau_interp.hooks.gradients`, `penalties` and `cosine_penalty`. An activation that is to be
edited is edited in the forward: see `plateau_interp.interventions.attaching.editing`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from plateau_interp.interventions.derivatives import are_gradients_edited
from plateau_interp.types import HookedModel

__all__ = ["SiteGradientEdit", "edited_in_backward", "editing_parameters", "reaching", "unreached"]

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

    Of a forward that is made to measure a derivative the gradient stays as it is, and this gives the very tensor: see
    `plateau_interp.interventions.derivatives`.

    Example:
        >>> act = edited_in_backward(torch.ones(1, requires_grad=True) * 1, "hook_embed", lambda g, name: 10 * g)
        >>> again = edited_in_backward(act, "hook_embed", lambda g, name: g + 1)
        >>> again is act
        True
    """
    if not are_gradients_edited():
        return act
    seen: Any = act
    # The next hook point may be given the very tensor that this one gave: what is edited there comes before.
    if getattr(act, MARK, None) != name:
        seen = act.view_as(act)
        setattr(seen, MARK, name)
    seen.register_hook(_named(edit, name))
    edited: Tensor = seen
    return edited


@contextmanager
def reaching(model: HookedModel, tensors: Callable[[], Sequence[Tensor]]) -> Iterator[None]:
    """Have a backward pass from the model's output come to tensors that it would not reach, with a gradient of 0.

    For terms of a loss that are added as gradients: where an edit cuts the graph, by putting something else in the
    place of all that depends on a tensor, there would be no gradient to add to. The output keeps its values, and where
    all is reached it is the very tensor it was. What a forward does not finish, as with ``stop_at_layer``, is left, and
    so is one that is made to measure a derivative.

    Args:
        model: any HookedTransformer.
        tensors: asked as each output is made, also without gradients: what it is to depend on.
    """
    whole: Any = model
    unembed = whole.unembed

    def tie(module: Any, args: Any, output: Tensor) -> Tensor | None:
        wanted = tensors()
        if module is not unembed or not (torch.is_grad_enabled() and are_gradients_edited()):
            return None  # a copy of the model has the same hook
        missed = unreached(output, wanted)
        if not missed:
            return None
        nothing = torch.stack([tensor.sum().to(output) for tensor in missed]).sum()
        # Not a sum with 0 times them: the output keeps its bits, whatever they hold.
        return torch.where(torch.ones_like(nothing, dtype=torch.bool), output, nothing)

    handle = unembed.register_forward_hook(tie)
    try:
        yield
    finally:
        handle.remove()


def unreached(output: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Of tensors that require a gradient those that a backward pass from an output does not come to.

    Example:
        >>> one, other = torch.ones(1, requires_grad=True), torch.zeros(1, requires_grad=True)
        >>> unreached(one.exp(), [one, other])
        [tensor([0.], requires_grad=True)]
    """
    # Nodes are told apart by identity, which holds as long as somebody holds them.
    missing: dict[Any, Tensor] = {get_gradient_edge(one).node: one for one in tensors if one.requires_grad}
    pending = [] if output.grad_fn is None else [output.grad_fn]
    known: set[Any] = {*pending}
    while pending and missing:
        node = pending.pop()
        missing.pop(node, None)
        ahead = [following for following, _ in node.next_functions if following is not None and following not in known]
        known.update(ahead)
        pending += ahead
    return [*missing.values()]


def _named(edit: SiteGradientEdit, name: str) -> Callable[[Tensor], Tensor | None]:
    return lambda gradient: edit(gradient, name)
