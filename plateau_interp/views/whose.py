"""Whose a page is: the runs, or series, that it tells of, written in its head, so that no other takes its place."""

import re
from collections.abc import Sequence
from pathlib import Path

from plateau_interp.folders import lies_in_ours

__all__ = ["check_same_owners", "owners_mark"]

RECIPES = re.compile(r"<!-- of the recipes ((?:[0-9a-f]{64} ?)+) -->")


def owners_mark(digests: Sequence[str]) -> str:
    """What stands in the head of a page of runs, or series, with recipes of these digests.

    Example:
        >>> len(owners_mark(["0" * 64]))
        88
    """
    return f"<!-- of the recipes {' '.join(digests)} -->"


def check_same_owners(folder: Path, digests: Sequence[str], *, written: str) -> None:
    """Refuse a folder whose page tells of a run, or a series, that the one to be written does not tell of.

    More of them may come to it. The report's folder of a run, a series or a sweep is its own: what is drawn there is
    drawn anew. A page of an earlier version does not say whose it is.

    Args:
        folder: where ``index.html`` may be.
        digests: of the recipes of what is to be told.
        written: what it is, of others: such as ``"a report of other runs"``.

    Raises:
        ValueError: naming the folder.
    """
    page = folder / "index.html"
    if not page.is_file() or lies_in_ours(folder):
        return
    found = RECIPES.search(page.read_text(encoding="utf-8", errors="replace"))
    if found is not None and not {*found[1].split()} <= {*digests}:
        raise ValueError(f"{folder} holds {written}: take another folder, or remove that one")
