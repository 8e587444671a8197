import dataclasses
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformer_lens import HookedTransformer, HookedTransformerConfig
from typecheck import unchecked

from plateau_interp.cli.words import read_plugin
from plateau_interp.codec import RecipeError
from plateau_interp.hooks import During, FreezeWeights
from plateau_interp.models import ToyTransformer, toy_model
from plateau_interp.models.settings import ModelOptions
from plateau_interp.plugins import plugin
from plateau_interp.runs.donors import InitFrom
from plateau_interp.runs.identity import recipe_digest
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.training.batches import training_batch
from plateau_interp.training.loop import train
from plateau_interp.training.meter import Meter
from plateau_interp.training.muon import orthogonalise
from plateau_interp.training.optimizers import SGD, Adam, AdamW, LearningRateSchedule, Muon
from plateau_interp.training.settings import MeasuringOptions, TrainingOptions

TASK = MovingWindowSum(n=4, p=7)


def tiny(**options: Any) -> ToyTransformer:
    return toy_model(TASK, d_model=16, n_heads=2, **options)


def weights(model: ToyTransformer) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def train_tiny(model: ToyTransformer, **options: Any) -> list[Any]:
    return list(train(model, TASK, **{"steps": 8, "batch_size": 8, **options}))


def same(one: ToyTransformer, other: ToyTransformer) -> bool:
    return all(map(torch.equal, one.parameters(), other.parameters()))


def test_adam_has_the_papers_settings_by_default() -> None:
    defaults = Adam().build(torch.nn.Linear(1, 1).named_parameters()).defaults
    assert (defaults["lr"], defaults["betas"], defaults["eps"], defaults["weight_decay"]) == (
        1e-4,
        (0.9, 0.999),
        1e-8,
        0,
    )


def test_adamw_decays_weight_matrices_alone() -> None:
    model = toy_model(MovingWindowSum(n=4), d_model=16)
    decayed, plain = AdamW(weight_decay=0.3).build(model.named_parameters()).param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.3, 0.0)
    assert {name.rsplit(".", 1)[-1] for name in decayed["param_names"]} == {
        "W_Q", "W_K", "W_V", "W_O", "W_in", "W_out", "W_U",
    }  # fmt: skip
    assert len(decayed["params"]) + len(plain["params"]) == len(list(model.parameters()))


def test_adamw_decays_keys_and_values_that_heads_share() -> None:
    config = HookedTransformerConfig(
        n_layers=1, d_model=8, n_ctx=4, d_head=4, n_heads=2, n_key_value_heads=1, d_vocab=5, act_fn="relu"
    )
    decayed, _ = AdamW().build(HookedTransformer(config).named_parameters()).param_groups
    assert {"_W_K", "_W_V"} <= {name.rsplit(".", 1)[-1] for name in decayed["param_names"]}


def test_adamw_decays_everything_if_asked_as_pytorch_s_does() -> None:
    ours, theirs = tiny(), tiny()
    spec = AdamW(1e-2, beta2=0.98, weight_decay=0.3, decays="all")
    (group,) = spec.build(ours.named_parameters()).param_groups
    assert [group["weight_decay"], len(group["params"])] == [0.3, len(list(ours.parameters()))]
    train_tiny(ours, optimizer=spec)
    train_tiny(theirs, optimizer=torch.optim.AdamW(theirs.parameters(), 1e-2, betas=(0.9, 0.98), weight_decay=0.3))
    for (name, parameter), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(parameter, other, msg=name)
    spared = tiny()
    train_tiny(spared, optimizer=replace(spec, decays="matrices"))
    assert not spared.W_E.equal(ours.W_E)


def test_recipes_without_what_came_later_are_the_same_runs() -> None:
    recipe = Recipe(TASK, training=TrainingOptions(optimizer=AdamW()))
    older = recipe.to_dict()
    del older["training"]["optimizer"]["decays"]
    assert recipe_digest(Recipe.from_dict(older)) == recipe_digest(recipe)
    other = Recipe(TASK, training=TrainingOptions(optimizer=AdamW(decays="all")))
    assert recipe_digest(other) != recipe_digest(recipe)


