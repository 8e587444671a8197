"""`CheckpointSeries`: what is measured, written, gone on with after a kill, deleted and told."""

import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import torch
import transformers
from hub_cache import put_into_cache
from hub_server import commit_of, serving
from huggingface_hub import constants
from reference.published import by_transformers
from typecheck import unchecked

from plateau_interp.hooks import AblateHeads, During, FreezeWeights, PatchAttention, TransplantWeights, When
from plateau_interp.interventions.capturing import Capture
from plateau_interp.interventions.measuring import Gauge
from plateau_interp.models.checkpoint_files import snapshots
from plateau_interp.models.pretrained import pretrained_model
from plateau_interp.models.settings import ModelOptions
from plateau_interp.plugins import register
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.series import series as series_module
from plateau_interp.series import sources
from plateau_interp.series.attention import attention_on
from plateau_interp.series.folder import SeriesError, SeriesFolder, check_series
from plateau_interp.series.measures import teacher_forced, windows_of
from plateau_interp.series.series import CheckpointSeries
from plateau_interp.tasks import Text
from plateau_interp.training.settings import TrainingOptions

NAME = "someone/pythia"
PROMPTS = ["Why is the sky blue?", "What is a comet?", "How do bees find a flower?"]
STEPS = (0, 1, 4, 16)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Small models with a tokenizer, in folders that are named by their step."""
    folder = tmp_path_factory.mktemp("saved")
    task = Text()
    for step in STEPS:
        transformers.set_seed(step)
        config = transformers.GPTNeoXConfig(
            vocab_size=task.d_vocab, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
        )
        transformers.GPTNeoXForCausalLM(config).save_pretrained(folder / f"step{step}")
        task.tokenizer.save_pretrained(folder / f"step{step}")
    return folder


@pytest.fixture
def hub(tmp_path, saved, monkeypatch):
    """A cache without a hub, into which whatever is fetched comes as if it had been downloaded."""
    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    there = sources.model_folder

    def download(name, *, revision):
        if revision == "step99":
            return there(name, revision=revision)
        if not (cache / "models--someone--pythia" / "refs" / revision).exists():
            put_into_cache(cache, name, revision, f"{int(revision.removeprefix('step')):040x}", saved / revision)
        return there(name, revision=revision)

    monkeypatch.setattr(sources, "model_folder", download)
    return cache


LISTING = [f"step{step}" for step in STEPS]


def measured(source, out, **options):
    return list(CheckpointSeries(source, **options.pop("chosen", {})).measure(PROMPTS, out=out, **options))


def test_the_next_is_fetched_while_one_is_measured(saved, tmp_path, monkeypatch):
    begun = {step: threading.Event() for step in STEPS}
    there = sources.FolderSource.fetch

    def fetch(source, revision):
        begun[revision.step].set()
        return there(source, revision)

    waited = []

    def meanwhile(model, prompts):
        later = STEPS[len(waited) + 1 :]
        waited.append(not later or begun[later[0]].wait(timeout=60))
        assert not any(begun[step].is_set() for step in later[1:])
        return 0.0

    monkeypatch.setattr(sources.FolderSource, "fetch", fetch)
    measured(saved, tmp_path / "series", measures={"meanwhile": meanwhile})
    assert waited == [True] * len(STEPS)


def test_every_checkpoint_is_measured_as_by_itself(saved, tmp_path):
    records = measured(saved, tmp_path / "series", n_new=5)
    assert [record.step for record in records] == list(STEPS)
    names = {"cosine", "cosine_across_prompts", "distinct_tokens", "entropy", "repetition"}
    assert all(set(record.measures) == names for record in records)
    for step, record in zip(STEPS, records, strict=True):
        theirs = transformers.GPTNeoXForCausalLM.from_pretrained(saved / f"step{step}")
        tokenizer = transformers.AutoTokenizer.from_pretrained(saved / f"step{step}")
        cosines = []
        for prompt in PROMPTS:
            _, states = by_transformers(theirs, tokenizer.encode(prompt), n_new=5)
            pairs = [torch.cosine_similarity(states[i], states[j], dim=0) for i in range(5) for j in range(i)]
            cosines.append(float(torch.stack(pairs).mean()))
        assert record.measures["cosine"] == pytest.approx(sum(cosines) / 3, abs=1e-4)
    folder = SeriesFolder(tmp_path / "series")
    table = pd.read_parquet(folder.path / "metrics.parquet")
    assert list(table["step"]) == list(STEPS)
    assert list(table["cosine"]) == [record.measures["cosine"] for record in records]
    answers = folder.answers()
    assert len(answers) == len(STEPS) * len(PROMPTS)
    assert {len(tokens) for tokens in answers["tokens"]} == {5}
    means = answers.groupby("step")["cosine"].mean()
    assert list(means) == pytest.approx([record.measures["cosine"] for record in records])
    for step, record in zip(STEPS, records, strict=True):
        attention = folder.attention(record)
        expected = attention_on(pretrained_model(saved / f"step{step}"), PROMPTS[0])
        assert attention is not None
        assert attention.tokens == expected.tokens
        assert torch.equal(attention.patterns, expected.patterns)


def test_the_same_call_measures_nothing_twice_and_more_checkpoints_are_added(saved, tmp_path):
    out = tmp_path / "series"
    assert len(measured(saved, out, chosen={"revisions": [0, 4]})) == 2
    before = (out / "checkpoints.jsonl").read_text()
    assert measured(saved, out, chosen={"revisions": [0, 4]}) == []
    assert [record.step for record in measured(saved, out)] == [1, 16]
    assert (out / "checkpoints.jsonl").read_text().startswith(before)
    assert list(SeriesFolder(out).metrics()["step"]) == list(STEPS)


def test_an_intervention_and_measures_of_ones_own(saved, tmp_path):
    seen = []

    def norm(model, written):
        seen.append(len(written))
        return written.states.norm(dim=-1).mean()

    plain = measured(saved, tmp_path / "plain", measures={"norm": norm})
    ablated = measured(saved, tmp_path / "ablated", interventions=[AblateHeads([0, 1])])
    assert seen == [3] * len(STEPS)
    assert all(record.measures["norm"] > 0 for record in plain)
    assert [one.measures["cosine"] for one in plain] != [other.measures["cosine"] for other in ablated]
    told = json.loads((tmp_path / "ablated" / "series.json").read_text())
    assert [each["name"] for each in told["interventions"]] == ["ablate-heads"]


def test_a_measure_of_each_prompt_is_a_column_of_the_answers_and_its_mean_a_measure(saved, tmp_path):
    def norms(model, written):
        return written.states.norm(dim=-1).mean(dim=-1)

    chosen = {"measures": {"norm": norms}, "n_new": 2}
    assert len(measured(saved, tmp_path / "series", chosen={"revisions": [0]}, **chosen)) == 1
    assert len(measured(saved, tmp_path / "series", **chosen)) == 3
    folder = SeriesFolder(tmp_path / "series")
    by_step = folder.answers().groupby("step")["norm"]
    assert by_step.count().tolist() == [len(PROMPTS)] * len(STEPS)
    assert by_step.nunique().min() > 1
    assert folder.metrics()["norm"].tolist() == pytest.approx(by_step.mean().tolist())


def test_a_held_out_text_is_read(saved, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("Once upon a time there was a sea, and in the sea there was a fish. " * 30)
    records = measured(saved, tmp_path / "series", held_out=text, chosen={"revisions": [0]})
    assert records[0].measures["held_out_loss"] == pytest.approx(math.log(Text().d_vocab), abs=0.3)
    assert -1 <= records[0].measures["teacher_forced_cosine"] <= 1


def test_a_held_out_text_keeps_its_line_ends_as_a_corpus_does(saved, tmp_path):
    text = "Once upon a time\r\nthere was a sea,\rand in the sea\n" * 40
    file = tmp_path / "text.txt"
    file.write_bytes(text.encode())
    (record,) = measured(saved, tmp_path / "series", held_out=file, chosen={"revisions": [0]})
    model = pretrained_model(saved / "step0")
    expected = teacher_forced(model, windows_of(model, text))
    assert {name: record.measures[name] for name in expected} == pytest.approx(expected)
    other = teacher_forced(model, windows_of(model, text.replace("\r\n", "\n").replace("\r", "\n")))
    assert other["held_out_loss"] != pytest.approx(expected["held_out_loss"], rel=1e-4)


def test_downloads_are_deleted_and_the_users_own_are_not(hub, saved, tmp_path):
    put_into_cache(hub, NAME, "step4", f"{4:040x}", saved / "step4")
    there = []
    series = CheckpointSeries(NAME, listing=LISTING)
    for record in series.measure(PROMPTS, out=tmp_path / "series"):
        there.append((record.step, len(snapshots(NAME))))
    assert [step for step, _ in there] == list(STEPS)
    assert max(n for _, n in there) <= 3  # the user's, this one, the next
    assert snapshots(NAME) == {f"{4:040x}"}
    kept = CheckpointSeries(NAME, listing=LISTING).measure(PROMPTS, out=tmp_path / "kept", keep=True)
    assert len(list(kept)) == len(snapshots(NAME)) == len(STEPS)


@pytest.fixture
def killed(hub, tmp_path):
    """The arguments of a series that was stopped when one was measured, the next downloaded, and none deleted."""
    asked = {"out": tmp_path / "series", "n_new": 1}
    measuring = CheckpointSeries(NAME, [0, 1], listing=LISTING).measure(PROMPTS, **asked)
    next(measuring)
    measuring.close()
    assert snapshots(NAME) == {f"{0:040x}", f"{1:040x}"}
    return asked


def test_what_is_to_be_kept_is_kept_for_good(killed, caplog):
    """Also what a series that was killed had downloaded before it was told so."""
    series = CheckpointSeries(NAME, [0, 1], listing=LISTING)
    assert len(list(series.measure(PROMPTS, **killed, keep=True))) == 1
    assert list(series.measure(PROMPTS, **killed)) == []
    assert len(snapshots(NAME)) == 2
    assert caplog.messages == []


def test_what_a_stopped_series_downloaded_stays_and_is_told_once(killed, hub, caplog):
    series = CheckpointSeries(NAME, listing=LISTING)
    assert [record.step for record in series.measure(PROMPTS, **killed)] == [1, 4, 16]
    assert snapshots(NAME) == {f"{0:040x}", f"{1:040x}"}
    (told,) = caplog.messages
    assert "\n" not in told
    assert told.startswith(f"what a stopped call of this series downloaded of {NAME} stays in the hub's cache")
    assert told.endswith(f"remove it with `hf cache rm {0:040x} {1:040x} --cache-dir {hub}`")
    assert list(series.measure(PROMPTS, **killed)) == []
    assert len(caplog.messages) == 1


def test_what_another_series_keeps_by_now_is_not_deleted(killed, tmp_path):
    series = CheckpointSeries(NAME, [0, 1], listing=LISTING)
    assert len(list(series.measure(PROMPTS, **{**killed, "out": tmp_path / "kept"}, keep=True))) == 2
    assert len(list(series.measure(PROMPTS, **killed))) == 1
    assert len(snapshots(NAME)) == 2


def test_what_the_user_has_in_another_cache_is_not_deleted(killed, hub, saved, tmp_path, monkeypatch, caplog):
    """What was noted is of the cache that there was then."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "another"))
    for step in (0, 1):
        put_into_cache(tmp_path / "another", NAME, f"step{step}", f"{step:040x}", saved / f"step{step}")
    there = sorted((tmp_path / "another").rglob("*"))
    assert len(list(CheckpointSeries(NAME, [0, 1], listing=LISTING).measure(PROMPTS, **killed))) == 1
    assert sorted((tmp_path / "another").rglob("*")) == there
    assert caplog.messages[0].endswith(f" --cache-dir {hub}`")


