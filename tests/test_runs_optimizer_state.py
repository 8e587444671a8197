"""Runs of an optimiser of somebody's own, which keeps numbers in its groups: resumed, forked, taken; refusals."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from own_optimizers import Drift, Drifting, Lbfgs, Spoil, registered
from torch.nn import Parameter
from trained_runs import contents, trained

from plateau_interp.hooks import BiasAttention
from plateau_interp.models import toy_model
from plateau_interp.models.parameters import trained_where
from plateau_interp.models.settings import ModelOptions
from plateau_interp.runs.checking import check_run
from plateau_interp.runs.checkpoints import Checkpoint, let_go
from plateau_interp.runs.donors import InitFrom
from plateau_interp.runs.errors import DamagedFile, RunError
from plateau_interp.runs.folder import RunFolder
from plateau_interp.runs.kept_values import GONE
from plateau_interp.runs.optimizer_state import BuiltGroups, StoredState, optimizer_state, put_optimizer_state
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.training.loop import train
from plateau_interp.training.optimizers import SGD, Adam, AdamW, LearningRateSchedule, Muon
from plateau_interp.training.settings import MeasuringOptions, TrainingOptions

TASK = MovingWindowSum(n=4, p=5)


@pytest.fixture(autouse=True)
def _known() -> Iterator[None]:
    with registered():
        yield


def recipe_of(optimizer: Any, **fields: Any) -> Recipe:
    training = TrainingOptions(steps=8, batch_size=4, optimizer=optimizer)
    options = {"measuring": MeasuringOptions(n_sequences=2), "checkpoint_every": 2, "state_every": 1, "seed": 3}
    return Recipe(TASK, model=ModelOptions(d_model=8), training=training, **{**options, **fields})


def stopped(run: Run, *, after: int) -> Run:
    for step in run.train():
        if step.step == after:
            break
    return run


def by_hand(run: Run) -> list[float]:
    """The losses of a run, by an optimiser that nobody saves or loads."""
    model = run.recipe.build_model()
    optimizer = run.recipe.optimizer.build(model.named_parameters())
    return [step.loss for step in train(model, TASK, steps=8, batch_size=4, seed=3, optimizer=optimizer)]


@pytest.mark.parametrize("decay", [1.0, 0.9])
@pytest.mark.parametrize("after", [0, 2, 3, 6])
def test_a_run_that_was_stopped_and_resumed_is_the_one_that_never_was(decay: float, after: int, tmp_path: Path) -> None:
    recipe = recipe_of(Drift(decay=decay))
    whole, cut = trained(Run.create(tmp_path / "whole", recipe)), Run.create(tmp_path / "cut", recipe)
    assert by_hand(whole) == whole.metrics["loss"].tolist()
    assert len({*whole.metrics["loss"]}) == 8
    trained(Run(stopped(cut, after=after).path))
    assert contents(cut.path) == contents(whole.path)
    assert check_run(cut.path).faults == ()


def test_a_fork_is_the_run_it_would_have_been_and_so_is_one_of_steps_that_were_let_go(tmp_path: Path) -> None:
    whole = trained(Run.create(tmp_path / "whole", recipe_of(Drift(decay=0.9))))
    thin = trained(Run.create(tmp_path / "thin", recipe_of(Drift(decay=0.9), state_every=100)))
    assert (thin.checkpoints, thin.resumable) == ([0, 2, 4, 6, 8], [0, 8])
    for at in (0, 3, 4):
        for parent in (whole, thin):
            fork = trained(parent.fork(at=at, out=tmp_path / f"{parent.path.name} {at}"))
            assert fork.metrics.equals(whole.metrics)
            assert (
                contents(fork.path)["checkpoints/8/model.safetensors"]
                == (contents(whole.path)["checkpoints/8/model.safetensors"])
            )
    forks = [
        trained(
            parent.fork(at=4, interventions=[BiasAttention(factor=3.0)], out=tmp_path / f"other {parent.path.name}")
        )
        for parent in (whole, thin)
    ]
    assert forks[0].metrics.equals(forks[1].metrics)
    assert not forks[0].metrics.equals(whole.metrics)


def test_a_run_that_takes_the_state_goes_on_with_its_numbers(tmp_path: Path) -> None:
    donor = trained(Run.create(tmp_path / "donor", recipe_of(Drift(decay=0.9))))
    init = InitFrom(f"{donor.path}@4", optimizer="taken")
    recipe = recipe_of(Drift(learning_rate=0.1, decay=0.8), seed=5, init_from=init)
    run = trained(Run.create(tmp_path / "run", recipe))
    # The donor's optimiser as it was, but for what it had not changed: the decay.
    model = donor.recipe.build_model()
    optimizer = donor.recipe.optimizer.build(model.named_parameters())
    list(train(model, TASK, steps=4, batch_size=4, seed=3, optimizer=optimizer))
    for group in optimizer.param_groups:
        group["decay"] = 0.8
    losses = [step.loss for step in train(model, TASK, steps=8, batch_size=4, seed=5, optimizer=optimizer)]
    assert run.metrics["loss"].tolist() == losses
    cut = stopped(Run.create(tmp_path / "cut", recipe), after=1)  # killed before its second checkpoint
    assert contents(trained(cut).path) == contents(run.path)
    assert trained(cut.fork(at=0, out=tmp_path / "fork")).metrics.equals(run.metrics)


def groups_of(run: Run) -> list[list[str]]:
    """The trained parameters of each group, in the model's order."""
    model = run.model()
    trained_ones = trained_where(model, "*").items()
    groups = run.recipe.optimizer.build(model.named_parameters()).param_groups
    return [[name for name, own in trained_ones if any(own is each for each in group["params"])] for group in groups]


