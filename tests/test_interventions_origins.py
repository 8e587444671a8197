"""What an intervention takes from, by its digest."""

import pytest
import torch

from plateau_interp.interventions.origins import Origin

MINE, OTHER = Origin("0a" * 32), Origin("0b" * 32)


def test_the_same_origin_goes_on_with_what_else_was_remembered() -> None:
    assert MINE.state()["origin"].tolist() == [10] * 32
    assert list(MINE.known({**MINE.state(), "rank": torch.tensor(1)}, "x")) == ["rank"]


def test_another_origin_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"what 'x' takes from has changed .*: put its weights back, and name the step"
    ):
        MINE.known(OTHER.state(), "x")


def test_what_an_earlier_version_remembered_says_nothing_of_it() -> None:
    assert MINE.known({}, "x") == {}


def test_what_cannot_change_is_neither_remembered_nor_asked_for() -> None:
    assert Origin().state() == {}
    assert list(Origin().known(MINE.state(), "x")) == ["origin"], "not its own, so its owner refuses it"
