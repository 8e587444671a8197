"""plateau_interp.reproductions.pretrained: series in the place of runs, from a hub's cache written by hand."""

import dataclasses
import shutil

import pytest
import transformers
from hub_cache import put_into_cache
from huggingface_hub import constants

from plateau_interp.cli import reproduce_verb
from plateau_interp.cli.main import main
from plateau_interp.reproductions.claims import Claim, Within
from plateau_interp.reproductions.costs import costs
from plateau_interp.reproductions.experiments import Experiment, Paper
from plateau_interp.reproductions.loss_plateau.language_models import (
    FIG8,
    FIG23,
    at_checkpoint,
    peak_early,
    pretraining_figure,
    sampled_cosine,
    sampled_repetition,
    where_cosine_peaks,
)
from plateau_interp.reproductions.pretrained import PublishedModel
from plateau_interp.reproductions.quantities import DROP
from plateau_interp.reproductions.results import publish
from plateau_interp.reproductions.running import collect, outcome, plan
from plateau_interp.reproductions.settings import NotHereError
from plateau_interp.reproductions.storage import stored
from plateau_interp.runs.run import RunError
from plateau_interp.series.folder import SeriesFolder
from plateau_interp.tasks import Text

STEPS = (0, 1, 512, 1000)
"""Of these, 1 and 512 serve the same weights."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A hub's cache with four revisions of a small Pythia."""
    folder, task = tmp_path_factory.mktemp("models"), Text()
    for step in STEPS:
        transformers.set_seed(1 if step == 512 else step)
        config = transformers.GPTNeoXConfig(
            vocab_size=task.d_vocab, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
        )
        transformers.GPTNeoXForCausalLM(config).save_pretrained(folder / f"step{step}")
        task.tokenizer.save_pretrained(folder / f"step{step}")
        put_into_cache(folder / "hub", "EleutherAI/pythia-14m", f"step{step}", f"{step:040x}", folder / f"step{step}")
    return folder / "hub"


@pytest.fixture
def hub(cache, tmp_path, monkeypatch):
    """Offline, with a cache of one's own."""
    mine = shutil.copytree(cache, tmp_path / "hub", symlinks=True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(mine))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return mine


@pytest.fixture(scope="module")
def measured(cache, tmp_path_factory):
    """The runs' folder of a model that was measured."""
    runs = tmp_path_factory.mktemp("measured")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        MODEL.measure(runs, 0)
    return runs


MODEL = PublishedModel("small", "EleutherAI/pythia-14m", STEPS, about="Small", prompts="general", first=3)
ABSENT = dataclasses.replace(MODEL, name="absent", source="EleutherAI/pythia-1b")
EARLY = Within(peak_early("cosine"), "small", low=-1.0)


def experiment(*settings, **changes):
    fields = {
        "name": "published",
        "title": "A published model",
        "figures": "figure 8",
        "settings": settings,
        "claims": (Claim("It collapses", "us", EARLY, "a reason"),),
        "key": (peak_early("cosine"), settings[0]),
        "n_seeds": 1,
        "draws": pretraining_figure,
        "table": (peak_early("cosine"),),
        "needs": "the hub, for pythia",
    }
    return Experiment(**{**fields, **changes})


def paper(*settings):
    return Paper(name="models", title="Models", source="us", experiments=(experiment(*settings),))


def test_a_series_is_measured_once_and_goes_on(hub, tmp_path):
    runs, told = tmp_path / "runs", []

    def showing(total, done):
        told.append((total, done))
        return _Telling(told)

    part = dataclasses.replace(MODEL, steps=(0, 1))
    assert outcome(MODEL, 0, runs) is None
    part.measure(runs, 0)
    assert outcome(part, 0, runs).metrics["step"].tolist() == [0, 1]
    assert outcome(MODEL, 0, runs) is None  # two of four
    found = MODEL.measure(runs, 0, showing=showing)
    assert told == [(4, 2), 512, 1000]
    assert MODEL.measure(runs, 0, showing=None).metrics.equals(found.metrics)
    assert len(told) == 3
    (runs / "small" / "seed-0" / "environment.json").unlink()  # a kill came before it
    assert outcome(MODEL, 0, runs) is None
    assert MODEL.measure(runs, 0).metrics.equals(found.metrics)


class _Telling:
    def __init__(self, told):
        self.told = told

    def __enter__(self):
        return lambda record: self.told.append(record.step)

    def __exit__(self, *_):
        return None


def test_checkpoints_of_the_same_weights_are_rows_without_numbers(measured):
    found = outcome(MODEL, 0, measured)
    assert found.metrics["duplicate"].tolist() == [False, True, True, False]
    table = SeriesFolder(measured / "small" / "seed-0").metrics()
    assert found.metrics["cosine"].isna().tolist() == [False, True, True, False]
    assert found.metrics["cosine"].iloc[3] == table["cosine"].iloc[3]
    assert table["cosine"].notna().all()
    with pytest.raises(ValueError, match="small was not trained here"):
        DROP.of(found)
    # Of the early steps one alone is data, and 0 is none of them.
    assert peak_early("cosine").of(found) == table["cosine"].iloc[3]
    assert where_cosine_peaks("repetition").of(found) == table["repetition"].iloc[3]
    assert at_checkpoint("cosine", 512).of(found) is None
    assert at_checkpoint("entropy", 0).of(found) == table["entropy"].iloc[0]


def test_there_is_one_series_however_many_seeds():
    assert [(s.name, seed) for s, seed in plan([experiment(MODEL)], n_seeds=3)] == [("small", 0)]


