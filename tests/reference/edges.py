"""A pre-LayerNorm Transformer in which every part adds up its own input: the obvious way to cut edges.

Plain PyTorch on a model's state dict; slow, and for one cut at a time.
"""

import math
from collections.abc import Collection, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

Edge = tuple[str, str]


def _norm(x: Tensor, weights: Mapping[str, Tensor], name: str, *, like: Tensor | None) -> Tensor:
    """LayerNorm of x, divided as that of ``like`` is where that is given."""
    centred = x - x.mean(dim=-1, keepdim=True)
    other = centred if like is None else like - like.mean(dim=-1, keepdim=True)
    return (
        centred / (other.pow(2).mean(dim=-1, keepdim=True) + 1e-5).sqrt() * weights[f"{name}.w"] + weights[f"{name}.b"]
    )


def forward(
    weights: Mapping[str, Tensor],
    tokens: Tensor,
    *,
    n_layers: int,
    n_heads: int,
    softmax: bool,
    cut: Collection[Edge] = (),
    instead: Mapping[str, Tensor] | None = None,
    divisors: Mapping[str, Tensor] | None = None,
) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """Logits, what each writer wrote, and what each norm saw."""
    n_pos = tokens.shape[1]
    written = {"embed": weights["embed.W_E"][tokens]}
    written["pos_embed"] = weights["pos_embed.W_pos"][:n_pos].expand_as(written["embed"])
    bias, seen = torch.zeros_like(written["embed"]), {}

    def read(reader: str, norm: str) -> Tensor:
        total = bias.clone()
        for writer, value in written.items():
            total = total + (instead[writer] if instead is not None and (writer, reader) in cut else value)
        seen.setdefault(norm, total)
        return _norm(total, weights, norm, like=None if divisors is None else divisors[norm])

    causal = torch.ones(n_pos, n_pos, dtype=torch.bool).tril()
    for layer in range(n_layers):
        block, heads = f"blocks.{layer}", {}
        for head in range(n_heads):
            q, k, v = (
                read(f"L{layer}H{head}.{letter.lower()}", f"{block}.ln1") @ weights[f"{block}.attn.W_{letter}"][head]
                + weights[f"{block}.attn.b_{letter}"][head]
                for letter in "QKV"
            )
            scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])
            pattern = scores.masked_fill(~causal, -torch.inf).softmax(-1) if softmax else scores.masked_fill(~causal, 0)
            heads[f"L{layer}H{head}"] = pattern @ v @ weights[f"{block}.attn.W_O"][head]
        written |= heads
        bias = bias + weights[f"{block}.attn.b_O"]
        hidden = read(f"MLP{layer}", f"{block}.ln2") @ weights[f"{block}.mlp.W_in"] + weights[f"{block}.mlp.b_in"]
        mlp = F.gelu(hidden, approximate="tanh") @ weights[f"{block}.mlp.W_out"] + weights[f"{block}.mlp.b_out"]
        written[f"MLP{layer}"] = mlp
    logits = read("logits", "ln_final") @ weights["unembed.W_U"] + weights["unembed.b_U"]
    return logits, written, seen