def test_what_was_removed_since_is_not_told(killed, hub, caplog):
    shutil.rmtree(hub)
    assert len(list(CheckpointSeries(NAME, [0, 1], listing=LISTING).measure(PROMPTS, **killed))) == 1
    assert snapshots(NAME) == set()
    assert caplog.messages == []


def test_what_is_not_to_be_had_is_recorded_and_tried_again(hub, saved, tmp_path, caplog):
    series = CheckpointSeries(NAME, listing=[*LISTING[:1], "step99"])
    (hub / "models--someone--pythia" / "refs").mkdir(parents=True)
    (hub / "models--someone--pythia" / "refs" / "step99").write_text("f" * 40)  # announced, but never here
    first, missing = list(series.measure(PROMPTS, out=tmp_path / "series"))
    assert caplog.text == ""
    assert snapshots(NAME) == set()  # a name without files is no reason to keep any
    assert (first.error, missing.step, missing.measures) == ("", 99, {})
    assert "its files of revision 'step99' are not in the cache" in missing.error
    assert "\n" not in missing.error
    put_into_cache(hub, NAME, "step99", "9" * 40, saved / "step16")
    (again,) = series.measure(PROMPTS, out=tmp_path / "series")
    assert (again.step, again.error) == (99, "")
    assert list(SeriesFolder(tmp_path / "series").metrics()["error"]) == ["", ""]


