"""What is measured of a run once it has been trained: columns beside those that it measured itself, `Added`."""

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from plateau_interp.runs.run import Run
from plateau_interp.views.panels import Panels

__all__ = ["Added"]


@dataclass(frozen=True, eq=False)
class Added:
    """Columns that are measured after training, from a run's checkpoints, and how they are drawn.

    Args:
        measure: rows with ``step`` and columns of its own, of a run; its name is that of the file they are kept in.
        panels: of these columns; one without is drawn under its own name.
    """

    measure: Callable[[Run], pd.DataFrame]
    panels: Panels = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the file that keeps the columns."""
        return self.measure.__name__

    @property
    def arguments(self) -> dict[str, Any]:
        """With what it measures, beside the run, as plain data: what `functools.partial` binds, and defaults.

        Example:
            >>> from functools import partial
            >>> def measure(run, *, steps, n=64): ...
            >>> Added(partial(measure, steps=(1, 2))).arguments
            {'steps': [1, 2], 'n': 64}
        """
        _, *others = inspect.signature(self.measure).parameters.values()  # the first is the run
        given = {one.name: one.default for one in others if one.default is not inspect.Parameter.empty}
        plain: dict[str, Any] = json.loads(json.dumps(given, default=repr))
        return plain