def test_of_a_group_all_is_taken_or_nothing(tmp_path: Path) -> None:
    donor = trained(Run.create(tmp_path / "donor", recipe_of(Drift())))
    where = InitFrom(str(donor.path), optimizer="taken", where="mlp")
    groups = groups_of(donor)
    taken = trained_where(donor.model(), "mlp").keys()
    assert taken & {*groups[0]}
    left_out = ", ".join(name for name in groups[0] if name not in taken)
    told = (
        r"^init_from: the donor's Drift keeps '\w+' for all of its parameter group 0, and where leaves out "
        rf"{re.escape(left_out)}: take all of the group, or the state fresh$"
    )
    with pytest.raises(RunError, match=told):
        Run.create(tmp_path / "run", recipe_of(Drift(), init_from=where))
    deeper = ModelOptions(d_model=8, n_layers=2)
    every = InitFrom(str(donor.path), optimizer="taken", where=tuple(groups[0] + groups[1]))
    with pytest.raises(RunError, match=r"of its parameter group \d, which is no group here: take the state fresh$"):
        Run.create(tmp_path / "run", replace(recipe_of(Drift(), init_from=every), model=deeper))
    assert not (tmp_path / "run").exists()
    part = InitFrom(str(donor.path), optimizer="taken", where=tuple(groups[1]))
    run = stopped(Run.create(tmp_path / "part", recipe_of(Drift(), init_from=part)), after=0)
    state = RunFolder(run.path).load(0).optimizer
    theirs = RunFolder(donor.path).load(8).optimizer
    assert state["/1/k"] == 8
    assert {place for place in theirs if place.startswith("/1/")} == {place for place in state if place[0] == "/"}


def test_a_group_is_known_by_its_parameters(tmp_path: Path) -> None:
    donor = trained(Run.create(tmp_path / "donor", recipe_of(Drift(decay=0.9))))
    init = InitFrom(str(donor.path), optimizer="taken")
    run = stopped(Run.create(tmp_path / "run", recipe_of(Drift(swapped=True), init_from=init)), after=0)
    theirs, state = RunFolder(donor.path).load(8).optimizer, RunFolder(run.path).load(0).optimizer
    assert theirs["/0/lr"] != theirs["/1/lr"]
    assert (state["/0/lr"], state["/1/lr"]) == (theirs["/1/lr"], theirs["/0/lr"])


def test_a_donor_whose_numbers_have_changed_is_refused(tmp_path: Path) -> None:
    one, other = (trained(Run.create(tmp_path / str(seed), recipe_of(Drift(), seed=seed))) for seed in (0, 1))
    init = InitFrom(str(one.path), optimizer="taken")
    file = one.path / "checkpoints" / "8" / "state.json"
    state = json.loads(file.read_text())
    place = next(entry for entry in state["encoded"] if entry[0] == "/0/k")
    assert place == ["/0/k", 8]
    place[1] = 9
    file.write_text(json.dumps(state))
    with pytest.raises(ValueError, match="has changed since the recipe was made"):
        Run.create(tmp_path / "run", recipe_of(Drift(), init_from=init))
    with pytest.raises(DamagedFile, match="it was changed after it was written"):
        Checkpoint.load(one.path / "checkpoints" / "8", recipe=RunFolder(one.path).identity)
    assert check_run(other.path).faults == ()