def test_two_checkpoints_with_the_same_weights_are_no_data(saved, tmp_path):
    for step, of in ((0, 0), (1, 0), (4, 4), (16, 0)):
        (tmp_path / "wrong").mkdir(exist_ok=True)
        (tmp_path / "wrong" / f"step{step}").symlink_to(saved / f"step{of}")
    records = measured([path.absolute() for path in (tmp_path / "wrong").iterdir()], tmp_path / "series")
    assert [record.duplicate_of for record in records] == [(), (0,), (), (0, 1)]
    table = SeriesFolder(tmp_path / "series").metrics()
    assert list(table["duplicate"]) == [True, True, False, True]


KILLED = """
import sys
from plateau_interp.series.series import CheckpointSeries
for record in CheckpointSeries(sys.argv[1]).measure(sys.argv[3:], out=sys.argv[2]):
    print(record.step, flush=True)
"""


@pytest.mark.slow
def test_a_series_killed_at_random_moments_ends_as_an_undisturbed_one(saved, tmp_path):
    whole = measured(saved, tmp_path / "whole")
    draw, kills = random.Random(0), 0
    command = [sys.executable, "-c", KILLED, str(saved), str(tmp_path / "killed"), *PROMPTS]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for _attempt in range(30):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        file = tmp_path / "killed" / "checkpoints.jsonl"
        before, deadline = len(SeriesFolder(file.parent).records()) if file.exists() else 0, time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if file.exists() and file.read_text().count("\n") > before:
                time.sleep(draw.uniform(0, 0.2))
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.005)
        _, told = process.communicate(timeout=120)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, told.decode()
    assert kills >= 2
    again = SeriesFolder(tmp_path / "killed")
    assert [(one.step, one.weights, one.measures, one.attention) for one in again.records()] == [
        (one.step, one.weights, one.measures, one.attention) for one in whole
    ]
    assert check_series(again.path).faults == ()
    pd.testing.assert_frame_equal(again.answers(), SeriesFolder(tmp_path / "whole").answers())


