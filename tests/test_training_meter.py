import math
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from filled import FilledNumbers, FilledTokens
from ragged import Ragged
from reference import metrics as slow
from torch import Tensor
from transformer_lens import HookedTransformer, HookedTransformerConfig
from typecheck import unchecked

from plateau_interp import metrics
from plateau_interp.decoding import greedy_answers
from plateau_interp.hooks import AmplifySlowGradient, FixAttention, ScaleGradient, When
from plateau_interp.models import toy_model
from plateau_interp.models.settings import ModelOptions
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.tasks import (
    Histogram,
    MatrixCompletion,
    Mixture,
    ModularArithmetic,
    MovingWindowSum,
    PrefixSum,
    Text,
    WrittenCompletion,
)
from plateau_interp.training.batches import stream_generator, training_batch
from plateau_interp.training.loop import train
from plateau_interp.training.meter import Meter, MeterWarning
from plateau_interp.training.settings import MeasuringOptions, TrainingOptions
from plateau_interp.types import IGNORE, Batch, Task, answer_rows

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
    size = len(pickle.dumps(meter))
    for _ in train(model, TASK, steps=2, batch_size=4, meter=meter):
        assert not any(point.has_hooks() for point in model.hook_dict.values())
        assert len(pickle.dumps(meter)) == size


def test_a_task_without_a_map_has_no_attention_progress() -> None:
    class Unmapped(MovingWindowSum):
        def optimal_attention(self, batch: Any) -> Any:
            return [None]

    task = Unmapped(n=5, p=7)
    step = next(train(toy_model(task, d_model=16), task, steps=1, batch_size=4, meter=Meter(task, n_sequences=2)))
    assert "attention_progress" not in step.metrics
    assert "cosine" in step.metrics


MIXTURE = Mixture(
    (MovingWindowSum(n=5, p=7, scored="answer"), Histogram(n=5, high=4, scored="answer")), shares=(1.0, 2.0)
)


@pytest.mark.parametrize("n_layers", [1, 2])
def test_groups_are_measured_as_batches_of_their_own(n_layers: int) -> None:
    mixture = Mixture((MovingWindowSum(n=5, p=7, k=3, scored="answer"), PrefixSum(n=5, p=7, scored="answer")))
    model = toy_model(mixture, n_layers=n_layers, d_model=16)
    twin = toy_model(mixture, n_layers=n_layers, d_model=16)
    measured = next(train(model, mixture, steps=1, batch_size=9, meter=Meter(mixture, n_sequences=7))).metrics

    batch = training_batch(mixture, seed=0, step=0, batch_size=9)
    drawn = mixture.sample(7, generator=stream_generator(0, "measuring", 0))
    for index, (group, n_trained, n_decoded) in enumerate([("moving_window_sum", 4, 3), ("prefix_sum", 5, 4)]):
        own = batch.tokens[batch.tokens[:, 5] == mixture.first_separator + index]
        assert len(own) == n_trained
        output, cache = twin.run_with_cache(own[:, :-1])
        loss = torch.nn.functional.cross_entropy(output[:, 5:].flatten(0, 1), own[:, 6:].flatten())
        assert measured[f"loss_{group}"] == pytest.approx(loss.item(), abs=1e-6)
        patterns = [cache[f"blocks.{layer}.attn.hook_pattern"][:, :, 5:10].abs() for layer in range(n_layers)]
        (target,) = mixture.tasks[index].optimal_attention(batch)
        assert target is not None
        target = target[:, 5:10]
        without = patterns[-1].clone()
        without[..., 5] = 0
        assert measured[f"attention_progress_{group}"] == pytest.approx(
            metrics.attention_progress(patterns[-1], target).mean().item(), abs=1e-6
        )
        assert measured[f"attention_progress_without_separator_{group}"] == pytest.approx(
            metrics.attention_progress(without, target).mean().item(), abs=1e-6
        )
        on_separator = torch.stack([p[..., 5].sum(dim=(1, 2)) / p.sum(dim=(1, 2, 3)) for p in patterns])
        assert measured[f"attention_separator_{group}"] == pytest.approx(on_separator.mean().item(), abs=1e-6)
        states = twin.ln_final(cache[f"blocks.{n_layers - 1}.hook_resid_post"])[:, 5:10]
        cosine = metrics.mean_pairwise_cosine(states, mixture.cosine_pairs()).mean().item()
        assert measured[f"cosine_{group}"] == pytest.approx(cosine, abs=1e-6)

        tokens = drawn.tokens[drawn.tokens[:, 5] == mixture.first_separator + index]
        assert len(tokens) == n_decoded
        answers, truth = greedy_answers(twin, mixture, tokens, cached=False), tokens[:, 6:]
        assert measured[f"accuracy_{group}"] == pytest.approx((answers == truth).float().mean().item())
        for name, side in [("repetition", answers), ("repetition_truth", truth)]:
            assert measured[f"{name}_{group}"] == pytest.approx((side[:, 1:] == side[:, :-1]).float().mean().item())


