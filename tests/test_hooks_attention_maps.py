"""Maps over attention patterns: what one is, and how it fits model and forward: plateau_interp.hooks.attention_maps."""

import math
from typing import Any

import pytest
import torch
from hook_cases import assert_untouched, tokens_for, toy
from torch import Tensor

from plateau_interp.hooks import (
    AddDirection,
    BiasAttention,
    FixAttention,
    MaskAttention,
    PatchActivation,
    PatchAttention,
)
from plateau_interp.hooks.attention_maps import ask_for_map, crop, grow
from plateau_interp.interventions.attached import Intervention
from plateau_interp.interventions.attaching import intervening

FUTURE = torch.zeros(8, 8)
FUTURE[2, 5] = 1.0
EYE = torch.eye(8)
BROKEN = torch.eye(8)
BROKEN[3, 1] = math.nan


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FixAttention(targets=-torch.eye(8)), "must not be negative"),
        (lambda: FixAttention(targets=torch.ones(8)), r"must be \[query, key\] or \[batch, query, key\]; got \(8,\)"),
    ],
)
def test_what_is_no_map_is_refused_at_construction(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (FixAttention(targets=FUTURE), "targets looks into the future: query 2 reads key 5 of a causal model"),
        (PatchAttention(FUTURE), "the source looks into the future: query 2 reads key 5"),
        (PatchAttention(BROKEN), "the source holds NaN or infinite entries"),
        (FixAttention(targets=BROKEN), "targets holds NaN"),
        (FixAttention(targets=torch.ones(7, 8).tril()), "as many queries as keys"),
    ],
)
def test_a_map_that_cannot_be_meant_for_the_model_is_refused_on_entry(edit: Intervention, message: str) -> None:
    model = toy(n_layers=2, n_heads=4)
    with pytest.raises(ValueError, match=message), intervening(model, edit):
        pytest.fail("entered")
    assert_untouched(model)


@pytest.mark.parametrize(
    ("tensor", "got"),
    [
        (EYE.to(torch.complex64), "torch.complex64 on cpu"),
        (EYE.to(torch.float8_e4m3fn), "torch.float8_e4m3fn on cpu"),
        (EYE.to(torch.uint16), "torch.uint16 on cpu"),
        (EYE.to_sparse(), "torch.float32, sparse, on cpu"),
        (EYE.to("meta"), "torch.float32 on meta"),
    ],
)
def test_what_holds_no_real_numbers_is_refused_in_one_line(tensor: Tensor, got: str) -> None:
    makes: dict[str, Any] = {
        "targets": lambda: FixAttention(targets=tensor),
        r"targets\(tokens, layer=0\)": lambda: FixAttention(targets=lambda tokens, layer: tensor),
        "the source": lambda: PatchAttention(tensor),
        "the  source": lambda: PatchActivation("blocks.0.hook_resid_pre", {"blocks.0.hook_resid_pre": tensor}),
        "direction": lambda: AddDirection("blocks.0.hook_resid_pre", tensor),
    }
    for what, make in makes.items():
        words = f"^{what.replace('  ', ' ')} must be a dense tensor of real numbers, such as torch.float32; got {got}$"
        with pytest.raises(ValueError, match=words):
            put(make)


def put(make: Any) -> Tensor:
    """The logits under an intervention that is only made now."""
    model = toy()
    with intervening(model, make()):
        return model(tokens_for(model))


@pytest.mark.parametrize("layout", ["sparse", "meta"])
def test_a_bool_map_must_be_there_too(layout: str) -> None:
    targets = EYE.bool().to_sparse() if layout == "sparse" else EYE.bool().to("meta")
    for edit in (BiasAttention, MaskAttention):
        with pytest.raises(ValueError, match=r"^targets must be a dense tensor of real"):
            edit(targets=targets)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.long, torch.float16, torch.bfloat16, torch.float64])
def test_a_map_of_any_common_dtype_is_the_same_map(dtype: torch.dtype) -> None:
    square = EYE.roll(-1, dims=1).tril()
    for kind in (lambda targets: FixAttention(targets=targets), PatchAttention):
        assert torch.equal(put(lambda: kind(square.to(dtype))), put(lambda: kind(square)))  # noqa: B023


@pytest.mark.parametrize(("query", "key", "rows"), [(1, 3, [2]), (2, 5, [3, 4]), (5, 5, range(5))])
def test_a_forward_is_shown_its_own_rows_and_the_keys_so_far(query: int, key: int, rows: Any) -> None:
    square = torch.arange(50.0).reshape(2, 5, 5)
    assert crop(square, query=query, key=key).tolist() == [
        [[each[row][k] for k in range(key)] for row in rows] for each in square.tolist()
    ]


def test_a_map_that_is_too_short_has_no_targets_beyond_it() -> None:
    square = torch.ones(2, 3, 3, dtype=torch.bool)
    grown = grow(square, 5)
    assert grown.shape == (2, 5, 5)
    assert grown.dtype == torch.bool
    assert torch.equal(grown[:, :3, :3], square)
    assert int(grown.sum()) == 18
    assert torch.equal(grow(square, 2), square)  # a longer one is cropped by the forward


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("no map", r"targets\(tokens, layer=1\) must give a map; got str"),
        (torch.eye(4), "must be a Bool map"),
        (torch.eye(4, dtype=torch.bool).expand(3, 4, 4), "is for 3 sequences, but the forward has 2"),
    ],
)
def test_what_a_function_gives_is_looked_at(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask_for_map(lambda tokens, layer: given, torch.zeros(2, 4), 1, toy(), weights=False)


def test_the_future_is_refused_from_a_function_too() -> None:
    model = toy()
    future = FixAttention(targets=lambda tokens, layer: FUTURE)
    with (
        pytest.raises(ValueError, match=r"targets\(tokens, layer=0\) looks into the future"),
        intervening(model, future),
    ):
        model(tokens_for(model))


def test_what_does_not_fit_a_forward_is_refused_there() -> None:
    model = toy()
    tokens = tokens_for(model)
    for edit, message in (
        (PatchAttention(torch.eye(4)), "covers 4 positions, but the forward has 8"),
        (FixAttention(targets=torch.eye(4)), "covers 4 positions, but the forward has 8"),
        (PatchAttention(torch.eye(8).expand(3, 1, 8, 8)), "the source has 3 sequences, but the forward has 5"),
        (FixAttention(targets=torch.eye(8).expand(3, 8, 8)), "targets are for 3 sequences, but the forward has 5"),
    ):
        with pytest.raises(ValueError, match=message), intervening(model, edit):
            model(tokens)
    assert_untouched(model)