def test_a_line_that_was_cut_is_measured_again(saved, tmp_path):
    out = tmp_path / "series"
    measured(saved, out)
    lines = (out / "checkpoints.jsonl").read_text()
    (out / "checkpoints.jsonl").write_text(lines[:-20])
    assert list(SeriesFolder(out).answers()["step"].unique()) == [0, 1, 4]
    assert [record.step for record in measured(saved, out)] == [16]
    assert (out / "checkpoints.jsonl").read_text().count("\n") == 4
    assert len(SeriesFolder(out).answers()) == 12


def test_a_prompt_that_is_too_long_is_told_which_it_is(saved, tmp_path):
    prompts = ["Why?", "And why not? " * 2000]
    told = r"has \d+ tokens and with 8 new ones needs n_ctx >= \d+; got "
    with pytest.raises(ValueError, match=rf"^prompt 1 \('And why .*\.\.\.'?\) {told}"):
        list(CheckpointSeries(saved).measure(prompts, out=tmp_path / "series"))


def test_another_series_or_writer_is_refused(saved, tmp_path):
    out = tmp_path / "series"
    begun = CheckpointSeries(saved).measure(PROMPTS, out=out)
    next(begun)
    with pytest.raises(SeriesError, match="series is being written already"):
        measured(saved, out)
    begun.close()
    for options, told in (
        ({"n_new": 3}, "other n_new"),
        ({"interventions": [AblateHeads([0])]}, "other interventions"),
        ({"dtype": "bfloat16"}, "other dtype"),
    ):
        with pytest.raises(SeriesError, match=f"series holds a series with {told}; take another folder"):
            measured(saved, out, **options)
    with pytest.raises(SeriesError, match="series holds a series with other prompts"):
        next(CheckpointSeries(saved).measure(["Why?"], out=out))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SeriesError, match="file is a file; a folder is needed"):
        measured(saved, tmp_path / "file")
    with pytest.raises(SeriesError, match="nothing holds no series; `plateau series` makes one"):
        SeriesFolder(tmp_path / "nothing")


