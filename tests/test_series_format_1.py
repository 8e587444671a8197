"""A series folder as `plateau series` wrote it when nothing of attention was kept stays readable, and is gone on with.

(tests/data/series-format-1.) Another name of a setting, or another way to make a digest, would have every series of
today refused as another or a damaged one: it is red here first.
"""

import math
import shutil
from pathlib import Path

import pytest
import transformers
from hub_cache import put_into_cache
from huggingface_hub import constants

from plateau_interp.cli.main import main
from plateau_interp.series.folder import SeriesFolder, check_series
from plateau_interp.tasks import Text
from plateau_interp.views import series_report
from plateau_interp.views.saving import report_mark

COMMAND = [
    *["series", "someone/pythia", "--first", "2", "--n-new", "4", "--held-out", "story.txt"],
    *["--hook", "ablate-heads:heads=[1]", "--out", "series", "--revisions"],
]


@pytest.fixture(autouse=True)
def _kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the folder to work on, and no figures drawn."""
    shutil.copytree(Path(__file__).parent / "data" / "series-format-1", tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(series_report, "page_picture", lambda draw, name: ("<svg></svg>", report_mark(name).encode()))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache in which all that was measured is deleted, and two other checkpoints are there."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    task = Text()
    for step in (0, 1, 4):
        (tmp_path / "hub/models--someone--pythia/refs").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"hub/models--someone--pythia/refs/step{step}").write_text("e" * 40)
    for step in (16, 64):
        transformers.set_seed(step)
        config = transformers.GPTNeoXConfig(
            vocab_size=task.d_vocab, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
        )
        transformers.GPTNeoXForCausalLM(config).save_pretrained(tmp_path / "saved")
        task.tokenizer.save_pretrained(tmp_path / "saved")
        put_into_cache(tmp_path / "hub", "someone/pythia", f"step{step}", f"{step:040x}", tmp_path / "saved")
    return tmp_path / "hub"


def test_it_is_of_format_1_and_whole() -> None:
    folder = SeriesFolder("series")
    assert folder.format == 1
    checked = check_series(folder.path)
    assert (checked.checkpoints, checked.rows, checked.faults) == (3, 6, ())
    assert list(folder.path.glob("attention*")) == []


def test_it_is_read() -> None:
    folder = SeriesFolder("series")
    table = folder.metrics()
    assert list(table["step"]) == [0, 1, 4, 64]
    assert list(table["duplicate"]) == [True, True, False, False]
    assert list(table["cosine"])[:3] == pytest.approx([0.03443790227174759] * 2 + [-0.16355063021183014])
    assert math.isnan(table["cosine"][3])
    assert "its files of revision 'step64' are not in the cache hub" in table["error"][3]
    assert {len(tokens) for tokens in folder.answers()["tokens"]} == {4}


def test_it_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "series"]) == 0
    page = Path("series/report/index.html").read_text()
    assert "What it writes" in page
    assert "data-plateau-view" not in page


def test_it_is_gone_on_with_and_nothing_is_measured_twice(hub: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = Path("series/checkpoints.jsonl").read_text()
    assert main([*COMMAND, "0", "1", "4", "16", "64"]) == 0, capsys.readouterr().err
    lines = Path("series/checkpoints.jsonl").read_text()
    assert lines.startswith(before)
    assert lines.count("\n") == before.count("\n") + 2
    table = SeriesFolder("series").metrics()
    assert list(table["step"]) == [0, 1, 4, 16, 64]
    assert list(table["error"]) == [""] * 5
    assert check_series(Path("series")).faults == ()
