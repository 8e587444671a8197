"""A hub's cache written by hand, as its client lays it out, for tests without a network."""

import os
import shutil
from pathlib import Path


def put_into_cache(cache: Path, name: str, revision: str, sha: str, files: Path) -> None:
    """By hand, as the hub's client lays it out: what a revision is, and links to what its files hold."""
    repository = cache / f"models--{name.replace('/', '--')}"
    ref, snapshot, blobs = repository / "refs" / revision, repository / "snapshots" / sha, repository / "blobs"
    for made in (ref.parent, snapshot, blobs):
        made.mkdir(parents=True, exist_ok=True)
    ref.write_text(sha)
    for file in files.iterdir():
        blob = blobs / f"{sha}-{file.name}"  # never one that another commit has: its tensors may be mapped
        shutil.copy(file, blob)
        if not (snapshot / file.name).exists():  # two names of one commit
            (snapshot / file.name).symlink_to(os.path.relpath(blob, snapshot))