def test_all_sequences_together_are_the_mean_of_their_groups() -> None:
    meter = Meter(MIXTURE, n_sequences=6)
    measured = next(train(toy_model(MIXTURE, d_model=16), MIXTURE, steps=1, batch_size=9, meter=meter))
    for name in ("accuracy", "repetition", "repetition_truth", "attention_separator", "cosine"):
        each = [measured.metrics[f"{name}_{group}"] for group in ("moving_window_sum", "histogram")]
        assert measured.metrics[name] == pytest.approx((each[0] + 2 * each[1]) / 3, abs=1e-6)
    losses = [measured.metrics[f"loss_{group}"] for group in ("moving_window_sum", "histogram")]
    assert measured.loss == pytest.approx((losses[0] + 2 * losses[1]) / 3, abs=1e-6)
    assert not any(name.startswith("attention_progress") for name in measured.metrics)  # one of the two has no map


def test_groups_have_the_loss_of_logits_as_they_are_capped() -> None:
    model = toy_model(MIXTURE, d_model=16, init_std=2.0)
    model.cfg.output_logits_soft_cap = 1.0
    step = next(train(model, MIXTURE, steps=1, batch_size=12, meter=Meter(MIXTURE, n_sequences=6)))
    losses = [value for name, value in step.metrics.items() if name.startswith("loss_")]
    assert min(losses) - 1e-5 <= step.loss <= max(losses) + 1e-5


def test_a_group_that_a_batch_lacks_is_not_a_number() -> None:
    meter = Meter(MIXTURE, n_sequences=1)
    measured = next(train(toy_model(MIXTURE, d_model=16), MIXTURE, steps=1, batch_size=2, meter=meter)).metrics
    assert math.isnan(measured["accuracy_moving_window_sum"])
    assert math.isnan(measured["loss_moving_window_sum"])
    assert measured["accuracy_histogram"] == measured["accuracy"]


def test_measuring_groups_does_not_change_the_run() -> None:
    def losses(meter: Meter | None) -> list[float]:
        model = toy_model(MIXTURE, d_model=16)
        return [step.loss for step in train(model, MIXTURE, steps=20, batch_size=6, meter=meter)]

    assert losses(Meter(MIXTURE, n_sequences=4)) == losses(None)


def test_a_condition_may_read_a_group_s_column() -> None:
    acts = When(ScaleGradient(0.0, where="mlp"), condition="loss_moving_window_sum < 100")
    model = toy_model(MIXTURE, d_model=16)
    steps = train(model, MIXTURE, steps=2, batch_size=6, interventions=(acts,), meter=Meter(MIXTURE, n_sequences=4))
    moved = []
    for _ in steps:
        gradient = model.blocks[0].mlp.W_in.grad
        assert gradient is not None
        moved.append(bool(gradient.any()))
    assert moved == [True, False]


