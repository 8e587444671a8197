"""The folder of a series: what is refused, what a cut or changed file does, which rows are data."""

import os
import re
import shutil

import pandas as pd
import pytest
import torch
from measured_series import measured_series

from plateau_interp.cli.main import main
from plateau_interp.series.attention import KeptAttention
from plateau_interp.series.folder import RECORD_COLUMNS, Record, SeriesError, SeriesFolder, check_series


@pytest.fixture
def folder(tmp_path):
    return measured_series(tmp_path / "series", {0: 0.1, 4: 0.9, 16: 0.4})


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("checkpoints.jsonl", '{"step": 0}\n', r"checkpoints\.jsonl, line 1 is no record of a checkpoint"),
        ("checkpoints.jsonl", "[" * 100_000 + "\n", r"checkpoints\.jsonl, line 1 is no record of a checkpoint"),
        ("series.json", "{", r"series\.json cannot be read"),
        (
            "series.json",
            '{"format": 9, "prompts": ["a"], "prompts_origin": ""}',
            "has format 9; this version reads up to 1",
        ),
        ("answers.parquet", "PAR1", r"answers\.parquet is damaged"),
    ],
)
def test_a_damaged_file_is_told(folder, file, content, told):
    (folder.path / file).write_text(content)
    with pytest.raises(SeriesError, match=told):
        SeriesFolder(folder.path).answers()
    (fault,) = check_series(folder.path).faults
    assert re.search(told, fault)


@pytest.mark.parametrize("name", ["source", "prompts", "prompts_origin", "prompts_sha256", "n_new", "interventions"])
def test_a_setting_that_is_gone_or_changed_is_told(folder, name):
    file = folder.path / "series.json"
    whole = file.read_text()
    file.write_text(whole.replace(f'"{name}"', f'"{name}z"'))
    with pytest.raises(SeriesError, match=rf"series\.json cannot be read: KeyError\('{name}'\)"):
        SeriesFolder(folder.path)
    file.write_text(whole.replace("blue", "blve"))
    (fault,) = check_series(folder.path).faults
    assert fault == f"{file} has other prompts than were written"


@pytest.mark.parametrize("put", [b"\x0b", b"\x1e", "\u2028".encode()])
def test_a_byte_that_some_take_for_a_line_s_end_is_damage_and_hides_no_later_line(folder, put):
    file = folder.path / "checkpoints.jsonl"
    lines = file.read_bytes()
    file.write_bytes(lines.replace(b'"step": 0', b'"step":' + put + b"0"))
    with pytest.raises(SeriesError, match=r"checkpoints\.jsonl, line 1 is no record of a checkpoint"):
        SeriesFolder(folder.path).records()
    file.write_bytes(put + b"\n" + lines)
    with pytest.raises(SeriesError, match=r"checkpoints\.jsonl, line 1 is no record of a checkpoint"):
        SeriesFolder(folder.path).records()


def test_a_whole_folder_has_no_faults(folder, capsys):
    checked = check_series(folder.path)
    assert (checked.checkpoints, checked.rows, checked.faults) == (3, 6, ())
    assert main(["check", str(folder.path)]) == 0
    assert "3 checkpoints, 6 rows: all whole" in capsys.readouterr().out


def test_a_number_that_was_changed_is_told(folder):
    file = folder.path / "checkpoints.jsonl"
    file.write_text(file.read_text().replace('"cosine": 0.9', '"cosine": 0.8'))
    with pytest.raises(SeriesError, match=r"checkpoints\.jsonl, line 2 is not what was written"):
        folder.metrics()
    assert main(["check", str(folder.path)]) == 2


def test_answers_that_are_gone_are_told(folder):
    answers = folder.path / "answers.parquet"
    table = pd.read_parquet(answers)
    table[table["step"] != 4].to_parquet(answers)
    assert check_series(folder.path).faults == (f"{answers} has no answers of step 4",)
    answers.unlink()
    (fault,) = check_series(folder.path).faults
    assert "answers.parquet is missing, but checkpoints.jsonl says that 3 checkpoints were measured" in fault


def test_answers_without_a_line_do_not_count_and_a_cut_line_is_written_over(folder):
    file = folder.path / "checkpoints.jsonl"
    whole = file.read_text()
    file.write_text(whole[:-20])
    assert [record.step for record in folder.records()] == [0, 4]
    assert sorted(set(folder.answers()["step"])) == [0, 4]
    rows = pd.DataFrame({"step": 16, "prompt": [0, 1], "pieces": [["a"], ["b"]], "text": "", "cosine": 0.4})
    folder.add(Record(16, "step16", "0" * 64, 1.0, {"cosine": 0.4}), rows)
    assert file.read_text().startswith("".join(whole.splitlines(keepends=True)[:2]))
    assert [record.step for record in folder.records()] == [0, 4, 16]
    assert len(folder.answers()) == 6


