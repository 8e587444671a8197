"""The one-hot MLP: a HookedTransformer that is an MLP with two hidden layers on inputs of zeros and a few ones.

The smallest model that groks, in the form that the suite's interventions, measures and views work on. A sequence is one
token, which stands for all that is read: its features, whose axes of the residual stream are 1. Attention gives 0, and
nothing is passed by the MLP. For Transformers see `plateau_interp.models.decoder`, for points of a space and a fixed
outer layer `plateau_interp.models.depth_two`.

| layer | parameters | followed by |
|---|---|---|
| features to hidden | ``blocks.0.mlp.W_in``, ``b_in`` | ReLU |
| hidden to hidden | ``blocks.0.mlp.W_out``, ``b_out`` | ReLU |
| hidden to logits | ``unembed.W_U``, ``b_U`` | |
"""

import math
from typing import ClassVar, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import Parameter
from transformer_lens import HookedTransformerConfig
from transformer_lens.cache.key_value_cache_entry import TransformerLensKeyValueCacheEntry
from transformer_lens.components import TransformerBlock

from plateau_interp.checks import shown
from plateau_interp.models.base import ToyTransformer
from plateau_interp.models.mlp import mlp_config
from plateau_interp.models.settings import ModelSettings
from plateau_interp.types import Task

__all__ = ["OfFeatures", "ToyOneHot", "one_hot_net"]

FAN_IN_OF_HIDDEN = ("blocks.0.mlp.W_out", "blocks.0.mlp.b_out", "unembed.W_U", "unembed.b_U")
FAN_IN_OF_FEATURES = ("blocks.0.mlp.W_in", "blocks.0.mlp.b_in")


@runtime_checkable
class OfFeatures(Protocol):
    """A task whose tokens stand for sets of features: what it says beside being a task."""

    @property
    def n_features(self) -> int:
        """How many there are."""
        ...

    @property
    def features(self) -> Int[Tensor, "d_vocab active"]:
        """Which of them each token has."""
        ...


class FeatureEmbed(torch.nn.Module):
    """Looks up the features of tokens; they are the task's, and no parameters.

    Args:
        features: of each token.
        n_features: how many there are.
        dtype: of the ones and zeros.
    """

    W_E: Float[Tensor, "d_vocab d_model"]

    def __init__(self, features: Int[Tensor, "d_vocab active"], n_features: int, *, dtype: torch.dtype) -> None:
        super().__init__()
        table = torch.zeros(len(features), n_features, dtype=dtype).scatter_(1, features, 1.0)
        self.register_buffer("W_E", table, persistent=False)

    def forward(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d_model"]:
        """Ones where a feature is there."""
        return F.embedding(tokens, self.W_E)


class OneHotBlock(TransformerBlock):
    """Attention, which gives 0, and two linear layers with a ReLU after each; nothing is passed by them."""

    def forward(
        self,
        resid_pre: Float[Tensor, "batch pos d_model"],
        shortformer_pos_embed: Tensor | None = None,
        past_kv_cache_entry: TransformerLensKeyValueCacheEntry | None = None,
        attention_mask: Int[Tensor, "batch key"] | None = None,
    ) -> Float[Tensor, "batch pos hidden"]:
        """The second hidden layer."""
        resid_pre = self.hook_resid_pre(resid_pre)
        attn_out = self.attn(
            query_input=resid_pre,
            key_input=resid_pre,
            value_input=resid_pre,
            past_kv_cache_entry=past_kv_cache_entry,
            attention_mask=attention_mask,
        )
        resid_mid = self.hook_resid_mid(resid_pre + self.hook_attn_out(attn_out))
        resid_post: Tensor = self.hook_resid_post(F.relu(self.apply_mlp(resid_mid)))
        return resid_post


class ToyOneHot(ToyTransformer):
    """Three linear layers with ReLUs between them, ``features -> d_mlp -> d_mlp -> logits``, with biases."""

    attends: ClassVar[bool] = False

    def __init__(self, cfg: HookedTransformerConfig, *, task: Task, features: OfFeatures) -> None:
        """Use `plateau_interp.models.toy_model`; this leaves the weight matrices uninitialised.

        Args:
            cfg: its sizes.
            task: what it is for.
            features: the same task, as far as it says what the features are.
        """
        super().__init__(cfg, task=task, attention="softmax")
        width, dtype = self.cfg.d_mlp, self.cfg.dtype
        assert width is not None  # it has an MLP
        table = FeatureEmbed(features.features, features.n_features, dtype=dtype)
        self.embed = table  # type: ignore[assignment]  # looks tokens up, as Embed does, but holds no parameters
        block = OneHotBlock(self.cfg, 0)
        block.mlp.W_out = Parameter(torch.empty(width, width, dtype=dtype))
        block.mlp.b_out = Parameter(torch.zeros(width, dtype=dtype))
        self.blocks[0] = block
        self.unembed.W_U = Parameter(torch.empty(width, self.cfg.d_vocab_out, dtype=dtype))
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name in (*FAN_IN_OF_FEATURES, *FAN_IN_OF_HIDDEN))
        self.setup()  # type: ignore[no-untyped-call]  # names the new hook points

    def draw_(self, name: str, parameter: Tensor, *, std: float, generator: torch.Generator) -> None:
        """Weights and biases as ``nn.Linear`` draws them, up to 1 / sqrt(inputs) either way; ``std`` says nothing."""
        if name not in (*FAN_IN_OF_FEATURES, *FAN_IN_OF_HIDDEN):
            parameter.zero_()
            return
        fan_in = self.cfg.d_model if name in FAN_IN_OF_FEATURES else self.cfg.d_mlp
        assert fan_in is not None
        drawn = torch.rand(parameter.shape, generator=generator, dtype=torch.float32)
        parameter.copy_((2 * drawn - 1) / math.sqrt(fan_in))


def one_hot_net(
    task: Task, settings: ModelSettings, *, n_ctx: int, dtype: torch.dtype, device: str | torch.device
) -> ToyOneHot:
    """An MLP for a task of features, its weights not drawn yet; use `plateau_interp.models.toy_model`.

    Raises:
        ValueError: if the task has no features, reads more than one token, or has another number of them than the
            model is wide.
    """
    if not isinstance(task, OfFeatures):
        raise ValueError(
            f"a one-hot MLP reads features: {shown(task, most=60)} must say its features and n_features, as "
            "OneHotArithmetic does"
        )
    if (task.n_pos, task.lookahead) != (1, 0):
        sizes = f"n_pos={task.n_pos}, lookahead={task.lookahead}"
        raise ValueError(f"a one-hot MLP reads a single token (n_pos=1, lookahead=0); got {sizes}")
    if settings.d_model != task.n_features:
        raise ValueError(
            f"d_model must be {task.n_features}, the features of the task (d_mlp is the width of the hidden layers); "
            f"got {settings.d_model}"
        )
    cfg = mlp_config(task, settings, n_ctx=n_ctx, dtype=dtype, device=device, act_fn="relu")
    return ToyOneHot(cfg, task=task, features=task)