@pytest.mark.parametrize("argument", ["every", "n_sequences"])
def test_bad_arguments_are_refused(argument: str) -> None:
    with pytest.raises(ValueError, match=f"{argument} must be at least 1; got 0"):
        Meter(TASK, **{argument: 0})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "m"}, r"^expected a model; got 'm'$"),
        ({"batch": 5}, r"^batch must be a Batch\(tokens, labels\); got 5$"),
        ({"generator": 5}, r"^generator must be a torch.Generator; got 5$"),
        ({}, r"^the meter saw no forward: make one in `with meter.watching\(model\):` before each measure$"),
    ],
)
def test_what_cannot_be_measured_is_refused(changes: dict[str, Any], message: str) -> None:
    batch = TASK.sample(2, generator=torch.Generator())
    given = {"model": toy_model(TASK, d_model=16), "batch": batch, "generator": torch.Generator(), **changes}
    with pytest.raises(ValueError, match=message):
        unchecked(Meter.measure)(Meter(TASK), given["model"], given["batch"], generator=given["generator"])


def test_it_is_due_at_multiples() -> None:
    assert [step for step in range(7) if Meter(TASK, every=3).is_due(step)] == [0, 3, 6]


def test_measures_do_not_depend_on_gradients_being_on() -> None:
    step = next(train(toy_model(TASK, d_model=16), TASK, steps=1, batch_size=4, meter=Meter(TASK, n_sequences=2)))
    assert not any(value.requires_grad for value in step.metric_tensors.values())
    assert torch.is_grad_enabled()


def test_collapse_can_be_measured_at_any_hook_point() -> None:
    model = toy_model(TASK, d_model=16, n_layers=2)
    points = ("blocks.0.hook_resid_pre", "blocks.1.hook_attn_out", "unembed.hook_in")
    step = next(train(model, TASK, steps=1, batch_size=8, meter=Meter(TASK, n_sequences=4, cosine_at=points)))
    _, cache = toy_model(TASK, d_model=16, n_layers=2).run_with_cache(
        training_batch(TASK, seed=0, step=0, batch_size=8).inputs, names_filter=list(points)
    )
    for point in points:
        states = cache[point][:, answer_rows(TASK)]
        cosine = metrics.mean_pairwise_cosine(states, TASK.cosine_pairs()).mean().item()
        assert step.metrics[f"cosine@{point}"] == pytest.approx(cosine, abs=1e-6)
        assert step.metrics[f"norm@{point}"] == pytest.approx(states.norm(dim=-1).mean().item(), rel=1e-5)
    assert step.metrics["cosine@unembed.hook_in"] == step.metrics["cosine"]


def test_a_hook_point_that_is_not_there_is_refused_with_the_nearest() -> None:
    meter = Meter(TASK, cosine_at=("blocks.0.hook_attn_outt",))
    with pytest.raises(ValueError, match=r"blocks\.0\.hook_attn_outt.*blocks\.0\.hook_attn_out"):
        next(train(toy_model(TASK, d_model=16), TASK, steps=1, meter=meter))


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ("blocks.0.attn.hook_z", r"blocks\.0\.attn\.hook_z holds \(1, .*, 1, 16\); expected \[batch, pos, width\]"),
        ("blocks.0.attn.hook_pattern", r"hook_pattern holds .* expected"),
        ("blocks.0.hook_attn_in", r"does not fire while cfg\.use_attn_in is off"),
        ("blocks.*.hook_attn_out", "one by one; 'blocks.*.hook_attn_out' stands for several"),
    ],
)
def test_a_hook_point_of_another_shape_is_refused_before_there_is_a_folder(
    point: str, message: str, tmp_path: Path
) -> None:
    options = ModelOptions(d_model=16)
    recipe = Recipe(TASK, model=options, measuring=MeasuringOptions(cosine_at=(point,)))
    with pytest.raises(ValueError, match=message):
        Run.create(tmp_path / "run", recipe)
    assert not list(tmp_path.iterdir())


FINITE = ModularArithmetic(p=7, operations=("add", "divide"))


