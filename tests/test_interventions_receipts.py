"""plateau_interp.interventions.receipts: what an edit is said to have changed, counted by hand."""

import copy
import gc
import pickle
import weakref
from typing import Any

import pytest
import torch
from hook_cases import (
    activation,
    cached_logits,
    pattern_name,
    tokens_for,
    toy,
)
from test_interventions_attaching import Plus
from torch.utils._python_dispatch import TorchDispatchMode

from plateau_interp import hooks
from plateau_interp.interventions.attaching import (
    EditAttached,
    intervening,
)
from plateau_interp.interventions.clock import advance
from plateau_interp.interventions.receipts import EditReceipt

PATTERN = pattern_name(0)
RESID = "blocks.0.hook_resid_pre"


class Largest(TorchDispatchMode):
    """Notes the most numbers that one new tensor of them has."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.is_floating_point():
            self.numbers = max(self.numbers, out.numel())
        return out


def test_what_has_no_positions_has_no_rows() -> None:
    receipt = EditReceipt("any", (RESID,))
    receipt.note(RESID, torch.zeros(3), torch.ones(3))
    assert (receipt.rows, receipt.heads, receipt.entries) == (0, 0, 3)


@pytest.mark.parametrize("shape", [(), (0, 5, 2)])
def test_a_number_and_an_empty_batch_are_counted_too(shape: tuple[int, ...]) -> None:
    receipt = EditReceipt("any", (RESID,))
    before = torch.zeros(shape)
    receipt.note(RESID, before, before + 1)
    assert receipt.entries == before.numel()


def test_of_a_large_activation_no_second_one_is_made() -> None:
    before = torch.zeros(16, 100, 1000)
    with Largest() as largest:
        EditReceipt("any", (RESID,)).note(RESID, before, before)
    assert 0 < largest.numbers <= before.numel() / 4


@pytest.mark.parametrize(("name", "expected"), [("hook_embed", 2.0), ("blocks.0.attn.hook_attn_scores", 2.0)])
def test_the_change_of_an_activation_that_is_counted_in_pieces(name: str, expected: float) -> None:
    before = torch.zeros(7, 100, 800)
    after = before.clone()
    after[:, ::2] = 2.0
    if name.endswith("scores"):
        before[3, 1], after[3, 1], after[3, 3] = -torch.inf, -torch.inf, -torch.inf
    receipt = EditReceipt("any", (name,))
    receipt.note(name, before, after)
    finite = receipt.entries - 800 * name.endswith("scores")
    assert finite == 7 * 50 * 800
    assert receipt.change == pytest.approx(expected * (finite / receipt.entries) ** 0.5, rel=1e-5)


def test_the_change_of_a_bias_by_hand() -> None:
    model = toy(n_heads=4)
    tokens = tokens_for(model)
    before = activation(model, tokens, PATTERN)
    with intervening(model, hooks.BiasAttention(factor=3.0)) as (receipt,):
        model(tokens)
        cached_logits(model, tokens)
    targets = torch.stack([before[:, :, 5, 0], before[:, :, 5, 1], before[:, :, 6, 1]])
    targets = torch.cat([targets, torch.stack([before[:, :, 6, 2], before[:, :, 7, 2], before[:, :, 7, 3]])])
    assert receipt.fired == 1 + 6
    assert receipt.entries == 2 * targets.numel(), "the same entries, once at once and once token by token"
    assert receipt.change == pytest.approx((2.0 * targets).square().mean().sqrt().item(), rel=1e-4)
    assert (receipt.rows, receipt.heads) == (3, 4)


def test_an_edit_that_at_first_changes_nothing_is_counted_when_it_does() -> None:
    """The patterns of a model's own initial weights: the size of the change is over the entries that have one."""
    model, initial = toy(n_heads=2), toy(n_heads=2)
    tokens = tokens_for(model)
    with intervening(model, hooks.PatchAttention(initial)) as (receipt,), torch.no_grad():
        model(tokens)
        assert (receipt.rows, receipt.heads, receipt.entries, receipt.change) == (0, 0, 0, 0.0)
        model.blocks[0].attn.W_Q[0] += 0.1
        for _ in range(9):
            model(tokens)
    with intervening(model, hooks.PatchAttention(initial)) as (alone,), torch.no_grad():
        model(tokens)
    assert (receipt.rows, receipt.heads) == (alone.rows, alone.heads)
    assert alone.heads == 1
    assert receipt.entries == 9 * alone.entries > 0
    assert receipt.change == pytest.approx(alone.change, rel=1e-6)


def test_entries_are_counted_each_time_rows_and_heads_ever_more_seldom() -> None:
    receipt, act = EditReceipt("any", (RESID,)), torch.zeros(1, 4, 3)
    expected = [1, 2, 2, 4, 4]
    for n_changed, rows in enumerate(expected, start=1):  # at the first, second and fourth firing
        after = act.clone()
        after[0, : min(n_changed, 4), 0] = 2.0
        receipt.note(RESID, act, after)
        assert receipt.rows == rows
    assert receipt.entries == 1 + 2 + 3 + 4 + 4
    assert receipt.change == 2.0