def test_sgd_passes_momentum_on() -> None:
    optimizer = SGD(learning_rate=0.5, momentum=0.9).build(torch.nn.Linear(1, 1).named_parameters())
    assert (optimizer.defaults["lr"], optimizer.defaults["momentum"]) == (0.5, 0.9)


@pytest.mark.parametrize("kind", [Adam, AdamW, Muon, SGD])
@pytest.mark.parametrize("learning_rate", [0.0, -1.0, float("inf"), float("nan")])
def test_a_learning_rate_that_cannot_be_is_refused(kind: type, learning_rate: float) -> None:
    with pytest.raises(ValueError, match="learning_rate must be a positive number; got"):
        kind(learning_rate=learning_rate)


@pytest.mark.parametrize("kind", [Adam, AdamW, Muon, SGD])
def test_the_entry_point_has_the_name_of_the_class(kind: type) -> None:
    assert plugin("optimizers", kind.name) is kind  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (Adam, "beta1", 1.0),
        (AdamW, "weight_decay", -0.1),
        (AdamW, "decays", "biases"),
        (SGD, "momentum", -0.5),
        (Muon, "adam_learning_rate", 0.0),
        (Muon, "momentum", 1.5),
        (Muon, "beta2", math.nan),
        (Muon, "eps", -1.0),
        (Muon, "iterations", 0),
        (Muon, "precision", "float16"),
        (Muon, "final_norm", "frozen"),
    ],
)
def test_a_bad_field_is_refused_by_name(kind: type, field: str, value: Any) -> None:
    spec = kind()
    object.__setattr__(spec, field, value)  # past the shape checker, which refuses some of these types by itself
    with pytest.raises(ValueError, match=rf"^{field} must be .*{value}"):
        unchecked(kind.__post_init__)(spec)  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", [Adam, AdamW, Muon, SGD])
def test_every_field_can_be_given_in_a_word(kind: type) -> None:
    fields = {"learning_rate": 0.5, "momentum": 0.25, "beta1": 0.5, "beta2": 0.75, "eps": 1e-3, "weight_decay": 0.5}
    fields |= {"iterations": 3, "precision": "float32", "adam_learning_rate": 0.125, "final_norm": "untrained"}
    fields["decays"] = "all"
    own = {item.name: fields[item.name] for item in dataclasses.fields(kind)}
    word = ",".join(f"{name}={value}" for name, value in own.items())
    assert read_plugin("optimizers", f"{kind.name}:{word}") == kind(**own)  # type: ignore[attr-defined]


def test_muon_has_the_papers_settings_and_takes_the_blocks_matrices_alone() -> None:
    model = tiny(n_layers=2)
    muon, adam = Muon().build(model.named_parameters()).param_groups
    assert (muon["lr"], muon["momentum"], muon["iterations"], muon["precision"]) == (0.02, 0.95, 5, "bfloat16")
    assert (adam["lr"], adam["betas"], adam["eps"]) == (1e-4, (0.9, 0.95), 1e-10)
    kinds = ("attn.W_Q", "attn.W_K", "attn.W_V", "attn.W_O", "mlp.W_in", "mlp.W_out")
    assert set(muon["param_names"]) == {f"blocks.{layer}.{kind}" for layer in (0, 1) for kind in kinds}
    assert {*muon["param_names"], *adam["param_names"]} == {name for name, _ in model.named_parameters()}


def test_muons_factor_is_of_the_authors_orientation() -> None:
    model = tiny()
    before = weights(model)
    train_tiny(model, steps=1, optimizer=Muon(precision="float32"))
    matrices = {name: p for name, p in model.named_parameters() if name.startswith("blocks.0.") and ".W_" in name}
    assert len(matrices) == 6
    for name, parameter in matrices.items():
        # d_model 16, d_head 8, d_mlp 64: out / in is 4 for W_in, 2 for a head of W_O, and at most 1 for the others.
        factor = {"W_in": 2.0, "W_O": math.sqrt(2)}.get(name.rsplit(".", 1)[-1], 1.0)
        assert parameter.grad is not None
        # The first direction is a multiple of the gradient; the multiple matters beside the 1e-7 in the norm alone.
        expected = -0.02 * factor * orthogonalise(parameter.grad, precision="float32")
        torch.testing.assert_close(parameter.detach() - before[name], expected, atol=1e-4, rtol=1e-3, msg=name)