def test_drawn_tokens_are_measured_beside_the_greedy_ones(hub, tmp_path):
    measures = {"sampled_cosine": sampled_cosine, "sampled_repetition": sampled_repetition}
    sampled = dataclasses.replace(MODEL, steps=(0,), measures=measures)
    rows = sampled.measure(tmp_path, 0).metrics
    assert (rows["sampled_cosine"] != rows["cosine"]).all()
    assert rows["sampled_repetition"].between(0, 1).all()
    with pytest.raises(RunError, match="holds another series than 'small' is now"):
        outcome(MODEL, 0, tmp_path)


def test_another_series_in_the_folder_is_refused(hub, measured, tmp_path):
    shutil.copytree(measured, tmp_path, dirs_exist_ok=True)
    (tmp_path / "small" / "seed-0" / "checkpoints.jsonl").write_text(
        "".join((measured / "small" / "seed-0" / "checkpoints.jsonl").read_text().splitlines(keepends=True)[:1])
    )
    with pytest.raises(RunError, match="holds a series with other prompts"):
        dataclasses.replace(MODEL, first=2).measure(tmp_path, 0)
    (tmp_path / "small" / "seed-0" / "series.json").unlink()
    with pytest.raises(RunError, match="holds no series"):
        outcome(MODEL, 0, tmp_path)
    assert collect([MODEL], tmp_path) == {"small": []}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"source": "EleutherAI/pythia-1b"}, "EleutherAI/pythia-1b: HF_HUB_OFFLINE is set"),
        ({"steps": (0, 7)}, "EleutherAI/pythia-14m has no step 7"),
        ({"prompts": "nobody/nothing:a:test"}, "the data set nobody/nothing:a:test is not to be had"),
    ],
)
def test_what_is_not_here_is_told(changes, line, hub, tmp_path):
    with pytest.raises(NotHereError, match=line):
        dataclasses.replace(MODEL, **changes).measure(tmp_path, 0)


def test_a_checkpoint_that_is_not_to_be_had_leaves_the_others(hub, tmp_path):
    shutil.rmtree(hub / "models--EleutherAI--pythia-14m" / "snapshots" / f"{512:040x}")
    part = dataclasses.replace(MODEL, steps=(1, 512))
    with pytest.raises(NotHereError, match="step512"):
        part.measure(tmp_path, 0)
    assert len(SeriesFolder(tmp_path / "small" / "seed-0").records()) == 2
    assert outcome(part, 0, tmp_path) is None


def test_it_is_published_and_drawn_again_without_hub_and_series(measured, tmp_path):
    ours = paper(MODEL)
    page = publish(ours, measured, tmp_path)
    text = page.read_text()
    assert "in 1 settings with 1 seeds each: 1 runs, 0 training steps" in text
    before = {file.name: file.read_bytes() for file in (tmp_path / "results" / "models").iterdir()}
    assert publish(ours, tmp_path / "nothing", tmp_path).read_text() == text
    assert before == {file.name: file.read_bytes() for file in (tmp_path / "results" / "models").iterdir()}
    again = stored(ours, tmp_path).outcomes["small"][0].metrics
    assert again["duplicate"].tolist() == [False, True, True, False]
    longer = paper(dataclasses.replace(MODEL, prompts="other.txt"))
    assert stored(longer, tmp_path).others == ["small"]


def test_the_command_measures_and_says_what_is_not_run(hub, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = dataclasses.replace(MODEL, steps=(1000,))
    monkeypatch.setattr(reproduce_verb, "plugin", lambda kind, name: paper(model, ABSENT))
    assert main(["reproduce", "models"]) == 0
    told = capsys.readouterr()
    assert "step 1,000  cosine " in told.err
    line = (
        "published not run: needs the hub, for pythia; then `plateau reproduce models published` (EleutherAI/pythia-1b"
    )
    assert line in told.err
    assert main(["reproduce", "models", "published"]) == 2
    assert f"plateau: {line}" in capsys.readouterr().err
    assert main(["reproduce", "models", "--list"]) == 0
    assert "needs the hub" in capsys.readouterr().out
    (row,) = costs(paper(model, ABSENT).experiments, tmp_path / "runs" / "models")
    assert (row["runs"], row["done"], row["seconds"], row["needs"]) == (2, 1, None, "the hub, for pythia")
    (row,) = costs(paper(model).experiments, tmp_path / "runs" / "models")
    assert (row["seconds"], row["needs"]) == (0, "")


def test_what_was_not_run_says_what_it_needs_on_every_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    monkeypatch.setattr(reproduce_verb, "plugin", lambda kind, name: paper(ABSENT))
    assert main(["reproduce", "models", "--json", "--publish", "."]) == 0
    told = "not run: needs the hub, for pythia; then `plateau reproduce models published`"
    printed = capsys.readouterr()
    assert f'"{told}"' in printed.out
    assert f"plateau: published {told} (" in printed.err
    statements = (tmp_path / "results" / "models" / "statements.md").read_text()
    assert f". {told.replace('not', 'Not', 1)}" in statements
    assert f"| {told} |" in (tmp_path / "RESULTS.md").read_text()


def test_the_paper_s_models_steps_and_prompts():
    assert [setting.source for setting in FIG8.settings] == [
        f"EleutherAI/pythia-{size}" for size in ("14m", "1b", "1.4b", "2.8b")
    ]
    olmo, sampled, general = FIG23.settings
    assert (olmo.source, olmo.steps) == ("allenai/OLMo-2-1124-7B", (150, 600))
    for setting in (*FIG8.settings, olmo, sampled):
        assert (setting.prompts, setting.first) == ("allenai/ai2_arc:ARC-Easy:test", 100)
    assert all(len(setting.steps) == 16 for setting in (*FIG8.settings, sampled, general))