@pytest.mark.parametrize("name", ["metrics.parquet", "answers.parquet", "attention", "report", "recipe.json", "a.txt"])
def test_a_folder_with_files_that_are_no_series_is_refused(saved, tmp_path, name):
    """Whether a series would write over them or not."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    (tmp_path / "mine" / name).write_text("mine")
    there = min(name, "notes.txt")
    with pytest.raises(SeriesError, match=f"mine is not empty and holds no series: there is '{there}'; take another"):
        measured(saved, tmp_path / "mine")
    assert {file.name: file.read_text() for file in (tmp_path / "mine").iterdir()} == dict.fromkeys(
        ("notes.txt", name), "mine"
    )


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"n_new": 0}, "n_new must be at least 1; got 0"),
        ({"dtype": "float8"}, "dtype must be one of float32, bfloat16, float16, float64; got 'float8'"),
        ({"held_out": "nowhere.txt"}, "^the held-out text nowhere.txt cannot be read: No such file or directory$"),
        (
            {"held_out": "a text itself, no path " * 40},
            "^the held-out text .{,110} cannot be read: File name too long$",
        ),
        ({"interventions": AblateHeads([0])}, "interventions must be a list"),
        ({"measures": {"cosine": len}}, "a measure of your own cannot be called 'cosine': the series has a column"),
        ({"measures": {"step": len}}, "a measure of your own cannot be called 'step'"),
        ({"measures": {"../norm": len}}, "a measure's name must be a word, such as state_norm; got '../norm'"),
        ({"measures": {"norm": 3}}, "the measure 'norm' must be a function of model and continuation; got 3"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(saved, tmp_path, options, told):
    with pytest.raises(ValueError, match=told):
        list(unchecked(CheckpointSeries.measure)(CheckpointSeries(saved), PROMPTS, out=tmp_path / "series", **options))
    assert not (tmp_path / "series").exists()


def test_a_folder_in_which_nothing_was_measured_yet_takes_other_settings(saved, tmp_path):
    out = tmp_path / "series"
    with pytest.raises(ValueError, match="no head 9"):
        measured(saved, out, interventions=[AblateHeads([9])])
    assert len(measured(saved, out, interventions=[AblateHeads([1])])) == len(STEPS)
    assert json.loads((out / "series.json").read_text())["interventions"][0]["heads"] == [1]


def test_a_kill_while_the_settings_are_written_leaves_a_folder_that_can_be_used(saved, tmp_path):
    (tmp_path / "series").mkdir()
    (tmp_path / "series" / ".series.json.1f.tmp").write_text("{")
    assert len(measured(saved, tmp_path / "series")) == len(STEPS)


@pytest.mark.parametrize("again", [False, True], ids=["gone", "another in its place"])
@pytest.mark.parametrize("when", ["between", "meanwhile"])
def test_a_folder_that_is_moved_meanwhile_is_not_made_again(hub, tmp_path, monkeypatch, when, again):
    """Neither by what is measured nor by what is noted of downloads."""

    def move():
        (tmp_path / "series").rename(tmp_path / "moved")
        if again:
            shutil.copytree(tmp_path / "moved", tmp_path / "series")

    if when == "meanwhile":
        monkeypatch.setattr(series_module, "weights_digest", lambda model: move() or "0" * 64)
    measuring = CheckpointSeries(NAME, listing=LISTING).measure(PROMPTS, out=tmp_path / "series", n_new=1)
    if when == "between":
        assert next(measuring).step == 0
        move()
        before = {file: file.read_bytes() for file in (tmp_path / "series").rglob("*.jsonl")}
    with pytest.raises(
        SeriesError, match="series is gone: it was moved or removed while it was written to; go on where"
    ):
        next(measuring)
    n_done = 1 if when == "between" else 0
    assert len(SeriesFolder(tmp_path / "moved").records()) == n_done
    if not again:
        assert not (tmp_path / "series").exists()
    elif when == "between":
        assert {file: file.read_bytes() for file in (tmp_path / "series").rglob("*.jsonl")} == before


def test_a_measure_that_is_no_number_is_named(saved, tmp_path):
    with pytest.raises(ValueError, match=r"the measure 'mine' must give one number, or one a prompt \(3\); got "):
        measured(saved, tmp_path / "series", measures={"mine": lambda model, written: [1, 2]})


def test_memory_stays_flat(saved, tmp_path):
    """No model of an earlier checkpoint is held."""
    import weakref

    models = []
    for _record in CheckpointSeries(saved).measure(
        PROMPTS,
        out=tmp_path / "series",
        measures={"kept": lambda model, written: models.append(weakref.ref(model)) or 0},
    ):
        assert [model() for model in models] == [None] * len(models)


def test_free_memory_is_given_back_when_a_checkpoint_is_written_down(saved, tmp_path, monkeypatch):
    given_back = []
    file = tmp_path / "series" / "checkpoints.jsonl"
    monkeypatch.setattr(series_module, "give_back_memory", lambda: given_back.append(file.read_text().count("\n")))
    measured(saved, tmp_path / "series")
    assert given_back == [1, 2, 3, 4]


def test_a_repr_says_what_it_is(saved):
    assert repr(CheckpointSeries(saved)) == f"CheckpointSeries({str(Path(saved))!r}, 4 checkpoints from step 0 to 16)"


def test_a_schedule_hears_the_step_of_the_checkpoint(saved, tmp_path):
    plain = measured(saved, tmp_path / "plain")
    late = measured(saved, tmp_path / "late", interventions=[During(AblateHeads([0, 1]), start=4)])
    always = measured(saved, tmp_path / "always", interventions=[AblateHeads([0, 1])])
    cosines = [[record.measures["cosine"] for record in records] for records in (plain, late, always)]
    assert cosines[1] == [*cosines[0][:2], *cosines[2][2:]]
    assert cosines[0][2:] != cosines[2][2:]


def test_what_records_one_model_is_refused(saved, tmp_path):
    with pytest.raises(ValueError, match="a Capture records one model, and a series has many"):
        measured(saved, tmp_path / "series", interventions=[Capture(("hook_embed",), out=str(tmp_path / "captured"))])
    assert not (tmp_path / "series").exists()


@pytest.mark.parametrize("wrapped", [False, True])
def test_what_waits_for_metrics_is_refused(saved, tmp_path, wrapped):
    """A checkpoint is told its step alone: a condition would never be judged, and nothing would say so."""
    waiting = When(AblateHeads([0, 1]), since="cosine > 0.2")
    with pytest.raises(ValueError, match=r"'cosine > 0\.2'.* waits for what training measures, and a series trains"):
        measured(saved, tmp_path / "series", interventions=[During(waiting, start=4) if wrapped else waiting])
    assert not SeriesFolder(tmp_path / "series").records()


@pytest.mark.parametrize("frozen", [FreezeWeights("mlp"), During(FreezeWeights("mlp"), start=4)])
def test_what_holds_up_updates_is_refused(saved, tmp_path, frozen):
    """Nothing that a series measures would tell that it was there."""
    with pytest.raises(ValueError, match=r"FreezeWeights.* holds up updates, and a series makes none"):
        measured(saved, tmp_path / "series", interventions=[frozen])


def test_a_changed_measure_of_the_same_name_is_refused(saved, tmp_path, caplog):
    out = tmp_path / "series"
    first, whole = {"revisions": [0]}, {"revisions": [0, 4]}

    def one(model, written):
        return 1.0

    def other(model, written):
        return 2.0

    measured(saved, out, chosen=first, measures={"mine": one, "still": one})
    told = "series holds a series with another function as the measure mine; take another folder"
    with pytest.raises(SeriesError, match=told):
        measured(saved, out, chosen=whole, measures={"mine": other, "still": one})
    with pytest.raises(SeriesError, match=told):
        CheckpointSeries(saved, [0, 4]).left(PROMPTS, out=out, measures={"mine": other, "still": one})
    with pytest.raises(SeriesError, match="holds a series with other measures; take another folder"):
        measured(saved, out, chosen=whole, measures={"mine": one})
    assert [record.step for record in measured(saved, out, chosen=whole, measures={"mine": one, "still": one})] == [4]
    assert caplog.messages == []


@pytest.mark.parametrize("because", ["an earlier version", "another Python"])
def test_where_it_cannot_be_told_that_measures_are_the_same_this_is_said(saved, tmp_path, caplog, because):
    out = tmp_path / "series"
    measured(saved, out, chosen={"revisions": [0]}, measures={"mine": lambda model, written: 1.0})
    settings = json.loads((out / "series.json").read_text())
    if because == "an earlier version":
        del settings["measures_sha256"]
    else:
        settings["versions"]["python"] = "3.9.1"
    (out / "series.json").write_text(json.dumps(settings))
    measured(saved, out, chosen={"revisions": [0, 4]}, measures={"mine": lambda model, written: 2.0})
    assert caplog.messages == [
        f"{out} was begun by {because}: whether the functions of its measures (mine) are the same cannot be told"
    ]


def test_a_held_out_text_is_known_again_by_what_it_says(saved, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("Once upon a time there was a sea. " * 30)
    measured(saved, tmp_path / "series", held_out=text, chosen={"revisions": [0]})
    text.write_text("Once upon a time there was a lake. " * 30)
    with pytest.raises(SeriesError, match="holds a series with other held_out_sha256"):
        measured(saved, tmp_path / "series", held_out=text)


def test_folders_of_one_step_are_refused(saved, tmp_path):
    for name in ("one/step0", "two/step0"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).symlink_to(saved / "step0")
    with pytest.raises(ValueError, match="two folders are called step0: "):
        CheckpointSeries(str(tmp_path / "*" / "step*"))
    (tmp_path / "one" / "checkpoint-0").symlink_to(saved / "step0")
    with pytest.raises(ValueError, match="two folders are of one step: checkpoint-0 and another"):
        CheckpointSeries(tmp_path / "one")


def test_a_branch_that_has_moved_since_is_not_taken_for_what_was_measured(saved, tmp_path, monkeypatch):
    """A hub on this machine, asked by the hub's own client."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    folders, moved = {f"step{step}": saved / f"step{step}" for step in STEPS}, {}
    with serving(folders, set(), moved) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        out, some = tmp_path / "series", {"chosen": {"revisions": [0, 1]}, "n_new": 1}
        before = measured(NAME, out, **some)
        assert [record.files for record in before] == [commit_of("step0"), commit_of("step1")]
        assert measured(NAME, out, **some) == []
        moved |= {"step1": "e" * 40, "step4": "f" * 40}
        folders["step1"] = folders["step4"] = saved / "step16"
        kept = (out / "checkpoints.jsonl").read_bytes()
        for _ in range(2):
            with pytest.raises(SeriesError, match=f"series measured other files than step1 of {NAME} has now: move"):
                measured(NAME, out, chosen={"revisions": [0, 1, 4]}, n_new=1)
        assert (out / "checkpoints.jsonl").read_bytes() == kept
        (record,) = measured(NAME, out, chosen={"revisions": [0, 4]}, n_new=1)  # nobody asks for the other
        assert (record.step, record.files) == (4, "f" * 40)


