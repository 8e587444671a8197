"""What all toy models share: layers that give the same bits every time, and a model that remembers its task.

`plateau_interp.models.decoder`, `plateau_interp.models.encoder`, `plateau_interp.models.post_norm`,
`plateau_interp.models.depth_two` and `plateau_interp.models.one_hot` have the five kinds; build any by `toy_model`.
"""

import warnings
from abc import abstractmethod
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformer_lens.components import Embed, LayerNorm

from plateau_interp.types import AttentionKind, Defaults, Task

__all__ = ["FusedLayerNorm", "IndexedEmbed", "ToyTransformer"]


class FusedLayerNorm(LayerNorm):
    """LayerNorm as one kernel, also while somebody looks inside; TransformerLens's steps while somebody edits there.

    The two differ in the last bits. A hook that returns nothing, or the tensor itself, changes no bit of output or
    gradient. What it keeps is no part of the graph of the output unless it asks for the gradient there and then, by
    ``retain_grad``, ``register_hook`` or a backward hook: these too bring the steps.
    """

    def forward(self, x: Float[Tensor, "batch pos *head d_model"]) -> Float[Tensor, "batch pos *head d_model"]:
        """Normalise the last axis, then gain and bias."""
        if not (_is_hooked(self.hook_scale) or _is_hooked(self.hook_normalized)):
            return F.layer_norm(x, (self.length,), self.w, self.b, self.eps)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        centred = wide - wide.mean(dim=-1, keepdim=True)
        scale = (centred.square().mean(dim=-1, keepdim=True) + self.eps).sqrt()
        hooked_scale = self.hook_scale(scale)
        normalised = centred / hooked_scale
        hooked = self.hook_normalized(normalised)
        if _is_only_seen(scale, hooked_scale) and _is_only_seen(normalised, hooked):
            return F.layer_norm(x, (self.length,), self.w, self.b, self.eps)
        out: Tensor = hooked.to(x.dtype) * self.w + self.b
        return out


class IndexedEmbed(Embed):
    """Token embedding through `F.embedding`, whose gradient sums in a fixed order.

    TransformerLens indexes ``W_E[tokens, :]``, whose CPU gradient uses atomic adds: two runs with one seed would differ
    in the last bits, and resuming could not be bit-exact.

    Args:
        cfg: of the model.
        untrained: a token whose row gets no gradient; None for none.
    """

    def __init__(self, cfg: HookedTransformerConfig, *, untrained: int | None = None) -> None:
        super().__init__(cfg)
        self.untrained = untrained

    def forward(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d_model"]:
        """Look up each token's row."""
        return F.embedding(tokens, self.W_E, padding_idx=self.untrained)


class ToyTransformer(HookedTransformer):
    """A small HookedTransformer that remembers its `task`, its kind of attention and its `init_std`.

    Args:
        cfg: its sizes.
        task: what it is for.
        attention: "linear" or "softmax".
        untrained: a token whose embedding is 0 and stays so; None for none.
    """

    attends: ClassVar[bool] = True
    """Whether attention has a part in what it gives; in a model that is an MLP it gives 0."""

    def __init__(
        self, cfg: HookedTransformerConfig, *, task: Task, attention: AttentionKind, untrained: int | None = None
    ) -> None:
        """Use `toy_model`; this leaves the weight matrices uninitialised."""
        with warnings.catch_warnings():
            # The deprecation names a successor that has no working attention hooks for models built from scratch.
            warnings.filterwarnings("ignore", message="HookedTransformer", category=DeprecationWarning)
            super().__init__(cfg, move_to_device=False)
        self.task = task
        self.attention: AttentionKind = attention
        self.untrained = untrained
        self.init_std = Defaults.init_std
        self.embed = IndexedEmbed(self.cfg, untrained=untrained)

    def initialise_(self, *, std: float, seed: int) -> None:
        """Draw the weights anew; the global random state is not touched.

        Args:
            std: of a weight matrix.
            seed: gives the same weights on every device and, up to rounding, in every dtype.
        """
        self.init_std = std
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                self.draw_(name, parameter, std=std, generator=generator)
        self.clear_untrained_()

    @torch.no_grad()
    def clear_untrained_(self) -> None:
        """Set the embedding that is never trained to 0, if there is one."""
        if self.untrained is not None:
            self.embed.W_E[self.untrained] = 0.0

    @abstractmethod
    def draw_(self, name: str, parameter: Tensor, *, std: float, generator: torch.Generator) -> None:
        """Give one parameter its initial values; one that is left alone is 0, or 1 for the gain of a norm."""


def _is_hooked(hook_point: Any) -> bool:
    return bool(hook_point._forward_hooks or hook_point._backward_hooks or hook_point._forward_pre_hooks)


def _is_only_seen(made: Tensor, hooked: Tensor) -> bool:
    """Whether hooks left a fresh tensor as it was, and want no gradient of it; an inference tensor cannot tell."""
    asked = made.retains_grad or made._backward_hooks
    return hooked is made and not made.is_inference() and made._version == 0 and not asked