def _online_metrics() -> dict[str, float]:
    return next(train(toy_model(TASK, d_model=16), TASK, steps=1, meter=Meter(TASK, n_sequences=2))).metrics


@pytest.mark.parametrize("finite", [FINITE, ModularArithmetic(p=5)], ids=["two operations", "one"])
def test_a_finite_tasks_sets_are_measured_whole(finite: ModularArithmetic) -> None:
    model, twin = (toy_model(finite, attention="softmax", n_heads=2, d_model=16) for _ in range(2))
    measured = next(train(model, finite, steps=1, batch_size=8, meter=Meter(finite))).metrics
    for batch, prefix in [(finite.train_set, ""), (finite.validation_set, "validation_")]:
        logits = twin(batch.inputs)[:, -1]
        right = (logits.argmax(dim=-1) == batch.tokens[:, -1]).float()
        loss = torch.nn.functional.cross_entropy(logits, batch.tokens[:, -1], reduction="none")
        assert measured[f"{prefix}accuracy"] == pytest.approx(right.mean().item())
        if prefix:
            assert measured["validation_loss"] == pytest.approx(loss.mean().item(), abs=1e-6)
        for group, mask in finite.groups(batch).items():
            assert measured[f"{prefix}accuracy_{group}"] == pytest.approx(right[mask].mean().item())
            if prefix:
                assert measured[f"validation_loss_{group}"] == pytest.approx(loss[mask].mean().item(), abs=1e-6)
    several = {"attention_progress_add", "loss_add", "accuracy_divide", "validation_accuracy_divide"}
    assert several <= set(measured) or len(finite.operations) == 1
    assert not {"cosine", "repetition", "accuracy_0", "accuracy_divide_0"} & set(measured)
    assert all(value == value for value in measured.values())
    assert "validation_loss" not in _online_metrics()


@dataclass(frozen=True)
class FiniteSum(MovingWindowSum):
    """Ten sequences to train on and six to validate, with answers of several tokens."""

    @property
    def train_set(self) -> Batch:
        return self.sample(10, generator=torch.Generator().manual_seed(1))

    @property
    def validation_set(self) -> Batch:
        return self.sample(6, generator=torch.Generator().manual_seed(2))


def test_answers_of_several_tokens_are_decoded() -> None:
    task = FiniteSum(n=5, p=7)
    model, twin = (toy_model(task, d_model=16) for _ in range(2))
    measured = next(train(model, task, steps=1, batch_size=4, meter=Meter(task))).metrics
    for batch, name in [(task.train_set, "accuracy"), (task.validation_set, "validation_accuracy")]:
        answers = greedy_answers(twin, task, batch.tokens, cached=False)
        assert measured[name] == pytest.approx((answers == batch.tokens[:, task.answer]).float().mean().item())
    batch = task.validation_set
    assert measured["validation_loss"] == pytest.approx(task.loss(twin(batch.inputs), batch).item(), abs=1e-6)
    assert {"cosine", "repetition", "accuracy_4"} <= set(measured)


@pytest.mark.parametrize("task", [FINITE, FiniteSum(n=5, p=7)], ids=lambda task: task.name)
@pytest.mark.parametrize("interventions", [(), (AmplifySlowGradient(), FixAttention(total=0.5))])
def test_measuring_a_finite_task_changes_no_bit(task: Any, interventions: Any) -> None:
    def trained(meter: Meter | None) -> tuple[list[float], list[Tensor]]:
        model = toy_model(task, d_model=16)
        steps = train(model, task, steps=9, batch_size=7, interventions=interventions, meter=meter)
        return [step.loss for step in steps], [parameter.detach() for parameter in model.parameters()]

    (losses, weights), (plain_losses, plain_weights) = trained(Meter(task, every=2)), trained(None)
    assert losses == plain_losses
    assert all(torch.equal(a, b) for a, b in zip(weights, plain_weights, strict=True))


