"""Padding changes nothing: under every intervention a padded batch is what its sequences are alone.

So it is by plateau_interp.hooks.targeted_attention, plateau_interp.hooks.patched_attention,
plateau_interp.hooks.attention_maps, plateau_interp.hooks.readable and what is not of attention.
"""

import copy
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from every_hook import CASES, RESID, SILENT, Z, acting, causal_map, llama, other
from hook_cases import Pointer, gpt_neox, local_softmax, toy
from torch import Tensor
from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

from plateau_interp import hooks
from plateau_interp.hooks import (
    AblateActivation,
    AblateHeads,
    BiasAttention,
    FixAttention,
    MaskAttention,
    PatchActivation,
    PatchAttention,
)
from plateau_interp.interventions.attached import Intervention
from plateau_interp.interventions.attaching import intervening
from plateau_interp.interventions.padding import layout_of

LENGTHS = (8, 3, 5, 6)


MODELS: dict[str, Callable[[], Any]] = {
    "llama": llama,
    "neox": gpt_neox,
    "local": local_softmax,
    "softmax": lambda: toy(attention="softmax", n_layers=2, n_heads=4, n_ctx=12),
    "linear": lambda: toy(n_layers=2, n_heads=4, n_ctx=12),
}


def test_every_intervention_of_the_package_is_here() -> None:
    measuring = {hooks.QueryKeyCapacity, hooks.VillaniDiagnostic}  # they edit nothing, and the second asks for a task
    exported = {cls for cls in vars(hooks).values() if inspect.isclass(cls) and cls.__name__ in hooks.__all__}
    there = {type(case(toy(n_layers=2, n_heads=4))) for case in CASES.values()}
    assert there == exported - measuring


def sequences(model: Any) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, model.cfg.d_vocab, (n,), generator=generator) for n in LENGTHS]


def pad(rows: list[Tensor], side: str) -> tuple[Tensor, Tensor]:
    """A batch and its mask; what stands in the padding is no token in particular."""
    longest = max(map(len, rows))
    tokens = torch.full((len(rows), longest), 1)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for index, row in enumerate(rows):
        part = slice(longest - len(row), None) if side == "left" else slice(len(row))
        tokens[index, part], mask[index, part] = row, 1
    return tokens, mask


every_case = pytest.mark.parametrize("case", CASES)
every_model = pytest.mark.parametrize("model_name", MODELS)


@every_case
@every_model
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_padded_batch_is_its_sequences_alone(case: str, model_name: str, side: str) -> None:
    model = MODELS[model_name]()
    rows = sequences(model)
    tokens, mask = pad(rows, side)
    plain = model(tokens, attention_mask=mask)
    with acting(model, case):
        batch = model(tokens, attention_mask=mask)
        for index, row in enumerate(rows):
            alone = model(row[None])[0]
            torch.testing.assert_close(batch[index, mask[index] == 1], alone, atol=1e-5, rtol=1e-5)
    assert (not torch.allclose(batch, plain)) == (case not in SILENT), "it acts, or the test says nothing"


@every_case
@pytest.mark.parametrize("model_name", ["llama", "softmax"])
def test_a_padded_batch_goes_on_from_a_cache_as_its_sequences_do(case: str, model_name: str) -> None:
    model = MODELS[model_name]()
    rows = sequences(model)
    new = torch.tensor([[3, 1, 2], [2, 2, 4], [0, 5, 1], [1, 1, 1]])

    def written(tokens: Tensor, mask: Tensor, new: Tensor) -> Tensor:
        cache = TransformerLensKeyValueCache.init_cache(model.cfg, "cpu", len(tokens))
        pieces = [(tokens, mask), *((new[:, i : i + 1], torch.ones(len(new), 1, dtype=torch.long)) for i in range(3))]
        return torch.cat(
            [model(part, past_kv_cache=cache, attention_mask=mask)[:, -1:] for part, mask in pieces], dim=1
        )

    with acting(model, case):
        batch = written(*pad(rows, "left"), new)
        for index, row in enumerate(rows):
            alone = written(row[None], torch.ones(1, len(row), dtype=torch.long), new[index : index + 1])[0]
            torch.testing.assert_close(batch[index], alone, atol=1e-5, rtol=1e-5)


def test_a_source_of_a_batch_lies_as_the_batch_does() -> None:
    model, twin = llama(), other(llama())
    rows = sequences(model)
    tokens, mask = pad(rows, "left")
    cache = twin.run_with_cache(tokens, attention_mask=mask)[1]
    for patch, of_model in (
        (PatchAttention(cache, rows=[0, -1]), PatchAttention(twin, rows=[0, -1])),
        (PatchActivation(RESID, cache, positions=[0, -1]), PatchActivation(RESID, twin, positions=[0, -1])),
    ):
        with intervening(model, patch):
            expected = model(tokens, attention_mask=mask)
        with intervening(model, of_model):
            assert torch.equal(model(tokens, attention_mask=mask), expected)


