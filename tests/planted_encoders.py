"""Encoders of matrix completion with weights put in by hand, as a run of one or two checkpoints."""

from dataclasses import dataclass, field

import pandas as pd
import torch

from plateau_interp.models import toy_model
from plateau_interp.tasks import MatrixCompletion
from plateau_interp.types import HookedModel

TASK = MatrixCompletion()


@dataclass
class Checkpoints:
    """Models at steps, as `plateau_interp.analysis.observing.Checkpointed`."""

    models: dict[int, HookedModel]
    task: MatrixCompletion = TASK
    metrics: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def checkpoints(self) -> list[int]:
        return sorted(self.models)

    def model(self, step: int | None = None) -> HookedModel:
        return self.models[max(self.models) if step is None else step]


def untrained(n_layers: int = 2) -> HookedModel:
    return toy_model(TASK, d_model=16, n_heads=2, n_layers=n_layers)


@torch.no_grad()
def copier() -> HookedModel:
    """Says what stands there, and 0 in a gap; attention and MLPs write nothing.

    A token of x is ``(x, -x, s, -s)`` with ``x² + s² = 1``: of mean 0 and variance 1/2, so that every LayerNorm makes
    it the same, sqrt(2) times as long, and a gap stays 0.
    """
    model = toy_model(TASK, d_model=4, n_heads=2, n_layers=2)
    weights = {name: weight.zero_() for name, weight in model.named_parameters() if not name.endswith("ln1.w")}
    for name, weight in model.named_parameters():
        if name.split(".")[-1] == "w":
            weight.fill_(1.0)
    x = TASK.values(torch.arange(1, TASK.d_vocab))
    s = (1 - x**2).clamp(min=0).sqrt()
    weights["embed.W_E"][1:] = torch.stack([x, -x, s, -s], dim=1)
    weights["unembed.W_U"][:, 0] = torch.tensor([1.0, -1.0, 0.0, 0.0]) / (2 * 2**0.5)
    return model


@torch.no_grad()
def row_reader() -> HookedModel:
    """Head 0.0 attends to its row alone, whatever stands there; head 0.1 to all alike. What they write is arbitrary.

    A position is its row, one-hot, and the same negated; tokens are 0.
    """
    model = toy_model(TASK, d_model=8, n_heads=2, n_layers=1, init_std=0.3)
    weights = dict(model.named_parameters())
    for name in ("embed.W_E", "pos_embed.W_pos", "blocks.0.attn.W_Q", "blocks.0.attn.W_K"):
        weights[name].zero_()
    row = torch.eye(4)[torch.arange(16) // 4]
    weights["pos_embed.W_pos"][:16] = torch.cat([row, -row], dim=1)
    for name in ("blocks.0.attn.W_Q", "blocks.0.attn.W_K"):
        weights[name][0, :4] = 10 * torch.eye(4)
    return model
