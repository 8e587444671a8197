import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from plateau_interp.files import digest
from plateau_interp.hooks import AmplifySlowGradient, BiasAttention, CapacityRegulariser, FreezeWeights, When
from plateau_interp.interventions.attaching import attaching
from plateau_interp.models.initializers import Scaled
from plateau_interp.models.settings import ModelOptions
from plateau_interp.runs.checkpoints import (
    Checkpoint,
    Label,
    let_go,
    load_weights,
    read_label,
    weights_of,
)
from plateau_interp.runs.errors import DamagedFile, RunError
from plateau_interp.runs.optimizer_state import BuiltGroups
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.tasks import MovingWindowSum
from plateau_interp.training.loop import train
from plateau_interp.training.optimizers import SGD
from plateau_interp.training.settings import MeasuringOptions, TrainingOptions

RECIPE = Recipe(
    MovingWindowSum(n=4, p=7),
    model=ModelOptions(d_model=16),
    training=TrainingOptions(steps=6, batch_size=8),
    interventions=(AmplifySlowGradient(),),
)


def live():
    model = RECIPE.build_model()
    return model, RECIPE.optimizer.build(model.named_parameters())


@pytest.fixture
def checkpoint() -> Checkpoint:
    """The state after three steps."""
    model, optimizer = live()
    with attaching(model, *RECIPE.interventions) as attached:
        *_, last = train(model, RECIPE.task, steps=3, batch_size=8, optimizer=optimizer)
        latest = {"loss": last.loss, "cosine": float("nan")}
        return Checkpoint.take(
            3, model=model, optimizer=optimizer, built=BuiltGroups.of(optimizer), attached=attached, latest=latest
        )


def flat(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    parts = {"weights": checkpoint.weights, "optimizer": checkpoint.optimizer, "memory": checkpoint.memory}
    return {f"{part} {name}": torch.as_tensor(v) for part, values in parts.items() for name, v in values.items()}


def same(one: Checkpoint, other: Checkpoint) -> bool:
    mine, theirs = flat(one), flat(other)
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_what_is_saved_is_loaded_and_what_is_taken_is_applied(checkpoint: Checkpoint, tmp_path: Path) -> None:
    assert checkpoint.memory
    assert any(name.endswith("/exp_avg") for name in checkpoint.optimizer)
    checkpoint.save(tmp_path / "3", recipe="r", rows="x")
    loaded = Checkpoint.load(tmp_path / "3", recipe="r")
    assert same(loaded, checkpoint)
    assert (loaded.step, loaded.latest["loss"]) == (3, checkpoint.latest["loss"])
    assert loaded.latest["cosine"] != loaded.latest["cosine"]
    model, optimizer = live()
    with attaching(model, *RECIPE.interventions) as attached:
        loaded.apply(model=model, optimizer=optimizer, attached=attached)
        again = Checkpoint.take(
            3, model=model, optimizer=optimizer, built=BuiltGroups.of(optimizer), attached=attached, latest={}
        )
        assert same(again, checkpoint)
        list(train(model, RECIPE.task, steps=4, start=3, batch_size=8, optimizer=optimizer))
    assert same(again, checkpoint), "training went on in the tensors of a checkpoint"
    weights = load_weights(tmp_path / "3", recipe="r")
    assert all(torch.equal(weights[name], value) for name, value in checkpoint.weights.items())
    assert read_label(tmp_path / "3", recipe="r") == Label(format=3, rows="x", has_state=True)


def test_a_state_of_something_else_is_refused(checkpoint: Checkpoint) -> None:
    model, optimizer = live()
    other = Recipe(MovingWindowSum(n=4, p=7), model=ModelOptions(d_model=8)).build_model()
    before = weights_of(other)
    with pytest.raises(ValueError, match=r"another model's weights: embed.W_E is \(\d+, 16\), not \(\d+, 8\)"):
        checkpoint.apply(model=other, optimizer=optimizer, attached=())
    assert all(torch.equal(before[name], value) for name, value in weights_of(other).items())
    with pytest.raises(ValueError, match=r"the state remembers .*, of another than these interventions"):
        checkpoint.apply(model=model, optimizer=optimizer, attached=())
    few = SGD().build(list(model.named_parameters())[:1])
    with pytest.raises(ValueError, match=r"another optimiser's state: .*/\w+ belongs to no parameter that it trains"):
        checkpoint.apply(model=model, optimizer=few, attached=())


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    file.write_bytes(bytes(content))


def rewrite(file: Path, **changes: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def swap(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder.parent / "2" / name).read_bytes()) and None


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (swap("model.safetensors"), r"3/model.safetensors is damaged: it was changed, or is another step's"),
        (swap("optimizer.safetensors"), r"3/optimizer.safetensors is damaged: it was changed, or is another step's"),
        (swap("interventions.safetensors"), r"3/interventions.safetensors is damaged: it was changed"),
        (swap("state.json"), r"3/state.json is damaged: it is the state of step 2, not of 3"),
        (lambda folder: flip(folder / "model.safetensors"), r"3/model.safetensors is damaged: it was changed"),
        (lambda folder: flip(folder / "optimizer.safetensors"), r"3/optimizer.safetensors is damaged"),
        (lambda folder: flip(folder / "interventions.safetensors"), r"3/interventions.safetensors is damaged"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"3/model.safetensors is damaged: No such file"),
        (lambda folder: (folder / "state.json").unlink(), r"3/state.json is damaged: No such file"),
        (lambda folder: (folder / "state.json").write_text("[" * 99_999), r"3/state.json is damaged"),
        (lambda folder: rewrite(folder / "state.json", latest={"loss": 1.5}), r"3/state.json .* it was changed after"),
        (lambda folder: rewrite(folder / "state.json", optimizer={"x/step": 4}), r"3/state.json .* it was changed"),
        (
            lambda folder: rewrite(folder / "state.json", latest={"loss": "low"}),
            r"3/state.json .* not what a checkpoint",
        ),
        (
            lambda folder: (folder / "optimizer.safetensors").unlink(),
            r"3/optimizer.safetensors is damaged: No such file",
        ),
        (lambda folder: rewrite(folder / "state.json", files={}), r"3/state.json .* not what a checkpoint holds"),
        (lambda folder: rewrite(folder / "state.json", files=None), r"3/state.json .* not what a checkpoint holds"),
        (lambda folder: rewrite(folder / "state.json", format=99), r"newer version .format 99, this one reads 4 and"),
    ],
)
def test_what_was_changed_is_refused_by_name(
    checkpoint: Checkpoint, tmp_path: Path, spoil: Callable[[Path], None], told: str
) -> None:
    model, optimizer = live()
    with attaching(model, *RECIPE.interventions) as attached:
        list(train(model, RECIPE.task, steps=2, batch_size=8, optimizer=optimizer))
        earlier = Checkpoint.take(
            2, model=model, optimizer=optimizer, built=BuiltGroups.of(optimizer), attached=attached, latest={}
        )
    for state in (earlier, checkpoint):
        state.save(tmp_path / str(state.step), recipe="r", rows="x")
    spoil(tmp_path / "3")
    with pytest.raises(RunError, match=told) as caught:
        Checkpoint.load(tmp_path / "3", recipe="r")
    assert "\n" not in str(caught.value)


