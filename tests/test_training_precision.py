import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast, get_args

import pytest
import torch
from every_hook import CASES, acting, llama
from hook_cases import gpt_neox, recheck, tokens_for

from plateau_interp.codec import RecipeError
from plateau_interp.models import ToyTransformer, toy_model
from plateau_interp.models.settings import ModelOptions
from plateau_interp.runs import resuming
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.tasks import MatrixCompletion, MovingWindowSum
from plateau_interp.training import precision as module
from plateau_interp.training.batches import training_batch
from plateau_interp.training.loop import train
from plateau_interp.training.meter import Meter
from plateau_interp.training.optimizers import SGD
from plateau_interp.training.precision import Precision, check_precision, has_bfloat16, multiplying, time_gained
from plateau_interp.training.settings import MeasuringOptions, TrainingOptions
from plateau_interp.types import answer_rows

TASK = MovingWindowSum(n=4, p=7)
MIXED = Recipe(
    TASK,
    model=ModelOptions(d_model=16),
    training=TrainingOptions(steps=12, batch_size=8, precision="bfloat16-mixed"),
    measuring=MeasuringOptions(n_sequences=4),
    checkpoint_every=5,
)
CPU = torch.device("cpu")


def steps(model: ToyTransformer, **options: Any) -> list[float]:
    return [step.loss for step in train(model, TASK, **{"steps": 6, "batch_size": 8, **options})]


def trained(path: Path, recipe: Recipe, *, stop: int | None = None) -> Run:
    run = Run.create(path, recipe)
    for step in run.train():
        if step.step + 1 == stop:
            break
    return run


def test_it_is_the_plain_loop_under_autocast() -> None:
    by_hand, losses = toy_model(TASK, d_model=16), []
    for step in range(6):
        batch = training_batch(TASK, seed=0, step=step, batch_size=8)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = by_hand(batch.inputs)
        assert logits.dtype == torch.bfloat16
        loss = TASK.loss(logits.float(), batch)
        by_hand.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for parameter in by_hand.parameters():
                if parameter.grad is not None:
                    parameter -= 0.5 * parameter.grad
        losses.append(loss.item())
    model = toy_model(TASK, d_model=16)
    assert steps(model, optimizer=SGD(learning_rate=0.5), precision="bfloat16-mixed") == losses
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), by_hand.parameters(), strict=True))
    assert steps(toy_model(TASK, d_model=16), optimizer=SGD(learning_rate=0.5)) != losses


@pytest.mark.parametrize("task", [TASK, MatrixCompletion(shapes=((2, 2),))], ids=lambda task: task.name)
def test_weights_states_of_the_optimiser_losses_and_measures_stay_in_float32(task: Any) -> None:
    model = toy_model(task, d_model=16, n_heads=2)
    live = torch.optim.Adam(model.parameters())
    options: dict[str, Any] = {"steps": 2, "batch_size": 8, "optimizer": live, "meter": Meter(task, every=1)}
    for step in train(model, task, precision="bfloat16-mixed", **options):
        kinds = {step.loss_tensor.dtype, *(value.dtype for value in step.metric_tensors.values())}
        assert kinds <= {torch.float32, torch.float64}
        assert not torch.is_autocast_enabled("cpu")  # the caller's own code is in no other precision
    states = [value for state in live.state.values() for value in state.values()]
    assert {value.dtype for value in [*model.parameters(), *states]} == {torch.float32}


def test_a_run_in_mixed_precision_goes_on_and_is_forked_bit_for_bit(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", MIXED)
    stopped = trained(tmp_path / "stopped", MIXED, stop=7)
    for _ in Run(stopped.path).train():
        pass
    fork = whole.fork(at=8, out=tmp_path / "fork")
    for _ in fork.train():
        pass
    for other in (stopped, fork):
        for (name, weight), its in zip(whole.model().named_parameters(), other.model().parameters(), strict=True):
            assert torch.equal(weight, its), name
    assert stopped.metrics.equals(whole.metrics)
    plain = replace(MIXED, training=replace(MIXED.training, precision="float32"))
    assert not trained(tmp_path / "plain", plain).metrics.loss.equals(whole.metrics.loss)
    assert Recipe.from_json(MIXED.to_json()) == MIXED != plain


@pytest.mark.parametrize("build", [gpt_neox, llama], ids=["gpt-neox", "llama"])
@pytest.mark.parametrize("case", CASES)
def test_every_intervention_acts_under_autocast(case: str, build: Any) -> None:
    model = build()
    tokens = tokens_for(model, n=8)
    with acting(model, case):
        exact = model(tokens)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = model(tokens)
    assert mixed.dtype == torch.bfloat16
    # bfloat16 has 8 bits of mantissa: a product is off by up to 0.4 %, and a few of them follow each other.
    assert (mixed.float() - exact).abs().max() <= 0.05 * exact.abs().max()


def test_what_has_no_such_precision_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"precision must be one of float32, tf32, bfloat16-mixed; got 'bfloat16'"):
        recheck(TrainingOptions().resolved(TASK), precision="bfloat16")
    with pytest.raises(ValueError, match="precision tf32 is that of CUDA devices; got device 'cpu'"):
        steps(toy_model(TASK, d_model=16), precision="tf32")
    with pytest.raises(ValueError, match="bfloat16-mixed is for models whose dtype is float32; got float64"):
        steps(toy_model(TASK, d_model=16, dtype=torch.float64), precision="bfloat16-mixed")
    with pytest.raises(RecipeError, match=r"training\.precision bfloat16-mixed is for models whose dtype is float32"):
        replace(MIXED, model=ModelOptions(d_model=16, dtype="float64"))
    on_cuda = Run.create(tmp_path / "run", replace(MIXED, training=replace(MIXED.training, precision="tf32")))
    with pytest.raises(ValueError, match="precision tf32"):
        next(on_cuda.train())
    assert on_cuda.checkpoints == []
    with pytest.raises(ValueError, match="precision tf32"):
        on_cuda.recipe.check_device("cpu")
    assert not (on_cuda.path / "environment.json").exists()
    for precision in get_args(Precision):
        check_precision(precision, torch.float32)
        check_precision(precision, torch.float32, "cuda:1")


