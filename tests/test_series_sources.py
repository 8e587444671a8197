"""Sources: the hub's cache, folders and runs; what is deleted is what was downloaded, and nothing else."""

import json
import re
import shutil
from dataclasses import replace

import pytest
import torch
import transformers
from hub_cache import put_into_cache
from huggingface_hub import constants
from trained_runs import trained
from typecheck import unchecked

from plateau_interp.models.checkpoint_files import snapshots
from plateau_interp.models.settings import ModelOptions
from plateau_interp.runs.recipe import Recipe
from plateau_interp.runs.run import Run
from plateau_interp.series import sources
from plateau_interp.series.folder import SeriesError, SeriesFolder
from plateau_interp.series.series import CheckpointSeries
from plateau_interp.series.sources import FolderSource, HubSource, RunSource, source_of
from plateau_interp.tasks import MovingWindowSum, Text
from plateau_interp.training.settings import TrainingOptions

NAME = "someone/pythia"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders of small models, by step."""
    folder = tmp_path_factory.mktemp("saved")
    for step in (0, 8, 16):
        transformers.set_seed(step)
        config = transformers.GPTNeoXConfig(
            vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
        )
        transformers.GPTNeoXForCausalLM(config).save_pretrained(folder / f"step{step}")
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


@pytest.fixture
def commits():
    """What the hub's revisions are."""
    return {f"step{step}": f"{step:040x}" for step in (0, 8, 16)}


@pytest.fixture
def hub(cache, commits, saved, monkeypatch):
    """Whatever is fetched comes into the cache, as if it had been downloaded."""

    def download(name, *, revision):
        ref = cache / "models--someone--pythia" / "refs" / revision
        if commits[revision] not in snapshots(name):
            put_into_cache(cache, name, revision, commits[revision], saved / revision)
        ref.write_text(commits[revision])

    monkeypatch.setattr(sources, "model_folder", download)
    return cache


LISTING = ["main", "step0", "step8", "step16"]


def test_a_downloaded_revision_is_deleted_and_another_is_not(hub, saved, tmp_path):
    put_into_cache(hub, NAME, "step0", "0" * 40, saved / "step0")
    source = HubSource(NAME, notes=tmp_path / "series", listing=LISTING)
    for revision in source.revisions:
        source.fetch(revision)
    assert len(snapshots(NAME)) == 3
    for revision in source.revisions:
        source.release(revision)
    assert snapshots(NAME) == {"0" * 40}
    assert [path.name for path in (hub / "models--someone--pythia" / "refs").iterdir()] == ["step0"]
    source.release(source.revisions[0])
    source.release(source.revisions[1])
    assert snapshots(NAME) == {"0" * 40}


def test_what_a_killed_series_downloaded_is_left(hub, tmp_path):
    """Somebody may use it by now."""
    first = HubSource(NAME, notes=tmp_path / "series", listing=LISTING)
    first.fetch(first.revisions[1])
    notes = tmp_path / "series" / "downloads.jsonl"
    notes.write_text(notes.read_text() + '{"revision": "step1')  # cut by the kill
    again = HubSource(NAME, notes=tmp_path / "series", listing=LISTING)
    again.release(again.revisions[1])
    again.fetch(again.revisions[1])
    again.release(again.revisions[1])
    assert snapshots(NAME) == {f"{8:040x}"}
    assert read(hub / "models--someone--pythia" / "refs") == {"step8": f"{8:040x}"}


def test_without_notes_nothing_is_deleted(hub):
    source = HubSource(NAME, listing=LISTING)
    source.fetch(source.revisions[0])
    source.release(source.revisions[0])
    assert len(snapshots(NAME)) == 1


def test_files_that_two_revisions_share_stay_while_one_is_there(hub, saved, tmp_path):
    put_into_cache(hub, NAME, "main", "a" * 40, saved / "step8")
    shared = next((hub / "models--someone--pythia" / "snapshots" / ("a" * 40)).iterdir()).resolve()
    source = HubSource(NAME, notes=tmp_path / "series", listing=LISTING)
    source.fetch(source.revisions[1])
    source.release(source.revisions[1])
    assert shared.exists()
    assert snapshots(NAME) == {"a" * 40}


