"""A run from its first byte to its last: made, killed, gone on with, damaged, read.

plateau_interp.runs.run, with plateau_interp.runs.creating and plateau_interp.runs.forking.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import safetensors.torch
import torch
from trained_runs import RECIPE, contents, finished, spoil, undoes_training
from typecheck import unchecked

from plateau_interp.analysis.observing import fixed_batch
from plateau_interp.codec import RecipeError
from plateau_interp.hooks import (
    AmplifySlowGradient,
    BiasAttention,
    During,
    FreezeWeights,
    MixAttention,
    PatchActivation,
    PatchAttention,
    TransplantWeights,
    When,
)
from plateau_interp.interventions.attaching import InterventionWarning
from plateau_interp.interventions.capturing import Capture, Captured
from plateau_interp.models.settings import ModelOptions
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run, RunError
from plateau_interp.tasks import Histogram, Mixture, ModularArithmetic, MovingWindowSum
from plateau_interp.training.optimizers import SGD
from plateau_interp.training.settings import MeasuringOptions, TrainingOptions


def test_the_folder_is_the_documented_one(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", RECIPE)
    assert run.checkpoints == [0, 10, 20, 25]
    assert run.finished
    assert Recipe.read(run.path / "recipe.json") == RECIPE
    table = pd.read_parquet(run.path / "metrics.parquet")
    assert list(table["step"]) == list(range(25))
    assert list(table["samples"]) == [8 * (step + 1) for step in range(25)]
    assert {"loss", "accuracy", "accuracy_3", "attention_progress", "repetition", "cosine"} <= set(table.columns)
    pd.testing.assert_frame_equal(table, run.metrics)
    environment = json.loads((run.path / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__
    assert environment["processor"]
    assert environment["cores"] == os.cpu_count()
    assert not list(run.path.rglob("*.tmp"))
    weights = safetensors.torch.load_file(run.path / "checkpoints" / "25" / "model.safetensors")
    assert set(weights) == {name for name, _ in run.model().named_parameters()}


def test_models_are_those_of_their_steps(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", RECIPE)
    fresh, first, last = RECIPE.build_model(), run.model(0), run.model()
    assert all(torch.equal(a, b) for a, b in zip(fresh.parameters(), first.parameters(), strict=True))
    assert not torch.equal(first.W_E, last.W_E)
    batch = fixed_batch(RECIPE.task)
    loss = RECIPE.task.loss(run.model(20)(batch.inputs), batch)
    assert loss.isfinite()


def test_the_rows_are_those_of_a_run_without_folder(tmp_path: Path) -> None:
    from plateau_interp.training.loop import train

    run = finished(tmp_path / "run", RECIPE)
    steps = train(RECIPE.build_model(), RECIPE.task, steps=25, batch_size=8, meter=RECIPE.build_meter())
    assert [{"loss": step.loss, **step.metrics} for step in steps] == run.metrics.drop(
        columns=["step", "samples"]
    ).to_dict("records")


@pytest.mark.parametrize("optimizer", [RECIPE.optimizer, SGD(learning_rate=0.1, momentum=0.9)])
@pytest.mark.parametrize("stop_after", [1, 10, 13, 24])
def test_stopping_and_going_on_is_bit_exact(tmp_path: Path, stop_after: int, optimizer: Any) -> None:
    recipe = replace(RECIPE, training=replace(RECIPE.training, optimizer=optimizer))
    whole = finished(tmp_path / "whole", recipe)
    steps = Run.create(tmp_path / "halves", recipe).train()
    for _ in range(stop_after):
        next(steps)
    steps.close()
    halves = finished(tmp_path / "halves", recipe)
    assert contents(halves.path) == contents(whole.path)


def test_a_longer_recipe_goes_on_and_equals_the_long_run(tmp_path: Path) -> None:
    longer = replace(RECIPE, training=replace(RECIPE.training, steps=40))
    finished(tmp_path / "run", RECIPE)
    assert finished(tmp_path / "run", longer).metrics.equals(finished(tmp_path / "long", longer).metrics)


def test_sparse_measuring_resumes(tmp_path: Path) -> None:
    recipe = replace(RECIPE, measuring=MeasuringOptions(every=7, n_sequences=4))
    steps = Run.create(tmp_path / "run", recipe).train()
    for _ in range(12):
        next(steps)
    steps.close()
    assert list(finished(tmp_path / "run", recipe).metrics["step"]) == [0, 7, 14, 21]


def test_a_finished_run_is_left_as_it_is(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", RECIPE)
    before = contents(run.path)
    assert list(run.train()) == []
    assert contents(run.path) == before


TRAIN = [sys.executable, "-m", "plateau_interp.cli.main", "train", "moving-window-sum"]
SIZES = {"n": 4, "p": 7, "d-model": 16, "steps": 300, "batch-size": 8, "checkpoint-every": 7, "n-sequences": 4}
OPTIONS = [*(word for name, size in SIZES.items() for word in (f"--{name}", str(size)))]


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_bit_for_bit_as_an_undisturbed_one(tmp_path: Path) -> None:
    def start(name: str) -> subprocess.Popen[bytes]:
        command = [*TRAIN, *OPTIONS, "--seed", "3", "--out", str(tmp_path / name)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    undisturbed = start("undisturbed")
    output, _ = undisturbed.communicate(timeout=120)
    assert undisturbed.returncode == 0, output.decode()

    moments, metrics = random.Random(time.time_ns()), tmp_path / "killed" / "metrics.jsonl"
    kills = 0
    for wait_for in sorted(moments.sample(range(1, 290), 4)):
        process = start("killed")
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if metrics.exists() and metrics.read_bytes().count(b"\n") >= wait_for:
                time.sleep(moments.random() * 0.01)
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.001)
        process.communicate(timeout=60)
        kills += process.returncode == -signal.SIGKILL
    assert kills >= 3, "the run was over before it could be killed: the test proves nothing"
    assert not Run(tmp_path / "killed").finished
    last = start("killed")
    output, _ = last.communicate(timeout=120)
    assert last.returncode == 0, output.decode()
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")
    killed, whole = Run(tmp_path / "killed"), Run(tmp_path / "undisturbed")
    pd.testing.assert_frame_equal(killed.metrics, whole.metrics, check_exact=True)


def test_a_line_cut_off_by_a_kill_does_not_count(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", RECIPE)
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 25, "lo')
    assert len(Run(run.path).metrics) == 25


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_a_truncated_checkpoint_is_refused_with_the_remedy_and_the_remedy_works(tmp_path: Path, name: str) -> None:
    whole = finished(tmp_path / "whole", RECIPE)
    run = Run.create(tmp_path / "run", RECIPE)
    steps = run.train()
    for _ in range(20):
        next(steps)
    steps.close()
    spoil(run.path / "checkpoints" / "20" / name)
    rows = (run.path / "metrics.jsonl").read_bytes()
    with pytest.raises(
        RunError, match=rf"20/{name} is damaged: .*; move .*20 away to go on from the checkpoint before"
    ):
        next(run.train())
    assert (run.path / "metrics.jsonl").read_bytes() == rows
    shutil.rmtree(run.path / "checkpoints" / "20")
    assert contents(finished(run.path, RECIPE).path) == contents(whole.path)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", RECIPE)
    next(run.train())
    state = run.path / "checkpoints" / "0" / "state.json"
    state.write_text(json.dumps({**json.loads(state.read_text()), "format": 99}))
    with pytest.raises(RunError, match=r"written by a newer version \(format 99, this one reads 4 and older\)"):
        next(run.train())
    recipe = run.path / "recipe.json"
    recipe.write_text(recipe.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(RunError, match="this version reads recipes of format 1; got 99"):
        Run(run.path)


def test_missing_rows_are_noticed(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", RECIPE)
    steps = run.train()
    for _ in range(12):
        next(steps)
    steps.close()
    (run.path / "metrics.jsonl").unlink()
    with pytest.raises(RunError, match=r"metrics.jsonl has 0 rows before step 10, not the expected 10"):
        next(run.train())


@pytest.mark.parametrize(
    ("cut", "told"),
    [
        (lambda lines: lines[:10], " has 10 rows before step 25, not the expected 25"),
        (lambda lines: lines[:3] + lines[4:], ", line 4, is damaged: step 3 is missing: this is step 4"),
    ],
    ids=["end", "middle"],
)
def test_rows_that_a_finished_run_lost_are_noticed_and_the_table_is_left_alone(
    tmp_path: Path, cut: Any, told: str
) -> None:
    run = finished(tmp_path / "run", RECIPE)
    file = run.path / "metrics.jsonl"
    file.write_text("".join(cut(file.read_text().splitlines(keepends=True))))
    before = contents(run.path)
    for act in (lambda: list(run.train()), lambda: run.metrics, lambda: run.summary, lambda: run.fork(at=20)):
        with pytest.raises(RunError, match=rf"run/metrics.jsonl{told}"):
            act()
    assert contents(run.path) == before
    assert not (tmp_path / "run-from-20").exists()


def test_a_checkpoint_that_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", RECIPE)
    with pytest.raises(RunError, match="has no checkpoint yet"):
        run.model()
    with pytest.raises(RunError, match="there is no checkpoint of step 12; the nearest is 10"):
        finished(run.path, RECIPE).model(12)


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", RECIPE)
    steps = run.train()
    next(steps)
    for path in (run.path, tmp_path / "link"):
        if path != run.path:
            path.symlink_to(run.path)
        with pytest.raises(
            RunError, match=r"this process is writing to .* already: end the loop over its other `train"
        ):
            next(Run(path).train())
    code = "import sys; from plateau_interp import Run; next(Run(sys.argv[1]).train())"
    other = subprocess.run([sys.executable, "-c", code, str(run.path)], capture_output=True, text=True)
    assert "BusyFolder: another process is writing to" in other.stderr
    steps.close()
    next(Run(run.path).train())


def test_a_run_that_diverges_stops_there_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    training = TrainingOptions(steps=25, batch_size=8, optimizer=SGD(learning_rate=1e12))
    run = Run.create(tmp_path / "run", replace(RECIPE, training=training, checkpoint_every=1))
    with pytest.raises(RunError, match=r"training diverged at step \d+: .*\. Checkpoint \d+ is kept"):
        for _ in run.train():
            pass
    assert all(parameter.isfinite().all() for parameter in run.model().parameters())
    assert run.metrics["loss"].notna().all()


def test_a_full_disk_leaves_a_folder_that_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = finished(tmp_path / "whole", RECIPE)
    run = Run.create(tmp_path / "run", RECIPE)
    fsync, calls = os.fsync, [0]

    def full(descriptor: int) -> None:
        calls[0] += 1
        if calls[0] > 8:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        for _ in run.train():
            pass
    monkeypatch.undo()
    assert contents(finished(run.path, RECIPE).path) == contents(whole.path)


@pytest.mark.parametrize(
    "interventions",
    [
        (AmplifySlowGradient(),),
        (When(BiasAttention(factor=3.0), since="loss < 2.5"), FreezeWeights("mlp")),
        pytest.param((During(TransplantWeights("donor", "mlp"), start=5, stop=18),), marks=undoes_training),
    ],
    ids=["memory", "condition", "transplant"],
)
@pytest.mark.parametrize("at", [7, 10])
def test_interventions_keep_their_memory_when_resumed_and_forked(tmp_path: Path, interventions: Any, at: int) -> None:
    if isinstance(interventions[0], During):
        finished(tmp_path / "donor", replace(RECIPE, seed=9))
        source = str(tmp_path / "donor")
        interventions = (During(TransplantWeights(source, "mlp"), start=5, stop=18),)
    recipe = replace(RECIPE, interventions=interventions)
    parent = finished(tmp_path / "parent", recipe)
    steps = Run.create(tmp_path / "halves", recipe).train()
    for _ in range(13):
        next(steps)
    steps.close()
    assert contents(finished(tmp_path / "halves", recipe).path) == contents(parent.path)
    fork = parent.fork(at=at)
    for _ in fork.train():
        pass
    assert fork.metrics.equals(parent.metrics)
    last = "checkpoints/25/model.safetensors"
    assert contents(fork.path)[last] == contents(parent.path)[last]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("checkpoints/20/state.json", b"[]", "state.json is damaged"),
        ("checkpoints/20/state.json", b"{}", "state.json is damaged"),
        ("metrics.jsonl", b"null\n", "metrics.jsonl, line 1, is damaged: it is no row of metrics: None"),
        ("metrics.jsonl", b"\xff\n", "metrics.jsonl, line 1, is damaged: it is no text in UTF-8"),
    ],
)
def test_other_damage_is_a_clear_error_too(tmp_path: Path, file: str, content: bytes, message: str) -> None:
    run = Run.create(tmp_path / "run", RECIPE)
    steps = run.train()
    for _ in range(20):
        next(steps)
    steps.close()
    (run.path / file).write_bytes(content)
    with pytest.raises(RunError, match=message):
        next(run.train())


def test_a_checkpoint_that_was_moved_into_place_is_forced_to_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.create(tmp_path / "run", RECIPE)
    fsync, seen = os.fsync, []

    def watched(descriptor: int) -> None:
        fsync(descriptor)
        folder = run.path / "checkpoints"
        if folder.exists() and os.fstat(descriptor).st_ino == folder.stat().st_ino:
            seen.append(run.checkpoints)

    monkeypatch.setattr(os, "fsync", watched)
    for _ in run.train():
        pass
    assert seen == [[0], [0, 10], [0, 10, 20], [0, 10, 20, 25]]


def test_a_run_goes_on_capturing_where_it_was_and_no_other_run_does(tmp_path: Path) -> None:
    folder = tmp_path / "captured"
    capture = Capture(("blocks.0.attn.hook_pattern",), out=str(folder), every=3, sequences=1)
    recipe = replace(RECIPE, interventions=(When(capture, since="loss > 0"),))
    begun = Run.create(tmp_path / "begun", replace(recipe, seed=1))
    run = Run.create(tmp_path / "run", recipe)
    for step in run.train():
        if step.step == 14:
            break
    for _ in Run(tmp_path / "run").train():
        pass
    finished(tmp_path / "run", replace(recipe, training=TrainingOptions(steps=27, batch_size=8)))
    assert Captured(folder).steps == list(range(3, 27, 3))
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}

    for parent, at, steps in (("run", 7, 30), ("run", 0, 5), ("run-from-7", 7, 11)):
        fork = Run(tmp_path / parent).fork(at=at, steps=steps)
        for _ in fork.train():
            pass
    assert Captured(folder).steps == list(range(3, 30, 3))
    assert all(file.read_bytes() == content for file, content in before.items())

    for interventions in ([*recipe.interventions, BiasAttention()], [During(capture)]):
        with pytest.raises(RunError, match="captured holds what the parent captured"):
            run.fork(at=7, interventions=interventions)
    with pytest.raises(RunError, match="captured holds what another run captured; give this run's Capture another"):
        Run.create(tmp_path / "unrelated", replace(recipe, seed=2))
    assert not (tmp_path / "unrelated").exists()
    with pytest.raises(ValueError, match="holds what another run, or another model, captured; nothing was written"):
        list(begun.train())  # made when the folder was still free
    assert all(file.read_bytes() == content for file, content in before.items())
    assert len(list(folder.glob("origin-*"))) == 1


def test_a_run_from_before_folders_were_signed_goes_on_capturing(tmp_path: Path) -> None:
    capture = Capture(("unembed.hook_in",), out=str(tmp_path / "captured"), every=5)
    recipe = replace(RECIPE, interventions=(capture,))
    run = finished(tmp_path / "run", recipe)
    for signature in (tmp_path / "captured").glob("origin-*"):
        signature.unlink()
    for folder in run.path.glob("checkpoints/*"):  # of format 1, without digests
        (folder / "interventions.safetensors").write_bytes(safetensors.torch.save({}))
        state = json.loads((folder / "state.json").read_text())
        kept = {name: state[name] for name in ("step", "latest", "optimizer")}
        (folder / "state.json").write_text(json.dumps({"format": 1, **kept}))
    finished(run.path, replace(recipe, training=TrainingOptions(steps=31, batch_size=8)))
    assert Captured(tmp_path / "captured").steps == list(range(0, 31, 5))


@pytest.mark.parametrize(
    "taking",
    [
        lambda source: PatchAttention(source=source),
        lambda source: During(PatchActivation("blocks.0.hook_attn_out", source=source), start=1),
        lambda source: MixAttention(weight=0.5, towards=PatchAttention(source=source)),
        lambda source: TransplantWeights(source, "mlp"),
        lambda source: During(TransplantWeights(source, "mlp"), start=8),
        lambda source: During(TransplantWeights(source, "mlp"), start=20),
    ],
)
def test_a_donor_that_was_trained_on_is_noticed(tmp_path: Path, taking: Any) -> None:
    """By who goes on and by who forks, at a checkpoint and between two."""
    donor = replace(RECIPE, training=replace(RECIPE.training, steps=2), seed=5)
    finished(tmp_path / "donor", donor)
    recipe = replace(RECIPE, interventions=(taking(str(tmp_path / "donor")),))
    run = Run.create(tmp_path / "run", recipe)
    for step in run.train():
        if step.step == 12:
            break
    for step in Run(run.path).train():  # as it was
        if step.step == 14:
            break
    longer = replace(donor, training=replace(donor.training, steps=3))
    finished(tmp_path / "donor", longer)
    before = contents(run.path)
    message = r"what .* takes from has changed since the run took from it: .*name the step, as in 'RUN@STEP'"
    with pytest.raises(RunError, match=message):
        next(Run(run.path).train())
    for at in (0, 7, 10):
        with pytest.raises(RunError, match=message):
            Run(run.path).fork(at=at, out=tmp_path / "fork")
    assert contents(run.path) == before
    assert not (tmp_path / "fork").exists()


FINITE = Recipe(
    ModularArithmetic(p=7, train_fraction=0.55),
    model=ModelOptions(d_model=16),
    training=TrainingOptions(steps=25, batch_size=10),
    measuring=MeasuringOptions(every=5),
    checkpoint_every=7,
)


@pytest.mark.parametrize("stop_after", [3, 7, 16])
def test_a_finite_run_stops_and_goes_on_in_the_middle_of_an_epoch(tmp_path: Path, stop_after: int) -> None:
    whole = finished(tmp_path / "whole", FINITE)
    steps = Run.create(tmp_path / "halves", FINITE).train()
    for _ in range(stop_after):
        next(steps)
    steps.close()
    assert contents(finished(tmp_path / "halves", FINITE).path) == contents(whole.path)
    fork = whole.fork(at=stop_after)
    for _ in fork.train():
        pass
    assert fork.metrics.equals(whole.metrics)
    last = "checkpoints/25/model.safetensors"
    assert contents(fork.path)[last] == contents(whole.path)[last]
    assert {"validation_loss", "validation_accuracy"} <= set(whole.metrics.columns)
    assert list(whole.metrics["samples"][:2]) == [10, 2 * 23]


def test_what_is_no_number_is_null_on_disk_and_survives_a_stop(tmp_path: Path) -> None:
    task = Mixture((MovingWindowSum(n=5, p=7, scored="answer"), Histogram(n=5, high=4, scored="answer")))
    recipe = replace(RECIPE, task=task, measuring=MeasuringOptions(n_sequences=1), interventions=())
    whole = finished(tmp_path / "whole", recipe)
    assert whole.metrics["accuracy_moving_window_sum"].isna().all()  # one sequence is of the last task
    run = Run.create(tmp_path / "stopped", recipe)
    next(run.train())
    assert contents(finished(tmp_path / "stopped", recipe).path) == contents(whole.path)

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    for file in [whole.path / "metrics.jsonl", *whole.path.glob("checkpoints/*/state.json")]:
        for text in file.read_text().splitlines() if file.suffix == ".jsonl" else [file.read_text()]:
            json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("wrong", [3, None, b"run", ""])
def test_what_is_no_path_is_refused(wrong: Any) -> None:
    message = "expected the path of a folder, such as 'runs/mws'; got "
    for cls in (Run, Captured):
        with pytest.raises(ValueError, match=message):
            unchecked(cls.__init__)(object.__new__(cls), wrong)
    with pytest.raises(ValueError, match=message):
        unchecked(Run.create)(wrong, RECIPE)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"model": {"d_model": 8}}, r"model must be ModelOptions\(\); got {'d_model': 8}"),
        ({"training": 3}, r"training must be TrainingOptions\(\); got 3"),
        ({"measuring": None}, r"measuring must be MeasuringOptions\(\); got None"),
        ({"interventions": BiasAttention()}, r"interventions must be a list, such as .*; got BiasAttention"),
        ({"interventions": [BiasAttention]}, "expected interventions such as"),
    ],
)
def test_what_is_no_recipe_is_refused(tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        unchecked(Recipe.__init__)(object.__new__(Recipe), MovingWindowSum(), **wrong)
    with pytest.raises(ValueError, match="recipe must be a Recipe, such as"):
        unchecked(Run.create)(tmp_path / "run", wrong)


def test_interventions_may_be_a_list() -> None:
    assert isinstance(Recipe(MovingWindowSum(), interventions=[BiasAttention()]).interventions, tuple)


def test_a_folder_that_is_gone_is_no_run_that_has_not_begun(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", RECIPE)
    (tmp_path / "run").rename(tmp_path / "moved")
    uses = (
        lambda: run.metrics,
        lambda: run.summary,
        lambda: run.model(),
        lambda: run.step,
        lambda: next(run.train()),
        lambda: run.fork(at=10, out=tmp_path / "fork"),
    )
    for use in uses:
        with pytest.raises(
            RunError, match=r"run holds no recipe.json any more: it was moved or removed after it was op"
        ):
            use()
    assert os.listdir(tmp_path) == ["moved"]
    assert repr(run).endswith(", gone)")
    assert len(Run(tmp_path / "moved").metrics) == 25


def test_recordings_that_go_on_elsewhere_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(RECIPE, interventions=(Capture(("hook_embed",), out="captured", every=5),), checkpoint_every=5)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    for reached in (
        0,
        10,
    ):  # one killed before it recorded anything says nothing, one that goes on in its place neither
        for step in Run.create("run", recipe).train():
            if step.step == reached:
                break
    assert Captured("captured").steps == [0, 5, 10]
    monkeypatch.chdir(tmp_path / "elsewhere")
    message = "recorded into .*elsewhere/captured from step 10 on; what this run recorded before is not there"
    with pytest.warns(InterventionWarning, match=message):
        finished(Path("..") / "run", recipe)
    assert Captured(Path("captured")).steps == [10, 15, 20]


@pytest.mark.parametrize("every", [5, 20])
def test_a_first_recording_after_a_resumption_is_where_it_should_be(tmp_path: Path, every: int) -> None:
    capture = Capture(("hook_embed",), out=str(tmp_path / "captured"), every=every)
    recipe = replace(RECIPE, interventions=(During(capture, start=12),))
    for step in Run.create(tmp_path / "run", recipe).train():
        if step.step == 11:
            break
    finished(tmp_path / "run", recipe)
    assert Captured(capture.out).steps == list(range(0, 25, every))[-(-12 // every) :]
