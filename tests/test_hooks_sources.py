"""plateau_interp.hooks.sources: what a patch takes from another model, a run, a cache or values."""

from typing import Any

import pytest
import torch
from hook_cases import assert_untouched, tokens_for, toy

from plateau_interp.hooks import PatchActivation, PatchAttention
from plateau_interp.interventions.attaching import intervening


def blocks_run(model: Any) -> list[int]:
    """The blocks of a model that run from now on, in order."""
    ran: list[int] = []
    for number, block in enumerate(model.blocks):
        block.register_forward_hook(lambda *_, number=number: ran.append(number))
    return ran


@pytest.mark.parametrize(
    ("point", "expected"),
    [("blocks.0.hook_mlp_out", [0]), ("blocks.1.hook_resid_pre", [0, 1]), ("hook_embed", [0, 1, 2])],
)
def test_a_source_runs_no_further_than_it_is_read(point: str, expected: list[int]) -> None:
    """Unless what is read belongs to no block: then it runs to its end."""
    model, source = toy(n_layers=3), toy(n_layers=3, seed=8)
    tokens = tokens_for(model)
    _, cache = source.run_with_cache(tokens)
    ran = blocks_run(source)
    with intervening(model, PatchActivation(point, source)):
        _, patched = model.run_with_cache(tokens, names_filter=point)
    assert ran == expected
    assert torch.equal(patched[point], cache[point])


def test_several_points_are_read_in_one_forward_of_the_source() -> None:
    model, source = toy(n_layers=3, attention="softmax"), toy(n_layers=3, attention="softmax", seed=8)
    ran = blocks_run(source)
    with intervening(model, PatchAttention(source, layers=[0, 1])):
        model(tokens_for(model))
    assert ran == [0, 1]


def test_a_source_that_is_the_model_itself_is_refused() -> None:
    model = toy()
    with pytest.raises(ValueError, match="the source is the model itself"), intervening(model, PatchAttention(model)):
        pass
    assert_untouched(model)
