"""plateau_interp.interventions.timing: whether a time comes for what is wrapped, and what a wrapper holds."""

from typing import Any

import pytest

from plateau_interp.hooks import BiasAttention, During, FixAttention, When
from plateau_interp.interventions.capturing import Capture
from plateau_interp.interventions.timing import Scheduled, contents, never_acting, wrapped_by

BIAS, FIX = BiasAttention(factor=2.0), FixAttention()
CAPTURE = Capture(("blocks.0.hook_resid_post",), out="nowhere", every=4)


@pytest.mark.parametrize(
    ("make", "steps", "never"),
    [
        (lambda: BIAS, range(10), False),
        (lambda: During(BIAS, start=10), range(10), True),
        (lambda: During(BIAS, start=9), range(10), False),
        (lambda: During(BIAS, start=2, stop=4), range(4, 10), True),
        (lambda: During(BIAS, start=10), range(0), False),  # no step is to be made
        (lambda: During(During(BIAS, start=5), stop=5), range(10), True),
        (lambda: During(During(BIAS, start=5), stop=6), range(10), False),
        (lambda: CAPTURE, range(10), False),
        (lambda: CAPTURE, range(1, 4), True),
        (lambda: During(CAPTURE, start=1, every=4), range(100), True),
        (lambda: During(CAPTURE, start=1, every=3), range(100), False),  # both at 4
        (lambda: When(BIAS, since="loss < 0"), range(10), False),  # nobody knows beforehand
    ],
)
def test_a_time_that_never_comes_is_known_beforehand(make: Any, steps: range, never: bool) -> None:
    intervention = make()
    assert never_acting(intervention, steps) is (intervention if never else None)


def test_the_outermost_schedule_is_named() -> None:
    inner = During(BIAS, start=20)
    outer = During(inner, stop=50)
    assert never_acting(outer, range(10)) is outer


def test_what_a_wrapper_holds_is_found_by_its_fields() -> None:
    assert contents(During(BIAS, start=1)) == [BIAS]
    assert contents(BIAS) == contents(CAPTURE) == []
    assert list(wrapped_by(During(BIAS, start=1)).values()) == [BIAS]
    assert wrapped_by(3) == wrapped_by(FIX) == {}
    assert isinstance(CAPTURE, Scheduled)
    assert isinstance(During(BIAS, start=1), Scheduled)
    assert not isinstance(BIAS, Scheduled)