def test_targets_of_the_task_follow_each_sequence() -> None:
    model = toy(task=Pointer(), n_layers=2, n_ctx=12)
    full = Pointer().sample(3, generator=torch.Generator().manual_seed(0)).inputs
    rows = [full[0], full[1, :5], full[2, :6]]
    tokens, mask = pad(rows, "left")
    for edit in (FixAttention(), BiasAttention(rows=[5, 6]), MaskAttention(at="pattern")):
        with intervening(model, edit):
            batch = model(tokens, attention_mask=mask)
            for index, row in enumerate(rows):
                torch.testing.assert_close(batch[index, mask[index] == 1], model(row[None])[0], atol=1e-5, rtol=1e-5)


def test_a_map_for_each_sequence_is_laid_over_its_own_tokens() -> None:
    model = llama()
    rows = sequences(model)
    tokens, mask = pad(rows, "left")
    maps = torch.stack([causal_map(16, seed=seed) for seed in range(4)])
    with intervening(model, FixAttention(targets=maps)):
        batch = model(tokens, attention_mask=mask)
        with pytest.raises(ValueError, match="targets are for 4 sequences, but the forward has 3"):
            model(tokens[:3], attention_mask=mask[:3])
    for index, row in enumerate(rows):
        with intervening(model, FixAttention(targets=maps[index])):
            torch.testing.assert_close(batch[index, mask[index] == 1], model(row[None])[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("at", ["pattern", "scores"])
def test_masked_keys_at_the_scores(at: Any) -> None:
    model = llama()
    rows = sequences(model)
    tokens, mask = pad(rows, "left")
    with intervening(model, MaskAttention(keys=[-2], rows=[-1], at=at)):
        batch = model(tokens, attention_mask=mask)
        for index, row in enumerate(rows):
            torch.testing.assert_close(batch[index, mask[index] == 1], model(row[None])[0], atol=1e-5, rtol=1e-5)
    with (
        pytest.raises(ValueError, match="row 2 would have no key left"),
        intervening(model, MaskAttention(keys=[-1, -2, -3], rows=[-1], at="scores")),
    ):
        model(tokens, attention_mask=mask)


def test_no_row_reads_padding() -> None:
    model = llama()
    tokens, mask = pad(sequences(model), "left")
    for case in ("fix", "bias every row", "patch attention", "patch attention by a model", "mix", "uniform heads"):
        with intervening(model, CASES[case](model)):
            pattern = model.run_with_cache(tokens, attention_mask=mask)[1]["pattern", 1]
        on_padding = pattern * (mask == 0)[:, None, None, :] * mask[:, None, :, None]
        assert on_padding.abs().max() == 0, case


# Means and samples over the batch: of those sequences that have the position


def at_position(act: Tensor, mask: Tensor, position: int) -> list[Tensor | None]:
    """What each sequence has there, one by one."""
    real = [act[index, row == 1] for index, row in enumerate(mask)]
    return [own[position] if position < len(own) else None for own in real]


@pytest.mark.parametrize("by", ["mean", "common"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_mean_of_activations_is_that_of_the_sequences_that_have_the_position(side: str, by: Any) -> None:
    model = llama()
    tokens, mask = pad(sequences(model), side)
    before = model.run_with_cache(tokens, attention_mask=mask)[1][Z]
    with intervening(model, AblateActivation(Z, by, heads=[1])):
        after = model.run_with_cache(tokens, attention_mask=mask)[1][Z]
    for position in range(max(LENGTHS)):
        there = [own for own in at_position(before, mask, position) if own is not None]
        for own, was in zip(at_position(after, mask, position), at_position(before, mask, position), strict=True):
            if own is not None and was is not None:
                mean = torch.stack(there).mean(dim=0)[1]
                torch.testing.assert_close(own[1], mean if by == "mean" else was[1] - mean)
                assert torch.equal(own[0], was[0])
    torch.testing.assert_close(after[mask == 0], before[mask == 0], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("seed", [0, 1, 5])
def test_a_sample_of_activations_is_of_the_next_sequence_that_has_the_position(seed: int) -> None:
    model = llama()
    tokens, mask = pad(sequences(model), "left")
    before = model.run_with_cache(tokens, attention_mask=mask)[1][Z]
    with intervening(model, AblateActivation(Z, "resample", seed=seed)):
        after = model.run_with_cache(tokens, attention_mask=mask)[1][Z]
    n = len(tokens)
    for position in range(max(LENGTHS)):
        was = at_position(before, mask, position)
        for index, own in enumerate(at_position(after, mask, position)):
            if own is None:
                continue
            others = [was[(index + 1 + (seed + further) % (n - 1)) % n] for further in range(n - 1)]
            expected = next((one for one in others if one is not None), was[index])
            assert expected is not None
            assert torch.equal(own, expected)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_mean_of_patterns_is_that_of_the_sequences_that_have_the_row(side: str) -> None:
    model = llama()
    tokens, mask = pad(sequences(model), side)
    before = model.run_with_cache(tokens, attention_mask=mask)[1]["pattern", 0]
    with intervening(model, AblateHeads([2], by="mean")):
        after = model.run_with_cache(tokens, attention_mask=mask)[1]["pattern", 0]
    real = mask == 1
    squares = [pattern[2][own][:, own] for pattern, own in zip(before, real, strict=True)]
    for index, own in enumerate(real):
        for row in range(LENGTHS[index]):
            having = [square[row, : row + 1] for square in squares if len(square) > row]
            torch.testing.assert_close(after[index, 2][own][:, own][row, : row + 1], torch.stack(having).mean(dim=0))
        assert torch.equal(after[index, [0, 1, 3]], before[index, [0, 1, 3]])
        assert not after[index, 2][own][:, ~own].any()


@pytest.mark.parametrize(
    "edit",
    [
        AblateHeads([0], by="mean"),
        AblateActivation(Z, "mean"),
        AblateActivation(Z, "common"),
        AblateActivation(Z, "resample"),
    ],
)
def test_what_is_taken_from_other_sequences_needs_them_at_once(edit: Intervention) -> None:
    model = llama()
    tokens, mask = pad(sequences(model), "left")
    cache = TransformerLensKeyValueCache.init_cache(model.cfg, "cpu", len(tokens))
    with intervening(model, edit):
        model(tokens, past_kv_cache=cache, attention_mask=mask)
        with pytest.raises(ValueError, match="with padding, run without a key/value cache"):
            model(tokens[:, :1], past_kv_cache=cache, attention_mask=mask[:, -1:])


# The mask


def test_a_mask_of_ones_changes_no_bit() -> None:
    model = llama()
    tokens = torch.stack([row[:3] for row in sequences(model)])
    for case in CASES:
        with acting(model, case):
            assert torch.equal(model(tokens, attention_mask=torch.ones_like(tokens)), model(tokens))


def test_embeddings_of_a_padded_batch_are_edited_in_their_place_or_not_at_all() -> None:
    model = llama()
    tokens, mask = pad(sequences(model), "left")
    with intervening(model, AblateActivation("hook_embed", positions=[1])):
        expected = model(tokens, attention_mask=mask)
        with pytest.raises(ValueError, match="which tokens are padding, which it does not know: call the model itself"):
            model.run_with_hooks(tokens, attention_mask=mask)
        assert torch.equal(model(tokens, attention_mask=mask), expected)


def test_a_copy_made_inside_follows_its_own_forwards() -> None:
    model = llama()
    tokens, mask = pad(sequences(model), "left")
    with intervening(model, CASES["fix"](model)):
        expected = model(tokens, attention_mask=mask)
        twin = copy.deepcopy(model)
        short = twin(tokens[:1, :4])
        assert torch.equal(model(tokens, attention_mask=mask), expected)
        assert torch.equal(twin(tokens, attention_mask=mask), expected)
        assert torch.equal(twin(tokens[:1, :4]), short)


def test_a_layout_by_hand() -> None:
    layout = layout_of(torch.tensor([[0, 0, 1, 1], [1, 1, 0, 0], [1, 0, 1, 1]]))
    assert layout is not None
    assert layout.place.tolist() == [[-1, -1, 0, 1], [0, 1, -1, -1], [0, -1, 1, 2]]
    assert layout.length.tolist() == [2, 2, 3]
    assert layout.columns()[2].tolist() == [0, 2, 3]
    assert layout.meant([-1, 0]).int().tolist() == [[0, 0, 1, 1], [1, 1, 0, 0], [1, 0, 0, 1]]
    assert layout.meant([-3]).int().tolist() == [[0] * 4, [0] * 4, [1, 0, 0, 0]]
    assert layout_of(torch.ones(2, 3)) is None
    with pytest.raises(ValueError, match="the map covers 2 positions, but the forward has 3"):
        layout.spread(torch.eye(2), query=4)