def test_interventions_act_on_the_validation_set_too() -> None:
    def measured(*interventions: Any) -> dict[str, float]:
        model = toy_model(FINITE, d_model=16)
        steps = train(model, FINITE, steps=1, batch_size=8, interventions=interventions, meter=Meter(FINITE))
        return next(steps).metrics

    plain, fixed = measured(), measured(FixAttention())
    assert fixed["validation_loss"] != plain["validation_loss"]


def test_of_an_answer_of_one_token_the_norm_at_a_hook_point_is_measured() -> None:
    point = "blocks.0.hook_resid_pre"
    model, twin = (toy_model(FINITE, d_model=16) for _ in range(2))
    measured = next(train(model, FINITE, steps=1, batch_size=8, meter=Meter(FINITE, cosine_at=(point,)))).metrics
    _, cache = twin.run_with_cache(training_batch(FINITE, seed=0, step=0, batch_size=8).inputs)
    states = cache[point][:, answer_rows(FINITE)]
    assert measured[f"norm@{point}"] == pytest.approx(states.norm(dim=-1).mean().item(), rel=1e-5)
    assert f"cosine@{point}" not in measured


def measured_in_gaps(task: Task) -> tuple[Batch, Tensor, dict[str, Tensor]]:
    """A batch of a task that is filled in, a model's output for it, and what is measured of it."""
    model, meter = toy_model(task), Meter(task)
    batch = task.sample(20, generator=torch.Generator().manual_seed(0))
    with meter.watching(model):
        output = model(batch.inputs)
    return batch, output, meter.measure(model, batch, generator=torch.Generator())


def test_of_tokens_that_are_filled_in_the_scored_ones_are_counted():
    task = FilledTokens()
    batch, output, found = measured_in_gaps(task)
    scored = batch.labels != -100
    expected = (output.argmax(dim=-1) == batch.labels)[scored].float().mean()
    assert found["accuracy"].item() == pytest.approx(expected.item())
    assert found.keys() == {"accuracy", "attention_progress", "cosine"}


def test_of_numbers_there_is_no_accuracy_and_attention_is_that_of_all_positions():
    task = FilledNumbers()
    model, meter = toy_model(task), Meter(task)
    batch = task.sample(20, generator=torch.Generator().manual_seed(0))
    with meter.watching(model):
        cache = model.run_with_cache(batch.inputs)[1]
    found = meter.measure(model, batch, generator=torch.Generator())
    assert found.keys() == {"attention_progress", "cosine"}
    pattern = cache["pattern", 1]
    on_seen = (pattern * (batch.inputs != 0)[:, None, None]).sum(dim=(1, 2, 3)) / pattern.sum(dim=(1, 2, 3))
    assert found["attention_progress"].item() == pytest.approx(on_seen.mean().item())


def test_groups_of_numbers_have_a_loss_each():
    class Grouped(FilledNumbers):
        def groups(self, batch):
            return {"first is low": batch.labels[:, 0] < 0.5}

    task = Grouped()
    batch, output, found = measured_in_gaps(task)
    low = batch.labels[:, 0] < 0.5
    expected = (output[low, :, 0] - batch.labels[low]).square().mean()
    assert found["loss_first_is_low"].item() == pytest.approx(expected.item())


def test_groups_of_one_column_are_refused():
    class Signs(ModularArithmetic):
        def groups(self, batch):
            return {"+": batch.tokens[:, 0] >= 0, "-": batch.tokens[:, 0] < 0}

    with pytest.raises(ValueError, match=r"^groups must have columns of their own: '\+' and '-' are both called '_'$"):
        Meter(Signs(p=5))