def test_the_gain_is_that_of_the_fastest_steps_and_leaves_the_model_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    model = toy_model(TASK, d_model=16)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    batch = training_batch(TASK, seed=0, step=0, batch_size=8)
    # Asked for twice at each step, where it begins and where it ends. The first pair does not count.
    times = iter([0, 90, 90, 91, 100, 104, 104, 107, 110, 114, 114, 116, 120, 129, 129, 134])
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: float(next(times))))
    assert time_gained("bfloat16-mixed", model, TASK, batch) == 2.0
    assert next(times, None) is None
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("somebody_s", ["tf32", "ieee", "none"])
def test_products_on_cuda_are_as_the_word_says_and_afterwards_as_before(somebody_s: str) -> None:
    products, there = torch.backends.cuda.matmul, torch.device("cuda")
    untouched = products.fp32_precision
    try:
        products.fp32_precision = somebody_s
        for precision, expected in (("float32", "ieee"), ("tf32", "tf32"), ("bfloat16-mixed", "ieee")):
            with multiplying(cast(Precision, precision), there):
                assert products.fp32_precision == expected
            assert products.fp32_precision == somebody_s
            with pytest.raises(KeyError), multiplying(cast(Precision, precision), there):
                raise KeyError
            assert products.fp32_precision == somebody_s
            with multiplying(cast(Precision, precision), CPU):
                assert products.fp32_precision == somebody_s
    finally:
        products.fp32_precision = untouched


@pytest.mark.parametrize(("gained", "has", "words"), [(0.5, True, 1), (0.5, False, 1), (0.95, True, 0), (1.5, True, 0)])
def test_a_line_says_where_it_does_not_pay(
    gained: float,
    has: bool,
    words: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(resuming, "time_gained", lambda *_: gained)
    monkeypatch.setattr(resuming, "has_bfloat16", lambda _: has)
    with caplog.at_level(logging.WARNING):
        run = trained(tmp_path / "run", MIXED, stop=6)
        for _ in run.train():  # going on, it is not said again
            pass
    said = "precision bfloat16-mixed: a step takes 2.0 times as long here as in float32"
    without = "" if has else "; this processor has neither AMX nor AVX-512-BF16"
    assert [record.getMessage() for record in caplog.records] == [said + without] * words


def test_the_processor_is_asked_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    for has, answer in (({"amx_bf16": True}, True), ({"avx512_bf16": True, "amx_bf16": False}, True), ({}, False)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has: has)
        assert has_bfloat16(CPU) is answer
        assert has_bfloat16(torch.device("cuda"))


def test_the_length_of_states_is_measured_in_float32() -> None:
    point = "blocks.0.hook_attn_out"
    meter = Meter(TASK, n_sequences=4, cosine_at=(point,))
    options: dict[str, Any] = {"steps": 1, "batch_size": 8, "precision": "bfloat16-mixed"}
    measured = next(train(toy_model(TASK, d_model=16), TASK, meter=meter, **options)).metric_tensors[f"norm@{point}"]
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        batch = training_batch(TASK, seed=0, step=0, batch_size=8)
        _, cache = toy_model(TASK, d_model=16).run_with_cache(batch.inputs, names_filter=point)
    assert cache[point].dtype == torch.bfloat16
    lengths = cache[point][:, answer_rows(TASK)].double().norm(dim=-1)
    assert measured.item() == pytest.approx(lengths.mean().item(), rel=1e-6)
    assert measured.dtype == torch.float32
