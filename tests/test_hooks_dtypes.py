"""Models in half precision and with grouped queries: dtypes are kept, metrics are float32, heads are named apart."""

import math
from typing import Any

import pytest
import torch
from every_hook import CASES, Z, acting, llama
from hook_cases import toy
from torch import Tensor

from plateau_interp import metrics
from plateau_interp.hooks import (
    AblateActivation,
    AblateHeads,
    AmplifySlowGradient,
    MaskAttention,
    PatchAttention,
    ScaleActivation,
    patch_by_head,
)
from plateau_interp.interventions.attaching import intervening

HALF = [torch.bfloat16, torch.float16]


def in_half(dtype: torch.dtype) -> Any:
    model = llama().to(dtype)
    model.cfg.dtype = dtype
    return model


TOKENS = torch.randint(0, 11, (3, 8), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_an_edit_keeps_the_dtype_of_the_model(case: str, dtype: torch.dtype) -> None:
    precise, model = llama(), in_half(dtype)
    mask = torch.ones_like(TOKENS)
    mask[0, :3] = 0
    logits = []
    for one in (precise, model):
        with acting(one, case) as (receipt,):
            logits.append(one(TOKENS, attention_mask=mask))
            logits[-1].float().logsumexp(dim=-1).mean().backward()
        assert case in ("transplant", "freeze", "keep norm", "clip rows") or math.isfinite(receipt.change)
        for parameter in one.parameters():
            gradient = parameter.grad
            assert gradient is None or (gradient.dtype == parameter.dtype and gradient.isfinite().all())
    assert logits[1].dtype == dtype
    # Some 20 roundings of 2**-9 or 2**-11 on the way to logits of about 4.
    torch.testing.assert_close(logits[1].float(), logits[0], atol=0.4 if dtype == torch.bfloat16 else 0.05, rtol=0.1)


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize(
    "edit", [AblateHeads([0], by="mean"), AblateActivation(Z, "mean"), AblateActivation(Z, "resample")]
)
def test_means_and_samples_keep_it_too(edit: Any, dtype: torch.dtype) -> None:
    model, mask = in_half(dtype), torch.ones_like(TOKENS)
    mask[0, :3] = 0
    with intervening(model, edit):
        assert model(TOKENS).dtype == model(TOKENS, attention_mask=mask).dtype == dtype


def test_slow_gradients_are_remembered_in_float32() -> None:
    model = in_half(torch.bfloat16)
    gradient = torch.full_like(model.W_E, 1.0)
    with intervening(model, AmplifySlowGradient(decay=0.999, gain=1.0)):
        (model.W_E * gradient).sum().backward()
        model.zero_grad()
        for _ in range(100):
            (model.W_E * 1.5 * gradient).sum().backward()
            found = model.W_E.grad[0, 0].item()
            model.zero_grad()
    slow = 1.5 - 0.5 * 0.999**100
    assert slow > 1.04
    assert found == pytest.approx(1.5 + slow, abs=2**-8 * 2.6)


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_metrics_are_float32_whatever_the_dtype(dtype: torch.dtype) -> None:
    base = torch.randn(1, 64, generator=torch.Generator().manual_seed(0))
    states = torch.stack([base, base + 0.05 * torch.randn(1, 64, generator=torch.Generator().manual_seed(1))], dim=1)
    half = states.to(dtype)
    for metric in (metrics.pairwise_cosine, metrics.mean_pairwise_cosine, metrics.effective_rank):
        assert metric(half).dtype == torch.float32
        torch.testing.assert_close(metric(half), metric(half.float()))
    assert 0.99 < metrics.mean_pairwise_cosine(half).item() < 0.9999
    pattern, target = torch.rand(2, 3, 8, 8).to(dtype), torch.eye(8, dtype=torch.bool)[None]
    torch.testing.assert_close(
        metrics.attention_progress(pattern, target), metrics.attention_progress(pattern.float(), target)
    )


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_a_task_s_loss_is_float32(dtype: torch.dtype) -> None:
    model = toy()
    batch = model.task.sample(4, generator=torch.Generator().manual_seed(0))
    output = model(batch.inputs).detach().to(dtype)
    loss = model.task.loss(output, batch)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, model.task.loss(output.float(), batch))


# Grouped queries: 4 heads, 2 key/value heads


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (ScaleActivation("blocks.0.attn.hook_k", 2.0, heads=[2]), "there is no key/value head 2: the model has 0 to 1"),
        (ScaleActivation("blocks.*.attn.hook_v", 2.0, heads=[3]), "there is no key/value head 3: the model has 0 to 1"),
        (ScaleActivation("blocks.0.attn.hook_q", 2.0, heads=[4]), "there is no head 4: the model has 0 to 3"),
        (ScaleActivation(Z, 2.0, heads=[4]), "there is no head 4: the model has 0 to 3"),
        (AblateHeads([4]), "there is no head 4: the model has 0 to 3"),
        (MaskAttention(keys=[0], heads=[5]), "there is no head 5: the model has 0 to 3"),
        (PatchAttention(torch.eye(16), heads=[6]), "there is no head 6: the model has 0 to 3"),
    ],
)
def test_heads_and_key_value_heads_are_named_apart(edit: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        intervening(llama(), edit).__enter__()


def test_a_key_value_head_serves_its_group() -> None:
    model = llama()
    mask = MaskAttention(keys=[0], heads=[0])

    def changed(name: str, *edits: Any) -> list[bool]:
        before = model.run_with_cache(TOKENS)[1][name]
        with intervening(model, *edits):
            after = model.run_with_cache(TOKENS)[1][name]
        return [not torch.equal(before[:, :, head], after[:, :, head]) for head in range(4)]

    assert changed(Z, ScaleActivation("blocks.0.attn.hook_v", 2.0, heads=[1])) == [False, False, True, True]
    assert changed(Z, mask) == [True, False, False, False]


def test_patching_by_head_has_a_column_for_each_head_there() -> None:
    model, clean, corrupted = llama(), TOKENS[:1], TOKENS[1:2]

    def metric(logits: Tensor) -> Tensor:
        return logits[:, -1, 0].mean()

    assert patch_by_head(model, metric, clean=clean, corrupted=corrupted).shape == (2, 4)
    assert patch_by_head(model, metric, clean=clean, corrupted=corrupted, at="attn.hook_v").shape == (2, 2)