def test_steps_of_the_same_weights_are_no_data(tmp_path):
    folder = measured_series(tmp_path / "series", {0: 0.1, 1: 0.1, 4: 0.9, 16: 0.1}, same=(0, 1, 16))
    assert [record.duplicate_of for record in folder.records()] == [(), (0,), (), (0, 1)]
    assert list(folder.metrics()["duplicate"]) == [True, True, False, True]


def test_what_was_not_to_be_had_has_another_line_once_it_is(tmp_path):
    folder = measured_series(tmp_path / "series", {0: 0.1, 4: 0.9}, failed=(0, 4))
    assert list(folder.metrics()["error"] != "") == [True, True]
    assert not folder.metrics()["duplicate"].any()  # neither has weights
    rows = pd.DataFrame({"step": 4, "prompt": [0, 1], "pieces": [["a"], ["b"]], "text": "", "cosine": 0.9})
    folder.add(Record(4, "step4", "0" * 64, 1.0, {"cosine": 0.9}), rows)
    assert list(folder.metrics()["error"] != "") == [True, False]
    assert check_series(folder.path).checkpoints == 1


def test_other_settings_are_refused_by_name(folder):
    asked = {name: value for name, value in folder.settings.items() if name != "format"}
    assert SeriesFolder.opened(folder.path, {**asked, "versions": {"torch": "another"}}).path == folder.path
    with pytest.raises(SeriesError, match="holds a series with other dtype, n_new; take another folder"):
        SeriesFolder.opened(folder.path, {**asked, "n_new": 3, "dtype": "float16"})


def test_attention_is_kept_with_its_step_and_checked(tmp_path, capsys):
    kept = {step: KeptAttention(("a", "b"), torch.rand(2, 1, 2, 2)) for step in (4, 16)}
    folder = measured_series(tmp_path / "series", {0: 0.1, 4: 0.9, 16: 0.4}, attention=kept)
    before = (folder.path / "attention" / "4.safetensors").read_bytes()
    records = {record.step: record for record in folder.records()}
    assert folder.attention(records[0]) is None
    for step in (4, 16):
        there = folder.attention(records[step])
        assert there is not None
        assert torch.equal(there.patterns, kept[step].patterns)
    assert main(["check", str(folder.path)]) == 0
    (folder.path / "attention" / "16.safetensors").write_bytes(before)
    (folder.path / "attention" / "4.safetensors").unlink()
    capsys.readouterr()
    assert main(["check", str(folder.path)]) == 2
    told = capsys.readouterr().out
    assert "4.safetensors is missing, but checkpoints.jsonl says that attention was kept of step 4" in told
    assert "16.safetensors is not what was written" in told
    with pytest.raises(SeriesError, match=r"16\.safetensors is not what was written"):
        folder.attention(records[16])


@pytest.mark.parametrize("cut", [0, 20], ids=["whole", "cut"])
def test_a_snapshot_by_hard_links_stays_as_it_was(folder, tmp_path, cut):
    lines = folder.path / "checkpoints.jsonl"
    content = lines.read_bytes()
    lines.write_bytes(content[: len(content) - cut])
    snapshot = shutil.copytree(folder.path, tmp_path / "snapshot", copy_function=os.link)
    before = {file: file.read_bytes() for file in snapshot.rglob("*") if file.is_file()}
    rows = pd.DataFrame({"step": 64, "prompt": [0, 1], "pieces": [["a"], ["b"]], "text": "", "cosine": 0.4})
    folder.add(Record(64, "step64", "0" * 64, 1.0, {"cosine": 0.4}), rows)
    assert {file: file.read_bytes() for file in snapshot.rglob("*") if file.is_file()} == before
    assert [record.step for record in folder.records()][-1] == 64


def test_a_measure_of_a_column_s_name_replaces_no_column(tmp_path):
    own = {name: 7.5 for name in RECORD_COLUMNS}
    table = measured_series(tmp_path / "gauged", {0: 0.1, 4: 0.9}, own=own).metrics()
    plain = measured_series(tmp_path / "plain", {0: 0.1, 4: 0.9}).metrics()
    assert list(plain)[: len(RECORD_COLUMNS)] == [*RECORD_COLUMNS]
    assert table[list(plain)].equals(plain)
    assert (table[[f"{name}#2" for name in RECORD_COLUMNS]] == 7.5).all(axis=None)