class Asked(TorchDispatchMode):
    """Notes whether a number was read from a tensor, for which a GPU is waited for."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.numbers += "_local_scalar_dense" in str(func)
        return func(*args, **(kwargs or {}))


def test_counting_reads_no_number() -> None:
    model = toy(n_heads=2)
    tokens, plan = tokens_for(model), [hooks.PatchAttention(toy(seed=5, n_heads=2)), hooks.AblateActivation(RESID)]
    with intervening(model, *plan) as receipts:
        model(tokens)
        with Asked() as asked:
            model(tokens)
        assert asked.numbers == 0
        with asked:
            assert all(receipt.entries for receipt in receipts)
        assert asked.numbers > 0


def test_masked_scores_are_entries_and_no_size() -> None:
    name = "blocks.0.attn.hook_attn_scores"
    receipt, before = EditReceipt("any", (name,)), torch.zeros(1, 1, 2, 2)
    before[..., 0, 1] = -torch.inf
    after = before.clone()
    after[..., 1, 0] = -torch.inf
    for _ in range(2):
        receipt.note(name, before, after)
    assert (receipt.entries, receipt.change, receipt.rows, receipt.is_idle) == (2, 0.0, 1, False)


def test_a_receipt_in_half_precision_does_not_overflow() -> None:
    attached = EditAttached(Plus(300.0), (RESID,))
    attached.dial(1.0)
    hook = type("Hook", (), {"name": RESID})()
    act = torch.zeros(64, 8, 16, dtype=torch.float16)
    assert attached.wrap(Plus(300.0))(act, hook=hook) is not None
    assert attached.receipt.change == pytest.approx(300.0)


def test_positions_of_cached_decoding_are_counted_where_they_come() -> None:
    model = toy(n_heads=4)
    tokens = tokens_for(model)
    with intervening(model, hooks.AddDirection("blocks.0.hook_mlp_out", torch.ones(16), positions=[6])) as (receipt,):
        cached_logits(model, tokens)
        cached_logits(model, tokens)
    assert (receipt.fired, receipt.rows, receipt.entries) == (12, 1, 2 * 5 * 16)
    assert receipt.change == pytest.approx(1.0)
    with intervening(model, hooks.AblateActivation("blocks.0.attn.hook_z", positions=[3, 5], heads=[1, 2])) as (
        receipt,
    ):
        cached_logits(model, tokens)
    assert (receipt.rows, receipt.heads, receipt.entries) == (1, 2, 2 * 5 * 2 * 4)
    with intervening(model, hooks.AblateHeads([0])) as (receipt,):
        cached_logits(model, tokens)
        cached_logits(model, tokens)
    assert (receipt.rows, receipt.heads, receipt.entries) == (3, 1, 2 * 5 * 8 * 9 // 2)


def test_places_that_depend_on_tokens_are_counted_where_they_come() -> None:
    model = toy(n_heads=4)
    new, old = torch.tensor([[1, 2, 3, 4, 5, 6]]), torch.tensor([[1, 1, 1, 4, 5, 1]])
    weights = activation(model, old, PATTERN)[:, :, [1, 2, 5], [0, 1, 2]]
    for order in ([new, old, old], [old, old, new]):
        with intervening(model, hooks.BiasAttention(3.0, targets="last occurrence")) as (receipt,):
            for tokens in order:
                model(tokens)
        assert (receipt.fired, receipt.rows, receipt.heads, receipt.entries) == (3, 3, 4, 2 * 3 * 4)
        assert receipt.change == pytest.approx((2.0 * weights).square().mean().sqrt().item(), rel=1e-4)


@pytest.mark.parametrize(
    ("edit", "rows", "entries"),
    [
        (hooks.AddDirection("blocks.0.hook_mlp_out", torch.ones(16), positions=[3]), 1, 16),
        (hooks.MaskAttention([3]), 3, 3 * 4),
        (hooks.MaskAttention(targets=torch.eye(13, dtype=torch.bool), rows=[3]), 1, 4),
        (hooks.PatchAttention(torch.eye(13), rows=[0]), 1, 4),
        (hooks.AblateHeads([2]), 6, 21),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_places_that_depend_on_padding_are_counted_where_they_come(edit: Any, rows: int, entries: int) -> None:
    """Of two tokens behind padding, and of six without: the second has what the first lacks."""
    model = toy(n_heads=4)
    tokens = torch.tensor([[1, 2, 3, 4, 5, 6]])
    with intervening(model, edit) as (receipt,):
        for n_real in (2, 6):
            model(tokens, attention_mask=(torch.arange(6) >= 6 - n_real).long()[None])
    by_itself = 0
    if edit.name in ("patch-attention", "ablate-heads"):  # the two tokens have such places, too
        with intervening(model, edit) as (alone,):
            model(tokens[:, 4:])
        by_itself = alone.entries
    assert (receipt.fired, receipt.rows, receipt.entries) == (2, rows, entries + by_itself)


def test_a_receipt_is_counts_and_sizes_alone() -> None:
    """It keeps no model alive, and can be copied and pickled."""
    model, source = toy(), toy(seed=8)
    with intervening(model, hooks.During(hooks.MixAttention(0.5, hooks.PatchAttention(source)))) as (receipt,):
        advance(model, step=0)
        model(tokens_for(model))
    again = pickle.loads(pickle.dumps(copy.deepcopy(receipt)))
    assert isinstance(again, EditReceipt)
    assert (again.fired, again.active_steps, again.change) == (1, 1, receipt.change)
    assert again.describe() == receipt.describe()
    assert receipt.describe().startswith("PatchAttention(layers=None")
    ghost = weakref.ref(source)
    del source
    gc.collect()
    assert ghost() is None