def test_two_names_of_one_commit_leave_the_users_files(hub, saved, tmp_path):
    """What a name points to may be there under another name."""
    put_into_cache(hub, NAME, "main", f"{8:040x}", saved / "step8")
    source = HubSource(NAME, notes=tmp_path / "series", listing=LISTING)
    source.fetch(source.revisions[1])
    source.release(source.revisions[1])
    assert snapshots(NAME) == {f"{8:040x}"}


def test_two_revisions_of_one_commit_leave_the_users_files(hub, commits, saved, tmp_path):
    put_into_cache(hub, NAME, "main", f"{8:040x}", saved / "step8")
    commits["step16"] = commits["step8"]
    source = HubSource(NAME, notes=tmp_path / "series", listing=LISTING)
    _, this, following = source.revisions
    source.fetch(this)
    source.fetch(following)
    source.release(this)
    source.release(following)
    assert snapshots(NAME) == {f"{8:040x}"}
    assert set(read(hub / "models--someone--pythia" / "refs")) == {"main"}


def test_a_name_that_somebody_moves_meanwhile_is_left_and_so_is_what_it_stands_for(hub, saved, tmp_path):
    source = HubSource(NAME, notes=tmp_path / "series", listing=LISTING)
    source.fetch(source.revisions[1])
    put_into_cache(hub, NAME, "step8", "a" * 40, saved / "step16")
    source.release(source.revisions[1])
    assert snapshots(NAME) == {"a" * 40}
    assert read(hub / "models--someone--pythia" / "refs") == {"step8": "a" * 40}


@pytest.fixture
def refs(cache):
    """Names of commits in the cache that no call here has downloaded, files or not."""
    folder = cache / "models--someone--pythia" / "refs"
    folder.mkdir(parents=True)
    return folder


def read(refs):
    return {path.name: path.read_text() for path in refs.iterdir()}


def test_a_name_without_files_stays_where_nothing_could_be_downloaded(refs, tmp_path):
    (refs / "step8").write_text("e" * 40)
    source = HubSource(NAME, notes=tmp_path / "series", listing=LISTING)
    with pytest.raises(ValueError, match="its files of revision 'step8' are not in the cache"):
        source.fetch(source.revisions[1])
    source.release(source.revisions[1])
    assert read(refs) == {"step8": "e" * 40}


def test_a_name_without_files_stays_when_its_download_is_deleted(hub, refs, tmp_path):
    (refs / "step8").write_text(f"{8:040x}")
    source = HubSource(NAME, notes=tmp_path / "series", listing=LISTING)
    source.fetch(source.revisions[1])
    assert snapshots(NAME) == {f"{8:040x}"}
    source.release(source.revisions[1])
    assert snapshots(NAME) == set()
    assert read(refs) == {"step8": f"{8:040x}"}


def test_another_name_of_a_downloaded_commit_stays(hub, refs, tmp_path):
    (refs / "main").write_text(f"{8:040x}")
    source = HubSource(NAME, notes=tmp_path / "series", listing=LISTING)
    source.fetch(source.revisions[1])
    source.release(source.revisions[1])
    assert snapshots(NAME) == set()
    assert read(refs) == {"main": f"{8:040x}"}


def test_a_name_that_a_download_has_moved_is_put_back(hub, commits, saved, tmp_path):
    """The hub has another commit by now than the user has of that name."""
    put_into_cache(hub, NAME, "step8", "a" * 40, saved / "step0")
    commits["step8"] = "b" * 40
    source = HubSource(NAME, notes=tmp_path / "series", listing=LISTING)
    source.fetch(source.revisions[1])
    assert snapshots(NAME) == {"a" * 40, "b" * 40}
    source.release(source.revisions[1])
    assert snapshots(NAME) == {"a" * 40}
    assert read(hub / "models--someone--pythia" / "refs") == {"step8": "a" * 40}


def test_two_revisions_of_one_commit_are_deleted_with_the_last_of_them(hub, commits, refs, tmp_path):
    commits["step16"] = commits["step8"]
    source = HubSource(NAME, notes=tmp_path / "series", listing=LISTING)
    _, this, following = source.revisions
    source.fetch(this)
    source.fetch(following)  # while this one is measured
    source.release(this)
    assert snapshots(NAME) == {f"{8:040x}"}
    assert set(read(refs)) == {"step16"}
    source.release(following)
    assert snapshots(NAME) == set()
    assert read(refs) == {}


