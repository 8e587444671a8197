"""What a series has downloaded, written down before it is, so that what a kill leaves in the hub's cache can be told.

A line a download that begins, and one where it is gone again. Nothing is deleted for the sake of a line that an earlier
call has written: nobody can know who has come to use those files since, nor whether the cache is the same.
"""

import errno
import json
import logging
import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from plateau_interp.files import readable, write_atomically
from plateau_interp.models.checkpoint_files import cached_commit, snapshots

__all__ = ["DOWNLOADS", "Download", "Downloads", "tell_left_behind"]

_log = logging.getLogger(__name__)

DOWNLOADS = "downloads.jsonl"


@dataclass(frozen=True)
class Download:
    """A revision that is downloaded, and what the cache had before of its model.

    Attributes:
        revision: its name.
        there_before: the commits of which the cache had files, whole or not, that this call had not downloaded.
        ref_before: the commit that the cache had under this name, with or without files; None if it had none.
        cache: the folder of the cache; empty where an earlier version wrote none down.
    """

    revision: str
    there_before: frozenset[str]
    ref_before: str | None
    cache: str


class Downloads:
    """The downloads of a series that are not deleted again yet.

    Args:
        folder: of the series; if it is not there yet, it is made with the first download.

    Example:
        >>> Downloads(Path("nowhere")).there()
        []
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / DOWNLOADS
        self._is_new = not folder.is_dir()

    def there(self) -> list[Download]:
        """Those that were begun and not given up since."""
        there: dict[str, Download] = {}
        lines = self._file.read_text(encoding="utf-8").split("\n") if self._file.is_file() else []
        for line in lines:
            try:
                note = json.loads(line)
            except ValueError:  # cut by a kill, before the download began
                continue
            revision, before = note["revision"], note["there_before"]
            there.pop(revision, None)
            if before is not None:
                there[revision] = Download(revision, frozenset(before), note.get("ref_before"), note.get("cache", ""))
        return list(there.values())

    def begin(self, download: Download) -> None:
        """Write down what is downloaded next."""
        self._add(
            {
                "revision": download.revision,
                "there_before": sorted(download.there_before),
                "ref_before": download.ref_before,
                "cache": download.cache,
            }
        )

    def give_up(self, revision: str) -> None:
        """Write down that what is there of a revision is no series' any more."""
        self._add({"revision": revision, "there_before": None})

    def give_up_all(self) -> None:
        """The same of everything: it is to be kept."""
        for download in self.there():
            self.give_up(download.revision)

    def _add(self, note: dict[str, object]) -> None:
        folder = self._file.parent
        if not self._is_new and not folder.is_dir():  # it was moved: none is made in its place
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._file))
        there = self._file.read_text(encoding="utf-8") if self._file.is_file() else ""
        begin = "" if there.endswith("\n") or not there else "\n"  # of a line that was cut: else both are lost
        # Not in place: a snapshot of the folder by hard links has the file, too.
        write_atomically(self._file, f"{there}{begin}{json.dumps(note)}\n")


def tell_left_behind(name: str, downloads: Downloads) -> None:
    """Say which downloads of earlier calls, stopped in the middle, a cache has still, and how to remove them.

    Args:
        name: of the model.
        downloads: of the series, those of earlier calls alone.
    """
    by_cache: dict[str, set[str]] = {}
    for download in downloads.there():
        commit = cached_commit(name, download.revision, cache=download.cache)
        if commit in snapshots(name, cache=download.cache) - download.there_before:
            by_cache.setdefault(download.cache, set()).add(str(commit))
    for cache, commits in by_cache.items():
        where = f" --cache-dir {shlex.quote(readable(cache))}" if cache else ""
        _log.warning(
            "what a stopped call of this series downloaded of %s stays in the hub's cache, as others may use it by "
            "now; unless they do, remove it with `hf cache rm %s%s`",
            name,
            " ".join(sorted(commits)),
            where,
        )
