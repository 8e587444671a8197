"""plateau_interp.reproductions.matrix_completion.swapping: components of models that differ in one of them."""

import pytest
import torch
from planted_encoders import Checkpoints, untrained

from plateau_interp.reproductions.matrix_completion import swapped_components
from plateau_interp.reproductions.matrix_completion.swapping import COMPONENTS


def changed(*endings: str):
    """An untrained model with other weights where a name ends so."""
    model = untrained()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(endings):
                weight.add_(0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    return model


def losses(run: Checkpoints) -> dict[str, float]:
    table = swapped_components(run, before=0, after=1, n=16)
    assert table["step"].tolist() == [1] * (1 + len(COMPONENTS)) + [0] * (1 + len(COMPONENTS))
    late = table[table["step"] == 1]
    return {
        case.removesuffix(" of the plateau in the end"): loss
        for case, loss in zip(late["case"], late["loss"], strict=True)
    }


def test_a_component_swapped_with_itself_changes_nothing() -> None:
    found = losses(Checkpoints({0: untrained(), 1: untrained()}))
    assert set(found.values()) == {found["whole model"]}


@pytest.mark.parametrize(
    ("endings", "components"),
    [
        (("attn.W_Q", "attn.b_V"), {"attention", "attention as released"}),
        (("attn.W_O", "ln1.w"), {"attention"}),
        (("mlp.W_in", "ln2.b"), {"MLPs", "MLPs as released"}),
        (("embed.W_E",), {"token embedding", "MLPs as released"}),
        (("W_pos",), {"position embedding", "MLPs as released"}),
        (("unembed.b_U",), {"read-out", "MLPs as released"}),
        (("ln_embed.w",), {"MLPs as released"}),
    ],
)
def test_what_moves_with_each_component(endings: tuple[str, ...], components: set[str]) -> None:
    """Of two models that differ in some weights, those components move the loss that have these weights."""
    found = losses(Checkpoints({0: changed(*endings), 1: untrained()}))
    assert {name for name, loss in found.items() if loss != found["whole model"]} == components