def test_the_cache_is_listed_and_read_where_there_is_no_hub(cache, saved):
    for step in (0, 16):
        put_into_cache(cache, NAME, f"step{step}", f"{step:040x}", saved / f"step{step}")
    source = source_of(NAME)
    assert isinstance(source, HubSource)
    assert [revision.step for revision in source.revisions] == [0, 16]
    source.fetch(source.revisions[1])
    model = source.load(source.revisions[1], dtype=torch.float32, device="cpu")
    theirs = transformers.GPTNeoXForCausalLM.from_pretrained(saved / "step16")
    tokens = torch.tensor([[1, 2, 3]])
    assert torch.allclose(model(tokens), theirs(tokens).logits, atol=1e-5)
    with pytest.raises(ValueError, match="someone/else: HF_HUB_OFFLINE is set, and of someone/else the cache has noth"):
        source_of("someone/else")


def test_folders_by_parent_pattern_and_list(saved):
    for given in (saved, str(saved), f"{saved}/step*", [saved / "step8", saved / "step0", saved / "step16"]):
        source = source_of(given)
        assert isinstance(source, FolderSource)
        assert [revision.step for revision in source.revisions] == [0, 8, 16]
    source = source_of(saved, revisions=[8])
    (revision,) = source.revisions
    source.fetch(revision)
    assert source.load(revision, dtype=torch.bfloat16, device="cpu").W_E.dtype == torch.bfloat16
    source.release(revision)
    assert len(list(saved.iterdir())) == 3


def test_a_run_is_a_series_of_its_checkpoints(tmp_path):
    training = TrainingOptions(steps=4, batch_size=4)
    recipe = Recipe(Text(n=8), ModelOptions(d_model=16, n_heads=1), training, checkpoint_every=2)
    run = Run.create(tmp_path / "run", recipe)
    for _step in run.train():
        pass
    for given in (run, run.path, str(run.path)):
        source = source_of(given)
        assert isinstance(source, RunSource)
        assert [(revision.step, revision.name) for revision in source.revisions] == [
            (0, "step0"),
            (2, "step2"),
            (4, "step4"),
        ]
    loaded = source.load(source.revisions[1], dtype=torch.float64, device="cpu")
    assert torch.equal(loaded.W_E, run.model(2).W_E.double())
    assert loaded.tokenizer.decode(loaded.tokenizer.encode("Why?")) == "Why?"
    assert [revision.step for revision in source_of(run, "step[24]").revisions] == [2, 4]
    assert source_of(source) is source


@pytest.mark.parametrize("trained_in", ["float32", "float64"])
def test_a_run_is_measured_in_the_dtype_that_is_asked_for(tmp_path, capsys, trained_in):
    training = TrainingOptions(steps=1, batch_size=4)
    recipe = Recipe(Text(n=8), ModelOptions(d_model=16, n_heads=1, dtype=trained_in), training)
    run = trained(Run.create(tmp_path / "run", recipe))
    source = RunSource(run)
    capsys.readouterr()
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        model = source.load(source.revisions[-1], dtype=dtype, device="cpu")
        assert {parameter.dtype for parameter in model.parameters()} == {model.cfg.dtype} == {dtype}
        assert torch.equal(model.W_E, run.model().W_E.to(dtype))
    assert capsys.readouterr().out == ""
    (record,) = CheckpointSeries(run, [1]).measure(
        ["Why?"],
        out=tmp_path / "series",
        n_new=2,
        measures={"bits": lambda model, written: torch.finfo(model.W_E.dtype).bits},
    )
    assert record.measures["bits"] == 32


def test_a_run_without_text_is_no_series(tmp_path):
    run = Run.create(tmp_path / "run", Recipe(MovingWindowSum()))
    with pytest.raises(ValueError, match="run is of the task moving-window-sum, which has none"):
        source_of(run)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("./nothing", "there is no folder './nothing'"),
        ("none*", "no folder is like 'none*'"),
        ("empty", "empty holds no run, and no folder that is named by a step, as step512"),
        (["empty"], "a checkpoint's folder is named by its step, as step512; got empty"),
        (["absent"], "no folder: "),
        (3, "a series is of a model on the hub, of folders or of a run; got 3"),
    ],
)
def test_what_is_no_source_is_refused(tmp_path, monkeypatch, given, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=re.escape(told)):
        unchecked(source_of)(given)


