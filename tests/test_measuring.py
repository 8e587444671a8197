from typing import Any

import pytest
import torch
from torch import Tensor

from plateau_interp import metrics
from plateau_interp.decoding import greedy_answers
from plateau_interp.measuring import Meter
from plateau_interp.models import toy_model
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.training import stream_generator, train, training_batch

TASK = MovingWindowSum(n=5, p=7)


@pytest.mark.parametrize("attention", ["linear", "softmax"])
@pytest.mark.parametrize("n_layers", [1, 2])
def test_measures_are_those_of_a_forward_of_their_own(attention: Any, n_layers: int) -> None:
    model = toy_model(TASK, attention=attention, n_layers=n_layers, n_heads=2, d_model=16)
    twin = toy_model(TASK, attention=attention, n_layers=n_layers, n_heads=2, d_model=16)
    measured = next(train(model, TASK, steps=1, batch_size=8, meter=Meter(TASK, n_sequences=6))).metrics

    batch = training_batch(TASK, seed=0, step=0, batch_size=8)
    _, cache = twin.run_with_cache(batch.inputs)
    (target,) = TASK.optimal_attention(batch)
    assert target is not None
    pattern = cache[f"blocks.{n_layers - 1}.attn.hook_pattern"][:, :, 5:10]
    assert measured["attention_progress"] == pytest.approx(
        metrics.attention_progress(pattern, target[:, 5:10]).mean().item(), abs=1e-6
    )
    states = twin.ln_final(cache[f"blocks.{n_layers - 1}.hook_resid_post"])[:, 5:10]
    assert measured["cosine"] == pytest.approx(
        metrics.mean_pairwise_cosine(states, TASK.cosine_pairs()).mean().item(), abs=1e-6
    )
    tokens = TASK.sample(6, generator=stream_generator(0, "measuring", 0)).tokens
    answers, truth = greedy_answers(twin, TASK, tokens, cached=False), tokens[:, 6:]
    assert measured["accuracy"] == pytest.approx((answers == truth).float().mean().item())
    assert [measured[f"accuracy_{j}"] for j in range(5)] == pytest.approx((answers == truth).float().mean(0).tolist())
    assert measured["repetition"] == pytest.approx((answers[:, 1:] == answers[:, :-1]).float().mean().item())
    assert measured["repetition_truth"] == pytest.approx((truth[:, 1:] == truth[:, :-1]).float().mean().item())


def test_edits_attached_later_are_seen() -> None:
    model = toy_model(TASK, d_model=16)
    target = TASK.optimal_attention(training_batch(TASK, seed=0, step=0))[0]
    assert target is not None

    def only_target(pattern: Tensor, *, hook: Any) -> Tensor:
        return pattern * target

    steps = train(model, TASK, steps=2, batch_size=8, meter=Meter(TASK, n_sequences=2))
    assert next(steps).metrics["attention_progress"] < 0.9
    # No context, on purpose: with the cache the map would have to be cut, so decode nothing after this step.
    model.blocks[0].attn.hook_pattern.add_hook(
        lambda pattern, hook: only_target(pattern, hook=hook) if pattern.shape[-2] == 10 else None
    )
    assert next(steps).metrics["attention_progress"] == pytest.approx(1.0)


def test_no_hook_and_no_tensor_is_left_behind() -> None:
    model, meter = toy_model(TASK, d_model=16), Meter(TASK, n_sequences=2)
    for _ in train(model, TASK, steps=2, batch_size=4, meter=meter):
        assert not any(point.has_hooks() for point in model.hook_dict.values())
        assert meter._seen == {}


def test_a_task_without_a_map_has_no_attention_progress() -> None:
    class Unmapped(MovingWindowSum):
        def optimal_attention(self, batch: Any) -> Any:
            return [None]

    task = Unmapped(n=5, p=7)
    step = next(train(toy_model(task, d_model=16), task, steps=1, batch_size=4, meter=Meter(task, n_sequences=2)))
    assert "attention_progress" not in step.metrics
    assert "cosine" in step.metrics


@pytest.mark.parametrize("argument", ["every", "n_sequences"])
def test_bad_arguments_are_refused(argument: str) -> None:
    with pytest.raises(ValueError, match=f"{argument} must be at least 1; got 0"):
        Meter(TASK, **{argument: 0})


def test_it_is_due_at_multiples() -> None:
    assert [step for step in range(7) if Meter(TASK, every=3).is_due(step)] == [0, 3, 6]


def test_measures_do_not_depend_on_gradients_being_on() -> None:
    step = next(train(toy_model(TASK, d_model=16), TASK, steps=1, batch_size=4, meter=Meter(TASK, n_sequences=2)))
    assert not any(value.requires_grad for value in step.metric_tensors.values())
    assert torch.is_grad_enabled()