@pytest.mark.parametrize(
    ("groups", "kinds", "text"),
    [
        ((), ("+", "-"), "answer kinds must have columns of their own: '+' and '-' are both called '_'"),
        (("+", "-"), (), "groups must have columns of their own: '+' and '-' are both called '_'"),
        (("a b",), ("a-b",), "groups and answer kinds must have columns of their own: 'a b' and 'a-b' are both called"),
        (("a",), ("a",), "groups and answer kinds must have columns of their own: 'a' and 'a' are both called 'a'"),
        ((), ("1",), "answer kinds must have columns of their own: accuracy_1 is that of an answer position"),
    ],
)
def test_kinds_of_answers_and_groups_of_one_column_are_refused(
    groups: tuple[str, ...], kinds: tuple[str, ...], text: str
) -> None:
    class Named(Ragged):
        def groups(self, batch: Batch) -> dict[str, Tensor]:
            return {name: batch.tokens[:, 0] > 0 for name in groups}

        def answer_kinds(self, batch: Batch) -> dict[str, Tensor]:
            return {name: batch.tokens[:, self.answer] > 0 for name in kinds}

    task = Named()
    with pytest.raises(ValueError, match=f"^{re.escape(text)}"):
        next(train(toy_model(task, d_model=16), task, steps=1, meter=Meter(task, n_sequences=4)))


def test_kinds_of_answers_that_are_filled_in_are_measured() -> None:
    class Kinds(FilledTokens):
        def answer_kinds(self, batch: Batch) -> dict[str, Tensor]:
            return {"low": batch.labels < 4}

    task = Kinds()
    batch, output, found = measured_in_gaps(task)
    low = (batch.labels < 4) & (batch.labels != IGNORE)
    assert found["accuracy_low"].item() == pytest.approx((output.argmax(-1) == batch.labels)[low].float().mean().item())


def test_a_mixture_tells_the_accuracy_of_its_tasks_kinds_of_answers() -> None:
    mixture = Mixture((WrittenCompletion(shape=(2, 2), rank=1), WrittenCompletion(shape=(2, 2), rank=1, missing=0.5)))
    step = next(train(toy_model(mixture, d_model=16), mixture, steps=1, batch_size=8, meter=Meter(mixture)))
    expected = {f"accuracy_{kind}_written_completion_{i}" for kind in ("observed", "missing") for i in (0, 1)}
    assert expected <= step.metrics.keys()