def test_another_place_and_another_run_are_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "3", recipe="r", rows="x")
    with pytest.raises(RunError, match=r"3/state.json belongs to the run of another recipe: .*recipe.json was changed"):
        Checkpoint.load(tmp_path / "3", recipe="s")
    (tmp_path / "3").rename(tmp_path / "4")
    for load in (Checkpoint.load, load_weights):
        with pytest.raises(DamagedFile, match=r"4/state.json is damaged: it is the state of step 3, not of 4"):
            load(tmp_path / "4", recipe="r")


def test_a_file_that_cannot_be_read_now_is_not_called_damaged(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(tmp_path / "3", recipe="r", rows="x")

    def refuse(file: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(PermissionError, match=r"Permission denied: '.*3/state.json'"):
        Checkpoint.load(tmp_path / "3", recipe="r")


def test_saving_that_fails_leaves_nothing(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*model.safetensors'"):
        checkpoint.save(tmp_path / "3", recipe="r", rows="x")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr("os.fsync", lambda descriptor: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(tmp_path / "3", recipe="r", rows="x")
    assert list(tmp_path.iterdir()) == []


def test_the_optimisers_state_is_let_go_and_the_rest_stays(checkpoint: Checkpoint, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "3", recipe="r", rows="x")
    before = {file.name: file.read_bytes() for file in (tmp_path / "3").iterdir()}
    let_go(tmp_path / "3", recipe="r")
    assert read_label(tmp_path / "3", recipe="r") == Label(format=3, rows="x", has_state=False)
    after = {file.name: file.read_bytes() for file in (tmp_path / "3").iterdir()}
    assert {*before} - {*after} == {"optimizer.safetensors"}
    assert {name for name in after if after[name] != before[name]} == {"state.json"}
    loaded = Checkpoint.load(tmp_path / "3", recipe="r")
    assert same(replace(loaded, optimizer={}), replace(checkpoint, optimizer={}))
    assert (loaded.optimizer, loaded.latest["loss"]) == (None, checkpoint.latest["loss"])
    model, optimizer = live()
    with pytest.raises(ValueError, match="the optimiser's state of step 3 was let go"):
        loaded.apply(model=model, optimizer=optimizer, attached=())
    (tmp_path / "3" / "optimizer.safetensors").write_bytes(before["optimizer.safetensors"])
    let_go(tmp_path / "3", recipe="r")  # a kill left the file
    assert {file.name: file.read_bytes() for file in (tmp_path / "3").iterdir()} == after
    (tmp_path / "3" / "interventions.safetensors").unlink()
    with pytest.raises(DamagedFile, match=r"interventions.safetensors is damaged"):
        Checkpoint.load(tmp_path / "3", recipe="r")


def test_what_has_no_digests_is_believed_and_gets_them(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """As format 1 has none, neither of its files nor of the recipe."""
    checkpoint.save(tmp_path / "3", recipe="r", rows="x")
    file = tmp_path / "3" / "state.json"
    whole = json.loads(file.read_text())
    without = {name: whole[name] for name in ("step", "latest", "optimizer")}
    file.write_text(json.dumps({"format": 1, **without}))
    let_go(tmp_path / "3", recipe="r")
    assert read_label(tmp_path / "3", recipe="r") == Label(format=3, rows=None, has_state=False)
    kept = {name: known for name, known in whole["files"].items() if name != "optimizer.safetensors"}
    assert json.loads(file.read_text())["files"] == kept
    assert same(replace(Checkpoint.load(tmp_path / "3", recipe="r"), optimizer={}), replace(checkpoint, optimizer={}))


def test_what_is_let_go_while_it_is_read_is_not_called_damaged(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(tmp_path / "3", recipe="r", rows="x")
    read = Path.read_bytes

    def overtaken(file: Path) -> bytes:
        if file.name == "optimizer.safetensors":
            let_go(tmp_path / "3", recipe="r")
        return read(file)

    monkeypatch.setattr(Path, "read_bytes", overtaken)
    assert Checkpoint.load(tmp_path / "3", recipe="r").optimizer is None


LATEST = {"loss": 2.5, "high": math.inf, "low": -math.inf, "none": math.nan}


def test_infinite_metrics_come_back_and_the_file_is_strict_json(checkpoint: Checkpoint, tmp_path: Path) -> None:
    def no_constant(word: str) -> None:
        raise AssertionError(word)

    folder = tmp_path / "3"
    replace(checkpoint, latest=LATEST).save(folder, recipe="r", rows="x")
    for _ in ("whole", "slim"):
        told = json.loads((folder / "state.json").read_text(), parse_constant=no_constant)
        assert told["latest"] == {"loss": 2.5, "high": None, "low": None, "none": None}  # as earlier versions read it
        latest = Checkpoint.load(folder, recipe="r").latest
        assert math.isnan(latest["none"])
        assert {**latest, "none": 0} == {**LATEST, "none": 0}
        let_go(folder, recipe="r")


def test_what_an_earlier_version_wrote_of_infinite_metrics_is_no_number(checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder = tmp_path / "3"
    replace(checkpoint, latest=LATEST).save(folder, recipe="r", rows="x")
    state = json.loads((folder / "state.json").read_text())
    del state["infinite"], state["digest"]
    seal = digest(json.dumps(state, sort_keys=True).encode())
    (folder / "state.json").write_text(json.dumps({**state, "digest": seal}))
    for _ in ("whole", "slim"):
        latest = Checkpoint.load(folder, recipe="r").latest
        assert [math.isnan(latest[name]) for name in LATEST] == [False, True, True, True]
        let_go(folder, recipe="r")


@pytest.mark.filterwarnings("ignore:.*did not shrink:plateau_interp.interventions.attaching.InterventionWarning")
@pytest.mark.parametrize("ramp", [0, 3])
def test_a_condition_on_an_infinite_metric_goes_on_where_it_was(ramp: int, tmp_path: Path) -> None:
    bias = When(BiasAttention(5.0), condition="capacity_regulariser < -5", ramp=ramp)
    recipe = replace(
        RECIPE,
        model=ModelOptions(d_model=16, init=(Scaled(0.0, where="blocks.*.attn.W_Q"),)),
        measuring=MeasuringOptions(every=1, n_sequences=4),
        interventions=(CapacityRegulariser(0.01), FreezeWeights("blocks.*.attn.W_Q"), bias),
        checkpoint_every=2,
    )
    whole, cut = Run.create(tmp_path / "whole", recipe), Run.create(tmp_path / "cut", recipe)
    *_, last = whole.train()
    assert last.metrics["capacity_regulariser"] == -math.inf
    for step in cut.train():
        if step.step == 4:
            break
    list(cut.train())
    fork = whole.fork(at=2, out=tmp_path / "fork")
    list(fork.train())
    ends = {(run.path / "checkpoints" / "6" / "model.safetensors").read_bytes() for run in (whole, cut, fork)}
    assert len(ends) == 1
