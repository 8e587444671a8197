"""plateau_interp.views.whose: a page says whose it is, and no other takes its place."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from plateau_interp.views.whose import check_same_owners, owners_mark

ONE, OTHER, THIRD = ("1" * 64, "2" * 64, "3" * 64)


@pytest.mark.parametrize(
    ("there", "now", "is_refused"),
    [
        ([ONE], [ONE], False),
        ([ONE], [OTHER], True),
        ([ONE, OTHER], [OTHER, ONE], False),
        ([ONE, OTHER], [ONE], True),  # it would be told of no more
        ([ONE], [ONE, OTHER], False),
        ([ONE, OTHER, THIRD], [ONE, THIRD], True),
    ],
)
def test_a_page_of_others_stays(tmp_path: Path, there: list[str], now: list[str], is_refused: bool) -> None:
    (tmp_path / "index.html").write_text(f"<html><head>{owners_mark(there)}</head></html>")
    refused = pytest.raises(ValueError, match="holds a report of other runs: take another folder, or remove that one")
    with refused if is_refused else nullcontext():
        check_same_owners(tmp_path, now, written="a report of other runs")


def test_a_page_that_does_not_say_whose_it_is_is_replaced(tmp_path: Path) -> None:
    check_same_owners(tmp_path, [ONE], written="a report")
    (tmp_path / "index.html").write_bytes(b"<html>\xff</html>")
    check_same_owners(tmp_path, [ONE], written="a report")