def test_a_series_of_a_hub_that_cannot_be_asked_goes_on(hub, tmp_path):
    """What its names stand for is not known then; nor is it of series from before commits were written down."""
    out = tmp_path / "series"
    first = CheckpointSeries(NAME, [0, 1], listing={"step0": f"{0:040x}", "step1": "not what comes"})
    assert [record.files for record in first.measure(PROMPTS, out=out, n_new=1)] == [f"{0:040x}", f"{1:040x}"]
    assert len(list(CheckpointSeries(NAME, [0, 1, 4], listing=LISTING).measure(PROMPTS, out=out, n_new=1))) == 1
    with pytest.raises(SeriesError, match="measured other files than step1"):
        next(first.measure(PROMPTS, out=out, n_new=1))


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
def test_files_that_have_changed_since_are_not_taken_for_those_that_were_measured(saved, tmp_path, file):
    source = tmp_path / "saved"
    for step in (0, 1):
        shutil.copytree(saved / f"step{step}", source / f"step{step}")
    before = measured(source, tmp_path / "out")
    content = (source / "step1" / file).read_bytes()
    other = (saved / "step4" / file).read_bytes()
    (source / "step1" / file).write_bytes(other if other != content else content + b" ")
    kept = (tmp_path / "out" / "checkpoints.jsonl").read_bytes()
    with pytest.raises(SeriesError, match=r"out measured other files than step1 of .*saved has now: move"):
        measured(source, tmp_path / "out")
    assert (tmp_path / "out" / "checkpoints.jsonl").read_bytes() == kept
    (source / "step1" / file).write_bytes(content)
    for name in ("notes.md", "trainer_state.json", "training_args.bin"):
        (source / "step1" / name).write_text("mine")
    assert len(measured(source, tmp_path / "out")) < len(before) == 2


