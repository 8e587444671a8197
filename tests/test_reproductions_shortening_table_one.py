"""plateau_interp.reproductions.shortening.table_one: with the poster's elbows all that it claims of them holds."""

import pytest
from shortening_outcomes import as_on_the_poster

from plateau_interp.reproductions.shortening.table_one import FIG1, TABLE1

ELSEWHERE = ("99 %", "right for 50 steps", "Until then", "1.5", "sum-product", "difference-product", "In three tasks")
"""Claims about what the poster's table does not have."""


@pytest.fixture(scope="module")
def poster():
    return as_on_the_poster()


def test_the_poster_s_own_elbows_fulfil_what_is_claimed_of_table_1(poster):
    statements = TABLE1.statements(poster)
    judged = [one for one in statements if not any(word in one.claim.text for word in ELSEWHERE)]
    assert len(judged) >= 20
    wrong = [one.claim.text for one in judged if one.finding.verdict not in ("holds", "unknown")]
    assert wrong == []
    assert sum(one.finding.verdict == "holds" for one in judged) >= 18


def test_bounds_are_a_factor_of_the_poster_s_numbers():
    (claim,) = [one for one in TABLE1.claims if one.text.startswith("The product alone comes to its elbow")]
    assert (claim.check.low, claim.check.high) == (pytest.approx(93_568 / 1.5), 93_568 * 1.5)
    assert not any(one.late for one in (*TABLE1.claims, *FIG1.claims))


def test_figure_1_is_of_the_product_and_takes_no_run_of_its_own():
    assert [setting.name for setting in FIG1.settings] == ["product", "sum-product", "difference-product", "all-three"]
    assert set(FIG1.settings) <= set(TABLE1.settings)