def test_the_accuracy_of_a_finite_task_that_is_filled_in_is_that_of_its_whole_sets_and_of_each_group(monkeypatch):
    sets = [FilledTokens().sample(40, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    for name, batch in zip(("train_set", "validation_set"), sets, strict=True):
        monkeypatch.setattr(FilledTokens, name, batch, raising=False)
    monkeypatch.setattr(FilledTokens, "groups", lambda _, batch: {"hidden first": batch.tokens[:, 0] == 0})
    task = FilledTokens()
    model = toy_model(task, d_model=16)
    for rows in (slice(0, 8), slice(0, 40)):
        meter, batch = Meter(task), Batch(sets[0].tokens[rows], sets[0].labels[rows])
        with meter.watching(model):
            model(batch.inputs)
        measured = meter.measure(model, batch, generator=torch.Generator().manual_seed(0))
        for start, whole in zip(("", "validation_"), sets, strict=True):
            right, scored = model(whole.inputs).argmax(dim=-1) == whole.labels, whole.labels != IGNORE
            first = (whole.tokens[:, 0] == 0)[:, None] & scored
            assert float(measured[f"{start}accuracy"]) == pytest.approx(float(right[scored].float().mean()))
            assert float(measured[f"{start}accuracy_hidden_first"]) == pytest.approx(float(right[first].float().mean()))


@pytest.mark.parametrize("kind", [FilledNumbers, FilledTokens])
def test_a_finite_task_that_is_filled_in_is_validated_in_one_forward(kind, monkeypatch):
    sets = [kind().sample(8, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    for name, batch in zip(("train_set", "validation_set"), sets, strict=True):
        monkeypatch.setattr(kind, name, batch, raising=False)
    task, batch, validation = kind(), *sets
    model = toy_model(task, d_model=16)
    meter = Meter(task)
    with meter.watching(model):
        model(batch.inputs)
    measured = meter.measure(model, batch, generator=torch.Generator().manual_seed(0))
    output = model(validation.inputs)
    assert float(measured["validation_loss"]) == pytest.approx(task.loss(output, validation).item())
    if kind is FilledNumbers:
        assert "validation_accuracy" not in measured
    else:
        scored = validation.labels != IGNORE
        right = (output.argmax(dim=-1) == validation.labels)[scored].float().mean()
        assert float(measured["validation_accuracy"]) == pytest.approx(float(right))


def test_two_answers_are_several() -> None:
    task = MovingWindowSum(n=2)
    (step,) = train(toy_model(task, d_model=16), task, steps=1, batch_size=4, meter=Meter(task, n_sequences=4))
    measured = step.metrics
    assert {"repetition", "entropy", "copies_of_first", "accuracy_0", "accuracy_1"} <= measured.keys()


@dataclass(frozen=True)
class Measuring(MovingWindowSum):
    """It measures by itself, under names that others have."""

    def measures(self, model: Any, *, generator: torch.Generator) -> dict[str, Tensor]:
        return {name: torch.tensor(5.0) for name in ("loss", "step", "attention_progress", "mine")}


def test_measures_of_a_task_s_own_replace_nobody_else_s() -> None:
    task, other = Measuring(n=4, p=7), MovingWindowSum(n=4, p=7)
    plain = next(train(toy_model(task, d_model=16), other, steps=1, batch_size=4, meter=Meter(other)))
    step = next(train(toy_model(task, d_model=16), task, steps=1, batch_size=4, meter=Meter(task)))
    assert {"loss#2", "step#2", "attention_progress#2", "mine"} <= {
        name for name, value in step.metrics.items() if value == 5
    }
    assert step.metrics["attention_progress"] == plain.metrics["attention_progress"]
    assert not {"loss", "step"} & set(step.metrics)


def test_answers_that_the_task_has_no_token_for_count_in_the_entropy() -> None:
    config = HookedTransformerConfig(
        n_layers=1, n_heads=2, d_model=16, d_head=8, n_ctx=12, d_vocab=60, act_fn="gelu", seed=0
    )
    model = HookedTransformer(config)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    step = next(train(model, TASK, steps=1, batch_size=8, optimizer=optimizer, meter=Meter(TASK, n_sequences=16)))
    drawn = TASK.sample(16, generator=stream_generator(0, "measuring", 0))
    answers = greedy_answers(model, TASK, drawn.tokens)
    assert (answers >= TASK.d_vocab).any()
    entropies = [slow.sequence_entropy(answer) for answer in answers.tolist()]
    assert step.metrics["entropy"] == pytest.approx(sum(entropies) / 16, abs=1e-5)


@pytest.mark.parametrize(
    ("task", "why"),
    [
        (Text(n=8), "Text has measures of its own"),
        (MatrixCompletion(shapes=((2, 2),)), "MatrixCompletion has measures of its own"),
        (ModularArithmetic(p=7), "ModularArithmetic is measured on its whole sets"),
    ],
)
def test_a_number_of_sequences_that_comes_to_nothing_is_told(task: Any, why: str, tmp_path: Path) -> None:
    told = f"^n_sequences=7 comes to nothing: {why}$"
    with pytest.warns(MeterWarning, match=told):
        Meter(task, n_sequences=7)
    recipe = Recipe(task, ModelOptions(d_model=16), TrainingOptions(steps=1), measuring=MeasuringOptions(n_sequences=7))
    with pytest.warns(MeterWarning, match=told):
        made = Run.create(tmp_path / "run", recipe)
    list(made.train())  # and not again
    Meter(task)


def plain_measures(answers: list[list[int]], truth: list[list[int]]) -> dict[str, float]:
    """What is measured of answers of several lengths, from lists that hold those labelled alone."""

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    pairs = [(a, t) for a, t in zip(answers, truth, strict=True) if t]
    return {
        "accuracy": mean([slow.token_accuracy(a, t) for a, t in pairs]),
        "repetition": mean([slow.repetition_frequency(a) for a, _ in pairs if len(a) > 1]),
        "repetition_truth": mean([slow.repetition_frequency(t) for _, t in pairs if len(t) > 1]),
        "entropy": mean([slow.sequence_entropy(a) for a, _ in pairs]),
        "entropy_truth": mean([slow.sequence_entropy(t) for _, t in pairs]),
        "copies_of_first": mean([a.count(a[0]) / len(a) for a, _ in pairs]),
    }


def test_answers_of_several_lengths_count_as_far_as_they_are_labelled() -> None:
    task = Ragged()
    model, twin = toy_model(task, d_model=16), toy_model(task, d_model=16)
    measured = next(train(model, task, steps=1, batch_size=8, meter=Meter(task, n_sequences=40))).metrics
    drawn = task.sample(40, generator=stream_generator(0, "measuring", 0))
    labelled = drawn.labels[:, answer_rows(task)] != IGNORE
    answers, truth = greedy_answers(twin, task, drawn.tokens), drawn.tokens[:, task.answer]
    lists = [
        [
            [token for token, is_one in zip(row, mask, strict=True) if is_one]
            for row, mask in zip(tokens.tolist(), labelled.tolist(), strict=True)
        ]
        for tokens in (answers, truth)
    ]
    assert {len(row) for row in lists[1]} == {0, 1, 2, 3, 4}
    for name, expected in plain_measures(*lists).items():
        assert measured[name] == pytest.approx(expected, abs=1e-5), name
    for j in range(4):
        right = (answers == truth)[:, j][labelled[:, j]]
        assert measured[f"accuracy_{j}"] == pytest.approx(right.float().mean().item())
    assert math.isnan(measured["accuracy_4"])  # never labelled
    odd = labelled & (truth % 2 == 1)
    assert measured["accuracy_odd"] == pytest.approx((answers == truth)[odd].float().mean().item())
    ones = drawn.tokens[:, 0] == 1
    of_ones = [[row for row, chosen in zip(rows, ones.tolist(), strict=True) if chosen] for rows in lists]
    assert measured["accuracy_begins_with_1"] == pytest.approx(plain_measures(*of_ones)["accuracy"])


def test_who_is_right_wherever_there_is_a_label_is_all_right(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Ragged()

    def right_where_labelled(model: Any, task: Any, tokens: Any) -> Any:
        ended = (tokens[:, :5] == 0).cumsum(dim=1) > 0
        ended[:, -1] = True
        return tokens[:, task.answer].masked_fill(ended, 3)

    monkeypatch.setattr("plateau_interp.training.meter.known_answers", right_where_labelled)
    steps = train(toy_model(task, d_model=16), task, steps=1, batch_size=8, meter=Meter(task, n_sequences=40))
    measured = next(steps).metrics
    names = ("accuracy", "accuracy_odd", "accuracy_even", "accuracy_others", *(f"accuracy_{j}" for j in range(4)))
    wrong = {name: measured[name] for name in names if measured[name] != 1}
    assert wrong.keys() <= {"accuracy_even"}
    assert measured["accuracy_even"] == 1


def test_a_validation_set_with_answers_of_several_lengths_counts_them_likewise() -> None:
    class Finite(Ragged):
        train_set = Ragged().sample(30, generator=torch.Generator().manual_seed(1))
        validation_set = Ragged().sample(20, generator=torch.Generator().manual_seed(2))

    task = Finite()
    model, twin = toy_model(task, d_model=16), toy_model(task, d_model=16)
    measured = next(train(model, task, steps=1, batch_size=8, meter=Meter(task))).metrics
    batch = task.validation_set
    labelled = batch.labels[:, answer_rows(task)] != IGNORE
    right = (greedy_answers(twin, task, batch.tokens) == batch.tokens[:, task.answer]) & labelled
    shares = (right.sum(dim=1) / labelled.sum(dim=1))[labelled.any(dim=1)]
    assert measured["validation_accuracy"] == pytest.approx(shares.mean().item())
