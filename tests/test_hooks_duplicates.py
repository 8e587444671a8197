"""A head, layer, row, key or position that is named twice is named once: nothing acts on it twice."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from plateau_interp import intervening, toy_model
from plateau_interp.hooks import (
    AblateActivation,
    AblateHeads,
    AddDirection,
    BiasAttention,
    FixAttention,
    MaskAttention,
    PatchActivation,
    PatchAttention,
    ScaleActivation,
)
from plateau_interp.tasks import MovingWindowSum

TASK = MovingWindowSum(n=4)
WIDE = torch.linspace(-1, 1, 8)
AT = "blocks.*.attn.hook_z"
OTHER = toy_model(TASK, d_model=32, n_heads=4, n_layers=2, seed=1)


@pytest.mark.parametrize(
    "edit",
    [
        AblateHeads([1], layers=[0]),
        AblateHeads([1], layers=[0], by="mean"),
        AblateHeads([1], layers=[0], by="uniform"),
        BiasAttention(factor=3.0, layers=[1], heads=[2], rows=[5, -1]),
        FixAttention(layers=[1], heads=[2], rows=[5]),
        MaskAttention(layers=[1], heads=[2], rows=[5], keys=[1, -2]),
        PatchAttention(OTHER, layers=[1], heads=[2], rows=[-1]),
        AblateActivation(AT, positions=[2, -1], heads=[3]),
        AblateActivation(AT, by="mean", positions=[2], heads=[3]),
        PatchActivation(AT, OTHER, positions=[2], heads=[3]),
        ScaleActivation(AT, 2.0, positions=[2], heads=[3]),
        AddDirection(AT, WIDE, positions=[2], heads=[3]),
    ],
    ids=lambda edit: f"{edit.name}-{getattr(edit, 'by', '')}",
)
def test_what_is_named_twice_acts_once(edit: Any) -> None:
    named = {name: getattr(edit, name, None) for name in ("layers", "heads", "rows", "keys", "positions")}
    twice = replace(edit, **{name: [*which, *which] for name, which in named.items() if which is not None})
    tokens = TASK.sample(3, generator=torch.Generator().manual_seed(0)).inputs
    found = []
    for acting in ((edit,), (twice,), ()):
        model = toy_model(TASK, d_model=32, n_heads=4, n_layers=2)
        with intervening(model, *acting):
            output = model(tokens)
            output.square().mean().backward()
        found.append([output.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
    once, doubled, untouched = found
    assert all(torch.equal(one, two) for one, two in zip(once, doubled, strict=True))
    assert not torch.equal(once[0], untouched[0])
