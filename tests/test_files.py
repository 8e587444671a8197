import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest

from plateau_interp.files import (
    check_file,
    names_in,
    read_table,
    remove_halves,
    sync_folder,
    write_atomically,
    write_table,
)


def test_content_is_written_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_atomically(tmp_path / "new" / "a.txt", "one")
    write_atomically(tmp_path / "new" / "a.txt", b"two")
    assert (tmp_path / "new" / "a.txt").read_text() == "two"
    assert os.listdir(tmp_path / "new") == ["a.txt"]


def test_processes_that_write_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    lengths = set()
    with ThreadPoolExecutor(4) as pool:
        written = [pool.submit(write_atomically, tmp_path / "a.txt", str(i) * 200_000) for i in range(40)]
        while not all(one.done() for one in written):
            if (tmp_path / "a.txt").is_file():
                lengths.add(len((tmp_path / "a.txt").read_text()))
    assert [one.result() for one in written] == [None] * 40
    assert lengths <= {200_000, 400_000}
    assert os.listdir(tmp_path) == ["a.txt"]


def test_of_what_a_kill_left_only_what_is_meant_goes(tmp_path: Path) -> None:
    half, others = tmp_path / "4" / ".a.txt.0123abcd.tmp", (".b.txt.0123abcd.tmp", ".a.txt.mine.tmp", "a.txt", ".a.txt")
    half.parent.mkdir()
    for name in (half.name, *others):
        (half.parent / name).touch()
    remove_halves(tmp_path, of=lambda name: name == "a.txt")
    assert sorted(os.listdir(half.parent)) == sorted(others)
    remove_halves(tmp_path / "nowhere", of=lambda name: True)


def test_a_full_disk_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomically(tmp_path / "a.txt", "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_what_cannot_be_written_is_named_and_not_the_temporary_file(tmp_path: Path) -> None:
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    file.write_text("somebody's")
    with pytest.raises(IsADirectoryError) as raised:
        write_atomically(folder, "new")
    assert (raised.value.filename, raised.value.filename2) == (str(folder), None)
    for below in (file / "a.txt", file / "new" / "a.txt"):
        with pytest.raises(NotADirectoryError) as refused:
            write_atomically(below, "new")
        assert refused.value.filename == str(file)
    long = tmp_path / ("a" * 300)
    with pytest.raises(OSError, match="too long") as unnamed:
        write_atomically(long, "new")
    assert unnamed.value.filename == str(long)
    assert (sorted(os.listdir(tmp_path)), os.listdir(folder)) == (["file", "folder"], [])
    assert file.read_text() == "somebody's"


def test_a_path_that_can_be_no_file_is_refused_with_what_is_there(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    check_file(file)
    check_file(tmp_path / "new" / "a.html")
    with pytest.raises(
        ValueError, match=f"^{re.escape(str(tmp_path))} is a folder: give the path of a file in it, such"
    ):
        check_file(tmp_path)
    with pytest.raises(ValueError, match=f"^{re.escape(str(file))} cannot be a folder: .*file is a file$"):
        check_file(file / "a.html")


def test_a_folder_is_forced_to_disk_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    sync_folder(tmp_path)
    assert synced == [tmp_path.stat().st_ino]


def test_a_table_is_read_back_as_it_was_without_its_index(tmp_path):
    table = pd.DataFrame({"step": [0, 1], "loss": [2.5, float("nan")]}, index=[7, 9])
    for file in (tmp_path / "new" / "table.parquet", tmp_path / os.fsdecode(b"latin-\xe9") / "table.parquet"):
        write_table(file, table)
        pd.testing.assert_frame_equal(read_table(file), table.reset_index(drop=True))


def test_a_table_that_is_damaged_or_gone_is_named(tmp_path: Path) -> None:
    file = tmp_path / "table.parquet"
    with pytest.raises(FileNotFoundError, match=re.escape(str(file))):
        read_table(file)
    write_table(file, pd.DataFrame({"step": [0, 1]}))
    content = file.read_bytes()
    for damaged in (b"", b"step\n0\n", content[:40], content[:-20] + content[-8:]):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"^{re.escape(str(file))} is damaged: "):
            read_table(file)


def test_names_are_sorted_and_hidden_files_left_out(tmp_path: Path) -> None:
    for name in ("b", "a", ".c"):
        (tmp_path / name).touch()
    assert names_in(tmp_path) == ["a", "b"]
    assert names_in(tmp_path / "nowhere") == []
