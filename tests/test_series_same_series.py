"""plateau_interp.series.same_series: whether what is asked of a series is what its folder was begun with."""

import platform
from typing import Any

import pytest

from plateau_interp.series.same_series import differing_settings, differing_told, functions_unknown

HERE = {"versions": {"python": platform.python_version()}}
THERE: dict[str, Any] = {
    "source": "runs/a",
    "source_path": "/runs/a",
    "recipe_sha256": "r",
    "n_new": 8,
    "measures": ["norm"],
    "measures_sha256": {"norm": "n"},
    **HERE,
}


@pytest.mark.parametrize(
    ("changes", "differing"),
    [
        ({}, []),
        ({"n_new": 3}, ["n_new"]),
        ({"dtype": "float16"}, ["dtype"]),
        ({"versions": {"python": platform.python_version(), "torch": "another"}}, []),
        ({"trained_under": [{"name": "ablate-heads"}]}, []),  # the recipe's digest is of it, too
        ({"source": "../runs/a"}, []),  # the same run in other words
        ({"source": "runs/b", "source_path": "/runs/b"}, ["source"]),
        ({"recipe_sha256": "another"}, ["recipe_sha256"]),
        ({"measures_sha256": {"norm": "another"}}, ["measures_sha256"]),
        ({"measures": ["width"], "measures_sha256": {"width": "w"}}, ["measures"]),
    ],
)
def test_settings_differ_by_name(changes: dict[str, Any], differing: list[str]) -> None:
    assert differing_settings(THERE, {**THERE, **changes}) == differing


@pytest.mark.parametrize("unsaid", ["recipe_sha256", "measures_sha256"])
def test_what_earlier_versions_did_not_write_is_not_held_against_a_series(unsaid: str) -> None:
    there = {name: value for name, value in THERE.items() if name != unsaid}
    assert differing_settings(there, THERE) == []
    assert differing_settings(there, {**THERE, "n_new": 3}) == ["n_new"]


def test_functions_are_known_within_one_minor_version_of_python() -> None:
    assert functions_unknown(THERE) == ""
    assert functions_unknown({**THERE, "versions": {"python": "2.7.18"}}) == "another Python"
    assert functions_unknown({**THERE, "versions": None}) == "another Python"
    assert functions_unknown(HERE) == "an earlier version"
    other = {**THERE, "measures_sha256": {"norm": "another"}}
    assert differing_settings({**THERE, "versions": {"python": "2.7.18"}}, other) == []


def test_what_differs_is_told_in_words() -> None:
    def told(**changes: Any) -> str:
        asked = {**THERE, **changes}
        return differing_told(differing_settings(THERE, asked), THERE, asked)

    assert told(n_new=3) == "other n_new"
    assert told(source="runs/b", source_path="/runs/b") == "other source ('runs/a'; now 'runs/b')"
    assert told(measures_sha256={"norm": "x"}) == "another function as the measure norm"
    assert told(n_new=3, measures_sha256={"norm": "x"}) == "other n_new and another function as the measure norm"