def test_only_what_an_older_version_would_misread_is_of_format_4_and_is_let_go_with_the_state(tmp_path: Path) -> None:
    run = stopped(Run.create(tmp_path / "run", recipe_of(Drift())), after=4)
    formats = {step: json.loads((run.path / f"checkpoints/{step}/state.json").read_text())["format"] for step in (0, 4)}
    assert formats == {0: 3, 4: 4}
    assert RunFolder(run.path).label(4).format == 4
    let_go(run.path / "checkpoints" / "4", recipe=RunFolder(run.path).identity)
    state = json.loads((run.path / "checkpoints/4/state.json").read_text())
    assert state["format"] == 3
    assert "encoded" not in state
    assert RunFolder(run.path).load(4).optimizer is None


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", [Adam(), AdamW(), SGD(0.1, momentum=0.5), SGD(), Muon()])
def test_checkpoints_of_the_suites_own_optimisers_are_as_they_were(
    optimizer: Any, dtype: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    training = TrainingOptions(steps=4, batch_size=4, optimizer=optimizer, schedule=LearningRateSchedule(warm_up=3))
    recipe = replace(recipe_of(optimizer), training=training, model=ModelOptions(d_model=8, dtype=dtype))
    run = Run.create(tmp_path / "run", recipe)
    trained(stopped(run, after=2))
    assert caplog.messages == []
    for step in run.checkpoints:
        state = json.loads((run.path / f"checkpoints/{step}/state.json").read_text())
        assert state.keys() == {"format", "step", "recipe", "rows", "files", "latest", "optimizer", "digest"}
        assert (state["format"], state["optimizer"]) == (3, {})
        kept = RunFolder(run.path).load(step).optimizer
        assert all(isinstance(value, torch.Tensor) and "/" in place[1:] for place, value in kept.items())


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("object", r"Spoilt: 'odd' of parameter group 0 is a object, which no checkpoint keeps: have numbers, text, t"),
        ("sparse", r"Spoilt: 'odd' of parameter group 0 is a tensor that no checkpoint keeps: it is sparse"),
        (
            "dtype",
            r"Spoilt: 'odd' of parameter group 0 is a tensor that no checkpoint keeps: it is of torch.complex128",
        ),
        ("gradient", r"Spoilt: 'odd' of parameter group 0 is a tensor .*: it is one that requires a gradient"),
        ("name", r"Spoilt has something under the name 3, which no checkpoint keeps: names are text"),
        ("nobody", r"Spoilt has state of 'all', which is no parameter of the model, .*: have it in param_groups"),
        ("no dict", r"Spoilt has state of embed.W_E that is no dict, which no checkpoint keeps"),
        ("nested", r"Spoilt: 'odd' of embed.W_E is a set, which no checkpoint keeps"),
        ("flat", r"^Spoilt: 'flat' of parameter group 0 shares memory with 'momentum' of \w+.W_\w+, which no "),
        (
            "flat that is built",
            r"^Spoilt: 'flat' of parameter group 0 shares memory with 'momentum' of \w+.W_\w+, which no ",
        ),
        (
            "parameter",
            r"^Spoilt: 'matrix' of embed.W_E shares memory with the parameter embed.W_E, which no checkpoint",
        ),
        ("itself", r"^Spoilt: 'odd' of parameter group 0 shares memory with the parameter embed.W_E, which no checkp"),
        (
            "twice",
            r"^Spoilt: 'odd' of embed.W_E shares memory with 'odd' of embed.W_E, .* a view anew at each step\(\)$",
        ),
        ("gradient's", r"^Spoilt: 'before' of embed.W_E shares memory with the gradient of embed.W_E, which no checkp"),
        ("groups", r"Spoilt has other parameter groups than it was built with, which no checkpoint keeps"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name_after_the_first_update(what: str, told: str, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", recipe_of(Spoil(what)))
    with pytest.raises(ValueError, match=told) as caught:
        trained(run)
    assert "\n" not in str(caught.value)
    assert (run.checkpoints, len(run.metrics)) == ([0], 0)


@pytest.mark.parametrize(
    ("optimizer", "told"),
    [
        (Lbfgs(), r"^LBFGS asks for closure at each step\(\): .* take one whose step\(\) asks for nothing$"),
        (Spoil("state_dict"), r"^Spoilt has k in its state_dict\(\), which no checkpoint keeps: have it in param_gr"),
        (Spoil("at first"), r"^Spoilt: 'odd' of parameter group 0 is a object, which no checkpoint keeps"),
    ],
)
def test_what_can_be_seen_of_a_new_one_is_refused_before_anything_is_written(
    optimizer: Any, told: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=told):
        Run.create(tmp_path / "run", recipe_of(optimizer))
    assert not (tmp_path / "run").exists()


def test_what_it_changes_of_itself_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trained(Run.create(tmp_path / "run", recipe_of(Spoil("attribute"))))
    told = (
        "Spoilt changes its own what_else, calls, which no checkpoint keeps: where updates depend on it, have it in pa"
    )
    assert [message[: len(told)] for message in caplog.messages] == [told]
    caplog.clear()
    trained(Run.create(tmp_path / "other", recipe_of(Drift())))
    assert caplog.messages == []


def drifted(steps: int = 4) -> tuple[Any, torch.optim.Optimizer, BuiltGroups]:
    model = toy_model(TASK, d_model=8)
    optimizer = Drift(decay=0.9).build(model.named_parameters())
    built = BuiltGroups.of(optimizer)
    list(train(model, TASK, steps=steps, batch_size=4, optimizer=optimizer))
    return model, optimizer, built


def test_every_value_comes_back_bit_for_bit_and_of_its_own_type() -> None:
    model, optimizer, built = drifted()
    state = optimizer_state(optimizer, model, built)
    stored = StoredState.of(state)
    assert stored.would_be_misread(dict(model.named_parameters()))
    again = replace(stored, encoded=json.loads(json.dumps(stored.encoded, allow_nan=False))).joined()
    fresh = toy_model(TASK, d_model=8)
    other = Drift(decay=0.9).build(fresh.named_parameters())
    put_optimizer_state(other, again, fresh, weights=dict(model.named_parameters()))
    assert optimizer_state(other, fresh, BuiltGroups.of(other)).keys() == {p for p in state if p[0] != "/"}
    for mine, theirs in zip(other.param_groups, optimizer.param_groups, strict=True):
        assert "only_at_first" not in mine
        assert mine.keys() == theirs.keys()
        for name in mine.keys() - {"params"}:
            assert type(mine[name]) is type(theirs[name])
            assert torch.as_tensor(mine[name] == theirs[name]).all()
        assert mine["weight_sum"].dtype == torch.float64
    one, two = other.param_groups
    assert one["weight_sum"] is two["weight_sum"]
    assert one["history"] is two["history"]
    assert one["history"] is not optimizer.param_groups[0]["history"]
    for mine, theirs in zip(fresh.parameters(), model.parameters(), strict=True):
        for name, value in optimizer.state[theirs].items():
            back = other.state[mine][name]
            assert type(back) is type(value)
            assert torch.equal(back, value) if isinstance(value, torch.Tensor) else back == value
            assert getattr(back, "dtype", None) == getattr(value, "dtype", None)


def test_a_state_is_a_copy_and_so_is_what_is_put() -> None:
    model, optimizer, built = drifted()
    state = optimizer_state(optimizer, model, built)
    before = StoredState.of(state).tensors["//0"].clone() if "//0" in StoredState.of(state).tensors else None
    place = next(place for place in state if place.endswith("/z"))
    kept, history = state[place].clone(), list(state["/0/history"])
    put_optimizer_state(optimizer, state, model, weights=dict(model.named_parameters()))
    list(train(model, TASK, steps=2, batch_size=4, optimizer=optimizer))
    assert torch.equal(state[place], kept)
    assert state["/0/history"] == history
    assert before is None or torch.equal(StoredState.of(state).tensors["//0"], before)


def test_state_of_the_parameters_dtype_goes_with_it_and_other_keeps_its_own() -> None:
    model, optimizer, built = drifted()
    state = optimizer_state(optimizer, model, built)
    half = toy_model(TASK, d_model=8).to(torch.bfloat16)
    other = Drift(decay=0.9).build(half.named_parameters())
    put_optimizer_state(other, state, half, weights=dict(model.named_parameters()))
    for values in other.state.values():
        kinds = {name: value.dtype for name, value in values.items() if isinstance(value, torch.Tensor)}
        assert kinds == {"mean": torch.bfloat16, "z": torch.float64, "count": torch.int64}
        assert int(values["count"]) == 2**40 + 4


def test_float32_state_of_bfloat16_weights_keeps_its_bits() -> None:
    model = toy_model(TASK, d_model=8).to(torch.bfloat16)
    weight, weights = model.W_E, dict(model.named_parameters())
    optimizer = torch.optim.SGD(model.named_parameters(), lr=0.1)
    fine = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    optimizer.state[weight] = {"fine": fine, "step": torch.tensor(3.0)}
    state = optimizer_state(optimizer, model, BuiltGroups.of(optimizer))
    assert StoredState.of(state).encoded == []
    assert StoredState.of(state).would_be_misread(weights)
    optimizer.state.clear()
    put_optimizer_state(optimizer, state, model, weights=weights)
    assert torch.equal(optimizer.state[weight]["fine"], fine)
    assert optimizer.state[weight]["step"].dtype == torch.float32


def test_a_step_counter_is_no_weight() -> None:
    """Torch keeps ``step`` float32 whatever the weights are."""
    one, other = toy_model(TASK, d_model=8), toy_model(TASK, d_model=8).to(torch.bfloat16)
    trained_one, fresh = (Adam().build(model.named_parameters()) for model in (one, other))
    list(train(one, TASK, steps=3, batch_size=4, optimizer=trained_one))
    state = optimizer_state(trained_one, one, BuiltGroups.of(trained_one))
    put_optimizer_state(fresh, state, other, weights=dict(one.named_parameters()))
    (kinds,) = {tuple((name, value.dtype) for name, value in values.items()) for values in fresh.state.values()}
    assert dict(kinds) == {"step": torch.float32, "exp_avg": torch.bfloat16, "exp_avg_sq": torch.bfloat16}


def test_what_parameters_share_they_share_again() -> None:
    model = toy_model(TASK, d_model=8)
    weights = dict(model.named_parameters())
    optimizer = torch.optim.SGD(model.named_parameters(), lr=0.1)
    built = BuiltGroups.of(optimizer)
    counter, seen = torch.zeros(()), [0]
    for parameter in weights.values():
        optimizer.state[parameter] = {"counter": counter, "seen": seen}
    optimizer.param_groups[0]["all"] = counter
    stored = StoredState.of(optimizer_state(optimizer, model, built))
    assert len(stored.tensors) == 1
    fresh = torch.optim.SGD(model.named_parameters(), lr=0.1)
    put_optimizer_state(fresh, stored.joined(), model, weights=weights)
    values = [fresh.state[parameter] for parameter in weights.values()]
    assert len({id(value["counter"]) for value in values} | {id(fresh.param_groups[0]["all"])}) == 1
    assert len({id(value["seen"]) for value in values}) == 1


TORCHS = (
    *(torch.optim.Adadelta, torch.optim.Adafactor, torch.optim.Adagrad, torch.optim.Adam, torch.optim.Adamax),
    *(torch.optim.AdamW, torch.optim.ASGD, torch.optim.NAdam, torch.optim.RAdam, torch.optim.RMSprop),
    *(torch.optim.Rprop, torch.optim.SGD),
)


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("kind", TORCHS)
def test_no_state_of_torchs_own_optimisers_shares_memory(kind: Any, foreach: bool) -> None:
    model = toy_model(TASK, d_model=8)
    momentum = {torch.optim.SGD: {"momentum": 0.9}, torch.optim.RMSprop: {"momentum": 0.9, "centered": True}}
    optimizer = kind(model.parameters(), lr=0.01, foreach=foreach, **momentum.get(kind, {}))
    built = BuiltGroups.of(optimizer)
    for _ in train(model, TASK, steps=3, batch_size=4, optimizer=optimizer):
        state = optimizer_state(optimizer, model, built)
        assert any(isinstance(value, torch.Tensor) for value in state.values())


def test_views_of_a_buffer_that_nobody_keeps_are_kept() -> None:
    model = toy_model(TASK, d_model=8)
    optimizer = torch.optim.SGD(model.named_parameters(), lr=0.1)
    built = BuiltGroups.of(optimizer)
    sizes = [parameter.numel() for parameter in model.parameters()]
    for parameter, view in zip(model.parameters(), torch.rand(sum(sizes)).split(sizes), strict=True):
        optimizer.state[parameter] = {"momentum": view.view_as(parameter), "column": torch.rand(3, 2)[:, 1]}
    state = optimizer_state(optimizer, model, built)
    assert torch.equal(state["embed.W_E/momentum"], optimizer.state[model.W_E]["momentum"])


def test_one_tensor_of_two_parameters_that_asks_for_gradients_is_one_again() -> None:
    model = toy_model(TASK, d_model=8)
    optimizer = torch.optim.SGD(model.named_parameters(), lr=0.1)
    shared = Parameter(torch.zeros(2))
    for parameter in model.parameters():
        optimizer.state[parameter] = {"shared": shared}
    state = optimizer_state(optimizer, model, BuiltGroups.of(optimizer))
    assert len({id(value) for value in state.values()}) == 1


def test_what_is_changed_is_told_by_bits_and_type() -> None:
    optimizer = torch.optim.SGD([Parameter(torch.ones(2))], lr=1.0)
    (group,) = optimizer.param_groups
    old = {"one": 1, "zero": 0.0, "nan": math.nan, "tensor": torch.zeros(2), "pair": (1, 2), "kind": torch.float32}
    group.update({**old, "named": {"a": [1]}, "gone": None, "same": 0.5, "function": math.sqrt})
    built = BuiltGroups.of(optimizer)
    assert built.changed(optimizer) == {}
    group.update({"one": True, "zero": -0.0, "pair": [1, 2], "new": None})
    group["tensor"][1] = -0.0
    group["named"]["a"].append(2)
    del group["gone"]
    assert built.changed(optimizer) == {
        "/0/one": True,
        "/0/zero": -0.0,
        "/0/pair": [1, 2],
        "/0/new": None,
        "/0/tensor": group["tensor"],
        "/0/named": {"a": [1, 2]},
        "/0/gone": GONE,
    }


def test_the_state_of_something_else_is_refused() -> None:
    model, optimizer, _ = drifted()
    weights = dict(model.named_parameters())
    with pytest.raises(
        ValueError, match=r"another optimiser's state: 'k' of parameter group 2, which it does not have"
    ):
        put_optimizer_state(optimizer, {"/2/k": 3}, model, weights=weights)
    with pytest.raises(ValueError, match=r"another optimiser's state: nothing/k belongs to no parameter"):
        put_optimizer_state(optimizer, {"nothing/k": 3}, model, weights=weights)


def test_a_live_optimiser_that_asks_for_a_closure_is_refused_before_a_step() -> None:
    model = toy_model(TASK, d_model=8)
    for optimizer in (Lbfgs(), Lbfgs().build(model.named_parameters())):
        with pytest.raises(ValueError, match=r"^LBFGS asks for closure at each step"):
            next(train(model, TASK, optimizer=optimizer))


def test_the_own_optimiser_of_these_tests_needs_all_that_it_keeps() -> None:
    """Or else the tests above would pass without it."""

    def loss_without(place: str | None) -> float:
        model, optimizer, built = drifted(3)
        state = optimizer_state(optimizer, model, built)
        fresh = Drift(decay=0.9).build(model.named_parameters())
        left = {where: value for where, value in state.items() if where.split("/")[-1] != place}
        put_optimizer_state(fresh, left, model, weights=dict(model.named_parameters()))
        *_, last = train(model, TASK, start=3, steps=6, batch_size=4, optimizer=fresh)
        return last.loss

    model, optimizer, _ = drifted(3)
    *_, last = train(model, TASK, start=3, steps=6, batch_size=4, optimizer=optimizer)
    assert loss_without(None) == last.loss
    names = {"d", "k", "lr", "lr_max", "betas", "warm", "phase", "weight_sum", "history", "numerator"}
    for name in names | {"mean", "count", "sign", "ends"}:
        try:
            assert loss_without(name) != last.loss, name
        except KeyError:  # it is not made anew where there is other state
            assert name in ("mean", "count", "sign", "ends")
    assert isinstance(optimizer, Drifting)