def test_what_the_user_fetches_later_is_the_users(hub, saved, tmp_path):
    source = HubSource(NAME, notes=tmp_path / "series", listing=LISTING)
    revision = source.revisions[1]
    source.fetch(revision)
    source.release(revision)
    assert snapshots(NAME) == set()
    put_into_cache(hub, NAME, revision.name, f"{8:040x}", saved / "step8")
    again = HubSource(NAME, notes=tmp_path / "series", listing=LISTING)
    again.release(revision)  # as the same command does for all that is measured
    again.fetch(revision)
    again.release(revision)
    assert snapshots(NAME) == {f"{8:040x}"}


def test_another_run_at_the_place_of_a_measured_one_is_refused(tmp_path):
    training = TrainingOptions(steps=2, batch_size=4)
    recipe = Recipe(Text(n=8), ModelOptions(d_model=16, n_heads=1), training, checkpoint_every=2)
    run = trained(Run.create(tmp_path / "run", recipe))
    chosen = {"out": tmp_path / "series", "n_new": 2}
    assert [record.step for record in CheckpointSeries(run.path, [0]).measure(["Why?"], **chosen)] == [0]
    longer = trained(Run.create(run.path, replace(recipe, training=replace(training, steps=4))))
    assert [record.step for record in CheckpointSeries(longer, [0, 4]).measure(["Why?"], **chosen)] == [4]
    shutil.rmtree(run.path)
    other = trained(Run.create(run.path, replace(recipe, seed=1)))
    with pytest.raises(SeriesError, match="holds a series with other recipe_sha256; take another folder"):
        next(CheckpointSeries(other).measure(["Why?"], **chosen))


def test_a_series_of_a_run_is_known_again_from_another_working_folder(tmp_path, monkeypatch):
    training = TrainingOptions(steps=2, batch_size=4)
    recipe = Recipe(Text(n=8), ModelOptions(d_model=16, n_heads=1), training, checkpoint_every=2)
    trained(Run.create(tmp_path / "run", recipe))
    (tmp_path / "below").mkdir()
    chosen = {"out": tmp_path / "series", "n_new": 2}
    monkeypatch.chdir(tmp_path)
    assert [record.step for record in CheckpointSeries("run", [0]).measure(["Why?"], **chosen)] == [0]
    monkeypatch.chdir(tmp_path / "below")
    assert CheckpointSeries("../run").left(["Why?"], **chosen)[0].step == 2
    assert [record.step for record in CheckpointSeries(tmp_path / "run").measure(["Why?"], **chosen)] == [2]
    assert SeriesFolder(tmp_path / "series").settings["source"] == "run"

    settings = json.loads((tmp_path / "series" / "series.json").read_text())
    del settings["source_path"]  # as earlier versions wrote it
    (tmp_path / "series" / "series.json").write_text(json.dumps(settings))
    told = r"holds a series with other source \('run', from the folder it was begun in; now '\.\./run'\); take another"
    with pytest.raises(SeriesError, match=told):
        next(CheckpointSeries("../run").measure(["Why?"], **chosen))
    monkeypatch.chdir(tmp_path)
    assert list(CheckpointSeries("run").measure(["Why?"], **chosen)) == []


def test_another_source_is_told_with_both(tmp_path):
    training = TrainingOptions(steps=2, batch_size=4)
    recipe = Recipe(Text(n=8), ModelOptions(d_model=16, n_heads=1), training, checkpoint_every=2)
    one, other = (trained(Run.create(tmp_path / name, recipe)) for name in ("one", "other"))
    chosen = {"out": tmp_path / "series", "n_new": 2}
    next(CheckpointSeries(one).measure(["Why?"], **chosen))
    with pytest.raises(SeriesError, match=re.escape(f"other source ('{one.path}'; now '{other.path}'); take another")):
        next(CheckpointSeries(other).measure(["Why?"], **chosen))
