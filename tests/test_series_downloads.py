"""What a series has downloaded: noted before, given up after, and read again when a line was cut."""

import os

import pytest

from plateau_interp.series.downloads import DOWNLOADS, Download, Downloads

FIRST = Download("step0", frozenset({"a" * 40}), None, "")
SECOND = Download("stage1-step8", frozenset(), "b" * 40, "/caches/mine")


def test_what_is_begun_is_there_until_it_is_given_up(tmp_path):
    downloads = Downloads(tmp_path / "series")
    for download in (FIRST, SECOND):
        downloads.begin(download)
    assert Downloads(tmp_path / "series").there() == [FIRST, SECOND]
    downloads.give_up(FIRST.revision)
    assert downloads.there() == [SECOND]
    downloads.begin(FIRST)
    assert downloads.there() == [SECOND, FIRST]
    downloads.give_up_all()
    assert downloads.there() == []


def test_a_line_that_a_kill_has_cut_does_not_count(tmp_path):
    downloads = Downloads(tmp_path)
    for download in (FIRST, SECOND):
        downloads.begin(download)
    whole = (tmp_path / DOWNLOADS).read_text()
    for n_left in range(whole.index("\n") + 1, len(whole) - 1):
        (tmp_path / DOWNLOADS).write_text(whole[:n_left])
        assert downloads.there() == [FIRST]
    (tmp_path / DOWNLOADS).write_text(whole[:-1])  # all but the end of the line is a note
    assert downloads.there() == [FIRST, SECOND]


def test_a_note_after_a_cut_line_is_read(tmp_path):
    downloads = Downloads(tmp_path)
    downloads.begin(FIRST)
    with (tmp_path / DOWNLOADS).open("a") as file:
        file.write('{"revision": "stage1')
    downloads.begin(SECOND)
    assert downloads.there() == [FIRST, SECOND]


def test_notes_without_cache_and_what_a_name_stood_for_are_read(tmp_path):
    """As earlier versions wrote them."""
    (tmp_path / DOWNLOADS).write_text('{"revision": "step0", "there_before": ["%s"]}\n' % ("a" * 40))
    assert Downloads(tmp_path).there() == [FIRST]


def test_a_folder_that_is_moved_is_not_made_again(tmp_path):
    (tmp_path / "series").mkdir()
    downloads = Downloads(tmp_path / "series")
    downloads.begin(FIRST)
    (tmp_path / "series").rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError, match=r"series.downloads\.jsonl"):
        downloads.begin(SECOND)
    assert not (tmp_path / "series").exists()
    assert Downloads(tmp_path / "moved").there() == [FIRST]


def test_a_snapshot_by_hard_links_stays_as_it_was(tmp_path):
    downloads = Downloads(tmp_path)
    downloads.begin(FIRST)
    os.link(tmp_path / DOWNLOADS, tmp_path / "snapshot")
    before = (tmp_path / "snapshot").read_bytes()
    downloads.begin(SECOND)
    downloads.give_up(FIRST.revision)
    assert (tmp_path / "snapshot").read_bytes() == before
    assert downloads.there() == [SECOND]
