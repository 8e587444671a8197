"""Norms kept and rows clipped after updates: against steps by hand, under schedules and freezes, resumed and forked."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hook_cases import TASK, assert_untouched, toy
from torch import Tensor
from torch.optim import optimizer as torch_optimizers
from trained_runs import trained

from plateau_interp import MeasuringOptions, ModelOptions, Recipe, Run, TrainingOptions, advance
from plateau_interp.hooks import ClipRows, During, FreezeWeights, KeepNorm, ScaleGradient
from plateau_interp.interventions.attached import Intervention
from plateau_interp.interventions.attaching import InterventionWarning, attaching, intervening
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.training.batches import training_batch
from plateau_interp.training.loop import train
from plateau_interp.training.optimizers import SGD, Muon


def weights(model: Any) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def norm(values: dict[str, Tensor]) -> float:
    return sum(float(value.double().square().sum()) for value in values.values()) ** 0.5


def stepped_by_hand(model: Any, *, rate: float) -> dict[str, Tensor]:
    """The parameters after a plain step of gradient descent on the first batch."""
    batch = training_batch(TASK, seed=0, step=0, batch_size=8)
    TASK.loss(model(batch.inputs), batch).backward()
    after = {}
    for name, parameter in model.named_parameters():
        change = 0 if parameter.grad is None else rate * parameter.grad
        after[name] = (parameter - change).detach()
        parameter.grad = None
    return after


def one_step(model: Any, *interventions: Intervention, rate: float) -> dict[str, Tensor]:
    list(train(model, TASK, steps=1, batch_size=8, optimizer=SGD(rate), interventions=interventions))
    return weights(model)


def test_weights_of_0_have_no_norm_to_keep() -> None:
    """Biases begin with 0, and a first update without a gradient leaves them there."""
    model = toy()
    after = one_step(model, ScaleGradient(0.0), KeepNorm(where="*.b_*"), rate=0.1)
    assert all(value.isfinite().all() for value in after.values())


KINDS = [{"dtype": torch.float64}, {"dtype": torch.float64, "n_heads": 4, "n_layers": 2, "attention": "softmax"}]


@pytest.mark.parametrize("kind", KINDS)
def test_the_norm_of_all_weights_is_kept_as_by_hand(kind: dict[str, Any]) -> None:
    before = weights(toy(**kind))
    plain = stepped_by_hand(toy(**kind), rate=10.0)
    after = one_step(toy(**kind), KeepNorm(), rate=10.0)
    never_trained = "unembed.b_U"
    for values in (before, plain, after):
        assert torch.equal(values.pop(never_trained), dict(toy(**kind).named_parameters())[never_trained])
    factor = norm(before) / norm(plain)
    assert abs(factor - 1) > 1e-3
    for name, value in plain.items():
        torch.testing.assert_close(after[name], factor * value, rtol=1e-9, atol=1e-12)
    assert norm(after) == pytest.approx(norm(before), rel=1e-12)


def rows_by_hand(name: str, weight: Tensor) -> list[Tensor]:
    """The rows of a weight as PyTorch's layers have them, one by one; views of it."""
    kind = name.rsplit(".", 1)[-1]
    if kind in ("W_Q", "W_K", "W_V"):
        return [weight[head, :, unit] for head in range(weight.shape[0]) for unit in range(weight.shape[2])]
    if kind == "W_O":
        return [weight[:, :, unit] for unit in range(weight.shape[2])]
    if kind in ("W_E", "W_pos"):
        return list(weight)
    return [weight[:, unit] for unit in range(weight.shape[1])]


@pytest.mark.parametrize("where", ["blocks.*.*W_*", "embed.*", "*.W_*"])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_shortened_as_by_hand(kind: dict[str, Any], where: str) -> None:
    expected = stepped_by_hand(toy(**kind), rate=0.5)
    longest = []
    for name, value in expected.items():
        meant = ".W_" in name and (name.startswith("blocks.") or where == "*.W_*" or name == "embed.W_E")
        if meant and not (where == "embed.*" and name != "embed.W_E") and not (where[0] == "b" and name[0] != "b"):
            for row in rows_by_hand(name, value):
                longest.append(float(row.norm()))
                row *= min(1.0, 0.4 / longest[-1]) if longest[-1] else 1.0
    assert max(longest) > 0.4
    after = one_step(toy(**kind), ClipRows(0.4, where=where), rate=0.5)
    for name, value in expected.items():
        torch.testing.assert_close(after[name], value, rtol=1e-9, atol=1e-12)


def test_a_row_of_0_and_short_rows_stay_bit_for_bit() -> None:
    one, other = toy(), toy()
    for model in (one, other):
        with torch.no_grad():
            model.blocks[0].mlp.W_in[:, 0] = 0.0
    plain, clipped = one_step(one, rate=0.0001), one_step(other, ClipRows(1e6), rate=0.0001)
    assert all(torch.equal(clipped[name], value) for name, value in plain.items())


