"""Pieces of Markdown pages: tables, anchors, and pages cut at their headings or anchors."""

import re
from collections.abc import Sequence

__all__ = ["anchor", "anchored", "headed", "table"]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    r"""A table; pipes in cells are escaped.

    >>> print(table(["setting", "seeds"], [["a | b", "5"]]))
    | setting | seeds |
    | --- | --- |
    | a \| b | 5 |
    """
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def anchor(name: str) -> str:
    """A line that a link to ``#name`` leads to: what sites make of a heading's words differs from site to site."""
    return f'<a id="{name}"></a>'


def anchored(page: str) -> dict[str, str]:
    r"""What stands after each `anchor` of a page, up to the next.

    >>> anchored(f"Head.\n{anchor('a')}\nText.\n")
    {'a': 'Text.'}
    """
    return _named_parts("^" + anchor('([^"]+)') + "$", page)


def headed(text: str, *, level: int) -> dict[str, str]:
    r"""What stands under each heading of a level, up to the next; what stands before the first is left out.

    >>> headed("About.\n\n## fig2\n\nSeen.\n\n### Of a claim", level=2)
    {'fig2': 'Seen.\n\n### Of a claim'}
    """
    return _named_parts(rf"^{'#' * level} +(.+?) *$", text)


def _named_parts(pattern: str, text: str) -> dict[str, str]:
    parts = re.split(pattern, text, flags=re.MULTILINE)
    return {name: part.strip() for name, part in zip(parts[1::2], parts[2::2], strict=True)}