def test_muon_refuses_what_has_no_block() -> None:
    with pytest.raises(ValueError, match="Muon is for the weight matrices of a model's blocks"):
        Muon().build(torch.nn.Linear(1, 1).named_parameters())


@pytest.mark.parametrize(("final_norm", "still"), [("trained", set()), ("untrained", {"ln_final.w", "ln_final.b"})])
def test_the_final_norm_is_trained_if_muon_says_so(final_norm: Any, still: set[str]) -> None:
    model = tiny()
    before = weights(model)
    optimizer = Muon(final_norm=final_norm).build(model.named_parameters())
    train_tiny(model, optimizer=optimizer)
    unchanged = {name for name, after in weights(model).items() if torch.equal(after, before[name])}
    assert unchanged == still | {"unembed.b_U"}
    # In a group all the same, or its gradients would add up from step to step.
    grouped = [name for group in optimizer.param_groups for name in group["param_names"]]
    assert sorted(grouped) == sorted(before)


def test_muon_leaves_frozen_parameters_alone() -> None:
    model = tiny()
    before = weights(model)
    train_tiny(model, optimizer=Muon(), interventions=(FreezeWeights("attention map"),))
    after = weights(model)
    for name in ("blocks.0.attn.W_Q", "blocks.0.attn.b_Q", "blocks.0.attn.W_K", "embed.W_E"):
        assert torch.equal(after[name], before[name]), name
    assert not torch.equal(after["blocks.0.attn.W_V"], before["blocks.0.attn.W_V"])


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_muon_learns_in_both_dtypes(precision: Any) -> None:
    for dtype in (torch.float32, torch.float64):
        model = tiny(dtype=dtype)
        steps = train_tiny(model, steps=30, batch_size=32, optimizer=Muon(precision=precision))
        assert steps[-1].loss < steps[0].loss - 0.05
        assert all(parameter.dtype == dtype for parameter in model.parameters())


RECIPE = Recipe(
    TASK,
    model=ModelOptions(d_model=16, n_heads=2),
    training=TrainingOptions(steps=12, batch_size=8),
    measuring=MeasuringOptions(n_sequences=4),
    checkpoint_every=5,
)


def files(run: Run, *, after: int) -> dict[str, bytes]:
    """The metrics and every checkpoint behind a step, but whose recipe it is of."""
    later = [folder for folder in (run.path / "checkpoints").iterdir() if int(folder.name) > after]
    found = [run.path / "metrics.jsonl", *(file for folder in later for file in folder.iterdir())]
    return {str(file.relative_to(run.path)): file.read_bytes() for file in found if file.name != "state.json"}


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": Muon()},
        {"optimizer": Muon(final_norm="untrained"), "schedule": LearningRateSchedule(4)},
        {"optimizer": Adam(1e-2), "schedule": LearningRateSchedule(3, cosine_until=12)},
        {"optimizer": SGD(momentum=0.9), "schedule": LearningRateSchedule(8, cosine_until=10)},
    ],
)
def test_stopping_and_forking_are_bit_exact(tmp_path: Path, changes: dict[str, Any]) -> None:
    recipe = replace(RECIPE, training=replace(RECIPE.training, **changes))
    whole, stopped = Run.create(tmp_path / "whole", recipe), Run.create(tmp_path / "stopped", recipe)
    list(whole.train())
    steps = stopped.train()
    for _ in range(7):
        next(steps)
    steps.close()
    list(Run(stopped.path).train())
    assert files(stopped, after=-1) == files(whole, after=-1)
    if "schedule" in changes:
        base = changes["optimizer"].learning_rate
        rates = [base * changes["schedule"].factor(step) for step in range(12)]
        assert list(whole.metrics["learning_rate"]) == rates
    fork = whole.fork(at=7)
    list(fork.train())
    assert files(fork, after=7) == files(whole, after=7)