@pytest.mark.parametrize("make", [KeepNorm, lambda: ClipRows(0.3)], ids=["keep", "clip"])
def test_half_the_strength_is_half_the_change(make: Any) -> None:
    plain, whole = one_step(toy(), rate=0.5), one_step(toy(), make(), rate=0.5)
    half = one_step(toy(), During(make(), ramp=2), rate=0.5)
    assert any(not torch.equal(whole[name], value) for name, value in plain.items())
    for name, value in plain.items():
        torch.testing.assert_close(half[name], (value + whole[name]) / 2)
    with pytest.warns(InterventionWarning, match="never acts"):
        off = one_step(toy(), During(make(), start=5), rate=0.5)
    assert all(torch.equal(off[name], value) for name, value in plain.items())


def test_the_norm_is_that_of_the_step_at_which_it_begins_to_act() -> None:
    norms = []
    model = toy()
    schedule = During(KeepNorm(), start=2, stop=4)
    for _ in train(model, TASK, steps=6, batch_size=8, optimizer=SGD(0.5), interventions=[schedule]):
        norms.append(norm(weights(model)))
    assert norms[2] == pytest.approx(norms[1], rel=1e-6)
    assert norms[3] == pytest.approx(norms[1], rel=1e-6)
    assert norms[0] != pytest.approx(norms[1], rel=1e-4)
    assert norms[4] != pytest.approx(norms[1], rel=1e-4)


def test_what_is_frozen_is_neither_changed_nor_counted() -> None:
    model = toy()
    before = weights(model)
    frozen = ("embed.W_E", "pos_embed.W_pos")
    after = one_step(model, KeepNorm(), ClipRows(0.3, where="*.W_*"), FreezeWeights("embedding tables"), rate=0.5)
    assert all(torch.equal(after[name], before[name]) for name in frozen)
    model = toy()
    after = one_step(model, KeepNorm(), FreezeWeights("embedding tables"), rate=0.5)
    rest = [{name: value for name, value in values.items() if name not in frozen} for values in (before, after)]
    assert norm(rest[1]) == pytest.approx(norm(rest[0]), rel=1e-6)


def test_they_act_in_a_loop_of_one_s_own_and_on_no_other_model() -> None:
    model, other = toy(), toy()
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.5) for each in (model, other)]
    batch = training_batch(TASK, seed=0, step=0, batch_size=8)
    before = norm(weights(model))
    with intervening(model, KeepNorm()) as (receipt,):
        for step in range(3):
            advance(model, step=step)
            for each, optimizer in zip((model, other), optimizers, strict=True):
                optimizer.zero_grad()
                TASK.loss(each(batch.inputs), batch).backward()
                optimizer.step()
    assert receipt.fired == 3
    assert norm(weights(model)) == pytest.approx(before, rel=1e-6)
    assert norm(weights(other)) != pytest.approx(before, rel=1e-4)
    assert not torch_optimizers._global_optimizer_post_hooks
    assert_untouched(model)


def test_nothing_is_left_after_an_exception_and_idleness_is_told() -> None:
    model = toy()
    with pytest.raises(RuntimeError, match="stop"), intervening(model, KeepNorm(), ClipRows(1.0)):
        raise RuntimeError("stop")
    assert not torch_optimizers._global_optimizer_post_hooks
    with (
        pytest.warns(InterventionWarning, match=r"^ClipRows\(max_norm=1\.0, .* never fired"),
        intervening(model, ClipRows(1.0)),
    ):
        model(training_batch(TASK, seed=0, step=0, batch_size=2).inputs)


@pytest.mark.parametrize("where", ["norms", "mpl"])
def test_a_place_without_rows_is_refused(where: str) -> None:
    message = "means no weight matrix; it means blocks.0.ln1" if where == "norms" else "means no parameter of the model"
    with pytest.raises(ValueError, match=f"^'{where}' {message}"), attaching(toy(), ClipRows(1.0, where=where)):
        pass
    with pytest.raises(ValueError, match=r"^max_norm must be a positive number; got 0\.0$"):
        ClipRows(0.0)


def test_runs_go_on_bit_for_bit(tmp_path: Path) -> None:
    """Stopped and forked after the norm was taken, it is still that of step 2."""
    recipe = Recipe(
        MovingWindowSum(n=4, p=5),
        model=ModelOptions(d_model=8),
        training=TrainingOptions(steps=6, batch_size=4, optimizer=Muon()),
        measuring=MeasuringOptions(every=2, n_sequences=2),
        interventions=(During(KeepNorm(), start=2), ClipRows(0.2)),
        checkpoint_every=2,
    )
    whole = trained(Run.create(tmp_path / "whole", recipe))
    run = Run.create(tmp_path / "stopped", recipe)
    next(step for step in run.train() if step.step == 4)
    assert trained(Run(run.path)).metrics.equals(whole.metrics)
    fork = trained(whole.fork(at=4, out=tmp_path / "fork"))
    assert fork.metrics.equals(whole.metrics)
    for name, value in weights(whole.model()).items():
        assert torch.equal(value, dict(fork.model().named_parameters())[name])
