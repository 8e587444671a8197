"""Captures within wrappers, one or several."""

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from plateau_interp.hooks import BiasAttention, During
from plateau_interp.interventions.attached import Attached, Intervention, entering
from plateau_interp.interventions.capturing import Capture
from plateau_interp.runs.captures import captures, captures_in, check_unused, recorded
from plateau_interp.runs.errors import RunError
from plateau_interp.runs.recipe import Recipe
from plateau_interp.tasks import MovingWindowSum


@dataclass(frozen=True, eq=False)
class Together:
    """Several interventions as one."""

    interventions: tuple[Intervention, ...]

    @contextmanager
    def attach(self, model: Any) -> Any:
        with ExitStack() as stack:
            for one in self.interventions:
                stack.enter_context(entering(model, one)).dial(1.0)
            yield Attached(self)


ONE, OTHER = (Capture(("hook_embed",), out=out) for out in ("one", "other"))
SEVERAL = Together((During(ONE), BiasAttention(), Together((OTHER,))))


def test_captures_are_found_however_they_are_wrapped() -> None:
    assert captures(Recipe(MovingWindowSum(), interventions=(SEVERAL, ONE))) == [ONE, OTHER, ONE]


def test_a_used_folder_of_a_wrapped_capture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    wrapped = Together((BiasAttention(), Capture(("hook_embed",), out=str(tmp_path))))
    with pytest.raises(RunError, match="holds what another run captured"):
        check_unused(list(captures_in(wrapped)))


def test_none_records_again_and_all_else_stays() -> None:
    again = recorded(SEVERAL)
    assert list(captures_in(again)) == []
    assert [type(one).__name__ for one in again.interventions] == ["During", "BiasAttention", "Together"]
    assert again.interventions[1] is SEVERAL.interventions[1]