def test_a_schedule_is_the_two_of_the_paper() -> None:
    constant, cosine = LearningRateSchedule(200), LearningRateSchedule(200, cosine_until=400)
    for step in range(400):
        warm = step / 200 if step < 200 else 1.0
        assert constant.factor(step) == warm
        falling = warm if step < 200 else 0.5 * (1 + math.cos(math.pi * (step - 200) / 200))
        assert cosine.factor(step) == pytest.approx(falling, abs=1e-15)
    assert (constant.factor(10**6), cosine.factor(400), cosine.factor(10**6)) == (1.0, 0.0, 0.0)
    assert [LearningRateSchedule(cosine_until=4).factor(step) for step in (0, 2)] == [1.0, pytest.approx(0.5)]
    assert all(LearningRateSchedule().factor(step) == 1.0 for step in (0, 1, 10**6))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"warm_up": -1}, "warm_up must be at least 0; got -1"),
        ({"warm_up": 5, "cosine_until": 5}, "cosine_until must be above warm_up=5; got 5"),
        ({"cosine_until": 0}, "cosine_until must be above warm_up=0; got 0"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(fields: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LearningRateSchedule(**fields)
    with pytest.raises(RecipeError, match=f"training.schedule: {message}"):
        Recipe.from_dict({"task": {"name": "moving-window-sum"}, "training": {"schedule": fields}})


@pytest.mark.parametrize("optimizer", [Adam(1e-2), SGD(momentum=0.9), Muon()])
def test_a_schedule_gives_the_weights_of_pytorchs_scheduler(optimizer: Any) -> None:
    schedule = LearningRateSchedule(3, cosine_until=8)
    ours, theirs = tiny(), tiny()
    train_tiny(ours, optimizer=optimizer, schedule=schedule)
    live = optimizer.build(theirs.named_parameters())
    scheduler = torch.optim.lr_scheduler.LambdaLR(live, schedule.factor)
    for step in range(8):
        batch = training_batch(TASK, seed=0, step=step, batch_size=8)
        live.zero_grad()
        TASK.loss(theirs(batch.inputs), batch).backward()
        live.step()
        scheduler.step()
    assert same(ours, theirs)


def test_the_first_update_of_a_warm_up_moves_nothing() -> None:
    model = tiny()
    train_tiny(model, steps=1, schedule=LearningRateSchedule(2), optimizer=SGD(1.0))
    assert same(model, tiny())


def test_a_live_optimizer_keeps_its_own_rates() -> None:
    schedule = LearningRateSchedule(3, cosine_until=8)
    whole, halves = tiny(), tiny()
    train_tiny(whole, optimizer=AdamW(1e-2), schedule=schedule)
    live = AdamW(1e-2).build(halves.named_parameters())
    train_tiny(halves, optimizer=live, schedule=schedule, steps=5)
    assert [group["lr"] for group in live.param_groups] == [1e-2, 1e-2]
    train_tiny(halves, optimizer=live, schedule=schedule, start=5)
    assert same(whole, halves)


def test_the_rate_is_a_metric_where_there_is_a_schedule() -> None:
    def measured(**options: Any) -> list[dict[str, float]]:
        return [step.metrics for step in train_tiny(tiny(), meter=Meter(TASK, every=2, n_sequences=4), **options)]

    steps = measured(optimizer=Muon(), schedule=LearningRateSchedule(4))
    assert [metrics.get("learning_rate") for metrics in steps] == [0.0, None, 0.01, None, 0.02, None, 0.02, None]
    assert not any("learning_rate" in metrics for metrics in measured() + measured(schedule=LearningRateSchedule()))


def test_a_recipe_keeps_its_schedule() -> None:
    schedule = LearningRateSchedule(200, cosine_until=400)
    recipe = Recipe(TASK, training=TrainingOptions(optimizer=Muon(), schedule=schedule))
    assert recipe.training.schedule == schedule
    assert Recipe.from_json(recipe.to_json()) == recipe


@pytest.mark.parametrize("stop", [0, 5])
def test_a_weight_that_is_trained_later_gets_its_momentum_then(stop: int) -> None:
    """Some parameters have a momentum by then, which PyTorch's fused update does not allow for."""

    def by_hand() -> ToyTransformer:
        model, momenta = tiny(), dict[str, torch.Tensor]()
        for step in range(8):
            batch = training_batch(TASK, seed=0, step=step, batch_size=8)
            model.zero_grad()
            TASK.loss(model(batch.inputs), batch).backward()  # type: ignore[no-untyped-call]
            for name, parameter in model.named_parameters():
                if ("mlp" in name and step < stop) or parameter.grad is None:
                    continue
                momenta[name] = 0.9 * momenta.get(name, torch.zeros(())) + parameter.grad
                with torch.no_grad():
                    parameter -= 0.1 * momenta[name]
        return model

    frozen = [During(FreezeWeights("*.mlp.*"), stop=stop)] if stop else []
    model = tiny()
    train_tiny(model, optimizer=SGD(0.1, momentum=0.9), interventions=frozen)
    pairs = zip(model.parameters(), by_hand().parameters(), strict=True)
    assert all(torch.allclose(mine, theirs, atol=1e-6) for mine, theirs in pairs)


def test_a_momentum_can_be_taken_of_some_weights_alone(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "model": ModelOptions(d_model=8),
        "training": TrainingOptions(steps=3, batch_size=4, optimizer=SGD(0.1, momentum=0.9)),
        "measuring": MeasuringOptions(n_sequences=2),
    }
    for _ in Run.create(tmp_path / "donor", Recipe(TASK, **options)).train():
        pass
    init = InitFrom(f"{tmp_path / 'donor'}@3", where="mlp layers", optimizer="taken")
    taken = Run.create(tmp_path / "taken", Recipe(TASK, **options, init_from=init))
    for _ in taken.train():
        pass
    assert taken.finished


class Decaying(torch.optim.SGD):
    """Changes its own rate, as some do."""

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        super().step()
        for group in self.param_groups:
            group["lr"] *= 0.5


def test_a_constant_schedule_leaves_the_rates_to_the_optimiser() -> None:
    model = tiny()
    optimizer = Decaying(model.parameters(), lr=1.0)
    train_tiny(model, optimizer=optimizer, steps=3)
    assert [group["lr"] for group in optimizer.param_groups] == [0.125]
    other = tiny()
    by_hand = torch.optim.SGD(other.parameters(), lr=1.0)
    for step in range(3):
        by_hand.param_groups[0]["lr"] = 0.5**step
        train_tiny(other, optimizer=by_hand, start=step, steps=step + 1)
    assert same(model, other)


def test_an_optimiser_without_a_rate_is_trained_with_under_a_constant_schedule_alone() -> None:
    class Rateless(torch.optim.Optimizer):
        def step(self) -> None:  # type: ignore[override]
            for group in self.param_groups:
                for each in group["params"]:
                    each.data -= 0.1 * (0 if each.grad is None else each.grad)

    model = tiny()
    optimizer = Rateless(model.parameters(), {})
    train_tiny(model, optimizer=optimizer, steps=1)
    with pytest.raises(
        ValueError, match=r"^Rateless has a parameter group without a learning rate \(lr\), which a sch"
    ):
        train_tiny(model, optimizer=optimizer, schedule=LearningRateSchedule(warm_up=2))


@pytest.mark.parametrize("rate", [1.0, torch.tensor(1.0)])
def test_a_rate_that_the_optimiser_changes_is_refused_under_a_schedule(rate: Any) -> None:
    model = tiny()
    optimizer = Decaying(model.parameters(), lr=rate)
    told = (
        r"^Decaying changes its learning rate \(lr\) itself, and the schedule scales it, too: keep the schedule const"
    )
    with pytest.raises(ValueError, match=told) as caught:
        train_tiny(model, optimizer=optimizer, schedule=LearningRateSchedule(cosine_until=8))
    assert "\n" not in str(caught.value)
    assert float(optimizer.param_groups[0]["lr"]) == 1.0
    steady = torch.optim.SGD(model.parameters(), lr=rate)
    train_tiny(model, optimizer=steady, schedule=LearningRateSchedule(cosine_until=8))
    assert steady.param_groups[0]["lr"] is rate