@dataclass(frozen=True, eq=False)
class Stepper:
    """A third party's: it has a column of a name that the series has."""

    name = "stepper"

    @contextmanager
    def attach(self, model):
        yield Gauge(self, [], measure=lambda: {"step": torch.tensor(7.5), "cosine": torch.tensor(8.5)})


@pytest.mark.usefixtures("_registry")
def test_what_an_intervention_measures_replaces_no_column(saved, tmp_path):
    register("hooks", Stepper)
    (record,) = measured(saved, tmp_path / "series", chosen={"revisions": [4]}, interventions=[Stepper()])
    assert (record.measures["step#2"], record.measures["cosine#2"]) == (7.5, 8.5)
    (row,) = SeriesFolder(tmp_path / "series").metrics().to_dict("records")
    assert (row["step"], row["step#2"], row["cosine#2"]) == (4, 7.5, 8.5)


def run_on_text(path, *, seed, **options):
    model = ModelOptions(n_layers=1, n_heads=2, d_model=16)
    training = TrainingOptions(steps=4, batch_size=2)
    run = Run.create(path, Recipe(Text(), model=model, training=training, checkpoint_every=2, seed=seed, **options))
    for _ in run.train():
        pass
    return run


def test_that_a_run_is_measured_without_what_it_was_trained_under_is_said(tmp_path, caplog):
    run = run_on_text(tmp_path / "run", seed=0, interventions=[AblateHeads(heads=(0,))])
    told = "was trained under ablate-heads, and is measured without"
    (bare,) = CheckpointSeries(run, [4]).measure(PROMPTS, out=tmp_path / "bare", n_new=1)
    assert told in caplog.text
    assert SeriesFolder(tmp_path / "bare").settings["trained_under"][0]["name"] == "ablate-heads"
    caplog.clear()
    given = {"n_new": 1, "interventions": run.recipe.interventions}
    (record,) = CheckpointSeries(run, [4]).measure(PROMPTS, out=tmp_path / "given", **given)
    assert told not in caplog.text
    assert record.measures["cosine"] != bare.measures["cosine"]


def test_a_held_out_text_of_a_run_is_read_in_windows_of_its_task(tmp_path, monkeypatch):
    """And a series whose first checkpoints were read in longer ones does not go on."""
    monkeypatch.chdir(tmp_path)
    run = run_on_text("run", seed=0)
    (tmp_path / "text.txt").write_text(
        text := "Once upon a time there was a sea, and in the sea there was a fish. " * 30
    )
    (first,) = CheckpointSeries("run", [2]).measure(PROMPTS, out="out", n_new=1, held_out="text.txt")
    model = run.model(2)
    size = run.task.n
    tokens = torch.tensor(run.task.tokenizer(text)["input_ids"])
    n_windows = math.ceil((len(tokens) - 1) / size)
    starts = [(place * (len(tokens) - size - 1)) // (n_windows - 1) for place in range(n_windows)]
    expected = teacher_forced(model, torch.stack([tokens[start : start + size + 1] for start in starts]))
    assert {name: first.measures[name] for name in expected} == pytest.approx(expected)
    settings = json.loads((file := tmp_path / "out" / "series.json").read_text())
    assert settings.pop("held_out_window") == size
    file.write_text(json.dumps(settings))
    with pytest.raises(SeriesError, match="other held_out_window"):
        list(CheckpointSeries("run").measure(PROMPTS, out="out", n_new=1, held_out="text.txt"))
    # Without such a text nothing is read in windows.
    list(CheckpointSeries("run").measure(PROMPTS, out="without", n_new=1))
    assert "held_out_window" not in json.loads((tmp_path / "without" / "series.json").read_text())


@pytest.mark.parametrize("wrapped", [False, True])
def test_interventions_that_take_from_something_else_than_before_are_refused(tmp_path, monkeypatch, wrapped):
    monkeypatch.chdir(tmp_path)
    run_on_text("base", seed=0), run_on_text("donor", seed=1)
    patch = PatchAttention("donor@4")
    asked = {"n_new": 1, "interventions": [During(patch, start=0) if wrapped else patch]}
    (first,) = CheckpointSeries("base", [0]).measure(PROMPTS, out="out", **asked)
    assert first.origins
    shutil.rmtree("donor"), run_on_text("donor", seed=2)
    with pytest.raises(SeriesError, match="interventions of out take from has changed since step0 was measured"):
        list(CheckpointSeries("base").measure(PROMPTS, out="out", **asked))
    assert [record.step for record in SeriesFolder("out").records()] == [0]
    shutil.rmtree("donor"), run_on_text("donor", seed=1)
    assert [record.step for record in CheckpointSeries("base").measure(PROMPTS, out="out", **asked)] == [2, 4]
    assert {record.origins for record in SeriesFolder("out").records()} == {first.origins}


def test_a_run_of_the_same_recipe_with_other_weights_is_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    transplant = TransplantWeights("donor@4", "mlp layers")
    run_on_text("donor", seed=1), run_on_text("run", seed=0, interventions=[transplant])
    list(CheckpointSeries("run", [2]).measure(PROMPTS, out="out", n_new=1))
    shutil.rmtree("donor"), shutil.rmtree("run")
    run_on_text("donor", seed=2), run_on_text("run", seed=0, interventions=[transplant])
    with pytest.raises(SeriesError, match="out measured other files than step2 of run has now"):
        list(CheckpointSeries("run").measure(PROMPTS, out="out", n_new=1))
